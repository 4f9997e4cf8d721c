//! The HTTP/2 call to the own app, gRPC among them. Many calls share a connection; there are several where the app takes fewer
//! calls on one than there are.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ::http2::{Broken, Closed, NotOpened, Reason, Request, ResponseHead as Answer, Side as End};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, spawn_local};
use wire::limits::INLINE_BODY_BYTES;
use wire::{Header, Headers, RequestHead, ResponseHead, Text};

use crate::call::{Body, BodyStream, Part, Reply, SWITCHING_PROTOCOLS};
use crate::config::Config;
use crate::edge::fields::{self, Kind};
use crate::edge::http2::{self, Receiver, Sender, Sending, Session, websocket};
use crate::edge::{Side, Unsent};
use crate::error::{Error, ErrorCode, Executed, Origin, Phase};
use crate::upstream::app_pool::AppPool;
use crate::upstream::limits::HeaderLimits;

/// Room for what is added to a head: a length, and that trailers are welcome.
const ADDED_BYTES: usize = 48;
const ADDED_FIELDS: usize = 2;
/// What a field counts for beside its text: as in a line.
const LINE_BYTES: usize = 4;
const CONTENT_LENGTH: &[u8] = b"content-length";
const HOST: &[u8] = b"host";
/// How often idle connections are looked for.
const SWEEP: Duration = Duration::from_millis(500);

/// One worker's HTTP/2 connections to the app.
#[derive(Debug)]
pub struct Http2Pool {
    sockets: Rc<AppPool>,
    limits: HeaderLimits,
    /// What the app is let do on a connection.
    session: ::http2::Config,
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
    session: Rc<Session>,
    /// Calls that it carries.
    calls: Cell<usize>,
    /// When the last of them ended.
    idle_since: Cell<Instant>,
}

/// Nobody has a call on it, or will have one.
impl Drop for Connection {
    fn drop(&mut self) {
        self.session.go_away(Reason::NO_ERROR);
    }
}

