//! Hosts outside: the declared ones are called, with TLS where callers speak none; no other is reachable.

use pillion_tests::http::{call, try_call};
use pillion_tests::outside::Outside;
use pillion_tests::prelude::*;
use pillion_tests::process::{Output, curl, run};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(20);
const HOST: &str = "api.example.com";

/// A sidecar that may call `host` at `address`, with these further keys.
fn caller_of(host: &str, address: SocketAddr, keys: &str) -> Sidecar {
    let entry = format!("[[egress]]\nhost = \"{host}\"\nport = {}\naddress = \"{address}\"\n{keys}\n", address.port());
    Mesh::on_files().builder("orders").config("[timeouts]\nconnect = \"1s\"\nresponse = \"2s\"").config(&entry).start()
}

/// One that trusts it.
fn caller(outside: &Outside, keys: &str) -> Sidecar {
    caller_of(HOST, outside.address(), &format!("ca = \"{}\"\n{keys}", outside.ca().display()))
}

fn through(proxy: &Sidecar, arguments: &[&str]) -> Output {
    run(curl(&[&["-x", &format!("http://{}", proxy.outbound())], arguments].concat()), PATIENCE)
}

#[test]
fn tls_is_spoken_for_those_who_speak_none() {
    for keys in ["", "http2 = true"] {
        let outside = Outside::start(HOST);
        let caller = caller(&outside, keys);
        // By the name in Host, and through http_proxy.
        assert_eq!(get(caller.outbound(), HOST, "/who").text(), "outside", "{keys}");
        assert_eq!(through(&caller, &["http://api.example.com/who"]).success(), "outside", "{keys}");
        let sent = vec![b'x'; 3 << 20];
        let digest = pillion_tests::pattern::hex(&<sha2::Sha256 as sha2::Digest>::digest(&sent));
        let uploaded = post(caller.outbound(), HOST, "/upload", sent).text();
        assert_eq!(uploaded, format!("{digest} {}", 3 << 20), "{keys}");
        let large = get(caller.outbound(), HOST, "/download?bytes=3000000");
        assert_eq!(large.body.len(), 3_000_000, "{keys}");

        let request = Request::get(HOST, "/headers").header("x-pillion-peer", "forged").header("x-mine", "kept");
        let seen: Value = call(caller.outbound(), &request).json();
        let headers = seen["headers"].as_array().unwrap();
        let value = |name: &str| headers.iter().find(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap());
        assert_eq!(value("x-mine"), Some("kept"), "{keys}");
        assert_eq!(value("x-pillion-peer"), None, "{keys}");
        assert!(value("traceparent").is_some(), "{keys}");
        let authority = format!("{HOST}:{}", outside.address().port());
        let named = value("host").or_else(|| seen["authority"].as_str()).map(str::to_owned);
        assert!(named.is_none_or(|named| named == authority), "{keys}: {seen}");

        // Connections are kept, and calls counted like all others.
        for _ in 0..20 {
            assert_eq!(get(caller.outbound(), HOST, "/who").status(), 200, "{keys}");
        }
        assert!(outside.app.connections() <= 4, "{keys}: {} connections", outside.app.connections());
        until("they are counted", PATIENCE, || {
            let labels = [("direction", "outbound"), ("service", HOST), ("outcome", "ok")];
            let counted = caller.metric("pillion_calls_total", &labels);
            if counted == 25.0 { Ok(()) } else { Err(counted) }
        });
    }
}

