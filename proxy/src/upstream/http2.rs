//! The HTTP/2 call to the own app, gRPC among them. Many calls share a connection; there are several where the app takes fewer
//! calls on one than there are.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::{Ping, Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, HOST, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, spawn_local};
use wire::limits::INLINE_BODY_BYTES;
use wire::{Headers, RequestHead, ResponseHead};

use crate::call::{Body, BodyStream, Part, Reply, SWITCHING_PROTOCOLS};
use crate::config::Config;
use crate::edge::fields::{self, Kind};
use crate::edge::http2::{self, Io, Opening, Sending, websocket};
use crate::edge::{Side, Unsent};
use crate::error::{Error, ErrorCode, Executed, Origin, Phase};
use crate::upstream::app_pool::AppPool;
use crate::upstream::limits::HeaderLimits;

/// Room for what is added to an answer's head: a length.
const ADDED_BYTES: usize = 40;
/// How often idle connections are looked for.
const SWEEP: Duration = Duration::from_millis(500);

/// One worker's HTTP/2 connections to the app.
#[derive(Debug)]
pub struct Http2Pool {
    sockets: Rc<AppPool>,
    limits: HeaderLimits,
    /// Body bytes that one connection may hold.
    memory: usize,
    /// How long a connection may take to begin, and the setting that says so.
    patience: (&'static str, Duration),
    idle_timeout: Duration,
    connections: RefCell<Vec<Rc<Connection>>>,
    /// One connects at a time: the others may find room on what comes of it, or share its failure.
    connecting: Semaphore,
    /// Attempts to connect that have begun, and what became of the last one.
    attempts: Cell<u64>,
    failure: RefCell<Option<Error>>,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Bytes>,
    /// Calls that it carries.
    calls: Cell<usize>,
    /// When the last of them ended.
    idle_since: Cell<Instant>,
}

impl Http2Pool {
    /// Without connections yet; `sockets` makes them.
    pub fn new(sockets: Rc<AppPool>, config: &Config) -> Rc<Http2Pool> {
        let patience = sockets.target().patience(&config.timeouts);
        Rc::new(Http2Pool {
            sockets,
            limits: HeaderLimits::of(&config.limits),
            memory: config.limits.channel_memory,
            patience,
            idle_timeout: config.timeouts.app_idle,
            connections: RefCell::default(),
            connecting: Semaphore::new(1),
            attempts: Cell::new(0),
            failure: RefCell::default(),
        })
    }

    /// Calls the app. `headers` of `head` are complete: what the app is to see.
    ///
    /// What the app says it has not run is sent again, once, if it is here whole: it was closing the connection.
    pub async fn call(self: &Rc<Self>, head: RequestHead, body: Body) -> Result<Reply, Error> {
        let mut body = body;
        let mut again = true;
        loop {
            let lent = self.lend().await?;
            if let Body::Stream(_) = &body
                && let Some(protocol) = head.headers.get(b"upgrade").and_then(fields::upgrade)
                && lent.connection.sender.is_extended_connect_protocol_enabled()
            {
                return self.hand_over(lent, &head, protocol, body).await;
            }
            let request = encode(&head, &body, self.sockets.target().is_tls())?;
            let is_whole = matches!(body, Body::Whole(_));
            let is_all = matches!(&body, Body::Whole(bytes) if bytes.is_empty());
            let sent = lent.connection.sender.clone().send_request(request, is_all);
            let (executed, error) = match sent {
                Ok((answer, mut stream)) => {
                    let upload = match &mut body {
                        Body::Whole(bytes) => {
                            if !is_all {
                                // If the stream has ended already, its answer says why.
                                let _ = http2::send_whole(&mut stream, bytes.clone());
                            }
                            None
                        }
                        Body::Stream(_) => Upload::start(stream, std::mem::replace(&mut body, Body::EMPTY)),
                    };
                    match answer.await {
                        Ok(answer) => return self.deliver(answer, lent, upload).await,
                        Err(error) if is_refused(&error) => (Executed::No, error),
                        Err(error) => (Executed::Unknown, error),
                    }
                }
                // Not a byte of it was taken.
                Err(error) => (Executed::No, error),
            };
            if !again || executed != Executed::No || !is_whole {
                return Err(self.explain(&error, executed));
            }
            self.forget(&lent.connection);
            again = false;
        }
    }

