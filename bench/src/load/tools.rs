//! The generators that others wrote, each in a process of its own. Any error that one saw is an error here.

use super::Seen;
use crate::Result;
use crate::site::{self, CALLEE};
use serde::Deserialize;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Replaces wrk's report, which has no p99.9.
const REPORT: &str = include_str!("wrk.lua");
/// wrk counts an answer later than its own 2 s as an error; ten thousand connections at once may take longer.
const WRK_TIMEOUT: &str = "30s";

/// A closed loop by `wrk`, one thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wrk {
    pub(crate) connections: usize,
    pub(crate) path: &'static str,
    /// Lua that makes the requests; empty for plain GETs.
    script: &'static str,
}

impl Wrk {
    pub(crate) const fn get(connections: usize, path: &'static str) -> Wrk {
        Wrk { connections, path, script: "" }
    }

    /// 16 KiB there and back.
    pub(crate) const fn echo(connections: usize) -> Wrk {
        Wrk { connections, path: "/echo", script: include_str!("echo.lua") }
    }

    /// Small GETs with eight further headers.
    pub(crate) const fn with_headers(connections: usize) -> Wrk {
        Wrk { connections, path: "/small", script: include_str!("headers.lua") }
    }

    pub(crate) fn run(&self, door: SocketAddr, span: Duration) -> Result<Seen> {
        let mut script = tempfile::NamedTempFile::new()?;
        write!(script, "{}{REPORT}", self.script)?;
        let mut command = Command::new("wrk");
        command.args(["-t", "1", "-c", &self.connections.to_string(), "-d", &format!("{}s", span.as_secs())]);
        command.args(["--timeout", WRK_TIMEOUT, "-H", &format!("Host: {CALLEE}"), "-s"]).arg(script.path());
        command.arg(format!("http://{door}{}", self.path));
        wrk_report(&output_of(command)?)
    }
}

#[derive(Debug, Deserialize)]
struct WrkReport {
    calls: u64,
    span_us: f64,
    failed: u64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
}

fn wrk_report(output: &str) -> Result<Seen> {
    let line = output.lines().find(|line| line.starts_with('{')).ok_or_else(|| format!("wrk: {output}"))?;
    let report: WrkReport = serde_json::from_str(line)?;
    if report.failed > 0 || report.calls == 0 {
        return Err(format!("wrk saw {} calls and {} errors", report.calls, report.failed).into());
    }
    Ok(Seen {
        calls: report.calls,
        per_second: report.calls as f64 / report.span_us * 1e6,
        p50_us: report.p50_us,
        p99_us: report.p99_us,
        p999_us: report.p999_us,
    })
}

/// HTTP/2 without TLS by `h2load`: so many connections with so many streams each.
pub(crate) fn h2load(door: SocketAddr, connections: usize, streams: usize, span: Duration) -> Result<Seen> {
    let log = tempfile::NamedTempFile::new()?;
    let mut command = Command::new("h2load");
    command.args(["-c", &connections.to_string(), "-m", &streams.to_string(), "-D", &span.as_secs().to_string()]);
    command.args(["-H", &format!(":authority: {CALLEE}")]).arg("--log-file").arg(log.path());
    command.arg(format!("http://{door}/small"));
    output_of(command)?;
    h2load_log(log.path(), span)
}

/// A line a call: when it began, its status, how long it took, in microseconds.
fn h2load_log(log: &Path, span: Duration) -> Result<Seen> {
    let mut latencies = Vec::new();
    for line in std::fs::read_to_string(log)?.lines() {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (status, took) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        if status != "200" {
            return Err(format!("h2load: {line}").into());
        }
        latencies.push(took.parse::<u32>()?);
    }
    Seen::of(latencies, span)
}

/// Calls on a schedule that waits for no answer, by `oha`. A call's latency counts from when it was due, so that a late
/// one is not left out (`--latency-correction`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenLoop {
    pub(crate) per_second: u32,
    pub(crate) connections: usize,
}

impl OpenLoop {
    pub(crate) fn run(&self, door: SocketAddr, span: Duration) -> Result<Seen> {
        let mut command = Command::new(site::target()?.join("bench-tools/bin/oha"));
        command.args(["-q", &self.per_second.to_string(), "--latency-correction", "--no-tui"]);
        command.args(["-c", &self.connections.to_string(), "-z", &format!("{}s", span.as_secs())]);
        command.args(["--output-format", "json", "-H", &format!("Host: {CALLEE}"), &format!("http://{door}/small")]);
        oha_report(&output_of(command)?)
    }
}

fn oha_report(output: &str) -> Result<Seen> {
    let report: serde_json::Value = serde_json::from_str(output)?;
    let number = |path: &str| {
        report.pointer(path).and_then(serde_json::Value::as_f64).ok_or_else(|| format!("oha says no {path}: {output}"))
    };
    let calls = number("/statusCodeDistribution/200")?;
    Ok(Seen {
        calls: calls as u64,
        per_second: number("/summary/requestsPerSec")?,
        p50_us: number("/latencyPercentiles/p50")? * 1e6,
        p99_us: number("/latencyPercentiles/p99")? * 1e6,
        p999_us: number("/latencyPercentiles/p99.9")? * 1e6,
    })
}

fn output_of(mut command: Command) -> Result<String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(format!("{command:?}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr)).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_understood() {
        let line = r#"{"calls":10,"span_us":2000000,"failed":0,"p50_us":1,"p99_us":2,"p999_us":3}"#;
        let seen = wrk_report(&format!("Running 1s test\n\n{line}\n")).expect("a report");
        assert_eq!((seen.calls, seen.per_second, seen.p999_us), (10, 5.0, 3.0));
        assert!(wrk_report(&line.replace("\"failed\":0", "\"failed\":1")).is_err());
        assert!(wrk_report("unable to connect").is_err());
    }
}