#[test]
fn limits_and_leaving_are_those_of_every_call() {
    let outside = Outside::start(HOST);
    let caller = caller(&outside, "");
    let late = get(caller.outbound(), HOST, "/hang");
    assert_eq!((late.status(), late.header("x-pillion-error")), (504, Some("response-timeout")), "{}", late.summary());
    let request = Request::get(HOST, "/hang").header("x-pillion-timeout", "100ms");
    let late = call(caller.outbound(), &request);
    assert_eq!((late.status(), late.header("x-pillion-error")), (504, Some("deadline-exceeded")), "{}", late.summary());
    until("the host sees none of them any more", PATIENCE, || match outside.app.running() {
        0 => Ok(()),
        other => Err(other),
    });
    let mut leaving = Conn::connect(caller.outbound()).unwrap();
    leaving.write(format!("GET /hang HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).unwrap();
    until("the host is at work", PATIENCE, || match outside.app.running() {
        1 => Ok(()),
        other => Err(other),
    });
    drop(leaving);
    until("the host has learnt it", PATIENCE, || match outside.app.running() {
        0 => Ok(()),
        other => Err(other),
    });
    // A streamed request may take as long as it takes; its answer may not.
    let mut slow = Conn::connect(caller.outbound()).unwrap();
    slow.write(format!("POST /hang HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n").as_bytes())
        .unwrap();
    slow.write_chunk(&[b'x'; 100_000]).unwrap();
    slow.write_chunk(b"").unwrap();
    let answer = slow.read_response(false).unwrap();
    assert_eq!(answer.header("x-pillion-error"), Some("response-timeout"), "{}", answer.summary());
}

#[test]
fn a_host_that_does_not_prove_its_name_gets_no_request() {
    // A certificate for another name, and one of an authority that nobody knows.
    let other = Outside::start("other.example.com");
    let wrong_name = caller_of(HOST, other.address(), &format!("ca = \"{}\"", other.ca().display()));
    let trusted = Outside::start(HOST);
    let unknown_authority = caller_of(HOST, trusted.address(), &format!("ca = \"{}\"", other.ca().display()));
    for (caller, outside) in [(wrong_name, other), (unknown_authority, trusted)] {
        let answer = post(caller.outbound(), HOST, "/count", "x");
        let seen =
            (answer.status(), answer.header("x-pillion-error"), answer.json()["executed"].as_str().map(str::to_owned));
        assert_eq!(seen, (503, Some("egress-not-connected"), Some("no".to_owned())), "{}", answer.summary());
        assert!(answer.json()["detail"].as_str().unwrap().contains("certificate"), "{}", answer.summary());
        assert_eq!(outside.app.requests(), 0);
    }
}

#[test]
fn a_tunnel_leads_to_a_declared_host_at_its_port_alone() {
    let outside = Outside::start(HOST);
    let caller = caller(&outside, "");
    let port = outside.address().port();
    // The caller speaks TLS itself, end to end.
    let ca = outside.ca().display().to_string();
    let said = through(&caller, &["--cacert", &ca, &format!("https://{HOST}:{port}/who")]);
    assert_eq!(said.success(), "outside");
    for target in [format!("{HOST}:22"), "other.example.com:443".to_owned(), format!("127.0.0.1:{port}")] {
        let mut stream = TcpStream::connect(caller.outbound()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 4"), "{target}: {answer}");
    }
}

/// Whoever holds a declared name's record may lead it to this machine, or to where a cloud keeps its secrets.
#[test]
fn a_name_that_leads_to_this_machine_is_not_followed() {
    let entry = "[[egress]]\nhost = \"localhost.localdomain\"\nport = 80\ntls = false\n";
    let caller = Mesh::on_files().builder("orders").config(entry).start();
    let answer = try_call(caller.outbound(), &Request::get("localhost.localdomain", "/")).unwrap();
    let seen = (answer.status(), answer.header("x-pillion-error"));
    assert_eq!(seen, (503, Some("egress-not-connected")), "{}", answer.summary());
    assert_eq!(answer.json()["executed"], "no");
}

/// A host outside may be the outbound port of a sidecar: the circle is cut.
#[test]
fn a_circle_through_the_outside_is_cut() {
    let port = Port::lease();
    let entry = format!("[[egress]]\nhost = \"{HOST}\"\naddress = \"{}\"\ntls = false\n", port.local());
    // It leads to a relay, and that to the sidecar's own door.
    let caller = Mesh::on_files().builder("orders").config(&entry).start();
    let (from, to) = (port.local(), caller.outbound());
    let relay = std::net::TcpListener::bind(from).unwrap();
    std::thread::spawn(move || {
        for stream in relay.incoming() {
            let (Ok(inward), Ok(outward)) = (stream, TcpStream::connect(to)) else { return };
            for (mut one, mut other) in [(inward.try_clone().unwrap(), outward.try_clone().unwrap()), (outward, inward)]
            {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut one, &mut other);
                    let _ = other.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    let answer = get(caller.outbound(), HOST, "/");
    assert_eq!((answer.status(), answer.json()["code"].as_str()), (508, Some("loop-detected")), "{}", answer.summary());
}
