//! Calls of declared hosts outside. No sidecar stands on their other side: this one makes the plain call itself.

use std::cell::Cell;
use std::future::pending;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::sync::oneshot;
use wire::Kind;

use super::Dispatcher;
use crate::call::{Body, BodyStream, Call, Part, Reply, traceparent};
use crate::config::{self, AppProtocol, Config};
use crate::edge::{Scratch, fields};
use crate::error::{Error, ErrorCode, Executed, Origin};
use crate::metrics::{CallMetrics, Direction, Metrics};
use crate::record::Record;
use crate::upstream::app::App;
use crate::upstream::app_pool::AppPool;
use crate::upstream::target::{EgressTarget, Target};
use crate::upstream::tcp;

/// One worker's ways to the declared hosts, in the order of the configuration.
#[derive(Debug)]
pub struct Egress(Vec<Host>);

#[derive(Debug)]
struct Host {
    /// Host and port, as a URI has them: without the port that goes without saying.
    authority: String,
    /// Requests.
    http: App,
    /// What callers speak themselves, after CONNECT.
    tunnel: AppPool,
    calls: CallMetrics,
}

impl Egress {
    /// Not connected yet. `tls` is of the same length as the entries.
    pub fn new(
        config: &Config,
        tls: &[Option<Arc<ClientConfig>>],
        scratch: &Scratch,
        metrics: &Arc<Metrics>,
    ) -> Egress {
        let host = |(entry, tls): (&config::Egress, &Option<Arc<ClientConfig>>)| {
            let target = |tls| Target::Egress(EgressTarget::new(entry, tls));
            let pool = |target| AppPool::new(target, config, scratch.clone(), Rc::default(), Arc::clone(metrics));
            let protocol = if entry.http2 { AppProtocol::H2c } else { AppProtocol::Http };
            Host {
                authority: entry.authority(),
                http: App::outside(pool(target(tls.clone())), protocol, config),
                tunnel: pool(target(None)),
                calls: metrics.calls(Direction::Outbound, &entry.host, ""),
            }
        };
        Egress(config.egress.iter().zip(tls).map(host).collect())
    }

    /// Looks after idle connections, for ever.
    pub fn sweep(&self) {
        self.0.iter().for_each(|host| host.http.sweep());
    }
}

impl Dispatcher {
    /// Carries a call to the declared host `index`. Like [`Dispatcher::call`], but for what a sidecar on the other side would do.
    pub async fn call_outside(&self, index: usize, call: &mut Call, record: &mut Record) -> Result<Reply, Error> {
        let Host { authority, http, tunnel, calls } = &self.egress.0[index];
        record.route(calls.clone());
        record.outside();
        prepare(call, authority);
        let is_tunnel = call.head.kind == Kind::Tcp;
        let (uploaded, limit) = self.response_limit(call, record);
        let body = std::mem::replace(&mut call.body, Body::EMPTY);
        let body = watched(body, uploaded, record);
        let head = std::mem::take(&mut call.head);
        let deadline = call.deadline;
        let exchange = async { if is_tunnel { tcp::connect(tunnel, body).await } else { http.call(head, body).await } };
        record.sent_out();
        let answer = tokio::select! {
            biased;
            answer = exchange => answer,
            () = limit => Err(self.too_late(deadline, record)),
        };
        let mut reply = answer.map_err(|error| outside(&error).at(Some(authority.clone()), 1, 0))?;
        super::within_deadline(&mut reply, deadline);
        Ok(reply)
    }

    /// Resolves when the answer is late: `timeouts.response` after the request, whose end the other half tells, or when the caller gives up.
    fn response_limit(
        &self,
        call: &Call,
        record: &Record,
    ) -> (Option<oneshot::Sender<()>>, impl Future<Output = ()> + use<>) {
        let response = if call.grpc { Duration::ZERO } else { self.config.timeouts.response };
        let (ended, end) = oneshot::channel();
        let deadline = call.deadline.map(|deadline| deadline.at);
        let started = record.started();
        let ended = Some(ended).filter(|_| matches!(call.body, Body::Stream(_)) && !call.tunnel);
        let is_whole = ended.is_none();
        let late = async move {
            let began = if is_whole {
                started
            } else {
                // The sender is dropped with the body, however that ended.
                end.await.unwrap_or_default();
                Instant::now()
            };
            match began.checked_add(response).filter(|_| response > Duration::ZERO) {
                Some(limit) => tokio::time::sleep_until(limit.into()).await,
                None => pending().await,
            }
        };
        let limit = async move {
            match deadline {
                None => late.await,
                Some(deadline) => tokio::time::timeout_at(deadline.into(), late).await.unwrap_or_default(),
            }
        };
        (ended, limit)
    }
}

/// The head as a host outside is to see it.
fn prepare(call: &mut Call, authority: &str) {
    let head = &mut call.head;
    let hops = head.headers.get(fields::HOPS).and_then(fields::number).unwrap_or(0);
    head.headers.retain(|field| field.name != fields::HOPS && field.name != b"host");
    head.headers.push(b"host", authority.as_bytes());
    // Its name may lead back here.
    head.headers.push_number(fields::HOPS, hops);
    if let Some(trace) = &head.trace {
        head.headers.push(b"traceparent", &traceparent(trace));
    }
}

/// Of what an app's failures are called, what those of a host outside are.
fn outside(error: &Error) -> Error {
    let code = match error.code() {
        ErrorCode::AppNotConnected => ErrorCode::EgressNotConnected,
        ErrorCode::AppClosed | ErrorCode::AppBadResponse => ErrorCode::EgressFailed,
        other => other,
    };
    let origin = if error.executed() == Executed::No { Origin::Local } else { error.origin() };
    Error::new(code, origin, error.phase(), error.executed(), error.detail()).retry_after(error.retry_after_hint())
}

/// A streamed request's body: counted, and its end told.
struct Watched {
    source: Pin<Box<dyn BodyStream>>,
    sent: Rc<Cell<u64>>,
    /// Dropped when it has ended.
    ended: Option<oneshot::Sender<()>>,
}

fn watched(body: Body, ended: Option<oneshot::Sender<()>>, record: &mut Record) -> Body {
    match body {
        Body::Whole(bytes) => Body::Whole(bytes),
        Body::Stream(source) => Body::stream(Watched { source, sent: record.upload(), ended }),
    }
}

impl BodyStream for Watched {
    fn poll_part(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Error>>> {
        let part = ready!(self.source.as_mut().poll_part(cx));
        match &part {
            Some(Ok(Part::Data(data))) => self.sent.set(self.sent.get() + data.len() as u64),
            _ => self.ended = None,
        }
        Poll::Ready(part)
    }
}
