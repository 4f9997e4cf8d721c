//! Who uses the two ends: a client that makes planned calls, and a server that does what a call's head asks of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use wire::*;

use super::Plan;

/// Trailers that the server ends some bodies with.
fn trailers() -> Headers {
    [(&b"grpc-status"[..], &b"0"[..]), (b"x-sum", b"77")].into_iter().collect()
}

/// The bytes `from..from + length` of a body that nobody could mix up with another: a piece of one long random text.
fn body(call: usize, up: bool, from: usize, length: usize) -> Bytes {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| {
        let mut rng = fastrand::Rng::with_seed(1);
        std::iter::repeat_with(|| rng.u8(..)).take(4_000_000).collect()
    });
    let start = call * 1_009 + usize::from(up) * 500_009 + from;
    TEXT.slice(start..start + length)
}

/// One direction of a body as its reader sees it.
#[derive(Debug, Default)]
struct Reading {
    got: usize,
    ended: bool,
    /// When the app takes how many bytes.
    taking: VecDeque<(Instant, usize)>,
    stall: Duration,
}

impl Reading {
    fn data(&mut self, now: Instant, call: usize, up: bool, data: &[u8], credited: bool, end: bool) {
        assert!(!self.ended, "data after the end");
        assert!(data == body(call, up, self.got, data.len()), "call {call}: wrong bytes at {}", self.got);
        self.got += data.len();
        self.ended = end;
        if credited {
            let at = now + std::mem::take(&mut self.stall);
            let at = self.taking.back().map_or(at, |last| at.max(last.0));
            self.taking.push_back((at, data.len()));
        }
    }

    fn take(&mut self, now: Instant, id: RequestId, connection: &mut Connection) {
        while self.taking.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, bytes)) = self.taking.pop_front()
        {
            connection.consumed(id, bytes);
        }
    }

    fn next(&self) -> Option<Instant> {
        self.taking.front().map(|(at, _)| *at)
    }
}

/// One direction of a body as its writer sees it.
#[derive(Debug, Default)]
struct Writing {
    sent: usize,
    total: usize,
    trailers: bool,
    waiting: bool,
    over: bool,
}

impl Writing {
    fn write(&mut self, call: usize, up: bool, id: RequestId, connection: &mut Connection, rng: &mut fastrand::Rng) {
        while !self.over && !self.waiting {
            let left = self.total - self.sent;
            if left == 0 {
                let ended = if self.trailers {
                    connection.send_trailers(id, &trailers())
                } else {
                    connection.send_data(id, Bytes::new(), true)
                };
                assert!(matches!(ended, Ok(()) | Err(SendError::UnknownStream)), "{ended:?}");
                self.over = true;
                return;
            }
            let room = connection.send_room(id);
            if room == 0 {
                self.waiting = true;
                return;
            }
            let part = rng.usize(1..=room.min(left));
            let end = part == left && !self.trailers && rng.bool();
            match connection.send_data(id, body(call, up, self.sent, part), end) {
                Ok(()) => {
                    self.sent += part;
                    self.over = end;
                }
                Err(SendError::UnknownStream) => self.over = true,
                Err(other) => panic!("call {call}: {other}"),
            }
        }
    }
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Completed,
    Nack(NackReason),
    Error,
    CancelledByPeer,
    CancelledHere,
    Lost { sent: bool },
    NotOpened,
}

#[derive(Debug)]
struct Call {
    start: Instant,
    mode: &'static str,
    answer: usize,
    upload: Writing,
    /// The body is given to `open` as far as this.
    given: usize,
    cancel_at: Option<Instant>,
    id: Option<RequestId>,
    reading: Reading,
    outcome: Option<Outcome>,
}

const MODES: &[&str] = &["reply", "reply", "reply", "stream", "stream", "nack", "error", "early", "cancel"];

fn size(plan: &Plan, rng: &mut fastrand::Rng) -> usize {
    match rng.u32(0..100) {
        percent if percent < plan.bulk_percent => rng.usize(20_000..1_500_000),
        percent if percent % 3 == 0 => 0,
        percent if percent % 3 == 1 => rng.usize(1..4_200),
        _ => rng.usize(4_000..70_000),
    }
}

fn stall(plan: &Plan, rng: &mut fastrand::Rng) -> Duration {
    if rng.u32(0..100) < plan.stall_percent { Duration::from_millis(rng.u64(500..20_000)) } else { Duration::ZERO }
}

