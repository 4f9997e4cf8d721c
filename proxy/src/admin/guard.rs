//! Who may do what on the admin port. Pure: decides on head and addresses alone.
//!
//! A web page can make its visitor's browser send requests to 127.0.0.1. Two things stop it: the `Host` header must
//! be one of ours (a rebound DNS name is not), and what changes state needs a header that a page of another origin
//! cannot send without being asked about first, a question that is never answered with yes.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, Uri, Version, header};

/// Header that carries the token.
pub(super) const TOKEN: &str = "x-pillion-token";

/// Header that says 'I am no web page', where there is no token.
pub(super) const ADMIN: &str = "x-pillion-admin";

/// Why a request is refused; the text is for its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) &'static str);

/// Whether the request is meant for this port: by loopback name or address, by the address it arrived at, or by a
/// name of `admin.hosts`.
pub(super) fn host(
    version: Version,
    uri: &Uri,
    headers: &HeaderMap,
    local: SocketAddr,
    hosts: &[String],
) -> Result<(), Refusal> {
    let mut named = headers.get_all(header::HOST).iter();
    let given = named.next();
    if named.next().is_some() {
        return Err(Refusal("more than one Host header"));
    }
    let given = match given {
        Some(value) => Some(value.to_str().map_err(|_| Refusal("the Host header is not ASCII"))?),
        // No browser leaves it out, HTTP/1.0 probes do.
        None if version == Version::HTTP_10 => None,
        None => return Err(Refusal("the Host header is missing")),
    };
    let absolute = uri.authority().map(http::uri::Authority::as_str);
    for authority in given.into_iter().chain(absolute) {
        if !ours(authority, local, hosts) {
            return Err(Refusal("the Host header names neither loopback, nor this address, nor one of admin.hosts"));
        }
    }
    Ok(())
}

fn ours(authority: &str, local: SocketAddr, hosts: &[String]) -> bool {
    let Some(host) = without_port(authority) else {
        return false;
    };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse::<IpAddr>();
    match address {
        Ok(address) => address.is_loopback() || address == local.ip().to_canonical(),
        Err(_) => host.eq_ignore_ascii_case("localhost") || hosts.iter().any(|known| host.eq_ignore_ascii_case(known)),
    }
}

fn without_port(authority: &str) -> Option<&str> {
    let port_at = match authority.rfind(']') {
        Some(end) => authority[end..].find(':').map(|at| end + at),
        None => authority.find(':'),
    };
    match port_at {
        Some(at) if authority[at + 1..].bytes().all(|b| b.is_ascii_digit()) => Some(&authority[..at]),
        Some(_) => None,
        None => Some(authority),
    }
}

/// Whether the request may change state. With a token: whoever sends it. Without: only a loopback peer that is no
/// browser page.
pub(super) fn change(headers: &HeaderMap, peer: SocketAddr, token: Option<&str>) -> Result<(), Refusal> {
    if headers.contains_key(header::ORIGIN) {
        return Err(Refusal("requests of web pages change nothing here"));
    }
    match token {
        Some(token) => {
            let mut sent = headers.get_all(TOKEN).iter();
            let (first, second) = (sent.next(), sent.next());
            match first {
                Some(first) if second.is_none() && same(first.as_bytes(), token.as_bytes()) => Ok(()),
                _ => Err(Refusal("the header x-pillion-token with the content of admin.token_file is needed")),
            }
        }
        None if !peer.ip().to_canonical().is_loopback() => {
            Err(Refusal("without admin.token_file only this host may change anything"))
        }
        None if headers.get(ADMIN).is_none_or(|value| value != "1") => {
            Err(Refusal("the header `x-pillion-admin: 1` is needed"))
        }
        None => Ok(()),
    }
}

/// Compares in a time that depends on the lengths alone.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)));
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name, value);
        }
        map
    }

    #[test]
    fn hosts() {
        let local: SocketAddr = "10.0.0.7:4191".parse().expect("address");
        let known = ["node1.example".to_owned()];
        let check = |host: &'static str, fine: bool| {
            let decided =
                super::host(Version::HTTP_11, &Uri::from_static("/"), &headers(&[("host", host)]), local, &known);
            assert_eq!(decided.is_ok(), fine, "{host}");
        };
        for host in [
            "localhost",
            "LOCALHOST:4191",
            "127.0.0.1:4191",
            "127.8.8.8",
            "[::1]:4191",
            "[::1]",
            "10.0.0.7:4191",
            "10.0.0.7",
            "node1.example:4191",
            "Node1.Example",
        ] {
            check(host, true);
        }
        for host in [
            "",
            "evil.example",
            "evil.example:4191",
            "10.0.0.8",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1:80@evil",
            "user@localhost",
            "localhost:x",
            "[::1",
            "2130706433",
            "0x7f.1",
            "[::1]evil:1",
        ] {
            check(host, false);
        }
    }

    #[test]
    fn every_name_of_the_request_must_be_ours() {
        let local: SocketAddr = "127.0.0.1:4191".parse().expect("address");
        let check =
            |version, uri: &'static str, map: &HeaderMap| super::host(version, &Uri::from_static(uri), map, local, &[]);
        let good = headers(&[("host", "localhost")]);
        assert!(check(Version::HTTP_11, "http://evil.example/", &good).is_err());
        assert!(check(Version::HTTP_11, "http://localhost:4191/", &good).is_ok());
        assert!(check(Version::HTTP_11, "/", &headers(&[("host", "localhost"), ("host", "localhost")])).is_err());
        assert!(check(Version::HTTP_11, "/", &HeaderMap::new()).is_err());
        assert!(check(Version::HTTP_10, "/", &HeaderMap::new()).is_ok());
    }

    #[test]
    fn changes() {
        let here: SocketAddr = "127.0.0.1:50000".parse().expect("address");
        let mapped: SocketAddr = "[::ffff:127.0.0.1]:50000".parse().expect("address");
        let far: SocketAddr = "10.0.0.9:50000".parse().expect("address");
        let check = |pairs: &[(&'static str, &'static str)], peer, token: Option<&str>, fine: bool| {
            assert_eq!(change(&headers(pairs), peer, token).is_ok(), fine, "{pairs:?} {peer} {token:?}");
        };
        check(&[], here, None, false);
        check(&[(ADMIN, "1")], here, None, true);
        check(&[(ADMIN, "1")], mapped, None, true);
        check(&[(ADMIN, "0")], here, None, false);
        check(&[(ADMIN, "1")], far, None, false);
        check(&[(ADMIN, "1"), ("origin", "http://localhost:4191")], here, None, false);
        check(&[(ADMIN, "1")], here, Some("secret"), false);
        check(&[(TOKEN, "secret")], far, Some("secret"), true);
        check(&[(TOKEN, "secreT")], here, Some("secret"), false);
        check(&[(TOKEN, "secret2")], here, Some("secret"), false);
        check(&[(TOKEN, "secret"), (TOKEN, "x")], here, Some("secret"), false);
        check(&[(TOKEN, "secret"), ("origin", "null")], here, Some("secret"), false);
    }
}
