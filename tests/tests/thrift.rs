//! Apache Thrift: a port where each message is a call, told apart by its method, balanced by itself and answered in its turn.

use pillion_tests::mesh::{Doorway, connect};
use pillion_tests::prelude::*;
use pillion_tests::rawapp::RawApp;
use pillion_tests::served::Served;
use pillion_tests::thrift::{Message, NOTHING, PROTOCOLS, ask, assert_closed, bank, scenario};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use thrift::{FRAME_BYTES, MessageType, Protocol};

/// How long what happens at once may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A port for `bank`, whose apps these are. `config`: for the caller's sidecar.
#[track_caller]
fn open(apps: &[SocketAddr], config: &str) -> Doorway {
    Doorway::open("bank", "thrift", apps, [config, ""])
}

/// Calls that a sidecar has counted.
fn counted(sidecar: &Sidecar, direction: &str, outcome: &str) -> f64 {
    let labels = [("service", "bank"), ("direction", direction), ("outcome", outcome)];
    sidecar.metric("pillion_calls_total", &labels)
}

/// Waits until the caller's sidecar has counted so many calls that ended like this: it does when the answer is out.
#[track_caller]
fn wait_counted(pair: &Doorway, outcome: &str, count: f64) {
    until("the calls are counted", PATIENCE, || match counted(&pair.caller, "outbound", outcome) {
        now if now == count => Ok(()),
        now => Err((now, count)),
    });
}

/// Answers each call with what `serve` makes of it, until that is nothing.
fn app(serve: impl Fn(&Message, &mut TcpStream) -> Option<Message> + Send + Sync + 'static) -> RawApp {
    RawApp::start(move |mut stream| {
        while let Ok(Some(call)) = Message::read(&mut stream) {
            match serve(&call, &mut stream) {
                Some(answer) if answer.write(&mut stream).is_ok() => {}
                _ => return,
            }
        }
    })
}

fn echo() -> RawApp {
    app(|call, _| Some(call.answer(&call.fields)))
}

#[test]
fn thrifts_own_library_notices_nothing() {
    for protocol in PROTOCOLS {
        let bank = bank(protocol, "bank-1");
        let pair = open(&[bank.address()], "[log]\naccess = true");
        let want = [
            "add -3 9223372036854775807",
            "merge one [1, 2, -9223372036854775808] ['inner', 'other'] [7]",
            "withdraw 17 gr\u{fc}\u{df}e [1, -1]",
            "nothing 1 Unknown function nothing",
            "after a oneway 2",
            "notes True",
            "mirror 0 True",
            "mirror 4096 True",
            "mirror 65536 True",
            "mirror 5242881 True",
        ];
        for name in ["all", "multiplexed"] {
            assert_eq!(scenario(bank.address(), protocol, name), want, "{protocol:?}, {name}, without sidecars");
            assert_eq!(scenario(pair.door.local(), protocol, name), want, "{protocol:?}, {name}");
        }
        for (sidecar, direction) in [(&pair.caller, "outbound"), (&pair.callees[0], "inbound")] {
            until("each call is counted by how it ended", PATIENCE, || {
                let counts = ["app_error", "ok"].map(|outcome| counted(sidecar, direction, outcome));
                // The method that is not known is the app's failure; the exception that the IDL declares is an answer.
                if counts[0] == 2.0 && counts[1] >= 22.0 { Ok(()) } else { Err(counts) }
            });
            assert_eq!(counted(sidecar, direction, "cancelled"), 0.0);
        }
        let scrape = pair.caller.metrics();
        let by_method = |method| scrape.sum("pillion_method_calls_total", &[("service", "bank"), ("method", method)]);
        assert_eq!((by_method("withdraw"), by_method("Bank:merge"), by_method("nothing")), (1.0, 1.0, 0.0));
        let log = pair.caller.log();
        for path in ["/add", "/withdraw", "/nothing", "/Bank:merge"] {
            assert!(log.contains(path), "{path} is not in the access log");
        }
        // The server answers a oneway call that it does not know. That must not be taken for the answer to the next.
        assert_eq!(scenario(pair.door.local(), protocol, "unknown"), ["after an unknown oneway 2"]);
    }
}

