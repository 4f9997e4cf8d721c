//! The registry is gone, and nobody notices.

use pillion_tests::prelude::*;

const OUTAGE: Duration = Duration::from_secs(30);
const RATE: Duration = Duration::from_millis(25);

/// Two instances and a caller over `etcd`, with steady load.
fn under_load(mesh: &Mesh) -> (Vec<Instance>, Sidecar, Load) {
    let instances = vec![mesh.instance("payments", "p1"), mesh.instance("payments", "p2")];
    let caller = mesh.caller("orders");
    first_call(&caller, "payments");
    caller.wait_table("payments", Duration::from_secs(5), &addresses(&instances));
    let load = Load::gets(caller.outbound(), "payments", 6, RATE);
    load.run_for(50, Duration::from_secs(10));
    (instances, caller, load)
}

fn addresses(instances: &[Instance]) -> Vec<SocketAddr> {
    instances.iter().map(|instance| instance.sidecar.inbound()).collect()
}

/// Lets the outage last, and ends early when calls fail: there is nothing more to learn then.
fn endure(load: &Load) {
    let end = Instant::now() + OUTAGE;
    within(OUTAGE, || load.failed() > 0 || Instant::now() >= end);
}

fn wait_registered(etcd: &Etcd, instances: &[Instance], limit: Duration) {
    let mut wanted: Vec<String> =
        addresses(instances).iter().map(|address| format!("/pillion/services/payments/1.0.0/{address}")).collect();
    wanted.sort();
    until("every instance to be registered again", limit, || {
        let mut there = etcd.instances("payments");
        there.sort();
        if there == wanted { Ok(()) } else { Err(there) }
    });
}

#[test]
fn etcd_frozen_for_thirty_seconds_fails_no_call() {
    let mut etcd = Etcd::start();
    let mesh = Mesh::on_etcd(&etcd);
    let (instances, caller, load) = under_load(&mesh);
    etcd.freeze();
    let connected = || caller.metric("pillion_registry_connected", &[]);
    endure(&load);
    assert_eq!(connected(), 0.0, "the outage shows in a metric");
    etcd.thaw();
    wait_registered(&etcd, &instances, Duration::from_secs(20));
    until("the registry to be connected", Duration::from_secs(20), || {
        if connected() == 1.0 { Ok(()) } else { Err(connected()) }
    });
    load.run_for(50, Duration::from_secs(10));
    load.stop().assert_clean(1_000);
}

#[test]
fn etcd_killed_and_restarted_empty_fails_no_call() {
    let mut etcd = Etcd::start();
    let mesh = Mesh::on_etcd(&etcd);
    let (instances, caller, load) = under_load(&mesh);
    etcd.kill();
    endure(&load);
    etcd.restart_empty();
    wait_registered(&etcd, &instances, Duration::from_secs(15));
    load.run_for(50, Duration::from_secs(10));
    // The newcomer's revision is lower than the old one's: discovery must follow all the same.
    let third = mesh.instance("payments", "p3");
    let mut all = addresses(&instances);
    all.push(third.sidecar.inbound());
    caller.wait_table("payments", Duration::from_secs(15), &all);
    load.run_for(50, Duration::from_secs(10));
    load.stop().assert_clean(1_000);
}

