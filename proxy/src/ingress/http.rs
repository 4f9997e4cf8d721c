//! The HTTP/1.1 door for the own app's calls.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use wire::{Headers, RequestHead, TraceContext};

use crate::call::{Body, BodyStream, Call, Part, Reply};
use crate::config::{Config, Door};
use crate::dispatch::{self, Dispatcher};
use crate::edge::{self, Outgoing, Watch};
use crate::error::{Error, ErrorCode, Phase as CallPhase};
use crate::ingress::patience::{Busy, Patience};
use crate::metered::Metered;
use crate::metrics::{CallMetrics, Direction, Held, Metrics};
use crate::record::{Counted, Record};
use crate::route::{self, Names};

/// hyper buffers this much of an answer before it asks for more: enough to keep a socket busy, little to hold for a slow one.
const WRITE_BUFFER_BYTES: usize = 128 * 1024;

/// What all connections to this door share, on one worker.
#[derive(Debug)]
pub struct HttpDoor {
    /// Carries the calls.
    pub dispatcher: Dispatcher,
    /// Limits.
    pub config: Arc<Config>,
    /// Counted into.
    pub metrics: Arc<Metrics>,
    /// Watches over slow callers.
    pub patience: Rc<Patience>,
    /// Calls that never came to name a known service.
    pub unrouted: CallMetrics,
    /// Calls under way from the own app, over all workers: the shutdown waits for them.
    pub calls: Arc<AtomicUsize>,
}

