//! What all peers share: a directory, ports, identities, the app; and processes that end when they are dropped.

use crate::load::{self, Request};
use crate::{Result, proc};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const START_LIMIT: Duration = Duration::from_secs(15);
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// The service behind the callee's side, and the one that calls it.
pub(crate) const CALLEE: &str = "payments";
const CALLER: &str = "web";

/// Where pairs are started. Everything that runs in it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) app: SocketAddr,
    /// The same for HTTP/2.
    h2c_app: SocketAddr,
    pub(crate) caller: Identity,
    pub(crate) callee: Identity,
    // In this order: processes go before their directory.
    _app: Running,
    dir: TempDir,
}

impl Site {
    /// A fresh directory with identities from `pillionctl`, and the app.
    pub(crate) fn open() -> Result<Site> {
        let dir = tempfile::tempdir()?;
        let (app, h2c_app) = (free_port()?, free_port()?);
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("app").args([app.to_string(), h2c_app.to_string()]);
        let running = Running::spawn(command, &dir.path().join("app.log"))?;
        pillionctl(dir.path(), &["init", "--trust-domain", "bench.pillion"], None)?;
        Ok(Site {
            app,
            h2c_app,
            caller: Identity::issue(dir.path(), CALLER)?,
            callee: Identity::issue(dir.path(), CALLEE)?,
            _app: running,
            dir,
        })
    }

    /// Where the app is, for a callee's side that speaks this to it.
    pub(crate) fn app_for(&self, speaks: Speaks) -> SocketAddr {
        match speaks {
            Speaks::Http1 => self.app,
            Speaks::H2c => self.h2c_app,
        }
    }

    /// Another service's identity, of the same authority; made once.
    pub(crate) fn identity(&self, service: &str) -> Result<Identity> {
        Identity::issue(self.dir.path(), service)
    }

    /// A directory of its own for one pair.
    pub(crate) fn subdirectory(&self, name: &str) -> Result<PathBuf> {
        let mut serial = 0;
        loop {
            let path = self.dir.path().join(format!("{name}-{serial}"));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(path),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => serial += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The first directory of that name.
    pub(crate) fn first(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}-0"))
    }

    /// A configuration without the names of this run's temporary directory.
    pub(crate) fn anonymous(&self, text: &str) -> String {
        text.replace(&self.dir.path().display().to_string(), "/bench")
    }
}

/// What B speaks with the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    /// HTTP/2 without TLS, where the peer can.
    H2c,
}

/// One service's certificate, its key and the authority's certificate, as PEM files.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) dir: PathBuf,
}

impl Identity {
    fn issue(site: &Path, service: &str) -> Result<Identity> {
        let identity = Identity { dir: site.join(service) };
        if identity.dir.exists() {
            return Ok(identity);
        }
        pillionctl(site, &["issue", "--service", service], Some(&identity.dir))?;
        // haproxy wants both in one file.
        let both = fs::read_to_string(identity.file("cert.pem"))? + &fs::read_to_string(identity.file("key.pem"))?;
        fs::write(identity.file("both.pem"), both)?;
        Ok(identity)
    }

    /// `cert.pem`, `key.pem`, `ca.pem`, or `both.pem` with certificate and key.
    pub(crate) fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }
}

fn pillionctl(site: &Path, arguments: &[&str], out: Option<&Path>) -> Result<()> {
    let mut command = Command::new(built("pillionctl")?);
    command.arg("ca").args(arguments).arg("--dir").arg(site.join("ca"));
    if let Some(out) = out {
        command.arg("--out").arg(out);
    }
    let output = command.output()?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("pillionctl ca {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
    }
}

/// A process whose output goes to a file; it is told to end when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    pub(crate) fn spawn(mut command: Command, log: &Path) -> Result<Running> {
        let file = File::create(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        Ok(Running { child, log: log.to_owned() })
    }

    /// Itself and the workers that it has started.
    fn pids(&self) -> Result<Vec<u32>> {
        proc::with_children(self.child.id())
    }

    /// # Errors
    /// When it has ended; with what it wrote.
    pub(crate) fn still_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                Err(format!("{} ended with {status}:\n{log}", self.log.display()).into())
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // nginx's master takes its workers with it when it is told to stop; a killed one would leave them behind. Told by
        // SIGTERM, a sidecar would stay for its app's last calls; SIGINT ends them all at once.
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGINT);
        }
        let began = Instant::now();
        while began.elapsed() < STOP_LIMIT {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two processes with mutual TLS 1.3 between them: A, which callers connect to, and B, which calls the app.
#[derive(Debug)]
pub(crate) struct Pair {
    /// Where callers connect with HTTP/1.1.
    pub(crate) door: SocketAddr,
    /// Where callers connect with HTTP/2 and no TLS, when that is offered.
    pub(crate) h2c_door: Option<SocketAddr>,
    pub(crate) a: Running,
    pub(crate) b: Running,
}

impl Pair {
    /// Waits until a call goes all the way.
    pub(crate) fn ready(mut self) -> Result<Pair> {
        self.wait_for(&Request::small())?;
        Ok(self)
    }

    /// Waits until this call is answered as it should be.
    pub(crate) fn wait_for(&mut self, request: &Request) -> Result<()> {
        let began = Instant::now();
        loop {
            let Err(seen) = load::one_call(self.door, request) else { return Ok(()) };
            self.a.still_runs()?;
            self.b.still_runs()?;
            if began.elapsed() > START_LIMIT {
                return Err(format!("no answer through {}: {seen}", self.a.log.display()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Resident memory of A and B, in MiB.
    pub(crate) fn rss_mib(&self) -> Result<[f64; 2]> {
        let mebibytes = |side: &Running| -> Result<f64> { Ok(proc::rss_kib(&side.pids()?)? as f64 / 1024.0) };
        Ok([mebibytes(&self.a)?, mebibytes(&self.b)?])
    }

    /// Runs `load` and gives the CPU time that A and B used meanwhile, in microseconds.
    pub(crate) fn cpu_us_of<T>(&self, load: impl FnOnce() -> Result<T>) -> Result<([f64; 2], T)> {
        let sides = [self.a.pids()?, self.b.pids()?];
        let read = || -> Result<[proc::CpuTimes; 2]> {
            Ok([proc::CpuTimes::read(&sides[0])?, proc::CpuTimes::read(&sides[1])?])
        };
        let before = read()?;
        let seen = load()?;
        let after = read()?;
        Ok(([after[0].micros_since(&before[0]), after[1].micros_since(&before[1])], seen))
    }
}

/// A program that was built beside this one.
pub(crate) fn built(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.exists() { Ok(path) } else { Err(format!("{} is not built", path.display()).into()) }
}

/// The directory that cargo builds into.
pub(crate) fn target() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    Ok(exe.ancestors().nth(2).ok_or("not built by cargo")?.to_owned())
}

/// A program on PATH, or where Debian keeps what is root's; else its bare name, for the error to tell.
pub(crate) fn on_path(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| PathBuf::from(name))
}

/// Somebody else could take it before it is bound; a benchmark that cannot start says so and is started again.
pub(crate) fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