impl Http2Pool {
    /// Without connections yet; `sockets` makes them.
    pub fn new(sockets: Rc<AppPool>, config: &Config) -> Rc<Http2Pool> {
        let patience = sockets.target().patience(&config.timeouts);
        Rc::new(Http2Pool {
            sockets,
            limits: HeaderLimits::of(&config.limits),
            session: http2::config(End::Client, &config.limits),
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
            let session = &lent.connection.session;
            if let Body::Stream(_) = &body
                && let Some(protocol) = head.headers.get(b"upgrade").and_then(fields::upgrade)
                && session.takes_extended_connect()
            {
                return self.hand_over(lent, &head, protocol, body).await;
            }
            let is_whole = matches!(body, Body::Whole(_));
            let is_all = matches!(&body, Body::Whole(bytes) if bytes.is_empty());
            let request = read(&head, self.sockets.target().is_tls())?;
            let added = added_fields(&head, &body);
            let (executed, error) = match session.open(request, own_fields(&head).chain(added.texts()), is_all) {
                Ok((mut sender, mut receiver)) => {
                    let upload = match &mut body {
                        Body::Whole(bytes) => {
                            if !is_all {
                                // If the stream has ended already, its answer says why.
                                let _ = sender.send(bytes.clone(), true);
                            }
                            None
                        }
                        Body::Stream(_) => {
                            let connection = Rc::clone(&lent.connection);
                            Upload::start(sender, std::mem::replace(&mut body, Body::EMPTY), connection)
                        }
                    };
                    match receiver.answer().await {
                        Ok((answer, is_end)) => return self.deliver(answer, is_end, receiver, lent, upload).await,
                        Err(why) if is_refused(why) => (Executed::No, why),
                        Err(why) => (Executed::Unknown, why),
                    }
                }
                // Not a byte of it was taken.
                Err(NotOpened::GoesAway | NotOpened::TooMany) => (Executed::No, Broken::NotBegun),
            };
            if !again || executed != Executed::No || !is_whole {
                return Err(self.explain(error, executed));
            }
            self.forget(&lent.connection);
            again = false;
        }
    }

    /// Asks the app to let a stream carry `protocol` (RFC 8441). If it agrees, the stream is the caller's from there on.
    async fn hand_over(&self, lent: Lent, head: &RequestHead, protocol: &[u8], body: Body) -> Result<Reply, Error> {
        let request = read(head, self.sockets.target().is_tls())?;
        let request = Request { method: b"CONNECT", protocol: Some(protocol), ..request };
        let key = head.headers.get(websocket::KEY.as_bytes()).map(websocket::accept);
        let fields = own_fields(head).filter(|field| field.name() != websocket::KEY.as_bytes());
        let added = added_fields(head, &Body::EMPTY);
        let opened = lent.connection.session.open(request, fields.chain(added.texts()), false);
        let (sender, mut receiver) = opened.map_err(|_| self.explain(Broken::NotBegun, Executed::No))?;
        let (answer, is_end) = receiver.answer().await.map_err(|why| self.explain(why, Executed::Unknown))?;
        if !(200..300).contains(&answer.status) {
            return self.deliver(answer, is_end, receiver, lent, None).await;
        }
        let mut headers = self.headers(&answer)?;
        headers.push(b"upgrade", protocol);
        if let Some(proof) = key {
            // What a caller of HTTP/1.1 looks for.
            headers.push(websocket::ACCEPT.as_bytes(), proof.as_bytes());
        }
        // It ends when the caller has said all, though the app may have said all before.
        let _detached = upload(sender, body, Rc::clone(&lent.connection));
        let said = receiver.receive(Side::App);
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
        let free = connections.iter().find(|known| known.session.has_room(known.calls.get()));
        free.map(|connection| Lent::new(Rc::clone(connection)))
    }

    async fn connect(self: &Rc<Self>) -> Result<Rc<Connection>, Error> {
        let socket = self.sockets.fresh().await.map_err(|error| error.explain(&self.sockets))?;
        let session = Session::new(Rc::clone(&socket.socket), self.session.clone());
        let mut driving = Box::pin({
            let session = Rc::clone(&session);
            async move { session.drive(|_| {}, |_| {}).await }
        });
        // From its settings on it is known how many calls it takes, and that it speaks HTTP/2 at all.
        let begun = poll_fn(|cx| match driving.as_mut().poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Err(ended)),
            Poll::Pending if session.is_open() => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        });
        match tokio::time::timeout(self.patience.1, begun).await {
            Ok(Ok(())) => {}
            Ok(Err(ended)) => return Err(self.not_begun(Some(ended))),
            Err(_) => return Err(self.not_begun(None)),
        }
        let connection = Rc::new(Connection { session, calls: Cell::new(0), idle_since: Cell::new(Instant::now()) });
        self.connections.borrow_mut().push(Rc::clone(&connection));
        let (pool, known) = (Rc::clone(self), Rc::downgrade(&connection));
        spawn_local(async move {
            let ended = driving.await;
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
    async fn deliver(
        &self,
        answer: Answer,
        is_end: bool,
        receiver: Receiver,
        lent: Lent,
        upload: Option<Upload>,
    ) -> Result<Reply, Error> {
        let mut headers = self.headers(&answer)?;
        let body = if is_end { Body::EMPTY } else { receiver.gather(Side::App).await? };
        let announced = match &body {
            // The length that an answer to GET would have had, or that 304 speaks of.
            Body::Whole(_) if is_end => answer.length,
            // It travels behind the head.
            Body::Whole(bytes) => Some(bytes.len() as u64).filter(|length| *length > INLINE_BODY_BYTES as u64),
            Body::Stream(_) => answer.length,
        };
        if let Some(length) = announced {
            headers.push_number(CONTENT_LENGTH, length);
        }
        let body = match body {
            Body::Stream(source) => Body::stream(Answering { source, _lent: lent, _upload: upload }),
            whole => whole,
        };
        Ok(Reply { head: ResponseHead { status: answer.status, headers }, body })
    }

    /// The fields of an answer that go on, unless there are more than may be.
    fn headers(&self, answer: &Answer) -> Result<Headers, Error> {
        let text = answer.fields().map(|field| field.name.len() + field.value.len()).sum::<usize>();
        let count = answer.fields().len();
        // A list that was cut off is longer than any that may be.
        let bytes = if answer.is_oversized { usize::MAX } else { text + LINE_BYTES * count };
        self.limits.check(bytes, count)?;
        let mut headers = Headers::with_capacity(text + ADDED_BYTES, count + ADDED_FIELDS);
        for Header { name, value, sensitive } in answer.fields() {
            match (fields::kind(name) == Kind::EndToEnd && name != CONTENT_LENGTH, sensitive) {
                (false, _) => {}
                // What no dictionary may hold stays so (RFC 7541, 7.1.3).
                (true, true) => headers.push_sensitive(name, value),
                (true, false) => headers.push(name, value),
            }
        }
        Ok(headers)
    }

    /// `ended`: how the connection did; `None`: it had no time left to begin.
    fn not_begun(&self, ended: Option<io::Result<Closed>>) -> Error {
        let target = self.sockets.target();
        let detail = match ended {
            None => {
                let (setting, limit) = self.patience;
                format!("{target}: no HTTP/2 within {limit:?} ({setting})")
            }
            Some(Ok(closed)) => format!("{target}: it accepts and does not speak HTTP/2: {closed}"),
            Some(Err(error)) => format!("{target}: it accepts and does not speak HTTP/2: {error}"),
        };
        Error::new(ErrorCode::AppNotConnected, Origin::Remote, Phase::Connect, Executed::No, detail)
    }

    fn explain(&self, why: Broken, executed: Executed) -> Error {
        let detail = format!("{}: {why}", self.sockets.target());
        let code = match why {
            // We ended it: what came is not HTTP/2.
            Broken::Malformed(_) | Broken::Closed(Closed::Violation(..)) => ErrorCode::AppBadResponse,
            _ => ErrorCode::AppClosed,
        };
        Error::new(code, Origin::App, Phase::Wait, executed, detail)
    }
}

/// The app guarantees that it has not run the call (RFC 9113, 8.7): it refused the stream, or went away before it.
fn is_refused(why: Broken) -> bool {
    matches!(why, Broken::NotBegun | Broken::Reset(Reason::REFUSED_STREAM))
}

/// What the request asks for.
fn read(head: &RequestHead, is_tls: bool) -> Result<Request<'_>, Error> {
    let method = &head.method[..];
    if method.is_empty() || !method.iter().all(|byte| http1::encode::is_token(*byte)) {
        return Err(invalid("the method is invalid"));
    }
    if method == b"CONNECT" {
        // To an app it would mean that raw bytes follow.
        return Err(invalid("CONNECT is no call to an app"));
    }
    // Of the forms a target may have, an app is sent the path, or `*`.
    let has_form = head.path.first() == Some(&b'/') || &head.path[..] == b"*";
    if !has_form || !http1::encode::is_target(&head.path) {
        return Err(invalid("the path is invalid"));
    }
    let host = head.headers.get(HOST).ok_or_else(|| invalid("it has no host"))?;
    if host.is_empty() || !host.iter().all(u8::is_ascii_graphic) {
        return Err(invalid("the host is invalid"));
    }
    http2::check(&head.headers).map_err(invalid)?;
    let scheme: &[u8] = if is_tls { b"https" } else { b"http" };
    Ok(Request { method, scheme, authority: host, path: &head.path, protocol: None })
}

/// The request's own fields that go on.
fn own_fields(head: &RequestHead) -> impl Iterator<Item = Text<'_>> {
    http2::going(&head.headers, |name| name != HOST && name != CONTENT_LENGTH)
}

