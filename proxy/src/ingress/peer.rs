//! The door for other sidecars: the mux over mutual TLS. Each request that arrives becomes a plain call to the own app.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use slab::Slab;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use wire::limits::INLINE_BODY_BYTES;
use wire::{CloseReason, ErrorInfo, Hello, Nack, NackReason};

use crate::call::{Body, BodyStream, Part, Reply, next_part, traceparent};
use crate::config::Config;
use crate::discovery::View;
use crate::dispatch;
use crate::edge::fields;
use crate::error::{Error, ErrorCode, Executed, Origin, Phase};
use crate::ingress::crew::{Crew, Job};
use crate::ingress::listener::Permit;
use crate::metrics::{CallMetrics, Direction, Held, Metrics, Outcome};
use crate::record::{Counted, Record};
use crate::route;
use crate::tls::{self, SpiffeId, Tls};
use crate::upstream::app::App;
use crate::upstream::channel::{self, Channel, Incoming, RecvHalf, SendHalf, Shared};
use crate::upstream::transport::Transport;

/// A peer has this long for TLS; its HELLO has the protocol's own limit.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What all peer connections share, on one worker.
#[derive(Debug)]
pub struct PeerDoor {
    /// `None`: `--insecure`.
    pub tls: Option<Arc<Tls>>,
    /// What we say of ourselves, and the limits.
    pub wire: wire::Config,
    /// The own app; `None`: a client-only sidecar, which takes no calls.
    pub app: Option<App>,
    /// Names and limits.
    pub config: Arc<Config>,
    /// Counted into.
    pub metrics: Arc<Metrics>,
    /// The table, for its revision.
    pub view: Arc<View>,
    /// The worker's buffers.
    pub shared: Rc<Shared>,
    /// Calls under way from peers, over all workers: the shutdown waits for them.
    pub calls: Arc<AtomicUsize>,
    /// The tasks that answer.
    pub crew: Rc<Crew<PeerCall>>,
    /// The open channels, for the shutdown.
    pub channels: RefCell<Slab<Rc<Channel>>>,
    /// Whether new channels are told at once that no calls are taken.
    pub draining: std::cell::Cell<bool>,
}

/// One call from a peer, to be answered.
#[derive(Debug)]
pub struct PeerCall {
    door: Rc<PeerDoor>,
    caller: Rc<Caller>,
    incoming: Incoming,
    counted: Counted,
}

impl Job for PeerCall {
    async fn run(self) {
        let PeerCall { door, caller, incoming, counted: _counted } = self;
        door.answer(incoming, &caller).await;
    }
}

/// Who calls, proven or not.
#[derive(Debug)]
struct Caller {
    /// `None`: `--insecure`, nothing is proven.
    identity: Option<SpiffeId>,
    header: Option<String>,
    calls: CallMetrics,
    own_service: String,
}

