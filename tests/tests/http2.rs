//! HTTP/2 at the caller's side and at the app's, each beside HTTP/1.1; apps that refuse.

use pillion_tests::frames::{
    CANCEL, DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, NO_ERROR, REFUSED_STREAM, RST_STREAM,
    WINDOW_UPDATE, literals,
};
use pillion_tests::ports::heavy;
use pillion_tests::prelude::*;
use pillion_tests::process::{curl, run};
use pillion_tests::rawapp::RawApp;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const PATIENCE: Duration = Duration::from_secs(20);

/// An app that speaks both, behind a sidecar that speaks `protocol` to it, and a caller's sidecar.
pub fn pair(protocol: &str, config: &str) -> (Sidecar, Sidecar, App) {
    let mesh = Mesh::on_files();
    let app = App::start("payments-1");
    let callee = mesh.builder("payments").config(config);
    let callee = if protocol == "h2c" { callee.h2c_app(app.address()) } else { callee.app(app.address()) };
    let callee = callee.start();
    let caller = mesh.builder("orders").config(config).start();
    first_call(&caller, "payments");
    (caller, callee, app)
}

#[test]
fn the_header_limit_is_kept_to_the_byte_whoever_speaks_http2() {
    for app in ["http", "h2c"] {
        let (caller, _callee, payments) = pair(app, "[limits]\nheader_bytes = \"16KiB\"\n");
        let limit = 16 * 1024;
        let with_head_of = |bytes: usize, path: &str| {
            let others = path.len() + "host".len() + "payments".len() + 4 + "x-filler".len() + 4;
            let filler = format!("x-filler: {}", "f".repeat(bytes - others));
            let url = format!("http://{}{path}", caller.outbound());
            let ask = [
                "--http2-prior-knowledge",
                "-H",
                "Host: payments",
                "-H",
                "user-agent:",
                "-H",
                "accept:",
                "-H",
                &filler,
            ];
            run(curl(&[&ask[..], &["-w", "\n%{http_code}", &url]].concat()), PATIENCE).success().to_owned()
        };
        for bytes in [limit - 1, limit] {
            assert!(with_head_of(bytes, "/echo").ends_with("\n200"), "{bytes} to {app}");
        }
        let before = payments.requests();
        let refused = with_head_of(limit + 1, "/echo");
        assert!(refused.ends_with("\n431") && refused.contains("limits.header_bytes"), "{app}: {refused}");
        assert_eq!(payments.requests(), before, "{app}: what is refused reaches no app");
        // The other way round: what the app answers.
        let answer = |bytes: usize| get(caller.outbound(), "payments", &format!("/big-head?bytes={bytes}"));
        assert_eq!(answer(15 * 1024).status(), 200, "{app}");
        let refused = answer(17 * 1024);
        assert_eq!((refused.status(), refused.header("x-pillion-error")), (502, Some("app-header-too-large")), "{app}");
    }
}

/// The answer to a request whose body nobody reads is whole before that body is: a client must get to read it.
#[test]
fn an_early_answer_is_not_lost() {
    let (caller, _callee, _app) = pair("http", "");
    let dir = tempfile::tempdir().unwrap();
    let body = dir.path().join("body");
    let url = format!("http://{}/", caller.outbound());
    for bytes in [1, 5_000, 20_000] {
        std::fs::write(&body, vec![b'x'; bytes]).unwrap();
        let data = format!("@{}", body.display());
        let to_nobody = ["--http2-prior-knowledge", "-H", "Host: nobody", "--data-binary", &data, &url];
        for _ in 0..10 {
            let answer = run(curl(&to_nobody), PATIENCE);
            assert!(answer.success().contains("unknown-service"), "{bytes} bytes");
        }
    }
}

#[test]
fn many_calls_share_a_connection_and_a_load_generator_sees_no_error() {
    let _turn = heavy();
    let (caller, callee, app) = pair("h2c", "");
    let url = format!("http://{}/who", caller.outbound());
    let mut command = Command::new("h2load");
    command.args(["-n", "20000", "-c", "4", "-m", "50", "-H", ":authority: payments", &url]);
    let output = run(command, Duration::from_secs(60));
    let said = output.success();
    assert!(said.contains("20000 succeeded, 0 failed, 0 errored, 0 timeout"), "{said}");
    assert!(said.contains("status codes: 20000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{said}");
    assert!(app.requests() >= 20_000);
    assert!(callee.metric("pillion_app_connections_opened_total", &[]) <= 5.0);
}

/// An app that is told frame by frame what to answer: `answer` gets each request's stream and how many came before it.
fn scripted(
    settings: &'static [(u16, u32)],
    answer: impl Fn(&mut Frames, u32, usize) -> std::io::Result<()> + Send + Sync + 'static,
) -> (RawApp, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (requests, connections) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, connected) = (Arc::clone(&requests), Arc::clone(&connections));
    let app = RawApp::start(move |stream| {
        let Ok(mut frames) = Frames::accept(stream, settings) else { return };
        let mut is_first = true;
        while let Ok(frame) = frames.until(|frame| frame.kind == HEADERS) {
            if frame.flags & END_STREAM == 0 {
                // Before it registers the app, the sidecar asks gRPC's health service, which this one has not.
                let fields = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "12")];
                let _ = frames.send(&Frame::new(HEADERS, END_STREAM | END_HEADERS, frame.stream, literals(&fields)));
                continue;
            }
            if is_first {
                connected.fetch_add(1, Ordering::SeqCst);
                is_first = false;
            }
            if answer(&mut frames, frame.stream, counted.fetch_add(1, Ordering::SeqCst)).is_err() {
                return;
            }
        }
    });
    (app, requests, connections)
}

