//! Wrapper mode: the app as a child process. It is started through this same binary (see [`launch_if_asked`]), so that
//! the kernel kills it when the sidecar is killed, which `Command` alone can only arrange with unsafe code.

use std::{
    convert::Infallible,
    ffi::{OsStr, OsString},
    fmt,
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{self, ExitStatus},
};

use nix::{
    sys::{prctl, signal},
    unistd::{self, Pid},
};

pub use nix::sys::signal::Signal;

use crate::config::LocalAddress;

/// First argument that makes this binary the launcher. Not in the help: nobody types it.
const LAUNCH: &str = "__launch";

/// Exit codes of shells: found but not startable, and not found.
const NOT_STARTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// What the app is told through its environment.
#[derive(Debug, Clone)]
pub struct Told {
    /// Becomes `PILLION_OUTBOUND_URL`, `http://IP:PORT` or `unix:/PATH`: where to send calls. `http_proxy` is not set: it would
    /// also catch calls to hosts that are no services.
    pub outbound: LocalAddress,
    /// Becomes `PILLION_ADMIN_URL`.
    pub admin: SocketAddr,
}

/// The running app.
#[derive(Debug)]
pub struct Child {
    inner: tokio::process::Child,
    pid: Pid,
    shares_terminal: bool,
}

/// Starts `command` (a program and its arguments; not empty). Its environment is this process's and [`Told`].
/// Must be called on a thread that lives as long as the process: the app is killed when that thread ends.
///
/// # Errors
/// When the process cannot be created. That the program does not exist shows as exit code 127, as in a shell.
pub fn spawn(command: &[OsString], told: Told) -> Result<Child, SpawnError> {
    // Not `current_exe`: its path may by now be another binary's, after an upgrade.
    spawn_through(OsStr::new("/proc/self/exe"), &[OsStr::new(LAUNCH)], command, told)
}

fn spawn_through(launcher: &OsStr, first: &[&OsStr], command: &[OsString], told: Told) -> Result<Child, SpawnError> {
    if command.is_empty() {
        return Err(SpawnError::NoCommand);
    }
    let outbound = match told.outbound {
        LocalAddress::Ip(address) => format!("http://{address}"),
        LocalAddress::Unix(_) => told.outbound.to_string(),
    };
    let inner = tokio::process::Command::new(launcher)
        .args(first)
        .arg(process::id().to_string())
        .args(command)
        .env("PILLION_OUTBOUND_URL", outbound)
        .env("PILLION_ADMIN_URL", format!("http://{}", told.admin))
        .spawn()
        .map_err(SpawnError::Io)?;
    // `id` is None only after the child was waited for.
    let pid = inner.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw).ok_or(SpawnError::Gone)?;
    Ok(Child { inner, pid, shares_terminal: io::stdin().is_terminal() })
}

impl Child {
    /// The app's process id.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Passes a signal on. SIGINT is not, when stdin is a terminal: the terminal has sent it to the app already, and
    /// for many programs a second one means 'at once'. A child that has ended is no error.
    ///
    /// # Errors
    /// What `kill` says.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if signal == Signal::SIGINT && self.shares_terminal {
            return Ok(());
        }
        // Once it was waited for, its id may be another process's.
        if self.inner.id().is_none() {
            return Ok(());
        }
        match signal::kill(self.pid, signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for the end; gives the exit code to end with: the app's own, or 128 + signal. Cancel-safe; may be
    /// called again.
    ///
    /// # Errors
    /// What `waitpid` says.
    pub async fn wait(&mut self) -> io::Result<u8> {
        self.inner.wait().await.map(exit_code)
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// Becomes the app, when the arguments are those of [`spawn`]; otherwise returns. To be called first in `main`,
/// before any thread is started. Asks the kernel for SIGKILL at the parent's end, then replaces itself; both
/// survive into the app, unless it is a set-user-id program.
pub fn launch_if_asked(args: impl Iterator<Item = OsString>) {
    let mut args = args.skip(1);
    if args.next().is_none_or(|first| first != LAUNCH) {
        return;
    }
    launch(args);
}

#[expect(clippy::disallowed_methods, reason = "nothing is running yet in this process, and no destructor waits")]
fn launch(mut args: impl Iterator<Item = OsString>) -> ! {
    let parent = args.next().and_then(|text| text.to_str()?.parse::<i32>().ok());
    let program = args.next();
    let (Some(parent), Some(program)) = (parent, program) else {
        process::exit(NOT_STARTABLE);
    };
    let Err(error) = become_program(parent, &program, args);
    // Says it as a shell would; stderr may be closed, and then nobody reads it.
    let _ = writeln!(io::stderr().lock(), "pillion: {}: {error}", program.display());
    process::exit(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_STARTABLE });
}

fn become_program(parent: i32, program: &OsStr, args: impl Iterator<Item = OsString>) -> io::Result<Infallible> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // It may have ended before the line above: then nobody would send the signal.
    if unistd::getppid().as_raw() != parent {
        return Err(io::Error::other("the sidecar is gone"));
    }
    Err(process::Command::new(program).args(args).exec())
}

