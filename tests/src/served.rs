//! A program that serves at a port of its own.

use crate::ports::Port;
use crate::process::Process;
use crate::wait::until;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// How long one may take to come up.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A program that runs and accepts.
#[derive(Debug)]
pub struct Served {
    // Dropped in this order: the process's last words are read from the directory.
    process: Process,
    port: Port,
    _dir: TempDir,
}

impl Served {
    /// Starts it and waits until it accepts at `port`.
    #[must_use]
    #[track_caller]
    pub fn start(label: &str, command: Command, port: Port) -> Served {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let process = Process::start(label, command, &dir.path().join("app.log"));
        until_it_accepts(label, port.local());
        Served { process, port, _dir: dir }
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.local()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

/// Waits until something accepts there.
#[track_caller]
pub fn until_it_accepts(label: &str, at: SocketAddr) {
    until(&format!("{label} accepts"), START_LIMIT, || TcpStream::connect(at));
}