fn ok(frames: &mut Frames, stream: u32) -> std::io::Result<()> {
    frames.send(&Frame::new(HEADERS, END_STREAM | END_HEADERS, stream, literals(&[(":status", "200")])))
}

/// A caller's sidecar, and one for the scripted app.
fn before(app: &RawApp) -> (Sidecar, Sidecar) {
    let mesh = Mesh::on_files();
    let callee = mesh.builder("payments").h2c_app(app.address()).start();
    let caller = mesh.builder("orders").config("prefetch = [\"payments\"]").start();
    (caller, callee)
}

#[test]
fn what_the_app_refuses_is_sent_again_once_and_what_it_resets_is_not() {
    let (app, requests, _) = scripted(&[], |frames, stream, count| match count {
        // A POST's stream, refused: provably not executed.
        0 => frames.send(&Frame::reset(stream, REFUSED_STREAM)),
        2 => frames.send(&Frame::reset(stream, CANCEL)),
        _ => ok(frames, stream),
    });
    let (caller, _callee) = before(&app);
    let empty_post = || Request::new("POST", "payments", "/").header("content-length", "0");
    assert_eq!(pillion_tests::http::call(caller.outbound(), &empty_post()).status(), 200);
    assert_eq!(requests.load(Ordering::SeqCst), 2);
    let reset = pillion_tests::http::call(caller.outbound(), &empty_post());
    let seen = (reset.status(), reset.header("x-pillion-error"), reset.json()["executed"].as_str().map(str::to_owned));
    assert_eq!(seen, (502, Some("app-closed"), Some("unknown".to_owned())), "{}", reset.summary());
    assert_eq!(requests.load(Ordering::SeqCst), 3);
}

#[test]
fn a_connection_that_goes_away_finishes_its_calls_and_takes_no_more() {
    let (app, requests, connections) = scripted(&[], |frames, stream, count| {
        if count == 4 {
            // From here on it takes no new ones; this one it still answers.
            frames.send(&Frame::go_away(stream, NO_ERROR))?;
        }
        ok(frames, stream)
    });
    let (caller, _callee) = before(&app);
    for _ in 0..10 {
        let answer = get(caller.outbound(), "payments", "/");
        assert_eq!(answer.status(), 200, "{}", answer.summary());
    }
    assert_eq!((requests.load(Ordering::SeqCst), connections.load(Ordering::SeqCst)), (10, 2));
}

#[test]
fn an_app_that_takes_one_call_a_connection_gets_as_many_connections() {
    const MAX_CONCURRENT_STREAMS: u16 = 3;
    const CALLS: usize = 4;
    let (turn, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(std::sync::Barrier::new(CALLS)));
    let (app, _, connections) = scripted(&[(MAX_CONCURRENT_STREAMS, 1)], move |frames, stream, _| {
        // The first tells the sidecar how many there may be; the others wait until all of them have come.
        if turn.fetch_add(1, Ordering::SeqCst) > 0 {
            gate.wait();
        }
        ok(frames, stream)
    });
    let (caller, _callee) = before(&app);
    assert_eq!(get(caller.outbound(), "payments", "/").status(), 200);
    std::thread::scope(|scope| {
        let calls: Vec<_> =
            (0..CALLS).map(|_| scope.spawn(|| get(caller.outbound(), "payments", "/").status())).collect();
        for call in calls {
            assert_eq!(call.join().unwrap(), 200);
        }
    });
    assert_eq!(connections.load(Ordering::SeqCst), CALLS);
}

