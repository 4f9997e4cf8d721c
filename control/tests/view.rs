//! `pillionctl services` and `endpoints`, with the real binary over a real file registry.

mod common;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use common::{check_fails, pillionctl, run};
use registry::{Change, Endpoint, EndpointKey, InstanceId, Options, RegistryUrl, Source};
use tempfile::TempDir;
use tokio::sync::mpsc;

/// Registers an endpoint as a sidecar does, and waits until it stands.
async fn register(dir: &TempDir, service: &str, version: &str, address: &str) -> Arc<dyn Source> {
    let url = RegistryUrl::File { dir: dir.path().to_owned() };
    let (send, mut changes) = mpsc::unbounded_channel();
    let source = registry::open(&url, Options::default(), send).unwrap();
    let key = EndpointKey {
        service: service.parse().unwrap(),
        version: version.parse().unwrap(),
        address: address.parse().unwrap(),
    };
    source.register(Endpoint::new(key, InstanceId::generate()));
    let stands =
        async { while !matches!(changes.recv().await.expect("the source lives"), Change::Registered { .. }) {} };
    tokio::time::timeout(Duration::from_secs(10), stands).await.expect("registered in time");
    source
}

fn over(dir: &TempDir) -> Command {
    let mut command = pillionctl();
    command.arg("--registry").arg(format!("file://{}", dir.path().display()));
    command
}

#[tokio::test]
async fn services_and_endpoints() {
    let dir = TempDir::new().unwrap();
    let _orders = register(&dir, "orders", "1.0.0", "127.0.0.1:7001").await;
    let _first = register(&dir, "payments", "1.0.0", "127.0.0.1:7002").await;
    let second = register(&dir, "payments", "2.0.0", "127.0.0.1:7003").await;

    let expected = "\
SERVICE   VERSIONS     ENDPOINTS
orders    1.0.0        1
payments  1.0.0,2.0.0  2
";
    assert_eq!(run(over(&dir).arg("services")), expected);
    let url = format!("file://{}", dir.path().display());
    assert_eq!(run(pillionctl().env("PILLION_REGISTRY", url).arg("services")), expected, "by the variable");

    let all: serde_json::Value = serde_json::from_str(&run(over(&dir).args(["endpoints", "--json"]))).unwrap();
    assert_eq!(all["schema"], 1);
    assert_eq!(all["endpoints"].as_array().unwrap().len(), 3);
    let one: serde_json::Value =
        serde_json::from_str(&run(over(&dir).args(["endpoints", "payments", "--json"]))).unwrap();
    let addresses: Vec<_> = one["endpoints"].as_array().unwrap().iter().map(|e| e["address"].clone()).collect();
    assert_eq!(addresses, ["127.0.0.1:7002", "127.0.0.1:7003"]);
    let text = run(over(&dir).args(["endpoints", "orders"]));
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(
        text.starts_with("SERVICE  VERSION  ADDRESS") && text.contains("orders   1.0.0    127.0.0.1:7001"),
        "{text}"
    );

    second.withdraw().await.unwrap();
    let text = run(over(&dir).args(["endpoints", "payments"]));
    assert!(!text.contains("7003"), "{text}");

    // Nothing found is a code of its own, and in --json still a valid answer.
    check_fails(over(&dir).args(["endpoints", "nobody"]), 4, &["'nobody'", "pillionctl services"]);
    let output = over(&dir).args(["endpoints", "nobody", "--json"]).output().unwrap();
    assert_eq!(output.stdout, b"{\"schema\":1,\"endpoints\":[]}\n");
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let dir = TempDir::new().unwrap();
    check_fails(pillionctl().arg("services"), 2, &["which registry?", "PILLION_REGISTRY"]);
    check_fails(pillionctl().args(["--registry", "static", "services"]), 2, &["/table"]);
    let missing = format!("file://{}/nowhere", dir.path().display());
    check_fails(pillionctl().args(["services", "--registry", &missing]), 3, &["nowhere", "is the path right?"]);
    assert!(!dir.path().join("nowhere").exists(), "a tool that reads makes nothing");
    let output = pillionctl().args(["--registry", "redis://me:secret@h", "services"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("secret"), "a password is not repeated");
    check_fails(over(&dir).args(["endpoints", "Bad Name"]), 2, &["Bad Name"]);
}
