//! What the fuzz targets run, here so that the corpus replays as an ordinary test.
#![allow(dead_code, unreachable_pub, reason = "each binary uses its own part")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use wire::*;

/// A source of decisions that never runs dry: after its end it gives 0.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn wide(&mut self) -> usize {
        usize::from(self.next()) << 8 | usize::from(self.next())
    }
}

/// Two ends with nothing but buffers between them.
struct Pair {
    now: Instant,
    client: End,
    server: End,
}

struct End {
    connection: Connection,
    /// On the way to this end.
    input: BytesMut,
    /// Calls that the driver may act on, oldest first.
    calls: Vec<RequestId>,
    /// Those that have had their last event.
    over: BTreeSet<RequestId>,
    unconsumed: Vec<(RequestId, usize)>,
    closed: Option<CloseReason>,
}

impl End {
    fn new(side: Side, config: Config, now: Instant) -> Self {
        Self {
            connection: Connection::new(side, config, now),
            input: BytesMut::new(),
            calls: Vec::new(),
            over: BTreeSet::new(),
            unconsumed: Vec::new(),
            closed: None,
        }
    }

    fn transmit(&mut self, now: Instant, max: usize, to: &mut BytesMut) {
        let promised = self.connection.wants_transmit();
        let mut out = Vec::new();
        let given = self.connection.poll_transmit(now, &mut out, max);
        assert!(promised || !given, "bytes out of nothing");
        to.extend_from_slice(&out);
    }

    fn receive(&mut self, now: Instant, bytes: usize) {
        let later = self.input.split_off(bytes.min(self.input.len()));
        self.connection.handle_input(now, &mut self.input);
        self.input.unsplit(later);
    }

    fn events(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            assert!(self.closed.is_none(), "an event after Closed: {event:?}");
            if let Some(id) = event.stream() {
                assert!(!self.over.contains(&id), "an event after the last one: {event:?}");
            }
            match event {
                Event::Hello(_) => self.connection.accept_peer(),
                Event::Request { id, .. } => {
                    assert!(self.calls.last().is_none_or(|last| *last < id));
                    self.connection.set_token(id, Token(id.0));
                    self.calls.push(id);
                }
                Event::Data { id, token, data, .. } => {
                    assert_eq!(token, Token(id.0));
                    self.unconsumed.push((id, data.len()));
                }
                Event::Cancelled { id, .. }
                | Event::Nack { id, .. }
                | Event::Error { id, .. }
                | Event::Lost { id, .. } => {
                    self.over.insert(id);
                }
                Event::Closed(reason) => self.closed = Some(reason),
                Event::Response { .. } | Event::Trailers { .. } | Event::Writable { .. } | Event::Draining { .. } => {}
            }
        }
    }

    /// By the driver's own decision.
    fn ended(&mut self, id: RequestId) {
        if self.calls.contains(&id) {
            self.over.insert(id);
        }
    }

    fn pick(&self, choice: u8) -> RequestId {
        // The newest are the likeliest; one that does not exist is possible too.
        let back = usize::from(choice % 16);
        self.calls.iter().rev().nth(back).copied().unwrap_or(RequestId(u64::from(choice)))
    }
}

impl Pair {
    fn new(choice: u8) -> Self {
        let now = Instant::now();
        let config = |bits: u8| Config {
            max_concurrent: if bits & 1 == 0 { 4_096 } else { 3 },
            dictionary_bytes: [8_192, 200, 0, 1_000][usize::from(bits >> 1 & 3)],
            memory_budget: if bits & 8 == 0 { 33_554_432 } else { 100_000 },
            send_budget: if bits & 6 == 4 { 50_000 } else { limits::SEND_BUDGET_BYTES },
            ..Config::default()
        };
        let (client, server) = (config(choice & 15), config(choice >> 4));
        Self { now, client: End::new(Side::Client, client, now), server: End::new(Side::Server, server, now) }
    }

    fn exchange(&mut self) {
        // Bounded: with all credit there is, two ends fall silent well within this.
        for _ in 0..1_000 {
            self.client.transmit(self.now, limits::FLUSH_BYTES, &mut self.server.input);
            self.server.receive(self.now, usize::MAX);
            self.server.events();
            self.server.transmit(self.now, limits::FLUSH_BYTES, &mut self.client.input);
            self.client.receive(self.now, usize::MAX);
            self.client.events();
            if !self.client.connection.wants_transmit() && !self.server.connection.wants_transmit() {
                return;
            }
        }
        panic!("the two ends never fall silent");
    }
}

