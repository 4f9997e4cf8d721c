//! The admin port: probes, metrics, the table, and who may ask.

use pillion_tests::prelude::*;

#[test]
fn the_metrics_tell_the_story_of_the_calls() {
    let mesh = Mesh::on_files();
    let (caller, payments) = mesh.pair();
    // A call is counted when its answer is out, which its caller may see a moment before.
    let before = until("the first call to be counted", Duration::from_secs(3), || {
        let labels = [("direction", "outbound"), ("service", "payments"), ("outcome", "ok")];
        let counted = caller.metric("pillion_calls_total", &labels);
        if counted > 0.0 { Ok(counted) } else { Err(counted) }
    });
    let load = Load::gets(caller.outbound(), "payments", 2, Duration::from_millis(1));
    load.run_for(200, Duration::from_secs(10));
    let made = load.stop().calls as f64;
    until("all calls to be counted", Duration::from_secs(3), || {
        let scrape = caller.metrics();
        let now =
            scrape.sum("pillion_calls_total", &[("direction", "outbound"), ("service", "payments"), ("outcome", "ok")]);
        let timed =
            scrape.sum("pillion_call_duration_seconds_count", &[("direction", "outbound"), ("service", "payments")]);
        if now - before == made && timed >= made { Ok(()) } else { Err((before, now, made, timed)) }
    });
    let callee = payments.sidecar.metrics();
    assert!(
        callee.sum("pillion_calls_total", &[("direction", "inbound"), ("peer", "orders"), ("outcome", "ok")]) >= made
    );
    assert_eq!(callee.sum("pillion_registered", &[]), 1.0);
    let scrape = caller.metrics();
    for name in [
        "pillion_registry_connected",
        "pillion_table_services",
        "pillion_table_endpoints",
        "pillion_table_age_seconds",
        "pillion_channels_open",
        "pillion_bytes_total",
        "pillion_certificate_expiry_timestamp_seconds",
        "pillion_process_resident_memory_bytes",
        "pillion_process_open_fds",
        "pillion_build_info",
    ] {
        assert!(scrape.has(name, &[]), "{name} is missing");
    }
    assert_eq!(scrape.sum("pillion_calls_in_flight", &[]), 0.0);
    assert_eq!(callee.sum("pillion_calls_in_flight", &[]), 0.0);
}

#[test]
fn the_table_shows_services_endpoints_state_revision_and_age() {
    let mesh = Mesh::on_files();
    let (caller, payments) = mesh.pair();
    let text = caller.admin_get("/table").text();
    for word in ["payments", "revision", "age", "state", &payments.sidecar.inbound().to_string()] {
        assert!(text.contains(word), "'{word}' is not in {text}");
    }
    let rows = caller.table("payments");
    assert_eq!(rows.len(), 1, "{rows:?} of {text}");
    assert_eq!(rows[0].1, "live", "{rows:?}");
}

#[test]
fn a_foreign_host_header_and_unknown_paths_get_nothing() {
    let mesh = Mesh::on_files();
    let caller = mesh.caller("orders");
    for path in ["/livez", "/readyz", "/metrics", "/table", "/config"] {
        assert_eq!(caller.admin_get(path).status(), 200, "{path}");
        // DNS rebinding: a page on evil.example whose name now resolves to 127.0.0.1.
        let rebound = get(caller.admin(), "evil.example", path);
        assert!([403, 421].contains(&rebound.status()), "{path}: {}", rebound.summary());
    }
    assert_eq!(caller.admin_get("/no-such-thing").status(), 404);
}

#[test]
fn metric_series_do_not_grow_with_what_strangers_send() {
    let mesh = Mesh::on_files();
    let (caller, payments) = mesh.pair();
    let mut conn = Conn::connect(caller.outbound()).unwrap();
    let mut storm = |from: usize, to: usize| {
        for number in from..to {
            let host = format!("host-{number}-of-a-storm");
            let answer = conn.call(&Request::new(&format!("M{number}"), &host, &format!("/path/{number}"))).unwrap();
            assert!(answer.status() >= 400, "{}", answer.summary());
            let known = Request::new(&format!("M{number}"), "payments", &format!("/who/{number}"));
            assert_eq!(conn.call(&known).unwrap().status(), 200);
        }
    };
    storm(0, 200);
    let before = (caller.metrics().series(), payments.sidecar.metrics().series(), caller.rss_kib());
    storm(200, 1_700);
    let after = (caller.metrics().series(), payments.sidecar.metrics().series(), caller.rss_kib());
    assert!(after.0 <= before.0 + 5 && after.1 <= before.1 + 5, "series grew from {before:?} to {after:?}");
    assert!(after.2 < before.2 + 4 * 1024, "memory grew from {} to {} KiB", before.2, after.2);
}
