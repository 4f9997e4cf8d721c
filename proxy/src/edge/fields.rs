//! Which header fields go on, and which stay on their hop. Pure.

use http1::{Field, Refusal, Trailers};
use wire::Headers;

/// What a field is to an intermediary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Goes on as it is.
    EndToEnd,
    /// Said by one hop to the next (RFC 9110, 7.6.1), or answered by the sidecars themselves.
    HopByHop,
    /// The sidecars' own, `x-pillion-…`: from anybody else it is dropped.
    Internal,
}

/// What the sidecars alone say to each other and to the app.
const INTERNAL: &[u8] = b"x-pillion-";

/// What the field `name`, in whatever case, is.
pub fn kind(name: &[u8]) -> Kind {
    // By length and first letter most fields are told apart from all of these.
    let known: &[u8] = match (name.len(), name.first().map_or(0, u8::to_ascii_lowercase)) {
        (2, b't') => b"te",
        (6, b'e') => b"expect",
        (7, b'u') => b"upgrade",
        (10, b'c') => b"connection",
        (10, b'k') => b"keep-alive",
        (14, b'h') => b"http2-settings",
        (16, b'p') => b"proxy-connection",
        (17, b't') => b"transfer-encoding",
        (18, b'p') => b"proxy-authenticate",
        (19, b'p') => b"proxy-authorization",
        (_, b'x') if is_internal(name) => return Kind::Internal,
        _ => return Kind::EndToEnd,
    };
    if reads_as(name, known) { Kind::HopByHop } else { Kind::EndToEnd }
}

/// Whether an app may take the field `name` for the one called `known`: behind CGI or WSGI `_` and `-` are the same.
fn reads_as(name: &[u8], known: &[u8]) -> bool {
    let same = |(have, want): (&u8, &u8)| have.eq_ignore_ascii_case(want) || (*have == b'_' && *want == b'-');
    name.len() == known.len() && name.iter().zip(known).all(same)
}

/// How often a request has already gone from a sidecar to an app and on to a sidecar with its fields.
pub const HOPS: &[u8] = b"x-pillion-hops";

/// Fields that the sidecars alone say to each other and to the app: from anybody else they are dropped.
pub fn is_internal(name: &[u8]) -> bool {
    name.get(..INTERNAL.len()).is_some_and(|start| reads_as(start, INTERNAL))
}

/// The trailer fields that go on: none that would frame or route a message, were they taken for a head's (RFC 9110, 6.5.1).
pub fn of_trailers(trailers: &Trailers) -> Headers {
    let mut headers = Headers::new();
    trailers.each(|name, value| {
        if is_trailer(name.as_bytes()) {
            headers.push_lower(name.as_bytes(), value);
        }
    });
    headers
}

/// Whether a field may stand in a trailer that is passed on.
pub fn is_trailer(name: &[u8]) -> bool {
    let of_heads: [&[u8]; 3] = [b"content-length", b"host", b"trailer"];
    kind(name) == Kind::EndToEnd && !of_heads.iter().any(|known| reads_as(name, known))
}

/// What a field costs against `limits.header_bytes`: its text and four bytes for `: ` and the line's end.
pub fn cost(field: &Field<'_>) -> usize {
    field.name.len() + field.value.len() + 4
}

/// Writes the fields of a head that came from a peer's sidecar. Those of one hop are left out here too: a peer should not
/// have sent them, and framing is not its to decide. Two hosts would be two meanings.
pub fn write(out: &mut Vec<u8>, headers: &Headers) -> Result<(), Refusal> {
    let mut has_host = false;
    for field in headers.iter() {
        if kind(field.name) == Kind::HopByHop || (field.name.len() == 14 && reads_as(field.name, b"content-length")) {
            continue;
        }
        if field.name == b"host" && std::mem::replace(&mut has_host, true) {
            return Err(Refusal::Host);
        }
        http1::encode::field(out, field.name, field.value)?;
    }
    Ok(())
}

/// The length that a head announces; a peer's word, which framing holds it to.
pub fn content_length(headers: &Headers) -> Option<u64> {
    number(headers.get(b"content-length")?)
}

