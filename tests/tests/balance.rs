//! Balance per call: a newcomer gets its share, a dead instance costs nobody a GET.

use pillion_tests::ports::heavy;
use pillion_tests::prelude::*;

#[test]
fn a_third_instance_takes_a_fair_share_within_two_seconds() {
    let _turn = heavy();
    let etcd = Etcd::start();
    let mesh = Mesh::on_etcd(&etcd);
    let _first = mesh.instance("payments", "p1");
    let _second = mesh.instance("payments", "p2");
    let caller = mesh.caller("orders");
    first_call(&caller, "payments");
    let load = Load::gets(caller.outbound(), "payments", 12, Duration::from_millis(8));
    load.run_for(500, Duration::from_secs(20));
    let app = App::start("p3");
    let _third = mesh.builder("payments").app(app.address()).spawn();
    until("the third to register", Duration::from_secs(10), || {
        let there = etcd.instances("payments");
        if there.len() == 3 { Ok(()) } else { Err(there) }
    });
    let settled = Instant::now() + Duration::from_secs(2);
    let names = ["p1", "p2", "p3"];
    // So many that chance alone, and a scheduler that starves one of three for a moment, move no share by a fifth.
    until("two seconds and 6,000 calls more", Duration::from_secs(90), || {
        let seen: usize = load.counts(settled, &names).iter().sum();
        if seen >= 6_000 { Ok(()) } else { Err(seen) }
    });
    let report = load.stop();
    report.assert_clean(2_000);
    let counts = report.counts(settled, &names);
    let fair = counts.iter().sum::<usize>() as f64 / 3.0;
    for (name, count) in names.iter().zip(&counts) {
        let share = *count as f64 / fair;
        assert!((0.8..=1.25).contains(&share), "{name} got {share:.2} of its fair share: {counts:?}");
    }
}

#[test]
fn a_killed_instance_fails_no_get_and_leaves_the_table_within_its_lease() {
    let etcd = Etcd::start();
    let mesh = Mesh::on_etcd(&etcd);
    let first = mesh.instance("payments", "p1");
    let second = mesh.instance("payments", "p2");
    let mut third = mesh.instance("payments", "p3");
    let caller = mesh.caller("orders");
    first_call(&caller, "payments");
    let all = [first.sidecar.inbound(), second.sidecar.inbound(), third.sidecar.inbound()];
    caller.wait_table("payments", Duration::from_secs(5), &all);
    let load = Load::gets(caller.outbound(), "payments", 16, Duration::from_millis(5));
    load.run_for(500, Duration::from_secs(20));
    let killed = Instant::now();
    third.sidecar.kill();
    third.app.stop();
    // The lease is 10 s, and the last renewal may be as young as the kill; etcd looks for ended ones every half second
    // and revokes them through its log, and the news travels: three seconds for all of that.
    caller.wait_table("payments", Duration::from_secs(13), &all[..2]);
    load.run_for(200, Duration::from_secs(20));
    let report = load.stop();
    report.assert_clean(1_000);
    let after = report.counts(killed + Duration::from_secs(2), &["p3"]);
    assert_eq!(after, [0], "a dead instance answers nothing");
}

#[test]
fn an_app_killed_behind_a_living_sidecar_fails_no_get() {
    let mesh = Mesh::on_files();
    let _first = mesh.instance("payments", "p1");
    let port = Port::lease();
    let mut command = std::process::Command::new(pillion_tests::binaries::test_app());
    command.args(["p2", &port.local().to_string()]);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut app = pillion_tests::process::Process::start("app p2", command, &dir.path().join("app.log"));
    let _second = mesh.builder("payments").app(port.local()).start();
    let caller = mesh.caller("orders");
    first_call(&caller, "payments");
    let load = Load::gets(caller.outbound(), "payments", 8, Duration::from_millis(4));
    until("both to answer", Duration::from_secs(10), || {
        let counts = load.counts(Instant::now() - Duration::from_secs(5), &["p1", "p2"]);
        if counts.iter().all(|count| *count > 50) { Ok(()) } else { Err(counts) }
    });
    app.kill();
    load.run_for(800, Duration::from_secs(20));
    load.stop().assert_clean(800);
}
