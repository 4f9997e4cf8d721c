//! The command line: `run`, `check`, `wait`. What each flag's text means is the configuration's business.

use std::{
    env,
    ffi::OsString,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::{Args, Parser, Subcommand};

use crate::{
    config::{self, Inputs, Loaded, Problems},
    wrapper,
};

/// Exit code of a configuration that is wrong, and of `wait` at its timeout.
const FAILED: u8 = 1;

/// What the user asked for.
#[derive(Debug)]
pub enum Command {
    /// `pillion run`.
    Run(Box<RunArgs>),
    /// `pillion check`.
    Check(Box<CheckArgs>),
    /// `pillion wait`.
    Wait(WaitArgs),
}

/// Reads the process's arguments. Ends the process itself for `--help`, `--version` and wrong usage (code 2), and
/// when it was started as the launcher of wrapper mode.
#[must_use]
pub fn parse() -> Command {
    wrapper::launch_if_asked(env::args_os());
    match Cli::parse().command {
        Verb::Run(args) => Command::Run(Box::new(args)),
        Verb::Check(args) => Command::Check(Box::new(args)),
        Verb::Wait(args) => Command::Wait(args),
    }
}

/// Writes the problems to stderr, one a line; gives the exit code.
pub fn complain(problems: &Problems) -> ExitCode {
    // Nobody is left to tell when stderr is closed.
    let _ = writeln!(io::stderr().lock(), "{problems}");
    ExitCode::from(FAILED)
}

/// A sidecar: plain local calls reach other services' live instances.
#[derive(Debug, Parser)]
#[command(name = "pillion", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the sidecar; with `-- CMD ARGS…` also the app.
    Run(RunArgs),
    /// Check a configuration as `run` would read it, without running.
    Check(CheckArgs),
    /// Wait until a sidecar is ready.
    Wait(WaitArgs),
}

/// `pillion run`. Every flag has a variable and a key in the file; flags win over variables, variables over the file.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    settings: Settings,

    /// The app to start once the sidecar is ready; its exit code becomes this process's.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// `pillion check`: takes the flags of `run`, so that exactly what would run is checked.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Args)]
struct Settings {
    /// TOML file (PILLION_CONFIG).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Own service's name (PILLION_SERVICE).
    #[arg(long, value_name = "NAME")]
    service: Option<OsString>,

    /// Own service's version, 1.0.0 unless given (PILLION_VERSION).
    #[arg(long, value_name = "V")]
    version: Option<OsString>,

    /// Where the own app listens; without it the sidecar only makes calls (PILLION_APP).
    #[arg(long, value_name = "http|h2c|tcp|thrift://HOST:PORT|unix:/PATH")]
    app: Option<OsString>,

    /// Path at which the app takes JSON-RPC 2.0; without it procedures are plain calls (PILLION_APP_JSONRPC).
    #[arg(long, value_name = "/PATH")]
    app_jsonrpc: Option<OsString>,

    /// The app's FileDescriptorSet, or `reflection`: its gRPC methods take JSON then (PILLION_DESCRIPTORS).
    #[arg(long, value_name = "FILE|reflection")]
    descriptors: Option<OsString>,

    /// etcd://HOST:2379[,HOST:2379][/PREFIX], file:///DIR or static (PILLION_REGISTRY).
    #[arg(long, value_name = "URL")]
    registry: Option<OsString>,

    /// Directory with ca.pem, cert.pem and key.pem (PILLION_IDENTITY).
    #[arg(long, value_name = "DIR")]
    identity: Option<OsString>,

    /// Door for the own app's calls, 127.0.0.1:4140 unless given (PILLION_OUTBOUND).
    #[arg(long, value_name = "ADDR")]
    outbound: Option<OsString>,

    /// Where other sidecars connect, 0.0.0.0:4143 unless given (PILLION_INBOUND).
    #[arg(long, value_name = "ADDR")]
    inbound: Option<OsString>,

    /// Address that is registered, when others reach this host by another one (PILLION_ADVERTISE).
    #[arg(long, value_name = "IP:PORT")]
    advertise: Option<OsString>,

    /// Metrics, probes and table, 127.0.0.1:4191 unless given (PILLION_ADMIN).
    #[arg(long, value_name = "ADDR")]
    admin: Option<OsString>,

