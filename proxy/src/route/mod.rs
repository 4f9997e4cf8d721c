//! From what a caller wrote to the service it means. Pure.

mod own;
mod timeout;

pub use own::{Own, own};
pub use timeout::{deadline_of, grpc_timeout};

use std::borrow::Cow;
use std::net::IpAddr;

use crate::error::{Error, ErrorCode, Phase};

/// Names that may follow a service's name in a host, for clients that insist on a dot.
const SUFFIX: &str = ".pillion";

/// Where a caller may name the service, in the order in which it counts.
#[derive(Debug, Default, Clone, Copy)]
pub struct Names<'a> {
    /// `x-pillion-service`
    pub header: Option<&'a str>,
    /// The authority of a request in absolute form (`http_proxy`).
    pub authority: Option<&'a str>,
    /// `Host`
    pub host: Option<&'a str>,
}

/// The service that is called: lower case, without port and `.pillion`. Whether it is a valid name is for the registry's
/// types to say; whether it exists for the table.
pub fn service_called<'a>(names: Names<'a>) -> Result<Cow<'a, str>, Error> {
    if let Some(name) = names.header {
        return Ok(lower(name.trim()));
    }
    let absolute = names.authority.is_some();
    let Some(host) = names.authority.or(names.host).map(str::trim).filter(|host| !host.is_empty()) else {
        return Err(refuse(ErrorCode::NoServiceNamed, "the request has no Host"));
    };
    let name = without_port(host);
    let name = name.strip_suffix('.').unwrap_or(name);
    if is_address(name) {
        // Without a proxy's absolute form the caller merely forgot to name a service; with it, it wants that address.
        return Err(if absolute {
            refuse(ErrorCode::ForbiddenDestination, format!("'{host}' is an address"))
        } else {
            refuse(ErrorCode::NoServiceNamed, format!("Host is '{host}', an address"))
        });
    }
    let name = lower(name);
    Ok(match name {
        Cow::Borrowed(name) => Cow::Borrowed(name.strip_suffix(SUFFIX).unwrap_or(name)),
        Cow::Owned(name) => Cow::Owned(name.strip_suffix(SUFFIX).map(str::to_owned).unwrap_or(name)),
    })
}

fn refuse(code: ErrorCode, detail: impl Into<String>) -> Error {
    Error::local(code, Phase::Route, detail)
}

/// A name as services have it: names of hosts have no case, and neither have those of services, wherever they stand. So the full name of
/// a gRPC service may stand for the service that is registered under it.
pub fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

fn without_port(host: &str) -> &str {
    let last = if host.starts_with('[') {
        host.bytes().position(|byte| byte == b']').map(|at| at + 1)
    } else {
        host.bytes().position(|byte| byte == b':')
    };
    &host[..last.unwrap_or(host.len())]
}

/// Addresses in every spelling that some resolver takes: dotted, short, decimal, octal, hexadecimal, IPv6, localhost.
fn is_address(name: &str) -> bool {
    // Each of them begins with a digit, or is one of these; most names are known to be none by their first letter.
    if !name.starts_with(|first: char| first.is_ascii_digit() || first == '[') && !name.contains(':') {
        return name.eq_ignore_ascii_case("localhost");
    }
    if name.starts_with('[') || name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok() {
        return true;
    }
    // inet_aton: one to four numbers, each decimal, octal or hexadecimal.
    let mut parts = name.split('.');
    name.split('.').count() <= 4
        && parts.all(|part| match part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")) {
            Some(hex) => !hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
            None => !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(header: Option<&str>, authority: Option<&str>, host: Option<&str>, want: Result<&str, ErrorCode>) {
        let got = service_called(Names { header, authority, host });
        match want {
            Ok(name) => assert_eq!(got.expect("a service"), name),
            Err(code) => assert_eq!(got.expect_err("an error").code(), code),
        }
    }

    #[test]
    fn every_way_to_name_a_service() {
        check(None, None, Some("payments"), Ok("payments"));
        check(None, None, Some("payments:80"), Ok("payments"));
        check(None, None, Some("Payments.Pillion:4140"), Ok("payments"));
        check(None, None, Some("payments.pillion."), Ok("payments"));
        check(None, Some("orders"), Some("payments"), Ok("orders"));
        check(Some("billing"), Some("orders"), Some("127.0.0.1:4140"), Ok("billing"));
        check(Some(" Billing "), None, None, Ok("billing"));
    }

    #[test]
    fn no_name_and_addresses_are_refused() {
        check(None, None, None, Err(ErrorCode::NoServiceNamed));
        check(None, None, Some(""), Err(ErrorCode::NoServiceNamed));
        check(None, None, Some("127.0.0.1:4140"), Err(ErrorCode::NoServiceNamed));
        check(None, None, Some("localhost:4140"), Err(ErrorCode::NoServiceNamed));
        for address in [
            "169.254.169.254",
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "[::1]:80",
            "[::ffff:127.0.0.1]",
            "localhost",
        ] {
            check(None, Some(address), None, Err(ErrorCode::ForbiddenDestination));
        }
    }

    #[test]
    fn a_name_that_merely_begins_with_digits_is_a_name() {
        check(None, None, Some("3scale"), Ok("3scale"));
        check(None, None, Some("v1.api"), Ok("v1.api"));
    }
}
