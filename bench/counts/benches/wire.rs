//! The protocol alone: two `Connection`s that hand each other their bytes, with dictionaries that are warm.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ::wire::*;
use bytes::{Bytes, BytesMut};
use counts::TIMES;
use gungraun::prelude::*;

const BULK_BYTES: usize = 16 * 1024;

// A request and its answer: encoded, carried, decoded, at both ends.
#[library_benchmark(setup = pair)]
#[bench::without_headers(0)]
#[bench::with_8_headers(8)]
fn call((mut pair, request, response): Ready) -> Ready {
    for _ in 0..TIMES {
        pair.call(&request, &response);
    }
    (pair, request, response)
}

// The same with eight headers, of which the path and three values are new each time.
#[library_benchmark(setup = pair)]
#[bench::with_8_headers(8)]
fn call_unlike_the_last((mut pair, mut request, response): Ready) -> Ready {
    for number in 0..TIMES {
        let number = number.to_string();
        request.path = Bytes::from(format!("/v1/orders/{number}"));
        for name in [b"x-request-id".as_slice(), b"x-custom", b"cookie"] {
            request.headers.set(name, number.as_bytes());
        }
        pair.call(&request, &response);
    }
    (pair, request, response)
}

// 16 KiB each way, in DATA frames within the credit.
#[library_benchmark(setup = pair)]
#[bench::of_16_kib(8)]
fn bodies((mut pair, request, response): Ready) -> Ready {
    let body = Bytes::from_static(&[1; BULK_BYTES]);
    for _ in 0..TIMES {
        pair.bodies(&request, &response, &body);
    }
    (pair, request, response)
}

type Ready = (Pair, RequestHead, ResponseHead);

/// Two ends, with one call behind them: what they say of `headers` fields is in their dictionaries.
fn pair(headers: usize) -> Ready {
    let (mut pair, request, response) = (Pair::new(), request(headers), response(headers));
    pair.call(&request, &response);
    pair.bodies(&request, &response, &Bytes::from_static(&[1; BULK_BYTES]));
    (pair, request, response)
}

struct Pair {
    client: Connection,
    server: Connection,
    to_client: BytesMut,
    to_server: BytesMut,
    out: Vec<u8>,
    now: Instant,
}

impl Pair {
    fn new() -> Pair {
        let now = Instant::now();
        let mut pair = Pair {
            client: Connection::new(Side::Client, Config::default(), now),
            server: Connection::new(Side::Server, Config::default(), now),
            to_client: BytesMut::new(),
            to_server: BytesMut::new(),
            out: Vec::new(),
            now,
        };
        pair.up();
        pair.down();
        pair.client.accept_peer();
        pair.server.accept_peer();
        while pair.client.poll_event().is_some() || pair.server.poll_event().is_some() {}
        pair
    }

    fn call(&mut self, request: &RequestHead, response: &ResponseHead) {
        self.client.open(self.now, request, Bytes::new(), true, Token(0)).expect("a call");
        self.up();
        while let Some(event) = self.server.poll_event() {
            if let Event::Request { id, head, .. } = event {
                black_box(head);
                self.server.respond(id, response, Bytes::from_static(b"{\"ok\":true}"), true).expect("an answer");
            }
        }
        self.down();
        while let Some(event) = self.client.poll_event() {
            black_box(event);
        }
    }

    fn bodies(&mut self, request: &RequestHead, response: &ResponseHead, body: &Bytes) {
        self.client.open(self.now, request, body.clone(), true, Token(0)).expect("a call");
        let mut got = 0;
        while got < 2 * body.len() {
            self.up();
            while let Some(event) = self.server.poll_event() {
                if let Event::Data { id, data, end, .. } = event {
                    got += data.len();
                    self.server.consumed(id, data.len());
                    if end {
                        self.server.respond(id, response, body.clone(), true).expect("an answer");
                    }
                }
            }
            self.down();
            while let Some(event) = self.client.poll_event() {
                if let Event::Data { id, data, .. } = event {
                    got += data.len();
                    self.client.consumed(id, data.len());
                }
            }
        }
    }

    fn up(&mut self) {
        carry(&mut self.client, &mut self.server, &mut self.to_server, &mut self.out, self.now);
    }

    fn down(&mut self) {
        carry(&mut self.server, &mut self.client, &mut self.to_client, &mut self.out, self.now);
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

/// A request with the first so many of the fields that callers usually send.
pub fn request(headers: usize) -> RequestHead {
    let usual = [
        ("host", "payments"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/126.0"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip, deflate, br"),
        ("cookie", "session=0123456789abcdef0123456789abcdef"),
        ("x-request-id", "6f9619ff-8b86-d011-b42d-00c04fc964ff"),
        ("x-custom", "blue"),
        ("x-tenant", "acme-corporation"),
    ];
    RequestHead {
        timeout: Some(Duration::from_secs(5)),
        trace: Some(TraceContext { trace_id: [7; 16], span_id: [9; 8], flags: 1 }),
        service: Bytes::from_static(b"payments"),
        method: Bytes::from_static(b"GET"),
        path: Bytes::from_static(b"/v1/orders/12345"),
        headers: fields(&usual[..headers]),
        ..RequestHead::default()
    }
}

/// An answer with the first so many of the fields that apps usually send.
pub fn response(headers: usize) -> ResponseHead {
    let usual = [
        ("content-type", "application/json"),
        ("content-length", "11"),
        ("date", "Mon, 23 Nov 2026 22:40:00 GMT"),
        ("server", "uvicorn"),
        ("cache-control", "no-cache"),
        ("vary", "accept-encoding"),
        ("x-request-id", "6f9619ff-8b86-d011-b42d-00c04fc964ff"),
        ("x-served-by", "instance-7"),
    ];
    ResponseHead { status: 200, headers: fields(&usual[..headers]) }
}

fn fields(pairs: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in pairs {
        headers.push(name.as_bytes(), value.as_bytes());
    }
    headers
}

library_benchmark_group!(name = protocol, benchmarks = [call, call_unlike_the_last, bodies]);
