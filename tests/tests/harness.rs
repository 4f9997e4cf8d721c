//! The harness holds what it promises: its apps, its clients and its etcd, without a sidecar in between.

use pillion_tests::pattern::pattern_digest;
use pillion_tests::prelude::*;
use pillion_tests::rawapp::RawApp;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

#[test]
fn the_app_answers_streams_and_notices_a_lost_caller() {
    let app = App::start("one");
    let at = app.address();
    assert_eq!(get(at, "app", "/who").text(), "one");
    assert_eq!(post(at, "app", "/echo?delay_ms=2", "words").text(), "words");
    let mut conn = Conn::connect(at).unwrap();
    for round in 0..3 {
        let request = Request::get("app", "/echo").header("x-id", &round.to_string());
        assert_eq!(conn.call(&request).unwrap().text(), round.to_string());
    }
    let body = get(at, "app", "/download?bytes=200000&seed=7&chunked=1").body;
    let digest = post(at, "app", "/upload", body).text();
    assert_eq!(digest, format!("{} 200000", pattern_digest(7, 200_000)));
    assert_eq!(app.running(), 0);

    let mut conn = Conn::connect(at).unwrap();
    conn.write(&Request::get("app", "/hang").encode()).unwrap();
    until("the call to run", Duration::from_secs(5), || if app.running() == 1 { Ok(()) } else { Err(app.running()) });
    drop(conn);
    assert!(within(Duration::from_secs(5), || app.aborted().len() == 1));
}

#[test]
fn the_idle_closing_app_closes_and_counts() {
    let ids = Arc::new(Mutex::new(HashMap::new()));
    let app = RawApp::closing_idle(Duration::from_secs(1), Arc::clone(&ids));
    let mut conn = Conn::connect(app.address()).unwrap();
    for id in ["a", "b", "b"] {
        let answer = conn.call(&Request::post("app", "/", "x").header("x-id", id)).unwrap();
        assert_eq!(answer.text(), id);
    }
    assert!(conn.closed_within(Duration::from_secs(5)));
    assert_eq!(ids.lock().unwrap()["b"], 2);
    assert_eq!(app.connections(), 1);
}

#[test]
fn etcd_freezes_dies_and_comes_back() {
    let mut etcd = Etcd::start();
    etcd.put("/pillion/services/pay/1.0.0/127.0.0.1:1", "{}");
    etcd.put("/pillion/services/payments/1.0.0/127.0.0.1:2", "{}");
    assert_eq!(etcd.instances("pay").len(), 1);
    etcd.freeze();
    etcd.thaw();
    etcd.restart();
    assert_eq!(etcd.list("/pillion/").len(), 2);
    etcd.restart_empty();
    assert_eq!(etcd.list("/pillion/").len(), 0);
}
