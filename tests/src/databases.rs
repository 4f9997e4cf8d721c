//! Real servers that speak their own protocols over TCP: Redis and PostgreSQL, as Debian packages them.

use crate::ports::Port;
use crate::process::Process;
use crate::wait::until;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use tempfile::TempDir;

/// How long a server may take to come up.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The name of Redis's socket in its directory.
const SOCKET: &str = "redis.sock";

/// A Redis on a port of its own, without persistence.
#[derive(Debug)]
pub struct Redis {
    // Dropped in this order: the process's last words are read from the directory.
    _process: Process,
    port: Port,
    dir: TempDir,
}

impl Redis {
    /// Starts it and waits until it accepts.
    #[must_use]
    pub fn start() -> Redis {
        let (port, dir) = (Port::lease(), tempfile::tempdir().expect("a temporary directory"));
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port.number().to_string()]);
        command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(dir.path());
        command.arg("--unixsocket").arg(dir.path().join(SOCKET));
        let process = Process::start("redis", command, &dir.path().join("redis.log"));
        until("Redis accepts", START_LIMIT, || TcpStream::connect(port.local()));
        Redis { _process: process, port, dir }
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.local()
    }

    /// Its Unix domain socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join(SOCKET)
    }
}

/// A PostgreSQL on a port of its own; its user is `postgres`, without a password.
#[derive(Debug)]
pub struct Postgres {
    // Dropped in this order: the process's last words are read from the directory.
    _process: Process,
    port: Port,
    _dir: TempDir,
}

impl Postgres {
    /// Makes a cluster, starts it and waits until it answers.
    #[must_use]
    pub fn start() -> Postgres {
        let (port, dir) = (Port::lease(), tempfile::tempdir().expect("a temporary directory"));
        let data = dir.path().join("data");
        // The server refuses to run as root.
        let as_root = std::fs::metadata("/proc/self").expect("procfs").uid() == 0;
        let own = |program: &str| {
            let program = Postgres::program(program);
            let mut command = if as_root {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
                command
            } else {
                Command::new(program)
            };
            command.current_dir(dir.path());
            command
        };
        if as_root {
            run(Command::new("chown").arg("postgres").arg(dir.path()));
        }
        run(own("initdb").args(["--auth=trust", "--username=postgres", "--no-sync", "--pgdata"]).arg(&data));
        let mut command = own("postgres");
        command.arg("-D").arg(&data).args(["-h", "127.0.0.1", "-p", &port.number().to_string()]);
        command.args(["-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "max_connections=64"]);
        let process = Process::start("postgres", command, &dir.path().join("postgres.log"));
        let postgres = Postgres { _process: process, port, _dir: dir };
        until("PostgreSQL answers", START_LIMIT, || {
            let output = Postgres::psql(postgres.address(), &["-c", "select 1"]);
            if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
        });
        postgres
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.local()
    }

    /// Runs `psql` against an address.
    #[must_use]
    pub fn psql(at: SocketAddr, arguments: &[&str]) -> Output {
        Postgres::client("psql", at)
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "-v", "ON_ERROR_STOP=1"])
            .args(arguments)
            .output()
            .expect("psql runs")
    }

    /// A client program of PostgreSQL's, told where to connect.
    #[must_use]
    pub fn client(program: &str, at: SocketAddr) -> Command {
        let mut command = Command::new(Postgres::program(program));
        command.env("PGHOST", at.ip().to_string()).env("PGPORT", at.port().to_string());
        command.env("PGUSER", "postgres").env("PGDATABASE", "postgres").env("PGCONNECT_TIMEOUT", "20");
        command
    }

    /// Debian keeps them by version.
    fn program(name: &str) -> PathBuf {
        let versions = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed (tests/setup.sh)");
        let programs = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin").join(name)));
        programs.filter(|program| Path::exists(program)).max().unwrap_or_else(|| panic!("no {name} is installed"))
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
