//! The two ways from a caller to the app: a pair of sidecars, and a pair of nginx. Each hop between the pair is mutual TLS 1.3.

use crate::Result;
use crate::proc;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const START_LIMIT: Duration = Duration::from_secs(15);

/// Everything that runs; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) pairs: Vec<Pair>,
    // In this order: processes go before their directory.
    _app: Running,
    _dir: TempDir,
}

/// One way to the app.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) name: &'static str,
    /// Where the caller connects.
    pub(crate) door: SocketAddr,
    first: Running,
    second: Running,
}

#[derive(Debug)]
struct Running {
    child: Child,
    log: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        // nginx's master takes its worker with it when it is told to stop; a killed one would leave it behind.
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(5) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Pair {
    /// The process ids of both sides, workers included.
    pub(crate) fn pids(&self) -> Result<Vec<u32>> {
        let mut all = proc::with_children(self.first.child.id())?;
        all.extend(proc::with_children(self.second.child.id())?);
        Ok(all)
    }

    /// Resident memory of each side, in KiB.
    pub(crate) fn rss_kib(&self) -> Result<[u64; 2]> {
        Ok([
            proc::rss_kib(&proc::with_children(self.first.child.id())?)?,
            proc::rss_kib(&proc::with_children(self.second.child.id())?)?,
        ])
    }
}

impl Rig {
    /// Starts the app and both pairs (or nginx alone), and waits until each answers.
    pub(crate) fn start(nginx_only: bool) -> Result<Rig> {
        let dir = tempfile::tempdir()?;
        let at = dir.path();
        let app_address = free_port()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("app").arg(app_address.to_string());
        let app = spawn(command, &at.join("app.log"))?;
        let identities = identities(at)?;
        let mut pairs = Vec::new();
        if !nginx_only {
            pairs.push(sidecars(at, &identities, app_address)?);
        }
        pairs.push(nginx(at, &identities, app_address)?);
        for pair in &mut pairs {
            wait_for_answer(pair)?;
        }
        Ok(Rig { pairs, _app: app, _dir: dir })
    }
}

struct Identities {
    caller: PathBuf,
    callee: PathBuf,
}

/// A throw-away authority and two identities, by the product's own tool; nginx gets the same.
fn identities(dir: &Path) -> Result<Identities> {
    let tool = sibling("pillionctl")?;
    let ca = dir.join("ca");
    let run = |arguments: &[&str], out: Option<&Path>| -> Result<()> {
        let mut command = Command::new(&tool);
        command.args(arguments).arg("--dir").arg(&ca);
        if let Some(out) = out {
            command.arg("--out").arg(out);
        }
        let output = command.output()?;
        if output.status.success() {
            Ok(())
        } else {
            Err(format!("pillionctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
        }
    };
    let (caller, callee) = (dir.join("web"), dir.join("payments"));
    run(&["ca", "init", "--trust-domain", "bench.pillion"], None)?;
    run(&["ca", "issue", "--service", "web"], Some(&caller))?;
    run(&["ca", "issue", "--service", "payments"], Some(&callee))?;
    Ok(Identities { caller, callee })
}

fn sidecars(dir: &Path, identities: &Identities, app: SocketAddr) -> Result<Pair> {
    let registry = dir.join("registry");
    fs::create_dir_all(&registry)?;
    let start = |service: &str, identity: &Path, app: Option<SocketAddr>| -> Result<(Running, SocketAddr)> {
        let (outbound, inbound, admin) = (free_port()?, free_port()?, free_port()?);
        let mut command = Command::new(sibling("pillion")?);
        command.args(["run", "--service", service, "--workers", "1"]);
        command.args(["--registry", &format!("file://{}", registry.display())]).arg("--identity").arg(identity);
        command.args(["--outbound", &outbound.to_string(), "--admin", &admin.to_string()]);
        if let Some(app) = app {
            command.args(["--app", &format!("http://{app}")]);
            command.args(["--inbound", &inbound.to_string(), "--advertise", &inbound.to_string()]);
        }
        Ok((spawn(command, &dir.join(format!("{service}.log")))?, outbound))
    };
    let (second, _) = start("payments", &identities.callee, Some(app))?;
    let (first, door) = start("web", &identities.caller, None)?;
    Ok(Pair { name: "pillion", door, first, second })
}

fn nginx(dir: &Path, identities: &Identities, app: SocketAddr) -> Result<Pair> {
    let (door, inner) = (free_port()?, free_port()?);
    let common = |name: &str| {
        format!(
            "daemon off;\nworker_processes 1;\npid {dir}/{name}.pid;\nerror_log {dir}/{name}.error.log warn;\n\
             events {{ worker_connections 8192; multi_accept on; }}\n",
            dir = dir.display()
        )
    };
    // As nginx's own guides advise: kept-alive upstream connections over HTTP/1.1, no access log, long-lived keep-alive.
    let http = format!(
        "access_log off; sendfile on; tcp_nodelay on; keepalive_timeout 300s; keepalive_requests 100000000;\n\
         client_max_body_size 0; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;\n\
         proxy_request_buffering off; proxy_buffering on; proxy_max_temp_file_size 0;\n\
         client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;\n\
         uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;\n",
        dir = dir.display()
    );
    let pem = |identity: &Path, name: &str| identity.join(name).display().to_string();
    let first = format!(
        "{}http {{\n{http}upstream peer {{ server {inner}; keepalive 256; keepalive_requests 100000000; keepalive_timeout 300s; }}\n\
         server {{ listen {door}; location / {{ proxy_pass https://peer; proxy_ssl_protocols TLSv1.3;\n\
         proxy_ssl_certificate {}; proxy_ssl_certificate_key {}; proxy_ssl_session_reuse on; }} }}\n}}\n",
        common("first"),
        pem(&identities.caller, "cert.pem"),
        pem(&identities.caller, "key.pem"),
    );
    let second = format!(
        "{}http {{\n{http}upstream app {{ server {app}; keepalive 256; keepalive_requests 100000000; keepalive_timeout 300s; }}\n\
         server {{ listen {inner} ssl; ssl_protocols TLSv1.3; ssl_certificate {}; ssl_certificate_key {};\n\
         ssl_client_certificate {}; ssl_verify_client on; ssl_session_cache shared:tls:10m;\n\
         location / {{ proxy_pass http://app; }} }}\n}}\n",
        common("second"),
        pem(&identities.callee, "cert.pem"),
        pem(&identities.callee, "key.pem"),
        pem(&identities.callee, "ca.pem"),
    );
    let start = |name: &str, text: &str| -> Result<Running> {
        let path = dir.join(format!("{name}.conf"));
        fs::write(&path, text)?;
        let mut command = Command::new(on_path("nginx"));
        command.arg("-p").arg(dir).arg("-c").arg(&path);
        spawn(command, &dir.join(format!("{name}.log")))
    };
    let second = start("second", &second)?;
    let first = start("first", &first)?;
    Ok(Pair { name: "nginx", door, first, second })
}

fn wait_for_answer(pair: &mut Pair) -> Result<()> {
    let began = Instant::now();
    loop {
        let seen = match crate::load::one_call(pair.door) {
            Ok(()) => return Ok(()),
            Err(error) => error.to_string(),
        };
        for side in [&mut pair.first, &mut pair.second] {
            if let Some(status) = side.child.try_wait()? {
                let log = fs::read_to_string(&side.log).unwrap_or_default();
                return Err(format!("{} exited with {status}:\n{log}", pair.name).into());
            }
        }
        if began.elapsed() > START_LIMIT {
            return Err(format!("{} does not answer: {seen}", pair.name).into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn spawn(mut command: Command, log: &Path) -> Result<Running> {
    let file = File::create(log)?;
    let child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .map_err(|error| format!("{command:?}: {error}"))?;
    Ok(Running { child, log: log.to_owned() })
}

/// A program on PATH, or where Debian keeps what is root's; else its bare name, for the error to tell.
fn on_path(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| PathBuf::from(name))
}

/// A program that was built beside this one.
fn sibling(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.exists() { Ok(path) } else { Err(format!("{} is not built", path.display()).into()) }
}

fn free_port() -> Result<SocketAddr> {
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    // Somebody else could take it now; a benchmark that cannot start says so and is started again.
    debug_assert!(TcpStream::connect(address).is_err());
    Ok(address)
}
