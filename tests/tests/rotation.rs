//! Certificates change under a running sidecar.

use pillion_tests::identity::{Claim, OwnCa};
use pillion_tests::prelude::*;
use std::path::Path;
use time::OffsetDateTime;

/// Puts one identity's files in the place of another's, each by a rename, as careful tools do.
fn replace(from: &Path, to: &Path) {
    for name in ["ca.pem", "key.pem", "cert.pem"] {
        let fresh = to.join(format!("{name}.new"));
        std::fs::copy(from.join(name), &fresh).expect("copy");
        std::fs::rename(&fresh, to.join(name)).expect("rename");
    }
}

fn claim(service: &str, minutes: i64) -> Claim {
    Claim { not_after: OffsetDateTime::now_utc() + time::Duration::minutes(minutes), ..Claim::good(service) }
}

#[test]
fn replaced_identities_are_picked_up_and_no_call_is_dropped() {
    let ca = OwnCa::new();
    let registry = RegistryDir::new();
    let app = App::start("payments-1");
    let (callee_dir, caller_dir) =
        (ca.issue("callee", &claim("payments", 60)), ca.issue("caller", &claim("orders", 60)));
    let callee =
        Sidecar::builder("payments").app(app.address()).registry(&registry.url()).identity(&callee_dir).start();
    let caller = Sidecar::builder("orders").registry(&registry.url()).identity(&caller_dir).start();
    first_call(&caller, "payments");
    let load = Load::gets(caller.outbound(), "payments", 4, Duration::from_millis(5));
    load.run_for(100, Duration::from_secs(10));
    for round in 1..=3 {
        for (sidecar, dir, service) in [(&callee, &callee_dir, "payments"), (&caller, &caller_dir, "orders")] {
            let fresh = claim(service, 60 + 60 * round);
            let expiry = fresh.not_after.unix_timestamp() as f64;
            replace(&ca.issue(&format!("{service}-{round}"), &fresh), dir);
            until("the new expiry in the metrics", Duration::from_secs(10), || {
                let seen = sidecar.metric("pillion_certificate_expiry_timestamp_seconds", &[]);
                if (seen - expiry).abs() < 2.0 { Ok(()) } else { Err(format!("{seen}, expected {expiry}")) }
            });
        }
        load.run_for(100, Duration::from_secs(10));
    }
    assert!(callee.metric("pillion_certificate_reloads_total", &[("result", "ok")]) >= 3.0);
    // A newcomer proves that the callee takes new connections with what it has now.
    let fresh = Sidecar::builder("web").registry(&registry.url()).identity(ca.issue("web", &claim("web", 60))).start();
    first_call(&fresh, "payments");
    load.stop().assert_clean(400);
}

#[test]
fn a_broken_replacement_keeps_the_last_good_identity() {
    let ca = OwnCa::new();
    let registry = RegistryDir::new();
    let app = App::start("payments-1");
    let dir = ca.issue("callee", &claim("payments", 60));
    let callee = Sidecar::builder("payments").app(app.address()).registry(&registry.url()).identity(&dir).start();
    std::fs::write(dir.join("cert.pem"), "-----BEGIN CERTIFICATE-----\nnonsense\n").expect("write");
    until("the failed reload to be counted", Duration::from_secs(10), || {
        let scrape = callee.metrics();
        let failed = scrape.sum("pillion_certificate_reloads_total", &[])
            - scrape.sum("pillion_certificate_reloads_total", &[("result", "ok")]);
        if failed >= 1.0 { Ok(()) } else { Err(failed) }
    });
    let caller =
        Sidecar::builder("orders").registry(&registry.url()).identity(ca.issue("orders", &claim("orders", 60))).start();
    first_call(&caller, "payments");
}

#[test]
fn rotation_works_after_expiry_and_the_error_tells_the_times() {
    let ca = OwnCa::new();
    let registry = RegistryDir::new();
    let app = App::start("payments-1");
    let soon = Claim { not_after: OffsetDateTime::now_utc() + time::Duration::seconds(4), ..Claim::good("payments") };
    let ends = soon.not_after;
    let dir = ca.issue("callee", &soon);
    let callee = Sidecar::builder("payments").app(app.address()).registry(&registry.url()).identity(&dir).start();
    assert!(within(Duration::from_secs(8), || OffsetDateTime::now_utc() > ends + time::Duration::seconds(1)));
    let caller =
        Sidecar::builder("orders").registry(&registry.url()).identity(ca.issue("orders", &claim("orders", 60))).start();
    let refused = until("the endpoint to be known", Duration::from_secs(10), || {
        let answer = get(caller.outbound(), "payments", "/who");
        if answer.header("x-pillion-error") == Some("unknown-service") { Err(answer.summary()) } else { Ok(answer) }
    });
    assert!(refused.status() >= 500, "{}", refused.summary());
    let detail = refused.json()["detail"].as_str().unwrap_or_default().to_owned();
    assert!(detail.contains("expired"), "{detail}");
    let year = OffsetDateTime::now_utc().year().to_string();
    assert!(detail.matches(&year).count() >= 2, "both the end and the own clock are to be told: {detail}");

    replace(&ca.issue("fresh", &claim("payments", 60)), &dir);
    until("calls to work again", Duration::from_secs(15), || get(caller.outbound(), "payments", "/who").ok());
    drop(callee);
}
