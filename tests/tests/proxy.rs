//! The forward proxy: absolute-form requests and CONNECT, to registered services and nowhere else.

use pillion_tests::prelude::*;
use pillion_tests::process::{Output, run};
use pillion_tests::rawapp::RawApp;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

const PATIENCE: Duration = Duration::from_secs(20);

fn curl(proxy: SocketAddr, arguments: &[&str]) -> Output {
    let mut command = Command::new("curl");
    command.env("http_proxy", format!("http://{proxy}")).args(["-sS", "--max-time", "20"]).args(arguments);
    run(command, Duration::from_secs(30))
}

/// Asks for a tunnel, and gives the head of what came back.
fn connect(proxy: SocketAddr, target: &str, behind: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(proxy).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n{behind}").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    (stream, String::from_utf8(head).unwrap())
}

#[test]
fn a_tunnel_leads_to_the_app_of_a_tcp_service() {
    let mesh = Mesh::on_files();
    let app = RawApp::start(|mut stream| {
        let mut all = Vec::new();
        let _ = stream.write_all(b"220 ready\r\n");
        if stream.read_to_end(&mut all).is_ok() {
            let _ = stream.write_all(&all);
        }
    });
    let _store = mesh.builder("store").tcp_app(app.address()).start();
    let caller = mesh.builder("web").config("prefetch = [\"store\"]").start();
    // What is sent ahead arrives, the app may speak first, and the ends of both directions pass.
    let (mut stream, head) = connect(caller.outbound(), "store:6379", "ahead ");
    assert_eq!(head, "HTTP/1.1 200 OK\r\n\r\n");
    stream.write_all(b"and behind").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert_eq!(all, "220 ready\r\nahead and behind");
    until("it is counted", PATIENCE, || {
        let labels = [("service", "store"), ("direction", "outbound"), ("outcome", "ok")];
        if caller.metric("pillion_calls_total", &labels) == 1.0 { Ok(()) } else { Err(()) }
    });
}

#[test]
fn a_tunnel_leads_nowhere_else() {
    let mesh = Mesh::on_files();
    let (caller, payments) = mesh.pair();
    let before = payments.app.requests();
    let refused = |target: &str, status: &str, code: &str| {
        // What stands behind would be a request if the tunnel's bytes were read as HTTP.
        let (mut stream, head) = connect(caller.outbound(), target, "GET /smuggled HTTP/1.1\r\nhost: payments\r\n\r\n");
        assert!(head.starts_with(status) && head.contains(&format!("x-pillion-error: {code}\r\n")), "{target}: {head}");
        let mut rest = Vec::new();
        // Closed in order or by a reset, for not all was read.
        let _ = stream.read_to_end(&mut rest);
        assert!(!String::from_utf8_lossy(&rest).contains("HTTP/1.1"), "{target}");
    };
    refused("payments:80", "HTTP/1.1 502 ", "wrong-protocol");
    refused("nobody:443", "HTTP/1.1 404 ", "unknown-service");
    for address in ["169.254.169.254:80", "127.0.0.1:22", "2130706433:22", "[::ffff:127.0.0.1]:22", "localhost:22"] {
        refused(address, "HTTP/1.1 403 ", "forbidden-destination");
    }
    assert_eq!(payments.app.requests(), before);
    let mut conn = Conn::connect(caller.outbound()).unwrap();
    conn.write(b"CONNECT payments:80 HTTP/1.1\r\nhost: payments:80\r\ncontent-length: 4\r\n\r\nbody").unwrap();
    assert_eq!(conn.read_response(false).unwrap().status(), 400);
    assert!(conn.closed_within(PATIENCE));
}

#[test]
fn curl_and_requests_call_through_the_proxy() {
    let mesh = Mesh::on_files();
    let (caller, payments) = mesh.pair();
    let _raw = mesh.builder("raw").tcp_app(payments.app.address()).start();
    let proxy = caller.outbound();
    assert_eq!(curl(proxy, &["http://payments/who"]).success(), "payments-1");
    assert_eq!(curl(proxy, &["-d", "some words", "http://payments:8080/echo"]).success(), "some words");
    // HTTP to an app that is offered as raw TCP, in a tunnel of curl's.
    until("the tunnel stands", PATIENCE, || {
        let output = curl(proxy, &["--proxytunnel", "http://raw:80/who"]);
        if output.stdout == "payments-1" { Ok(()) } else { Err(output) }
    });
    let refused = curl(proxy, &["-o", "/dev/null", "-w", "%{http_code}", "http://169.254.169.254/latest/meta-data"]);
    assert_eq!(refused.success(), "403");
    let script = "
import requests, sys
proxies = {'http': 'http://' + sys.argv[1]}
print(requests.get('http://payments/who', proxies=proxies, timeout=20).text)
print(requests.post('http://payments/echo', data='words', proxies=proxies, timeout=20).text)
print(requests.get('http://127.0.0.1/', proxies=proxies, timeout=20).status_code)
";
    let mut command = Command::new("/usr/bin/python3");
    command.arg("-c").arg(script).arg(proxy.to_string()).env_remove("no_proxy");
    assert_eq!(run(command, Duration::from_secs(60)).success(), "payments-1\nwords\n403\n");
}

/// Whoever leads an app's address to a sidecar's outbound port has made a circle.
#[test]
fn a_circle_is_cut() {
    let mesh = Mesh::on_files();
    let secured = [mesh.builder("payments"), mesh.builder("orders")];
    let insecure = ["payments", "orders"].map(|service| Sidecar::builder(service).registry(mesh.url()));
    // The second pair is of another kind than the first: neither may see the other's record.
    let other = Mesh::on_files();
    let insecure = insecure.map(|builder| builder.registry(other.url()));
    for [callee, caller] in [secured, insecure] {
        let caller = caller.config("prefetch = [\"payments\"]").start();
        let callee = callee.app(caller.outbound()).start();
        until("the circle is closed and cut", PATIENCE, || {
            let answer = get(caller.outbound(), "payments", "/");
            if answer.status() == 508 { Ok(()) } else { Err(answer.summary()) }
        });
        let before = callee.metric("pillion_calls_total", &[("direction", "inbound")]);
        let answer = post(caller.outbound(), "payments", "/", "x");
        assert_eq!(
            (answer.status(), answer.json()["code"].as_str()),
            (508, Some("loop-detected")),
            "{}",
            answer.summary()
        );
        until("every round is counted", PATIENCE, || {
            let rounds = callee.metric("pillion_calls_total", &[("direction", "inbound")]) - before;
            if rounds == 17.0 { Ok(()) } else { Err(rounds) }
        });
    }
}
