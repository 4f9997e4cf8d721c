//! What is measured and what must come of it: a line of [`WORKLOADS`] each.

use crate::Result;
use crate::load::{self, Bulk, Callers, OpenLoop, Request, Seen, Stalled, Wrk};
use crate::peers::Peer;
use crate::site::{Pair, Site, Speaks};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// One thing that is measured of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) better: Better,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Lower,
    Higher,
}

const fn lower(name: &'static str) -> Metric {
    Metric { name, better: Better::Lower }
}

const fn higher(name: &'static str) -> Metric {
    Metric { name, better: Better::Higher }
}

const CPU: Metric = lower("CPU µs a call, A + B");
const CPU_A: Metric = lower("CPU µs a call, A");
const CPU_B: Metric = lower("CPU µs a call, B");
const CALLS: Metric = higher("calls/s");
const MEGABYTES: Metric = higher("MB/s");
const P50: Metric = lower("p50 µs");
const P99: Metric = lower("p99 µs");
const P999: Metric = lower("p99.9 µs");
const RSS_A: Metric = lower("RSS MiB, A");
const RSS_B: Metric = lower("RSS MiB, B");

const SINGLE_CPU: Metric = lower("64 × 1 streams: CPU µs a call, A + B");
const SINGLE_P50: Metric = lower("64 × 1 streams: p50 µs");

const ALONE_P50: Metric = lower("alone: p50 µs");
const ALONE_P99: Metric = lower("alone: p99 µs");
const BULK_P50: Metric = lower("beside bulk: p50 µs");
const BULK_P99: Metric = lower("beside bulk: p99 µs");
const BULK_MEGABYTES: Metric = higher("meanwhile, the bulk streams together: MB/s");
const BULK_STALLED_P50: Metric = lower("beside bulk and stalled readers: p50 µs");
const BULK_STALLED_P99: Metric = lower("beside bulk and stalled readers: p99 µs");
const STALLED_P50: Metric = lower("beside stalled readers: p50 µs");
const STALLED_P99: Metric = lower("beside stalled readers: p99 µs");
const RSS_DURING: Metric = lower("largest RSS MiB meanwhile, of A and B the larger");
const RSS_AFTER: Metric = lower("RSS MiB 5 s after, of A and B the larger");

const IDLE_PAIR: Metric = lower("idle: RSS MiB, A + B");
const THOUSAND: Metric = lower("1,000 idle connections: RSS MiB, A + B");
const TEN_THOUSAND: Metric = lower("10,000 idle connections: RSS MiB, A + B");
const A_CONNECTION: Metric = lower("KiB an idle connection, of 10,000, A + B");

const WORKERS: [(usize, Metric, Metric); 3] = [
    (1, lower("1 worker: CPU µs a call, A + B"), higher("1 worker: calls/s")),
    (2, lower("2 workers: CPU µs a call, A + B"), higher("2 workers: calls/s")),
    (4, lower("4 workers: CPU µs a call, A + B"), higher("4 workers: calls/s")),
];

/// A pair that runs for the whole benchmark, and how to start another.
#[derive(Debug)]
pub(crate) struct Contestant {
    pub(crate) peer: Peer,
    pub(crate) pair: Pair,
}

/// What one repetition measured.
pub(crate) type Values = Vec<(Metric, f64)>;

/// One row of the issue.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) letter: char,
    pub(crate) what: &'static str,
    /// Measures once. No values: the pair does not offer this.
    pub(crate) run: fn(&Contestant, &Site, Duration) -> Result<Values>,
    pub(crate) goals: &'static [Goal],
}

