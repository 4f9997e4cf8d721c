//! The plain HTTP/1.1 call to the own app.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use http1::{Framing, Refusal};
use wire::limits::INLINE_BODY_BYTES;
use wire::{Headers, RequestHead, ResponseHead};

use crate::call::{Body, Reply, SWITCHING_PROTOCOLS};
use crate::config::head_bytes;
use crate::edge::fields::{self, Kind};
use crate::edge::{self, Arrived, Message, ReadError, Sending, Side, Unsent};
use crate::error::{Error, ErrorCode, Executed, Origin, Phase};
use crate::upstream::app_pool::{AppPool, Connection};
use crate::upstream::lent::{Lent, Upload};
use crate::upstream::limits::HeaderLimits;

/// Room for what is added to an answer's head: a length.
const ADDED_BYTES: usize = 40;
/// Interim answers (RFC 9110, 15.2) that an app may send before the real one.
const INTERIM_ANSWERS: usize = 16;

/// Calls the app. `headers` of `head` are complete: what the app is to see.
///
/// A request that can be sent twice is, once, if a reused connection breaks before any answer: the app closed it while
/// idle. One that cannot goes only on a connection that is surely open (see [`AppPool`]).
pub async fn call(pool: &Rc<AppPool>, limits: HeaderLimits, head: RequestHead, body: Body) -> Result<Reply, Error> {
    let whole = match &body {
        Body::Whole(bytes) => Some(bytes.clone()),
        Body::Stream(_) => {
            if let Some(protocol) = head.headers.get(b"upgrade").and_then(fields::upgrade) {
                return upgrade(pool, limits, &head, protocol, body).await;
            }
            None
        }
    };
    let may_repeat = whole.is_some() && fields::is_safe(&head.method);
    let mut body = Some(body);
    let mut again = true;
    loop {
        let body = match (body.take(), &whole) {
            (Some(body), _) => body,
            (None, Some(bytes)) => Body::Whole(bytes.clone()),
            // A stream is not tried again.
            (None, None) => return Err(invalid("the request's body is gone")),
        };
        let (text, message) = encode(&head, body)?;
        let connection = pool.checkout(!may_repeat).await.map_err(|error| error.explain(pool))?;
        let reused = connection.reused;
        let mut exchange = Exchange::new(connection, text, message);
        let failure = match exchange.answer(limits, &head.method[..] == b"HEAD").await {
            Ok(answer) => return exchange.deliver(pool, limits, answer).await,
            Err(failure) => failure,
        };
        let executed = if exchange.sending.as_ref().is_some_and(|sending| !sending.has_begun()) {
            // Not a byte of it was written.
            Executed::No
        } else {
            Executed::Unknown
        };
        match failure {
            // The app closed the connection while it was idle.
            Failure::Broken(_) if again && whole.is_some() && executed == Executed::No => again = false,
            Failure::Broken(_) if again && reused && may_repeat => again = false,
            failure => return Err(failure.explain(pool, executed)),
        }
    }
}

/// Asks the app to go on in another protocol. If it agrees, the connection is the caller's from there on.
async fn upgrade(
    pool: &Rc<AppPool>,
    limits: HeaderLimits,
    head: &RequestHead,
    protocol: &[u8],
    body: Body,
) -> Result<Reply, Error> {
    let (mut text, message) = encode(head, Body::EMPTY)?;
    fields::write_upgrade(&mut text, protocol).map_err(|refusal| invalid(&refusal.to_string()))?;
    let connection = pool.fresh().await.map_err(|error| error.explain(pool))?;
    let mut exchange = Exchange::new(connection, text, message);
    let answer = exchange.answer(limits, false).await.map_err(|failure| failure.explain(pool, Executed::Unknown))?;
    if answer.status != SWITCHING_PROTOCOLS {
        return exchange.deliver(pool, limits, answer).await;
    }
    let Answer { status, headers, .. } = answer.within(limits)?;
    let connection = exchange.connection;
    let body = edge::tunnel::join(Rc::clone(&connection.socket), body, connection);
    Ok(Reply { head: ResponseHead { status, headers }, body })
}

