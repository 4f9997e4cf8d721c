//! One case for each hex example of the document: how it comes about, and what the other side sees.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use wire::*;

use crate::common::*;
use crate::{hex, unhex};

pub(crate) fn all() -> impl Iterator<Item = Case> {
    [requests(), responses(), bodies(), refusals(), connection(), growth()].into_iter().flatten()
}

type Step = Box<dyn Fn(&mut Pair)>;
type Look = Box<dyn Fn(&mut Pair, Vec<Event>)>;

/// One example: who sends it, what went before, what makes it, and what the other side sees.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    from: Side,
    before: Step,
    /// `None`: this version never makes it.
    make: Option<Step>,
    see: Look,
    server: Config,
}

fn case(
    name: &'static str,
    from: Side,
    before: impl Fn(&mut Pair) + 'static,
    make: impl Fn(&mut Pair) + 'static,
    see: impl Fn(&mut Pair, Vec<Event>) + 'static,
) -> Case {
    Case { name, from, before: Box::new(before), make: Some(Box::new(make)), see: Box::new(see), server: config() }
}

impl Case {
    pub(crate) fn check(&self, bytes: &[u8]) {
        let name = self.name;
        if let Some(make) = &self.make {
            let mut pair = self.pair();
            make(&mut pair);
            let sender = if self.from == Side::Client { &mut pair.client } else { &mut pair.server };
            let mut out = Vec::new();
            while sender.poll_transmit(pair.now, &mut out, limits::FLUSH_BYTES) {}
            assert_eq!(hex(&out), hex(bytes), "{name} made");
        }
        let mut pair = self.pair();
        let receiver = if self.from == Side::Client { &mut pair.server } else { &mut pair.client };
        let mut input = BytesMut::from(bytes);
        receiver.handle_input(pair.now, &mut input);
        assert!(input.is_empty(), "{name}: bytes left");
        let events = std::iter::from_fn(|| receiver.poll_event()).collect();
        (self.see)(&mut pair, events);
    }

    fn pair(&self) -> Pair {
        let mut pair = Pair::with(config(), self.server.clone());
        (self.before)(&mut pair);
        pair.exchange();
        let _ = (pair.client_events(), pair.server_events());
        pair
    }
}

fn nothing(_: &mut Pair) {}

/// Call 1 is open at both ends; `end`: its upload has ended.
fn opened(end: bool) -> impl Fn(&mut Pair) {
    move |pair| {
        pair.opened(end);
    }
}

fn answered(pair: &mut Pair) {
    let id = pair.opened(true);
    pair.server.respond(id, &ResponseHead { status: 200, ..ResponseHead::default() }, Bytes::new(), false).unwrap();
}

const ONE: RequestId = RequestId(1);

fn pay() -> RequestHead {
    let mut headers = Headers::new();
    headers.push(b"accept", b"*/*");
    headers.push(b"x-tenant", b"blue");
    headers.push(b"authorization", b"Bearer 1234");
    RequestHead {
        timeout: Some(Duration::from_millis(1500)),
        service: Bytes::from_static(b"payments"),
        method: Bytes::from_static(b"GET"),
        path: Bytes::from_static(b"/v1/pay"),
        headers,
        ..RequestHead::default()
    }
}

fn full() -> RequestHead {
    let counting = |from: u8| std::array::from_fn(|at| from + at as u8);
    let trace = TraceContext { trace_id: counting(0), span_id: std::array::from_fn(|at| 0x10 + at as u8), flags: 1 };
    RequestHead {
        kind: Kind::Rpc,
        timeout: None,
        attempt: 1,
        priority: 5,
        trace: Some(trace),
        call_id: Some(counting(0xf0)),
        service: Bytes::from_static(b"queue"),
        method: Bytes::from_static(b"POST"),
        path: Bytes::from_static(b"/"),
        headers: [(&b"content-type"[..], &b"application/json"[..])].into_iter().collect(),
    }
}

fn tcp() -> RequestHead {
    RequestHead { kind: Kind::Tcp, service: Bytes::from_static(b"db"), ..RequestHead::default() }
}

fn order(value: &str) -> ResponseHead {
    ResponseHead { status: 200, headers: [(&b"x-order"[..], value.as_bytes())].into_iter().collect() }
}

/// Answers with the values of x-order that came before.
fn orders(before: &'static [&'static str]) -> impl Fn(&mut Pair) {
    move |pair| {
        for value in before {
            let id = pair.opened(true);
            pair.server.respond(id, &order(value), Bytes::new(), true).unwrap();
            pair.exchange();
        }
        pair.opened(true);
    }
}

