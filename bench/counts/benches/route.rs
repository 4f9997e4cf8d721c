//! From what a caller wrote to the service and the deadline it means.

use std::hint::black_box;
use std::time::Instant;

use counts::{Placed, TIMES};
use gungraun::prelude::*;
use pillion::parts::{Names, deadline_of, service_called};

#[library_benchmark(setup = Placed::new)]
#[bench::plain("payments")]
#[bench::dressed("Payments.pillion:80")]
fn service(placed: Box<Placed>) -> Box<Placed> {
    let host = str::from_utf8(&placed).expect("a name");
    for _ in 0..TIMES {
        let names = Names { host: Some(black_box(host)), ..Names::default() };
        black_box(service_called(names).is_ok());
    }
    placed
}

#[library_benchmark]
#[bench::absent(None)]
#[bench::given(Some("1.5s"))]
fn deadline(timeout: Option<&str>) {
    let now = Instant::now();
    for _ in 0..TIMES {
        black_box(deadline_of(black_box(timeout).map(str::as_bytes), None, now).is_ok());
    }
}

library_benchmark_group!(name = routing, benchmarks = [service, deadline]);