/// The request's head in text, and how its body goes out.
fn encode(head: &RequestHead, body: Body) -> Result<(Vec<u8>, Message), Error> {
    // Of the forms a target may have, an app is sent the path, or `*`.
    if head.path.first() != Some(&b'/') && &head.path[..] != b"*" {
        return Err(invalid("the path is invalid"));
    }
    if &head.method[..] == b"CONNECT" {
        // To an app it would mean that raw bytes follow.
        return Err(invalid("CONNECT is no call to an app"));
    }
    let mut text = Vec::with_capacity(head.headers.text_bytes() + 4 * head.headers.len() + head.path.len() + 128);
    let written = http1::encode::request_line(&mut text, &head.method, &head.path)
        .and_then(|()| fields::write(&mut text, &head.headers));
    written.map_err(|refusal| invalid(&refusal.to_string()))?;
    let framing = match &body {
        // A length of 0 is said where the caller said it or the method has a body by its meaning (RFC 9110, 8.6): some
        // apps ask for it.
        Body::Whole(bytes) if bytes.is_empty() => {
            let meant = matches!(&head.method[..], b"POST" | b"PUT" | b"PATCH");
            if meant || head.headers.contains(b"content-length") { Framing::Length(0) } else { Framing::None }
        }
        Body::Whole(bytes) => Framing::Length(bytes.len() as u64),
        Body::Stream(_) => fields::content_length(&head.headers).map_or(Framing::Chunked, Framing::Length),
    };
    Ok((text, (framing, body)))
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorCode::RemoteProtocol, Origin::Remote, Phase::Request, Executed::No, what)
}

/// One request on one connection.
struct Exchange {
    connection: Connection,
    /// The request, while it is being written.
    sending: Option<Sending<()>>,
    /// The app took all of the request, or will.
    takes_all: bool,
}

/// The head of the app's answer.
struct Answer {
    status: u16,
    headers: Headers,
    framing: Framing,
    keep_alive: bool,
    /// Bytes and fields, as the limits count them.
    cost: (usize, usize),
}

/// Why there is no answer.
enum Failure {
    /// The connection ended or broke.
    Broken(String),
    /// The app's answer is not HTTP/1.1.
    Bad(Refusal),
    /// The request's body is not what its head said.
    Body(Refusal),
    /// The request's body broke off.
    Source(Error),
}

impl Exchange {
    fn new(connection: Connection, text: Vec<u8>, message: Message) -> Exchange {
        Exchange { connection, sending: Some(Sending::new(text, message, ())), takes_all: true }
    }

    /// Writes the request and reads the head of the answer, whichever is possible: an app may answer before it has read all.
    async fn answer(&mut self, limits: HeaderLimits, to_head: bool) -> Result<Answer, Failure> {
        for _ in 0..=INTERIM_ANSWERS {
            let answer = poll_fn(|cx| self.poll_answer(cx, limits, to_head)).await?;
            match answer.status {
                SWITCHING_PROTOCOLS => return Ok(answer),
                100..=199 => {}
                _ => return Ok(answer),
            }
        }
        Err(Failure::Bad(Refusal::Syntax("too many interim answers")))
    }

    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        limits: HeaderLimits,
        to_head: bool,
    ) -> Poll<Result<Answer, Failure>> {
        let socket = &self.connection.socket;
        if let Some(sending) = &mut self.sending {
            match sending.poll(socket, cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.sending = None,
                Poll::Ready(Err(Unsent::Source(error))) => return Poll::Ready(Err(Failure::Source(error))),
                Poll::Ready(Err(Unsent::Body(refusal))) => return Poll::Ready(Err(Failure::Body(refusal))),
                Poll::Ready(Err(Unsent::Socket(error))) if !sending.has_begun() => {
                    return Poll::Ready(Err(Failure::Broken(error.to_string())));
                }
                // The app reads no further; it may have answered before.
                Poll::Ready(Err(Unsent::Socket(_))) => {
                    self.sending = None;
                    self.takes_all = false;
                }
            }
        }
        let read =
            |head: &[u8], count: usize| http1::response(head, count, to_head, |answer| Answer::of(answer, head.len()));
        socket.poll_head(cx, head_bytes(limits.bytes), || {}, read).map(|arrived| match arrived {
            Ok(Arrived::Head(answer)) => answer.map_err(Failure::Bad),
            Ok(Arrived::Closed) => Err(Failure::Broken("it closed the connection".to_owned())),
            Err(ReadError::Broken(error)) => Err(Failure::Broken(error.to_string())),
            Err(ReadError::Refused(Refusal::Truncated)) => Err(Failure::Broken("its answer broke off".to_owned())),
            Err(ReadError::Refused(refusal)) => Err(Failure::Bad(refusal)),
        })
    }

    /// Makes a reply of the answer, and gives the connection back when it is over.
    async fn deliver(self, pool: &Rc<AppPool>, limits: HeaderLimits, answer: Answer) -> Result<Reply, Error> {
        let Answer { status, mut headers, framing, keep_alive, .. } = answer.within(limits)?;
        if framing == Framing::Tunnel {
            // Nobody asked to leave HTTP.
            return Err(Failure::Bad(Refusal::Syntax("101 without an Upgrade")).explain(pool, Executed::Yes));
        }
        let Exchange { connection, sending, takes_all } = self;
        let socket = Rc::clone(&connection.socket);
        // An app that answers early may go on reading: so goes the request.
        let upload = sending.map(|sending| Upload::go_on(sending, Rc::clone(&socket)));
        socket.begin_body(framing, limits.bytes);
        let mut lent = Lent::new(connection, keep_alive && takes_all, upload, pool);
        let body = match edge::gather(&socket, Side::App).await? {
            Body::Whole(bytes) => {
                lent.finished();
                if bytes.len() > INLINE_BODY_BYTES {
                    // It travels behind the head.
                    headers.push_number(b"content-length", bytes.len() as u64);
                }
                Body::Whole(bytes)
            }
            Body::Stream(source) => {
                if let Framing::Length(length) = framing {
                    headers.push_number(b"content-length", length);
                }
                lent.until_the_end_of(source)
            }
        };
        Ok(Reply { head: ResponseHead { status, headers }, body })
    }
}