pub struct ClientApp {
    calls: Vec<Call>,
    ids: BTreeMap<RequestId, usize>,
    last_id: u64,
    closed: bool,
}

impl ClientApp {
    pub fn new(plan: &Plan, rng: &mut fastrand::Rng, start: Instant) -> Self {
        let calls = (0..plan.calls).map(|_| {
            let start = start + Duration::from_micros(rng.u64(0..2_000_000));
            let total = size(plan, rng);
            let given = if rng.bool() { total } else { rng.usize(0..=total.min(20_000)) };
            let cancel = rng.u32(0..100) < plan.cancel_percent;
            let mode = if cancel && rng.u8(0..3) == 0 { "mute" } else { rng.choice(MODES).copied().unwrap_or("reply") };
            Call {
                start,
                mode,
                answer: size(plan, rng),
                upload: Writing { sent: given, total, ..Writing::default() },
                given,
                cancel_at: cancel.then(|| start + Duration::from_micros(rng.u64(0..1_000_000))),
                id: None,
                reading: Reading { stall: stall(plan, rng), ..Reading::default() },
                outcome: None,
            }
        });
        Self { calls: calls.collect(), ids: BTreeMap::new(), last_id: 0, closed: false }
    }

    /// `looks`: at what came, before it acts.
    pub fn turn(
        &mut self,
        now: Instant,
        connection: &mut Connection,
        rng: &mut fastrand::Rng,
        server: &ServerApp,
        looks: bool,
    ) {
        while looks && let Some(event) = connection.poll_event() {
            self.event(now, connection, event, server);
        }
        for index in 0..self.calls.len() {
            self.open(now, index, connection);
            let call = &mut self.calls[index];
            let Some(id) = call.id.filter(|_| call.outcome.is_none()) else { continue };
            if call.cancel_at.is_some_and(|at| at <= now) {
                connection.cancel(id, Cancel::CallerGone);
                call.outcome = Some(Outcome::CancelledHere);
                continue;
            }
            call.upload.write(index, true, id, connection, rng);
            call.reading.take(now, id, connection);
            self.complete(index);
        }
    }

    fn open(&mut self, now: Instant, index: usize, connection: &mut Connection) {
        let call = &mut self.calls[index];
        if call.outcome.is_some() || call.id.is_some() || call.start > now {
            return;
        }
        let mut headers = Headers::new();
        headers.push(b"x-mode", call.mode.as_bytes());
        headers.push(b"x-answer", call.answer.to_string().as_bytes());
        headers.push(b"x-total", call.upload.total.to_string().as_bytes());
        headers.push(b"user-agent", b"simulation");
        headers.push(b"authorization", b"Bearer 99");
        let head = RequestHead {
            service: Bytes::from_static(b"payments"),
            method: Bytes::from_static(b"POST"),
            path: Bytes::from(index.to_string()),
            headers,
            ..RequestHead::default()
        };
        let end = call.given == call.upload.total;
        match connection.open(now, &head, body(index, true, 0, call.given), end, Token(index as u64)) {
            Ok(id) => {
                assert!(id.0 > self.last_id, "an ID lives twice");
                self.last_id = id.0;
                call.id = Some(id);
                call.upload.over = end;
                self.ids.insert(id, index);
            }
            Err(error @ (OpenError::NotReady | OpenError::TooManyCalls)) if !self.closed => {
                if error == OpenError::TooManyCalls {
                    // The body may be what does not fit: it is sent as there is room.
                    (call.given, call.upload.sent) = (0, 0);
                }
                call.start = now + Duration::from_millis(7);
            }
            Err(_) => call.outcome = Some(Outcome::NotOpened),
        }
    }

