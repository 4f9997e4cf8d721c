//! Real gRPC apps and callers: the libraries of Debian (C core, Python) and of npm (`@grpc/grpc-js`).

use crate::binaries::{root, target_dir};
use crate::ports::Port;
use crate::process::{Output, run};
use crate::served::Served;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;
use tempfile::TempDir;

/// How long making the messages may take.
const MAKE_LIMIT: Duration = Duration::from_secs(30);
/// How long all scenarios together may take.
const SCENARIOS_LIMIT: Duration = Duration::from_secs(180);

/// Whose library is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// `grpcio` for Python, on gRPC's C core.
    Python,
    /// `@grpc/grpc-js`, in JavaScript throughout.
    Node,
}

/// gRPC's interoperability service, as an app.
#[derive(Debug)]
pub struct Interop(Served);

impl Interop {
    /// Starts it and waits until it accepts.
    #[must_use]
    #[track_caller]
    pub fn start(library: Library) -> Interop {
        let port = Port::lease();
        let number = port.number().to_string();
        let command = match library {
            Library::Python => python_file("server.py", &[&number]),
            Library::Node => node_file("node.js", &["serve", &number]),
        };
        Interop(Served::start("gRPC app", command, port))
    }

    /// The one for Python, on a Unix domain socket besides.
    #[must_use]
    #[track_caller]
    pub fn start_with_socket(path: &Path) -> Interop {
        let port = Port::lease();
        let number = port.number().to_string();
        Interop(Served::start("gRPC app", python_file("server.py", &[&number, &path.display().to_string()]), port))
    }

    /// Any Python program that serves at the port that it is told.
    #[must_use]
    #[track_caller]
    pub fn python(script: &str) -> Interop {
        let port = Port::lease();
        let number = port.number().to_string();
        Interop(Served::start("gRPC app", python(script, &[&number]), port))
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

/// Goes through gRPC's interoperability scenarios at `target`, as gRPC names it, and gives what it saw: a line each, that ends with `ok`.
#[must_use]
pub fn scenarios(library: Library, target: &str, authority: Option<&str>) -> Vec<String> {
    let arguments: Vec<&str> = [target].into_iter().chain(authority).collect();
    let command = match library {
        Library::Python => python_file("client.py", &arguments),
        Library::Node => node_file("node.js", &[&["call"], &arguments[..]].concat()),
    };
    run(command, SCENARIOS_LIMIT).success().lines().map(str::to_owned).collect()
}

/// Runs a Python program, which may import `grpc` and the messages as `interop_pb2`.
#[must_use]
pub fn run_python(script: &str, arguments: &[&str], limit: Duration) -> Output {
    run(python(script, arguments), limit)
}

fn python(script: &str, arguments: &[&str]) -> Command {
    // Debian's own, which has Debian's packages.
    let mut command = Command::new("/usr/bin/python3");
    command.env("PYTHONPATH", messages()).arg("-c").arg(script).args(arguments);
    command
}

fn python_file(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.env("PYTHONPATH", messages()).arg(sources().join(name)).args(arguments);
    command
}

fn node_file(name: &str, arguments: &[&str]) -> Command {
    let mut command = node();
    command.env("INTEROP_PROTO", sources().join("interop.proto")).arg(sources().join(name)).args(arguments);
    command
}

/// Node.js with the libraries that tests/setup.sh installs.
#[must_use]
pub fn node() -> Command {
    let mut command = Command::new("node");
    command.env("NODE_PATH", target_dir().join("test-tools/node/node_modules"));
    command
}

fn sources() -> PathBuf {
    root().join("tests/src/grpc")
}

/// The messages as a module of Python, made once a test process.
fn messages() -> &'static Path {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new("protoc");
        command.arg("-I").arg(sources()).arg("--python_out").arg(dir.path()).arg("interop.proto");
        run(command, MAKE_LIMIT).success();
        dir
    });
    made.path()
}