impl Answer {
    /// Itself, unless its head is larger than may be.
    fn within(self, limits: HeaderLimits) -> Result<Answer, Error> {
        let (bytes, count) = self.cost;
        limits.check(bytes, count).map(|()| self)
    }

    /// `bytes`: how long the whole head is.
    fn of(head: &http1::ResponseHead<'_>, bytes: usize) -> Answer {
        let count = head.fields.len();
        let mut headers = Headers::with_capacity(bytes + ADDED_BYTES, count + 1);
        let mut cost = 0;
        let mut length = None;
        for field in head.fields {
            cost += fields::cost(field);
            let name = field.name.as_bytes();
            if name.eq_ignore_ascii_case(b"content-length") {
                // Framing is each hop's own.
                length = Some(field.value);
            } else if head.framing == Framing::Tunnel && name.eq_ignore_ascii_case(b"upgrade") {
                headers.push(b"upgrade", field.value);
            } else if fields::kind(name) == Kind::EndToEnd && !head.connection.names(field.name) {
                headers.push_lower(name, field.value);
            }
        }
        // The length that an answer to GET would have had, or that 304 speaks of: it describes no body of this message.
        if let Some(length) = length.filter(|_| head.framing == Framing::None && head.status != 204) {
            headers.push(b"content-length", length);
        }
        let (status, framing, keep_alive) = (head.status, head.framing, head.keep_alive);
        Answer { status, headers, framing, keep_alive, cost: (cost, count) }
    }
}

impl Failure {
    fn explain(self, pool: &AppPool, executed: Executed) -> Error {
        let address = pool.target();
        match self {
            Failure::Broken(what) => {
                Error::new(ErrorCode::AppClosed, Origin::App, Phase::Wait, executed, format!("{address}: {what}"))
            }
            Failure::Bad(refusal @ (Refusal::HeadTooLong(_) | Refusal::TooManyFields(_))) => {
                app_failed(ErrorCode::AppHeaderTooLarge, format!("{address}: {refusal}"))
            }
            Failure::Bad(refusal) => app_failed(ErrorCode::AppBadResponse, format!("{address}: {refusal}")),
            Failure::Body(refusal) => Error::new(
                ErrorCode::RemoteProtocol,
                Origin::Remote,
                Phase::Body,
                Executed::Unknown,
                format!("the request's body: {refusal}"),
            ),
            Failure::Source(error) => error,
        }
    }
}

fn app_failed(code: ErrorCode, detail: String) -> Error {
    Error::new(code, Origin::App, Phase::Wait, Executed::Yes, detail)
}