impl PeerDoor {
    /// Serves one connection; its place in the listener is free when that ends.
    pub async fn serve(self: Rc<Self>, socket: TcpStream, address: SocketAddr, _permit: Permit) {
        let accepted = tokio::time::timeout(HANDSHAKE, self.accept(socket)).await;
        let (transport, identity) = match accepted {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(Refused { reason, detail })) => {
                self.metrics.handshake_failed(reason).inc();
                tracing::info!(peer = %address, reason, detail, "a peer was refused");
                return;
            }
            Err(_) => {
                self.metrics.handshake_failed("timeout").inc();
                return;
            }
        };
        let _open = Held::new(&self.metrics.channels_open.inbound);
        self.metrics.channels_opened.inbound.inc();
        let channel = Channel::new(wire::Side::Server, self.wire.clone(), self.view.revision());
        if self.draining.get() {
            channel.drain();
        }
        let key = self.channels.borrow_mut().insert(Rc::clone(&channel));
        let own_service = self.config.service.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default();
        let peer = identity.as_ref().map(|id| id.service.as_str().to_owned()).unwrap_or_default();
        let caller = Rc::new(Caller {
            header: identity.as_ref().map(SpiffeId::to_string),
            calls: self.metrics.calls(Direction::Inbound, &own_service, &peer),
            identity,
            own_service,
        });
        let (door, known) = (Rc::clone(&self), Rc::clone(&caller));
        let on_hello = move |hello: &Hello| check_hello(hello, &known);
        let on_request = move |incoming: Incoming| {
            let counted = Counted::new(&door.calls);
            let (door_too, caller) = (Rc::clone(&door), Rc::clone(&caller));
            door.crew.run(PeerCall { door: door_too, caller, incoming, counted });
        };
        let reason = channel::drive(channel, transport, Rc::clone(&self.shared), on_hello, on_request).await;
        self.channels.borrow_mut().remove(key);
        self.metrics.channel_closed(reason.as_str()).inc();
        tracing::debug!(peer = %address, %reason, "channel closed");
    }

    async fn accept(&self, socket: TcpStream) -> Result<(Transport, Option<SpiffeId>), Refused> {
        let Some(tls) = &self.tls else { return Ok((Transport::plain(socket), None)) };
        let stream = TlsAcceptor::from(tls.server())
            .accept(socket)
            .await
            .map_err(|error| tls.explain(&error))
            .map_err(|failure| Refused { reason: failure.kind.as_str(), detail: failure.text })?;
        let (socket, connection) = stream.into_inner();
        let identity = tls::proven_peer(&connection)
            .map_err(|error| Refused { reason: error.kind.as_str(), detail: error.to_string() })?;
        Ok((Transport::tls(socket, connection.into()), Some(identity)))
    }

    /// Tells all peers at once that no more calls are taken; idle channels too.
    pub fn drain(&self) {
        self.draining.set(true);
        for (_, channel) in &*self.channels.borrow() {
            channel.drain();
        }
    }

    /// Resolves when what the channels still had to send is sent. For a door that drains.
    pub async fn quiet(&self) {
        let channels: Vec<_> = self.channels.borrow().iter().map(|(_, channel)| Rc::clone(channel)).collect();
        for channel in channels {
            channel.quiet().await;
        }
    }

    /// Ends all channels.
    pub fn close(&self) {
        for (_, channel) in &*self.channels.borrow() {
            channel.goodbye(CloseReason::Finished);
        }
    }

    /// The own limits, which may be lower than those of the caller's sidecar.
    fn check_size(&self, head: &wire::RequestHead) -> Result<(), Error> {
        let limits = &self.config.limits;
        let (cost, count) = cost_and_count(head);
        if cost <= limits.header_bytes && count <= limits.header_count {
            return Ok(());
        }
        let (bytes, fields) = (limits.header_bytes, limits.header_count);
        let detail = format!(
            "{count} fields of {cost} bytes; at the callee limits.header_count is {fields}, limits.header_bytes {bytes}"
        );
        Err(Error::new(ErrorCode::HeaderTooLarge, Origin::Remote, Phase::Request, Executed::No, detail))
    }

    async fn answer(&self, incoming: Incoming, caller: &Caller) {
        let Incoming { head, body, end, recv, mut send } = incoming;
        let Some(app) = &self.app else { return send.nack(nack(NackReason::NoSuchService)) };
        if head.service != caller.own_service.as_bytes() {
            return send.nack(nack(NackReason::NoSuchService));
        }
        if head.timeout.is_some_and(|left| left.is_zero()) {
            return send.nack(nack(NackReason::DeadlinePassed));
        }
        let deadline = head.timeout.and_then(|left| Instant::now().checked_add(left));
        let mut record = Record::new(Direction::Inbound, &caller.calls);
        record.route(caller.calls.clone());
        let grpc = &head.method[..] == b"POST" && head.headers.get(b"content-type").is_some_and(fields::is_grpc);
        record.describe_head(&head, grpc, caller.header.as_deref());
        if let Err(error) = self.check_size(&head).and_then(|()| app.check(&head)) {
            self.metrics.generated_error(error.code().as_str()).inc();
            record.failed(&error, dispatch::outcome_of(&error));
            return refuse(send, &error);
        }
        let body = if end {
            record.sent(body.len());
            drop(recv);
            Body::Whole(body)
        } else {
            Body::stream(Upload { recv, first: Some(body).filter(|bytes| !bytes.is_empty()), sent: record.upload() })
        };
        let head = for_app(head, caller, deadline, grpc || app.transcodes());
        let result = tokio::select! {
            biased;
            // The caller is gone: dropping the call closes the connection to the app, which thereby learns it. First, for
            // its broken body looks like the app's failure otherwise.
            _ = send.ended() => return,
            result = app.call(head, body) => result,
            () = passed(deadline) => Err(late()),
        };
        match result {
            Ok(reply) => {
                let transfer = deliver(reply, &mut send, grpc, &mut record);
                let told = tokio::select! {
                    biased;
                    told = transfer => told.err(),
                    () = passed(deadline) => Some((late(), Outcome::Deadline)),
                };
                if let Some((error, outcome)) = told {
                    record.failed(&error, outcome);
                    refuse(send, &error);
                }
            }
            Err(error) => {
                self.metrics.generated_error(error.code().as_str()).inc();
                record.failed(&error, dispatch::outcome_of(&error));
                refuse(send, &error);
            }
        }
    }
}