    /// Worker threads, 1 unless given (PILLION_WORKERS).
    #[arg(long, value_name = "N")]
    workers: Option<OsString>,

    /// No mutual TLS between sidecars: for laptops only (PILLION_INSECURE).
    #[arg(long)]
    insecure: bool,
}

impl Settings {
    fn inputs(self, command: Vec<OsString>, environment: Vec<(OsString, OsString)>) -> Inputs {
        let insecure = self.insecure.then(|| OsString::from("true"));
        let flags = [
            ("--service", self.service),
            ("--version", self.version),
            ("--app", self.app),
            ("--app-jsonrpc", self.app_jsonrpc),
            ("--descriptors", self.descriptors),
            ("--registry", self.registry),
            ("--identity", self.identity),
            ("--outbound", self.outbound),
            ("--inbound", self.inbound),
            ("--advertise", self.advertise),
            ("--admin", self.admin),
            ("--workers", self.workers),
            ("--insecure", insecure),
        ];
        let file = self.config.or_else(|| {
            let variable = environment.iter().find(|(name, text)| name == "PILLION_CONFIG" && !text.is_empty());
            variable.map(|(_, text)| PathBuf::from(text))
        });
        let flags = flags.into_iter().filter_map(|(flag, text)| Some((flag, text?))).collect();
        Inputs { file, environment, flags, command }
    }
}

impl RunArgs {
    /// Merges flags, environment and file.
    ///
    /// # Errors
    /// Everything that is wrong with them; see [`complain`].
    pub fn load(self) -> Result<Loaded, Problems> {
        config::load(self.settings.inputs(self.command, env::vars_os().collect()))
    }
}

impl CheckArgs {
    /// Checks and reports: problems on stderr and code 1, or one line on stdout and code 0.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let file = self.settings.config.clone();
        match config::load(self.settings.inputs(Vec::new(), env::vars_os().collect())) {
            Err(problems) => complain(&problems),
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    let _ = writeln!(io::stderr().lock(), "{warning}");
                }
                let name =
                    file.or(loaded.file.clone()).map_or_else(|| "configuration".into(), |f| f.display().to_string());
                let service = loaded.config.service.as_ref().map_or("no service name given", |name| name.as_str());
                let _ = writeln!(
                    io::stdout().lock(),
                    "{name}: fine: {service}, registry {}, {} values given",
                    loaded.config.registry,
                    loaded.given(),
                );
                ExitCode::SUCCESS
            }
        }
    }
}

/// `pillion wait`.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// The sidecar's admin address (PILLION_ADMIN).
    #[arg(long, value_name = "ADDR", env = "PILLION_ADMIN", default_value = "127.0.0.1:4191", value_parser = address)]
    admin: SocketAddr,

    /// How long to wait, such as 30s.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = config::duration)]
    timeout: Duration,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    config::address(text)
}

/// Between two questions of `wait`.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// For one question of `wait`.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// More than this of an answer is not read. Bytes.
const ANSWER_BYTES: u64 = 64 * 1024;

impl WaitArgs {
    /// Asks `/readyz` again and again: code 0 once it says ready; at the timeout 1, with the last reason on stderr.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self.wait() {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => {
                let text = format!("not ready after {:?}: {reason}", self.timeout);
                let _ = writeln!(io::stderr().lock(), "{text}");
                ExitCode::from(FAILED)
            }
        }
    }

    fn wait(&self) -> Result<(), String> {
        let end = Instant::now() + self.timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now()).clamp(Duration::from_millis(1), ASK_TIMEOUT);
            let reason = match ask(self.admin, left) {
                Ok(None) => return Ok(()),
                Ok(Some(reason)) => reason,
                Err(error) => format!("{}: {error}", self.admin),
            };
            if Instant::now() + ASK_EVERY >= end {
                return Err(reason);
            }
            thread::sleep(ASK_EVERY);
        }
    }
}

