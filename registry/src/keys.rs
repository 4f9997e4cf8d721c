//! Where things stand: `{prefix}/services/{service}/{version}/{ip:port}` and `{prefix}/policies/{service}`.
//!
//! The file registry has the same layout below its directory. Every prefix that is listed or watched ends in '/':
//! `/pillion/services/pay` would also match `payments`.

use std::net::{IpAddr, SocketAddr};

use crate::endpoint::{EndpointKey, RecordError};
use crate::names::{ServiceName, shown};

/// Where the keys of an etcd registry begin unless its URL says otherwise.
pub const DEFAULT_PREFIX: &str = "/pillion";

/// The key of one endpoint: `/pillion/services/pay/1.0.0/10.0.0.7:4143`.
pub fn endpoint(prefix: &str, key: &EndpointKey) -> String {
    format!("{prefix}/services/{}/{}/{}", key.service, key.version, key.address)
}

/// What the keys of one service begin with: `/pillion/services/pay/`.
pub fn service(prefix: &str, service: &ServiceName) -> String {
    format!("{prefix}/services/{service}/")
}

/// What the keys of all services begin with: `/pillion/services/`.
pub fn services(prefix: &str) -> String {
    format!("{prefix}/services/")
}

/// The key of a service's policy: `/pillion/policies/pay`.
pub fn policy(prefix: &str, service: &ServiceName) -> String {
    format!("{prefix}/policies/{service}")
}

/// A key that names the cluster itself, so that one that was emptied is told from the one known before, whatever its
/// revision has become meanwhile: `/pillion/cluster`. Written once, by whoever registers first.
pub fn cluster(prefix: &str) -> String {
    format!("{prefix}/cluster")
}

/// The endpoint that `key` (as text, with the prefix) names.
///
/// # Errors
/// When it is no endpoint's key, or not written as [`endpoint`] writes it: one address has one key.
pub fn parse_endpoint(prefix: &str, key: &str) -> Result<EndpointKey, RecordError> {
    let rest = key
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix("/services/"))
        .ok_or_else(|| RecordError::Key(format!("'{}' is not below {prefix}/services/", shown(key))))?;
    parse_relative(rest)
}

/// The endpoint that `{service}/{version}/{ip:port}` names.
///
/// # Errors
/// As [`parse_endpoint`].
pub fn parse_relative(rest: &str) -> Result<EndpointKey, RecordError> {
    let mut parts = rest.split('/');
    let (Some(service), Some(version), Some(address), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(RecordError::Key(format!("'{}' is not service/version/ip:port", shown(rest))));
    };
    Ok(EndpointKey {
        service: service.parse().map_err(|e| RecordError::Key(format!("{e}")))?,
        version: version.parse().map_err(|e| RecordError::Key(format!("{e}")))?,
        address: parse_address(address)?,
    })
}

fn parse_address(text: &str) -> Result<SocketAddr, RecordError> {
    let refuse = |why: &str| RecordError::Key(format!("'{}' {why}", shown(text)));
    let address: SocketAddr = text.parse().map_err(|_| refuse("is not ip:port"))?;
    check_address(address).map_err(refuse)?;
    if address.to_string() != text {
        return Err(refuse("is not written in the usual way"));
    }
    Ok(address)
}

/// An address that nobody can be called at names no endpoint.
pub(crate) fn check_address(address: SocketAddr) -> Result<(), &'static str> {
    if address.port() == 0 {
        return Err("has port 0");
    }
    let (unspecified, many) = match address.ip() {
        IpAddr::V4(ip) => (ip.is_unspecified(), ip.is_multicast() || ip.is_broadcast()),
        IpAddr::V6(ip) => (ip.is_unspecified(), ip.is_multicast()),
    };
    if unspecified {
        return Err("is no address that can be called");
    }
    if many {
        return Err("is not the address of one machine");
    }
    if let SocketAddr::V6(v6) = address {
        if v6.ip().to_ipv4_mapped().is_some() {
            return Err("is an IPv4 address in disguise");
        }
        if v6.scope_id() != 0 || v6.flowinfo() != 0 {
            return Err("means something on one machine only");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip() {
        for rest in ["pay/1.0.0/10.0.0.7:4143", "a.b-c/v2+x/[2001:db8::1]:1", "pay/1/127.0.0.1:65535"] {
            let key = parse_relative(rest).expect(rest);
            let text = endpoint("/pillion", &key);
            assert_eq!(text, format!("/pillion/services/{rest}"));
            assert_eq!(parse_endpoint("/pillion", &text).expect("round trip"), key);
            assert!(text.starts_with(&service("/pillion", &key.service)));
        }
    }

    #[test]
    fn foreign_keys_are_refused() {
        for bad in [
            "",
            "pay",
            "pay/1.0.0",
            "pay/1.0.0/",
            "pay/1.0.0/10.0.0.7",
            "pay/1.0.0/10.0.0.7:0",
            "pay/1.0.0/0.0.0.0:80",
            "pay/1.0.0/[::]:80",
            "pay/1.0.0/224.0.0.1:80",
            "pay/1.0.0/255.255.255.255:80",
            "pay/1.0.0/[ff02::1]:80",
            "pay/1.0.0/[::ffff:10.0.0.1]:80",
            "pay/1.0.0/[fe80::1%2]:80",
            "pay/1.0.0/10.0.0.7:04143",
            "pay/1.0.0/[2001:DB8::1]:1",
            "pay/1.0.0/[2001:db8:0::1]:1",
            "pay/1.0.0/host:80",
            "pay/1.0.0/10.0.0.7:4143/x",
            "pay/../10.0.0.7:4143",
            "/1.0.0/10.0.0.7:4143",
            "PAY/1.0.0/10.0.0.7:4143",
        ] {
            assert!(parse_relative(bad).is_err(), "{bad}");
        }
        assert!(parse_endpoint("/pillion", "/pillionx/services/pay/1/10.0.0.7:1").is_err());
        assert!(parse_endpoint("/pillion", "/pillion/policies/pay").is_err());
    }

    #[test]
    fn a_service_is_not_the_beginning_of_another() {
        let pay = "pay".parse().expect("name");
        assert_eq!(service("/pillion", &pay), "/pillion/services/pay/");
        assert!(!"/pillion/services/payments/1/10.0.0.7:1".starts_with(&service("/pillion", &pay)));
        assert_eq!(policy("", &pay), "/policies/pay");
    }
}