/// Garbage for one end: of a fresh connection, of one after the HELLOs, or of one with calls.
pub fn bytes(data: &[u8]) {
    let mut choices = Choices(data);
    let state = choices.next();
    let mut pair = Pair::new(choices.next());
    if state & 3 > 0 {
        pair.exchange();
    }
    if state & 3 > 1 {
        for end in [true, false, false] {
            if let Ok(id) = pair.client.connection.open(pair.now, &head(state), Bytes::new(), end, Token(0)) {
                pair.client.connection.set_token(id, Token(id.0));
                pair.client.calls.push(id);
            }
        }
        pair.exchange();
        for id in pair.server.calls.clone().into_iter().take(2) {
            let _ =
                pair.server.connection.respond(id, &ResponseHead::default(), Bytes::from_static(&[1; 5_000]), false);
        }
    }
    if state & 3 > 2 {
        pair.exchange();
    }
    let end = if state & 4 == 0 { &mut pair.server } else { &mut pair.client };
    let piece = if state & 8 == 0 { usize::MAX } else { 1 + usize::from(choices.next()) };
    for part in choices.0.chunks(piece.min(choices.0.len().max(1))) {
        if state & 16 == 0 {
            end.input.extend_from_slice(part);
            end.connection.handle_input(pair.now, &mut end.input);
        } else {
            end.connection.handle_slice(pair.now, part);
        }
        while end.connection.poll_event().is_some() {}
        let _ = end.connection.audit();
        assert!(end.input.len() <= limits::FRAME_PAYLOAD_BYTES + limits::FRAME_HEADER_BYTES);
    }
    let mut out = Vec::new();
    for _ in 0..100 {
        let given = end.connection.poll_transmit(pair.now, &mut out, limits::FLUSH_BYTES);
        if !given {
            break;
        }
    }
    assert!(!end.connection.wants_transmit());
}

/// Two well-behaved drivers that do whatever the bytes say. Neither end may ever find fault with the other.
pub fn operations(data: &[u8]) {
    let mut choices = Choices(data);
    let mut pair = Pair::new(choices.next());
    let mut steps = 0;
    while !choices.0.is_empty() && steps < 2_000 {
        steps += 1;
        step(&mut pair, &mut choices);
        // A driver may act again before it looks at what came.
        let looks = choices.next();
        if looks & 1 == 0 {
            pair.client.events();
        }
        if looks & 2 == 0 {
            pair.server.events();
        }
        let _ = (pair.client.connection.audit(), pair.server.connection.audit());
    }
    finish(&mut pair);
}

fn step(pair: &mut Pair, choices: &mut Choices<'_>) {
    let now = pair.now;
    let operation = choices.next();
    let on_client = operation & 0x80 != 0;
    match operation & 0x7f {
        0..=15 => {
            let body = Bytes::from(vec![7; choices.wide() * usize::from(operation & 3)]);
            let opened = pair.client.connection.open(now, &head(operation), body, operation & 4 == 0, Token(0));
            if let Ok(id) = opened {
                // The token cannot be known before: it stands for itself from the first event on.
                pair.client.connection.set_token(id, Token(id.0));
                pair.client.calls.push(id);
            }
        }
        16..=31 => {
            let id = pair.server.pick(choices.next());
            let body = Bytes::from(vec![8; choices.wide() * usize::from(operation & 3)]);
            let _ = pair.server.connection.respond(id, &answer(operation), body, operation & 4 == 0);
        }
        32..=35 => {
            let id = pair.server.pick(choices.next());
            pair.server.connection.nack(id, Nack { reason: NackReason::Policy, retry_after: None });
            pair.server.ended(id);
        }
        36..=39 => {
            let id = pair.server.pick(choices.next());
            let (origin, executed) = (Origin::App, Executed::Unknown);
            pair.server.connection.error(id, ErrorInfo { code: 1, origin, executed, text: "x".into() });
            pair.server.ended(id);
        }
        40..=63 => {
            let end = if on_client { &mut pair.client } else { &mut pair.server };
            let id = end.pick(choices.next());
            let room = end.connection.send_room(id).min(choices.wide());
            let _ = end.connection.send_data(id, Bytes::from(vec![9; room]), operation & 1 == 0);
        }
        64..=67 => {
            let end = if on_client { &mut pair.client } else { &mut pair.server };
            let id = end.pick(choices.next());
            let _ = end.connection.send_trailers(id, &answer(operation).headers);
        }
        68..=79 => {
            let end = if on_client { &mut pair.client } else { &mut pair.server };
            let id = end.pick(choices.next());
            end.connection.cancel(id, if operation & 1 == 0 { Cancel::NoLongerNeeded } else { Cancel::CallerGone });
            end.ended(id);
        }
        80..=95 => {
            let end = if on_client { &mut pair.client } else { &mut pair.server };
            for (id, bytes) in end.unconsumed.drain(..) {
                end.connection.consumed(id, bytes);
            }
        }
        96..=111 => {
            let max = 1 + choices.wide() * 8;
            let (from, to) = ends(pair, on_client);
            from.transmit(now, max, &mut to.input);
        }
        112..=123 => {
            let bytes = choices.wide() * 4;
            let (_, to) = ends(pair, on_client);
            to.receive(now, bytes);
        }
        124 => {
            pair.now += Duration::from_millis(u64::from(choices.next()) * 8);
            pair.client.connection.handle_timeout(pair.now);
            pair.server.connection.handle_timeout(pair.now);
        }
        125 => pair.server.connection.drain(),
        126 if choices.next() == 77 => pair.client.connection.drain(),
        127 if choices.next() == 77 => pair.server.connection.goodbye(CloseReason::Finished),
        _ => pair.exchange(),
    }
}

