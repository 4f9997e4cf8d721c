//! `pillionctl` against both registries.

use pillion_tests::prelude::*;
use pillion_tests::process::run;
use std::process::Command;

fn pillionctl(registry: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(pillion_tests::binaries::pillionctl());
    command.args(["--registry", registry]).args(arguments);
    run(command, Duration::from_secs(20)).success().to_owned()
}

#[test]
fn services_and_endpoints_are_listed_from_etcd_and_from_files() {
    let etcd = Etcd::start();
    for mesh in [Mesh::on_etcd(&etcd), Mesh::on_files()] {
        let (_caller, payments) = mesh.pair();
        let billing = mesh.instance("billing", "billing-1");
        until("both to be listed", Duration::from_secs(10), || {
            let services = pillionctl(mesh.url(), &["services"]);
            if services.contains("payments") && services.contains("billing") { Ok(()) } else { Err(services) }
        });
        let address = payments.sidecar.inbound().to_string();
        let one = pillionctl(mesh.url(), &["endpoints", "payments"]);
        assert!(one.contains(&address) && !one.contains(&billing.sidecar.inbound().to_string()), "{one}");
        let all = pillionctl(mesh.url(), &["endpoints"]);
        assert!(all.contains(&address) && all.contains(&billing.sidecar.inbound().to_string()), "{all}");
        let json = pillionctl(mesh.url(), &["endpoints", "payments", "--json"]);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
        assert!(value.to_string().contains(&address), "{value}");
    }
}

#[test]
fn a_registry_that_is_down_is_a_clear_error_in_a_bounded_time() {
    let nobody = Port::lease();
    let mut command = Command::new(pillion_tests::binaries::pillionctl());
    command.args(["--registry", &format!("etcd://{}", nobody.local()), "services"]);
    let output = run(command, Duration::from_secs(30));
    assert!(output.code.is_some_and(|code| code != 0), "{output:?}");
    assert!(output.stderr.contains(&nobody.local().to_string()), "{output:?}");
}
