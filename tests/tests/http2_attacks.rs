//! HTTP/2 against the rules: floods, slowness, other protocols behind its preface.

use crate::http2::{hanging, pair};
use pillion_tests::frames::*;
use pillion_tests::ports::heavy;
use pillion_tests::prelude::*;
use std::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(20);

/// Floods that must end with the connection, while the calls of others go on as before.
#[test]
fn attackers_are_cut_off_and_others_do_not_notice() {
    let _turn = heavy();
    let (caller, _callee, app) = pair("http", "");
    let to = caller.outbound();
    let quiet = Load::gets(to, "payments", 2, Duration::from_millis(2));
    quiet.run_for(400, PATIENCE);
    let quiet = quiet.stop();
    quiet.assert_clean(400);
    let rss = caller.rss_kib();

    type Attack = fn(&mut TcpStream) -> std::io::Result<()>;
    let attacks: [(&str, Attack); 7] = [
        ("open and cancel", |stream| {
            (0..100_000).try_for_each(|number| {
                let id = 2 * number + 1;
                let open = Frame::request(id, END_STREAM, "payments", "GET").encode();
                send(stream, &[open, Frame::reset(id, CANCEL).encode()].concat())
            })
        }),
        ("open, wait a little and cancel", |stream| {
            (0..100_000_u32).step_by(16).try_for_each(|number| {
                let ids = (number..number + 16).map(|number| 2 * number + 1);
                let open: Vec<u8> = ids.clone().flat_map(|id| hanging(id).encode()).collect();
                send(stream, &open)?;
                // The answers to what was sent before are on their way: a turn of the sidecar's lies in between.
                std::thread::sleep(Duration::from_millis(1));
                send(stream, &ids.flat_map(|id| Frame::reset(id, CANCEL).encode()).collect::<Vec<_>>())
            })
        }),
        ("have streams reset", |stream| {
            // A window of nothing more is an error of the stream (made you reset, CVE-2025-8671).
            (0..100_000).try_for_each(|number| {
                let id = 2 * number + 1;
                let nothing = Frame::new(WINDOW_UPDATE, 0, id, 0_u32.to_be_bytes());
                send(stream, &[hanging(id).encode(), nothing.encode()].concat())
            })
        }),
        ("fields without end", |stream| {
            let block = literals(&[("x-filler", &"f".repeat(120))]).repeat(100);
            send(stream, &Frame::new(HEADERS, END_STREAM, 1, block.clone()).encode())?;
            (0..100_000).try_for_each(|_| send(stream, &Frame::new(CONTINUATION, 0, 1, block.clone()).encode()))
        }),
        ("empty continuations", |stream| {
            send(stream, &Frame::new(HEADERS, END_STREAM, 1, literals(&[(":method", "GET")])).encode())?;
            (0..1_000_000).try_for_each(|_| send(stream, &Frame::new(CONTINUATION, 0, 1, []).encode()))
        }),
        ("empty data", |stream| {
            send(stream, &Frame::request(1, 0, "payments", "POST").encode())?;
            (0..1_000_000).try_for_each(|_| send(stream, &Frame::new(DATA, 0, 1, []).encode()))
        }),
        ("a window too large", |stream| {
            (0..3).try_for_each(|_| {
                send(stream, &Frame::new(WINDOW_UPDATE, 0, 0, 0x7fff_ffff_u32.to_be_bytes()).encode())
            })
        }),
    ];
    let beside = Load::gets(to, "payments", 2, Duration::from_millis(2));
    for (what, attack) in attacks {
        let mut frames = Frames::connect(to, PATIENCE).unwrap();
        let mut writer = frames.writer().unwrap();
        let attacking = std::thread::spawn(move || attack(&mut writer));
        let began = Instant::now();
        let code = frames.end();
        assert!(began.elapsed() < PATIENCE, "{what}: still open");
        drop(frames);
        let sent = attacking.join().unwrap();
        assert!(code != Some(NO_ERROR), "{what}: {sent:?}");
        println!("{what}: cut off after {:?} with {code:?}", began.elapsed());
    }
    beside.run_for(400, PATIENCE);
    let beside = beside.stop();
    beside.assert_clean(400);
    assert!(beside.p99() < 2 * quiet.p99() + Duration::from_millis(20), "{:?} and {:?}", beside.p99(), quiet.p99());
    until("memory is flat again", PATIENCE, || match caller.rss_kib() {
        now if now < rss + 8 * 1024 => Ok(()),
        now => Err((rss, now)),
    });
    until("no call hangs at the app", PATIENCE, || match app.running() {
        0 => Ok(()),
        running => Err(running),
    });
}

