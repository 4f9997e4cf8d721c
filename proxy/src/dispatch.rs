//! THE hot path: a call finds its service, an endpoint and a channel, is sent, retried if that is provably right, and
//! recorded.

mod egress;
mod failure;

pub use egress::Egress;
pub use failure::{outcome_of, remote_number};

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use registry::ServiceName;
use tokio::sync::oneshot;
use tokio::time::{Sleep, timeout_at};
use wire::Kind;
use wire::limits::INLINE_BODY_BYTES;

use crate::admit::RetryBudget;
use crate::alarm::Alarms;
use crate::balance::{self, EndpointState, InFlight};
use crate::call::{Body, BodyStream, Call, Deadline, Nothing, Part, Reply, SWITCHING_PROTOCOLS, next_part};
use crate::clock;
use crate::config::Config;
use crate::discovery::{Refused, Service, View};
use crate::error::{Error, ErrorCode, Executed, Origin, Phase};
use crate::metrics::Metrics;
use crate::record::Record;
use crate::upstream::channel::{RecvHalf, SendHalf};
use crate::upstream::pool::Pool;
use failure::{ended, is_endpoint_failure, no_endpoint, not_opened};

/// One worker's way from calls to replies.
#[derive(Debug)]
pub struct Dispatcher {
    view: Arc<View>,
    pool: Rc<Pool>,
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    budget: RetryBudget,
    alarms: Rc<Alarms>,
    egress: Egress,
}

/// A failed attempt, and where it was made.
struct Failure {
    error: Error,
    endpoint: Option<Arc<EndpointState>>,
}

impl Dispatcher {
    /// For one worker.
    pub fn new(
        view: Arc<View>,
        pool: Rc<Pool>,
        config: Arc<Config>,
        metrics: Arc<Metrics>,
        egress: Egress,
    ) -> Dispatcher {
        Dispatcher { view, pool, config, metrics, budget: RetryBudget::default(), alarms: Alarms::new(), egress }
    }