impl HttpDoor {
    /// Serves one connection. `bound`: the door leads to one service only.
    pub async fn serve(self: Rc<Self>, socket: TcpStream, bound: Option<Arc<Door>>) {
        let _connected = Held::new(&self.metrics.callers_connected);
        let watched = Rc::new(self.patience.watch());
        let arrival = Rc::clone(&watched);
        let io = Metered::new(socket, &self.metrics.app_bytes, move || arrival.bytes_arrived());
        let limits = &self.config.limits;
        let service = service_fn(|request| {
            let busy = [watched.busy(), watched.busy()];
            let (door, bound) = (Rc::clone(&self), bound.clone());
            async move { Ok::<_, Infallible>(door.answer(request, bound.as_deref(), busy).await) }
        });
        let connection = http1::Builder::new()
            .max_headers(edge::parser_fields(limits.header_count))
            // hyper answers its own bound with a bare 431; ours, on the parsed head, comes first and says what to do.
            .max_buf_size((limits.header_bytes * 2 + 16 * 1024).max(WRITE_BUFFER_BYTES))
            .serve_connection(TokioIo::new(io), service);
        tokio::select! {
            // How a caller's connection ends is the caller's business; calls that it cut are recorded as cancelled.
            _ = connection => {}
            () = watched.over() => {}
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        bound: Option<&Door>,
        [busy, receiving]: [Busy; 2],
    ) -> Response<Outgoing<Kept>> {
        let counted = Counted::new(&self.calls);
        let mut record = Record::new(Direction::Outbound, &self.unrouted);
        let is_head = request.method() == Method::HEAD;
        let result = match self.read(request, bound).await {
            Ok(mut call) => {
                if let Body::Stream(source) = call.body {
                    call.body = Body::stream(Received { source, _busy: receiving });
                }
                record.describe(&call);
                if let Body::Whole(bytes) = &call.body {
                    record.sent(bytes.len());
                }
                self.dispatcher.call(call, &mut record).await
            }
            Err(error) => Err(error),
        };
        let (response, body) = match result.and_then(|reply| render(reply, is_head)) {
            Ok((response, body)) => {
                record.answered(response.status().as_u16());
                (response, body)
            }
            Err(error) => {
                self.metrics.generated_error(error.code().as_str()).inc();
                record.failed(&error, dispatch::outcome_of(&error));
                render_error(&error, is_head)
            }
        };
        let (parts, ()) = response.into_parts();
        let body = Outgoing::new(body, &parts.headers, Kept { record, _busy: busy, _counted: counted });
        Response::from_parts(parts, body)
    }

    /// Makes a call of a request.
    async fn read(&self, request: Request<Incoming>, bound: Option<&Door>) -> Result<Call, Error> {
        let (parts, incoming) = request.into_parts();
        let limits = &self.config.limits;
        let cost = edge::header_cost(&parts.headers) + parts.uri.path().len() + parts.uri.query().map_or(0, str::len);
        if cost > limits.header_bytes || parts.headers.len() > limits.header_count {
            return Err(Error::local(
                ErrorCode::HeaderTooLarge,
                CallPhase::Request,
                format!(
                    "{} fields of {cost} bytes; limits.header_count is {}, limits.header_bytes {}",
                    parts.headers.len(),
                    limits.header_count,
                    limits.header_bytes
                ),
            ));
        }
        if parts.method == Method::CONNECT {
            return Err(Error::local(ErrorCode::BadRequest, CallPhase::Request, "CONNECT is not offered on this port"));
        }
        let named = |name: &str| one_value(&parts.headers, name);
        let service = match bound {
            Some(door) => door.service.as_str().into(),
            None => route::service_called(Names {
                header: named("x-pillion-service")?,
                authority: parts.uri.authority().map(|authority| authority.host()),
                host: named("host")?,
            })?,
        };
        let version = match (bound.and_then(|door| door.version.clone()), named("x-pillion-version")?) {
            (Some(version), _) => Some(version),
            (None, None) => None,
            (None, Some(text)) => Some(text.parse().map_err(|error| {
                Error::local(ErrorCode::BadRequest, CallPhase::Request, format!("x-pillion-version: {error}"))
            })?),
        };
        let mut headers = edge::end_to_end(&parts.headers, |_| false);
        let deadline = route::deadline_of(&headers, Instant::now())?;
        // What the sidecars say to each other and to the app is theirs alone to say; the deadline travels in the head.
        headers.retain(|field| !edge::is_internal(field.name) && field.name != b"grpc-timeout");
        // The app called sees the name that its caller used, not the address of the caller's sidecar.
        headers.set(b"host", service.as_bytes());
        let trace = take_trace(&mut headers);
        if !headers.contains(b"x-request-id") {
            headers.push(b"x-request-id", hex(fastrand::u64(..), &mut [0; 16]));
        }
        let path = match parts.uri.path_and_query() {
            Some(path) => Bytes::copy_from_slice(path.as_str().as_bytes()),
            None => Bytes::from_static(b"/"),
        };
        let head = RequestHead {
            trace: Some(trace),
            service: Bytes::copy_from_slice(service.as_bytes()),
            method: Bytes::copy_from_slice(parts.method.as_str().as_bytes()),
            path,
            headers,
            ..RequestHead::default()
        };
        let body = match tokio::time::timeout(self.config.timeouts.header, edge::gather(incoming, edge::Side::Caller))
            .await
        {
            Ok(body) => body?,
            Err(_) => {
                return Err(Error::local(
                    ErrorCode::RequestAborted,
                    CallPhase::Request,
                    format!("a short body did not arrive within {:?} (timeouts.header)", self.config.timeouts.header),
                ));
            }
        };
        Ok(Call { head, version, deadline, safe: edge::is_safe(&parts.method), body })
    }
}

/// The only value of a field; two of them are an attempt to mean two things at once.
fn one_value<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Error> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::local(ErrorCode::BadRequest, CallPhase::Request, format!("{name} stands more than once")));
    }
    first
        .to_str()
        .map(Some)
        .map_err(|_| Error::local(ErrorCode::BadRequest, CallPhase::Request, format!("{name} is not plain text")))
}

/// Takes `traceparent` out of the fields, into its binary form; makes a trace where there is none or an invalid one (W3C
/// Trace Context, 3.2: an invalid one is to be ignored).
fn take_trace(headers: &mut Headers) -> TraceContext {
    let parsed = headers.get(b"traceparent").and_then(parse_traceparent);
    headers.remove(b"traceparent");
    parsed.unwrap_or_else(|| {
        headers.remove(b"tracestate");
        TraceContext {
            trace_id: (fastrand::u128(..) | 1).to_be_bytes(),
            span_id: (fastrand::u64(..) | 1).to_be_bytes(),
            flags: 0,
        }
    })
}

