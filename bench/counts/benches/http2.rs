//! HTTP/2 alone: a client's end and a server's that hand each other their bytes, with tables that are warm.

use std::hint::black_box;

use ::http2::*;
use bytes::Bytes;
use counts::TIMES;
use gungraun::prelude::*;
use wire::{Headers, Pieces};

use crate::wire::{request, response};

// A request and its answer with a small body: encoded, carried, decoded, at both ends.
#[library_benchmark(setup = pair)]
#[bench::with_8_fields(8)]
fn exchange((mut pair, fields, answer): Ready) -> Ready {
    for _ in 0..TIMES {
        pair.call(&fields, &answer);
    }
    (pair, fields, answer)
}

// The same, where a request's path and three of its fields are new each time.
#[library_benchmark(setup = pair)]
#[bench::with_8_fields(8)]
fn exchange_unlike_the_last((mut pair, mut fields, answer): Ready) -> Ready {
    for number in 0..TIMES {
        let number = number.to_string();
        pair.path = format!("/v1/orders/{number}").into_bytes();
        for name in [b"x-request-id".as_slice(), b"x-custom", b"cookie"] {
            fields.set(name, number.as_bytes());
        }
        pair.call(&fields, &answer);
    }
    (pair, fields, answer)
}

type Ready = (Pair, Headers, Headers);

/// Two ends, with some calls behind them: what they say of so many fields is in their tables.
fn pair(fields: usize) -> Ready {
    let (mut pair, fields, answer) = (Pair::new(), request(fields).headers, response(fields).headers);
    (0..3).for_each(|_| pair.call(&fields, &answer));
    (pair, fields, answer)
}

struct Pair {
    client: Connection,
    server: Connection,
    pieces: Pieces,
    path: Vec<u8>,
}

impl Pair {
    fn new() -> Pair {
        let config = |side| Config {
            side,
            stream_window: 1 << 18,
            connection_window: 1 << 24,
            frame_bytes: 1 << 16,
            list_bytes: 1 << 16,
            streams: 100,
        };
        let mut pair = Pair {
            client: Connection::new(config(Side::Client)),
            server: Connection::new(config(Side::Server)),
            pieces: Pieces::default(),
            path: b"/v1/orders/12345".to_vec(),
        };
        pair.up();
        pair.down();
        pair
    }

    fn call(&mut self, fields: &Headers, answer: &Headers) {
        let asked =
            Request { method: b"GET", scheme: b"http", authority: b"payments", path: &self.path, protocol: None };
        self.client.open(asked, fields.texts(), true).expect("a stream");
        self.up();
        while let Some(event) = self.server.poll_event() {
            if let Event::Request { stream, head, .. } = event {
                black_box(head);
                self.server.respond(stream, 200, answer.texts(), false);
                self.server.send(stream, Bytes::from_static(b"{\"ok\":true}"), true);
            }
        }
        self.down();
        while let Some(event) = self.client.poll_event() {
            black_box(event);
        }
    }

    fn up(&mut self) {
        carry(&mut self.client, &mut self.server, &mut self.pieces);
    }

    fn down(&mut self) {
        carry(&mut self.server, &mut self.client, &mut self.pieces);
    }
}

/// One turn of a writer and a reader.
fn carry(from: &mut Connection, to: &mut Connection, pieces: &mut Pieces) {
    pieces.clear();
    from.poll_transmit(pieces, usize::MAX);
    to.handle_slice(pieces.whole().expect("no large body"));
}

library_benchmark_group!(name = http2_connection, benchmarks = [exchange, exchange_unlike_the_last]);
