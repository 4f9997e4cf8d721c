//! One list of behaviours over every door for HTTP: whichever way a call comes in, in whichever HTTP, and whatever the app
//! listens on and speaks, the exchange, the errors, the deadline, the cancellation and the drain are the same. What doors of all protocols
//! have in common, every_door.rs holds them to.

use pillion_tests::pattern::pattern_digest;
use pillion_tests::ports::heavy;
use pillion_tests::prelude::*;
use pillion_tests::process::{Process, curl, run};
use std::fmt;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(90);
const MIB: u64 = 1 << 20;

/// What a caller speaks.
const VERSIONS: [&str; 3] = ["--http1.1", "--http2-prior-knowledge", "--http2"];
/// What an app listens on, and speaks.
const APPS: [&str; 4] = ["http", "h2c", "unix", "h2c+unix"];

/// A way into a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The port for all services, and the `Host` field.
    Port,
    /// A port that is bound to the service.
    BoundPort,
    /// The same as sockets.
    Socket,
    BoundSocket,
    /// The port for all services, as a forward proxy.
    Proxy,
    /// Dapr's path.
    Invoke,
    /// The path of procedures.
    Rpc,
    /// As gRPC, which tells of errors in its own form.
    Grpc,
}

/// Those that carry any exchange, and those that carry calls of one kind.
const WAYS: [Way; 6] = [Way::Port, Way::BoundPort, Way::Socket, Way::BoundSocket, Way::Proxy, Way::Invoke];
const PROCEDURES: [Way; 2] = [Way::Rpc, Way::Grpc];

/// An app behind its sidecar, and callers' sidecars with all doors.
struct Rig {
    caller: Sidecar,
    /// Its door for all services is a socket.
    by_socket: Sidecar,
    bound_port: Port,
    dir: TempDir,
    app: App,
    _callee: Sidecar,
}

impl Rig {
    fn new(app_speaks: &str, config: &str) -> Rig {
        let mesh = Mesh::on_files();
        let builder = |service: &str| mesh.builder(service).config(config);
        let dir = tempfile::tempdir().unwrap();
        let app_socket = dir.path().join("app.sock");
        let app = App::start_with_socket("payments-1", &app_socket);
        let place = match app_speaks.ends_with("unix") {
            true => format!("{app_speaks}:{}", app_socket.display()),
            false => format!("{app_speaks}://{}", app.address()),
        };
        let callee = builder("payments").app_at(&place).start();
        let (bound_port, bound_socket) = (Port::lease(), dir.path().join("bound.sock"));
        let bound = |at: &str| format!("[[outbound]]\nlisten = \"{at}\"\nservice = \"payments\"\n");
        let doors = bound(&bound_port.local().to_string()) + &bound(&format!("unix:{}", bound_socket.display()));
        let caller = builder("orders").config(&doors).start();
        let by_socket = builder("orders").outbound_socket(&dir.path().join("out.sock")).start();
        first_call(&caller, "payments");
        until("the other knows the service too", PATIENCE, || {
            let rig =
                curl(&["--unix-socket", &dir.path().join("out.sock").display().to_string(), "http://payments/who"]);
            let answer = run(rig, PATIENCE);
            if answer.stdout == "payments-1" { Ok(()) } else { Err(answer.stdout) }
        });
        Rig { caller, by_socket, bound_port, dir, app, _callee: callee }
    }

    /// All ways in for any exchange, with all versions of HTTP that can take them.
    fn doors(&self) -> impl Iterator<Item = Door<'_>> {
        self.doors_of(WAYS)
    }

    /// The same, and those for procedures.
    fn all_doors(&self) -> impl Iterator<Item = Door<'_>> {
        self.doors().chain(self.doors_of(PROCEDURES))
    }

    fn doors_of<const N: usize>(&self, ways: [Way; N]) -> impl Iterator<Item = Door<'_>> {
        let each = ways.into_iter().flat_map(|way| VERSIONS.map(|version| (way, version)));
        let can = each.filter(|(way, version)| match way {
            // What curl says to a proxy it says in HTTP/1.1.
            Way::Proxy => *version == "--http1.1",
            Way::Grpc => *version == "--http2-prior-knowledge",
            _ => true,
        });
        can.map(|(way, version)| Door { rig: self, way, version })
    }
}

#[derive(Clone, Copy)]
struct Door<'a> {
    rig: &'a Rig,
    way: Way,
    version: &'static str,
}

impl fmt::Display for Door<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.way, self.version)
    }
}

