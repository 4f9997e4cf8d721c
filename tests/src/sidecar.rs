//! A real `pillion run` and what a test asks of it.

use crate::binaries;
use crate::http::{self, Request, Response};
use crate::metrics::Scrape;
use crate::ports::Port;
use crate::process::Process;
use crate::wait::until;
use nix::sys::signal::Signal;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;
use tempfile::TempDir;

/// How long a sidecar may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(15);
/// How long one may take to leave after SIGTERM, beyond what a test holds up on purpose.
const LEAVE_LIMIT: Duration = Duration::from_secs(40);

/// How a sidecar is to be started.
#[derive(Debug)]
pub struct Builder {
    label: String,
    service: Option<String>,
    app: Option<String>,
    registry: Option<String>,
    identity: Option<PathBuf>,
    config: String,
    arguments: Vec<String>,
    command: Vec<String>,
    environment: Vec<(String, String)>,
    /// A Unix domain socket in place of the port.
    outbound_socket: Option<PathBuf>,
    outbound: Port,
    inbound: Port,
    admin: Port,
}

/// A sidecar. It keeps its ports over restarts, and is killed on drop.
#[derive(Debug)]
pub struct Sidecar {
    // Dropped in this order: the process's last words are read from the directory.
    process: Process,
    spec: Builder,
    dir: TempDir,
}

impl Builder {
    /// The app behind it.
    #[must_use]
    pub fn app(mut self, app: SocketAddr) -> Builder {
        self.app = Some(format!("http://{app}"));
        self
    }

    /// The app behind it, which speaks HTTP/2.
    #[must_use]
    pub fn h2c_app(mut self, app: SocketAddr) -> Builder {
        self.app = Some(format!("h2c://{app}"));
        self
    }

    /// The app behind it, which speaks raw TCP.
    #[must_use]
    pub fn tcp_app(mut self, app: SocketAddr) -> Builder {
        self.app = Some(format!("tcp://{app}"));
        self
    }

    /// The app behind it, as `--app` has it.
    #[must_use]
    pub fn app_at(mut self, address: &str) -> Builder {
        self.app = Some(address.to_owned());
        self
    }

    /// Its app calls through a Unix domain socket and not through a port.
    #[must_use]
    pub fn outbound_socket(mut self, path: &Path) -> Builder {
        self.outbound_socket = Some(path.to_owned());
        self
    }

    /// The registry's URL.
    #[must_use]
    pub fn registry(mut self, url: &str) -> Builder {
        self.registry = Some(url.to_owned());
        self
    }

    /// The identity directory; without one the sidecar runs with `--insecure`.
    #[must_use]
    pub fn identity(mut self, dir: impl Into<PathBuf>) -> Builder {
        self.identity = Some(dir.into());
        self
    }

    /// Lines for the config file.
    #[must_use]
    pub fn config(mut self, toml: &str) -> Builder {
        self.config.push_str(toml);
        self.config.push('\n');
        self
    }

    /// A further argument of `pillion run`.
    #[must_use]
    pub fn arg(mut self, argument: &str) -> Builder {
        self.arguments.push(argument.to_owned());
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Builder {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Wrapper mode: the command after `--`.
    #[must_use]
    pub fn command(mut self, command: &[&str]) -> Builder {
        self.command = command.iter().map(|&part| part.to_owned()).collect();
        self
    }

    /// No service name of its own.
    #[must_use]
    pub fn nameless(mut self) -> Builder {
        self.service = None;
        self
    }

    /// Another name in the messages.
    #[must_use]
    pub fn label(mut self, label: &str) -> Builder {
        self.label = label.to_owned();
        self
    }

    /// Where its app will call: known before it starts.
    #[must_use]
    pub fn outbound(&self) -> SocketAddr {
        self.outbound.local()
    }

    /// Where its admin port will be.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin.local()
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> Sidecar {
        let mut sidecar = self.spawn();
        sidecar.wait_ready();
        sidecar
    }

    /// Starts it and does not wait.
    #[track_caller]
    pub fn spawn(self) -> Sidecar {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let process = self.launch(dir.path());
        Sidecar { spec: self, dir, process }
    }

    #[track_caller]
    fn launch(&self, dir: &Path) -> Process {
        let config = dir.join("pillion.toml");
        std::fs::write(&config, &self.config).expect("write the config");
        let mut command = Command::new(binaries::pillion());
        command.arg("run").arg("--config").arg(&config);
        if let Some(service) = &self.service {
            command.args(["--service", service]);
        }
        if let Some(app) = &self.app {
            command.args(["--app", app]);
            command.args(["--advertise", &self.inbound.local().to_string()]);
        }
        if let Some(registry) = &self.registry {
            command.args(["--registry", registry]);
        }
        match &self.identity {
            Some(identity) => command.arg("--identity").arg(identity),
            None => command.arg("--insecure"),
        };
        let outbound = match &self.outbound_socket {
            Some(path) => format!("unix:{}", path.display()),
            None => self.outbound.local().to_string(),
        };
        command
            .args(["--outbound", &outbound])
            .args(["--inbound", &self.inbound.local().to_string()])
            .args(["--admin", &self.admin.local().to_string()])
            .args(&self.arguments)
            .envs(self.patience())
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        if !self.command.is_empty() {
            command.arg("--").args(&self.command);
        }
        Process::start(&format!("sidecar {}", self.label), command, &dir.join("sidecar.log"))
    }
}

/// The limits that a single call may run into because the machine is starved and nothing else is wrong: a test that is
/// about one of them sets it in its config, all others get it long enough.
const PATIENCE: [(&str, &str, &str); 2] =
    [("connect", "PILLION_TIMEOUTS_CONNECT", "5s"), ("first_answer", "PILLION_TIMEOUTS_FIRST_ANSWER", "10s")];

impl Builder {
    /// Those of [`PATIENCE`] that the config does not name: a variable would win over it.
    fn patience(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let named: Vec<&str> = self.config.lines().filter_map(|line| Some(line.split_once('=')?.0.trim())).collect();
        PATIENCE.into_iter().filter(move |(key, ..)| !named.contains(key)).map(|(_, variable, value)| (variable, value))
    }
}

impl Sidecar {
    /// A sidecar for `service`.
    #[must_use]
    pub fn builder(service: &str) -> Builder {
        Builder {
            label: service.to_owned(),
            service: Some(service.to_owned()),
            app: None,
            registry: None,
            identity: None,
            config: String::new(),
            arguments: Vec::new(),
            command: Vec::new(),
            environment: Vec::new(),
            outbound_socket: None,
            outbound: Port::lease(),
            inbound: Port::lease(),
            admin: Port::lease(),
        }
    }

    /// Waits for a 200 of `/readyz`.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let admin = self.admin();
        let process = &mut self.process;
        until("the sidecar to be ready", READY_LIMIT, || {
            if let Some(status) = process.try_wait() {
                panic!("the sidecar exited with {status}\n{}", process.tail());
            }
            match http::try_call(admin, &Request::get("localhost", "/readyz")) {
                Ok(answer) if answer.status() == 200 => Ok(()),
                other => Err(format!("{other:?}\n{}", process.tail())),
            }
        });
    }

    /// Where the app calls.
    #[must_use]
    pub fn outbound(&self) -> SocketAddr {
        self.spec.outbound.local()
    }

    /// Where other sidecars connect.
    #[must_use]
    pub fn inbound(&self) -> SocketAddr {
        self.spec.inbound.local()
    }

    /// The admin address.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.spec.admin.local()
    }

