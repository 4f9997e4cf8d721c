//! Instances come and go as they do in a rollout, and nobody sees an error.

use pillion_tests::ports::heavy;
use pillion_tests::prelude::*;
use std::collections::HashMap;

/// With a short drain: the apps here outlive their sidecars, which would wait for them (docs/decisions, SIGTERM).
fn instance(mesh: &Mesh, name: &str) -> Instance {
    let app = App::start(name);
    let sidecar =
        mesh.builder("payments").label(name).app(app.address()).config("[timeouts]\ndrain = \"3s\"\n").start();
    Instance { sidecar, app }
}

#[test]
fn a_rolling_restart_under_load_half_of_it_post_shows_no_error() {
    let _turn = heavy();
    let etcd = Etcd::start();
    let mesh = Mesh::on_etcd(&etcd);
    let mut instances: Vec<Instance> = ["p1", "p2", "p3"].iter().map(|name| instance(&mesh, name)).collect();
    let addresses: Vec<SocketAddr> = instances.iter().map(|instance| instance.sidecar.inbound()).collect();
    let caller = mesh.caller("orders");
    first_call(&caller, "payments");
    caller.wait_table("payments", Duration::from_secs(5), &addresses);
    let load = Load::start(
        caller.outbound(),
        16,
        Duration::from_millis(6),
        |caller, number| {
            if caller % 2 == 0 {
                Request::get("payments", "/echo?delay_ms=5").header("x-id", "any")
            } else {
                Request::post("payments", "/count?delay_ms=5", "some body")
                    .header("x-id", &format!("{caller}-{number}"))
            }
        },
        |caller, number, answer| {
            let wanted = if caller % 2 == 0 { "any".to_owned() } else { format!("{caller}-{number}") };
            if answer.status() == 200 && answer.text() == wanted { Ok(()) } else { Err(answer.summary()) }
        },
    );
    load.run_for(500, Duration::from_secs(20));
    for instance in &mut instances {
        let status = instance.sidecar.term();
        assert!(status.success(), "{status}");
        load.run_for(300, Duration::from_secs(20));
        instance.sidecar.restart();
        caller.wait_table("payments", Duration::from_secs(10), &addresses);
        load.run_for(300, Duration::from_secs(20));
    }
    let report = load.stop();
    report.assert_clean(2_000);
    let mut seen: HashMap<String, u64> = HashMap::new();
    for instance in &instances {
        for (id, count) in instance.app.ids() {
            *seen.entry(id).or_default() += count;
        }
    }
    let doubled: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
    assert!(doubled.is_empty(), "POSTs that ran twice: {doubled:?}");
}

#[test]
fn a_call_in_flight_outlives_the_removal_of_its_endpoint() {
    let etcd = Etcd::start();
    let mesh = Mesh::on_etcd(&etcd);
    let (caller, mut payments) = mesh.pair();
    let mut conn = Conn::connect(caller.outbound()).unwrap();
    conn.write(&Request::get("payments", "/slow?ms=1500").encode()).unwrap();
    until("the call to run", Duration::from_secs(5), || if payments.app.running() == 1 { Ok(()) } else { Err(()) });
    payments.sidecar.process().signal(nix::sys::signal::Signal::SIGTERM);
    until("the record to be gone while the call runs", Duration::from_millis(1_200), || {
        let there = etcd.instances("payments");
        if there.is_empty() { Ok(()) } else { Err(there) }
    });
    let answer = conn.read_response(false).unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "payments-1"), "{}", answer.summary());
    payments.app.stop();
    assert!(payments.sidecar.process().wait(Duration::from_secs(5)).success());
}