fn send(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    std::io::Write::write_all(stream, bytes)
}

#[test]
fn http2_begins_a_connection_or_does_not_come() {
    let (caller, _callee, app) = pair("http", "");
    let before = app.requests();
    // Behind the preface come frames, and nothing that HTTP/1.1 would read.
    let mut frames = Frames::connect(caller.outbound(), PATIENCE).unwrap();
    frames.write(b"GET /smuggled HTTP/1.1\r\nhost: payments\r\n\r\n").unwrap();
    let began = Instant::now();
    assert_ne!(frames.end(), Some(NO_ERROR));
    assert!(began.elapsed() < PATIENCE);
    assert_eq!(app.requests(), before);
    // And behind a request the preface is a request that nobody understands.
    let mut conn = Conn::connect(caller.outbound()).unwrap();
    assert_eq!(conn.call(&Request::get("payments", "/who")).unwrap().status(), 200);
    conn.write(PREFACE).unwrap();
    let answer = conn.read_response(false).unwrap();
    assert_eq!((answer.status(), answer.header("x-pillion-error")), (505, Some("unsupported-version")));
    assert!(conn.closed_within(PATIENCE));
}

#[test]
fn slow_callers_are_let_go_and_quiet_ones_may_stay() {
    let (caller, _callee, _app) = pair("http", "[timeouts]\nheader = \"2s\"\n");
    let to = caller.outbound();
    let connect = || Frames::connect(to, PATIENCE).unwrap();
    // A request that never comes whole, and a list of fields that never ends.
    let (mut half, mut open) = (connect(), connect());
    half.write(&Frame::request(1, END_STREAM, "payments", "GET").encode()[..20]).unwrap();
    open.send(&Frame::new(HEADERS, END_STREAM, 1, literals(&[(":method", "GET")]))).unwrap();
    let mut quiet = connect();
    let began = Instant::now();
    assert_eq!((half.end(), open.end()), (None, None));
    assert!(began.elapsed() >= Duration::from_secs(1) && began.elapsed() < Duration::from_secs(15));
    // One that has nothing to say, and says so now and then, is another matter.
    quiet.send(&Frame::new(PING, 0, 0, [7; 8])).unwrap();
    quiet.send(&Frame::request(1, END_STREAM, "payments", "GET")).unwrap();
    let answer = quiet.until(|frame| frame.kind == HEADERS).unwrap();
    assert_eq!(answer.stream, 1);
}

#[test]
fn settings_without_end_are_answered_and_bounded() {
    let (caller, _callee, _app) = pair("http", "");
    let mut frames = Frames::connect(caller.outbound(), PATIENCE).unwrap();
    let rss = caller.rss_kib();
    let mut writer = frames.writer().unwrap();
    let flood = std::thread::spawn(move || {
        (0..200_000).try_for_each(|_| send(&mut writer, &Frame::new(SETTINGS, 0, 0, []).encode())).is_ok()
    });
    // Whoever floods and does not read the answers is not read any further.
    for _ in 0..200 {
        assert_eq!(get(caller.outbound(), "payments", "/who").status(), 200);
        assert!(caller.rss_kib() < rss + 8 * 1024);
    }
    let code = frames.end();
    assert!(flood.join().unwrap() || code == Some(ENHANCE_YOUR_CALM), "{code:?}");
}
