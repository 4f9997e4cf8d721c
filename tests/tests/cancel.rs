//! Callers that leave, and time that runs out.

use pillion_tests::http::call;
use pillion_tests::prelude::*;

const SOON: Duration = Duration::from_secs(1);

/// Makes a call with raw bytes, waits until the app runs it, hangs up, and sees the app's call aborted within a second.
#[track_caller]
fn hang_up_after(caller: &Sidecar, payments: &Instance, bytes: &[u8], wait_for_head: bool) {
    let before = payments.app.aborted().len();
    let mut conn = Conn::connect(caller.outbound()).unwrap();
    conn.write(bytes).unwrap();
    until("the app to run the call", Duration::from_secs(5), || {
        if payments.app.running() == 1 { Ok(()) } else { Err(payments.app.running()) }
    });
    if wait_for_head {
        conn.read_head().unwrap();
    }
    drop(conn);
    let left = Instant::now();
    assert!(
        within(Duration::from_secs(5), || payments.app.aborted().len() == before + 1),
        "the app never saw its call aborted"
    );
    let took = payments.app.aborted()[before].saturating_duration_since(left);
    assert!(took < SOON, "the app saw it only after {took:?}");
}

#[test]
fn a_caller_that_hangs_up_aborts_the_apps_call_within_a_second() {
    let mesh = Mesh::on_files();
    let (caller, payments) = mesh.pair();
    hang_up_after(&caller, &payments, b"GET /hang HTTP/1.1\r\nhost: payments\r\n\r\n", false);
    hang_up_after(&caller, &payments, b"GET /hang-body HTTP/1.1\r\nhost: payments\r\n\r\n", true);
    let half = b"POST /upload HTTP/1.1\r\nhost: payments\r\ncontent-length: 100000\r\n\r\nonly the beginning";
    hang_up_after(&caller, &payments, half, false);
    assert_eq!(get(caller.outbound(), "payments", "/who").text(), "payments-1", "the channel lives on");
    let cancelled = caller.metric("pillion_calls_total", &[("direction", "outbound"), ("outcome", "cancelled")]);
    assert!(cancelled >= 2.0, "{cancelled} calls were counted as cancelled");
}

#[test]
fn a_thousand_lost_callers_leave_no_descriptor_behind() {
    let mesh = Mesh::on_files();
    let (caller, payments) = mesh.pair();
    let before = (caller.descriptors(), payments.sidecar.descriptors());
    for round in 0..50 {
        let conns: Vec<Conn> = (0..20)
            .map(|number| {
                let mut conn = Conn::connect(caller.outbound()).unwrap();
                let request = match (round + number) % 3 {
                    0 => "GET /hang HTTP/1.1\r\nhost: payments\r\n\r\n",
                    1 => "GET /hang-body HTTP/1.1\r\nhost: payments\r\n\r\n",
                    _ => "POST /upload HTTP/1.1\r\nhost: payments\r\ncontent-length: 9\r\n\r\nhalf",
                };
                conn.write(request.as_bytes()).unwrap();
                if number % 2 == 0 {
                    conn.finish().unwrap(); // a FIN first, as some clients do
                }
                conn
            })
            .collect();
        drop(conns);
    }
    let now = || (caller.descriptors(), payments.sidecar.descriptors());
    until("the descriptors to be given back", Duration::from_secs(10), || {
        let now = now();
        // Pooled connections to the app may stay; a handful is the pool, a thousand is a leak.
        if now.0 <= before.0 + 5 && now.1 <= before.1 + 25 { Ok(()) } else { Err((before, now)) }
    });
    assert!(within(Duration::from_secs(5), || payments.app.running() == 0), "{} still run", payments.app.running());
}

/// A FIN cannot be told from an end: `nc -N` sends one and waits, a client that died sends one too, and the second must not
/// keep the app busy. So it counts as gone, and who waits gets no answer (docs/pitfalls.md).
#[test]
fn a_caller_that_closes_its_side_and_waits_has_left() {
    let mesh = Mesh::on_files();
    let (caller, payments) = mesh.pair();
    let mut conn = Conn::connect(caller.outbound()).unwrap();
    conn.write(&Request::get("payments", "/hang").encode()).unwrap();
    until("the app to run the call", Duration::from_secs(5), || {
        if payments.app.running() == 1 { Ok(()) } else { Err(payments.app.running()) }
    });
    conn.finish().unwrap();
    assert!(conn.closed_within(Duration::from_secs(5)), "the sidecar keeps a connection whose caller has left");
    assert_eq!(String::from_utf8_lossy(conn.pending()), "", "an answer for nobody");
    assert!(within(Duration::from_secs(5), || payments.app.aborted().len() == 1), "the app was not told");
}

