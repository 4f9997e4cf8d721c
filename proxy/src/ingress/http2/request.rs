//! A request's head in HTTP/2. Pure.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};
use http1::Field;

use crate::config::{Door, Limits};
use crate::edge::fields;
use crate::error::Error;
use crate::ingress::asked::{self, Asked, Line, bad};

/// What a field's name and value take beside a line of text, about: enough that a head is made without growing.
const TEXT_BYTES: usize = 48;

/// Makes a call of a request's head. `bound`: the door leads to one service only.
pub fn read(head: &Parts, limits: &Limits, bound: Option<&Door>) -> Result<Asked, Error> {
    if head.method == Method::CONNECT {
        return Err(bad("CONNECT is not offered on this port"));
    }
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
    let count = head.headers.len() + usize::from(own.is_some());
    let line = Line {
        method: head.method.as_str(),
        authority: None,
        path: head.uri.path_and_query().map_or("/", |path| path.as_str()),
        is_empty: announced(&head.headers) == Some(0),
        may_upgrade: false,
        is_connect: false,
        size: (count * TEXT_BYTES, count),
    };
    asked::read(&line, own.into_iter().chain(rest).chain(cookie_field), |_| false, limits, bound)
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
    use http::Request;

    fn asked(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> Result<Asked, Error> {
        let request = build(Request::builder().uri("http://payments:80/pay?a=1")).body(()).unwrap();
        read(&request.into_parts().0, &Limits::default(), None)
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
    fn connect_is_refused() {
        assert!(asked(|request| request.method("CONNECT")).is_err());
    }
}