impl Door<'_> {
    /// Whether it leads to one service only.
    fn is_bound(self) -> bool {
        matches!(self.way, Way::BoundPort | Way::BoundSocket)
    }

    /// A call of `service`.
    fn command(self, service: &str, path: &str, arguments: &[&str]) -> Command {
        let outbound = self.rig.caller.outbound();
        let socket = |name: &str| self.rig.dir.path().join(name).display().to_string();
        let (way, url) = match self.way {
            Way::Port => (vec!["-H".to_owned(), format!("Host: {service}")], format!("http://{outbound}{path}")),
            Way::BoundPort => (Vec::new(), format!("http://{}{path}", self.rig.bound_port.local())),
            Way::Socket => (vec!["--unix-socket".into(), socket("out.sock")], format!("http://{service}{path}")),
            Way::BoundSocket => (vec!["--unix-socket".into(), socket("bound.sock")], format!("http://localhost{path}")),
            Way::Proxy => (vec!["-x".into(), format!("http://{outbound}")], format!("http://{service}{path}")),
            Way::Invoke => (Vec::new(), format!("http://{outbound}/v1.0/invoke/{service}/method{path}")),
            Way::Rpc => (vec!["-d".into(), String::new()], format!("http://{outbound}/rpc/{service}{path}")),
            Way::Grpc => {
                let fields =
                    [format!("Host: {service}"), "content-type: application/grpc".into(), "te: trailers".into()];
                let fields = fields.into_iter().flat_map(|field| ["-H".to_owned(), field]);
                let message = ["-d".to_owned(), String::new()];
                (fields.chain(message).collect(), format!("http://{outbound}{path}"))
            }
        };
        let mut command = curl(&[self.version]);
        command.args(way).args(arguments).arg(url);
        command
    }

    fn ask(self, path: &str, arguments: &[&str]) -> String {
        run(self.command("payments", path, arguments), PATIENCE).success().to_owned()
    }

    /// Holds the error that a call of `service` gets to what every door is to tell: its code, its status, and whether the call ran.
    #[track_caller]
    fn check_error(self, service: &str, path: &str, arguments: &[&str], code: &str, status: u16, executed: &str) {
        let told = ["-w", "\n%{http_code} %header{x-pillion-error} %header{grpc-status}"];
        let output = run(self.command(service, path, &[&told, arguments].concat()), PATIENCE);
        let (body, told) = output.success().rsplit_once('\n').unwrap();
        let case = format!("{self}: {code}: {told}: {body}");
        if self.way == Way::Grpc {
            // In trailers that stand alone; which status goes with which code, and the details, are grpc.rs's matter.
            let told: Vec<_> = told.split(' ').collect();
            assert!(told[..2] == ["200", code] && !matches!(told[2], "" | "0"), "{case}");
            return;
        }
        assert_eq!(told.trim_end(), format!("{status} {code}"), "{case}");
        let json: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!((json["code"].as_str(), json["executed"].as_str()), (Some(code), Some(executed)), "{case}");
    }
}

fn sha256(file: &Path) -> String {
    let mut command = Command::new("sha256sum");
    command.arg(file);
    run(command, PATIENCE).success().split(' ').next().unwrap().to_owned()
}

#[test]
fn the_exchange_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("body");
    std::fs::write(&file, vec![b'x'; 5 << 20]).unwrap();
    let data = format!("@{}", file.display());
    let digest = sha256(&file);
    let out = dir.path().join("out");
    let filler = format!("x-filler: {}", "f".repeat(50_000));
    for app in APPS {
        let rig = Rig::new(app, "");
        for door in rig.doors() {
            let case = format!("{door} to {app}");
            assert_eq!(door.ask("/who", &[]), "payments-1", "{case}");
            assert_eq!(door.ask("/echo", &["-d", "some words"]), "some words", "{case}");
            assert_eq!(door.ask("/who", &["-H", &filler]), "payments-1", "{case}");
            assert_eq!(door.ask("/echo", &["-X", "POST", "-H", "x-id: empty"]), "empty", "{case}");
            let head = door.ask("/download?bytes=1000", &["-I"]);
            assert!(head.contains(" 200") && head.contains("content-length: 1000"), "{case}: {head}");
            for code in ["204", "304", "404", "500"] {
                let arguments = ["-o", "/dev/null", "-w", "%{http_code}"];
                assert_eq!(door.ask(&format!("/status?code={code}"), &arguments), code, "{case}");
            }
            let uploaded = format!("{digest} {}", 5 << 20);
            assert_eq!(door.ask("/upload", &["--data-binary", &data]), uploaded, "{case}");
            let chunked = ["-H", "Transfer-Encoding: chunked", "--data-binary", &data];
            assert_eq!(door.ask("/upload", &chunked), uploaded, "{case}");
            door.ask(&format!("/download?bytes={}&seed=3", 5 * MIB), &["-o", &out.display().to_string()]);
            assert_eq!(sha256(&out), pattern_digest(3, 5 * MIB), "{case}");
            assert_eq!(door.ask("/drip?pieces=3&gap_ms=10", &[]).lines().count(), 3, "{case}");
            check_head(door, &case);
        }
    }
}

