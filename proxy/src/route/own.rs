//! What the paths of the sidecar's own interfaces mean, for callers that call it by its address and not a service by its name. Pure.

/// What a request to the sidecar itself asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own<'a> {
    /// A call of a service.
    Call {
        /// Which.
        service: &'a str,
        /// The path that the service is to see, with the query.
        path: &'a str,
        /// It is a procedure that is called: with POST.
        rpc: bool,
    },
    /// JSON-RPC 2.0: the methods are those of this service.
    JsonRpc {
        /// Which.
        service: &'a str,
    },
    /// Whether the sidecar is up (Dapr).
    Health,
    /// Who the sidecar is (Dapr).
    Metadata,
}

/// Reads a path: `/rpc/{service}/{method}`, `/jsonrpc/{service}`, and of Dapr's HTTP API (v1.0)
/// `/v1.0/invoke/{app-id}/method/{path…}`, `/v1.0/healthz` and `/v1.0/metadata`.
pub fn own(target: &str) -> Option<Own<'_>> {
    let path = target.split('?').next().unwrap_or_default();
    match path {
        "/v1.0/healthz" | "/v1.0/healthz/outbound" => return Some(Own::Health),
        "/v1.0/metadata" => return Some(Own::Metadata),
        _ => {}
    }
    if let Some(service) = path.strip_prefix("/jsonrpc/") {
        return segment(service).map(|service| Own::JsonRpc { service });
    }
    // What follows is cut out of the target as it came, with its first slash and its query.
    if let Some(rest) = target.strip_prefix("/rpc/") {
        let (service, method) = rest.split_at(rest.find('/')?);
        let name = method[1..].split('?').next().unwrap_or_default();
        segment(name)?;
        return Some(Own::Call { service: segment(service)?, path: method, rpc: true });
    }
    let rest = target.strip_prefix("/v1.0/invoke/")?;
    let (service, rest) = rest.split_at(rest.find('/')?);
    let path = rest.strip_prefix("/method").filter(|path| path.starts_with('/'))?;
    Some(Own::Call { service: segment(service)?, path, rpc: false })
}

fn segment(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty() && !text.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_means_one_thing() {
        let call = |service, path, rpc| Some(Own::Call { service, path, rpc });
        for (target, want) in [
            ("/rpc/payments/charge", call("payments", "/charge", true)),
            ("/rpc/payments/charge?dry=1", call("payments", "/charge?dry=1", true)),
            ("/rpc/payments/", None),
            ("/rpc/payments", None),
            ("/rpc//charge", None),
            ("/rpc/payments/a/b", None),
            ("/jsonrpc/payments", Some(Own::JsonRpc { service: "payments" })),
            ("/jsonrpc/payments?x=1", Some(Own::JsonRpc { service: "payments" })),
            ("/jsonrpc/", None),
            ("/jsonrpc/payments/x", None),
            ("/v1.0/invoke/payments/method/a/b%2Fc?d=/", call("payments", "/a/b%2Fc?d=/", false)),
            ("/v1.0/invoke/payments/method/", call("payments", "/", false)),
            ("/v1.0/invoke/payments/method", None),
            ("/v1.0/invoke/payments/methods/x", None),
            ("/v1.0/invoke//method/x", None),
            ("/v1.0/healthz", Some(Own::Health)),
            ("/v1.0/healthz/outbound?x", Some(Own::Health)),
            ("/v1.0/metadata", Some(Own::Metadata)),
            ("/v1.0/state/store", None),
            ("/", None),
            ("*", None),
        ] {
            assert_eq!(own(target), want, "{target}");
        }
    }
}