/// The last call that was opened.
fn last(pair: &mut Pair) -> RequestId {
    RequestId((1..100).rev().find(|id| pair.is_live(*id) && pair.server.send_room(RequestId(*id)) == 0).unwrap())
}

impl Pair {
    /// An answer is still to be given.
    fn is_live(&self, id: u64) -> bool {
        // Calls are opened one after the other here, and all but the last are answered.
        id == self.client_sent_requests()
    }

    fn client_sent_requests(&self) -> u64 {
        frames(&self.client_sent).iter().filter(|frame| frame.0 == 0x10).count() as u64
    }
}

fn seven() -> ResponseHead {
    let mut headers = Headers::new();
    // Four bytes each with their name: 36 with the overhead.
    for name in [b"s1", b"s2", b"s3", b"s4", b"s5", b"s6", b"s7"] {
        headers.push(name, b"vv");
        headers.push(name, b"vv");
    }
    ResponseHead { status: 200, headers }
}

fn large() -> ResponseHead {
    let value = [b'a'; 30];
    ResponseHead { status: 200, headers: [(&b"l1"[..], &value[..]), (b"l1", &value)].into_iter().collect() }
}

fn sees_request(head: RequestHead, body: &'static [u8], ends: bool) -> impl Fn(&mut Pair, Vec<Event>) {
    move |_, events| match &events[..] {
        [Event::Request { head: came, body: inline, end, .. }] => {
            assert_eq!((came, &inline[..], *end), (&head, body, ends));
            let sensitive = came.headers.iter().filter(|header| header.sensitive).count();
            assert_eq!(sensitive, head.headers.iter().filter(|header| header.sensitive).count());
        }
        other => panic!("{other:?}"),
    }
}

fn sees_response(head: ResponseHead, body: &'static [u8], ends: bool) -> impl Fn(&mut Pair, Vec<Event>) {
    move |_, events| match &events[..] {
        [Event::Response { head: came, body: inline, end, token, .. }] => {
            assert_eq!((came, &inline[..], *end, *token), (&head, body, ends, Token(77)));
        }
        other => panic!("{other:?}"),
    }
}

fn requests() -> Vec<Case> {
    let open = |head: fn() -> RequestHead, body: &'static [u8], end: bool| {
        move |pair: &mut Pair| {
            pair.client.open(pair.now, &head(), Bytes::from_static(body), end, Token(77)).unwrap();
        }
    };
    let pays = |times: usize| {
        move |pair: &mut Pair| {
            for _ in 0..times {
                pair.client.open(pair.now, &pay(), Bytes::new(), true, Token(77)).unwrap();
            }
        }
    };
    let json = br#"{"amount":1}"#;
    vec![
        case("request-first", Side::Client, nothing, pays(1), sees_request(pay(), b"", true)),
        case("request-second", Side::Client, pays(1), pays(1), sees_request(pay(), b"", true)),
        case("request-third", Side::Client, pays(2), pays(1), sees_request(pay(), b"", true)),
        case("request-full", Side::Client, nothing, open(full, json, true), sees_request(full(), json, true)),
        case("request-tcp", Side::Client, nothing, open(tcp, b"", false), sees_request(tcp(), b"", false)),
    ]
}

fn responses() -> Vec<Case> {
    let plain = || ResponseHead {
        status: 200,
        headers: [(&b"content-type"[..], &b"text/plain; charset=utf-8"[..])].into_iter().collect(),
    };
    let missing = || ResponseHead { status: 404, ..ResponseHead::default() };
    let answer = |head: ResponseHead, body: &'static [u8], end: bool| {
        move |pair: &mut Pair| {
            let id = last(pair);
            pair.server.respond(id, &head, Bytes::from_static(body), end).unwrap();
        }
    };
    let ordered = |name, before, value| {
        case(
            name,
            Side::Server,
            orders(before),
            answer(order(value), b"", true),
            sees_response(order(value), b"", true),
        )
    };
    let mut evict = case(
        "evict",
        Side::Server,
        |pair| {
            let id = pair.opened(true);
            pair.server.respond(id, &seven(), Bytes::new(), true).unwrap();
            pair.exchange();
            pair.opened(true);
        },
        answer(large(), b"", true),
        sees_response(large(), b"", true),
    );
    evict.server.dictionary_bytes = 256;
    vec![
        case(
            "response-inline",
            Side::Server,
            opened(true),
            answer(plain(), b"hello", true),
            sees_response(plain(), b"hello", true),
        ),
        case(
            "response-head",
            Side::Server,
            opened(true),
            answer(missing(), b"", false),
            sees_response(missing(), b"", false),
        ),
        ordered("order-1", &[], "1"),
        ordered("order-2", &["1"], "2"),
        ordered("order-3", &["1", "2"], "3"),
        ordered("order-3-again", &["1", "2", "3"], "3"),
        ordered("order-3-at-last", &["1", "2", "3", "3"], "3"),
        evict,
    ]
}