/// What must come of a metric of ours, as a multiple of something else.
#[derive(Debug)]
pub(crate) struct Goal {
    pub(crate) metric: Metric,
    pub(crate) limit: f64,
    pub(crate) times: Times,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Times {
    /// The limit is absolute.
    One,
    /// The same metric of a peer.
    Peer(&'static str),
    /// The same metric of the peer that is best at it.
    BestPeer,
    /// Another metric of ours.
    Own(Metric),
}

const fn goal(metric: Metric, limit: f64, times: Times) -> Goal {
    Goal { metric, limit, times }
}

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        letter: 'a',
        what: "64 connections, small GET",
        run: |contestant, _, span| closed(&contestant.pair, Wrk::get(64, "/small"), span),
        goals: &[
            goal(CPU, 0.75, Times::Peer("haproxy")),
            goal(CPU, 0.18, Times::Peer("envoy")),
            goal(CALLS, 1.3, Times::Peer("haproxy")),
        ],
    },
    Workload {
        letter: 'b',
        what: "1 connection, small GET",
        run: |contestant, _, span| closed(&contestant.pair, Wrk::get(1, "/small"), span),
        goals: &[goal(CPU, 0.75, Times::Peer("nginx")), goal(P50, 0.75, Times::Peer("nginx"))],
    },
    Workload {
        letter: 'c',
        what: "2,000 calls/s on a schedule, 64 connections, small GET",
        run: |contestant, _, span| open(&contestant.pair, span),
        goals: &[goal(CPU, 0.7, Times::Peer("nginx")), goal(P50, 0.8, Times::Peer("nginx"))],
    },
    Workload {
        letter: 'd',
        what: "32 connections, 16 KiB echo",
        run: |contestant, _, span| closed(&contestant.pair, Wrk::echo(32), span),
        goals: &[goal(CPU, 0.4, Times::Peer("haproxy"))],
    },
    Workload {
        letter: 'e',
        what: "4 connections, 16 MiB download",
        run: |contestant, _, span| download(&contestant.pair, span),
        goals: &[goal(CPU, 0.6, Times::Peer("envoy")), goal(MEGABYTES, 1.5, Times::Peer("envoy"))],
    },
    Workload {
        letter: 'f',
        what: "HTTP/2 without TLS on both sides: 8 connections with 32 streams each, and 64 with one each, small GET",
        run: |contestant, site, span| http2(&contestant.peer.start_for(site, 1, Speaks::H2c)?, span),
        goals: &[goal(CPU, 0.75, Times::Peer("haproxy"))],
    },
    Workload {
        letter: 'g',
        what: "8 connections, small GET, beside 2 downloads and 2 uploads of 1 GiB, and beside 32 stalled readers",
        run: |contestant, site, span| beside(&contestant.peer.start(site, 1)?, span),
        goals: &[
            goal(BULK_P50, 0.2, Times::BestPeer),
            goal(STALLED_P50, 2.0, Times::Own(ALONE_P50)),
            goal(RSS_DURING, 40.0, Times::One),
            goal(RSS_AFTER, 10.0, Times::One),
        ],
    },
    Workload { letter: 'h', what: "1 to 4 workers, 64 connections, small GET", run: workers, goals: &[] },
    Workload {
        letter: 'i',
        what: "memory, idle and with idle connections",
        run: |contestant, site, _| idle(&contestant.peer.start(site, 1)?),
        goals: &[goal(IDLE_PAIR, 16.0, Times::One), goal(A_CONNECTION, 2.0, Times::One)],
    },
    Workload {
        letter: 'j',
        what: "64 connections, small GET with 8 further headers, 2 of which change with each call",
        run: |contestant, _, span| closed(&contestant.pair, Wrk::with_headers(64), span),
        goals: &[],
    },
];

fn costs(sides: [f64; 2], calls: u64) -> Values {
    let [a, b] = sides.map(|used| used / calls as f64);
    vec![(CPU, a + b), (CPU_A, a), (CPU_B, b)]
}

fn latencies(seen: Seen) -> Values {
    vec![(P50, seen.p50_us), (P99, seen.p99_us), (P999, seen.p999_us)]
}

fn resident(pair: &Pair) -> Result<Values> {
    let [a, b] = pair.rss_mib()?;
    Ok(vec![(RSS_A, a), (RSS_B, b)])
}

/// What most workloads tell: cost, calls a second, latencies, memory.
fn told(pair: &Pair, load: impl FnOnce() -> Result<Seen>) -> Result<Values> {
    let (sides, seen) = pair.cpu_us_of(load)?;
    Ok([costs(sides, seen.calls), vec![(CALLS, seen.per_second)], latencies(seen), resident(pair)?].concat())
}

fn closed(pair: &Pair, wrk: Wrk, span: Duration) -> Result<Values> {
    told(pair, || wrk.run(pair.door, span))
}

fn open(pair: &Pair, span: Duration) -> Result<Values> {
    told(pair, || OpenLoop { per_second: 2_000, connections: 64 }.run(pair.door, span))
}

fn http2(pair: &Pair, span: Duration) -> Result<Values> {
    let Some(door) = pair.h2c_door else { return Ok(Values::new()) };
    load::h2load(door, 8, 32, WARM_UP)?;
    let mut values = told(pair, || load::h2load(door, 8, 32, span))?;
    load::h2load(door, 64, 1, WARM_UP)?;
    let (sides, seen) = pair.cpu_us_of(|| load::h2load(door, 64, 1, span))?;
    values.push((SINGLE_CPU, sides.iter().sum::<f64>() / seen.calls as f64));
    values.push((SINGLE_P50, seen.p50_us));
    Ok(values)
}

