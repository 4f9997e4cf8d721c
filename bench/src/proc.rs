//! What /proc tells of processes: CPU time of all their threads, resident memory.

use crate::Result;
use std::fs;

/// CPU time that all threads of these processes have used so far, in nanoseconds (`schedstat`: exact, not by ticks).
pub(crate) fn cpu_nanos(pids: &[u32]) -> Result<u64> {
    let mut total = 0;
    for pid in pids {
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = task?.path().join("schedstat");
            let text = fs::read_to_string(&path)?;
            let first = text.split_whitespace().next().ok_or("an empty schedstat")?;
            total += first.parse::<u64>()?;
        }
    }
    Ok(total)
}

/// Resident memory of these processes, in KiB.
pub(crate) fn rss_kib(pids: &[u32]) -> Result<u64> {
    let mut total = 0;
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        total += line.trim().trim_end_matches(" kB").trim().parse::<u64>()?;
    }
    Ok(total)
}

/// The processes that `pid` has started, itself included.
pub(crate) fn with_children(pid: u32) -> Result<Vec<u32>> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let mut all = vec![pid];
    all.extend(text.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    Ok(all)
}
