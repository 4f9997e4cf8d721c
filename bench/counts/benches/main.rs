//! Instructions by callgrind. What is counted, and what a number means: `bench/counts/README.md`.

// The harness that `main!` writes ends with the runner's exit code.
#![allow(clippy::disallowed_methods, reason = "not our code")]

mod app;
mod balance;
mod call;
mod discovery;
mod dispatch;
mod http1;
mod http2;
mod identity;
mod peer;
mod rig;
mod route;
mod wire;

use gungraun::prelude::*;
use gungraun::{Callgrind, main};

use self::balance::balancer;
use self::call::whole_call;
use self::discovery::table;
use self::dispatch::dispatcher;
use self::http1::codec;
use self::http2::http2_connection;
use self::route::routing;
use self::wire::protocol;

main!(
    config = LibraryBenchmarkConfig::default()
        // Only instructions are looked at.
        .tool(Callgrind::with_args(["--cache-sim=no"]))
        // `rep movsb` counts as an instruction a byte: with it, copies above 2 KiB would seem ten times as dear as they are.
        .env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-ERMS"),
    library_benchmark_groups = [codec, http2_connection, protocol, routing, table, balancer, dispatcher, whole_call]
);
