//! What /proc tells of processes: CPU time of all their threads, resident memory.

use crate::Result;
use std::collections::HashMap;
use std::fs;

/// CPU time of each thread of some processes, in nanoseconds (`schedstat`: exact, not by ticks).
#[derive(Debug)]
pub(crate) struct CpuTimes(HashMap<u32, u64>);

impl CpuTimes {
    pub(crate) fn read(pids: &[u32]) -> Result<CpuTimes> {
        let mut times = HashMap::new();
        for pid in pids {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                let task = task?;
                // A thread that ends between these two reads takes its time with it.
                let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
                let thread = task.file_name().to_string_lossy().parse()?;
                let used = text.split_whitespace().next().ok_or("an empty schedstat")?;
                times.insert(thread, used.parse()?);
            }
        }
        Ok(CpuTimes(times))
    }

    /// Microseconds used since `earlier`. What threads that have ended meanwhile used is not in it.
    pub(crate) fn micros_since(&self, earlier: &CpuTimes) -> f64 {
        let used: u64 =
            self.0.iter().map(|(thread, now)| now.saturating_sub(earlier.0.get(thread).copied().unwrap_or(0))).sum();
        used as f64 / 1e3
    }
}

/// Resident memory of these processes together, in KiB.
pub(crate) fn rss_kib(pids: &[u32]) -> Result<u64> {
    let mut total = 0;
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        total += line.trim().trim_end_matches(" kB").trim().parse::<u64>()?;
    }
    Ok(total)
}

/// This process and those it has started.
pub(crate) fn with_children(pid: u32) -> Result<Vec<u32>> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let mut all = vec![pid];
    all.extend(text.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    Ok(all)
}
