//! A request's head in HTTP/2. Pure.

use http::uri::Authority;
use http1::Field;
use http2::RequestHead;
use wire::Header;

use crate::config::{Config, Door};
use crate::edge::fields;
use crate::edge::http2::websocket;
use crate::error::{Error, ErrorCode, Phase};
use crate::ingress::asked::{self, Asked, Line, bad};

const CONTENT_TYPE: &[u8] = b"content-type";
const COOKIE: &[u8] = b"cookie";
const HOST: &[u8] = b"host";

/// Makes a call of a request's head. `bound`: the door leads to one service only.
pub fn read(head: &RequestHead, config: &Config, bound: Option<&Door>) -> Result<Asked, Error> {
    if head.is_oversized {
        let detail = format!("a list of fields far longer than limits.header_bytes, {}", config.limits.header_bytes);
        return Err(Error::local(ErrorCode::HeaderTooLarge, Phase::Request, detail));
    }
    let protocol = head.protocol();
    let is_connect = head.method() == "CONNECT" && protocol.is_none();
    // Several, for the sake of compression, mean one (RFC 9113, 8.2.3), and only HTTP/2 knows that.
    let cookie = joined_cookie(head);
    let authority = head.authority();
    let host = head.get(HOST);
    if let (Some(authority), Some(host)) = (authority, host)
        && !host.eq_ignore_ascii_case(authority.as_bytes())
    {
        // RFC 9113, 8.3.1
        return Err(bad("Host differs from :authority"));
    }
    let own = authority.filter(|_| host.is_none()).map(|value| field("host", value.as_bytes()));
    let rest = head.fields().filter(|field| cookie.is_none() || field.name != COOKIE);
    // Names are tokens.
    let rest = rest.map(|Header { name, value, sensitive }| {
        (Field { name: std::str::from_utf8(name).unwrap_or_default(), value }, sensitive)
    });
    let cookie_field = cookie.as_deref().map(|value| field("cookie", value));
    // To an app that is asked in HTTP/1.1, an extended CONNECT (RFC 8441) is a GET with an Upgrade.
    let key = protocol
        .filter(|protocol| protocol.as_bytes() == websocket::PROTOCOL)
        .filter(|_| head.get(websocket::KEY.as_bytes()).is_none())
        .map(|_| websocket::new_key());
    let handshake = protocol.map(|protocol| field("upgrade", protocol.as_bytes())).into_iter();
    let handshake = handshake.chain(key.as_deref().map(|key| field(websocket::KEY, key.as_bytes())));
    let count = head.fields().len() + usize::from(own.is_some());
    // A CONNECT has nothing else to be for.
    let called = match authority.filter(|_| is_connect) {
        Some(text) => Some(text.parse::<Authority>().map_err(|_| bad("the authority is none"))?),
        None => None,
    };
    let line = Line {
        method: if protocol.is_some() { "GET" } else { head.method() },
        authority: called.as_ref().map(Authority::host),
        port: called.as_ref().and_then(Authority::port_u16),
        path: head.path().unwrap_or("/"),
        is_empty: head.length == Some(0),
        may_upgrade: protocol.is_some(),
        is_connect,
        size: (head.text_bytes(), count),
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

fn joined_cookie(head: &RequestHead) -> Option<Vec<u8>> {
    let mut crumbs = head.fields().filter(|field| field.name == COOKIE).map(|field| field.value);
    let (first, second) = (crumbs.next()?, crumbs.next()?);
    let mut joined = [first, second].join(&b"; "[..]);
    for crumb in crumbs {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb);
    }
    Some(joined)
}

/// Whether the request is gRPC's.
pub fn is_grpc(head: &RequestHead) -> bool {
    head.get(CONTENT_TYPE).is_some_and(fields::is_grpc)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;
    use crate::ingress::asked::Tunnel;
    use wire::Headers;

    fn asked_with(pseudo: &[(&str, &str)], fields: &[(&str, &str)]) -> Result<Asked, Error> {
        let mut headers = Headers::new();
        for (name, value) in pseudo.iter().chain(fields) {
            headers.push(name.as_bytes(), value.as_bytes());
        }
        headers.push_sensitive(b"x-secret", b"value");
        read(&RequestHead::of(&headers, usize::MAX).unwrap(), &Config::default(), None)
    }

    fn asked(fields: &[(&str, &str)]) -> Result<Asked, Error> {
        let pseudo = [(":method", "POST"), (":scheme", "http"), (":authority", "payments:80"), (":path", "/pay?a=1")];
        asked_with(&pseudo, fields)
    }

    #[test]
    fn the_authority_names_the_service() {
        let head = asked(&[]).unwrap().head;
        assert_eq!(
            (&head.service[..], &head.method[..], &head.path[..]),
            (&b"payments"[..], &b"POST"[..], &b"/pay?a=1"[..])
        );
        assert_eq!(head.headers.get(b"host"), Some(&b"payments"[..]));
    }

    #[test]
    fn two_names_are_none() {
        let error = asked(&[("host", "orders")]).err().map(|error| error.code());
        assert_eq!(error, Some(ErrorCode::BadRequest));
        assert!(asked(&[("host", "Payments:80")]).is_ok());
    }

    #[test]
    fn crumbs_of_a_cookie_are_joined() {
        let head = asked(&[("cookie", "a=1"), ("x-a", "1"), ("cookie", "b=2"), ("cookie", "c=3")]).unwrap().head;
        assert_eq!(head.headers.get_all(b"cookie").collect::<Vec<_>>(), [b"a=1; b=2; c=3"]);
    }

    #[test]
    fn grpc_says_so_and_what_must_not_be_indexed_stays_so() {
        let asked = asked(&[("content-type", "application/grpc+proto")]).unwrap();
        assert!(asked.grpc);
        let secret = asked.head.headers.iter().find(|field| field.name == b"x-secret").unwrap();
        assert!(secret.sensitive);
    }

    #[test]
    fn connect_leads_to_a_service_of_raw_tcp_or_is_an_upgrade() {
        let plain = asked_with(&[(":method", "CONNECT"), (":authority", "store:6379")], &[]).unwrap();
        assert_eq!((plain.tunnel, &plain.head.service[..]), (Some(Tunnel::Connect), &b"store"[..]));
        let websocket = |protocol| {
            let pseudo = [
                (":method", "CONNECT"),
                (":protocol", protocol),
                (":scheme", "http"),
                (":authority", "payments:80"),
                (":path", "/pay?a=1"),
            ];
            asked_with(&pseudo, &[("sec-websocket-version", "13")])
        };
        let Asked { tunnel, head, .. } = websocket("websocket").unwrap();
        assert_eq!((tunnel, &head.method[..], &head.path[..]), (Some(Tunnel::Upgrade), &b"GET"[..], &b"/pay?a=1"[..]));
        assert_eq!(head.headers.get(b"upgrade"), Some(&b"websocket"[..]));
        assert_eq!(head.headers.get(b"sec-websocket-key").map(<[u8]>::len), Some(24));
        assert!(websocket("h2c").is_err());
    }
}