#[test]
fn calls_of_one_connection_go_to_all_instances_at_once_and_are_answered_in_their_order() {
    const CALLS: usize = 100;
    for protocol in PROTOCOLS {
        let arrived = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let apps = [0, 1].map(|number| {
            let arrived = Arc::clone(&arrived);
            app(move |call, _| {
                arrived[number].fetch_add(1, Ordering::SeqCst);
                // No call is answered before all are here, and then the later ones may well be first.
                let all = || arrived.iter().map(|count| count.load(Ordering::SeqCst)).sum::<usize>() == CALLS;
                assert!(within(PATIENCE, all), "they do not run at once");
                Some(call.answer(&call.fields))
            })
        });
        let pair = open(&apps.each_ref().map(RawApp::address), "");
        let mut stream = pair.connect();
        let calls: Vec<_> =
            (0..CALLS).map(|n| Message::call(protocol, "mirror", 7 * n as i32 - 50, &[n as u8; 300])).collect();
        let all: Vec<u8> = calls.iter().flat_map(Message::frame).collect();
        stream.write_all(&all).unwrap();
        for call in &calls {
            assert_eq!(Message::read(&mut stream).unwrap().unwrap(), call.answer(&call.fields));
        }
        let shares = arrived.each_ref().map(|count| count.load(Ordering::SeqCst));
        assert!(shares.iter().all(|share| *share >= CALLS / 4), "{shares:?}");
    }
}

#[test]
fn a_caller_that_takes_no_answers_is_not_read_on() {
    const CALLS: usize = 400;
    // What waits for its turn, and what the kernel's buffers hold of answers of this size.
    const BOUND: usize = 128 + 64;
    let asked = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&asked);
    let app = app(move |call, _| {
        seen.fetch_add(1, Ordering::SeqCst);
        Some(call.answer(&vec![7; 256 * 1024]))
    });
    let pair = open(&[app.address()], "");
    let mut stream = pair.connect();
    for number in 0..CALLS {
        Message::call(Protocol::Binary, "much", number as i32, NOTHING).write(&mut stream).unwrap();
    }
    until("as many run as may", PATIENCE, || match asked.load(Ordering::SeqCst) {
        count if count >= 128 => Ok(()),
        count => Err(count),
    });
    for number in 0..CALLS {
        assert!(asked.load(Ordering::SeqCst) <= number + BOUND, "with {number} answers taken");
        let answer = Message::read(&mut stream).unwrap().unwrap();
        assert_eq!((answer.head.sequence, answer.fields.len()), (number as i32, 256 * 1024));
    }
}

