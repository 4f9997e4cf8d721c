//! Held against clients that others wrote.

use pillion_tests::ports::heavy;
use pillion_tests::prelude::*;
use pillion_tests::process::{Output, run};
use std::process::Command;

fn curl(arguments: &[&str]) -> Output {
    let mut command = Command::new("curl");
    command.args(["-sS", "--noproxy", "*", "--max-time", "20", "-H", "Host: payments"]).args(arguments);
    run(command, Duration::from_secs(30))
}

#[test]
fn curl_gets_posts_streams_and_asks_first() {
    let mesh = Mesh::on_files();
    let (caller, _payments) = mesh.pair();
    let url = |path: &str| format!("http://{}{path}", caller.outbound());
    assert_eq!(curl(&[&url("/who")]).success(), "payments-1");
    assert_eq!(curl(&["-d", "some words", &url("/echo")]).success(), "some words");
    let head = curl(&["-I", &url("/download?bytes=1000")]);
    assert!(head.success().contains("200 OK") && head.stdout.contains("content-length: 1000"), "{}", head.stdout);
    // A body of a megabyte makes curl wait for 100 Continue; from a pipe it is chunked.
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("body");
    std::fs::write(&file, vec![b'x'; 1_500_000]).expect("write");
    let data = format!("@{}", file.display());
    for header in ["x-plain: 1", "Expect: 100-continue", "Transfer-Encoding: chunked"] {
        let sent = curl(&["-H", header, "--data-binary", &data, &url("/upload")]);
        assert!(sent.success().ends_with(" 1500000"), "{header}: {}", sent.stdout);
    }
    let both = curl(&[&url("/who"), &url("/who")]);
    assert_eq!(both.success(), "payments-1payments-1");
    let status = curl(&["-o", "/dev/null", "-w", "%{http_code}", &url("/status?code=418")]);
    assert_eq!(status.success(), "418");
}

const PYTHON: &str = r#"
import http.client, json, sys, threading
host, port = sys.argv[1].split(":")
library = sys.argv[2]

def plain():
    conn = http.client.HTTPConnection(host, int(port), timeout=20)
    for number in range(50):
        conn.request("POST", "/echo", body="n%d" % number, headers={"Host": "payments"})
        answer = conn.getresponse()
        assert answer.status == 200, answer.status
        assert answer.read() == b"n%d" % number
    def pieces():
        for number in range(20):
            yield b"z" * 10000
    conn.request("POST", "/upload", body=pieces(), headers={"Host": "payments"}, encode_chunked=True)
    assert conn.getresponse().read().endswith(b" 200000")
    conn.request("HEAD", "/who", headers={"Host": "payments"})
    answer = conn.getresponse()
    assert answer.status == 200 and answer.read() == b""
    conn.request("GET", "/drip?pieces=5&gap_ms=10", headers={"Host": "payments"})
    assert len(conn.getresponse().read().splitlines()) == 5
    conn.request("GET", "/", headers={"Host": "nobody-there"})
    answer = conn.getresponse()
    assert answer.status == 404 and answer.headers["x-pillion-error"] == "unknown-service"
    assert json.loads(answer.read())["executed"] == "no"

def with_requests():
    import requests
    session = requests.Session()
    session.proxies = {"http": "http://%s:%s" % (host, port)}
    session.trust_env = False
    for number in range(50):
        answer = session.post("http://payments/echo", data="n%d" % number, timeout=20)
        assert answer.status_code == 200 and answer.text == "n%d" % number, answer
    assert session.get("http://payments/download?bytes=3000000", timeout=20).content.__len__() == 3000000
    assert session.put("http://payments/upload", data=(b"q" * 5000 for _ in range(10)), timeout=20).text.endswith(" 50000")
    assert session.head("http://payments/who", timeout=20).status_code == 200
    alone = requests.Session()
    alone.trust_env = False
    direct = alone.get("http://%s:%s/who" % (host, port), headers={"Host": "payments"}, timeout=20)
    assert direct.text == "payments-1"
    stream = session.get("http://payments/drip?pieces=4&gap_ms=20", stream=True, timeout=20)
    assert len(list(stream.iter_lines())) == 4

failures = []
def guarded():
    try:
        with_requests() if library == "requests" else plain()
    except BaseException as error:
        failures.append(repr(error))
        raise
threads = [threading.Thread(target=guarded) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
sys.exit(1 if failures else 0)
"#;

/// Debian's own, for which Debian's python3-requests is: the first python3 on PATH may be another.
const INTERPRETER: &str = "/usr/bin/python3";

fn python(door: SocketAddr, library: &str) {
    let mut command = Command::new(INTERPRETER);
    command.args(["-c", PYTHON, &door.to_string(), library]);
    run(command, Duration::from_secs(60)).success();
}

#[test]
fn pythons_http_client_is_served() {
    let mesh = Mesh::on_files();
    let (caller, _payments) = mesh.pair();
    python(caller.outbound(), "http.client");
}

#[test]
fn pythons_requests_is_served() {
    let mesh = Mesh::on_files();
    let (caller, _payments) = mesh.pair();
    python(caller.outbound(), "requests");
}

#[test]
fn wrk_for_ten_seconds_at_64_connections_sees_no_error() {
    let _turn = heavy();
    let mesh = Mesh::on_files();
    let (caller, _payments) = mesh.pair();
    let mut command = Command::new("wrk");
    command.args([
        "-t",
        "2",
        "-c",
        "64",
        "-d",
        "10s",
        // Longer than a starved machine lets one call wait: what is looked for is errors, not speed.
        "--timeout",
        "20s",
        "-H",
        "Host: payments",
        &format!("http://{}/who", caller.outbound()),
    ]);
    let output = run(command, Duration::from_secs(60));
    let said = output.success();
    assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
    let calls = caller.metric("pillion_calls_total", &[("direction", "outbound"), ("outcome", "ok")]);
    // Each connection made ten calls, at the least: how many more is for `make bench` to say.
    assert!(calls >= 640.0, "{calls} calls in ten seconds\n{said}");
}