    /// Watches over the calls' limits, for ever.
    pub fn watch(&self) -> impl Future<Output = ()> + 'static {
        self.egress.sweep();
        Rc::clone(&self.alarms).look()
    }

    /// Carries a call. The record follows the reply's body to its end; dropping either cancels the call.
    pub async fn call(&self, call: &mut Call, record: &mut Record) -> Result<Reply, Error> {
        let service = match self.known(call) {
            Some(service) => service,
            None => self.look_up(call, record).await?,
        };
        let now = record.started();
        service.touch(clock::micros(now));
        record.route(service.calls.clone());
        self.budget.deposit();

        // With a streamed request it begins when the upload has ended: see `answer_to_upload`.
        let response_limit = match (self.config.timeouts.response, &call.body) {
            (Duration::ZERO, _) => None,
            _ if call.grpc => None,
            (_, Body::Stream(_)) if !call.tunnel => None,
            (limit, _) => now.checked_add(limit),
        };
        let deadline = call.deadline;
        let limit = match (deadline.map(|deadline| deadline.at), response_limit) {
            (Some(deadline), Some(limit)) => Some(deadline.min(limit)),
            (deadline, limit) => deadline.or(limit),
        };
        let mut alarm = limit.map(Alarms::at);
        let revision = service.revision;
        let result = {
            let mut attempts = pin!(self.attempts(call, service, record));
            poll_fn(|cx| {
                if let Poll::Ready(result) = attempts.as_mut().poll(cx) {
                    return Poll::Ready(Some(result));
                }
                match &mut alarm {
                    Some(alarm) => alarm.poll(&self.alarms, now, cx).map(|()| None),
                    None => Poll::Pending,
                }
            })
            .await
        };
        let result = result.unwrap_or_else(|| Err(self.too_late(deadline, record)));
        let mut reply = result.map_err(|error| error.at(record.endpoint(), record.attempts(), revision))?;
        within_deadline(&mut reply, deadline);
        Ok(reply)
    }

    /// The service called, if it is in the snapshot.
    fn known(&self, call: &Call) -> Option<Arc<Service>> {
        let name = std::str::from_utf8(&call.head.service).unwrap_or_default();
        self.view.load().service(name).map(Arc::clone)
    }

    /// The service called, which discovery is asked for: this is the first call to it.
    async fn look_up(&self, call: &Call, record: &Record) -> Result<Arc<Service>, Error> {
        match call.deadline {
            None => self.ask(call).await,
            Some(deadline) => match timeout_at(deadline.at.into(), self.ask(call)).await {
                Ok(service) => service,
                Err(_) => Err(self.too_late(call.deadline, record)),
            },
        }
    }

    async fn ask(&self, call: &Call) -> Result<Arc<Service>, Error> {
        let name = std::str::from_utf8(&call.head.service).unwrap_or_default();
        let name: ServiceName = name.parse().map_err(|error| {
            Error::local(ErrorCode::BadServiceName, Phase::Route, format!("'{}': {error}", name.escape_debug()))
        })?;
        self.view.ask(name.clone()).await.map_err(|refused| match refused {
            Refused::Busy => Error::local(ErrorCode::DiscoveryBusy, Phase::Route, name.to_string()),
            Refused::NoAnswer => Error::local(
                ErrorCode::DiscoveryTimeout,
                Phase::Route,
                format!("{name}: no answer within {:?} (timeouts.first_answer)", self.config.timeouts.first_answer),
            ),
        })?;
        match self.known(call) {
            Some(service) => Ok(service),
            None => Err(Error::local(ErrorCode::DiscoveryBusy, Phase::Route, name.to_string())),
        }
    }

    /// Tries endpoints until one answers or trying again would be wrong.
    async fn attempts(&self, call: &mut Call, mut service: Arc<Service>, record: &mut Record) -> Result<Reply, Error> {
        let mut tried: Option<Arc<EndpointState>> = None;
        loop {
            let failure = match self.attempt(call, &service, tried.as_deref(), record).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            let error = failure.error;
            record.attempt_failed(error.executed());
            if !self.may_retry(call, &error, record.attempts()) {
                // Of several attempts, any may have run the call.
                return Err(error.executed_at_worst(record.progress().1));
            }
            self.metrics.retry(error.code().as_str()).inc();
            call.head.attempt = call.head.attempt.saturating_add(1);
            tried = failure.endpoint;
            // The table may have learnt meanwhile what the failed attempt was told.
            if let Some(fresh) = self.view.load().service(service.name.as_str()) {
                service = Arc::clone(fresh);
            }
        }
    }

    /// Again only what provably did not run, or may run twice (RFC 9110, safe methods); never a body that is half gone.
    fn may_retry(&self, call: &Call, error: &Error, attempts: u32) -> bool {
        let harmless = match error.executed() {
            Executed::No => true,
            Executed::Unknown => call.safe,
            Executed::Yes => false,
        };
        let elsewhere = matches!(
            error.code(),
            ErrorCode::ConnectFailed
                | ErrorCode::WrongPeer
                | ErrorCode::ChannelLost
                | ErrorCode::AppNotConnected
                | ErrorCode::AppClosed
                | ErrorCode::RemoteOverloaded
                | ErrorCode::RemoteDraining
                | ErrorCode::RemoteNoSuchService
                | ErrorCode::RemoteProtocol
        );
        let whole = match &call.body {
            Body::Whole(_) => true,
            // A connection's bytes are taken only by the attempt that succeeds.
            Body::Stream(_) if call.tunnel => true,
            // A stream is still here only if no attempt took it.
            Body::Stream(_) => error.code() == ErrorCode::ConnectFailed || error.code() == ErrorCode::WrongPeer,
        };
        harmless && elsewhere && whole && attempts <= self.config.retry.max && self.budget.withdraw()
    }

    async fn attempt(
        &self,
        call: &mut Call,
        service: &Service,
        tried: Option<&EndpointState>,
        record: &mut Record,
    ) -> Result<Reply, Failure> {
        let endpoints = service.endpoints(call.version.as_ref());
        // A first attempt follows the call's beginning at once.
        let now = if record.attempts() == 0 { record.started() } else { Instant::now() };
        let picked = balance::pick(balance::default(), endpoints, tried, clock::micros(now), || fastrand::u64(..));
        let Some(endpoint) = picked else {
            return Err(Failure { error: no_endpoint(call, service), endpoint: None });
        };
        record.attempt(endpoint);
        let in_flight = InFlight::start(endpoint);
        let result = self.exchange(call, endpoint, in_flight, record).await;
        match result {
            Ok(reply) => Ok(reply),
            Err(error) => {
                if is_endpoint_failure(error.code()) {
                    endpoint.failed(clock::micros(Instant::now()), fastrand::u64(..));
                }
                Err(Failure { error, endpoint: Some(Arc::clone(endpoint)) })
            }
        }
    }

    /// One request and its answer over one channel.
    async fn exchange(
        &self,
        call: &mut Call,
        endpoint: &Arc<EndpointState>,
        in_flight: InFlight,
        record: &mut Record,
    ) -> Result<Reply, Error> {
        let channel = match self.pool.ready(endpoint) {
            Some(channel) => channel,
            None => self.pool.channel(endpoint).await?,
        };
        let now = Instant::now();
        let deadline = call.deadline;
        call.head.timeout = deadline.map(|deadline| deadline.at.saturating_duration_since(now));
        let (body, end) = match &call.body {
            Body::Whole(bytes) if bytes.len() <= INLINE_BODY_BYTES => (bytes.clone(), true),
            Body::Whole(_) | Body::Stream(_) => (Bytes::new(), false),
        };
        let (mut recv, send) = channel.open(now, &call.head, body, end).map_err(not_opened)?;
        record.sent_out();
        let (head, first, end) = match (send, &mut call.body) {
            (Some(mut send), Body::Stream(source)) if call.tunnel => {
                // Not a byte of the caller's is taken before the app's side is connected: until then another endpoint will do.
                let answer = recv.response().await.map_err(|end| ended(end, Phase::Wait, deadline))?;
                if call.head.kind == Kind::Tcp || answer.0.status == SWITCHING_PROTOCOLS {
                    start_upload(source, send, record);
                } else {
                    // Refused: nothing comes but the answer. The stream may have ended with it.
                    let _ = send.send(Bytes::new(), true).await;
                }
                answer
            }
            (Some(send), Body::Stream(source)) => {
                let uploaded = start_upload(source, send, record);
                let limit = if call.grpc { Duration::ZERO } else { self.config.timeouts.response };
                self.answer_to_upload(&mut recv, uploaded, limit, deadline).await?
            }
            (send, body) => {
                if let (Some(send), Body::Whole(bytes)) = (send, body) {
                    send_behind(send, bytes.clone()).await;
                }
                recv.response().await.map_err(|end| ended(end, Phase::Wait, deadline))?
            }
        };
        // Without the time that connecting took: it says nothing about the endpoint's next answer.
        let answered = Instant::now();
        let latency = answered.saturating_duration_since(now).as_micros() as u64;
        endpoint.answered(clock::micros(answered), latency);
        let body = if end {
            Body::Whole(first)
        } else {
            let first = Some(first).filter(|bytes| !bytes.is_empty());
            Body::stream(Download { recv, first, deadline, _in_flight: in_flight })
        };
        Ok(Reply { head, body })
    }

    /// The answer to a streamed request. An upload may take as long as it takes: its `limit`, zero if there is none, begins at its end.
    async fn answer_to_upload(
        &self,
        recv: &mut RecvHalf,
        uploaded: oneshot::Receiver<()>,
        limit: Duration,
        deadline: Option<Deadline>,
    ) -> Result<(wire::ResponseHead, Bytes, bool), Error> {
        let mut response = std::pin::pin!(recv.response());
        let late = async {
            // The sender is dropped when the upload has ended, however it ended.
            uploaded.await.unwrap_or_default();
            match limit {
                Duration::ZERO => std::future::pending().await,
                limit => tokio::time::sleep(limit).await,
            }
        };
        tokio::select! {
            biased;
            answer = &mut response => answer.map_err(|end| ended(end, Phase::Wait, deadline)),
            () = late => Err(self.response_late((Phase::Wait, Executed::Unknown))),
        }
    }

    fn response_late(&self, (phase, executed): (Phase, Executed)) -> Error {
        let limit = self.config.timeouts.response;
        let detail = format!("no first byte of the answer within {limit:?} (timeouts.response)");
        Error::new(ErrorCode::ResponseTimeout, Origin::Local, phase, executed, detail)
    }

    fn too_late(&self, deadline: Option<Deadline>, record: &Record) -> Error {
        match deadline {
            Some(Deadline { at, setting }) if at <= Instant::now() => {
                let (phase, executed) = record.progress();
                let detail = format!("{setting} passed after {:?}", record.elapsed());
                Error::new(ErrorCode::DeadlineExceeded, Origin::Local, phase, executed, detail)
            }
            _ => self.response_late(record.progress()),
        }
    }
}

