//! HTTP/1.1 as it is spoken: framing, HEAD, 100-continue, pipelining, hop-by-hop fields, what is added and what is stripped.

use pillion_tests::http::call;
use pillion_tests::prelude::*;
use pillion_tests::rawapp::RawApp;
use std::io::{Read, Write};

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
    // A connection on which nothing was sent for a while is not trusted with what may not be repeated (docs/decisions/0004),
    // so only among safe methods is reuse certain, however slowly this machine runs.
    let before = payments.app.connections();
    for _ in 0..10 {
        assert_eq!(conn.call(&Request::get("payments", "/who")).unwrap().text(), "payments-1");
    }
    assert!(payments.app.connections() <= before + 1, "connections to the app are reused");
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
    // Of the 30 calls the six PATCH and PURGE may each want a connection of its own.
    assert!(payments.app.connections() <= before + 7, "connections to the app are reused");
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
fn a_request_that_is_refused_before_its_body_came_ends_the_connection() {
    let mesh = Mesh::on_files();
    let (caller, payments) = mesh.pair();
    let before = payments.app.requests();
    let mut conn = Conn::connect(caller.outbound()).unwrap();
    conn.write(
        b"POST /echo HTTP/1.1\r\nhost: payments\r\nx-pillion-timeout: soon\r\ncontent-length: 100\r\n\r\nhalf of it",
    )
    .unwrap();
    let answer = conn.read_response(false).unwrap();
    assert_eq!((answer.status(), answer.header("x-pillion-error")), (400, Some("bad-request")));
    assert!(conn.closed_within(Duration::from_secs(5)));
    assert_eq!(payments.app.requests(), before);
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
    let own = |name: &str| name.starts_with("x-pillion-") && name != "x-pillion-peer";
    let internal: Vec<_> =
        headers.iter().filter(|(name, _)| own(name)).map(|(name, value)| (&name[..], &value[..])).collect();
    // Who claims to have been handed over by a sidecar has its rounds counted.
    assert_eq!(internal, [("x-pillion-hops", "1")], "internal fields came through from outside");
    let honest = seen(&caller, &Request::get("payments", "/headers"));
    assert!(!honest.iter().any(|(name, _)| own(name)), "{honest:?}");
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

#[test]
fn an_app_sees_the_length_or_the_chunks_of_any_method() {
    let mesh = Mesh::on_files();
    let (caller, _payments) = mesh.pair();
    let empty = seen(&caller, &Request::new("POST", "payments", "/headers").header("content-length", "0"));
    assert_eq!(values(&empty, "content-length"), ["0"]);
    let bare = seen(&caller, &Request::get("payments", "/headers"));
    assert_eq!(values(&bare, "content-length"), [""; 0]);
    // A body where most senders have none, in pieces and longer than what travels with the head.
    let mut conn = Conn::connect(caller.outbound()).unwrap();
    conn.write(b"GET /upload HTTP/1.1\r\nhost: payments\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    for _ in 0..10 {
        conn.write_chunk(&[b'x'; 1_000]).unwrap();
    }
    conn.write(b"0\r\n\r\n").unwrap();
    let answer = conn.read_response(false).unwrap();
    assert!(answer.text().ends_with(" 10000"), "{}", answer.summary());
}

#[test]
fn an_answer_with_a_length_counts_as_answered() {
    let mesh = Mesh::on_files();
    let (caller, payments) = mesh.pair();
    for bytes in [5_000, 100_000, 3_000_000] {
        let mut conn = Conn::connect(caller.outbound()).unwrap();
        let answer = conn.call(&Request::get("payments", &format!("/download?bytes={bytes}&seed=1"))).unwrap();
        assert_eq!(answer.header("content-length"), Some(bytes.to_string().as_str()));
        assert_eq!(answer.body.len(), bytes);
    }
    for (sidecar, direction) in [(&caller, "outbound"), (&payments.sidecar, "inbound")] {
        until("all calls to be recorded", Duration::from_secs(5), || {
            let of = |outcome| sidecar.metric("pillion_calls_total", &[("direction", direction), ("outcome", outcome)]);
            if (of("ok"), of("cancelled")) == (4.0, 0.0) { Ok(()) } else { Err((of("ok"), of("cancelled"))) }
        });
    }
}

/// An app that answers a head at once, then takes in the whole body, and says how much that was.
fn answering_early(taken: std::sync::mpsc::Sender<usize>) -> RawApp {
    let taken = std::sync::Mutex::new(taken);
    RawApp::start(move |mut stream| {
        let mut buffer = vec![0; 65_536];
        let mut total = 0;
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if total == 0 {
                let _ = stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n");
            }
            total += count;
            if buffer[..count].ends_with(b"0\r\n\r\n") {
                break;
            }
        }
        let _ = taken.lock().expect("no panic inside").send(total);
    })
}

#[test]
fn an_upload_goes_on_after_an_early_answer_and_keeps_nobody_waiting() {
    let (sender, taken) = std::sync::mpsc::channel();
    let app = answering_early(sender);
    let mesh = Mesh::on_files();
    let _payments = mesh.builder("payments").app(app.address()).start();
    let caller = mesh.builder("orders").config("[timeouts]\nheader = \"1s\"\n").start();
    let mut conn = Conn::connect(caller.outbound()).unwrap();
    let head = until("an answer", Duration::from_secs(10), || {
        conn = Conn::connect(caller.outbound()).map_err(|error| error.to_string())?;
        let head = "POST /take HTTP/1.1\r\nhost: payments\r\ntransfer-encoding: chunked\r\n\r\n";
        conn.write(head.as_bytes())
            .and_then(|()| conn.write_chunk(&[b'x'; 10_000]))
            .map_err(|error| error.to_string())?;
        let head = conn.read_head().map_err(|error| error.to_string())?;
        if head.status == 202 { Ok(head) } else { Err(head.status.to_string()) }
    });
    assert_eq!(head.status, 202);
    let began = Instant::now();
    let mut sent = 10_000;
    while began.elapsed() < Duration::from_secs(3) {
        conn.write_chunk(&[b'x'; 1_000]).expect("the upload is still taken");
        sent += 1_000;
        // A slow sender is what this is about: it paces, it does not wait for anything.
        std::thread::sleep(Duration::from_millis(100));
        if sent == 15_000 {
            // The connection to the app that the upload is still on is nobody else's.
            let asked = Instant::now();
            assert_eq!(post(caller.outbound(), "payments", "/other", "0\r\n\r\n").status(), 202);
            assert!(asked.elapsed() < Duration::from_secs(1), "it waited {:?} behind the upload", asked.elapsed());
        }
    }
    conn.write(b"0\r\n\r\n").unwrap();
    let whole = std::iter::from_fn(|| taken.recv_timeout(Duration::from_secs(5)).ok()).find(|total| *total >= sent);
    assert!(whole.is_some(), "the app never saw all {sent} bytes");
}
