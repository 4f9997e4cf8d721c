//! A request's head in HTTP/2. Pure.

use h2::ext::Protocol;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method};
use http1::Field;

use crate::config::{Config, Door};
use crate::edge::fields;
use crate::edge::http2::websocket;
use crate::error::Error;
use crate::ingress::asked::{self, Asked, Line, bad};

/// What a field's name and value take beside a line of text, about: enough that a head is made without growing.
const TEXT_BYTES: usize = 48;

/// Makes a call of a request's head. `bound`: the door leads to one service only.
pub fn read(head: &Parts, config: &Config, bound: Option<&Door>) -> Result<Asked, Error> {
    let connect = (head.method == Method::CONNECT).then(|| head.extensions.get::<Protocol>());
    // Several, for the sake of compression, mean one (RFC 9113, 8.2.3), and only HTTP/2 knows that.
    let cookie = joined_cookie(&head.headers);
    let authority = head.uri.authority().map(|authority| authority.as_str());
    if let (Some(authority), Some(host)) = (authority, head.headers.get(http::header::HOST))
        && !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes())
    {
        // RFC 9113, 8.3.1
        return Err(bad("Host differs from :authority"));
    }
    let own = authority.filter(|_| !head.headers.contains_key(http::header::HOST));
    let own = own.map(|value| field("host", value.as_bytes()));
    let rest = head.headers.iter().filter(|(name, _)| cookie.is_none() || *name != COOKIE);
    let rest = rest.map(|(name, value)| (Field { name: name.as_str(), value: value.as_bytes() }, value.is_sensitive()));
    let cookie_field = cookie.as_deref().map(|value| field("cookie", value));
    // To an app that is asked in HTTP/1.1, an extended CONNECT (RFC 8441) is a GET with an Upgrade.
    let protocol = connect.flatten().map(Protocol::as_str);
    let key = protocol
        .filter(|protocol| protocol.as_bytes() == websocket::PROTOCOL)
        .filter(|_| !head.headers.contains_key(websocket::KEY))
        .map(|_| websocket::new_key());
    let handshake = protocol.map(|protocol| field("upgrade", protocol.as_bytes())).into_iter();
    let handshake = handshake.chain(key.as_deref().map(|key| field(websocket::KEY, key.as_bytes())));
    let count = head.headers.len() + usize::from(own.is_some());
    let is_connect = matches!(connect, Some(None));
    let line = Line {
        method: if protocol.is_some() { "GET" } else { head.method.as_str() },
        // A CONNECT has nothing else to be for.
        authority: head.uri.authority().filter(|_| is_connect).map(Authority::host),
        port: head.uri.authority().and_then(Authority::port_u16),
        path: head.uri.path_and_query().map_or("/", |path| path.as_str()),
        is_empty: announced(&head.headers) == Some(0),
        may_upgrade: protocol.is_some(),
        is_connect,
        size: (count * TEXT_BYTES, count),
    };
    let fields = own.into_iter().chain(rest).chain(cookie_field).chain(handshake);
    let asked = asked::read(&line, fields, |_| false, config, bound)?;
    match protocol {
        Some(protocol) if asked.tunnel.is_none() => Err(bad(format!("a stream is not handed over to '{protocol}'"))),
        _ => Ok(asked),
    }
}

fn field<'a>(name: &'a str, value: &'a [u8]) -> (Field<'a>, bool) {
    (Field { name, value }, false)
}

fn joined_cookie(headers: &HeaderMap) -> Option<Vec<u8>> {
    let crumbs = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
    (crumbs.len() > 1).then(|| crumbs.join(&b"; "[..]))
}

/// Whether the request is gRPC's.
pub fn is_grpc(head: &Parts) -> bool {
    head.headers.get(CONTENT_TYPE).is_some_and(|value| fields::is_grpc(value.as_bytes()))
}

/// The length that a head announces. That the body keeps to it is `h2`'s to see.
pub fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH).and_then(|value| fields::number(value.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;
    use crate::ingress::asked::Tunnel;
    use http::Request;

    fn asked(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> Result<Asked, Error> {
        let request = build(Request::builder().uri("http://payments:80/pay?a=1")).body(()).unwrap();
        read(&request.into_parts().0, &Config::default(), None)
    }

    #[test]
    fn the_authority_names_the_service() {
        let head = asked(|request| request.method("POST")).unwrap().head;
        assert_eq!(
            (&head.service[..], &head.method[..], &head.path[..]),
            (&b"payments"[..], &b"POST"[..], &b"/pay?a=1"[..])
        );
        assert_eq!(head.headers.get(b"host"), Some(&b"payments"[..]));
    }

    #[test]
    fn two_names_are_none() {
        let error = asked(|request| request.header("host", "orders")).err().map(|error| error.code());
        assert_eq!(error, Some(ErrorCode::BadRequest));
        assert!(asked(|request| request.header("host", "Payments:80")).is_ok());
    }

    #[test]
    fn crumbs_of_a_cookie_are_joined() {
        let head = asked(|request| request.header("cookie", "a=1").header("cookie", "b=2")).unwrap().head;
        assert_eq!(head.headers.get_all(b"cookie").collect::<Vec<_>>(), [b"a=1; b=2"]);
    }

    #[test]
    fn grpc_says_so_and_what_must_not_be_indexed_stays_so() {
        let mut secret = HeaderValue::from_static("value");
        secret.set_sensitive(true);
        let asked =
            asked(|request| request.header("content-type", "application/grpc+proto").header("x-secret", secret));
        let asked = asked.unwrap();
        assert!(asked.grpc);
        let secret = asked.head.headers.iter().find(|field| field.name == b"x-secret").unwrap();
        assert!(secret.sensitive);
    }

    #[test]
    fn connect_leads_to_a_service_of_raw_tcp_or_is_an_upgrade() {
        let plain = asked(|request| request.method("CONNECT").uri("store:6379")).unwrap();
        assert_eq!((plain.tunnel, &plain.head.service[..]), (Some(Tunnel::Connect), &b"store"[..]));
        let websocket = |protocol| {
            let extended = |request: http::request::Builder| {
                request
                    .method("CONNECT")
                    .extension(Protocol::from_static(protocol))
                    .header("sec-websocket-version", "13")
            };
            asked(extended)
        };
        let Asked { tunnel, head, .. } = websocket("websocket").unwrap();
        assert_eq!((tunnel, &head.method[..], &head.path[..]), (Some(Tunnel::Upgrade), &b"GET"[..], &b"/pay?a=1"[..]));
        assert_eq!(head.headers.get(b"upgrade"), Some(&b"websocket"[..]));
        assert_eq!(head.headers.get(b"sec-websocket-key").map(<[u8]>::len), Some(24));
        assert!(websocket("h2c").is_err());
    }
}