    /// Asks the app to let a stream carry `protocol` (RFC 8441). If it agrees, the stream is the caller's from there on.
    async fn hand_over(&self, lent: Lent, head: &RequestHead, protocol: &[u8], body: Body) -> Result<Reply, Error> {
        let is_tls = self.sockets.target().is_tls();
        let mut request = encode(head, &Body::EMPTY, is_tls)?;
        let name = std::str::from_utf8(protocol).map_err(|_| invalid("the protocol is no text"))?;
        *request.method_mut() = Method::CONNECT;
        let key = request.headers_mut().remove(websocket::KEY);
        request.extensions_mut().insert(Protocol::from(name));
        let sent = lent.connection.sender.clone().send_request(request, false);
        let (answer, stream) = sent.map_err(|error| self.explain(&error, Executed::No))?;
        let (answer, received) = answer.await.map_err(|error| self.explain(&error, Executed::Unknown))?.into_parts();
        if !answer.status.is_success() {
            return self.deliver(Response::from_parts(answer, received), lent, None).await;
        }
        let mut headers = self.headers(&answer.headers)?;
        headers.push(b"upgrade", protocol);
        if let Some(key) = key {
            // What a caller of HTTP/1.1 looks for.
            headers.push(websocket::ACCEPT.as_bytes(), websocket::accept(key.as_bytes()).as_bytes());
        }
        // It ends when the caller has said all, though the app may have said all before.
        let _detached = upload(stream, body);
        let said = http2::receive(received, Side::App);
        let body = Body::stream(Answering { source: said, _lent: lent, _upload: None });
        Ok(Reply { head: ResponseHead { status: SWITCHING_PROTOCOLS, headers }, body })
    }

    /// A place on a connection that has room, or on a new one.
    async fn lend(self: &Rc<Self>) -> Result<Lent, Error> {
        if let Some(lent) = self.lend_now() {
            return Ok(lent);
        }
        let before = self.attempts.get();
        // The semaphore is never closed.
        let _turn = self.connecting.acquire().await;
        if let Some(lent) = self.lend_now() {
            return Ok(lent);
        }
        // An attempt that began after this call came has failed: it would have been this call's own. Otherwise calls that wait would
        // fail one after the other, each after a timeout of its own.
        if self.attempts.get() > before
            && let Some(failure) = &*self.failure.borrow()
        {
            return Err(failure.clone());
        }
        self.attempts.set(self.attempts.get() + 1);
        let connected = self.connect().await;
        *self.failure.borrow_mut() = connected.as_ref().err().cloned();
        connected.map(Lent::new)
    }

    fn lend_now(&self) -> Option<Lent> {
        let connections = self.connections.borrow();
        let free = connections.iter().find(|known| known.calls.get() < known.sender.current_max_send_streams());
        free.map(|connection| Lent::new(Rc::clone(connection)))
    }

