//! The plain HTTP/1.1 call to the own app.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, Uri};
use hyper::body::Incoming;
use wire::{Headers, RequestHead, ResponseHead};

use crate::call::{Body, BodyStream, Part, Reply};
use crate::edge::{self, Outgoing, Watch};
use crate::error::{Error, ErrorCode, Executed, Origin, Phase};
use crate::upstream::app_pool::{AppPool, Connection, NoConnection};

/// Header bounds on what the app answers.
#[derive(Debug, Clone, Copy)]
pub struct HeaderLimits {
    /// `limits.header_bytes`
    pub bytes: usize,
    /// `limits.header_count`
    pub count: usize,
}

/// Calls the app. `headers` of `head` are complete: what the app is to see.
///
/// A request that can be sent twice is, once, if a reused connection breaks before any answer: the app closed it while
/// idle. One that cannot goes only on a connection that is surely open (see [`AppPool`]).
pub async fn call(pool: &Rc<AppPool>, limits: HeaderLimits, head: RequestHead, body: Body) -> Result<Reply, Error> {
    let method = Method::from_bytes(&head.method).map_err(|_| {
        Error::new(ErrorCode::RemoteProtocol, Origin::Remote, Phase::Request, Executed::No, "the method is invalid")
    })?;
    if method == Method::CONNECT {
        // To hyper's client it would mean that raw bytes follow.
        return Err(Error::new(
            ErrorCode::RemoteProtocol,
            Origin::Remote,
            Phase::Request,
            Executed::No,
            "CONNECT is no call to an app",
        ));
    }
    let uri = Uri::from_maybe_shared(head.path.clone()).ok().filter(|uri| uri.scheme().is_none()).ok_or_else(|| {
        Error::new(ErrorCode::RemoteProtocol, Origin::Remote, Phase::Request, Executed::No, "the path is invalid")
    })?;
    let replay = match &body {
        Body::Whole(bytes) if edge::is_safe(&method) => Some((head.headers.clone(), bytes.clone())),
        _ => None,
    };
    let is_head = method == Method::HEAD;
    let uploaded = Rc::new(Cell::new(false));
    let build = |fields: Headers, body: Body| {
        let mut headers = HeaderMap::new();
        edge::to_hyper(fields, &mut headers).map_err(|_| {
            Error::new(ErrorCode::RemoteProtocol, Origin::Remote, Phase::Request, Executed::No, "a header is invalid")
        })?;
        edge::settle_request(&mut headers, &body, &method);
        let mut request = Request::new(Outgoing::new(body, &headers, Uploaded(Rc::clone(&uploaded))));
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers;
        Ok::<_, Error>(request)
    };
    let mut request = build(head.headers, body)?;
    let mut again = true;
    loop {
        let mut connection = pool.checkout(replay.is_none()).await.map_err(|error| no_connection(pool, error))?;
        let reused = connection.reused;
        if reused && connection.sender.ready().await.is_err() {
            // Closed while idle; nothing was sent.
            continue;
        }
        match connection.sender.try_send_request(request).await {
            Ok(response) => return answer(pool, connection, limits, response, is_head, uploaded).await,
            Err(mut failure) => {
                if let Some(unsent) = failure.take_message() {
                    // hyper gives the request back when not a byte of it was written: provably not executed.
                    if again {
                        again = false;
                        request = unsent;
                        continue;
                    }
                    return Err(broken(pool, failure.error(), Executed::No));
                }
                match &replay {
                    Some((fields, bytes)) if reused && again && !is_garbage(failure.error()) => {
                        again = false;
                        request = build(fields.clone(), Body::Whole(bytes.clone()))?;
                    }
                    _ => return Err(broken(pool, failure.error(), Executed::Unknown)),
                }
            }
        }
    }
}

fn is_garbage(error: &hyper::Error) -> bool {
    error.is_parse()
}