/// What a head costs against `limits.header_bytes`, as the other doors count it, and its fields; without those that the
/// caller's sidecar itself sets, so that what passed there passes here under the same limits.
fn cost_and_count(head: &wire::RequestHead) -> (usize, usize) {
    let own = [&b"host"[..], b"x-request-id"];
    let own = own.iter().filter_map(|name| head.headers.get(name).map(|value| name.len() + value.len() + 4));
    let (own_bytes, own_fields) = own.fold((0, 0), |(bytes, fields), cost| (bytes + cost, fields + 1));
    let count = head.headers.len();
    let cost = head.headers.text_bytes() + 4 * count + head.path.len();
    (cost - own_bytes, count - own_fields)
}

/// The request as the app is to see it.
fn for_app(mut head: wire::RequestHead, caller: &Caller, deadline: Option<Instant>, grpc: bool) -> wire::RequestHead {
    // The caller's sidecar has dropped these already; a peer that does not is not believed.
    let is_own = |name: &[u8]| {
        (fields::is_internal(name) && name != fields::HOPS) || matches!(name, b"traceparent" | b"grpc-timeout")
    };
    head.headers.retain(|field| !is_own(field.name));
    if let Some(trace) = &head.trace {
        head.headers.push(b"traceparent", &traceparent(trace));
    }
    if let Some(peer) = &caller.header {
        head.headers.push(b"x-pillion-peer", peer.as_bytes());
    } else if !head.headers.contains(fields::HOPS) {
        // By one of the two a sidecar knows what has been handed to an app before.
        head.headers.push(fields::HOPS, b"0");
    }
    if let Some(deadline) = deadline {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        head.headers.push(b"x-pillion-timeout", format!("{left}ms").as_bytes());
        if grpc {
            head.headers.push(b"grpc-timeout", route::grpc_timeout(left).as_bytes());
        }
    }
    head
}