/// What the app sees of a request's head.
#[track_caller]
fn check_head(door: Door<'_>, case: &str) {
    let arguments = ["-X", "PURGE", "-H", "x-pillion-peer: forged", "-b", "a=1; b=2"];
    let seen: serde_json::Value = serde_json::from_str(&door.ask("/headers?a=1&b=%2F", &arguments)).unwrap();
    assert_eq!(seen["method"], "PURGE", "{case}");
    let target = seen["target"].as_str().unwrap();
    assert!(target.ends_with("/headers?a=1&b=%2F"), "{case}: {target}");
    let headers = seen["headers"].as_array().unwrap();
    let values = |name: &str| {
        headers.iter().filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(values("cookie"), ["a=1; b=2"], "{case}");
    assert_eq!(values("x-pillion-peer").len(), 1, "{case}");
    assert!(values("x-pillion-peer")[0].ends_with("/service/orders"), "{case}");
    for name in ["connection", "proxy-connection", "upgrade", "http2-settings", "transfer-encoding"] {
        assert_eq!(values(name), Vec::<&str>::new(), "{case}: {name}");
    }
}

#[test]
fn the_errors_are_the_same() {
    let large = format!("x-filler: {}", "f".repeat(20_000));
    for app in ["http", "h2c+unix"] {
        let mut rig = Rig::new(app, "[limits]\nheader_bytes = \"16KiB\"\n");
        for door in rig.all_doors() {
            if !door.is_bound() {
                door.check_error("nobody", "/who", &[], "unknown-service", 404, "no");
            }
            let timeout = ["-H", "x-pillion-timeout: 100ms"];
            door.check_error("payments", "/hang", &timeout, "deadline-exceeded", 504, "unknown");
            door.check_error("payments", "/who", &["-H", &large], "header-too-large", 431, "no");
            door.check_error("payments", "/big-head?bytes=20000", &[], "app-header-too-large", 502, "yes");
        }
        rig.app.stop();
        let _ = std::fs::remove_file(rig.dir.path().join("app.sock"));
        for door in rig.all_doors() {
            door.check_error("payments", "/who", &[], "app-not-connected", 503, "no");
        }
    }
}

#[test]
fn a_caller_that_leaves_is_noticed() {
    for app in ["http", "h2c+unix"] {
        let rig = Rig::new(app, "");
        for door in rig.all_doors() {
            let case = format!("{door} to {app}");
            let mut caller =
                Process::start(&case, door.command("payments", "/hang", &[]), &rig.dir.path().join("curl.log"));
            until(&format!("the app to run the call: {case}"), PATIENCE, || match rig.app.running() {
                1 => Ok(()),
                other => Err(other),
            });
            caller.kill();
            until(&format!("the app to see it aborted: {case}"), PATIENCE, || match rig.app.running() {
                0 => Ok(()),
                other => Err(other),
            });
        }
    }
}

#[test]
fn calls_under_way_are_finished_before_the_end() {
    let _turn = heavy();
    let mut rig = Rig::new("http", "");
    let log = |number: usize| rig.dir.path().join(format!("{number}.log"));
    let calls: Vec<_> = rig.all_doors().collect();
    let start = |(number, door): (usize, &Door<'_>)| {
        Process::start(&door.to_string(), door.command("payments", "/slow?ms=5000", &[]), &log(number))
    };
    let mut calls: Vec<Process> = calls.iter().enumerate().map(start).collect();
    until("the app to run them all", PATIENCE, || match rig.app.running() {
        running if running == calls.len() => Ok(()),
        other => Err(other),
    });
    for sidecar in [&mut rig.caller, &mut rig.by_socket] {
        sidecar.process().signal(nix::sys::signal::Signal::SIGTERM);
    }
    for call in &mut calls {
        let status = call.wait(PATIENCE);
        assert!(status.success() && call.log() == "payments-1", "{}: {status}: {}", call.label(), call.log());
    }
    for sidecar in [&mut rig.caller, &mut rig.by_socket] {
        assert!(sidecar.process().wait(PATIENCE).success());
    }
    assert!(!rig.dir.path().join("out.sock").exists() && !rig.dir.path().join("bound.sock").exists());
}