async fn answer(
    pool: &Rc<AppPool>,
    connection: Connection,
    limits: HeaderLimits,
    response: Response<Incoming>,
    is_head: bool,
    uploaded: Rc<Cell<bool>>,
) -> Result<Reply, Error> {
    let (parts, incoming) = response.into_parts();
    let cost = edge::header_cost(&parts.headers);
    if cost > limits.bytes || parts.headers.len() > limits.count {
        return Err(Error::new(
            ErrorCode::AppHeaderTooLarge,
            Origin::App,
            Phase::Wait,
            Executed::Yes,
            format!(
                "{} fields of {cost} bytes; limits.header_count is {}, limits.header_bytes {}",
                parts.headers.len(),
                limits.count,
                limits.bytes
            ),
        ));
    }
    let keep = edge::keeps_alive(parts.version, &parts.headers);
    let mut headers = edge::end_to_end(&parts.headers, |name| name == "x-pillion-error");
    let status = parts.status.as_u16();
    let body = edge::gather(incoming, edge::Side::App).await?;
    if !is_head && !matches!(status, 204 | 304) && matches!(body, Body::Whole(_)) {
        // The length travels with the frame.
        headers.remove(b"content-length");
    }
    let body = match body {
        Body::Whole(bytes) => {
            if keep && uploaded.get() {
                pool.checkin(connection);
            }
            Body::Whole(bytes)
        }
        Body::Stream(source) => {
            Body::stream(Lent { source, connection: Some(connection), keep, uploaded, pool: Rc::clone(pool) })
        }
    };
    Ok(Reply { head: ResponseHead { status, headers }, body })
}

/// Set once the request's body is out. An app that answers earlier still reads the rest of it, or closes: no other call
/// may wait behind that, so the connection is not used again.
#[derive(Debug)]
pub struct Uploaded(Rc<Cell<bool>>);

impl Watch for Uploaded {
    fn ended(&mut self, error: Option<&Error>) {
        self.0.set(error.is_none());
    }
}

/// A streamed answer that holds its connection until its end. Dropped before, it closes the connection: that is how the
/// app learns that the caller is gone.
struct Lent {
    source: Pin<Box<dyn BodyStream>>,
    connection: Option<Connection>,
    keep: bool,
    uploaded: Rc<Cell<bool>>,
    pool: Rc<AppPool>,
}

impl BodyStream for Lent {
    fn poll_part(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Error>>> {
        let polled = self.source.as_mut().poll_part(cx);
        match &polled {
            Poll::Ready(None) => {
                if let Some(connection) = self.connection.take().filter(|_| self.keep && self.uploaded.get()) {
                    self.pool.checkin(connection);
                }
            }
            Poll::Ready(Some(Err(_))) => self.connection = None,
            _ => {}
        }
        polled
    }
}

fn no_connection(pool: &AppPool, error: NoConnection) -> Error {
    let (code, detail, after) = match error {
        NoConnection::Refused(error) => (ErrorCode::AppNotConnected, format!("{}: {error}", pool.address()), None),
        NoConnection::Timeout(limit) => (
            ErrorCode::AppNotConnected,
            format!("{}: no connection within {limit:?} (timeouts.app_connect)", pool.address()),
            None,
        ),
        NoConnection::Full(waiting) => (
            ErrorCode::RemoteOverloaded,
            format!("all connections to the app are busy (limits.app_connections) and {waiting} requests wait"),
            Some(Duration::from_secs(1)),
        ),
    };
    Error::new(code, Origin::Remote, Phase::Connect, Executed::No, detail).retry_after(after)
}

fn broken(pool: &AppPool, error: &hyper::Error, executed: Executed) -> Error {
    let address = pool.address();
    if error.is_parse_too_large() {
        return Error::new(
            ErrorCode::AppHeaderTooLarge,
            Origin::App,
            Phase::Wait,
            Executed::Yes,
            format!("{address}: {error}"),
        );
    }
    if is_garbage(error) {
        return Error::new(
            ErrorCode::AppBadResponse,
            Origin::App,
            Phase::Wait,
            Executed::Yes,
            format!("{address}: {error}"),
        );
    }
    Error::new(ErrorCode::AppClosed, Origin::App, Phase::Wait, executed, format!("{address}: {error}"))
}
