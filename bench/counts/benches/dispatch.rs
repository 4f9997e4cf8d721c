//! A call from the dispatcher to a peer that is nothing but the protocol, and back: without HTTP, without TLS. The bare
//! peer's own part is counted with it.

use std::hint::black_box;

use counts::TIMES;
use gungraun::prelude::*;
use pillion::parts::{Body, Call};

use crate::rig::Rig;

#[library_benchmark]
#[bench::with_8_headers(args = (), setup = Rig::bare_peer)]
fn call(rig: Rig) -> Rig {
    rig.run(async |rig| {
        for _ in 0..TIMES {
            black_box(rig.caller().call(small_call()).await.expect("an answer"));
        }
    });
    rig
}

/// What a door makes of a small GET.
pub fn small_call() -> Call {
    Call {
        head: crate::wire::request(8),
        version: None,
        deadline: None,
        safe: true,
        tunnel: false,
        grpc: false,
        body: Body::EMPTY,
    }
}

library_benchmark_group!(name = dispatcher, benchmarks = [call]);