/// Sends the app's answer back. An error is for the peer's sidecar to be told; where the stream has ended meanwhile there is none, and the
/// record stays "cancelled".
async fn deliver(reply: Reply, send: &mut SendHalf, grpc: bool, record: &mut Record) -> Result<(), (Error, Outcome)> {
    record.answered(reply.head.status);
    if grpc {
        // Here where nothing else follows ("Trailers-Only"), else in the trailers.
        record.grpc_status(reply.head.headers.get(b"grpc-status"));
    }
    match reply.body {
        Body::Whole(bytes) => {
            let length = bytes.len();
            let (inline, behind) =
                if length <= INLINE_BODY_BYTES { (bytes, Bytes::new()) } else { (Bytes::new(), bytes) };
            if let Err(error) = send.respond(&reply.head, inline, behind.is_empty()) {
                return not_answered(error);
            }
            if behind.is_empty() || send.send(behind, true).await.is_ok() {
                record.received(length);
                record.complete();
            }
            Ok(())
        }
        Body::Stream(mut source) => {
            if let Err(error) = send.respond(&reply.head, Bytes::new(), false) {
                return not_answered(error);
            }
            loop {
                // While the app says nothing, the caller may leave.
                let part = tokio::select! {
                    biased;
                    part = next_part(&mut source) => part,
                    _ = send.ended() => return Ok(()),
                };
                let result = match part {
                    None => {
                        if send.send(Bytes::new(), true).await.is_ok() {
                            record.complete();
                        }
                        return Ok(());
                    }
                    Some(Ok(Part::Data(data))) => {
                        record.received(data.len());
                        send.send(data, false).await
                    }
                    Some(Ok(Part::Trailers(trailers))) => {
                        if grpc {
                            record.grpc_status(trailers.get(b"grpc-status"));
                        }
                        if send.trailers(&trailers).is_ok() {
                            record.complete();
                        }
                        return Ok(());
                    }
                    Some(Err(error)) => {
                        let outcome = dispatch::outcome_of(&error);
                        return Err((error, outcome));
                    }
                };
                if result.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

/// The answer's head could not be sent.
fn not_answered(error: wire::SendError) -> Result<(), (Error, Outcome)> {
    if error != wire::SendError::HeadTooLarge {
        return Ok(());
    }
    let error = Error::new(
        ErrorCode::AppHeaderTooLarge,
        Origin::App,
        Phase::Wait,
        Executed::Yes,
        "the answer's head exceeds what the caller's sidecar accepts (its limits.header_bytes)",
    );
    Err((error, Outcome::Local))
}

/// Tells the peer's sidecar of a failure here.
fn refuse(send: SendHalf, error: &Error) {
    let reason = match (error.executed(), error.code()) {
        (Executed::No, ErrorCode::AppNotConnected) => Some(NackReason::AppNotConnected),
        (Executed::No, ErrorCode::RemoteOverloaded) => Some(NackReason::Overloaded),
        _ => None,
    };
    match reason {
        Some(reason) => send.nack(Nack { reason, retry_after: error.retry_after_hint() }),
        None => send.error(ErrorInfo {
            code: dispatch::remote_number(error.code()),
            origin: match error.origin() {
                Origin::App => wire::Origin::App,
                Origin::Local | Origin::Remote => wire::Origin::RemoteSidecar,
            },
            executed: match error.executed() {
                Executed::No => wire::Executed::No,
                Executed::Yes => wire::Executed::Yes,
                Executed::Unknown => wire::Executed::Unknown,
            },
            text: error.detail().to_owned(),
        }),
    }
}

fn late() -> Error {
    Error::new(
        ErrorCode::DeadlineExceeded,
        Origin::Remote,
        Phase::Wait,
        Executed::Unknown,
        "the caller's deadline passed while the app was at work",
    )
}

fn nack(reason: NackReason) -> Nack {
    Nack { reason, retry_after: None }
}

async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// What a peer says of itself must agree with what it has proven.
fn check_hello(hello: &Hello, caller: &Caller) -> Result<(), CloseReason> {
    match &caller.identity {
        Some(identity) if identity.service.as_str() != hello.service => {
            Err(CloseReason::WrongPeer(format!("says it is '{}', has proven {identity}", hello.service.escape_debug())))
        }
        _ => Ok(()),
    }
}

/// The request's body as it comes from the channel.
struct Upload {
    recv: RecvHalf,
    first: Option<Bytes>,
    sent: Rc<std::cell::Cell<u64>>,
}

impl BodyStream for Upload {
    fn poll_part(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Error>>> {
        let part = match self.first.take() {
            Some(first) => Some(Ok(Part::Data(first))),
            None => ready!(self.recv.poll_part(cx)).map(|part| {
                part.map_err(|_| {
                    Error::new(
                        ErrorCode::RequestAborted,
                        Origin::Remote,
                        Phase::Body,
                        Executed::Unknown,
                        "the caller broke off its request",
                    )
                })
            }),
        };
        if let Some(Ok(Part::Data(data))) = &part {
            self.sent.set(self.sent.get() + data.len() as u64);
        }
        Poll::Ready(part)
    }
}

struct Refused {
    reason: &'static str,
    detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_context_in_text() {
        let trace = wire::TraceContext { trace_id: [0xab; 16], span_id: [0x01; 8], flags: 1 };
        assert_eq!(&traceparent(&trace), b"00-abababababababababababababababab-0101010101010101-01");
    }

    #[test]
    fn what_the_callers_sidecar_sets_itself_does_not_count() {
        let mut head = wire::RequestHead::default();
        for (name, value) in [("host", "payments"), ("x-request-id", "0123456789abcdef"), ("x-a", "12345")] {
            head.headers.push(name.as_bytes(), value.as_bytes());
        }
        head.path = Bytes::from_static(b"/pay");
        assert_eq!(cost_and_count(&head), ("x-a: 12345\r\n".len() + 4, 1));
    }

    #[test]
    fn a_peer_cannot_say_who_calls() {
        let caller = Caller {
            identity: None,
            header: Some("spiffe://example.org/service/orders".to_owned()),
            calls: Metrics::new().calls(Direction::Inbound, "payments", "orders"),
            own_service: "payments".to_owned(),
        };
        let mut head = wire::RequestHead::default();
        for name in ["x-pillion-peer", "x-pillion-timeout", "traceparent", "grpc-timeout", "x-kept"] {
            head.headers.push(name.as_bytes(), b"spiffe://example.org/service/admin");
        }
        let head = for_app(head, &caller, None, false);
        let seen: Vec<_> = head.headers.iter().map(|field| (field.name, field.value)).collect();
        assert_eq!(
            seen,
            [
                (&b"x-kept"[..], &b"spiffe://example.org/service/admin"[..]),
                (b"x-pillion-peer", b"spiffe://example.org/service/orders"),
            ]
        );
    }
}