/// What can end a call for lack of time.
const SETTINGS: [&str; 3] = ["x-pillion-timeout", "grpc-timeout", "timeouts.response"];
/// Short enough to wait for, long enough for a starved machine to answer within when it should.
const SHORT: &str = "[timeouts]\nconnect = \"1500ms\"\napp_connect = \"1500ms\"\nresponse = \"1500ms\"\n";

#[track_caller]
fn times_out(caller: &Sidecar, payments: &Instance, request: &Request, code: &str, setting: &str) {
    let before = payments.app.aborted().len();
    let began = Instant::now();
    let answer = call(caller.outbound(), request);
    let took = began.elapsed();
    assert_eq!((answer.status(), answer.header("x-pillion-error")), (504, Some(code)), "{}", answer.summary());
    // The hint names every setting that could have fired; the detail names the one that did, and no other.
    let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
    let named: Vec<&str> = SETTINGS.into_iter().filter(|name| detail.contains(name)).collect();
    assert_eq!(named, [setting], "{detail:?}");
    assert!(took > Duration::from_millis(1_400) && took < Duration::from_secs(5), "it took {took:?}");
    assert!(
        within(Duration::from_secs(5), || payments.app.aborted().len() == before + 1),
        "the remote sidecar did not drop the call: {} aborted, {} running",
        payments.app.aborted().len(),
        payments.app.running()
    );
}

#[test]
fn a_deadline_that_passes_is_a_504_that_names_the_setting() {
    let mesh = Mesh::on_files();
    let payments = mesh.instance("payments", "payments-1");
    let caller = mesh.builder("orders").config(SHORT).start();
    first_call(&caller, "payments");
    let hang = Request::get("payments", "/hang");
    times_out(
        &caller,
        &payments,
        &hang.clone().header("x-pillion-timeout", "1500ms"),
        "deadline-exceeded",
        "x-pillion-timeout",
    );
    times_out(&caller, &payments, &hang.clone().header("grpc-timeout", "1500m"), "deadline-exceeded", "grpc-timeout");
    times_out(&caller, &payments, &hang, "response-timeout", "timeouts.response");
    // The default limit is for the first byte: an open stream may go on for longer.
    let drip = get(caller.outbound(), "payments", "/drip?pieces=8&gap_ms=300");
    assert_eq!((drip.status(), drip.text().lines().count()), (200, 8), "{}", drip.summary());
}

#[test]
fn an_upload_may_take_longer_than_the_wait_for_its_answer() {
    let mesh = Mesh::on_files();
    let _payments = mesh.instance("payments", "payments-1");
    let caller = mesh.builder("orders").config(SHORT).start();
    first_call(&caller, "payments");
    let mut conn = Conn::connect(caller.outbound()).unwrap();
    conn.write(b"POST /upload HTTP/1.1\r\nhost: payments\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        conn.write_chunk(&[b'x'; 1_000]).unwrap();
        // A slow sender is what this is about: it paces, it does not wait for anything.
        std::thread::sleep(Duration::from_millis(100));
    }
    conn.write(b"0\r\n\r\n").unwrap();
    let answer = conn.read_response(false).unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.summary());
}

#[test]
fn the_callees_app_is_told_what_time_remains() {
    let mesh = Mesh::on_files();
    let (caller, _payments) = mesh.pair();
    let request = Request::get("payments", "/headers").header("x-pillion-timeout", "5s");
    let seen = call(caller.outbound(), &request).json();
    let value = seen["headers"]
        .as_array()
        .unwrap()
        .iter()
        .find(|pair| pair[0] == "x-pillion-timeout")
        .unwrap_or_else(|| panic!("no x-pillion-timeout among {seen}"))[1]
        .as_str()
        .unwrap()
        .to_owned();
    let left: f64 = value.strip_suffix("ms").and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value:?}"));
    assert!((3_000.0..=5_000.0).contains(&left), "{value}");
}

#[test]
fn a_bad_timeout_is_refused_and_not_guessed_at() {
    let mesh = Mesh::on_files();
    let (caller, payments) = mesh.pair();
    let before = payments.app.requests();
    for value in ["soon", "-1s", "5 parsecs", "99999999999999999999999s"] {
        let request = Request::get("payments", "/who").header("x-pillion-timeout", value);
        let answer = call(caller.outbound(), &request);
        assert_eq!(
            (answer.status(), answer.header("x-pillion-error")),
            (400, Some("bad-request")),
            "{value}: {}",
            answer.summary()
        );
    }
    assert_eq!(payments.app.requests(), before);
}