/// Asks once; `None`: ready; `Some`: why not.
fn ask(admin: SocketAddr, timeout: Duration) -> io::Result<Option<String>> {
    let mut stream = TcpStream::connect_timeout(&admin, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split_whitespace().nth(1);
    if status == Some("200") {
        return Ok(None);
    }
    let body = answer.split_once("\r\n\r\n").map_or("no answer", |(_, body)| body.trim());
    Ok(Some(body.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use clap::CommandFactory;

    use super::*;

    fn run(args: &[&str]) -> (Inputs, Vec<OsString>) {
        let cli = Cli::try_parse_from(args).expect("usage");
        let Verb::Run(args) = cli.command else { panic!("not run") };
        let command = args.command.clone();
        (args.settings.inputs(args.command, vec![("PILLION_CONFIG".into(), "/env.toml".into())]), command)
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_of_run_is_a_key_and_the_other_way_round() {
        let flags: Vec<_> = config::all_keys().filter_map(|(_, flag, variable)| Some((flag?, variable))).collect();
        let command = Cli::command();
        let run = command.find_subcommand("run").expect("run");
        for arg in run.get_arguments().filter(|arg| arg.get_long().is_some_and(|long| long != "config")) {
            let long = format!("--{}", arg.get_long().expect("filtered"));
            let (_, variable) = flags.iter().find(|(flag, _)| *flag == long).expect(&long);
            let help = arg.get_help().expect("help").to_string();
            assert!(help.contains(&format!("({variable})")), "{long} names {variable} in its help");
        }
        for (flag, _) in flags {
            let args =
                if flag == "--insecure" { vec!["pillion", "run", flag] } else { vec!["pillion", "run", flag, "x"] };
            assert_eq!(run_flags(&args), [flag]);
        }
    }

    fn run_flags(args: &[&str]) -> Vec<&'static str> {
        run(args).0.flags.iter().map(|(flag, _)| *flag).collect()
    }

    #[test]
    fn version_is_the_binary_at_the_top_and_the_service_under_run() {
        let error = Cli::try_parse_from(["pillion", "--version"]).expect_err("prints");
        assert_eq!(error.kind(), clap::error::ErrorKind::DisplayVersion);
        let (inputs, _) = run(&["pillion", "run", "--version", "2.1.0"]);
        assert_eq!(inputs.flags, [("--version", OsString::from("2.1.0"))]);
    }

    #[test]
    fn the_command_stands_behind_two_dashes_and_the_file_may_be_a_variable() {
        let (inputs, command) = run(&["pillion", "run", "--insecure", "--", "app", "--flag"]);
        assert_eq!(command, ["app", "--flag"]);
        assert_eq!(inputs.file, Some("/env.toml".into()));
        let (inputs, _) = run(&["pillion", "run", "--config", "/flag.toml"]);
        assert_eq!(inputs.file, Some("/flag.toml".into()));
    }

    /// Answers each connection with the next of `answers`, and then for ever with the last.
    fn admin(answers: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        thread::spawn(move || {
            let last = answers.last().expect("at least one answer");
            for answer in answers.iter().chain(std::iter::repeat(last)) {
                let (mut stream, _) = listener.accept().expect("accept");
                let mut request = [0; 512];
                let _ = stream.read(&mut request).expect("request");
                stream.write_all(answer.as_bytes()).expect("answer");
            }
        });
        address
    }

    #[test]
    fn wait_asks_until_ready() {
        let admin = admin(&[
            "HTTP/1.1 503 Service Unavailable\r\n\r\n{\"table\":\"not loaded\"}",
            "HTTP/1.1 200 OK\r\n\r\nready\n",
        ]);
        assert_eq!(WaitArgs { admin, timeout: Duration::from_secs(10) }.wait(), Ok(()));
    }

    #[test]
    fn wait_gives_up_with_the_last_reason() {
        let admin = admin(&["HTTP/1.1 503 Service Unavailable\r\n\r\n{\"table\":\"not loaded\"}\n"]);
        let reason = WaitArgs { admin, timeout: Duration::from_secs(2) }.wait();
        assert_eq!(reason, Err("{\"table\":\"not loaded\"}".to_owned()));
    }

    #[test]
    fn wait_says_that_nobody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let admin = listener.local_addr().expect("address");
        drop(listener);
        let reason = WaitArgs { admin, timeout: Duration::from_millis(20) }.wait().expect_err("nobody");
        assert!(reason.contains("refused"), "{reason}");
    }
}
