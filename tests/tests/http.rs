//! HTTP/1.1 as it is spoken: framing, HEAD, 100-continue, pipelining, hop-by-hop fields, what is added and what is stripped.

use pillion_tests::http::call;
use pillion_tests::prelude::*;

/// What the app saw of a request's headers.
fn seen(caller: &Sidecar, request: &Request) -> Vec<(String, String)> {
    let json = call(caller.outbound(), request).json();
    json["headers"]
        .as_array()
        .unwrap_or_else(|| panic!("{json}"))
        .iter()
        .map(|pair| (pair[0].as_str().unwrap_or_default().to_owned(), pair[1].as_str().unwrap_or_default().to_owned()))
        .collect()
}

fn values<'a>(headers: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    headers.iter().filter(|(have, _)| have == name).map(|(_, value)| value.as_str()).collect()
}

#[test]
fn one_connection_carries_every_kind_of_exchange() {
    let mesh = Mesh::on_files();
    let (caller, payments) = mesh.pair();
    let mut conn = Conn::connect(caller.outbound()).unwrap();
    let connections = payments.app.connections();
    for round in 0..3 {
        assert_eq!(conn.call(&Request::get("payments", "/who")).unwrap().text(), "payments-1");
        let head = conn.call(&Request::new("HEAD", "payments", "/download?bytes=5000")).unwrap();
        assert_eq!((head.status(), head.header("content-length")), (200, Some("5000")), "round {round}");
        let none = conn.call(&Request::get("payments", "/status?code=204")).unwrap();
        assert_eq!((none.status(), none.body.len()), (204, 0));
        let missing = conn.call(&Request::get("payments", "/status?code=404")).unwrap();
        assert_eq!(
            (missing.status(), missing.header("x-pillion-error")),
            (404, None),
            "the app's own 404 is the app's"
        );
        let failed = conn.call(&Request::get("payments", "/status?code=500")).unwrap();
        assert_eq!((failed.status(), failed.header("x-pillion-error")), (500, None));
        for method in ["PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"] {
            let answer = conn.call(&Request::new(method, "payments", "/headers?a=1&b=%2F").body("x")).unwrap();
            let json = answer.json();
            assert_eq!(
                (json["method"].as_str(), json["target"].as_str(), json["body"].as_str()),
                (Some(method), Some("/headers?a=1&b=%2F"), Some("x")),
                "{json}"
            );
        }
    }
    assert!(payments.app.connections() <= connections + 1, "connections to the app are reused");
}

#[test]
fn a_caller_that_asks_first_is_told_to_continue() {
    let mesh = Mesh::on_files();
    let (caller, _payments) = mesh.pair();
    let mut conn = Conn::connect(caller.outbound()).unwrap();
    conn.set_patience(Duration::from_secs(5));
    conn.write(b"POST /echo HTTP/1.1\r\nhost: payments\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n").unwrap();
    let interim = conn.read_any_head().unwrap();
    assert_eq!(interim.status, 100);
    conn.write(b"body").unwrap();
    assert_eq!(conn.read_response(false).unwrap().text(), "body");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mesh = Mesh::on_files();
    let (caller, _payments) = mesh.pair();
    let mut conn = Conn::connect(caller.outbound()).unwrap();
    let mut bytes = Vec::new();
    for number in 0..10 {
        let request = Request::get("payments", "/echo?delay_ms=5").header("x-id", &number.to_string());
        bytes.extend_from_slice(&request.encode());
    }
    conn.write(&bytes).unwrap();
    for number in 0..10 {
        assert_eq!(conn.read_response(false).unwrap().text(), number.to_string());
    }
}

#[test]
fn an_http_1_0_caller_is_served_and_let_go() {
    let mesh = Mesh::on_files();
    let (caller, _payments) = mesh.pair();
    let mut conn = Conn::connect(caller.outbound()).unwrap();
    conn.write(b"GET /drip?pieces=2&gap_ms=5 HTTP/1.0\r\nhost: payments\r\n\r\n").unwrap();
    let said = String::from_utf8_lossy(&conn.read_to_close()).into_owned();
    assert!(said.contains(" 200 OK") && said.ends_with("piece 0\npiece 1\n"), "no chunks for HTTP/1.0: {said:?}");
}