/// Sends a body that is all here behind its head: at once where the peer's credit allows, else as that comes.
async fn send_behind(mut send: SendHalf, bytes: Bytes) {
    let mut sending = Box::pin(async move {
        // The stream may end meanwhile; whoever waits for its answer learns that.
        let _ = send.send(bytes, true).await;
    });
    if poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await.is_pending() {
        tokio::task::spawn_local(sending);
    }
}

/// Sends a streamed body on a task of its own. What it gives out resolves when that has ended, however it ended.
fn start_upload(source: &mut Pin<Box<dyn BodyStream>>, send: SendHalf, record: &mut Record) -> oneshot::Receiver<()> {
    let source = std::mem::replace(source, Box::pin(Nothing));
    let sent = record.upload();
    let (uploading, uploaded) = oneshot::channel();
    tokio::task::spawn_local(async move {
        upload(source, send, move |count| sent.set(sent.get() + count)).await;
        drop(uploading);
    });
    uploaded
}

/// Sends a streamed body. An error of its source cancels the stream: the half is dropped before its end.
pub async fn upload(mut source: Pin<Box<dyn BodyStream>>, mut send: SendHalf, sent: impl Fn(u64)) {
    loop {
        // While the source is silent, the stream may end.
        let part = tokio::select! {
            biased;
            part = next_part(&mut source) => part,
            _ = send.ended() => return,
        };
        let Some(part) = part else { break };
        let result = match part {
            Ok(Part::Data(data)) => {
                sent(data.len() as u64);
                send.send(data, false).await
            }
            Ok(Part::Trailers(trailers)) => {
                // Ended either way.
                let _ = send.trailers(&trailers);
                return;
            }
            Err(_) => return,
        };
        if result.is_err() {
            return;
        }
    }
    // The stream may have ended meanwhile; whoever waits for its answer learns that.
    let _ = send.send(Bytes::new(), true).await;
}

