//! The registry as an operator reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use registry::{Change, Endpoint, EtcdOptions, Options, RegistryError, RegistryUrl, ServiceName, Version};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::{Failure, RegistryArgs, complain};

/// A source tries for longer than a person waits: once it has said why the registry is not reached, it gets this much more.
const PATIENCE: Duration = Duration::from_secs(3);
/// The number in `"schema"` of what `--json` prints. It changes when a field goes or changes its meaning.
const SCHEMA: u32 = 1;

/// All endpoints, sorted by key. Records that do not parse are named on standard error and left out.
pub(crate) fn read(args: RegistryArgs) -> Result<Vec<Endpoint>, Failure> {
    let text = args.registry.as_deref().ok_or_else(|| {
        let text = "which registry? say --registry etcd://HOST:2379 or --registry file:///DIR, or set PILLION_REGISTRY";
        Failure { code: 2, text: text.to_owned() }
    })?;
    let url: RegistryUrl = text.parse().map_err(|e| Failure { code: 2, text: format!("--registry: {e}") })?;
    match &url {
        RegistryUrl::Static => {
            let text = "static endpoints stand in the sidecar's own config: ask it, at /table of its admin port";
            return Err(Failure { code: 2, text: text.to_owned() });
        }
        // A sidecar makes the directory; a tool that made it would hide a mistyped path.
        RegistryUrl::File { dir } if !dir.is_dir() => {
            return Err(Failure::registry(format!("{} is not a directory: is the path right?", dir.display())));
        }
        _ => {}
    }
    let options = Options { etcd: etcd_options(args)?, ..Options::default() };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("no runtime: {e}")))?;
    runtime.block_on(async {
        let (send, mut changes) = mpsc::unbounded_channel();
        let source = registry::open(&url, options, send).map_err(|e| explain(&url, &e))?;
        let mut why = None;
        let list = {
            let mut list = source.list();
            loop {
                let patience = tokio::time::sleep(if why.is_some() { PATIENCE } else { Duration::MAX });
                tokio::select! {
                    biased;
                    result = &mut list => break result,
                    Some(change) = changes.recv() => heed(change, &mut why),
                    () = patience => break Err(RegistryError::Timeout { doing: "listing", after: PATIENCE }),
                }
            }
        };
        drop(source);
        while let Ok(change) = changes.try_recv() {
            heed(change, &mut why);
        }
        list.map_err(|e| match (e, why) {
            // The list only knows that its time was over; the connection knows why.
            (RegistryError::Timeout { .. }, Some(why)) => explain(&url, &RegistryError::Unavailable(why)),
            (e, _) => explain(&url, &e),
        })
    })
}

/// What a source tells besides its list.
fn heed(change: Change, why: &mut Option<String>) {
    match change {
        Change::Rejected { key, reason } => complain(&format!("{key} is skipped: {reason}")),
        Change::Disconnected { error } => *why = Some(error),
        Change::Connected => *why = None,
        _ => {}
    }
}

fn etcd_options(args: RegistryArgs) -> Result<EtcdOptions, Failure> {
    let pem = |path: Option<std::path::PathBuf>| {
        path.map(|path| std::fs::read(&path).map_err(|e| Failure::new(format!("{}: {e}", path.display())))).transpose()
    };
    Ok(EtcdOptions {
        // The URL's user stands unless another is given; here there is none to give.
        user: None,
        password: args.etcd_password,
        ca_pem: pem(args.etcd_ca)?,
        cert_pem: pem(args.etcd_cert)?,
        key_pem: pem(args.etcd_key)?,
        reread: None,
    })
}

fn explain(url: &RegistryUrl, error: &RegistryError) -> Failure {
    // A source that cannot log in goes on trying, and so calls it 'not reached'. For a person it is a refusal.
    let error = match error {
        RegistryError::Unavailable(why) if is_refusal(why) => &RegistryError::Refused(why.clone()),
        other => other,
    };
    let hint = match (error, url) {
        (RegistryError::Unavailable(_) | RegistryError::Timeout { .. }, RegistryUrl::Etcd { .. }) => {
            ": is etcd running there, and is the port right?"
        }
        (RegistryError::Refused(_), RegistryUrl::Etcd { .. }) => {
            ": are the user (?user=NAME in the URL) and PILLION_ETCD_PASSWORD right, and may they read the prefix?"
        }
        _ => "",
    };
    Failure::registry(format!("{url}: {error}{hint}"))
}

/// etcd's own words for what a password would mend.
fn is_refusal(why: &str) -> bool {
    ["user name is empty", "authentication failed", "permission denied", "authentication is not enabled"]
        .iter()
        .any(|words| why.contains(words))
}

/// One line a service.
pub(crate) fn services(list: &[Endpoint], json: bool) -> String {
    #[derive(Default)]
    struct Service<'a> {
        versions: BTreeSet<&'a Version>,
        endpoints: usize,
    }
    #[derive(Serialize)]
    struct ServiceOut<'a> {
        service: &'a ServiceName,
        versions: &'a BTreeSet<&'a Version>,
        endpoints: usize,
    }
    #[derive(Serialize)]
    struct Out<'a> {
        schema: u32,
        services: Vec<ServiceOut<'a>>,
    }
    let mut services: BTreeMap<&ServiceName, Service<'_>> = BTreeMap::new();
    for endpoint in list {
        let service = services.entry(&endpoint.key.service).or_default();
        service.versions.insert(&endpoint.key.version);
        service.endpoints += 1;
    }
    if json {
        let services = services
            .iter()
            .map(|(name, s)| ServiceOut { service: name, versions: &s.versions, endpoints: s.endpoints })
            .collect();
        return to_line(&Out { schema: SCHEMA, services });
    }
    let rows = services.iter().map(|(name, service)| {
        let versions: Vec<&str> = service.versions.iter().map(|v| v.as_str()).collect();
        vec![name.to_string(), versions.join(","), service.endpoints.to_string()]
    });
    table(&["SERVICE", "VERSIONS", "ENDPOINTS"], rows.collect())
}