/// What is added to them.
fn added_fields(head: &RequestHead, body: &Body) -> Headers {
    let mut fields = Headers::with_capacity(ADDED_BYTES, ADDED_FIELDS);
    // What a proxy that drops trailers would drop as well: gRPC servers look for it.
    fields.push(b"te", b"trailers");
    let is_grpc = head.headers.get(b"content-type").is_some_and(fields::is_grpc);
    let length = match body {
        // gRPC's messages say themselves how long they are.
        Body::Whole(bytes) => (!bytes.is_empty() && !is_grpc).then_some(bytes.len() as u64),
        Body::Stream(_) => fields::content_length(&head.headers),
    };
    if let Some(length) = length {
        fields.push_number(CONTENT_LENGTH, length);
    }
    fields
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
    fn start(sender: Sender, body: Body, connection: Rc<Connection>) -> Option<Upload> {
        Some(Upload(upload(sender, body, connection)?))
    }
}

/// Sends a streamed body, to its end unless it is aborted; the connection stays open for it.
fn upload(sender: Sender, body: Body, connection: Rc<Connection>) -> Option<AbortHandle> {
    let Body::Stream(source) = body else { return None };
    let mut sending = Sending::new(sender, source, ());
    let task = spawn_local(async move {
        if let Err(Unsent::Source(_) | Unsent::Body(_)) = poll_fn(|cx| sending.poll(cx)).await {
            // The caller broke it off: so it is for the app.
            sending.sender().reset(Reason::CANCEL);
        }
        drop(connection);
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