#[test]
fn a_sidecar_restarted_while_etcd_is_down_serves_from_its_snapshot() {
    let mut etcd = Etcd::start();
    let mesh = Mesh::on_etcd(&etcd);
    let payments = mesh.instance("payments", "p1");
    let state = tempfile::tempdir().expect("a temporary directory");
    let snapshot = state.path().join("table.json");
    let mut caller =
        mesh.builder("orders").config(&format!("[discovery]\nsnapshot = \"{}\"\n", snapshot.display())).start();
    first_call(&caller, "payments");
    until("the snapshot to hold the service", Duration::from_secs(10), || {
        let text = std::fs::read_to_string(&snapshot).unwrap_or_default();
        if text.contains(&payments.sidecar.inbound().to_string()) { Ok(()) } else { Err(text) }
    });
    etcd.kill();
    // One second is the promise. A machine that runs other tests may stall one start, and hardly three.
    let took: Vec<Duration> = (0..3)
        .map(|_| {
            caller.term();
            let began = Instant::now();
            caller.respawn();
            until("an answer from the snapshot", Duration::from_secs(20), || {
                pillion_tests::http::try_call(caller.outbound(), &Request::get("payments", "/who"))
                    .map_err(|error| error.to_string())
                    .and_then(Response::ok)
            });
            began.elapsed()
        })
        .collect();
    assert!(took.iter().any(|took| *took < Duration::from_secs(1)), "the first answers took {took:?}");
    assert_eq!(caller.metric("pillion_table_from_disk", &[]), 1.0);
    assert!(caller.metrics().has("pillion_table_age_seconds", &[]));

    etcd.restart();
    until("the registry to take over", Duration::from_secs(20), || {
        let from_disk = caller.metric("pillion_table_from_disk", &[]);
        if from_disk == 0.0 { Ok(()) } else { Err(from_disk) }
    });
    assert_eq!(get(caller.outbound(), "payments", "/who").text(), "p1");
}

#[test]
fn a_corrupted_snapshot_is_no_reason_not_to_start() {
    let etcd = Etcd::start();
    let mesh = Mesh::on_etcd(&etcd);
    let _payments = mesh.instance("payments", "p1");
    let state = tempfile::tempdir().expect("a temporary directory");
    let snapshot = state.path().join("table.json");
    std::fs::write(&snapshot, b"{\"schema\": 1, \"services\": [[[").expect("write");
    let caller =
        mesh.builder("orders").config(&format!("[discovery]\nsnapshot = \"{}\"\n", snapshot.display())).start();
    first_call(&caller, "payments");
}

#[test]
fn a_registry_whose_name_does_not_resolve_delays_only_the_registration() {
    let files = RegistryDir::new();
    let app = App::start("payments-1");
    let payments = Sidecar::builder("payments").app(app.address()).registry(&files.url()).start();
    let record = files.path().join(format!("services/payments/1.0.0/{}", payments.inbound()));
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(record).expect("the record")).expect("it is JSON");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let snapshot = dir.path().join("table.json");
    let endpoint = serde_json::json!({
        "version": "1.0.0", "address": payments.inbound(), "instance": record["instance"],
        "secure": record["secure"], "protocol": "http/1.1", "weight": 100, "metadata": {},
    });
    let service =
        serde_json::json!({ "service": "payments", "revision": 1, "updated_ms": 1000, "endpoints": [endpoint] });
    let saved = serde_json::json!({ "schema": 1, "saved_ms": 1000, "services": [service] });
    std::fs::write(&snapshot, saved.to_string()).expect("write");

    // It listens on all addresses and is not told which one to advertise: the way to the registry would say. The name is
    // none, so no name server is asked.
    let (outbound, inbound, admin) = (Port::lease(), Port::lease(), Port::lease());
    let own = App::start("orders-1");
    let mut command = std::process::Command::new(pillion_tests::binaries::pillion());
    command
        .args(["run", "--insecure", "--service", "orders", "--registry", "etcd://registry..invalid:2379"])
        .args(["--app", &format!("http://{}", own.address())])
        .args(["--outbound", &outbound.local().to_string(), "--admin", &admin.local().to_string()])
        .args(["--inbound", &format!("0.0.0.0:{}", inbound.local().port())])
        .env("PILLION_DISCOVERY_SNAPSHOT", &snapshot);
    let orders = pillion_tests::process::Process::start("orders", command, &dir.path().join("log"));
    until("an answer from the snapshot", Duration::from_secs(10), || {
        pillion_tests::http::try_call(outbound.local(), &Request::get("payments", "/who"))
            .map_err(|error| format!("{error}\n{}", orders.tail()))
            .and_then(Response::ok)
    });
    until("the log to say why it is not registered", Duration::from_secs(30), || {
        let log = orders.log();
        let said = log.lines().any(|line| line.contains("not registered") && line.contains("registry..invalid"));
        if said { Ok(()) } else { Err(log) }
    });
    let metrics = get(admin.local(), "localhost", "/metrics").text();
    assert!(metrics.contains("\npillion_registered 0\n"), "{metrics}");
}
