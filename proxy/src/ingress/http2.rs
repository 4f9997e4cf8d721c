//! The HTTP/2 door for the own app's calls, gRPC among them: each stream is a call.

mod answer;
mod grpc;
mod request;

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Poll;
use std::time::Instant;

use ::http2::{Reason, Side as End};
use wire::Flood;
use wire::limits::QUICK_CANCEL;

use crate::call::{Body, Nothing, Reply};
use crate::config::Config;
use crate::dispatch;
use crate::edge::http2::{self, Incoming, Opening, Receiver, Sender, Sending, Session};
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
    session: Rc<Session>,
    /// What it may open and throw away (rapid reset, CVE-2023-44487): as much as a peer's sidecar.
    flood: RefCell<Flood>,
}

impl Connection {
    /// A call was given up by its caller.
    fn given_up(&self, record: &Record) {
        if record.elapsed() < QUICK_CANCEL && !self.flood.borrow_mut().spend(Instant::now()) {
            // What it still carries is cut.
            self.session.go_away(Reason::ENHANCE_YOUR_CALM);
        }
    }
}

/// One stream, to be carried.
#[derive(Debug)]
pub struct Stream {
    door: Rc<Http2Door>,
    connection: Rc<Connection>,
    incoming: Incoming,
    busy: Busy,
}

impl Job for Stream {
    async fn run(self) {
        let Stream { door, connection, incoming, busy: _busy } = self;
        door.exchange(&connection, incoming).await;
    }
}

impl Http2Door {
    /// Serves a connection.
    pub async fn serve(self: Rc<Self>, caller: Caller, opening: Opening) {
        let socket = Rc::clone(&caller.socket);
        let session = Session::new(Rc::clone(&socket), http2::config(End::Server, &self.config.limits));
        session.begin(opening);
        let flood = RefCell::new(Flood::new(0, Instant::now()));
        let connection = Rc::new(Connection { caller, session: Rc::clone(&session), flood });
        let watched = Rc::clone(&connection.caller.watched);
        let told = |between: bool| if between { watched.rests() } else { watched.bytes_arrived() };
        let take = |incoming| {
            self.crew.run(Stream {
                door: Rc::clone(&self),
                busy: watched.busy(),
                connection: Rc::clone(&connection),
                incoming,
            });
        };
        // How a caller's connection ends is the caller's business; calls that it cut are recorded as cancelled.
        let ended = session.drive(told, take).await;
        tracing::debug!(?ended, "a caller's HTTP/2 connection ended");
        // It may have been told why.
        socket.linger().await;
    }

    /// One request and its answer.
    async fn exchange(&self, connection: &Connection, incoming: Incoming) {
        let mut record = Record::new(Direction::Outbound, &self.unrouted);
        let counted = Counted::new(&self.calls);
        let Incoming { head, body, answer: mut sender } = incoming;
        let asked = request::read(&head, &self.config, connection.caller.bound.as_deref());
        let tunnel = asked.as_ref().ok().and_then(|asked| asked.tunnel);
        let form = Form { is_head: head.method() == "HEAD", grpc: request::is_grpc(&head), tunnel };
        let announced = head.length;
        // What travels has been copied.
        drop(head);
        let result = match asked {
            Ok(asked) => match self.call(&mut sender, asked, body, announced, &mut record).await {
                Some(result) => result,
                // The caller gave it up, and the call with it.
                None => return connection.given_up(&record),
            },
            Err(error) => Err(error),
        };
        let answer = match result.and_then(|reply| answer::render(reply, form, &self.date)) {
            Ok(answer) => {
                record.answered(answer.status);
                if form.grpc {
                    // Here where nothing else follows, else in the trailers.
                    record.grpc_status(answer.grpc_status());
                }
                answer
            }
            Err(error) => {
                self.metrics.generated_error(error.code().as_str()).inc();
                record.failed(&error, dispatch::outcome_of(&error));
                answer::render_error(&error, form)
            }
        };
        connection.flood.borrow_mut().earn();
        let mut kept = Kept::new(record, form.grpc, counted);
        let is_all = matches!(&answer.body, Body::Whole(bytes) if bytes.is_empty());
        // Either fails when the caller gave it up meanwhile: the record stays "cancelled".
        if sender.respond(answer.status, answer.fields(), is_all).is_err() {
            return;
        }
        let source = match answer.body {
            Body::Stream(source) => source,
            Body::Whole(bytes) => {
                kept.passed(bytes.len());
                if is_all || sender.send(bytes, true).is_ok() {
                    kept.ended(None);
                }
                return;
            }
        };
        let mut sending = Sending::new(sender, source, kept);
        if let Err(Unsent::Source(error)) = poll_fn(|cx| sending.poll(cx)).await {
            if form.grpc && sending.sender().send_trailers(grpc::trailers(&error)).is_ok() {
                self.metrics.generated_error(error.code().as_str()).inc();
            } else {
                if form.tunnel.is_some() && !tunnel::is_callers(&error) {
                    tunnel::tell(&error, &self.metrics);
                }
                sending.sender().reset(Reason::INTERNAL_ERROR);
            }
        }
    }

    /// Makes the call. `None`: the caller gave it up.
    async fn call(
        &self,
        sender: &mut Sender,
        asked: Asked,
        body: Option<Receiver>,
        announced: Option<u64>,
        record: &mut Record,
    ) -> Option<Result<Reply, Error>> {
        let body = match (body, asked.tunnel) {
            (None, Some(_)) => Body::stream(Nothing),
            (None, None) => Body::EMPTY,
            (Some(body), Some(_)) => Body::Stream(body.receive(Side::Caller)),
            (Some(body), None) => match body.gather(Side::Caller).await {
                Ok(body) => body,
                Err(error) => return Some(Err(error)),
            },
        };
        let own = asked.own;
        let mut call = asked.into_call(body, announced, record);
        let mut answer = pin!(self.own.carry(own, &mut call, record));
        poll_fn(|cx| {
            // First: a body that the caller broke off looks like the peer's failure otherwise.
            if sender.poll_broken(cx).is_ready() {
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
