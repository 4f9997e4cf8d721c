//! The door for raw TCP: each connection is a call, to the service that its port is bound to.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use http1::HeadScan;
use tokio::task::spawn_local;
use wire::{Kind, RequestHead};

use crate::call::{Call, Reply};
use crate::config::Door;
use crate::dispatch::Dispatcher;
use crate::edge::{self, Scratch, Side, Socket, Stream};
use crate::ingress::listener::Permit;
use crate::ingress::tunnel::{self, Broken};
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
    pub fn serve(self: Rc<Self>, stream: Stream, door: Arc<Door>, permit: Permit) {
        spawn_local(async move {
            let _kept = (Held::new(&self.metrics.callers_connected), permit, Counted::new(&self.calls));
            let socket = Rc::new(Socket::new(stream, HeadScan::default(), &self.scratch, &self.metrics.app_bytes));
            let mut record = Record::new(Direction::Outbound, &self.unrouted);
            let carried = self.carry(&socket, &door, &mut record).await;
            tunnel::ended(carried, &socket, &mut record, &self.metrics);
        });
    }

    async fn carry(&self, socket: &Rc<Socket>, door: &Door, record: &mut Record) -> Result<(), Broken> {
        let head = RequestHead {
            kind: Kind::Tcp,
            service: Bytes::copy_from_slice(door.service.as_str().as_bytes()),
            ..RequestHead::default()
        };
        let body = edge::tunnel::receive(socket, Side::Caller);
        let version = door.version.clone();
        let mut call = Call { head, version, deadline: None, safe: false, tunnel: true, grpc: false, body };
        record.describe(&call);
        let Reply { head, body } = self.dispatcher.call(&mut call, record).await.map_err(Some)?;
        drop(call);
        record.answered(head.status);
        tunnel::carry(socket, Vec::new(), body, record).await
    }
}
