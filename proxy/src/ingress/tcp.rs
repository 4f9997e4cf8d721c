//! The door for raw TCP: each connection is a call, to the service that its port is bound to.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use http1::HeadScan;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use wire::{Kind, RequestHead};

use crate::call::{Call, Reply};
use crate::config::Door;
use crate::dispatch::{self, Dispatcher};
use crate::edge::{self, Scratch, Sending, Side, Socket, Unsent, Watch};
use crate::error::{Error, ErrorCode};
use crate::ingress::listener::Permit;
use crate::metrics::{CallMetrics, Direction, Held, Metrics};
use crate::record::{Counted, Record};

/// What all connections to these doors share, on one worker.
#[derive(Debug)]
pub struct TcpDoor {
    /// Carries the calls.
    pub dispatcher: Rc<Dispatcher>,
    /// Counted into.
    pub metrics: Arc<Metrics>,
    /// Where sockets read.
    pub scratch: Scratch,
    /// Calls that never came to a known service.
    pub unrouted: CallMetrics,
    /// Calls under way from the own app, over all workers: the shutdown waits for them.
    pub calls: Arc<AtomicUsize>,
}

impl TcpDoor {
    /// Carries one connection, on a task of its own.
    pub fn serve(self: Rc<Self>, stream: TcpStream, door: Arc<Door>, permit: Permit) {
        spawn_local(async move {
            let _kept = (Held::new(&self.metrics.callers_connected), permit, Counted::new(&self.calls));
            let socket = Rc::new(Socket::new(stream, HeadScan::default(), &self.scratch, &self.metrics.app_bytes));
            let mut record = Record::new(Direction::Outbound, &self.unrouted);
            match self.carry(&socket, &door, &mut record).await {
                Ok(()) => record.complete(),
                Err(failure) => {
                    if let Some(error) = failure {
                        self.metrics.generated_error(error.code().as_str()).inc();
                        record.failed(&error, dispatch::outcome_of(&error));
                        // The caller is told no more than that it did not end in order: TCP has no words for it.
                        tracing::info!(service = %door.service, %error, "a TCP connection was reset");
                    }
                    socket.reset();
                }
            }
        });
    }

    /// Carries a connection to its end in both directions. An error of nothing: the caller broke it off.
    async fn carry(&self, socket: &Rc<Socket>, door: &Door, record: &mut Record) -> Result<(), Option<Error>> {
        let head = RequestHead {
            kind: Kind::Tcp,
            service: Bytes::copy_from_slice(door.service.as_str().as_bytes()),
            ..RequestHead::default()
        };
        let body = edge::tunnel_from(socket, Side::Caller);
        let mut call = Call { head, version: door.version.clone(), deadline: None, safe: false, tunnel: true, body };
        record.describe(&call);
        let Reply { body, .. } = self.dispatcher.call(&mut call, record).await.map_err(Some)?;
        drop(call);
        let mut sending = Sending::raw(body, Passing(record));
        match poll_fn(|cx| sending.poll(socket, cx)).await {
            Ok(()) => {}
            // What the end of the caller's own bytes did to the call.
            Err(Unsent::Source(error)) if error.code() == ErrorCode::RequestAborted => return Err(None),
            Err(Unsent::Source(error)) => return Err(Some(error)),
            Err(Unsent::Socket(_) | Unsent::Body(_)) => return Err(None),
        }
        // The service has said all; the caller may not have.
        if edge::end_tunnel(socket).await { Ok(()) } else { Err(None) }
    }
}

/// Counts what the service says.
struct Passing<'a>(&'a mut Record);

impl Watch for Passing<'_> {
    fn passed(&mut self, bytes: usize) {
        self.0.received(bytes);
    }
}
