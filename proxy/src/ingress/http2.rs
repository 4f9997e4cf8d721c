//! The HTTP/2 door for the own app's calls, gRPC among them: each stream is a call.

mod answer;
mod grpc;
mod request;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::Request;
use wire::Flood;
use wire::limits::QUICK_CANCEL;

use crate::call::{Body, Reply};
use crate::config::Config;
use crate::dispatch;
use crate::edge::http2::{self, Io, Opening, Sending};
use crate::edge::{Side, Unsent, Watch};
use crate::error::Error;
use crate::ingress::asked::{Asked, Tunnel};
use crate::ingress::caller::Caller;
use crate::ingress::crew::{Crew, Job};
use crate::ingress::date::Date;
use crate::ingress::kept::Kept;
use crate::ingress::own::OwnAnswers;
use crate::ingress::patience::Busy;
use crate::ingress::tunnel;
use crate::metrics::{CallMetrics, Direction, Metrics};
use crate::record::{Counted, Record};

/// What all connections to this door share, on one worker.
#[derive(Debug)]
pub struct Http2Door {
    /// What the sidecar answers itself, and the way of all calls.
    pub own: Rc<OwnAnswers>,
    /// Limits.
    pub config: Arc<Config>,
    /// Counted into.
    pub metrics: Arc<Metrics>,
    /// Calls that never came to name a known service.
    pub unrouted: CallMetrics,
    /// Calls under way from the own app, over all workers: the shutdown waits for them.
    pub calls: Arc<AtomicUsize>,
    /// The current second, as a Date field says it.
    pub date: Rc<Date>,
    /// The tasks that carry streams.
    pub crew: Rc<Crew<Stream>>,
}

/// One connection.
#[derive(Debug)]
struct Connection {
    caller: Caller,
    /// What it may open and throw away (rapid reset, CVE-2023-44487): as much as a peer's sidecar.
    flood: RefCell<Flood>,
    flooded: Cell<bool>,
}

impl Connection {
    /// A call was given up by its caller.
    fn given_up(&self, record: &Record) {
        if record.elapsed() < QUICK_CANCEL && !self.flood.borrow_mut().spend(Instant::now()) {
            self.flooded.set(true);
        }
    }
}

/// One stream, to be carried.
#[derive(Debug)]
pub struct Stream {
    door: Rc<Http2Door>,
    connection: Rc<Connection>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    busy: Busy,
}

impl Job for Stream {
    async fn run(self) {
        let Stream { door, connection, request, respond, busy: _busy } = self;
        door.exchange(&connection, request, respond).await;
    }
}

