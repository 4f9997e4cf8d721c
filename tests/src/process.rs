//! Child processes: their output goes to a file, they die with their handle, and a failing test prints their last words.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::WaitPidFlag;
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

/// How much of a log a failing test prints.
const TAIL_BYTES: u64 = 6 * 1024;

/// A running program in a process group of its own.
#[derive(Debug)]
pub struct Process {
    label: String,
    child: Child,
    log: PathBuf,
    exited: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` with both outputs appended to `log`.
    #[track_caller]
    pub fn start(label: &str, mut command: Command, log: &Path) -> Process {
        raise_descriptors();
        let file = File::options().create(true).append(true).open(log).expect("open the log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("clone the log file"))
            .stderr(file)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {label} ({command:?}): {error}"));
        Process { label: label.to_owned(), child, log: log.to_owned(), exited: None }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the process alone (not to its group). Does nothing once it has exited.
    pub fn signal(&mut self, signal: Signal) {
        if self.try_wait().is_none() {
            let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits"));
            nix::sys::signal::kill(pid, signal)
                .unwrap_or_else(|error| panic!("signal {signal} to {}: {error}", self.label));
            if signal == Signal::SIGSTOP {
                // Its threads stop one after the other: until the last has, it may still answer.
                nix::sys::wait::waitpid(pid, Some(WaitPidFlag::WUNTRACED))
                    .unwrap_or_else(|error| panic!("{} does not stop: {error}", self.label));
            }
        }
    }

    /// SIGKILL to the process alone, and waits for its end.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait(Duration::from_secs(10));
    }

    /// The exit status, if it has ended.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.exited.is_none() {
            self.exited = self.child.try_wait().expect("wait for a child");
        }
        self.exited
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When it does not come within `limit`.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.try_wait() {
                return status;
            }
            assert!(start.elapsed() < limit, "{} did not exit within {limit:?}\n{}", self.label, self.tail());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The whole log so far.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The end of the log, with a heading, for a failing test's output.
    #[must_use]
    pub fn tail(&self) -> String {
        format!("--- log of {} (end)\n{}", self.label, tail_of(&self.log))
    }

    /// The program's name in messages.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }
}

impl Drop for Process {
    // A failing test's reader looks at stderr: that is where the logs belong.
    #[allow(clippy::print_stderr)]
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // The whole group: a wrapper's command too.
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        if self.exited.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.tail());
        }
    }
}

/// Lifts this process's soft limit of open descriptors to the hard one: Debian's 1,024 is less than some tests open.
fn raise_descriptors() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit of descriptors");
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("a soft limit may rise to the hard one");
    });
}

fn tail_of(path: &Path) -> String {
    let Ok(mut file) = File::open(path) else {
        return String::from("(no log)");
    };
    let length = file.metadata().map_or(0, |meta| meta.len());
    let _ = file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)));
    let mut bytes = Vec::new();
    let _ = file.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A `curl` that goes where it is told to and nowhere else.
#[must_use]
pub fn curl(arguments: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "60"]).args(arguments);
    for variable in ["http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(variable);
    }
    command
}

/// Runs a command to its end with a time limit.
///
/// # Panics
/// When it cannot be started or takes longer than `limit`.
#[track_caller]
pub fn run(mut command: Command, limit: Duration) -> Output {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
    let mut stdout = child.stdout.take().expect("piped");
    let mut stderr = child.stderr.take().expect("piped");
    let out = std::thread::spawn(move || read_all(&mut stdout));
    let err = std::thread::spawn(move || read_all(&mut stderr));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait for a child") {
            break status;
        }
        if start.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{shown} took longer than {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Output {
        code: status.code(),
        stdout: out.join().expect("reader"),
        stderr: err.join().expect("reader"),
        command: shown,
        took: start.elapsed(),
    }
}

fn read_all(from: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a finished command left.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// The command line, for messages.
    pub command: String,
    pub took: Duration,
}

impl Output {
    /// The standard output of a command that must have succeeded.
    #[track_caller]
    pub fn success(&self) -> &str {
        assert_eq!(self.code, Some(0), "{} failed\nstdout: {}\nstderr: {}", self.command, self.stdout, self.stderr);
        &self.stdout
    }
}