#[test]
fn an_app_that_does_not_speak_http2_is_never_registered_and_the_log_says_what_for_it_waits() {
    let app = RawApp::start(|mut stream| {
        use std::io::{Read, Write};
        let mut buffer = [0; 1024];
        if stream.read(&mut buffer).is_ok_and(|count| count > 0) {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let mesh = Mesh::on_files();
    let callee = mesh.builder("payments").h2c_app(app.address()).spawn();
    until("it says what it waits for", PATIENCE, || {
        let log = callee.log();
        if log.contains("waiting for the app to accept connections, or to say that it serves") {
            Ok(())
        } else {
            Err(log)
        }
    });
    let readiness = callee.admin_get("/readyz");
    assert_eq!(readiness.status(), 503, "{}", readiness.text());
}

/// A request that the app never answers.
pub fn hanging(stream: u32) -> Frame {
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "payments"), (":path", "/hang")];
    Frame::new(HEADERS, END_STREAM | END_HEADERS, stream, literals(&fields))
}

#[test]
fn a_stream_that_nobody_reads_stops_itself_and_no_other() {
    let (caller, _callee, _app) = pair("h2c", "");
    let mut frames = Frames::connect(caller.outbound(), PATIENCE).unwrap();
    let fields =
        |path: &'static str| [(":method", "GET"), (":scheme", "http"), (":authority", "payments"), (":path", path)];
    // Its window is the default of 65,535 bytes, and the connection's too: that one is opened wide.
    frames.send(&Frame::new(WINDOW_UPDATE, 0, 0, (1_u32 << 30).to_be_bytes())).unwrap();
    let large = Frame::new(HEADERS, END_STREAM | END_HEADERS, 1, literals(&fields("/download?bytes=50000000")));
    frames.send(&large).unwrap();
    let mut got = 0;
    while got < 65_535 {
        let frame = frames.until(|frame| frame.kind == DATA).unwrap();
        got += frame.payload.len();
    }
    for id in (3..43).step_by(2) {
        frames.send(&Frame::new(HEADERS, END_STREAM | END_HEADERS, id, literals(&fields("/who")))).unwrap();
        let mut body = Vec::new();
        // Its end may come with the bytes or behind them.
        loop {
            let frame = frames.until(|frame| frame.stream == id).unwrap();
            if frame.kind == DATA {
                body.extend_from_slice(&frame.payload);
            }
            if frame.flags & END_STREAM > 0 {
                break;
            }
        }
        assert_eq!(body, b"payments-1");
    }
    // Then it is read after all.
    frames.send(&Frame::new(WINDOW_UPDATE, 0, 1, (1_u32 << 30).to_be_bytes())).unwrap();
    while got < 50_000_000 {
        got += frames.until(|frame| frame.kind == DATA).unwrap().payload.len();
    }
    assert_eq!(got, 50_000_000);
    assert!(caller.rss_kib() < 40 * 1024);
}

#[test]
fn a_caller_that_resets_its_stream_cancels_the_call() {
    let (caller, _callee, app) = pair("h2c", "");
    let mut frames = Frames::connect(caller.outbound(), PATIENCE).unwrap();
    frames.send(&hanging(1)).unwrap();
    until("the app is at work", PATIENCE, || match app.running() {
        1 => Ok(()),
        other => Err(other),
    });
    frames.send(&Frame::reset(1, CANCEL)).unwrap();
    until("the app has learnt it", PATIENCE, || match app.running() {
        0 => Ok(()),
        other => Err(other),
    });
    frames.send(&Frame::request(3, END_STREAM, "payments", "GET")).unwrap();
    let answer = frames.until(|frame| matches!(frame.kind, HEADERS | RST_STREAM | GOAWAY)).unwrap();
    assert_eq!((answer.kind, answer.stream), (HEADERS, 3));
}

#[test]
fn calls_to_an_app_that_accepts_and_says_nothing_fail_together() {
    // It answers the sidecar's question how it is, and from then on nobody.
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let app = RawApp::start(move |stream| {
        if count.fetch_add(1, Ordering::SeqCst) > 0 {
            let _ = std::io::Read::read_to_end(&mut &stream, &mut Vec::new());
            return;
        }
        let Ok(mut frames) = Frames::accept(stream, &[]) else { return };
        while let Ok(frame) = frames.until(|frame| frame.kind == HEADERS) {
            let fields = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "12")];
            let _ = frames.send(&Frame::new(HEADERS, END_STREAM | END_HEADERS, frame.stream, literals(&fields)));
        }
    });
    let (caller, _callee) = before(&app);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..20).map(|_| scope.spawn(|| get(caller.outbound(), "payments", "/"))).collect();
        for call in calls {
            let answer = call.join().unwrap();
            let seen = (answer.status(), answer.header("x-pillion-error"), answer.json()["executed"] == "no");
            assert_eq!(seen, (503, Some("app-not-connected"), true), "{}", answer.summary());
        }
    });
    // Each alone would wait for `timeouts.app_connect` (1 s) behind all others.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
