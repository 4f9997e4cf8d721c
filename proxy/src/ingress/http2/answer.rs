//! A reply, or an error of ours, as an HTTP/2 answer.

use wire::{Headers, ResponseHead, Text};

use super::{Form, grpc};
use crate::call::{Body, Reply, SWITCHING_PROTOCOLS};
use crate::edge::fields;
use crate::edge::http2::{self, websocket};
use crate::error::{Error, ErrorCode, Executed, Origin, Phase};
use crate::ingress::asked::Tunnel;
use crate::ingress::date::Date;

const CONTENT_LENGTH: &[u8] = b"content-length";
const NO_CONTENT: u16 = 204;
const NOT_MODIFIED: u16 = 304;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// 200 to 999.
    pub status: u16,
    /// Some of which may not go on.
    headers: Headers,
    /// What follows.
    pub body: Body,
}

impl Answer {
    /// The fields that go on.
    pub fn fields(&self) -> impl Iterator<Item = Text<'_>> {
        http2::going(&self.headers, |_| true)
    }

    /// How a call of gRPC's went, where nothing follows ("Trailers-Only").
    pub fn grpc_status(&self) -> Option<&[u8]> {
        self.headers.get(b"grpc-status")
    }
}

/// A reply as an answer.
pub fn render(reply: Reply, form: Form, date: &Date) -> Result<Answer, Error> {
    let invalid = |what: String| {
        let detail = format!("the answer cannot be put into HTTP/2: {what}");
        Error::new(ErrorCode::RemoteProtocol, Origin::Remote, Phase::Wait, Executed::Yes, detail)
    };
    let Reply { head: ResponseHead { status, mut headers }, body } = reply;
    http2::check(&headers).map_err(|what| invalid(what.to_owned()))?;
    let opens = match form.tunnel {
        Some(Tunnel::Upgrade) => status == SWITCHING_PROTOCOLS,
        Some(Tunnel::Connect) => true,
        None => false,
    };
    if opens {
        // 200 opens the way for bytes, both ways (RFC 8441, 5; RFC 9113, 8.5), without what the handshake of HTTP/1.1 says besides.
        let stays = |name: &[u8]| matches!(name, b"upgrade" | CONTENT_LENGTH) || name == websocket::ACCEPT.as_bytes();
        headers.retain(|field| !stays(field.name));
        return Ok(Answer { status: 200, headers, body });
    }
    if !(200..=999).contains(&status) {
        return Err(invalid(format!("status {status}")));
    }
    let announced = fields::content_length(&headers);
    if headers.contains(CONTENT_LENGTH) {
        headers.remove(CONTENT_LENGTH);
    }
    if !headers.contains(b"date") {
        date.with(|value| headers.push(b"date", value.as_bytes()));
    }
    let (length, body) = match (status, body) {
        (NO_CONTENT, _) => (None, Body::EMPTY),
        // It describes no body of this message: what GET would have had, or what 304 speaks of.
        (NOT_MODIFIED, _) => (announced, Body::EMPTY),
        _ if form.is_head => (announced, Body::EMPTY),
        (_, Body::Whole(bytes)) => (Some(bytes.len() as u64).filter(|_| !form.grpc), Body::Whole(bytes)),
        (_, stream) => (announced, stream),
    };
    if let Some(length) = length {
        headers.push_number(CONTENT_LENGTH, length);
    }
    Ok(Answer { status, headers, body })
}

/// The answer that tells of an error.
pub fn render_error(error: &Error, form: Form) -> Answer {
    let code = error.code().as_str().as_bytes();
    if form.grpc {
        // "Trailers-Only": what went wrong stands where the caller looks for it (gRPC over HTTP/2, Responses).
        let mut headers = grpc::trailers(error);
        headers.push(b"content-type", b"application/grpc");
        headers.push(b"x-pillion-error", code);
        return Answer { status: 200, headers, body: Body::EMPTY };
    }
    let body = error.to_json();
    let mut headers = Headers::new();
    headers.push(b"x-pillion-error", code);
    headers.push(b"content-type", b"application/json");
    headers.push_number(CONTENT_LENGTH, body.len() as u64);
    if let Some(seconds) = error.retry_after_seconds() {
        headers.push_number(b"retry-after", seconds);
    }
    let body = if form.is_head { Body::EMPTY } else { Body::Whole(body.into()) };
    Answer { status: error.code().status(), headers, body }
}