/// Why the app was not started.
#[derive(Debug)]
pub enum SpawnError {
    /// The command is empty.
    NoCommand,
    /// It ended before its id could be read.
    Gone,
    /// The system refused.
    Io(io::Error),
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCommand => f.write_str("there is no command to start"),
            Self::Gone => f.write_str("the app ended at once"),
            Self::Io(error) => write!(f, "the app cannot be started: {error}"),
        }
    }
}

impl std::error::Error for SpawnError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::NoCommand | Self::Gone => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncBufReadExt, BufReader},
        time::timeout,
    };

    use super::*;

    const TOLD: Told = Told {
        outbound: LocalAddress::Ip(SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4140)),
        admin: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4191),
    };

    /// The test binary has no `main` of ours: `sh` stands in for the launcher; it drops the parent's id.
    fn start(script: &str) -> Child {
        let launcher = ["-c", "shift; exec \"$@\"", "launcher"].map(OsStr::new);
        let command: Vec<OsString> = ["sh", "-c", script].map(OsString::from).to_vec();
        spawn_through(OsStr::new("/bin/sh"), &launcher, &command, TOLD).expect("spawn")
    }

    async fn end(mut child: Child) -> u8 {
        timeout(Duration::from_secs(20), child.wait()).await.expect("ends").expect("wait")
    }

    #[tokio::test]
    async fn exit_codes_are_the_apps_or_128_and_the_signal() {
        assert_eq!(end(start("exit 0")).await, 0);
        assert_eq!(end(start("exit 37")).await, 37);
        assert_eq!(end(start("kill -9 $$")).await, 137);
        assert_eq!(end(start("kill -TERM $$")).await, 143);
    }

    #[tokio::test]
    async fn the_app_is_told_where_to_call() {
        assert_eq!(end(start("test \"$PILLION_OUTBOUND_URL\" = http://127.0.0.1:4140")).await, 0);
        assert_eq!(end(start("test \"$PILLION_ADMIN_URL\" = http://127.0.0.1:4191")).await, 0);
        assert_eq!(end(start("test -z \"$PILLION_NOT_THIS$http_proxy_of_ours\"")).await, 0);
    }

    #[tokio::test]
    async fn signals_are_passed_on_and_to_nobody_after_the_end() {
        let mut child = start("exec sleep 100");
        child.signal(Signal::SIGTERM).expect("signal");
        let code = timeout(Duration::from_secs(20), child.wait()).await.expect("ends").expect("wait");
        assert_eq!(code, 143);
        child.signal(Signal::SIGTERM).expect("a child that has ended is no error");
    }

    #[tokio::test]
    async fn an_empty_command_is_refused() {
        assert!(matches!(spawn(&[], TOLD), Err(SpawnError::NoCommand)));
    }

    /// The test below runs this one in a process of its own, as the sidecar that gets killed: it starts this test
    /// again, as launcher. Alone it does nothing.
    #[test]
    fn helper_process() {
        match std::env::var("PILLION_TEST_HELPER").as_deref() {
            Ok("sidecar") => {
                let mut app = process::Command::new("/proc/self/exe")
                    .args(["--exact", "wrapper::tests::helper_process", "--nocapture"])
                    .env("PILLION_TEST_HELPER", process::id().to_string())
                    .spawn()
                    .expect("app");
                let _ = app.wait();
            }
            Ok(parent) => {
                let args = [parent, "sh", "-c", "echo app $$; exec sleep 100"].map(OsString::from);
                launch(args.into_iter());
            }
            Err(_) => {}
        }
    }

    #[tokio::test]
    async fn the_app_dies_with_a_sidecar_that_is_killed() {
        let mut sidecar = tokio::process::Command::new("/proc/self/exe")
            .args(["--exact", "wrapper::tests::helper_process", "--nocapture"])
            .env("PILLION_TEST_HELPER", "sidecar")
            .stdout(process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("sidecar");
        let mut lines = BufReader::new(sidecar.stdout.take().expect("piped")).lines();
        let wait = Duration::from_secs(20);
        let said_by_app = async {
            while let Some(line) = lines.next_line().await.expect("read") {
                if let Some((_, id)) = line.split_once("app ") {
                    return id.trim().parse::<i32>().expect("a process id");
                }
            }
            panic!("the app never spoke");
        };
        let app = timeout(wait, said_by_app).await.expect("in time");
        assert_ne!(app, 0);
        sidecar.start_kill().expect("kill");
        // The app holds the other end of the pipe: its end is the end of the output.
        let until_closed = async { while lines.next_line().await.expect("read").is_some() {} };
        timeout(wait, until_closed).await.expect("the app died with the sidecar");
    }
}