fn bodies() -> Vec<Case> {
    let data = |data: &'static [u8], end: bool| {
        move |pair: &mut Pair| pair.client.send_data(ONE, Bytes::from_static(data), end).unwrap()
    };
    let sees = |expected: &'static [u8], ends: bool| {
        move |_: &mut Pair, events: Vec<Event>| match &events[..] {
            [Event::Data { data, end, token: Token(88), .. }] => assert_eq!((&data[..], *end), (expected, ends)),
            other => panic!("{other:?}"),
        }
    };
    let sums = || -> Headers { [(&b"grpc-status"[..], &b"0"[..]), (b"x-sum", b"12345")].into_iter().collect() };
    vec![
        case("data", Side::Client, opened(false), data(b"hello", false), sees(b"hello", false)),
        case("data-end", Side::Client, opened(false), data(b"world", true), sees(b"world", true)),
        case("half-close", Side::Client, opened(false), data(b"", true), sees(b"", true)),
        case(
            "trailers",
            Side::Server,
            answered,
            move |pair| pair.server.send_trailers(ONE, &sums()).unwrap(),
            move |_, events| match &events[..] {
                [Event::Trailers { trailers, .. }] => assert_eq!(*trailers, sums()),
                other => panic!("{other:?}"),
            },
        ),
        case(
            "credit-stream",
            Side::Server,
            |pair| {
                pair.opened(false);
                pair.client.send_data(ONE, Bytes::from(vec![0; 65_536]), false).unwrap();
            },
            |pair| pair.server.consumed(ONE, 32_768),
            |pair, _| assert_eq!(pair.client.send_room(ONE), 98_304),
        ),
        case(
            "credit-connection",
            Side::Server,
            |pair| {
                pair.opened(false);
                pair.client.send_data(ONE, Bytes::from(vec![0; 65_535]), false).unwrap();
                pair.exchange();
                // One byte more is under way.
                pair.client.send_data(ONE, Bytes::from_static(b"x"), false).unwrap();
                let mut out = Vec::new();
                pair.client.poll_transmit(pair.now, &mut out, limits::FLUSH_BYTES);
                pair.to_server.extend_from_slice(&out);
            },
            |pair| pair.server.handle_input(pair.now, &mut pair.to_server),
            |pair, _| assert_eq!(pair.client.audit().in_flight, 0),
        ),
    ]
}

fn refusals() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, code) in [
        ("cancel-caller-gone", Cancel::CallerGone),
        ("cancel-deadline-passed", Cancel::DeadlinePassed),
        ("cancel-no-longer-needed", Cancel::NoLongerNeeded),
        ("cancel-protocol", Cancel::Protocol),
        ("cancel-overload", Cancel::Overload),
        ("cancel-other", Cancel::Other(900)),
    ] {
        let see = move |_: &mut Pair, events: Vec<Event>| match &events[..] {
            [Event::Cancelled { code: came, .. }] => assert_eq!(*came, code),
            other => panic!("{other:?}"),
        };
        cases.push(case(name, Side::Client, opened(false), move |pair| pair.client.cancel(ONE, code), see));
    }
    cases.push(case(
        "cancel-keep",
        Side::Server,
        |pair| {
            pair.opened(false);
            pair.server.respond(ONE, &ResponseHead::default(), Bytes::new(), true).unwrap();
        },
        |pair| pair.server.cancel(ONE, Cancel::NoLongerNeeded),
        |pair, events| {
            assert!(matches!(&events[..], [Event::Cancelled { code: Cancel::NoLongerNeeded, .. }]));
            assert_eq!(pair.client.live_streams(), 0);
        },
    ));
    for (name, reason, millis) in [
        ("nack-draining", NackReason::Draining, None),
        ("nack-overloaded", NackReason::Overloaded, Some(250)),
        ("nack-no-such-service", NackReason::NoSuchService, None),
        ("nack-app-not-connected", NackReason::AppNotConnected, Some(1000)),
        ("nack-deadline-passed", NackReason::DeadlinePassed, None),
        ("nack-policy", NackReason::Policy, None),
        ("nack-other", NackReason::Other(900), None),
    ] {
        let nack = Nack { reason, retry_after: millis.map(Duration::from_millis) };
        let see = move |_: &mut Pair, events: Vec<Event>| match &events[..] {
            [Event::Nack { nack: came, .. }] => assert_eq!(*came, nack),
            other => panic!("{other:?}"),
        };
        cases.push(case(name, Side::Server, opened(true), move |pair| pair.server.nack(ONE, nack), see));
    }
    for (name, code, origin, executed, text) in [
        ("error-sidecar-not-executed", 17, Origin::RemoteSidecar, Executed::No, "refused"),
        ("error-sidecar-unknown", 18, Origin::RemoteSidecar, Executed::Unknown, ""),
        ("error-app-executed", 19, Origin::App, Executed::Yes, "reset"),
        ("error-app-unknown", 20, Origin::App, Executed::Unknown, "timeout"),
    ] {
        let error = ErrorInfo { code, origin, executed, text: text.into() };
        let said = error.clone();
        let see = move |_: &mut Pair, events: Vec<Event>| match &events[..] {
            [Event::Error { error: came, .. }] => assert_eq!(*came, error),
            other => panic!("{other:?}"),
        };
        cases.push(case(name, Side::Server, opened(true), move |pair| pair.server.error(ONE, said.clone()), see));
    }
    cases
}

