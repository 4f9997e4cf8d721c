//! One list of behaviours over every door, of whatever protocol: the answer, an app that is away or goes away, time that is over, a caller
//! that leaves, the drain of either side, the limit of calls. Where a door has a way of its own, its row says so and why.

use nix::sys::signal::Signal;
use pillion_tests::binaries::{python, root};
use pillion_tests::grpc::{descriptors, node};
use pillion_tests::held::HeldApp;
use pillion_tests::prelude::*;
use pillion_tests::process::{Process, curl};
use serde_json::{Value, json};
use std::cell::Cell;
use std::process::Command;
use tempfile::TempDir;

/// How long what happens at once may take on a busy machine: less than `timeouts.response` and curl's own patience.
const PATIENCE: Duration = Duration::from_secs(40);
/// Within this a call that its time limit is to end has reached the app, on a busy machine too.
const SHORT: &str = "[timeouts]\nconnect = \"2s\"\napp_connect = \"2s\"\nresponse = \"2s\"\n";
const DEADLINE: &str = "x-pillion-timeout: 2s";

/// A way into a sidecar.
struct Door {
    name: &'static str,
    to: Behind,
    words: Words,
    /// A call through it.
    call: fn(&Rig) -> Command,
    /// Whether `timeouts.response` ends a call that the app holds, or why not.
    response_timeout: Result<(), &'static str>,
    /// The field with which a caller limits its call, or why there is none.
    deadline: Result<&'static str, &'static str>,
    /// Whether its calls count among those that the peer allows (`limits.calls`), or why not.
    limit: Result<(), &'static str>,
}

/// What stands behind a door: the same app, each time in another protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    /// HTTP/1.1.
    Payments,
    /// gRPC, which is called with JSON too.
    Names,
    /// Thrift.
    Bank,
    /// Raw TCP.
    Store,
    /// HTTP/1.1, and no sidecar.
    Outside,
}

/// How a door tells what came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Words {
    /// A status, `x-pillion-error` and a body.
    Http,
    /// The same, until the connection is handed over with this status. Then bytes.
    Tunnel(u16),
    /// Bytes, and a reset.
    Bytes,
    Grpc,
    JsonRpc,
    Thrift,
}

/// An error, with its status in HTTP and in gRPC.
struct Told {
    code: &'static str,
    status: u16,
    grpc: u8,
    executed: &'static str,
}

const AWAY: Told = Told { code: "app-not-connected", status: 503, grpc: 14, executed: "no" };
const CLOSED: Told = Told { code: "app-closed", status: 502, grpc: 14, executed: "unknown" };
const LATE: Told = Told { code: "response-timeout", status: 504, grpc: 4, executed: "unknown" };
const TOO_LATE: Told = Told { code: "deadline-exceeded", ..LATE };
const FULL: Told = Told { code: "remote-overloaded", status: 503, grpc: 14, executed: "no" };
/// Of a host outside.
const OUTSIDE_AWAY: Told = Told { code: "egress-not-connected", ..AWAY };
const OUTSIDE_CLOSED: Told = Told { code: "egress-failed", ..CLOSED };

const fn http(name: &'static str, call: fn(&Rig) -> Command) -> Door {
    let (to, words) = (Behind::Payments, Words::Http);
    Door { name, to, words, call, response_timeout: Ok(()), deadline: Ok(DEADLINE), limit: Ok(()) }
}

const fn thrift(name: &'static str, call: fn(&Rig) -> Command) -> Door {
    let deadline = Err("its messages have no field for one");
    Door { to: Behind::Bank, words: Words::Thrift, deadline, ..http(name, call) }
}

const fn tcp(name: &'static str, words: Words, call: fn(&Rig) -> Command) -> Door {
    let response_timeout = Err("a connection, once it is one, lasts as long as both sides like");
    Door { to: Behind::Store, words, response_timeout, ..http(name, call) }
}