    async fn connect(self: &Rc<Self>) -> Result<Rc<Connection>, Error> {
        let socket = self.sockets.fresh().await.map_err(|error| error.explain(&self.sockets))?;
        let io = Io::new(Rc::clone(&socket.socket), Opening::Whole, |_| {});
        let handshake = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(http2::STREAM_WINDOW_BYTES)
            .initial_connection_window_size(http2::connection_window(self.memory))
            .max_frame_size(http2::FRAME_BYTES)
            .max_send_buffer_size(http2::SEND_BUFFER_BYTES)
            .max_header_list_size(http2::header_list_bytes(self.limits.bytes, self.limits.count))
            .handshake(io);
        let (sender, mut driver) = handshake.await.map_err(|error| self.explain(&error, Executed::No))?;
        // An answer comes behind the app's settings: from then on it is known how many calls it takes, and that it speaks HTTP/2 at all.
        let mut pings = driver.ping_pong();
        let answered = async {
            match &mut pings {
                Some(pings) => pings.ping(Ping::opaque()).await.map(|_| ()),
                // It is asked for once.
                None => Ok(()),
            }
        };
        let begun = tokio::time::timeout(self.patience.1, async {
            tokio::select! {
                biased;
                answered = answered => answered,
                ended = &mut driver => ended.and(Err(Reason::CONNECT_ERROR.into())),
            }
        });
        begun.await.unwrap_or_else(|_| Err(Reason::SETTINGS_TIMEOUT.into())).map_err(|error| self.not_begun(&error))?;
        let connection = Rc::new(Connection { sender, calls: Cell::new(0), idle_since: Cell::new(Instant::now()) });
        self.connections.borrow_mut().push(Rc::clone(&connection));
        let (pool, known) = (Rc::clone(self), Rc::downgrade(&connection));
        spawn_local(async move {
            let ended = driver.await;
            // Its socket, and its place among the app's connections.
            drop(socket);
            if let Some(known) = known.upgrade() {
                pool.forget(&known);
            }
            tracing::debug!(app = %pool.sockets.target(), ?ended, "an HTTP/2 connection to the app ended");
        });
        Ok(connection)
    }

    /// Takes no more calls on a connection; those that it carries go on.
    fn forget(&self, connection: &Rc<Connection>) {
        self.connections.borrow_mut().retain(|known| !Rc::ptr_eq(known, connection));
    }

    /// Closes what has been idle for too long, now and then.
    pub async fn sweep(self: Rc<Self>) {
        let mut tick = tokio::time::interval(SWEEP.min(self.idle_timeout));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let now = Instant::now();
            self.connections.borrow_mut().retain(|known| {
                known.calls.get() > 0 || now.saturating_duration_since(known.idle_since.get()) < self.idle_timeout
            });
        }
    }

    /// Makes a reply of the answer.
    async fn deliver(&self, answer: Response<RecvStream>, lent: Lent, upload: Option<Upload>) -> Result<Reply, Error> {
        let (head, stream) = answer.into_parts();
        let length = head.headers.get(CONTENT_LENGTH).and_then(|value| fields::number(value.as_bytes()));
        let has_body = !stream.is_end_stream();
        let mut headers = self.headers(&head.headers)?;
        let body = http2::gather(stream, Side::App).await?;
        let announced = match &body {
            // The length that an answer to GET would have had, or that 304 speaks of.
            Body::Whole(_) if !has_body => length,
            // It travels behind the head.
            Body::Whole(bytes) => Some(bytes.len() as u64).filter(|length| *length > INLINE_BODY_BYTES as u64),
            Body::Stream(_) => length,
        };
        if let Some(length) = announced {
            headers.push_number(b"content-length", length);
        }
        let body = match body {
            Body::Stream(source) => Body::stream(Answering { source, _lent: lent, _upload: upload }),
            whole => whole,
        };
        Ok(Reply { head: ResponseHead { status: head.status.as_u16(), headers }, body })
    }

    /// The fields of an answer that go on, unless there are more than may be.
    fn headers(&self, map: &HeaderMap) -> Result<Headers, Error> {
        let cost = map.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>();
        self.limits.check(cost, map.len())?;
        let goes = |name: &[u8]| fields::kind(name) == Kind::EndToEnd && name != CONTENT_LENGTH.as_str().as_bytes();
        Ok(http2::from_map(map, cost + ADDED_BYTES, goes))
    }

    fn not_begun(&self, error: &h2::Error) -> Error {
        let detail = match error.reason() {
            Some(Reason::SETTINGS_TIMEOUT) => {
                let (setting, limit) = self.patience;
                format!("{}: no HTTP/2 within {limit:?} ({setting})", self.sockets.target())
            }
            _ => format!("{}: it accepts and does not speak HTTP/2: {error}", self.sockets.target()),
        };
        Error::new(ErrorCode::AppNotConnected, Origin::Remote, Phase::Connect, Executed::No, detail)
    }

    fn explain(&self, error: &h2::Error, executed: Executed) -> Error {
        let detail = format!("{}: {error}", self.sockets.target());
        // We ended it: what came is not HTTP/2.
        let code = if error.is_library() { ErrorCode::AppBadResponse } else { ErrorCode::AppClosed };
        Error::new(code, Origin::App, Phase::Wait, executed, detail)
    }
}

