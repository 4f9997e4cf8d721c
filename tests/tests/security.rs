//! Attacks over HTTP/1.1: what is ambiguous is refused, what is internal stays inside, addresses are no services.

use pillion_tests::http::call;
use pillion_tests::prelude::*;
use pillion_tests::rawapp::{RawApp, read_request};
use std::io::Write;
use std::sync::{Arc, Mutex};

#[test]
fn ambiguous_framing_is_refused_and_the_connection_closed() {
    let mesh = Mesh::on_files();
    let (caller, payments) = mesh.pair();
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: payments\r\n\r\n";
    let cases: Vec<(&str, String)> = vec![
        (
            "CL.TE",
            format!(
                "POST / HTTP/1.1\r\nhost: payments\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
            ),
        ),
        (
            "TE.CL",
            format!(
                "POST / HTTP/1.1\r\nhost: payments\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n{smuggled}"
            ),
        ),
        (
            "two lengths",
            format!("POST / HTTP/1.1\r\nhost: payments\r\ncontent-length: 0\r\ncontent-length: 44\r\n\r\n{smuggled}"),
        ),
        ("a list of lengths", format!("POST / HTTP/1.1\r\nhost: payments\r\ncontent-length: 0, 44\r\n\r\n{smuggled}")),
        ("a signed length", format!("POST / HTTP/1.1\r\nhost: payments\r\ncontent-length: +0\r\n\r\n{smuggled}")),
        ("a hex length", format!("POST / HTTP/1.1\r\nhost: payments\r\ncontent-length: 0x0\r\n\r\n{smuggled}")),
        ("a negative length", format!("POST / HTTP/1.1\r\nhost: payments\r\ncontent-length: -1\r\n\r\n{smuggled}")),
        (
            "a space before the colon",
            format!("POST / HTTP/1.1\r\nhost: payments\r\ncontent-length : 44\r\n\r\n{smuggled}"),
        ),
        (
            "a folded field",
            format!("POST / HTTP/1.1\r\nhost: payments\r\ntransfer-encoding:\r\n chunked\r\n\r\n{smuggled}"),
        ),
        (
            "an unknown coding",
            format!("POST / HTTP/1.1\r\nhost: payments\r\ntransfer-encoding: xchunked\r\n\r\n{smuggled}"),
        ),
        (
            "chunked not last",
            format!("POST / HTTP/1.1\r\nhost: payments\r\ntransfer-encoding: chunked, identity\r\n\r\n{smuggled}"),
        ),
        (
            "TE on 1.0",
            format!(
                "POST / HTTP/1.0\r\nhost: payments\r\ntransfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n0\r\n\r\n{smuggled}"
            ),
        ),
        (
            "a huge chunk size",
            format!(
                "POST / HTTP/1.1\r\nhost: payments\r\ntransfer-encoding: chunked\r\n\r\n10000000000000000\r\n{smuggled}"
            ),
        ),
        (
            "a signed chunk size",
            format!("POST / HTTP/1.1\r\nhost: payments\r\ntransfer-encoding: chunked\r\n\r\n+0\r\n\r\n{smuggled}"),
        ),
        (
            "a bare CR in a field",
            format!("GET / HTTP/1.1\r\nhost: payments\r\nx-a: b\rtransfer-encoding: chunked\r\n\r\n{smuggled}"),
        ),
        (
            "a bare LF in a field",
            format!("GET / HTTP/1.1\r\nhost: payments\r\nx-a: b\ntransfer-encoding: chunked\r\n\r\n{smuggled}"),
        ),
        ("a NUL in a field", format!("GET / HTTP/1.1\r\nhost: payments\r\nx-a: b\0c\r\n\r\n{smuggled}")),
        ("no version", format!("GET /\r\n\r\n{smuggled}")),
    ];
    let mut wrong = Vec::new();
    for (case, bytes) in &cases {
        let before = payments.app.requests();
        let mut conn = Conn::connect(caller.outbound()).unwrap();
        conn.write(bytes.as_bytes()).unwrap();
        let closed = conn.closed_within(Duration::from_secs(10));
        let said = String::from_utf8_lossy(conn.pending()).into_owned();
        let answers = said.matches("HTTP/1.1 ").count();
        let delivered = payments.app.requests() - before;
        let good = said.starts_with("HTTP/1.1 400") || said.starts_with("HTTP/1.1 501");
        let good = good && said.contains("x-pillion-error: ");
        if !closed || delivered > 0 || answers > 1 || !good {
            let start: String = said.chars().take(60).collect();
            wrong.push(format!("{case}: closed {closed}, {delivered} delivered, {answers} answers, said {start:?}"));
        }
    }
    assert!(wrong.is_empty(), "of {} cases {} are wrong:\n{}", cases.len(), wrong.len(), wrong.join("\n"));
}

/// An app that keeps the head of each request as it came.
fn recording_app() -> (RawApp, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heads = Arc::clone(&seen);
    let app = RawApp::start(move |mut stream| {
        let mut carry = Vec::new();
        while let Some(request) = read_request(&mut stream, &mut carry) {
            heads.lock().expect("no panic inside").push(request.head);
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
                return;
            }
        }
    });
    (app, seen)
}