const DOORS: [Door; 19] = [
    http("HTTP/1.1", |rig| rig.curl("--http1.1 -XPOST -H host:payments", "/who")),
    http("HTTP/2", |rig| rig.curl("--http2-prior-knowledge -XPOST -H host:payments", "/who")),
    http("HTTP/1.1 that becomes HTTP/2", |rig| rig.curl("--http2 -XPOST -H host:payments", "/who")),
    http("a bound port", |rig| by_curl("-XPOST", &format!("http://{}/who", rig.bound.local()))),
    http("a Unix domain socket", |rig| {
        by_curl(&format!("-XPOST --unix-socket {}", rig.file("door.sock")), "http://localhost/who")
    }),
    http("a forward proxy", |rig| {
        by_curl(&format!("-XPOST -x http://{}", rig.caller.outbound()), "http://payments/who")
    }),
    http("Dapr's invocation", |rig| rig.curl("-XPOST", "/v1.0/invoke/payments/method/who")),
    http("a procedure", |rig| rig.curl("-d {}", "/rpc/payments/who")),
    Door {
        words: Words::JsonRpc,
        ..http("JSON-RPC", |rig| rig.curl(r#"-d {"jsonrpc":"2.0","method":"who","id":1}"#, "/jsonrpc/payments"))
    },
    Door {
        to: Behind::Names,
        words: Words::Grpc,
        response_timeout: Err("its streams may be silent"),
        deadline: Ok("grpc-timeout: 2S"),
        // Without a message, which this app does not miss.
        ..http("gRPC", |rig| {
            let fields = "-H host:held.names -H content-type:application/grpc -H te:trailers";
            rig.curl(&format!("--http2-prior-knowledge -XPOST {fields}"), "/held.Names/Who")
        })
    },
    Door { to: Behind::Names, ..http("JSON for gRPC", |rig| rig.curl("-d {}", "/rpc/held.Names/Who")) },
    thrift("Thrift, binary", |rig| by_python("binary", rig.bank.local())),
    thrift("Thrift, compact", |rig| by_python("compact", rig.bank.local())),
    Door {
        deadline: Err("it has no head to say it in"),
        ..tcp("raw TCP", Words::Bytes, |rig| by_python("tcp", rig.store.local()))
    },
    tcp("CONNECT in HTTP/1.1", Words::Tunnel(200), |rig| by_python("connect", rig.caller.outbound())),
    tcp("CONNECT in HTTP/2", Words::Tunnel(200), |rig| by_javascript("connect", rig.caller.outbound())),
    Door {
        words: Words::Tunnel(101),
        ..http("an upgrade in HTTP/1.1", |rig| by_python("upgrade", rig.caller.outbound()))
    },
    Door {
        words: Words::Tunnel(200),
        ..http("an upgrade in HTTP/2", |rig| by_javascript("extended", rig.caller.outbound()))
    },
    Door {
        to: Behind::Outside,
        limit: Err("there is no peer: it has limits.app_connections, and four times as many may wait"),
        ..http("a host outside", |rig| rig.curl("-XPOST -H host:api.example.com", "/who"))
    },
];

impl Door {
    /// Starts a call with this field in its head, if it has one.
    fn start(&self, rig: &Rig, field: Option<&str>) -> Process {
        let mut command = (self.call)(rig);
        if let Some(field) = field {
            if command.get_program() == "curl" {
                command.arg("-H");
            }
            command.arg(field);
        }
        rig.started.set(rig.started.get() + 1);
        Process::start(self.name, command, &rig.dir.path().join(format!("{}.log", rig.started.get())))
    }

    /// Holds what came of a call to the app's answer.
    #[track_caller]
    fn check_answered(&self, call: &mut Process) {
        let said = finish(call);
        let wanted = match self.words {
            Words::Http => "\"payments-1\"\n200".to_owned(),
            Words::Tunnel(status) => format!("payments-1\n{status}"),
            Words::Bytes | Words::Thrift => "payments-1".to_owned(),
            Words::Grpc => "\0\0\0\0\u{c}\n\npayments-1\n200  0".to_owned(),
            Words::JsonRpc => "{\"jsonrpc\":\"2.0\",\"result\":\"payments-1\",\"id\":1}\n200".to_owned(),
        };
        assert_eq!(said.trim_end(), wanted, "{}", self.name);
    }

    /// Holds what came of a call to an error. `carried`: a tunnel had been handed over before.
    #[track_caller]
    fn check_told(&self, call: &mut Process, error: &Told, carried: bool) {
        let said = finish(call);
        let case = format!("{}: {}: {said:?}", self.name, error.code);
        let (body, told) = said.rsplit_once('\n').unwrap_or(("", &said));
        let status = error.status.to_string();
        let of_json = |body: &Value| {
            assert_eq!((&body["code"], &body["executed"]), (&json!(error.code), &json!(error.executed)), "{case}");
        };
        let json = || serde_json::from_str::<Value>(body).unwrap_or_else(|error| panic!("{case}: {error}"));
        let of_text = |text: &str| {
            let parts = [&format!("{} (", error.code), &format!("executed: {})", error.executed)];
            assert!(text.starts_with(parts[0]) && text.contains(parts[1]), "{case}");
        };
        match self.words {
            Words::Bytes => assert_eq!(said, "reset", "{case}"),
            Words::Tunnel(status) if carried => assert_eq!(said, format!("reset\n{status}"), "{case}"),
            Words::Http | Words::Tunnel(_) => {
                assert_eq!(told, format!("{status} {}", error.code), "{case}");
                of_json(&json());
            }
            Words::Grpc => {
                let text = told.strip_prefix(&format!("200 {} {} ", error.code, error.grpc));
                of_text(text.unwrap_or_else(|| panic!("{case}")));
            }
            Words::JsonRpc => {
                let failure = &json()["error"];
                assert_eq!((told, &failure["code"]), ("200", &json!(-32000)), "{case}");
                of_json(&failure["data"]);
            }
            Words::Thrift => of_text(&said),
        }
    }
}

fn by_curl(arguments: &str, url: &str) -> Command {
    let told = "\n%{http_code} %header{x-pillion-error} %header{grpc-status} %header{grpc-message}";
    let mut command = curl(&["-w", told, url]);
    command.args(arguments.split(' '));
    command
}

fn by_python(door: &str, at: SocketAddr) -> Command {
    let mut command = python();
    command.arg(root().join("tests/src/held/call.py")).args([door, &at.to_string()]);
    command
}

fn by_javascript(door: &str, at: SocketAddr) -> Command {
    let mut command = node();
    command.arg(root().join("tests/src/held/call.js")).args([door, &at.to_string()]);
    command
}

/// What a caller prints until its end.
#[track_caller]
fn finish(call: &mut Process) -> String {
    call.wait(PATIENCE);
    call.log().trim_end().to_owned()
}

/// A caller's sidecar with all doors, and the app in all protocols, each behind a sidecar of its own.
struct Rig {
    caller: Sidecar,
    callees: Vec<Sidecar>,
    app: HeldApp,
    bound: Port,
    bank: Port,
    store: Port,
    dir: TempDir,
    /// Calls so far.
    started: Cell<usize>,
    _mesh: Mesh,
}

impl Rig {
    /// `caller` and `callees` say what else their configs have.
    #[track_caller]
    fn new(app: HeldApp, caller: &str, callees: impl Fn(Behind) -> String) -> Rig {
        let (mesh, dir) = (Mesh::on_files(), tempfile::tempdir().unwrap());
        let file = |name: &str| dir.path().join(name);
        std::fs::write(file("names.pb"), descriptors(&root().join("tests/src/held/names.proto"), true)).unwrap();
        let known = format!("descriptors = \"{}\"\n", file("names.pb").display());
        let apps = [
            (Behind::Payments, "payments", format!("http://{}", app.http()), ""),
            (Behind::Names, "held.names", format!("h2c://{}", app.http()), known.as_str()),
            (Behind::Bank, "bank", format!("thrift://{}", app.thrift()), ""),
            (Behind::Store, "store", format!("tcp://{}", app.tcp()), ""),
        ];
        let start = |(to, service, app, config): &(Behind, &str, String, &str)| {
            let builder = mesh.builder(service).config(config).config("[timeouts]\ndrain = \"60s\"");
            builder.config(&callees(*to)).app_at(app).start()
        };
        let callees: Vec<_> = apps.iter().map(start).collect();
        let [bound, bank, store] = [(); 3].map(|()| Port::lease());
        let door = |at: &str, service: &str, protocol: &str| {
            format!("[[outbound]]\nlisten = \"{at}\"\nservice = \"{service}\"\nprotocol = \"{protocol}\"\n")
        };
        let doors = [
            door(&bound.local().to_string(), "payments", "http"),
            door(&format!("unix:{}", file("door.sock").display()), "payments", "http"),
            door(&bank.local().to_string(), "bank", "thrift"),
            door(&store.local().to_string(), "store", "tcp"),
            format!("[[egress]]\nhost = \"api.example.com\"\naddress = \"{}\"\ntls = false\n", app.http()),
        ];
        let prefetch = format!("prefetch = {:?}\n", apps.each_ref().map(|app| app.1));
        let caller = mesh.builder("web").config(&prefetch).config(caller).config(&doors.concat()).start();
        for ((_, service, ..), callee) in apps.iter().zip(&callees) {
            caller.wait_table(service, PATIENCE, &[callee.inbound()]);
        }
        Rig { caller, callees, app, bound, bank, store, dir, started: Cell::new(0), _mesh: mesh }
    }

    /// With a closed gate and nothing else of its own.
    #[track_caller]
    fn held() -> Rig {
        Rig::new(HeldApp::start("payments-1", false), "", |_| String::new())
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// A request to the port for everything.
    fn curl(&self, arguments: &str, path: &str) -> Command {
        by_curl(arguments, &format!("http://{}{path}", self.caller.outbound()))
    }

    /// Makes a call through each of these doors, and waits until the app holds them all.
    #[track_caller]
    fn hold<'a>(&self, doors: impl IntoIterator<Item = &'a Door>) -> Vec<(&'a Door, Process)> {
        let before = self.app.running();
        let calls: Vec<_> = doors.into_iter().map(|door| (door, door.start(self, None))).collect();
        self.until_held(before + calls.len(), &calls, "at first");
        calls
    }

    /// Waits until the app holds so many calls, of these.
    #[track_caller]
    fn until_held(&self, count: usize, calls: &[(&Door, Process)], when: &str) {
        if !within(PATIENCE, || self.app.running() == count) {
            let said: Vec<_> = calls.iter().map(|(door, call)| (door.name, call.log())).collect();
            panic!("{when}, the app holds {} calls and not {count}: {said:?}", self.app.running());
        }
    }

    /// Waits until the sidecar of the caller's has told so often of an error.
    #[track_caller]
    fn until_counted(&self, errors: &[&Told], count: usize) {
        until("the errors are counted", PATIENCE, || {
            let scrape = self.caller.metrics();
            let counts = errors.iter().map(|error| scrape.sum("pillion_errors_total", &[("code", error.code)]));
            let sum: f64 = counts.sum();
            if sum == count as f64 { Ok(()) } else { Err((sum, count)) }
        });
    }
}

#[test]
fn the_answer_is_the_apps() {
    let rig = Rig::new(HeldApp::start("payments-1", true), "", |_| String::new());
    for door in &DOORS {
        door.check_answered(&mut door.start(&rig, door.deadline.ok()));
    }
}

#[test]
fn an_app_that_is_away_is_told_of_and_has_run_nothing() {
    let mut rig = Rig::held();
    rig.app.stop();
    for door in &DOORS {
        let error = if door.to == Behind::Outside { &OUTSIDE_AWAY } else { &AWAY };
        door.check_told(&mut door.start(&rig, None), error, false);
    }
    rig.until_counted(&[&AWAY, &OUTSIDE_AWAY], DOORS.len());
}

#[test]
fn an_app_that_goes_away_in_a_call_may_have_run_it() {
    let mut rig = Rig::held();
    let mut calls = rig.hold(&DOORS);
    rig.app.stop();
    for (door, call) in &mut calls {
        let error = if door.to == Behind::Outside { &OUTSIDE_CLOSED } else { &CLOSED };
        door.check_told(call, error, door.to == Behind::Store);
    }
}

#[test]
fn time_that_is_over_ends_the_call() {
    let rig = Rig::new(HeldApp::start("payments-1", false), SHORT, |_| String::new());
    // These go on. The others end, though they began later.
    let (ending, lasting): (Vec<_>, Vec<_>) = DOORS.iter().partition(|door| door.response_timeout.is_ok());
    let mut lasting = rig.hold(lasting);
    let mut ending: Vec<_> = ending.into_iter().map(|door| (door, door.start(&rig, None))).collect();
    for (door, call) in &mut ending {
        door.check_told(call, &LATE, false);
    }
    rig.until_held(lasting.len(), &lasting, "the others ended");
    rig.until_counted(&[&LATE], ending.len());
    rig.app.open();
    for (door, call) in &mut lasting {
        door.check_answered(call);
    }
}

#[test]
fn a_callers_own_deadline_ends_its_call() {
    let rig = Rig::held();
    let limited = DOORS.iter().filter(|door| door.deadline.is_ok());
    let mut calls: Vec<_> = limited.map(|door| (door, door.start(&rig, door.deadline.ok()))).collect();
    for (door, call) in &mut calls {
        door.check_told(call, &TOO_LATE, door.to == Behind::Store);
    }
    rig.until_held(0, &calls, "at the end");
    rig.until_counted(&[&TOO_LATE], calls.len());
}

#[test]
fn a_caller_that_leaves_ends_its_call() {
    let rig = Rig::held();
    let mut calls = rig.hold(&DOORS);
    while let Some((door, mut call)) = calls.pop() {
        call.kill();
        rig.until_held(calls.len(), &calls, &format!("without that of {}", door.name));
    }
    // Of a connection of raw TCP that is an end like any other.
    let cut = DOORS.iter().filter(|door| door.to != Behind::Store).count() as f64;
    until("they are counted as cancelled", PATIENCE, || {
        let scrape = rig.caller.metrics();
        let count = |labels: &[_]| scrape.sum("pillion_calls_total", &[&[("outcome", "cancelled")], labels].concat());
        let counted = count(&[]) - count(&[("service", "store")]);
        if counted == cut { Ok(()) } else { Err((counted, cut)) }
    });
}

/// Tells sidecars to end while calls through all doors are under way.
#[track_caller]
fn drain(which: fn(&mut Rig) -> Vec<&mut Sidecar>) {
    let mut rig = Rig::held();
    let mut calls = rig.hold(&DOORS);
    for sidecar in which(&mut rig) {
        sidecar.process().signal(Signal::SIGTERM);
        until("it drains", PATIENCE, || if sidecar.log().contains("draining") { Ok(()) } else { Err(sidecar.log()) });
    }
    assert_eq!(rig.app.running(), calls.len(), "a call was cut");
    rig.app.open();
    for (door, call) in &mut calls {
        door.check_answered(call);
    }
    // As long as there is an app, its sidecar stays for the calls that it may make.
    rig.app.stop();
    for sidecar in which(&mut rig) {
        assert!(sidecar.process().wait(PATIENCE).success());
    }
}

#[test]
fn a_callers_sidecar_that_is_to_end_finishes_the_calls() {
    drain(|rig| vec![&mut rig.caller]);
}

#[test]
fn the_sidecars_of_apps_that_are_to_end_finish_the_calls() {
    drain(|rig| rig.callees.iter_mut().collect());
}

#[test]
fn as_many_calls_are_carried_as_the_peer_allows() {
    let limit = |to| format!("[limits]\ncalls = {}\n", DOORS.iter().filter(|door| door.to == to).count());
    let outside = "[limits]\napp_connections = 1\n";
    let rig = Rig::new(HeldApp::start("payments-1", false), outside, limit);
    let mut calls = rig.hold(&DOORS);
    let without_peer = DOORS.iter().filter(|door| door.limit.is_err());
    calls.extend(without_peer.cycle().take(4).map(|door| (door, door.start(&rig, None))));
    until("as many wait as may", PATIENCE, || {
        let labels = [("direction", "outbound"), ("service", "api.example.com")];
        let count = rig.caller.metric("pillion_calls_in_flight", &labels);
        if count == 5.0 { Ok(()) } else { Err(count) }
    });
    for door in &DOORS {
        door.check_told(&mut door.start(&rig, None), &FULL, false);
    }
    rig.until_counted(&[&FULL], DOORS.len());
    rig.app.open();
    for (door, call) in &mut calls {
        door.check_answered(call);
    }
    for door in &DOORS {
        door.check_answered(&mut door.start(&rig, None));
    }
}