impl Http2Door {
    /// Serves a connection.
    pub async fn serve(self: Rc<Self>, caller: Caller, opening: Opening) {
        let limits = &self.config.limits;
        let watched = Rc::clone(&caller.watched);
        let told = move |between: bool| if between { watched.rests() } else { watched.bytes_arrived() };
        let io = Io::new(Rc::clone(&caller.socket), opening, told);
        let handshake = h2::server::Builder::new()
            .initial_window_size(http2::STREAM_WINDOW_BYTES)
            .initial_connection_window_size(http2::connection_window(limits.channel_memory))
            .max_frame_size(http2::FRAME_BYTES)
            .max_send_buffer_size(http2::SEND_BUFFER_BYTES)
            .max_concurrent_streams(u32::try_from(limits.calls).unwrap_or(u32::MAX))
            .max_header_list_size(http2::header_list_bytes(limits.header_bytes, limits.header_count))
            .enable_connect_protocol()
            .handshake(io);
        let mut streams = match handshake.await {
            Ok(streams) => streams,
            Err(error) => return tracing::debug!(%error, "a caller's HTTP/2 did not begin"),
        };
        let flood = RefCell::new(Flood::new(0, Instant::now()));
        let connection = Rc::new(Connection { caller, flood, flooded: Cell::new(false) });
        while let Some(accepted) = streams.accept().await {
            match accepted {
                // It ends with the next turn; what it still carries is cut.
                Ok(_) if connection.flooded.get() => streams.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM),
                Ok((request, respond)) => self.crew.run(Stream {
                    door: Rc::clone(&self),
                    busy: connection.caller.watched.busy(),
                    connection: Rc::clone(&connection),
                    request,
                    respond,
                }),
                // How a caller's connection ends is the caller's business; calls that it cut are recorded as cancelled.
                Err(error) => {
                    tracing::debug!(%error, "a caller's HTTP/2 connection ended");
                    break;
                }
            }
        }
        drop(streams);
        // It may have been told why.
        connection.caller.socket.linger().await;
    }

    /// One request and its answer.
    async fn exchange(&self, connection: &Connection, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let mut record = Record::new(Direction::Outbound, &self.unrouted);
        let counted = Counted::new(&self.calls);
        let (head, body) = request.into_parts();
        let asked = request::read(&head, &self.config, connection.caller.bound.as_deref());
        let tunnel = asked.as_ref().ok().and_then(|asked| asked.tunnel);
        let form = Form { is_head: head.method == http::Method::HEAD, grpc: request::is_grpc(&head), tunnel };
        let result = match asked {
            Ok(asked) => {
                match self.call(&mut respond, asked, body, request::announced(&head.headers), &mut record).await {
                    Some(result) => result,
                    // The caller gave it up, and the call with it.
                    None => return connection.given_up(&record),
                }
            }
            Err(error) => Err(error),
        };
        let (head, body) = match result.and_then(|reply| answer::render(reply, form, &self.date)) {
            Ok((head, body)) => {
                record.answered(head.status().as_u16());
                if form.grpc {
                    // Here where nothing else follows ("Trailers-Only"), else in the trailers.
                    record.grpc_status(head.headers().get("grpc-status").map(http::HeaderValue::as_bytes));
                }
                (head, body)
            }
            Err(error) => {
                self.metrics.generated_error(error.code().as_str()).inc();
                record.failed(&error, dispatch::outcome_of(&error));
                answer::render_error(&error, form)
            }
        };
        connection.flood.borrow_mut().earn();
        let mut kept = Kept::new(record, form.grpc, counted);
        let is_all = matches!(&body, Body::Whole(bytes) if bytes.is_empty());
        // Either fails when the caller gave it up meanwhile: the record stays "cancelled".
        let Ok(mut stream) = respond.send_response(head, is_all) else { return };
        let source = match body {
            Body::Stream(source) => source,
            Body::Whole(bytes) => {
                kept.passed(bytes.len());
                if is_all || http2::send_whole(&mut stream, bytes).is_ok() {
                    kept.ended(None);
                }
                return;
            }
        };
        let mut sending = Sending::new(stream, source, kept);
        if let Err(Unsent::Source(error)) = poll_fn(|cx| sending.poll(cx)).await {
            if form.grpc && sending.stream().send_trailers(grpc::trailers(&error)).is_ok() {
                self.metrics.generated_error(error.code().as_str()).inc();
            } else {
                if form.tunnel.is_some() && !tunnel::is_callers(&error) {
                    tunnel::tell(&error, &self.metrics);
                }
                sending.stream().send_reset(Reason::INTERNAL_ERROR);
            }
        }
    }

    /// Makes the call. `None`: the caller gave it up.
    async fn call(
        &self,
        respond: &mut SendResponse<Bytes>,
        asked: Asked,
        body: RecvStream,
        announced: Option<u64>,
        record: &mut Record,
    ) -> Option<Result<Reply, Error>> {
        let body = match asked.tunnel {
            Some(_) => Body::Stream(http2::receive(body, Side::Caller)),
            None => match http2::gather(body, Side::Caller).await {
                Ok(body) => body,
                Err(error) => return Some(Err(error)),
            },
        };
        let own = asked.own;
        let mut call = asked.into_call(body, announced, record);
        let mut answer = pin!(self.own.carry(own, &mut call, record));
        poll_fn(|cx| {
            // First: a body that the caller broke off looks like the peer's failure otherwise.
            if respond.poll_reset(cx).is_ready() {
                return Poll::Ready(None);
            }
            answer.as_mut().poll(cx).map(Some)
        })
        .await
    }
}

/// What a request says about its answer.
#[derive(Debug, Clone, Copy)]
struct Form {
    /// It has no body.
    is_head: bool,
    /// It tells of errors as gRPC does.
    grpc: bool,
    /// The stream is to carry bytes, once the app agrees.
    tunnel: Option<Tunnel>,
}
