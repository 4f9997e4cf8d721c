//! The whole call: a client's socket, the caller's sidecar, the callee's sidecar, the app's socket, and back, on one thread.
//! What client and app of the rig do is counted with it; what the kernel does is not.

use gungraun::prelude::*;

use crate::rig::{Rig, Security};

// One after the other, over one connection.
#[library_benchmark(setup = Rig::pair)]
#[bench::mutual_tls(Security::MutualTls)]
#[bench::plain(Security::None)]
fn one_by_one(rig: Rig) -> Rig {
    rig.run(async |rig| rig.calls(1).await);
    rig
}

// From 64 connections at once.
#[library_benchmark(setup = Rig::pair)]
#[bench::mutual_tls(Security::MutualTls)]
#[bench::plain(Security::None)]
fn by_64_at_once(rig: Rig) -> Rig {
    rig.run(async |rig| rig.calls(64).await);
    rig
}

library_benchmark_group!(name = whole_call, benchmarks = [one_by_one, by_64_at_once]);
