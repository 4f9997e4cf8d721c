//! SIGTERM: leave the registry, tell the peers, finish what runs, keep the way out open.

use nix::sys::signal::Signal;
use pillion_tests::prelude::*;

#[test]
fn an_idle_pair_parts_at_once_and_in_order() {
    let etcd = Etcd::start();
    let mesh = Mesh::on_etcd(&etcd);
    let (caller, mut payments) = mesh.pair();
    let open = || caller.metric("pillion_channels_open", &[("direction", "outbound")]);
    assert!(open() >= 1.0, "a channel stands idle");
    let told = Instant::now();
    payments.sidecar.process().signal(Signal::SIGTERM);
    until("the idle channel to be closed", Duration::from_secs(4), || if open() == 0.0 { Ok(()) } else { Err(open()) });
    // Told to stop by SIGTERM, it waits for its app, which may still have calls to make.
    assert!(payments.sidecar.process().try_wait().is_none(), "it left before its app");
    payments.app.stop();
    let status = payments.sidecar.process().wait(Duration::from_secs(5));
    assert!(status.success(), "{status}");
    assert!(told.elapsed() < Duration::from_secs(5), "an idle sidecar took {:?} to leave", told.elapsed());
    assert!(etcd.instances("payments").is_empty(), "its record is gone with it");
}

#[test]
fn the_way_out_stays_open_while_calls_come_to_their_end() {
    let mesh = Mesh::on_files();
    let _billing = mesh.instance("billing", "billing-1");
    let (caller, mut payments) = mesh.pair();
    // Payments has a call in flight when it is told to stop, and needs billing to finish it.
    let mut conn = Conn::connect(caller.outbound()).unwrap();
    conn.write(&Request::get("payments", "/slow?ms=8000").encode()).unwrap();
    until("the call to run", Duration::from_secs(5), || if payments.app.running() == 1 { Ok(()) } else { Err(()) });
    first_call(&payments.sidecar, "billing");
    payments.sidecar.process().signal(Signal::SIGTERM);
    until("the drain to show", Duration::from_secs(5), || {
        let draining = payments.sidecar.metric("pillion_draining", &[]);
        if draining == 1.0 { Ok(()) } else { Err(draining) }
    });
    for _ in 0..5 {
        assert_eq!(get(payments.sidecar.outbound(), "billing", "/who").text(), "billing-1");
    }
    assert_eq!(payments.app.running(), 1, "the call ended before the others were made: nothing was shown");
    assert_eq!(payments.sidecar.admin_get("/livez").status(), 200);
    assert_eq!(payments.sidecar.admin_get("/readyz").status(), 503, "who drains is not ready");
    let answer = conn.read_response(false).unwrap();
    assert_eq!(answer.text(), "payments-1", "{}", answer.summary());
    payments.app.stop();
    assert!(payments.sidecar.process().wait(Duration::from_secs(5)).success());
}

#[test]
fn told_by_sigint_it_waits_for_nobody_but_its_calls() {
    let mesh = Mesh::on_files();
    let (_caller, mut payments) = mesh.pair();
    let told = Instant::now();
    payments.sidecar.process().signal(Signal::SIGINT);
    assert!(payments.sidecar.process().wait(Duration::from_secs(5)).success());
    assert!(told.elapsed() < Duration::from_secs(3), "an idle sidecar took {:?} to leave", told.elapsed());
}

#[test]
fn a_call_that_never_ends_is_cut_at_the_limit() {
    let mesh = Mesh::on_files();
    let app = App::start("payments-1");
    let mut payments = mesh.builder("payments").app(app.address()).config("[timeouts]\ndrain = \"1s\"\n").start();
    let caller = mesh.caller("orders");
    first_call(&caller, "payments");
    // A GET may be sent again, a POST may not: of neither can anybody say that it did not run.
    let mut conns: Vec<Conn> = ["GET", "POST"]
        .iter()
        .map(|method| {
            let mut conn = Conn::connect(caller.outbound()).unwrap();
            conn.write(&Request::new(method, "payments", "/hang").body("x").encode()).unwrap();
            conn
        })
        .collect();
    until("the calls to run", Duration::from_secs(5), || if app.running() == 2 { Ok(()) } else { Err(()) });
    let told = Instant::now();
    payments.process().signal(Signal::SIGTERM);
    payments.process().wait(Duration::from_secs(6));
    let took = told.elapsed();
    assert!(took > Duration::from_millis(800) && took < Duration::from_secs(4), "it took {took:?}");
    for conn in &mut conns {
        let answer = conn.read_response(false).unwrap();
        assert!([502, 503].contains(&answer.status()), "{}", answer.summary());
        assert_eq!(answer.json()["executed"], "unknown", "{}", answer.summary());
    }
}

#[test]
fn a_sidecar_starts_before_its_registry_and_before_its_app() {
    let etcd_port = Port::lease();
    let ca = Ca::new();
    let app_port = Port::lease();
    let payments = Sidecar::builder("payments")
        .app(app_port.local())
        .registry(&format!("etcd://{}", etcd_port.local()))
        .identity(ca.issue("payments"))
        .spawn();
    until("liveness", Duration::from_secs(10), || {
        pillion_tests::http::try_call(payments.admin(), &Request::get("localhost", "/livez"))
            .map_err(|error| error.to_string())
            .and_then(Response::ok)
    });
    assert_eq!(get(payments.outbound(), "anything", "/").header("x-pillion-error"), Some("discovery-timeout"));
}

#[test]
fn answers_that_are_queued_but_not_sent_are_not_cut() {
    let mesh = Mesh::on_files();
    let (caller, mut payments) = mesh.pair();
    const BYTES: usize = 280_000; // more than the caller's sidecar takes in for a caller that does not read
    let mut conns: Vec<Conn> = (0..8)
        .map(|seed| {
            let mut conn = Conn::connect(caller.outbound()).unwrap();
            let request = Request::get("payments", &format!("/download?bytes={BYTES}&seed={seed}"));
            conn.write(&request.encode()).unwrap();
            conn
        })
        .collect();
    until("the app to be done with all of them", Duration::from_secs(10), || {
        let (running, requests) = (payments.app.running(), payments.app.requests());
        if running == 0 && requests >= 9 { Ok(()) } else { Err((running, requests)) }
    });
    payments.sidecar.process().signal(nix::sys::signal::Signal::SIGINT);
    until("it to drain", Duration::from_secs(5), || {
        if payments.sidecar.log().contains("draining") { Ok(()) } else { Err(payments.sidecar.log()) }
    });
    for (seed, conn) in conns.iter_mut().enumerate() {
        let answer = conn.read_response(false).unwrap();
        assert_eq!(answer.body.len(), BYTES, "download {seed}: {}", answer.summary());
    }
    assert!(payments.sidecar.process().wait(Duration::from_secs(10)).success());
}