/// A plain decimal number.
pub fn number(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    // A sign would be parsed too.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The protocol that an Upgrade field asks for, where a connection may be handed over to it (RFC 9110, 7.8). Not to another HTTP, in which
/// requests would pass that nobody has routed or looked at; and not one of several, a choice that is the app's.
pub fn upgrade(value: &[u8]) -> Option<&[u8]> {
    let is_name = !value.is_empty() && value.iter().all(|byte| http1::encode::is_token(*byte) || *byte == b'/');
    let begins = |name: &[u8]| value.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    let is_http = [&b"h2"[..], b"h3", b"http", b"tls"].into_iter().any(begins);
    (is_name && !is_http).then_some(value)
}

/// Writes what asks for another protocol, or agrees to it.
pub fn write_upgrade(out: &mut Vec<u8>, protocol: &[u8]) -> Result<(), Refusal> {
    out.extend_from_slice(b"connection: upgrade\r\n");
    http1::encode::field(out, b"upgrade", protocol)
}

/// Whether a content type is gRPC's: `application/grpc`, alone or with a message format. gRPC-Web is another protocol.
pub fn is_grpc(content_type: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    content_type.get(..GRPC.len()).is_some_and(|start| start.eq_ignore_ascii_case(GRPC))
        && matches!(content_type.get(GRPC.len()), None | Some(b'+' | b';'))
}

/// Whether a head says that its body is a message of Thrift's, as a sidecar's door for Thrift says it.
pub fn is_thrift(headers: &Headers) -> bool {
    headers.get(b"content-type").and_then(thrift::Protocol::of_content_type).is_some()
}

/// Whether a content type is gRPC's in any form, gRPC-Web included.
pub fn is_any_grpc(content_type: &[u8]) -> bool {
    is_grpc(content_type)
        || content_type.get(..GRPC_WEB.len()).is_some_and(|start| start.eq_ignore_ascii_case(GRPC_WEB))
}

const GRPC_WEB: &[u8] = b"application/grpc-web";

/// Whether RFC 9110 calls the method safe (9.2.1): sending it twice does no harm.
pub fn is_safe(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_and_what_stays() {
        let hop = "te expect upgrade connection keep-alive http2-settings proxy-connection transfer-encoding \
                   proxy-authenticate proxy-authorization";
        for name in hop.split_whitespace() {
            for name in [name.to_owned(), name.to_ascii_uppercase()] {
                assert_eq!(kind(name.as_bytes()), Kind::HopByHop, "{name}");
            }
        }
        for name in ["x-pillion-peer", "X-Pillion-Peer", "X-PILLION-TIMEOUT", "x_pillion_peer", "X-Pillion_Peer"] {
            assert_eq!(kind(name.as_bytes()), Kind::Internal, "{name}");
            assert!(is_internal(name.as_bytes()), "{name}");
        }
        for name in ["x-pillio", "x-pillionaire", "x-request-id", "", "tea", "trailer", "authorization", "cookie"] {
            assert_eq!(kind(name.as_bytes()), Kind::EndToEnd, "{name}");
        }
    }

    #[test]
    fn what_a_peer_says_about_framing_does_not_reach_the_app() {
        let mut headers = Headers::new();
        for name in ["transfer-encoding", "connection", "upgrade", "content-length", "content_length", "x-kept"] {
            headers.push(name.as_bytes(), b"1");
        }
        let mut out = Vec::new();
        write(&mut out, &headers).unwrap();
        assert_eq!(out, b"x-kept: 1\r\n");
        headers.push(b"host", b"a");
        headers.push(b"host", b"b");
        assert_eq!(write(&mut out, &headers), Err(Refusal::Host));
    }

    #[test]
    fn a_field_that_would_break_a_line_is_refused() {
        for (name, value) in [("x-a", "1\r\nx-b: 2"), ("x a", "1"), ("x-a\r\n", "1"), ("x-a", "\0")] {
            let mut headers = Headers::new();
            headers.push(name.as_bytes(), value.as_bytes());
            assert!(write(&mut Vec::new(), &headers).is_err(), "{name:?}: {value:?}");
        }
    }

    #[test]
    fn a_connection_is_handed_over_to_one_protocol_that_is_not_http() {
        for good in ["websocket", "WebSocket", "irc/6.9", "x"] {
            assert_eq!(upgrade(good.as_bytes()), Some(good.as_bytes()), "{good}");
        }
        for bad in ["", "h2c", "H2C", "HTTP/2.0", "http/1.1", "TLS/1.0", "websocket, h2c", "a b", "a\r\nb"] {
            assert_eq!(upgrade(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn grpc_is_told_by_its_content_type() {
        for good in ["application/grpc", "application/grpc+proto", "Application/gRPC;charset=x"] {
            assert!(is_grpc(good.as_bytes()), "{good}");
        }
        for bad in ["", "application/grp", "application/grpc-web", "application/grpcx", "text/plain"] {
            assert!(!is_grpc(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_length_is_a_plain_number() {
        let length = |value: &str| {
            let mut headers = Headers::new();
            headers.push(b"content-length", value.as_bytes());
            content_length(&headers)
        };
        assert_eq!(length("9000"), Some(9000));
        for value in ["+1", "-1", "", "1 ", "0x1", "18446744073709551616", "lies"] {
            assert_eq!(length(value), None, "{value:?}");
        }
    }
}
