use std::{
    io::Write,
    net::SocketAddr,
    sync::mpsc::{self, Receiver, Sender},
    time::Duration,
};

use super::{access::AccessEntry, *};
use crate::metrics::{Direction, Outcome};

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("sink").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is written when `log` is in force and `act` runs.
fn logged(log: &Log, act: impl FnOnce(&Handle)) -> String {
    let sink = Sink::default();
    let writer = Writer::start(Box::new(sink.clone())).expect("thread");
    let (subscriber, handle) = build(log, writer).expect("build");
    tracing::subscriber::with_default(subscriber, || act(&handle));
    drop(handle);
    let bytes = sink.0.lock().expect("sink").clone();
    String::from_utf8(bytes).expect("utf-8")
}

fn entry() -> AccessEntry<'static> {
    AccessEntry {
        direction: Direction::Outbound,
        service: "payments",
        method: "POST",
        path: "/charge?card=4111",
        status: Some(200),
        outcome: Outcome::Ok,
        duration: Duration::from_micros(1_234),
        request_bytes: 10,
        response_bytes: 20,
        peer: "",
        endpoint: Some(SocketAddr::from(([10, 0, 0, 7], 4143))),
        request_id: "r1\nINFO forged",
        attempts: 2,
    }
}

#[test]
fn an_access_line_has_every_field_and_no_query() {
    let text = logged(&Log { level: "off".into(), ..Log::default() }, |_| access::record(&entry()));
    for part in [
        "pillion::access",
        "direction=\"outbound\"",
        "service=\"payments\"",
        "method=\"POST\"",
        "path=\"/charge\"",
        "status=200",
        "outcome=\"ok\"",
        "duration_us=1234",
        "request_bytes=10",
        "response_bytes=20",
        "endpoint=10.0.0.7:4143",
        "request_id=\"r1\\nINFO forged\"",
        "attempts=2",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains("4111") && text.lines().count() == 1, "{text}");
}

#[test]
fn json_lines_are_json() {
    let log = Log { format: LogFormat::Json, ..Log::default() };
    let text = logged(&log, |_| {
        access::record(&entry());
        tracing::warn!(service = "orders", "a \"word\"");
    });
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!(lines[0]["target"], "pillion::access");
    assert_eq!(lines[0]["request_id"], "r1\nINFO forged");
    assert_eq!(lines[0]["duration_us"], 1_234);
    assert_eq!(lines[1]["level"], "WARN");
    assert_eq!(lines[1]["message"], "a \"word\"");
}

#[test]
fn the_level_can_be_changed_and_a_wrong_one_leaves_the_old() {
    let text = logged(&Log { level: "warn".into(), ..Log::default() }, |handle| {
        tracing::info!("one");
        handle.set_level("pillion=debug").expect("level");
        tracing::debug!("two");
        let error = handle.set_level("degub").expect_err("refused").to_string();
        assert!(error.contains("did you mean `debug`"), "{error}");
        tracing::debug!("three");
        assert_eq!(handle.level(), "pillion=debug");
    });
    assert!(!text.contains("one") && text.contains("two") && text.contains("three"), "{text}");
}

/// Says when a write begins, and ends it when told to.
struct Stalled(Sender<()>, Receiver<()>);

impl Write for Stalled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(()).expect("test lives");
        self.1.recv().expect("test lives");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stalled_stderr_costs_lines_and_not_time() {
    let (began, begun) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let writer = Writer::start(Box::new(Stalled(began, released))).expect("thread");
    writeln!(writer.line(), "the one that stalls").expect("queued");
    begun.recv().expect("a write begins");
    for number in 0..10_000 {
        writeln!(writer.line(), "{number}").expect("queued or dropped");
    }
    assert_eq!(writer.take_dropped(), 10_000 - 8_192);
    assert_eq!(writer.take_dropped(), 0);
    drop(writer);
    // Ends the writes that are still to come, whether few or many.
    while release.send(()).is_ok() && begun.recv().is_ok() {}
}

#[test]
fn what_is_logged_after_the_handle_is_gone_is_still_written() {
    let sink = Sink::default();
    let writer = Writer::start(Box::new(sink.clone())).expect("thread");
    let (subscriber, handle) = build(&Log::default(), writer).expect("build");
    tracing::subscriber::with_default(subscriber, || {
        drop(handle);
        tracing::error!("the last word");
        let text = String::from_utf8(sink.0.lock().expect("sink").clone()).expect("utf-8");
        assert!(text.contains("the last word"), "{text}");
    });
}