/// Clients of Thrift's close a connection and never one side of it. Whether by an end or by a reset, however much is under way: what was
/// asked ends, and what nobody waits for runs.
#[test]
fn a_caller_that_is_gone_is_given_up_and_its_oneway_calls_are_not() {
    const NOTES: usize = 20;
    let (hanging, noted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (running, notes) = (Arc::clone(&hanging), Arc::clone(&noted));
    let app = app(move |call, stream| {
        if call.head.message_type == MessageType::Oneway {
            notes.fetch_add(1, Ordering::SeqCst);
            return None;
        }
        running.fetch_add(1, Ordering::SeqCst);
        // Until the sidecar closes.
        let _ = stream.read(&mut [0]);
        running.fetch_sub(1, Ordering::SeqCst);
        None
    });
    let pair = open(&[app.address()], "");
    let until_are = |what: &str, count: &AtomicUsize, wanted: usize| {
        until(what, PATIENCE, || match count.load(Ordering::SeqCst) {
            now if now == wanted => Ok(()),
            now => Err((now, wanted)),
        });
    };
    // The latter are as many as may run at once: those that follow are not read before.
    for calls in [3, 128] {
        for is_reset in [false, true] {
            let mut stream = pair.connect();
            let call = Message::call(Protocol::Binary, "hang", 1, NOTHING);
            stream.write_all(&call.frame().repeat(calls)).unwrap();
            until_are("all run", &hanging, calls);
            if !is_reset {
                noted.store(0, Ordering::SeqCst);
                let note = Message::call(Protocol::Compact, "note", 2, b"\0").of_type(MessageType::Oneway);
                stream.write_all(&note.frame().repeat(NOTES)).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
            } else {
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                drop(stream);
            }
            until_are("none runs", &hanging, 0);
            until_are("what nobody waits for has run", &noted, NOTES);
        }
    }
    wait_counted(&pair, "cancelled", 2.0 * (3.0 + 128.0));
}

#[test]
fn what_an_app_does_wrong_is_told_in_an_exception() {
    let app = app(|call, stream| {
        let good = call.answer(&call.fields);
        let bytes = match call.head.name.as_str() {
            "echo" => return Some(good),
            "close" => return None,
            "half" => good.frame()[..good.frame().len() - 2].to_vec(),
            "http" => b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_vec(),
            "short" => vec![0, 0, 0, 2, 0x80, 0x01],
            "type" => call.frame(),
            "number" => {
                Message::call(call.head.protocol, "number", call.head.sequence + 1, NOTHING).answer(NOTHING).frame()
            }
            other => Message::call(call.head.protocol, &format!("not {other}"), call.head.sequence, NOTHING)
                .answer(NOTHING)
                .frame(),
        };
        stream.write_all(&bytes).unwrap();
        None
    });
    for protocol in PROTOCOLS {
        let pair = open(&[app.address()], "");
        let mut stream = pair.connect();
        for (number, (method, code, executed)) in [
            ("close", "app-closed", "unknown"),
            ("half", "app-closed", "yes"),
            ("http", "app-bad-response", "unknown"),
            ("short", "app-bad-response", "unknown"),
            ("type", "app-bad-response", "unknown"),
            ("number", "app-bad-response", "unknown"),
            ("name", "app-bad-response", "unknown"),
        ]
        .into_iter()
        .enumerate()
        {
            let call = Message::call(protocol, method, number as i32, NOTHING);
            let answer = ask(&mut stream, &call);
            let text = answer.failure();
            assert_eq!(answer.head, call.of_type(MessageType::Exception).head);
            let said = format!("{code} (app, ");
            assert!(text.contains(&said) && text.contains(&format!("executed: {executed}")), "{method}: {text}");
            assert!(text.contains("endpoint 127.0.0.1:"), "{method}: {text}");
        }
        let call = Message::call(protocol, "echo", 1, b"well");
        assert_eq!(ask(&mut stream, &call), call.answer(b"well"), "the connection is as good as before");
        wait_counted(&pair, "app_error", 7.0);
    }
}

#[test]
fn an_app_that_is_late_or_not_there_is_told_in_an_exception() {
    let app = app(|call, stream| match call.head.name.as_str() {
        "echo" => Some(call.answer(&call.fields)),
        _ => {
            let _ = stream.read(&mut [0]);
            None
        }
    });
    let timeouts = "[timeouts]\nresponse = \"1s\"\nconnect = \"1s\"";
    let pair = open(&[app.address()], timeouts);
    let mut stream = pair.connect();
    let answer = ask(&mut stream, &Message::call(Protocol::Binary, "hang", 1, NOTHING));
    let text = answer.failure();
    assert!(text.contains("response-timeout") && text.contains("timeouts.response"), "{text}");
    // Nobody waits for a oneway call, and nobody is told of it.
    Message::call(Protocol::Binary, "hang", 2, NOTHING).of_type(MessageType::Oneway).write(&mut stream).unwrap();
    let call = Message::call(Protocol::Binary, "echo", 3, b"next");
    assert_eq!(ask(&mut stream, &call), call.answer(b"next"));
    let mut bank = bank(Protocol::Binary, "bank-1");
    let pair = open(&[bank.address()], "");
    bank.kill();
    let mut stream = pair.connect();
    // What is left of a long message that nobody takes does not stand in the way of the next.
    let long = ask(&mut stream, &Message::call(Protocol::Binary, "mirror", 0, &[0; 3_000_000])).failure();
    assert!(long.contains("executed: no"), "{long}");
    let down = ask(&mut stream, &Message::call(Protocol::Binary, "who", 1, NOTHING)).failure();
    let known = ["app-not-connected", "no-endpoints", "unknown-service"].iter().any(|code| down.contains(code));
    assert!(known && down.contains("executed: no"), "{down}");
}

#[test]
fn callers_of_the_wrong_protocol_are_told() {
    let app = echo();
    let pair = open(&[app.address()], "");
    let answer = get(pair.caller.outbound(), "bank", "/");
    assert_eq!((answer.status(), answer.header("x-pillion-error")), (502, Some("wrong-protocol")), "{}", answer.text());
    let http = App::start("bank-http");
    let mesh = Mesh::on_files();
    let callee = mesh.builder("bank").app(http.address()).start();
    let (caller, door) = mesh.door("bank", "thrift", "");
    caller.wait_table("bank", PATIENCE, &[callee.inbound()]);
    let text = ask(&mut connect(door.local()), &Message::call(Protocol::Compact, "who", 1, NOTHING)).failure();
    assert!(text.contains("wrong-protocol") && text.contains("executed: no"), "{text}");
    assert_eq!(http.requests(), 0);
}

#[test]
fn what_is_no_framed_thrift_is_closed_counted_and_named() {
    let app = echo();
    let pair = open(&[app.address()], "");
    let over = u32::try_from(FRAME_BYTES + 1).unwrap().to_be_bytes();
    let cases: [(&[u8], &str); 6] = [
        (b"GET / HTTP/1.1\r\nhost: bank\r\n\r\n", "Thrift over HTTP goes through an HTTP port"),
        (&[0x80, 1, 0, 1, 0, 0, 0, 3, b'w', b'h', b'o', 0, 0, 0, 1, 0], "use the framed transport"),
        (&[0x16, 3, 1, 2, 0, 1, 0, 1], "connect without it"),
        (&over, "at most 16384000 may be"),
        (&[0, 0, 0, 12, 0, 0, 0, 3, b'w', b'h', b'o', 1, 0, 0, 0, 1], "strictWrite"),
        (&[0, 0, 0, 5, 0x82, 0x21, 0, 3, b'w'], "ends within the head"),
    ];
    let mut good = pair.connect();
    for (number, (bytes, words)) in cases.into_iter().enumerate() {
        let mut stream = pair.connect();
        stream.write_all(bytes).unwrap();
        assert_closed(&mut stream);
        let call = Message::call(Protocol::Binary, "echo", number as i32, b"x");
        assert_eq!(ask(&mut good, &call), call.answer(b"x"));
        until(
            "the log says what to do",
            PATIENCE,
            || if pair.caller.log().contains(words) { Ok(()) } else { Err(words) },
        );
        assert_eq!(pair.caller.metric("pillion_errors_total", &[("code", "bad-request")]), (number + 1) as f64);
    }
    // Where there is somebody to tell, it is told, and what it asked before is answered first.
    let call = Message::call(Protocol::Compact, "echo", 4, b"before");
    let mut stream = pair.connect();
    for frame in [call.frame(), call.answer(b"?").frame(), call.frame(), vec![0xff; 4]] {
        stream.write_all(&frame).unwrap();
    }
    assert_eq!(Message::read(&mut stream).unwrap(), Some(call.answer(b"before")));
    let text = Message::read(&mut stream).unwrap().unwrap().failure();
    assert!(text.contains("bad-request") && text.contains("Reply"), "{text}");
    assert_eq!(Message::read(&mut stream).unwrap(), Some(call.answer(b"before")));
    assert_closed(&mut stream);
}

#[test]
fn a_frame_may_be_as_long_as_thrift_allows() {
    let app = echo();
    let pair = open(&[app.address()], "");
    let empty = Message::call(Protocol::Binary, "echo", 1, &[]).frame().len() - thrift::PREFIX_BYTES;
    let call = Message::call(Protocol::Binary, "echo", 1, &vec![5; FRAME_BYTES - empty]);
    let mut stream = pair.connect();
    let mut reading = stream.try_clone().unwrap();
    let reader = std::thread::spawn(move || Message::read(&mut reading).unwrap().unwrap());
    call.write(&mut stream).unwrap();
    assert!(reader.join().unwrap() == call.answer(&call.fields), "it came back another");
}

#[test]
fn slow_callers_are_closed_and_idle_ones_are_not() {
    let app = echo();
    let pair = open(&[app.address()], "[timeouts]\nheader = \"1s\"");
    let mut idle = pair.connect();
    let mut slow: Vec<_> = (0..50).map(|_| pair.connect()).collect();
    let frame = Message::call(Protocol::Binary, "echo", 1, b"slow").frame();
    for (number, stream) in slow.iter_mut().enumerate() {
        // In the frame's length, in the head, and just before the end.
        stream.write_all(&frame[..1 + number % (frame.len() - 1)]).unwrap();
    }
    for stream in &mut slow {
        assert_closed(stream);
    }
    // It has waited as long, and said nothing.
    let call = Message::call(Protocol::Binary, "echo", 1, b"idle");
    assert_eq!(ask(&mut idle, &call), call.answer(b"idle"));
    wait_counted(&pair, "ok", 1.0);
}

/// Callers that ask one call after the other, each on its connection.
struct Asking {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    callers: Vec<std::thread::JoinHandle<Vec<Message>>>,
}

impl Asking {
    fn start(to: SocketAddr) -> Asking {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let callers = (0..8).map(|_| {
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            std::thread::spawn(move || {
                let mut stream = connect(to);
                let mut answers = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let call = Message::call(Protocol::Binary, "who", answers.len() as i32, NOTHING);
                    let answer = ask(&mut stream, &call);
                    assert_eq!((&answer.head.name, answer.head.sequence), (&call.head.name, call.head.sequence));
                    answers.push(answer);
                    asked.fetch_add(1, Ordering::SeqCst);
                }
                answers
            })
        });
        let callers = callers.collect();
        Asking { stop, asked, callers }
    }

    /// Waits for as many answers more.
    fn go_on(&self, count: usize) {
        let enough = self.asked.load(Ordering::SeqCst) + count;
        until("calls are answered", Duration::from_secs(60), || match self.asked.load(Ordering::SeqCst) {
            asked if asked >= enough => Ok(()),
            asked => Err((asked, enough)),
        });
    }

    fn end(self) -> Vec<Message> {
        self.stop.store(true, Ordering::SeqCst);
        self.callers.into_iter().flat_map(|caller| caller.join().expect("each call was answered")).collect()
    }
}

