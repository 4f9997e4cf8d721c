//! A reply, or an error of ours, as an HTTP/2 answer.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use wire::ResponseHead;

use super::{Form, grpc};
use crate::call::{Body, Reply, SWITCHING_PROTOCOLS};
use crate::edge::fields;
use crate::edge::http2::{self, websocket};
use crate::error::{Error, ErrorCode, Executed, Origin, Phase};
use crate::ingress::asked::Tunnel;
use crate::ingress::date::Date;

/// The answer's head, and its body.
pub fn render(reply: Reply, form: Form, date: &Date) -> Result<(Response<()>, Body), Error> {
    let invalid = |what: String| {
        let detail = format!("the answer cannot be put into HTTP/2: {what}");
        Error::new(ErrorCode::RemoteProtocol, Origin::Remote, Phase::Wait, Executed::Yes, detail)
    };
    let Reply { head, body } = reply;
    let opens = match form.tunnel {
        Some(Tunnel::Upgrade) => head.status == SWITCHING_PROTOCOLS,
        Some(Tunnel::Connect) => true,
        None => false,
    };
    if opens {
        return connected(head, body).map_err(|what| invalid(what.to_owned()));
    }
    let status = StatusCode::from_u16(head.status)
        .ok()
        .filter(|status| !status.is_informational())
        .ok_or_else(|| invalid(format!("status {}", head.status)))?;
    let announced = fields::content_length(&head.headers);
    let own_length = |name: &[u8]| name != CONTENT_LENGTH.as_str().as_bytes();
    let mut map = http2::to_map(head.headers, own_length).map_err(|what| invalid(what.to_owned()))?;
    if !map.contains_key(DATE) {
        date.with(|value| map.insert(DATE, value.clone()));
    }
    let (length, body) = match (status, body) {
        (StatusCode::NO_CONTENT, _) => (None, Body::EMPTY),
        // It describes no body of this message: what GET would have had, or what 304 speaks of.
        (StatusCode::NOT_MODIFIED, _) => (announced, Body::EMPTY),
        _ if form.is_head => (announced, Body::EMPTY),
        (_, Body::Whole(bytes)) => (Some(bytes.len() as u64).filter(|_| !form.grpc), Body::Whole(bytes)),
        (_, stream) => (announced, stream),
    };
    if let Some(length) = length {
        map.insert(CONTENT_LENGTH, length.into());
    }
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = map;
    Ok((response, body))
}

/// The answer that opens the way for bytes, both ways: 200 (RFC 8441, 5; RFC 9113, 8.5).
fn connected(head: ResponseHead, body: Body) -> Result<(Response<()>, Body), &'static str> {
    // What the handshake of HTTP/1.1 says besides.
    let goes = |name: &[u8]| !matches!(name, b"upgrade" | b"content-length") && name != websocket::ACCEPT.as_bytes();
    let mut response = Response::new(());
    *response.headers_mut() = http2::to_map(head.headers, goes)?;
    Ok((response, body))
}

/// The answer that tells of an error.
pub fn render_error(error: &Error, form: Form) -> (Response<()>, Body) {
    let mut response = Response::new(());
    let code = HeaderValue::from_static(error.code().as_str());
    if form.grpc {
        // "Trailers-Only": what went wrong stands where the caller looks for it (gRPC over HTTP/2, Responses).
        *response.headers_mut() = grpc::trailers(error);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        response.headers_mut().insert("x-pillion-error", code);
        return (response, Body::EMPTY);
    }
    let body = error.to_json();
    // A code's status is one.
    *response.status_mut() = StatusCode::from_u16(error.code().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert("x-pillion-error", code);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, body.len().into());
    if let Some(seconds) = error.retry_after_seconds() {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    (response, if form.is_head { Body::EMPTY } else { Body::Whole(body.into()) })
}
