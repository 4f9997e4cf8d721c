//! A reply, or an error of ours, as an HTTP/1.1 answer.

use http::StatusCode;
use http1::{Framing, Refusal, Version};

use crate::call::{Body, Reply, SWITCHING_PROTOCOLS};
use crate::edge::{Message, fields};
use crate::error::{Error, ErrorCode, Executed, Origin, Phase};
use crate::ingress::asked::Tunnel;
use crate::ingress::date::Date;

/// Room for an answer's first line, for what is added to its fields, and for a small body.
const ANSWER_BYTES: usize = 512;

/// The answer's head in text, its status, and how its body goes out.
pub fn render(
    reply: Reply,
    is_head: bool,
    tunnel: Option<Tunnel>,
    version: Version,
    date: &Date,
) -> Result<(Vec<u8>, u16, Message), Error> {
    let invalid = |what: String| {
        let detail = format!("the answer cannot be put into HTTP/1.1: {what}");
        Error::new(ErrorCode::RemoteProtocol, Origin::Remote, Phase::Wait, Executed::Yes, detail)
    };
    let Reply { head, body } = reply;
    if tunnel == Some(Tunnel::Connect) {
        // Connected: such an answer has no other fields (RFC 9110, 9.3.6).
        let mut text = Vec::with_capacity(ANSWER_BYTES);
        status_line(&mut text, head.status).map_err(|refusal| invalid(refusal.to_string()))?;
        http1::encode::end_of_head(&mut text, Framing::Tunnel);
        return Ok((text, head.status, (Framing::Tunnel, body)));
    }
    let mut text = Vec::with_capacity(head.headers.text_bytes() + 4 * head.headers.len() + ANSWER_BYTES);
    status_line(&mut text, head.status)
        .and_then(|()| fields::write(&mut text, &head.headers))
        .map_err(|refusal| invalid(refusal.to_string()))?;
    if !head.headers.contains(b"date") {
        date.with(|value| {
            for part in [b"date: ", value.as_bytes(), b"\r\n"] {
                text.extend_from_slice(part);
            }
        });
    }
    let announced = fields::content_length(&head.headers);
    if tunnel == Some(Tunnel::Upgrade)
        && head.status == SWITCHING_PROTOCOLS
        && let Some(protocol) = head.headers.get(b"upgrade").and_then(fields::upgrade)
    {
        fields::write_upgrade(&mut text, protocol).map_err(|refusal| invalid(refusal.to_string()))?;
        http1::encode::end_of_head(&mut text, Framing::Tunnel);
        return Ok((text, SWITCHING_PROTOCOLS, (Framing::Tunnel, body)));
    }
    let framing = match (head.status, &body) {
        (100..=199, _) => return Err(invalid(format!("status {}", head.status))),
        (204, _) => Framing::None,
        (304, _) => without_body(&mut text, announced),
        _ if is_head => without_body(&mut text, announced),
        (_, Body::Whole(bytes)) => Framing::Length(bytes.len() as u64),
        (_, Body::Stream(_)) => match (announced, version) {
            (Some(length), _) => Framing::Length(length),
            (None, Version::Http11) => Framing::Chunked,
            (None, Version::Http10) => Framing::UntilClose,
        },
    };
    Ok((text, head.status, (framing, body)))
}

/// The answer that tells of an error.
pub fn render_error(error: &Error, is_head: bool) -> (Vec<u8>, Message) {
    let mut text = Vec::with_capacity(ANSWER_BYTES);
    let body = error.to_json();
    // Neither can fail: a code's status is one, and its name is plain.
    let _ = status_line(&mut text, error.code().status());
    let _ = http1::encode::field(&mut text, b"x-pillion-error", error.code().as_str().as_bytes());
    text.extend_from_slice(b"content-type: application/json\r\n");
    if let Some(seconds) = error.retry_after_seconds() {
        text.extend_from_slice(format!("retry-after: {seconds}\r\n").as_bytes());
    }
    let framing =
        if is_head { without_body(&mut text, Some(body.len() as u64)) } else { Framing::Length(body.len() as u64) };
    (text, (framing, Body::Whole(body.into())))
}

/// A length that describes no body of this message: what GET would have had, or what 304 speaks of.
fn without_body(text: &mut Vec<u8>, announced: Option<u64>) -> Framing {
    if let Some(length) = announced {
        text.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
    }
    Framing::None
}

fn status_line(text: &mut Vec<u8>, status: u16) -> Result<(), Refusal> {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default();
    http1::encode::status_line(text, status, reason)
}