#[test]
fn killed_under_load_every_call_is_answered_or_told_why_it_was_not() {
    let mut banks = ["bank-1", "bank-2", "bank-3"].map(|name| bank(Protocol::Binary, name));
    let mut pair = open(&banks.each_ref().map(Served::address), "");
    let asking = Asking::start(pair.door.local());
    asking.go_on(200);
    banks[0].kill();
    asking.go_on(300);
    pair.callees[1].kill();
    asking.go_on(300);
    let answers = asking.end();
    let (good, failed): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.head.message_type == MessageType::Reply);
    assert!(good.len() >= 700, "{} of {} were answered", good.len(), answers.len());
    // At the most those that were under way, twice.
    assert!(failed.len() <= 16, "{} failed: {:?}", failed.len(), failed[0].failure());
    for answer in failed {
        let text = answer.failure();
        let known = ["app-closed", "channel-lost", "app-not-connected", "connect-failed"];
        assert!(known.iter().any(|code| text.contains(code)) && text.contains("executed: "), "{text}");
    }
    assert!(answers.last().is_some_and(|answer| answer.head.message_type == MessageType::Reply));
}

#[test]
fn an_instance_that_drains_costs_no_call() {
    let banks = ["bank-1", "bank-2"].map(|name| bank(Protocol::Binary, name));
    // As long as its app is there, a sidecar that was told to end stays all of this.
    let drain = "[timeouts]\ndrain = \"5s\"";
    let mut pair = Doorway::open("bank", "thrift", &banks.each_ref().map(Served::address), ["", drain]);
    let asking = Asking::start(pair.door.local());
    asking.go_on(200);
    assert!(pair.callees[0].term().success());
    asking.go_on(200);
    for answer in asking.end() {
        assert_eq!(answer.head.message_type, MessageType::Reply, "{answer:?}");
    }
}