fn connection() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, reason) in [
        ("goodbye-finished", CloseReason::Finished),
        ("goodbye-protocol", CloseReason::Protocol("frame too large")),
        ("goodbye-flood", CloseReason::Flood),
        ("goodbye-wrong-peer", CloseReason::WrongPeer("not orders".into())),
        ("goodbye-peer-silent", CloseReason::PeerSilent),
        ("goodbye-hello-timeout", CloseReason::HelloTimeout),
        ("goodbye-version", CloseReason::Version),
    ] {
        let expected = reason.clone();
        let see = move |_: &mut Pair, events: Vec<Event>| match &events[..] {
            [Event::Closed(CloseReason::Goodbye { code, text })] => {
                assert_eq!(GoodbyeCode::from_code(*code), expected.code());
                let said = match &expected {
                    CloseReason::Protocol(said) => said,
                    CloseReason::WrongPeer(said) => said.as_str(),
                    _ => "",
                };
                assert_eq!(text, said);
            }
            other => panic!("{other:?}"),
        };
        cases.push(case(name, Side::Server, nothing, move |pair| pair.server.goodbye(reason.clone()), see));
    }
    cases.push(Case {
        make: None,
        ..case("goodbye-internal", Side::Server, nothing, nothing, |_, events| {
            assert!(matches!(&events[..], [Event::Closed(CloseReason::Goodbye { code: 7, .. })]));
        })
    });
    cases.push(case(
        "drain",
        Side::Server,
        opened(true),
        |pair| pair.server.drain(),
        |_, events| assert!(matches!(&events[..], [Event::Draining { last: ONE }])),
    ));
    cases.push(case(
        "ping",
        Side::Client,
        nothing,
        |pair| {
            pair.client.set_load(Load { in_flight: 3, queued: 1 });
            pair.advance(limits::PING_INTERVAL);
            pair.client.set_clock(pair.now, 1_000_000);
            pair.client.handle_timeout(pair.now);
        },
        |pair, _| assert_eq!(pair.server.peer_load(), Some(Load { in_flight: 3, queued: 1 })),
    ));
    cases.push(case(
        "pong",
        Side::Server,
        |pair| {
            pair.server.set_load(Load { in_flight: 9, queued: 4 });
            pair.server.set_clock(pair.now, 2_000_000);
        },
        |pair| {
            let payload = unhex("00000000000f4240 00000003 00000001");
            pair.server.handle_input(pair.now, &mut BytesMut::from(&raw_frame(0x02, 0, 0, &payload)[..]));
        },
        |pair, _| assert_eq!(pair.client.peer_load(), Some(Load { in_flight: 9, queued: 4 })),
    ));
    cases
}

/// What this version understands and never says.
fn growth() -> Vec<Case> {
    let silent = |name, see: fn(&mut Pair, Vec<Event>)| Case {
        make: None,
        ..case(name, Side::Server, opened(false), nothing, see)
    };
    vec![
        silent("skipped-frame", |pair, events| assert!(events.is_empty() && pair.client.live_streams() == 1)),
        silent("extended-credit", |pair, events| {
            assert!(events.is_empty());
            assert_eq!(pair.client.send_room(ONE), 65_536 + 4_096);
        }),
        Case {
            make: None,
            ..case("extended-data", Side::Client, opened(false), nothing, |_, events| {
                assert!(matches!(&events[..], [Event::Data { data, .. }] if *data == vec![0x61; 16_384]));
            })
        },
    ]
}