/// The answer's body as it comes from the channel.
pub struct Download {
    recv: RecvHalf,
    first: Option<Bytes>,
    deadline: Option<Deadline>,
    _in_flight: InFlight,
}

impl BodyStream for Download {
    fn poll_part(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Part::Data(first))));
        }
        let part = ready!(self.recv.poll_part(cx));
        let deadline = self.deadline;
        Poll::Ready(part.map(|part| part.map_err(|end| ended(end, Phase::Body, deadline))))
    }
}

/// A deadline of the caller's covers the whole exchange; the default one only the wait for its first byte.
fn within_deadline(reply: &mut Reply, deadline: Option<Deadline>) {
    if let (Some(deadline), Body::Stream(source)) = (deadline, &mut reply.body) {
        let source = std::mem::replace(source, Box::pin(Nothing));
        let sleep = Box::pin(tokio::time::sleep_until(deadline.at.into()));
        reply.body = Body::stream(Timed { source, sleep, setting: deadline.setting });
    }
}

/// A body under the caller's deadline.
struct Timed {
    source: Pin<Box<dyn BodyStream>>,
    sleep: Pin<Box<Sleep>>,
    setting: &'static str,
}

impl BodyStream for Timed {
    fn poll_part(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Error>>> {
        if let Poll::Ready(part) = self.source.as_mut().poll_part(cx) {
            return Poll::Ready(part);
        }
        ready!(self.sleep.as_mut().poll(cx));
        Poll::Ready(Some(Err(Error::new(
            ErrorCode::DeadlineExceeded,
            Origin::Local,
            Phase::Body,
            Executed::Yes,
            format!("{} passed while the answer's body was on its way", self.setting),
        ))))
    }
}