fn download(pair: &Pair, span: Duration) -> Result<Values> {
    const BYTES: f64 = 16.0 * 1024.0 * 1024.0;
    let (sides, seen) = pair.cpu_us_of(|| Wrk::get(4, "/bytes/16777216").run(pair.door, span))?;
    let megabytes = vec![(MEGABYTES, seen.per_second * BYTES / 1e6)];
    Ok([costs(sides, seen.calls), megabytes, latencies(seen), resident(pair)?].concat())
}

fn workers(contestant: &Contestant, site: &Site, span: Duration) -> Result<Values> {
    const LOAD: Wrk = Wrk::get(64, "/small");
    let mut values = Values::new();
    for (workers, cpu, calls) in WORKERS {
        let pair = contestant.peer.start(site, workers)?;
        LOAD.run(pair.door, WARM_UP)?;
        let (sides, seen) = pair.cpu_us_of(|| LOAD.run(pair.door, span))?;
        values.push((cpu, sides.iter().sum::<f64>() / seen.calls as f64));
        values.push((calls, seen.per_second));
    }
    Ok(values)
}

/// What makes connections, fills pools and trains predictors before anything is measured.
pub(crate) const WARM_UP: Duration = Duration::from_secs(1);

fn beside(pair: &Pair, span: Duration) -> Result<Values> {
    /// For streams to be under way, and readers to have filled what lies between.
    const LEAD: Duration = Duration::from_secs(1);
    const SETTLE: Duration = Duration::from_secs(5);
    const STALLED: usize = 32;
    let mut callers = Callers::connect(pair.door, 8, &[Request::small()])?;
    callers.run(WARM_UP)?;
    let alone = callers.run(span)?;
    let (largest, (bulk, megabytes, both, stalled)) = largest_rss_of(pair, || {
        let streams = Bulk::start(pair.door, 2, 2)?;
        std::thread::sleep(LEAD);
        let (began, moved) = (Instant::now(), streams.moved());
        let bulk = callers.run(span)?;
        let megabytes = (streams.moved() - moved) as f64 / 1e6 / began.elapsed().as_secs_f64();
        let _readers = Stalled::start(pair.door, STALLED)?;
        std::thread::sleep(LEAD);
        let both = callers.run(span)?;
        streams.stop()?;
        std::thread::sleep(LEAD);
        Ok((bulk, megabytes, both, callers.run(span)?))
    })?;
    std::thread::sleep(SETTLE);
    Ok(vec![
        (ALONE_P50, alone.p50_us),
        (ALONE_P99, alone.p99_us),
        (BULK_P50, bulk.p50_us),
        (BULK_P99, bulk.p99_us),
        (BULK_MEGABYTES, megabytes),
        (BULK_STALLED_P50, both.p50_us),
        (BULK_STALLED_P99, both.p99_us),
        (STALLED_P50, stalled.p50_us),
        (STALLED_P99, stalled.p99_us),
        (RSS_DURING, largest),
        (RSS_AFTER, larger(pair.rss_mib()?)),
    ])
}

fn larger([a, b]: [f64; 2]) -> f64 {
    a.max(b)
}

/// Runs `load` and gives the largest resident memory that either side was seen with meanwhile, in MiB.
fn largest_rss_of<T>(pair: &Pair, load: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    const EVERY: Duration = Duration::from_millis(50);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| -> Result<f64> {
            let mut largest = 0_f64;
            while !over.load(Ordering::Relaxed) {
                largest = largest.max(larger(pair.rss_mib()?));
                std::thread::sleep(EVERY);
            }
            Ok(largest)
        });
        let seen = load();
        over.store(true, Ordering::Relaxed);
        let largest = watching.join().map_err(|_| "the watch over memory panicked")??;
        Ok((largest, seen?))
    })
}

fn idle(pair: &Pair) -> Result<Values> {
    /// For what a start or a burst of connections left behind to be given back.
    const SETTLE: Duration = Duration::from_secs(1);
    let settled = || -> Result<f64> {
        std::thread::sleep(SETTLE);
        Ok(pair.rss_mib()?.iter().sum())
    };
    let none = settled()?;
    let _few = Callers::connect(pair.door, 1_000, &[Request::small()])?;
    let thousand = settled()?;
    let _more = Callers::connect(pair.door, 9_000, &[Request::small()])?;
    let ten_thousand = settled()?;
    Ok(vec![
        (IDLE_PAIR, none),
        (THOUSAND, thousand),
        (TEN_THOUSAND, ten_thousand),
        (A_CONNECTION, (ten_thousand - none) * 1024.0 / 10_000.0),
    ])
}
