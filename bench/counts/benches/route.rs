//! From what a caller wrote to the service and the deadline it means.

use std::hint::black_box;
use std::time::Instant;

use ::wire::Headers;
use counts::TIMES;
use gungraun::prelude::*;
use pillion::parts::{Names, deadline_of, service_called};

#[library_benchmark]
#[bench::plain("payments")]
#[bench::dressed("Payments.pillion:80")]
fn service(host: &str) {
    for _ in 0..TIMES {
        let names = Names { host: Some(black_box(host)), ..Names::default() };
        black_box(service_called(names).is_ok());
    }
}

#[library_benchmark(setup = headers)]
#[bench::absent(None)]
#[bench::given(Some("1.5s"))]
fn deadline((headers, now): (Headers, Instant)) -> Headers {
    for _ in 0..TIMES {
        black_box(deadline_of(black_box(&headers), now).is_ok());
    }
    headers
}

fn headers(timeout: Option<&str>) -> (Headers, Instant) {
    let mut headers = crate::wire::request(8).headers;
    if let Some(timeout) = timeout {
        headers.push(b"x-pillion-timeout", timeout.as_bytes());
    }
    (headers, Instant::now())
}

library_benchmark_group!(name = routing, benchmarks = [service, deadline]);
