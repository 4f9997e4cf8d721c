//! The main job: a plain local call reaches another service through two sidecars, in every way to name it.

use pillion_tests::prelude::*;
use pillion_tests::process::run;
use std::process::Command;

#[test]
fn a_plain_curl_reaches_the_app_over_etcd() {
    let etcd = Etcd::start();
    let mesh = Mesh::on_etcd(&etcd);
    let (caller, payments) = mesh.pair();
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--noproxy", "*", "-H", "Host: payments", &format!("http://{}/who", caller.outbound())]);
    assert_eq!(run(curl, Duration::from_secs(10)).success(), "payments-1");
    assert_eq!(
        etcd.instances("payments"),
        [format!("/pillion/services/payments/1.0.0/{}", payments.sidecar.inbound())]
    );
    assert!(etcd.instances("orders").is_empty(), "a client-only sidecar registers nothing");
}

#[test]
fn a_service_can_be_named_in_every_documented_way() {
    let mesh = Mesh::on_files();
    let (caller, _payments) = mesh.pair();
    let door = caller.outbound();
    for host in ["payments", "payments:80", "payments:4140", "payments.pillion", "payments.pillion:8080", "Payments"] {
        assert_eq!(get(door, host, "/who").text(), "payments-1", "Host: {host}");
    }
    for absolute in ["http://payments/who", "http://payments:80/who", "http://payments.pillion/who"] {
        assert_eq!(get(door, "anything", absolute).text(), "payments-1", "{absolute}");
    }
    let named = Request::get("127.0.0.1:4140", "/who").header("x-pillion-service", "payments");
    assert_eq!(pillion_tests::http::call(door, &named).text(), "payments-1");

    let mut curl = Command::new("curl");
    curl.env_remove("no_proxy").env_remove("NO_PROXY");
    curl.env("http_proxy", format!("http://{door}")).args(["-sS", "http://payments/who"]);
    assert_eq!(run(curl, Duration::from_secs(10)).success(), "payments-1", "curl with http_proxy");
}

#[test]
fn a_door_of_the_config_leads_to_its_service() {
    let mesh = Mesh::on_files();
    let _payments = mesh.instance("payments", "payments-1");
    let port = Port::lease();
    let caller = mesh
        .builder("orders")
        .config(&format!("[[outbound]]\nlisten = \"{}\"\nservice = \"payments\"\n", port.local()))
        .start();
    first_call(&caller, "payments");
    assert_eq!(get(port.local(), "whatever.example", "/who").text(), "payments-1");
    assert_eq!(get(port.local(), &port.local().to_string(), "/who").text(), "payments-1");
}

#[test]
fn a_version_can_be_asked_for() {
    let mesh = Mesh::on_files();
    let (old, new) = (App::start("old"), App::start("new"));
    let _old = mesh.builder("payments").app(old.address()).arg("--version").arg("1.0.0").start();
    let _new = mesh.builder("payments").app(new.address()).arg("--version").arg("2.0.0").start();
    let caller = mesh.caller("orders");
    let ask = |version: &str| {
        let request = Request::get("payments", "/who").header("x-pillion-version", version);
        pillion_tests::http::call(caller.outbound(), &request)
    };
    for (version, name) in [("1.0.0", "old"), ("2.0.0", "new")] {
        until("the instance to be known", Duration::from_secs(10), || ask(version).ok());
        for _ in 0..10 {
            assert_eq!(ask(version).text(), name);
        }
    }
    let absent = ask("3.0.0");
    assert_eq!(
        (absent.status(), absent.header("x-pillion-error")),
        (503, Some("no-endpoints")),
        "{}",
        absent.summary()
    );
}

#[test]
fn insecure_is_a_word_and_several_workers_share_the_calls() {
    let registry = RegistryDir::new();
    let app = App::start("payments-1");
    let _payments =
        Sidecar::builder("payments").app(app.address()).registry(&registry.url()).arg("--workers").arg("2").start();
    let caller = Sidecar::builder("orders").registry(&registry.url()).arg("--workers").arg("2").start();
    first_call(&caller, "payments");
    let load = Load::gets(caller.outbound(), "payments", 8, Duration::ZERO);
    load.run_for(2_000, Duration::from_secs(30));
    load.stop().assert_clean(2_000);
}

#[test]
fn a_static_registry_needs_nothing_at_all() {
    let ca = Ca::new();
    let app = App::start("payments-1");
    let nowhere = RegistryDir::new();
    let payments =
        Sidecar::builder("payments").app(app.address()).registry(&nowhere.url()).identity(ca.issue("payments")).start();
    let caller = Sidecar::builder("orders")
        .registry("static")
        .identity(ca.issue("orders"))
        .config(&format!("[[endpoint]]\nservice = \"payments\"\naddress = \"{}\"\n", payments.inbound()))
        .start();
    assert_eq!(get(caller.outbound(), "payments", "/who").text(), "payments-1");
}