    fn event(&mut self, now: Instant, connection: &mut Connection, event: Event, server: &ServerApp) {
        let Some(id) = event.stream() else {
            match event {
                Event::Hello(_) => connection.accept_peer(),
                Event::Closed(reason) => {
                    assert!(!self.closed);
                    assert!(matches!(reason, CloseReason::Transport) || reason.is_normal(), "{reason}");
                    self.closed = true;
                }
                _ => {}
            }
            return;
        };
        let index = self.ids[&id];
        let call = &mut self.calls[index];
        assert!(call.outcome.is_none(), "call {index} ended with {:?} and then came {event:?}", call.outcome);
        match event {
            Event::Response { token, head, body, end, .. } => {
                assert_eq!(token, Token(index as u64));
                assert_eq!(head.status, 200);
                call.reading.data(now, index, false, &body, false, end);
            }
            Event::Data { data, end, .. } => call.reading.data(now, index, false, &data, true, end),
            Event::Trailers { trailers: came, .. } => {
                assert_eq!(came, trailers());
                call.reading.data(now, index, false, b"", false, true);
            }
            Event::Writable { .. } => call.upload.waiting = false,
            Event::Cancelled { code: Cancel::NoLongerNeeded, .. } => {
                assert!(call.reading.ended);
                call.upload.over = true;
            }
            Event::Cancelled { .. } => call.outcome = Some(Outcome::CancelledByPeer),
            Event::Nack { nack, .. } => {
                assert!(nack.reason == NackReason::Policy || !server.executed.contains(&index));
                call.outcome = Some(Outcome::Nack(nack.reason));
            }
            Event::Error { .. } => call.outcome = Some(Outcome::Error),
            Event::Lost { sent, .. } => call.outcome = Some(Outcome::Lost { sent }),
            other => panic!("{other:?}"),
        }
        self.complete(index);
    }

    fn complete(&mut self, index: usize) {
        let call = &mut self.calls[index];
        if call.outcome.is_none() && call.reading.ended && call.upload.over {
            assert_eq!(call.reading.got, call.answer);
            call.outcome = Some(Outcome::Completed);
        }
    }

    pub fn is_done(&self) -> bool {
        self.calls.iter().all(|call| call.outcome.is_some())
    }

    pub fn next(&self) -> Option<Instant> {
        let open = self.calls.iter().filter(|call| call.outcome.is_none());
        open.flat_map(|call| {
            let start = call.id.is_none().then_some(call.start);
            let cancel = call.cancel_at.filter(|_| call.id.is_some());
            [start, cancel, call.reading.next()]
        })
        .flatten()
        .min()
    }

    pub fn describe(&self) -> String {
        let open: Vec<_> = self.calls.iter().enumerate().filter(|(_, call)| call.outcome.is_none()).collect();
        format!("{open:#?}")
    }

    pub fn check_end(&self, server: &ServerApp) {
        for (index, call) in self.calls.iter().enumerate() {
            let outcome = call.outcome.as_ref().unwrap_or_else(|| panic!("call {index} did not end: {call:?}"));
            match outcome {
                Outcome::Lost { sent: false } | Outcome::Nack(NackReason::Draining) | Outcome::NotOpened => {
                    assert!(!server.executed.contains(&index), "call {index} was executed: {outcome:?}");
                }
                Outcome::Nack(reason) => assert_eq!((*reason, call.mode), (NackReason::Policy, "nack")),
                Outcome::CancelledByPeer => assert!(["cancel", "early"].contains(&call.mode), "{}", call.mode),
                Outcome::Error => assert_eq!(call.mode, "error"),
                _ => {}
            }
        }
    }
}

struct Serving {
    call: usize,
    mode: String,
    total: usize,
    act_at: Option<Instant>,
    reading: Reading,
    answer: Writing,
    responded: bool,
}

pub struct ServerApp {
    plan: Plan,
    serving: BTreeMap<RequestId, Serving>,
    /// Calls that were delivered.
    pub executed: BTreeSet<usize>,
    last_id: u64,
}

impl ServerApp {
    pub fn new(plan: &Plan) -> Self {
        Self { plan: plan.clone(), serving: BTreeMap::new(), executed: BTreeSet::new(), last_id: 0 }
    }

    pub fn turn(&mut self, now: Instant, connection: &mut Connection, rng: &mut fastrand::Rng) {
        while let Some(event) = connection.poll_event() {
            self.event(now, connection, event, rng);
        }
        let ids: Vec<RequestId> = self.serving.keys().copied().collect();
        for id in ids {
            if self.act(now, id, connection, rng) {
                self.serving.remove(&id);
            }
        }
    }

