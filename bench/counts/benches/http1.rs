//! The HTTP/1.1 codec alone.

use std::hint::black_box;

use ::http1::{Body, Framing, HeadScan, encode};
use bytes::BytesMut;
use counts::{Placed, TIMES};
use gungraun::prelude::*;

const SMALL: &[u8] = b"GET /v1/orders/12345 HTTP/1.1\r\nHost: payments\r\n\r\n";
const USUAL: &[u8] = b"GET /v1/orders/12345 HTTP/1.1\r\n\
    Host: payments\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/126.0\r\n\
    Accept: application/json\r\n\
    Accept-Encoding: gzip, deflate, br\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef\r\n\
    X-Request-Id: 6f9619ff-8b86-d011-b42d-00c04fc964ff\r\n\
    X-Custom: blue\r\n\
    X-Tenant: acme-corporation\r\n\r\n";
const CHUNKED: &[u8] = b"5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n";
const HEAD_BYTES: usize = 64 * 1024;

// Finds the head's end and reads it.
#[library_benchmark(setup = Placed::new)]
#[bench::with_1_field(SMALL)]
#[bench::with_8_fields(USUAL)]
fn request_read(bytes: Box<Placed>) -> Box<Placed> {
    for _ in 0..TIMES {
        let mut scan = HeadScan::default();
        let head = scan.find(black_box(&bytes), HEAD_BYTES).expect("a good head").expect("a whole one");
        let read = ::http1::request(&bytes[head.range], head.fields, |head| head.keep_alive);
        black_box(read.expect("a good head"));
    }
    bytes
}

// Two chunks and the end. Copying them into the input is counted too.
#[library_benchmark]
#[bench::of_2_chunks(args = (), setup = BytesMut::new)]
fn chunked_body_read(mut input: BytesMut) -> BytesMut {
    for _ in 0..TIMES {
        input.extend_from_slice(CHUNKED);
        let mut body = Body::new(Framing::Chunked, HEAD_BYTES);
        while let Some(piece) = body.next(&mut input).expect("a good body") {
            black_box(piece);
        }
        assert!(body.is_ended());
    }
    input
}

#[library_benchmark]
#[bench::with_4_fields(args = (), setup = Vec::new)]
fn response_written(mut out: Vec<u8>) -> Vec<u8> {
    for _ in 0..TIMES {
        out.clear();
        encode::status_line(&mut out, 200, "OK").expect("a status");
        for (name, value) in
            [("content-type", "application/json"), ("date", "Mon, 23 Nov 2026 22:40:00 GMT"), ("server", "uvicorn")]
        {
            encode::field(&mut out, name.as_bytes(), value.as_bytes()).expect("a field");
        }
        encode::end_of_head(&mut out, Framing::Length(11));
        black_box(&out);
    }
    out
}

library_benchmark_group!(name = codec, benchmarks = [request_read, chunked_body_read, response_written]);
