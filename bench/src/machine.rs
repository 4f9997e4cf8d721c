//! Where it was measured, and with which versions.

use crate::Result;
use crate::peers::Peer;
use serde::Serialize;
use std::process::Command;

#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) kernel: String,
    /// Of the minute before the start: whether the machine had other work.
    pub(crate) load_average: String,
    pub(crate) versions: Vec<String>,
}

impl Machine {
    pub(crate) fn here(peers: &[Peer]) -> Result<Machine> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let mut versions = peers.iter().map(Peer::version).collect::<Result<Vec<_>>>()?;
        versions.push(commit());
        Ok(Machine {
            date: time::OffsetDateTime::now_utc().date().to_string(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: model.map(|(_, name)| name.to_owned()).unwrap_or_default(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            versions,
        })
    }
}

/// The commit that the tree is at, if git knows.
fn commit() -> String {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let said = output.ok().filter(|output| output.status.success());
    said.map_or("commit unknown".to_owned(), |output| {
        format!("commit {}", String::from_utf8_lossy(&output.stdout).trim())
    })
}