#[test]
fn hop_by_hop_fields_stay_on_their_hop() {
    let mesh = Mesh::on_files();
    let (caller, _payments) = mesh.pair();
    let request = Request::get("payments", "/headers")
        .header("connection", "keep-alive, x-listed")
        .header("x-listed", "1")
        .header("keep-alive", "timeout=5")
        .header("proxy-connection", "keep-alive")
        .header("proxy-authorization", "Basic c2VjcmV0")
        .header("te", "gzip")
        .header("upgrade", "h2c")
        .header("x-kept", "one")
        .header("x-kept", "two")
        .header("cookie", "a=b; c=d");
    let headers = seen(&caller, &request);
    for name in ["connection", "x-listed", "keep-alive", "proxy-connection", "proxy-authorization", "te", "upgrade"] {
        assert_eq!(values(&headers, name), Vec::<&str>::new(), "{name} was forwarded: {headers:?}");
    }
    assert_eq!(values(&headers, "x-kept"), ["one", "two"], "order and repetition are kept");
    assert_eq!(values(&headers, "cookie"), ["a=b; c=d"]);
    assert_eq!(values(&headers, "host"), ["payments"]);
}

#[test]
fn the_app_learns_who_called_and_nobody_can_lie_about_it() {
    let mesh = Mesh::on_files();
    let (caller, _payments) = mesh.pair();
    let lies = Request::get("payments", "/headers")
        .header("x-pillion-peer", "admin")
        .header("X-Pillion-Peer", "root")
        .header("x-pillion-error", "no-endpoints")
        .header("x-pillion-call", "1")
        .header("x-pillion-request-id", "7")
        .header("x-pillion-anything", "at all");
    let headers = seen(&caller, &lies);
    let peers = values(&headers, "x-pillion-peer");
    assert_eq!(peers.len(), 1, "{headers:?}");
    assert!(peers[0] == "orders" || peers[0].ends_with("/service/orders"), "{peers:?}");
    let internal: Vec<_> =
        headers.iter().filter(|(name, _)| name.starts_with("x-pillion-") && name != "x-pillion-peer").collect();
    assert!(internal.is_empty(), "internal fields came through from outside: {internal:?}");
}

#[test]
fn traces_and_request_ids_are_passed_on_and_made_when_absent() {
    let mesh = Mesh::on_files();
    let (caller, _payments) = mesh.pair();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let given = Request::get("payments", "/headers")
        .header("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01"))
        .header("tracestate", "vendor=1")
        .header("x-request-id", "my-own-id");
    let headers = seen(&caller, &given);
    let parents = values(&headers, "traceparent");
    assert_eq!(parents.len(), 1, "{headers:?}");
    assert!(parents[0].starts_with(&format!("00-{trace}-")) && parents[0].ends_with("-01"), "{parents:?}");
    assert_eq!(values(&headers, "tracestate"), ["vendor=1"]);
    assert_eq!(values(&headers, "x-request-id"), ["my-own-id"]);

    let mut made = Vec::new();
    for _ in 0..2 {
        let headers = seen(&caller, &Request::get("payments", "/headers"));
        let parent = values(&headers, "traceparent").join("|");
        let parts: Vec<&str> = parent.split('-').collect();
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        assert_eq!(lengths, [2, 32, 16, 2], "{parent:?}");
        assert!(parts[1].bytes().any(|byte| byte != b'0') && parts[2].bytes().any(|byte| byte != b'0'));
        let id = values(&headers, "x-request-id").join("|");
        assert!(id.len() >= 8, "{headers:?}");
        made.push((parts[1].to_owned(), id));
    }
    assert_ne!(made[0], made[1], "each call has its own");
}

#[test]
fn a_trailer_reaches_the_other_end() {
    use pillion_tests::rawapp::{RawApp, read_request};
    use std::io::Write;
    let mesh = Mesh::on_files();
    let app = RawApp::start(|mut stream| {
        let mut carry = Vec::new();
        while read_request(&mut stream, &mut carry).is_some() {
            let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 42\r\n\r\n";
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    });
    let _payments = mesh.builder("payments").app(app.address()).start();
    let caller = mesh.caller("orders");
    first_call(&caller, "payments");
    let mut conn = Conn::connect(caller.outbound()).unwrap();
    conn.write(b"GET / HTTP/1.1\r\nhost: payments\r\nte: trailers\r\nconnection: te, close\r\n\r\n").unwrap();
    let said = String::from_utf8_lossy(&conn.read_to_close()).into_owned();
    assert!(said.contains("x-sum: 42"), "{said:?}");
}