/// Version 00: `00-{32 hex}-{16 hex}-{2 hex}`, neither id all zeros.
fn parse_traceparent(value: &[u8]) -> Option<TraceContext> {
    let text = std::str::from_utf8(value).ok()?;
    if text.len() != 55
        || !text.starts_with("00-")
        || text.bytes().any(|byte| byte.is_ascii_uppercase() || byte == b'+')
    {
        return None;
    }
    let mut parts = text.split('-').skip(1);
    let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
    if (trace.len(), span.len(), flags.len()) != (32, 16, 2) {
        return None;
    }
    let trace = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
    let span = u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?;
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some(TraceContext { trace_id: trace.to_be_bytes(), span_id: span.to_be_bytes(), flags })
}

fn hex(number: u64, into: &mut [u8; 16]) -> &[u8] {
    for (index, digit) in into.iter_mut().enumerate() {
        let nibble = (number >> (60 - 4 * index)) & 0xf;
        *digit = b"0123456789abcdef"[nibble as usize];
    }
    into
}

fn render(reply: Reply, is_head: bool) -> Result<(Response<()>, Body), Error> {
    let invalid = |what: &str| {
        Error::new(
            ErrorCode::RemoteProtocol,
            crate::error::Origin::Remote,
            CallPhase::Wait,
            crate::error::Executed::Yes,
            format!("the answer's {what} cannot be put into HTTP/1.1"),
        )
    };
    let mut response = Response::new(());
    let status = StatusCode::from_u16(reply.head.status).map_err(|_| invalid("status"))?;
    *response.status_mut() = status;
    *response.version_mut() = Version::HTTP_11;
    edge::to_hyper(reply.head.headers, response.headers_mut()).map_err(|_| invalid("headers"))?;
    edge::settle_answer(response.headers_mut(), &reply.body, is_head, status);
    Ok((response, reply.body))
}

fn render_error(error: &Error, is_head: bool) -> (Response<()>, Body) {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(error.code().status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let headers = response.headers_mut();
    headers.insert("x-pillion-error", HeaderValue::from_static(error.code().as_str()));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(after) = error.retry_after_hint() {
        // Whole seconds are all that the field can say (RFC 9110, 10.2.3).
        let seconds = after.as_millis().div_ceil(1000) as u64;
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    let body = if is_head { Body::EMPTY } else { Body::Whole(error.to_json().into()) };
    (response, body)
}

/// What lives until an answer is out: its record, and the caller's place in the sweep.
#[derive(Debug)]
pub struct Kept {
    record: Record,
    _busy: Busy,
    _counted: Counted,
}

impl Watch for Kept {
    fn passed(&mut self, bytes: usize) {
        self.record.received(bytes);
    }

    fn ended(&mut self, error: Option<&Error>) {
        match error {
            None => self.record.complete(),
            Some(error) => self.record.failed(error, dispatch::outcome_of(error)),
        }
    }
}

/// A request's body, during which the connection is busy, also when the answer is out before its end.
struct Received {
    source: Pin<Box<dyn BodyStream>>,
    _busy: Busy,
}

impl BodyStream for Received {
    fn poll_part(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Error>>> {
        self.source.as_mut().poll_part(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparent() {
        let good = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = parse_traceparent(good).unwrap();
        assert_eq!(context.trace_id[..2], [0x0a, 0xf7]);
        assert_eq!(context.span_id[..2], [0xb7, 0xad]);
        assert_eq!(context.flags, 1);
        for bad in [
            "",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01-",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(parse_traceparent(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn an_invalid_trace_is_replaced_and_its_state_dropped() {
        let mut headers = Headers::new();
        headers.push(b"traceparent", b"nonsense");
        headers.push(b"tracestate", b"a=b");
        let trace = take_trace(&mut headers);
        assert_ne!(trace.trace_id, [0; 16]);
        assert!(headers.is_empty());
    }

    #[test]
    fn hex_digits() {
        assert_eq!(hex(0x0123_4567_89ab_cdef, &mut [0; 16]), b"0123456789abcdef");
    }

    #[test]
    fn a_name_given_twice_is_refused() {
        let mut headers = HeaderMap::new();
        headers.append("x-pillion-service", HeaderValue::from_static("a"));
        assert_eq!(one_value(&headers, "x-pillion-service").unwrap(), Some("a"));
        headers.append("x-pillion-service", HeaderValue::from_static("b"));
        assert_eq!(one_value(&headers, "x-pillion-service").unwrap_err().code(), ErrorCode::BadRequest);
    }
}