/// One line an endpoint.
pub(crate) fn endpoints(list: &[Endpoint], json: bool) -> String {
    #[derive(Serialize)]
    struct EndpointOut<'a> {
        service: &'a ServiceName,
        version: &'a Version,
        address: std::net::SocketAddr,
        instance: &'a str,
        secure: bool,
        protocol: &'a str,
        weight: u32,
        metadata: &'a BTreeMap<String, String>,
    }
    #[derive(Serialize)]
    struct Out<'a> {
        schema: u32,
        endpoints: Vec<EndpointOut<'a>>,
    }
    if json {
        let endpoints = list
            .iter()
            .map(|e| EndpointOut {
                service: &e.key.service,
                version: &e.key.version,
                address: e.key.address,
                instance: e.instance.as_str(),
                secure: e.secure,
                protocol: &e.protocol,
                weight: e.weight,
                metadata: &e.metadata,
            })
            .collect();
        return to_line(&Out { schema: SCHEMA, endpoints });
    }
    let rows = list.iter().map(|e| {
        vec![
            e.key.service.to_string(),
            e.key.version.to_string(),
            e.key.address.to_string(),
            e.instance.to_string(),
            if e.secure { "yes" } else { "no" }.to_owned(),
            e.protocol.clone(),
            e.weight.to_string(),
        ]
    });
    table(&["SERVICE", "VERSION", "ADDRESS", "INSTANCE", "MTLS", "PROTOCOL", "WEIGHT"], rows.collect())
}

fn to_line<T: Serialize>(value: &T) -> String {
    // Text, numbers and maps with text keys: serde_json has no reason to refuse them.
    let mut line = serde_json::to_string(value).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}"));
    line.push('\n');
    line
}

/// Columns aligned to the left, two spaces between, no space at the end of a line.
fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut widths: Vec<usize> = head.iter().map(|title| title.len()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (cell, width) in cells.zip(&widths) {
            // Writing into a String cannot fail.
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line(&mut head.iter().copied());
    for row in &rows {
        line(&mut row.iter().map(String::as_str));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use registry::{EndpointKey, InstanceId};

    fn endpoint(service: &str, version: &str, address: &str) -> Endpoint {
        let key = EndpointKey {
            service: service.parse().unwrap(),
            version: version.parse().unwrap(),
            address: address.parse().unwrap(),
        };
        Endpoint::new(key, "i-1".parse::<InstanceId>().unwrap())
    }

    fn some() -> Vec<Endpoint> {
        vec![
            endpoint("orders", "1.0.0", "10.0.0.1:4143"),
            endpoint("payments", "1.0.0", "10.0.0.2:4143"),
            endpoint("payments", "2.0.0-rc.1", "[2001:db8::1]:4143"),
        ]
    }

    #[test]
    fn tables_are_aligned() {
        let expected = "\
SERVICE   VERSIONS          ENDPOINTS
orders    1.0.0             1
payments  1.0.0,2.0.0-rc.1  2
";
        assert_eq!(services(&some(), false), expected);
        let expected = "\
SERVICE   VERSION     ADDRESS             INSTANCE  MTLS  PROTOCOL  WEIGHT
orders    1.0.0       10.0.0.1:4143       i-1       yes   http/1.1  100
payments  1.0.0       10.0.0.2:4143       i-1       yes   http/1.1  100
payments  2.0.0-rc.1  [2001:db8::1]:4143  i-1       yes   http/1.1  100
";
        assert_eq!(endpoints(&some(), false), expected);
        assert_eq!(services(&[], false), "SERVICE  VERSIONS  ENDPOINTS\n");
    }

    #[test]
    fn json_is_stable() {
        assert_eq!(
            services(&some(), true),
            "{\"schema\":1,\"services\":[{\"service\":\"orders\",\"versions\":[\"1.0.0\"],\"endpoints\":1},{\"service\":\"payments\",\"versions\":[\"1.0.0\",\"2.0.0-rc.1\"],\"endpoints\":2}]}\n"
        );
        assert_eq!(
            endpoints(&some()[..1], true),
            "{\"schema\":1,\"endpoints\":[{\"service\":\"orders\",\"version\":\"1.0.0\",\"address\":\"10.0.0.1:4143\",\"instance\":\"i-1\",\"secure\":true,\"protocol\":\"http/1.1\",\"weight\":100,\"metadata\":{}}]}\n"
        );
        assert_eq!(endpoints(&[], true), "{\"schema\":1,\"endpoints\":[]}\n");
    }

    #[test]
    fn a_refusal_is_told_apart_from_an_outage() {
        let url: RegistryUrl = "etcd://user:secret@h:2379".parse().unwrap();
        let check = |error: RegistryError, words: &str| {
            let failure = explain(&url, &error);
            assert_eq!(failure.code, 3);
            assert!(failure.text.contains(words) && !failure.text.contains("secret"), "{}", failure.text);
        };
        check(RegistryError::Unavailable("tcp connect error".into()), "is etcd running there");
        check(RegistryError::Unavailable("etcdserver: user name is empty".into()), "PILLION_ETCD_PASSWORD");
        check(RegistryError::Refused("etcdserver: permission denied".into()), "may they read the prefix");
        check(RegistryError::Timeout { doing: "listing", after: PATIENCE }, "is etcd running there");
    }
}
