//! What a small call and bulk cost in this crate alone: `cargo run --release -p pillion-wire --example cost`.
#![allow(clippy::unwrap_used, reason = "a measurement, not a product")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use wire::*;

const CALLS: u32 = 300_000;
const REPETITIONS: usize = 7;

struct Pair {
    client: Connection,
    server: Connection,
    to_client: BytesMut,
    to_server: BytesMut,
    out: Vec<u8>,
}

fn main() {
    let head = request();
    let answer = response();
    let plain = RequestHead { headers: Headers::new(), ..head.clone() };
    let bare = ResponseHead { status: 200, headers: Headers::new() };
    report("small call, 8 headers each way", || calls(&head, &answer, 1, false));
    report("the same, 16 calls a flush", || calls(&head, &answer, 16, false));
    report("the same, 3 of the values new each time", || calls(&head, &answer, 1, true));
    report("small call, no headers", || calls(&plain, &bare, 1, false));
    for (name, length) in [("16 KiB each way", 16_384), ("1 MiB each way", 1_048_576)] {
        if !wanted(name) {
            continue;
        }
        let rounds = 200_000_000 / length as u32 / 2;
        let cost = least(|| bulk(&head, &answer, length, rounds));
        let bytes = 2.0 * length as f64 * f64::from(rounds);
        println!(
            "{name:45} {:8.2} µs a call, {:6.0} MB/s",
            cost.as_secs_f64() * 1e6 / f64::from(rounds),
            bytes / cost.as_secs_f64() / 1e6
        );
    }
}

/// Only the workloads whose name holds the argument, if there is one.
fn wanted(name: &str) -> bool {
    std::env::args().nth(1).is_none_or(|part| name.contains(&part))
}

fn report(name: &str, run: impl FnMut() -> Duration) {
    if !wanted(name) {
        return;
    }
    println!("{name:45} {:8.0} ns a call, both ends", least(run).as_secs_f64() * 1e9 / f64::from(CALLS));
}

fn least(mut run: impl FnMut() -> Duration) -> Duration {
    (0..REPETITIONS).map(|_| run()).min().unwrap()
}

/// What this thread has run so far: other work on the machine does not count.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

fn calls(head: &RequestHead, answer: &ResponseHead, batch: u32, changing: bool) -> Duration {
    let mut pair = Pair::new();
    let mut heads: Vec<RequestHead> = (0..64).map(|_| head.clone()).collect();
    let (start, cpu) = (Instant::now(), cpu_time());
    for round in 0..CALLS / batch {
        for call in 0..batch {
            let head = &mut heads[(round % 64) as usize];
            if changing && call == 0 {
                let number = round.to_string();
                head.path = Bytes::from(format!("/v1/orders/{number}"));
                head.headers.set(b"x-request-id", number.as_bytes());
                head.headers.set(b"x-custom", number.as_bytes());
            }
            pair.client.open(start, head, Bytes::new(), true, Token(u64::from(call))).unwrap();
        }
        pair.up(start);
        while let Some(event) = pair.server.poll_event() {
            if let Event::Request { id, head, .. } = event {
                black_box(head);
                pair.server.respond(id, answer, Bytes::from_static(b"{\"ok\":true}"), true).unwrap();
            }
        }
        pair.down(start);
        while let Some(event) = pair.client.poll_event() {
            black_box(event);
        }
    }
    cpu_time() - cpu
}

fn bulk(head: &RequestHead, answer: &ResponseHead, length: usize, rounds: u32) -> Duration {
    let mut pair = Pair::new();
    let body = Bytes::from(vec![1; length]);
    let (start, cpu) = (Instant::now(), cpu_time());
    for _ in 0..rounds {
        let id = pair.client.open(start, head, body.clone(), true, Token(1)).unwrap();
        let mut got = 0;
        while got < 2 * length {
            pair.up(start);
            while let Some(event) = pair.server.poll_event() {
                if let Event::Data { id, data, end, .. } = event {
                    got += data.len();
                    pair.server.consumed(id, data.len());
                    if end {
                        pair.server.respond(id, answer, body.clone(), true).unwrap();
                    }
                }
            }
            pair.down(start);
            while let Some(event) = pair.client.poll_event() {
                if let Event::Data { data, .. } = event {
                    got += data.len();
                    pair.client.consumed(id, data.len());
                }
            }
        }
    }
    cpu_time() - cpu
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        let mut pair = Self {
            client: Connection::new(Side::Client, Config::default(), now),
            server: Connection::new(Side::Server, Config::default(), now),
            to_client: BytesMut::new(),
            to_server: BytesMut::new(),
            out: Vec::new(),
        };
        pair.up(now);
        pair.down(now);
        pair.client.accept_peer();
        pair.server.accept_peer();
        while pair.client.poll_event().is_some() || pair.server.poll_event().is_some() {}
        pair
    }

    fn up(&mut self, now: Instant) {
        carry(&mut self.client, &mut self.server, &mut self.to_server, &mut self.out, now);
    }

    fn down(&mut self, now: Instant) {
        carry(&mut self.server, &mut self.client, &mut self.to_client, &mut self.out, now);
    }
}

/// One turn of a writer and a reader; the copy into the input stands for the socket.
fn carry(from: &mut Connection, to: &mut Connection, input: &mut BytesMut, out: &mut Vec<u8>, now: Instant) {
    out.clear();
    from.poll_transmit(now, out, limits::FLUSH_BYTES);
    if !out.is_empty() {
        input.extend_from_slice(out);
        to.handle_input(now, input);
    }
}

fn request() -> RequestHead {
    let mut headers = Headers::new();
    headers.push(b"host", b"payments");
    headers.push(b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/126.0");
    headers.push(b"accept", b"application/json");
    headers.push(b"accept-encoding", b"gzip, deflate, br");
    headers.push(b"cookie", b"session=0123456789abcdef0123456789abcdef");
    headers.push(b"x-request-id", b"6f9619ff-8b86-d011-b42d-00c04fc964ff");
    headers.push(b"x-custom", b"blue");
    headers.push(b"x-tenant", b"acme-corporation");
    RequestHead {
        timeout: Some(Duration::from_secs(5)),
        trace: Some(TraceContext { trace_id: [7; 16], span_id: [9; 8], flags: 1 }),
        service: Bytes::from_static(b"payments"),
        method: Bytes::from_static(b"GET"),
        path: Bytes::from_static(b"/v1/orders/12345"),
        headers,
        ..RequestHead::default()
    }
}

fn response() -> ResponseHead {
    let mut headers = Headers::new();
    headers.push(b"content-type", b"application/json");
    headers.push(b"content-length", b"11");
    headers.push(b"date", b"Mon, 23 Nov 2026 22:40:00 GMT");
    headers.push(b"server", b"uvicorn");
    headers.push(b"cache-control", b"no-cache");
    headers.push(b"vary", b"accept-encoding");
    headers.push(b"x-request-id", b"6f9619ff-8b86-d011-b42d-00c04fc964ff");
    headers.push(b"x-served-by", b"instance-7");
    ResponseHead { status: 200, headers }
}