#[test]
fn two_hosts_and_two_names_are_refused() {
    let mesh = Mesh::on_files();
    let (caller, payments) = mesh.pair();
    let before = payments.app.requests();
    let doubled = Request::get("payments", "/who").header("host", "orders");
    assert_eq!(call(caller.outbound(), &doubled).status(), 400);
    let named =
        Request::get("payments", "/who").header("x-pillion-service", "payments").header("x-pillion-service", "admin");
    assert_eq!(call(caller.outbound(), &named).status(), 400);
    let mut conn = Conn::connect(caller.outbound()).unwrap();
    conn.write(b"GET /who HTTP/1.1\r\n\r\n").unwrap();
    let answer = conn.read_response(false).unwrap();
    assert_eq!(
        (answer.status(), answer.header("x-pillion-error")),
        (400, Some("no-service-named")),
        "{}",
        answer.summary()
    );
    assert_eq!(payments.app.requests(), before);
}

#[test]
fn an_upgrade_that_the_app_declines_passes_no_raw_byte() {
    let mesh = Mesh::on_files();
    let (caller, payments) = mesh.pair();
    let before = payments.app.requests();
    let mut conn = Conn::connect(caller.outbound()).unwrap();
    conn.write(b"GET /who HTTP/1.1\r\nhost: payments\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nGET /second HTTP/1.1\r\nhost: nobody\r\n\r\n").unwrap();
    assert_eq!(conn.read_response(false).unwrap().text(), "payments-1");
    // The second is a request of its own, judged by itself.
    let second = conn.read_response(false).unwrap();
    assert_eq!(second.header("x-pillion-error"), Some("unknown-service"), "{}", second.summary());
    assert_eq!(payments.app.requests(), before + 1);
}

#[test]
fn addresses_are_not_reachable_through_the_door() {
    let mesh = Mesh::on_files();
    let (caller, payments) = mesh.pair();
    let target = App::start("not a service");
    let port = target.address().port();
    let before = payments.app.requests();
    for host in [
        "169.254.169.254",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "localhost",
        "0.0.0.0",
        "0",
        "127.0.0.1.",
    ] {
        for absolute in [format!("http://{host}:{port}/who"), format!("http://{host}/latest/meta-data/")] {
            let answer = get(caller.outbound(), "payments", &absolute);
            assert_eq!(
                (answer.status(), answer.header("x-pillion-error")),
                (403, Some("forbidden-destination")),
                "{absolute}: {}",
                answer.summary()
            );
        }
        let answer = get(caller.outbound(), &format!("{host}:{port}"), "/who");
        assert!([400, 403].contains(&answer.status()), "Host {host}: {}", answer.summary());
    }
    for authority in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), "169.254.169.254:80".into()] {
        let mut conn = Conn::connect(caller.outbound()).unwrap();
        conn.write(format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n").as_bytes()).unwrap();
        let head = conn.read_head().unwrap();
        assert_eq!(head.status, 403, "CONNECT {authority}: {head:?}");
    }
    for name in ["../etc/passwd", "pay%2fments", "pay ments", "-payments", "payments..pillion", &"p".repeat(300)] {
        let answer = call(caller.outbound(), &Request::get("x", "/").header("x-pillion-service", name));
        assert!([400, 404].contains(&answer.status()), "{name}: {}", answer.summary());
    }
    assert_eq!(target.requests(), 0);
    assert_eq!(payments.app.requests(), before);
}

#[test]
fn paths_reach_the_app_exactly_as_they_were_sent() {
    // The request line as it came, byte for byte: a server that parses it would hide what was changed.
    let (app, seen) = recording_app();
    let mesh = Mesh::on_files();
    let _payments = mesh.builder("payments").app(app.address()).start();
    let caller = mesh.caller("orders");
    first_call(&caller, "payments");
    for target in [
        "/a//b",
        "//a/b",
        "//evil.example/b",
        "///",
        "/a%2fb",
        "/a%2Fb/%2e%2e/c",
        "/a/../b",
        "/../../etc/passwd",
        "/a/./b/.",
        "/..;/b",
        "/a\\..\\b",
        "/\\evil.example/b",
        "/a;b=c/d;e",
        "/a%00b",
        "/a%5cb",
        "/a%3fb%23c",
        "/a%",
        "/caf%C3%A9",
        "/a|b{c}\"d^e`",
        "/a?x=/../%2e%2e",
        "/a?a=b;c&d=%00",
        "/a?q=%E2%82%AC+x\\y",
        "/a?",
        "/a??b",
        "/?",
    ] {
        seen.lock().expect("no panic inside").clear();
        let answer = get(caller.outbound(), "payments", target);
        let heads = seen.lock().expect("no panic inside").clone();
        let lines: Vec<&str> = heads.iter().filter_map(|head| head.split("\r\n").next()).collect();
        match answer.status() {
            200 => assert_eq!(lines, [format!("GET {target} HTTP/1.1")]),
            400 => assert!(lines.is_empty(), "{target} was refused, and delivered as {lines:?}"),
            _ => panic!("{target}: {}", answer.summary()),
        }
    }
    // Refusing them all would be no answer either.
    for target in ["/a//b", "/a%2fb", "/a/../b", "/a;b=c/d;e", "/a?x=/../%2e%2e"] {
        assert_eq!(get(caller.outbound(), "payments", target).status(), 200, "{target}");
    }
}
