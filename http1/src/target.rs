//! The request target and Host: what they may look like, so that nobody reads another server or another path out of them.

use crate::refusal::Refusal;

/// Checks that the target has one of the four forms (RFC 9112, 3.2), and the one that goes with the method.
pub(crate) fn check_target(method: &str, target: &str) -> Result<(), Refusal> {
    let is_valid = match target.as_bytes() {
        _ if method == "CONNECT" => is_authority(target.as_bytes(), Port::Needed),
        [b'/', ..] => true,
        b"*" => method == "OPTIONS",
        _ => is_absolute(target),
    };
    // Fragments are the client's own (RFC 9110, 7.1); sent, they are read differently by different servers.
    if is_valid && !target.contains('#') { Ok(()) } else { Err(Refusal::Syntax("the target")) }
}

/// Checks Host: a name or an address, perhaps with a port (RFC 9110, 7.2). Empty, it names none.
pub(crate) fn check_host(host: &[u8]) -> Result<(), Refusal> {
    if host.is_empty() || is_authority(host, Port::Optional) { Ok(()) } else { Err(Refusal::Host) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Optional,
    Needed,
}

fn is_absolute(target: &str) -> bool {
    let Some((scheme, rest)) = target.split_once("://") else { return false };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    // No other scheme's resources are asked for over HTTP here.
    ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
        && is_authority(authority.as_bytes(), Port::Optional)
}

/// Stricter than RFC 3986: no user, which servers disagree about, nothing encoded, which one decodes and another does not, and
/// none of the marks that no name has (a comma, say, may be two Hosts that somebody joined).
fn is_authority(authority: &[u8], port: Port) -> bool {
    // An IPv6 address has colons of its own, within brackets.
    let (host, rest) = match authority {
        [b'[', bare @ ..] => {
            let Some(end) = bare.iter().position(|byte| *byte == b']') else { return false };
            if !bare[..end].iter().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte)) {
                return false;
            }
            (&bare[..end], &bare[end + 1..])
        }
        _ => {
            let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
            authority.split_at(authority.iter().position(|byte| !is_plain(byte)).unwrap_or(authority.len()))
        }
    };
    let digits = match rest {
        [] => port == Port::Optional,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit) && !(digits.is_empty() && port == Port::Needed),
        _ => false,
    };
    digits && !host.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_the_form_that_goes_with_its_method() {
        for (method, target, valid) in [
            ("GET", "/", true),
            ("GET", "//a/../%2e?b=c?d", true),
            ("GET", "/a#b", false),
            ("OPTIONS", "*", true),
            ("GET", "*", false),
            ("OPTIONS", "**", false),
            ("GET", "a", false),
            ("GET", "a/b", false),
            ("GET", "a:80", false),
            ("GET", "?a", false),
            ("GET", "http://a", true),
            ("GET", "HTTPS://a:80?b", true),
            ("GET", "http://[::1]:80/a", true),
            ("GET", "http:/a", false),
            ("GET", "http:///a", false),
            ("GET", "1http://a/", false),
            ("GET", "ftp://a/", false),
            ("GET", "://a/", false),
            ("GET", "http://user@a/", false),
            ("GET", "http://a:b/", false),
            ("GET", "http://a\\b/", false),
            ("GET", "http://a%2fb/", false),
            ("GET", "http://[::1/", false),
            ("CONNECT", "a:80", true),
            ("CONNECT", "a", false),
            ("CONNECT", "a:", false),
            ("CONNECT", "/a", false),
            ("CONNECT", "http://a:80", false),
            ("CONNECT", "a:80#", false),
        ] {
            assert_eq!(check_target(method, target).is_ok(), valid, "{method} {target}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address() {
        for host in ["", "a", "A-1_b.c~:", "a:80", "[::1]", "[::ffff:127.0.0.1]:80", "127.0.0.1:8080"] {
            assert_eq!(check_host(host.as_bytes()), Ok(()), "{host}");
        }
        for host in [
            ":80", "a b", "a,b", "a/b", "a@b", "a\\b", "a:b", "a:80:80", "a:-1", "a%62", "[]", "[a", "[g]", "[::1]a",
            "\u{e4}",
        ] {
            assert_eq!(check_host(host.as_bytes()), Err(Refusal::Host), "{host}");
        }
    }
}