/// The app guarantees that it has not run the call (RFC 9113, 8.7): it refused the stream, or went away before it.
fn is_refused(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM))
}

/// The request's head.
fn encode(head: &RequestHead, body: &Body, is_tls: bool) -> Result<Request<()>, Error> {
    let method = Method::from_bytes(&head.method).map_err(|_| invalid("the method is invalid"))?;
    if method == Method::CONNECT {
        // To an app it would mean that raw bytes follow.
        return Err(invalid("CONNECT is no call to an app"));
    }
    // Of the forms a target may have, an app is sent the path, or `*`.
    if head.path.first() != Some(&b'/') && &head.path[..] != b"*" {
        return Err(invalid("the path is invalid"));
    }
    let host = head.headers.get(HOST.as_str().as_bytes()).ok_or_else(|| invalid("it has no host"))?;
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(if is_tls { Scheme::HTTPS } else { Scheme::HTTP });
    uri.authority = Some(Authority::try_from(host).map_err(|_| invalid("the host is invalid"))?);
    let path = PathAndQuery::from_maybe_shared(head.path.clone()).map_err(|_| invalid("the path is invalid"))?;
    // A fragment is no part of a target, and was cut off.
    if path.as_str().len() != head.path.len() {
        return Err(invalid("the path is invalid"));
    }
    uri.path_and_query = Some(path);
    let own = |name: &[u8]| name != HOST.as_str().as_bytes() && name != CONTENT_LENGTH.as_str().as_bytes();
    let mut headers = http2::to_map(head.headers.clone(), own).map_err(invalid)?;
    // What a proxy that drops trailers would drop as well: gRPC servers look for it.
    headers.insert(TE, HeaderValue::from_static("trailers"));
    let is_grpc = head.headers.get(b"content-type").is_some_and(fields::is_grpc);
    let length = match body {
        // gRPC's messages say themselves how long they are.
        Body::Whole(bytes) => (!bytes.is_empty() && !is_grpc).then_some(bytes.len() as u64),
        Body::Stream(_) => fields::content_length(&head.headers),
    };
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| invalid("the target is invalid"))?;
    *request.headers_mut() = headers;
    Ok(request)
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorCode::RemoteProtocol, Origin::Remote, Phase::Request, Executed::No, what)
}

/// A place on a connection, for a call as long as it lasts.
#[derive(Debug)]
struct Lent {
    connection: Rc<Connection>,
}

impl Lent {
    fn new(connection: Rc<Connection>) -> Lent {
        connection.calls.set(connection.calls.get() + 1);
        Lent { connection }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let calls = self.connection.calls.get() - 1;
        self.connection.calls.set(calls);
        if calls == 0 {
            self.connection.idle_since.set(Instant::now());
        }
    }
}

/// A streamed request's body on its way to the app, on a task of its own. Ends with the call.
struct Upload(AbortHandle);

impl Upload {
    fn start(stream: SendStream<Bytes>, body: Body) -> Option<Upload> {
        Some(Upload(upload(stream, body)?))
    }
}

/// Sends a streamed body, to its end unless it is aborted.
fn upload(stream: SendStream<Bytes>, body: Body) -> Option<AbortHandle> {
    let Body::Stream(source) = body else { return None };
    let mut sending = Sending::new(stream, source, ());
    let task = spawn_local(async move {
        if let Err(Unsent::Source(_) | Unsent::Body(_)) = poll_fn(|cx| sending.poll(cx)).await {
            // The caller broke it off: so it is for the app.
            sending.stream().send_reset(Reason::CANCEL);
        }
    });
    Some(task.abort_handle())
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The body of an answer. Dropped before its end, it resets the stream: that is how the app learns that the caller is gone.
struct Answering {
    source: Pin<Box<dyn BodyStream>>,
    _lent: Lent,
    _upload: Option<Upload>,
}

impl BodyStream for Answering {
    fn poll_part(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Error>>> {
        self.source.as_mut().poll_part(cx)
    }
}