fn ends(pair: &mut Pair, from_client: bool) -> (&mut End, &mut End) {
    if from_client { (&mut pair.client, &mut pair.server) } else { (&mut pair.server, &mut pair.client) }
}

/// Everything arrives, all is taken and everything ends; then nothing may be left over.
fn finish(pair: &mut Pair) {
    for _ in 0..2_000 {
        pair.exchange();
        let mut idle = true;
        for end in [&mut pair.client, &mut pair.server] {
            idle &= end.unconsumed.is_empty();
            for (id, bytes) in end.unconsumed.drain(..) {
                end.connection.consumed(id, bytes);
            }
            idle &= !end.connection.wants_transmit();
        }
        if idle {
            break;
        }
    }
    for id in pair.client.calls.clone() {
        pair.client.connection.cancel(id, Cancel::CallerGone);
        pair.client.over.insert(id);
    }
    pair.exchange();
    for end in [&pair.client, &pair.server] {
        let fine = match &end.closed {
            None
            | Some(CloseReason::Flood | CloseReason::Finished | CloseReason::PeerSilent | CloseReason::HelloTimeout) => {
                true
            }
            Some(CloseReason::Goodbye { code, .. }) => {
                !matches!(GoodbyeCode::from_code(*code), GoodbyeCode::Protocol | GoodbyeCode::Version)
            }
            Some(_) => false,
        };
        assert!(fine, "{:?}", end.closed);
    }
    if pair.client.closed.is_none() && pair.server.closed.is_none() {
        let (client, server) = (pair.client.connection.audit(), pair.server.connection.audit());
        // Answers that the server has given whole may outlive the client's interest by nothing.
        assert_eq!((pair.client.connection.live_streams(), pair.server.connection.live_streams()), (0, 0));
        assert_eq!((client.unconsumed, server.unconsumed, client.windows, server.windows), (0, 0, 0, 0));
        assert_eq!((client.in_flight, server.in_flight), (server.unreturned, client.unreturned));
    }
}

fn head(choice: u8) -> RequestHead {
    let mut headers = answer(choice).headers;
    headers.push(b"authorization", b"Bearer 1");
    RequestHead {
        service: Bytes::from_static(b"payments"),
        method: Bytes::from_static(b"POST"),
        path: Bytes::from(format!("/{}", choice & 3)),
        headers,
        ..RequestHead::default()
    }
}

fn answer(choice: u8) -> ResponseHead {
    let mut headers = Headers::new();
    headers.push(b"content-type", b"application/json");
    for field in 0..choice & 7 {
        headers.push(format!("x-{field}").as_bytes(), format!("value-{}", choice / 9).as_bytes());
        headers.push(b"x-large", "v".repeat(usize::from(field) * 9).as_bytes());
    }
    ResponseHead { status: 200, headers }
}
