//! Who may speak to whom: mutual TLS, always, and the peer must be the service that was called.

use pillion_tests::identity::{Claim, OwnCa};
use pillion_tests::peer::{self, RogueServer};
use pillion_tests::prelude::*;
use pillion_tests::wire_peer::WirePeer;
use std::path::Path;
use wire::Event;

struct Callee {
    ca: OwnCa,
    registry: RegistryDir,
    app: App,
    sidecar: Sidecar,
}

fn callee() -> Callee {
    let ca = OwnCa::new();
    let registry = RegistryDir::new();
    let app = App::start("payments-1");
    let sidecar = Sidecar::builder("payments")
        .app(app.address())
        .registry(&registry.url())
        .identity(ca.issue("payments", &Claim::good("payments")))
        .start();
    Callee { ca, registry, app, sidecar }
}

#[test]
fn strangers_at_the_inbound_door_are_refused() {
    let callee = callee();
    let other = OwnCa::new();
    let other_domain = Claim { trust_domain: "elsewhere.example".into(), ..Claim::good("orders") };
    let cases = [
        ("no certificate", None),
        ("another CA", Some(other.issue("orders", &Claim::good("orders")))),
        ("expired", Some(callee.ca.issue("expired", &Claim::good("orders").expired()))),
        ("another trust domain", Some(callee.ca.issue("foreign", &other_domain))),
    ];
    // TLS 1.3 lets a client write before it has the server's verdict: a whole request lies there when it falls.
    let words = WirePeer::hello_and_get("orders", "payments", "/who");
    for (case, identity) in &cases {
        let attempt = peer::attempt(callee.sidecar.inbound(), identity.as_deref(), &words, Duration::from_secs(10));
        assert!(attempt.refused, "{case}: {attempt:?}");
        assert!(attempt.received.is_empty(), "{case}: the sidecar said something: {attempt:?}");
    }
    // A real sidecar whose certificate has ended is refused as well.
    let expired = callee.ca.issue("late", &Claim::good("orders").expired());
    let refused = call_with(&callee, "orders", &expired);
    assert!(refused.status() >= 500, "{}", refused.summary());
    assert_eq!(refused.json()["executed"], "no", "{}", refused.summary());
    assert!(refused.json()["detail"].as_str().unwrap_or_default().contains("expired"), "{}", refused.summary());
    assert_eq!(callee.app.requests(), 0, "0 requests are delivered");

    // The same bytes with a good identity are answered: the refusals above were for the reasons given.
    let good = callee.ca.issue("orders", &Claim::good("orders"));
    let attempt = peer::attempt(callee.sidecar.inbound(), Some(&good), &words, Duration::from_secs(5));
    let said = String::from_utf8_lossy(&attempt.received);
    assert!(said.contains("payments-1"), "a good identity got no answer: {said:?}, {}", attempt.end);
    assert_eq!(callee.app.requests(), 1);

    let failures = callee.sidecar.metric("pillion_handshake_failures_total", &[]);
    assert!(failures >= 4.0, "{failures} failed handshakes were counted");
    // A plain text client gets nothing either.
    let mut plain = Conn::connect(callee.sidecar.inbound()).unwrap();
    plain.write(&Request::get("payments", "/who").encode()).unwrap();
    assert!(plain.closed_within(Duration::from_secs(20)));
    let mut plain = Conn::connect(callee.sidecar.inbound()).unwrap();
    plain.write(&words).unwrap();
    assert!(plain.closed_within(Duration::from_secs(20)));
    assert_eq!(callee.app.requests(), 1);
}

/// Makes one call by hand over the protocol; gives the status, if an answer came.
fn call_by_hand(callee: &Callee, identity: &Path, says: &str) -> Option<u16> {
    let mut peer = WirePeer::dial(callee.sidecar.inbound(), identity, says).expect("the handshake itself is good");
    let is_hello = |events: &[Event]| events.iter().any(|event| matches!(event, Event::Hello(_)));
    peer.exchange(Duration::from_secs(10), is_hello);
    peer.get("payments", "/who", 1);
    let (events, _) = peer.exchange(Duration::from_secs(10), |events| {
        events.iter().any(|event| matches!(event, Event::Response { .. } | Event::Closed(_)))
    });
    events.iter().find_map(|event| match event {
        Event::Response { head, .. } => Some(head.status),
        _ => None,
    })
}

#[test]
fn a_peer_whose_words_differ_from_its_certificate_is_refused() {
    let callee = callee();
    let identity = callee.ca.issue("orders", &Claim::good("orders"));
    assert_eq!(call_by_hand(&callee, &identity, "orders"), Some(200), "the same call, told truly, is answered");
    let before = callee.app.requests();
    assert_eq!(call_by_hand(&callee, &identity, "billing"), None);
    assert_eq!(call_by_hand(&callee, &identity, ""), None);
    assert_eq!(callee.app.requests(), before, "0 requests are delivered");
}