    /// Its temporary directory (config, log).
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The log so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// GET at the admin address.
    #[track_caller]
    pub fn admin_get(&self, target: &str) -> Response {
        http::get(self.admin(), "localhost", target)
    }

    /// A scrape of `/metrics`.
    #[track_caller]
    pub fn metrics(&self) -> Scrape {
        Scrape::parse(&self.admin_get("/metrics").text())
    }

    /// The sum of a metric over the series that carry `labels`.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().sum(name, labels)
    }

    /// The addresses in the table for `service`, each with its state, as `/table` tells them.
    #[track_caller]
    pub fn table(&self, service: &str) -> Vec<(String, String)> {
        let table = self.admin_get("/table").json();
        let mut found = Vec::new();
        collect_endpoints(&table, service, false, &mut found);
        found.sort();
        found
    }

    /// Waits until the table holds exactly the given addresses for `service`, in whatever state.
    #[track_caller]
    pub fn wait_table(&self, service: &str, limit: Duration, addresses: &[SocketAddr]) {
        let mut wanted: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        wanted.sort();
        until(&format!("the table to hold {wanted:?} for {service}"), limit, || {
            let seen = self.table(service);
            let have: Vec<&str> = seen.iter().map(|(address, _)| address.as_str()).collect();
            if have == wanted { Ok(()) } else { Err(seen) }
        });
    }

    /// SIGTERM, and the exit status it leads to.
    #[track_caller]
    pub fn term(&mut self) -> ExitStatus {
        self.process.signal(Signal::SIGTERM);
        self.process.wait(LEAVE_LIMIT)
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, on the same ports, after it has ended; does not wait.
    #[track_caller]
    pub fn respawn(&mut self) {
        assert!(self.process.try_wait().is_some(), "{} still runs", self.process.label());
        self.process = self.spec.launch(self.dir.path());
    }

    /// Starts it again and waits until it is ready.
    #[track_caller]
    pub fn restart(&mut self) {
        self.respawn();
        self.wait_ready();
    }

    /// Resident memory in KiB.
    #[must_use]
    pub fn rss_kib(&self) -> u64 {
        status_kib(self.pid(), "VmRSS:")
    }

    /// The most resident memory since [`Sidecar::reset_peak`], in KiB.
    #[must_use]
    pub fn peak_rss_kib(&self) -> u64 {
        status_kib(self.pid(), "VmHWM:")
    }

    /// Starts the measuring of the peak anew.
    pub fn reset_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").expect("reset the peak of memory");
    }

    /// Open descriptors.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// All that a failing assertion wants to show of it.
    #[must_use]
    pub fn evidence(&self) -> String {
        let mut text = self.process.tail();
        if let Ok(table) = http::try_call(self.admin(), &Request::get("localhost", "/table")) {
            let _ = write!(text, "\n--- its table\n{}", table.text());
        }
        text
    }
}

fn status_kib(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse().ok())
        .unwrap_or_else(|| panic!("no {field} of process {pid}"))
}

/// Finds `service` in the table's JSON, be it a key of a map or a field of a list's items, and the endpoints below it.
/// So the tests hold on to what `/table` says and not to how it is nested.
fn collect_endpoints(value: &serde_json::Value, service: &str, inside: bool, found: &mut Vec<(String, String)>) {
    match value {
        serde_json::Value::Object(map) => {
            let named =
                ["service", "name"].iter().any(|key| map.get(*key).and_then(|name| name.as_str()) == Some(service));
            let inside = inside || named;
            if inside && let Some(address) = map.get("address").and_then(|value| value.as_str()) {
                let state = map.get("state").and_then(|value| value.as_str()).unwrap_or_default();
                found.push((address.to_owned(), state.to_owned()));
                return;
            }
            for (key, value) in map {
                collect_endpoints(value, service, inside || key == service, found);
            }
        }
        serde_json::Value::Array(items) => {
            for item in items {
                collect_endpoints(item, service, inside, found);
            }
        }
        _ => {}
    }
}
