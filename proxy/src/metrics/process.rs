//! Figures of the own process, from /proc/self and getrusage; read when metrics are rendered.

use std::{
    fs,
    sync::Mutex,
    time::{SystemTime, UNIX_EPOCH},
};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use prometheus::{Counter, Gauge, IntGauge};

use super::families::Maker;

/// Handles of the process figures.
pub(super) struct Process {
    resident: IntGauge,
    cpu: Counter,
    open_fds: IntGauge,
    max_fds: IntGauge,
    threads: IntGauge,
    /// Held while refreshing, so that two renders at once do not add the same CPU time twice.
    refreshing: Mutex<()>,
}

impl Process {
    pub(super) fn new(make: &mut Maker) -> Self {
        let start: Gauge =
            make.float_gauge("pillion_process_start_time_seconds", "When the process started, Unix time.");
        start.set(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()));
        Self {
            resident: make.gauge("pillion_process_resident_memory_bytes", "Resident memory (VmRSS)."),
            cpu: make.float_counter("pillion_process_cpu_seconds_total", "User and system CPU time of the process."),
            open_fds: make.gauge("pillion_process_open_fds", "Open file descriptors."),
            max_fds: make.gauge("pillion_process_max_fds", "Limit of open file descriptors (soft)."),
            threads: make.gauge("pillion_process_threads", "Threads of the process."),
            refreshing: Mutex::new(()),
        }
    }

    /// Reads everything again. What cannot be read keeps its last value.
    pub(super) fn refresh(&self) {
        let _guard = self.refreshing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            if let Some(kib) = field(&status, "VmRSS:") {
                self.resident.set(kib.saturating_mul(1024));
            }
            if let Some(threads) = field(&status, "Threads:") {
                self.threads.set(threads);
            }
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            // One of them is the directory just opened.
            let open = i64::try_from(entries.count()).unwrap_or(i64::MAX);
            self.open_fds.set(open.saturating_sub(1));
        }
        if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            self.max_fds.set(i64::try_from(soft).unwrap_or(i64::MAX));
        }
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            let seconds = [usage.user_time(), usage.system_time()]
                .iter()
                .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)
                .sum::<f64>();
            let more = seconds - self.cpu.get();
            if more > 0.0 {
                self.cpu.inc_by(more);
            }
        }
    }
}

/// The number behind `name` in the text of /proc/self/status.
fn field(status: &str, name: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