#[test]
fn a_flood_of_open_and_cancel_is_cut_off_and_others_are_served() {
    let callee = callee();
    let caller = Sidecar::builder("orders")
        .registry(&callee.registry.url())
        .identity(callee.ca.issue("orders", &Claim::good("orders")))
        .start();
    first_call(&caller, "payments");
    let load = Load::gets(caller.outbound(), "payments", 2, Duration::from_millis(5));
    let mut peer =
        WirePeer::dial(callee.sidecar.inbound(), &callee.ca.issue("web", &Claim::good("web")), "web").expect("dial");
    peer.exchange(Duration::from_secs(5), |events| events.iter().any(|event| matches!(event, Event::Hello(_))));
    let began = Instant::now();
    let mut opened: u64 = 0;
    let cut = loop {
        for _ in 0..2_000 {
            if let Some(id) = peer.get("payments", "/hang", opened) {
                opened += 1;
                if peer.send().is_err() {
                    break;
                }
                peer.connection().cancel(id, wire::Cancel::CallerGone);
            }
        }
        if peer.send().and_then(|()| peer.receive()).is_err() || peer.connection().is_closed() {
            break true;
        }
        if opened >= 100_000 || began.elapsed() > Duration::from_secs(30) {
            break false;
        }
    };
    assert!(cut, "{opened} calls were opened and cancelled, and the flood went on");
    load.run_for(100, Duration::from_secs(10));
    load.stop().assert_clean(100);
    assert!(within(Duration::from_secs(5), || callee.app.running() == 0), "{} still run", callee.app.running());
}

/// Calls `payments` from a sidecar with this identity.
fn call_with(callee: &Callee, service: &str, identity: &Path) -> Response {
    let caller = Sidecar::builder(service).registry(&callee.registry.url()).identity(identity).start();
    until("the endpoint to be known", Duration::from_secs(10), || {
        let answer = get(caller.outbound(), "payments", "/who");
        if answer.header("x-pillion-error") == Some("unknown-service") { Err(answer.summary()) } else { Ok(answer) }
    })
}

#[test]
fn a_sidecar_of_another_ca_gets_a_clear_error_and_delivers_nothing() {
    let callee = callee();
    let good = call_with(&callee, "orders", &callee.ca.issue("orders", &Claim::good("orders")));
    assert_eq!(good.text(), "payments-1", "{}", good.summary());
    let before = callee.app.requests();
    let other = OwnCa::new();
    let refused = call_with(&callee, "orders", &other.issue("orders", &Claim::good("orders")));
    let code = refused.header("x-pillion-error").unwrap_or_default().to_owned();
    assert!(["wrong-peer", "connect-failed"].contains(&code.as_str()), "{}", refused.summary());
    let json = refused.json();
    assert_eq!(json["executed"], "no", "{json}");
    assert!(json["detail"].as_str().unwrap_or_default().contains("certificate"), "{json}");
    assert_eq!(callee.app.requests(), before);
}

#[test]
fn a_rogue_record_leads_to_zero_bytes() {
    let ca = OwnCa::new();
    let other = OwnCa::new();
    let cases = [
        ("another service's identity", ca.issue("orders", &Claim::good("orders"))),
        ("an expired identity", ca.issue("expired", &Claim::good("payments").expired())),
        ("another CA's identity", other.issue("payments", &Claim::good("payments"))),
        (
            "another trust domain's identity",
            ca.issue("foreign", &Claim { trust_domain: "elsewhere.example".into(), ..Claim::good("payments") }),
        ),
    ];
    for (case, identity) in cases {
        let rogue = RogueServer::start(&identity);
        let caller = Sidecar::builder("web")
            .registry("static")
            .identity(ca.issue("web", &Claim::good("web")))
            .config(&format!("[[endpoint]]\nservice = \"payments\"\naddress = \"{}\"\n", rogue.address()))
            .start();
        let secret = Request::post("payments", "/", "a secret body").header("authorization", "a secret header");
        let answer = pillion_tests::http::call(caller.outbound(), &secret);
        let code = answer.header("x-pillion-error").unwrap_or_default().to_owned();
        assert!(["wrong-peer", "connect-failed"].contains(&code.as_str()), "{case}: {}", answer.summary());
        assert_eq!(answer.json()["executed"], "no", "{case}");
        assert!(rogue.connections() > 0, "{case}: it was not even tried");
        assert_eq!(rogue.seen(), b"", "{case}: the rogue was told something");
    }
}

#[test]
fn an_address_taken_over_by_another_service_gets_no_request() {
    for secure in [true, false] {
        let ca = Ca::new();
        let app = App::start("orders-1");
        let nowhere = RegistryDir::new();
        let mut orders = Sidecar::builder("orders").app(app.address()).registry(&nowhere.url());
        let mut web = Sidecar::builder("web").registry("static");
        if secure {
            orders = orders.identity(ca.issue("orders"));
            web = web.identity(ca.issue("web"));
        }
        let orders = orders.start();
        // The record still says payments; the address is another's by now.
        let web =
            web.config(&format!("[[endpoint]]\nservice = \"payments\"\naddress = \"{}\"\n", orders.inbound())).start();
        let answer = get(web.outbound(), "payments", "/who");
        assert_eq!(
            (answer.status(), answer.header("x-pillion-error")),
            (502, Some("wrong-peer")),
            "secure {secure}: {}",
            answer.summary()
        );
        assert_eq!(app.requests(), 0, "secure {secure}");
    }
}

#[test]
fn neither_identity_nor_insecure_is_no_start() {
    let mut command = std::process::Command::new(pillion_tests::binaries::pillion());
    command.args(["run", "--service", "orders", "--registry", "static"]);
    let output = pillion_tests::process::run(command, Duration::from_secs(10));
    assert_ne!(output.code, Some(0));
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(said.contains("--identity") && said.contains("--insecure"), "{said}");
}