    /// True: we are done with the call.
    fn act(&mut self, now: Instant, id: RequestId, connection: &mut Connection, rng: &mut fastrand::Rng) -> bool {
        let Some(call) = self.serving.get_mut(&id) else { return true };
        call.reading.take(now, id, connection);
        let whole = call.reading.ended;
        if call.act_at.is_some_and(|at| at <= now) {
            call.act_at = None;
            match call.mode.as_str() {
                "nack" => {
                    let nack = Nack { reason: NackReason::Policy, retry_after: None };
                    connection.nack(id, nack);
                    return true;
                }
                "error" => {
                    let (origin, executed) = (Origin::App, Executed::Unknown);
                    connection.error(id, ErrorInfo { code: 9, origin, executed, text: "failed".into() });
                    return true;
                }
                "early" => {
                    let all = body(call.call, false, 0, call.answer.total);
                    match connection.respond(id, &head(), all, true) {
                        Ok(()) => connection.cancel(id, Cancel::NoLongerNeeded),
                        Err(SendError::NoRoom) => connection.cancel(id, Cancel::Overload),
                        Err(other) => panic!("{other:?}"),
                    }
                    return true;
                }
                "cancel" => {
                    if rng.bool() {
                        connection.respond(id, &head(), body(call.call, false, 0, 0), false).expect("the first answer");
                    }
                    connection.cancel(id, Cancel::Overload);
                    return true;
                }
                "stream" => {
                    connection.respond(id, &head(), Bytes::new(), false).expect("the first answer");
                    call.responded = true;
                }
                _ => {}
            }
        }
        if call.mode == "reply" && whole && call.act_at.is_none() && !call.responded {
            let mut given = call.answer.total.min(if rng.bool() { 10_000 } else { 0 });
            let mut end = given == call.answer.total;
            let mut answered = connection.respond(id, &head(), body(call.call, false, 0, given), end);
            if answered == Err(SendError::NoRoom) {
                (given, end) = (0, false);
                answered = connection.respond(id, &head(), Bytes::new(), end);
            }
            answered.expect("the first answer");
            call.responded = true;
            call.answer.sent = given;
            call.answer.over = end;
        }
        if call.responded {
            call.answer.write(call.call, false, id, connection, rng);
        }
        let done = call.responded && call.answer.over && whole;
        assert!(!done || call.reading.got == call.total, "call {}: upload cut", call.call);
        done
    }

    fn event(&mut self, now: Instant, connection: &mut Connection, event: Event, rng: &mut fastrand::Rng) {
        let Some(id) = event.stream() else {
            match event {
                Event::Hello(_) => connection.accept_peer(),
                Event::Closed(_) => assert!(self.serving.is_empty(), "a call was left over"),
                _ => {}
            }
            return;
        };
        if let Event::Request { head, body, end, .. } = event {
            assert!(id.0 > self.last_id, "an ID lives twice");
            self.last_id = id.0;
            let number =
                |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).expect("a number");
            let call = number(&head.path);
            assert!(self.executed.insert(call), "call {call} twice");
            connection.set_token(id, Token(call as u64));
            let total = number(head.headers.get(b"x-total").expect("the head is whole"));
            let answer = number(head.headers.get(b"x-answer").expect("the head is whole"));
            let mode = String::from_utf8_lossy(head.headers.get(b"x-mode").expect("the head is whole")).into_owned();
            let mut reading = Reading { stall: super::apps::stall(&self.plan, rng), ..Reading::default() };
            reading.data(now, call, true, &body, false, end);
            let answer = Writing { total: answer, trailers: mode == "stream" && rng.bool(), ..Writing::default() };
            let act_at = Some(now + Duration::from_micros(rng.u64(0..300_000)));
            self.serving.insert(id, Serving { call, mode, total, act_at, reading, answer, responded: false });
            return;
        }
        // We may be done with a call whose upload goes on.
        let Some(call) = self.serving.get_mut(&id) else {
            panic!("event of a call that is over: {event:?}");
        };
        match event {
            Event::Data { token, data, end, .. } => {
                assert_eq!(token, Token(call.call as u64));
                call.reading.data(now, call.call, true, &data, true, end);
            }
            Event::Writable { .. } => call.answer.waiting = false,
            Event::Cancelled { .. } | Event::Lost { sent: true, .. } => {
                self.serving.remove(&id);
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn is_idle(&self) -> bool {
        self.serving.is_empty()
    }

    pub fn next(&self) -> Option<Instant> {
        self.serving.values().flat_map(|call| [call.act_at, call.reading.next()]).flatten().min()
    }
}

fn head() -> ResponseHead {
    let mut headers = Headers::new();
    headers.push(b"content-type", b"application/json");
    headers.push(b"x-served-by", b"simulation");
    ResponseHead { status: 200, headers }
}
