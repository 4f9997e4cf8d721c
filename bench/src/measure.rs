//! The measurements, each over all pairs in turns.

use crate::load::{self, Wrk};
use crate::rig::{Pair, Rig};
use crate::{Result, proc};
use serde::Serialize;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long and how often.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) repetitions: usize,
    pub(crate) span: Duration,
    pub(crate) nginx_only: bool,
}

const MANY: usize = 64;
/// Small calls beside bulk go over this many connections.
const BESIDE: usize = 8;
const BULK_DOWN: usize = 2;
const BULK_UP: usize = 2;
/// For the bulk streams to be under way before the small calls beside them are measured.
const BULK_LEAD: Duration = Duration::from_secs(1);

/// Everything measured, a series a pair.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) pairs: Vec<PairResults>,
}

/// Where it was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) kernel: String,
    pub(crate) nginx: String,
}

/// What one pair came to; a value a repetition.
#[derive(Debug, Default, Serialize)]
pub(crate) struct PairResults {
    pub(crate) name: String,
    pub(crate) many: Series,
    pub(crate) one: Series,
    pub(crate) alone_p50_us: Vec<f64>,
    pub(crate) alone_p99_us: Vec<f64>,
    pub(crate) beside_p50_us: Vec<f64>,
    pub(crate) beside_p99_us: Vec<f64>,
    pub(crate) idle_rss_kib: [u64; 2],
    pub(crate) after_rss_kib: [u64; 2],
}

/// A closed loop over some connections.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Series {
    /// CPU time of both sides together for one call, in microseconds.
    pub(crate) cpu_us: Vec<f64>,
    pub(crate) per_second: Vec<f64>,
    pub(crate) p50_us: Vec<f64>,
    pub(crate) p99_us: Vec<f64>,
}

impl Series {
    fn add(&mut self, cpu_us: f64, seen: Wrk) {
        self.cpu_us.push(cpu_us);
        self.per_second.push(seen.per_second);
        self.p50_us.push(seen.p50_us);
        self.p99_us.push(seen.p99_us);
    }
}

/// Runs all measurements.
pub(crate) fn all(plan: &Plan) -> Result<Results> {
    let rig = Rig::start(plan.nginx_only)?;
    let mut results: Vec<PairResults> =
        rig.pairs.iter().map(|pair| PairResults { name: pair.name.into(), ..PairResults::default() }).collect();
    for (pair, result) in rig.pairs.iter().zip(&mut results) {
        result.idle_rss_kib = pair.rss_kib()?;
        load::wrk(pair.door, MANY, Duration::from_secs(1))?; // warm: connections, pools, branch predictors
    }
    for repetition in 1..=plan.repetitions {
        eprintln!("bench: {MANY} connections, repetition {repetition} of {}", plan.repetitions);
        for (pair, result) in rig.pairs.iter().zip(&mut results) {
            let (cpu_us, seen) = costed(pair, MANY, plan.span)?;
            result.many.add(cpu_us, seen);
        }
    }
    let fewer = plan.repetitions.div_ceil(2);
    for repetition in 1..=fewer {
        eprintln!("bench: one connection, repetition {repetition} of {fewer}");
        for (pair, result) in rig.pairs.iter().zip(&mut results) {
            let (cpu_us, seen) = costed(pair, 1, plan.span)?;
            result.one.add(cpu_us, seen);
        }
    }
    for repetition in 1..=fewer {
        eprintln!("bench: small calls beside bulk, repetition {repetition} of {fewer}");
        for (pair, result) in rig.pairs.iter().zip(&mut results) {
            beside_bulk(pair, plan.span, result)?;
        }
    }
    for (pair, result) in rig.pairs.iter().zip(&mut results) {
        result.after_rss_kib = pair.rss_kib()?;
    }
    Ok(Results { machine: machine(), pairs: results })
}

/// `wrk` for a span, and the CPU time of both sides for one call.
fn costed(pair: &Pair, connections: usize, span: Duration) -> Result<(f64, Wrk)> {
    let pids = pair.pids()?;
    let before = proc::cpu_nanos(&pids)?;
    let seen = load::wrk(pair.door, connections, span)?;
    let used = proc::cpu_nanos(&pids)? - before;
    Ok((used as f64 / 1e3 / seen.calls as f64, seen))
}

fn beside_bulk(pair: &Pair, span: Duration, result: &mut PairResults) -> Result<()> {
    let alone = load::small_calls(pair.door, BESIDE, span)?;
    result.alone_p50_us.push(quantile(&alone, 0.5));
    result.alone_p99_us.push(quantile(&alone, 0.99));
    let mut streams = Streams::start(pair)?;
    std::thread::sleep(BULK_LEAD);
    let beside = load::small_calls(pair.door, BESIDE, span)?;
    streams.still_running()?;
    result.beside_p50_us.push(quantile(&beside, 0.5));
    result.beside_p99_us.push(quantile(&beside, 0.99));
    Ok(())
}

struct Streams(Child);

impl Streams {
    fn start(pair: &Pair) -> Result<Streams> {
        let child = Command::new(std::env::current_exe()?)
            .args(["bulk", &pair.door.to_string(), &BULK_DOWN.to_string(), &BULK_UP.to_string()])
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Streams(child))
    }

    fn still_running(&mut self) -> Result<()> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("the bulk streams ended with {status}").into()),
        }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn quantile(sorted: &[u32], at: f64) -> f64 {
    let place = ((sorted.len() as f64 - 1.0) * at).round().max(0.0) as usize;
    sorted.get(place).copied().map_or(f64::NAN, f64::from)
}

fn machine() -> Machine {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processor = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name.to_owned()))
        .unwrap_or_default();
    let nginx = Command::new("/usr/sbin/nginx")
        .arg("-v")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stderr).trim().rsplit(": ").next().unwrap_or_default().to_owned())
        .unwrap_or_default();
    Machine {
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        processor,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        nginx,
    }
}
