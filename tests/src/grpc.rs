//! Real gRPC apps and callers: the libraries of Debian (C core, Python) and of npm (`@grpc/grpc-js`).

use crate::binaries::{root, target_dir};
use crate::ports::Port;
use crate::process::{Output, Process, run};
use crate::served::{Served, until_it_accepts};
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

/// The services of `grpc/shop.proto`, as an app that can be killed and started again at its port.
#[derive(Debug)]
pub struct Shop {
    // Dropped in this order: the process's last words are read from the directory.
    process: Option<Process>,
    port: Port,
    reflection: Vec<String>,
    dir: TempDir,
}

impl Shop {
    /// Starts it and waits until it accepts. It tells its methods by these versions of server reflection.
    #[must_use]
    #[track_caller]
    pub fn start(reflection: &[&str]) -> Shop {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("shop.pb"), descriptors(&sources().join("shop.proto"), true))
            .expect("the descriptors");
        let reflection = reflection.iter().map(|&version| version.to_owned()).collect();
        let mut shop = Shop { process: None, port: Port::lease(), reflection, dir };
        shop.restart();
        shop
    }

    /// Kills it, if it runs.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again and waits until it accepts.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        let port = self.port.number().to_string();
        let mut command = Command::new("/usr/bin/python3");
        command
            .env("PYTHONPATH", target_dir().join("test-tools/reflection"))
            .arg(sources().join("shop_server.py"))
            .arg(port)
            .arg(self.descriptors())
            .args(&self.reflection);
        self.process = Some(Process::start("shop", command, &self.dir.path().join("app.log")));
        until_it_accepts("the shop", self.port.local());
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.local()
    }

    /// The file of its descriptors.
    #[must_use]
    pub fn descriptors(&self) -> PathBuf {
        self.dir.path().join("shop.pb")
    }

    /// It tells its methods by these versions of server reflection, from the next start on.
    pub fn reflect(&mut self, versions: &[&str]) {
        self.reflection = versions.iter().map(|&version| version.to_owned()).collect();
    }

    /// Makes it another one, with fewer or more methods, from the next start on.
    pub fn replace_descriptors(&self, proto: &str) {
        let source = self.dir.path().join("other.proto");
        std::fs::write(&source, proto).expect("a .proto file");
        std::fs::write(self.descriptors(), descriptors(&source, true)).expect("the descriptors");
    }
}

/// The serialized `FileDescriptorSet` of a `.proto` file, by protoc.
#[must_use]
#[track_caller]
pub fn descriptors(proto: &Path, with_imports: bool) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let set = dir.path().join("set");
    let mut command = Command::new("protoc");
    command.arg("-I").arg(proto.parent().expect("a file")).arg("-I").arg(root().join("transcode/tests/proto"));
    command.arg("--descriptor_set_out").arg(&set).arg(proto);
    if with_imports {
        command.arg("--include_imports");
    }
    run(command, MAKE_LIMIT).success();
    std::fs::read(set).expect("what protoc wrote")
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
