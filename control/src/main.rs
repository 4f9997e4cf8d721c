//! `pillionctl`: the operator's tool. It makes the certificates that sidecars show each other, and reads the registry.
//!
//! Exit codes: see [`EXIT_CODES`], which is also what `--help` prints.

mod ca;
mod files;
mod view;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use registry::ServiceName;

/// Part of the interface: scripts read them.
const EXIT_CODES: &str = "Exit codes:
  0  done
  1  it could not be done; standard error says why and what to do
  2  the command line is wrong
  3  the registry was not reached, or refused
  4  `endpoints SERVICE`: the registry was read, and the service has no endpoint";

/// The operator's tool of Pillion: certificates for sidecars, and a view of the registry.
#[derive(Debug, Parser)]
#[command(name = "pillionctl", version, after_help = EXIT_CODES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct RegistryArgs {
    /// etcd://h1:2379,h2:2379[/prefix][?user=NAME] or file:///dir
    // Parsed later: clap would repeat a mistyped URL with the password in it.
    #[arg(long, global = true, value_name = "URL", env = "PILLION_REGISTRY", hide_env_values = true)]
    registry: Option<String>,
    /// etcd's password. Prefer the variable: everybody on the machine can read a command line
    #[arg(long, global = true, value_name = "TEXT", env = "PILLION_ETCD_PASSWORD", hide_env_values = true)]
    etcd_password: Option<String>,
    /// PEM file of the CAs that etcd's certificate may come from; TLS is spoken to etcd then
    #[arg(long, global = true, value_name = "FILE", env = "PILLION_ETCD_CA")]
    etcd_ca: Option<PathBuf>,
    /// PEM file of our own certificate for etcd
    #[arg(long, global = true, value_name = "FILE", env = "PILLION_ETCD_CERT", requires = "etcd_key")]
    etcd_cert: Option<PathBuf>,
    /// PEM file of its private key
    #[arg(long, global = true, value_name = "FILE", env = "PILLION_ETCD_KEY", requires = "etcd_cert")]
    etcd_key: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The certificate authority of one trust domain
    #[command(subcommand)]
    Ca(CaCommand),
    /// Lists the registered services
    ///
    /// With --json: {"schema":1,"services":[{"service","versions":[…],"endpoints":N}]}, sorted by service. Fields may
    /// be added under the same schema number.
    Services {
        /// Machine-readable, one line
        #[arg(long)]
        json: bool,
    },
    /// Lists the registered endpoints, of one service or of all
    ///
    /// With --json: {"schema":1,"endpoints":[{"service","version","address","instance","secure","protocol","weight",
    /// "metadata":{}}]}, sorted by service, version and address. Fields may be added under the same schema number.
    Endpoints {
        service: Option<ServiceName>,
        /// Machine-readable, one line
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
enum CaCommand {
    /// Makes a new authority: DIR/ca.pem, and DIR/ca-key.pem, which is to be kept secret
    Init {
        /// Where to; made if it is not there
        #[arg(long)]
        dir: PathBuf,
        /// The name of the authority, as in spiffe://TRUST-DOMAIN/service/NAME: a-z, 0-9, '.', '-' and '_'
        #[arg(long)]
        trust_domain: ca::TrustDomain,
        /// How long the authority is valid: 90s, 30m, 24h, 3650d
        #[arg(long, default_value = "3650d", value_parser = parse_ttl)]
        ttl: Duration,
        /// Replaces an authority that is already there: whatever it issued is worthless then
        #[arg(long)]
        force: bool,
    },
    /// Issues a service's identity: ca.pem, cert.pem and key.pem, as `pillion run --identity` wants them
    ///
    /// Files that are there are replaced one by one, each atomically; a running sidecar picks the new set up without
    /// dropping a call. Run it again before the time is over, from a timer for instance.
    Issue {
        /// Where `ca init` was told to put the authority
        #[arg(long)]
        dir: PathBuf,
        /// The service whose instances will show this certificate
        #[arg(long)]
        service: ServiceName,
        /// Where to; made if it is not there
        #[arg(long)]
        out: PathBuf,
        /// How long it is valid: 90s, 30m, 24h, 7d. Never longer than the authority
        #[arg(long, default_value = "24h", value_parser = parse_ttl)]
        ttl: Duration,
    },
}

/// Why the command failed, as a line for a person and a code for a script.
#[derive(Debug)]
struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    fn new(text: impl Into<String>) -> Failure {
        Failure { code: 1, text: text.into() }
    }

    fn registry(text: impl Into<String>) -> Failure {
        Failure { code: 3, text: text.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = String::new();
    let result = run(cli, &mut out);
    // A reader that went away (`pillionctl endpoints | head -1`) is no failure; a full disk is.
    let written = match io::stdout().write_all(out.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(format!("standard output: {e}"))),
        _ => Ok(()),
    };
    match result.and(written) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure.text);
            ExitCode::from(failure.code)
        }
    }
}

fn run(cli: Cli, out: &mut String) -> Result<(), Failure> {
    match cli.command {
        Command::Ca(CaCommand::Init { dir, trust_domain, ttl, force }) => {
            *out = ca::init(&dir, &trust_domain, ttl, force)?;
        }
        Command::Ca(CaCommand::Issue { dir, service, out: to, ttl }) => *out = ca::issue(&dir, &service, &to, ttl)?,
        Command::Services { json } => *out = view::services(&view::read(cli.registry)?, json),
        Command::Endpoints { service, json } => {
            let mut list = view::read(cli.registry)?;
            if let Some(service) = &service {
                list.retain(|endpoint| endpoint.key.service == *service);
            }
            *out = view::endpoints(&list, json);
            if let (true, Some(service)) = (list.is_empty(), service) {
                let text = format!("no endpoint of '{service}' is registered; `pillionctl services` lists what is");
                return Err(Failure { code: 4, text });
            }
        }
    }
    Ok(())
}

/// One line on standard error. If even that cannot be written, the exit code is what remains.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "pillionctl: {text}");
}

/// A whole number with a unit: `90s`, `30m`, `24h`, `7d`.
fn parse_ttl(text: &str) -> Result<Duration, String> {
    let why = || format!("'{text}' is no duration: write a whole number and s, m, h or d, as in 24h");
    let unit = text.chars().last().ok_or_else(why)?;
    let seconds_each: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(why()),
    };
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(why());
    }
    let seconds = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(seconds_each)).ok_or_else(why)?;
    let ttl = Duration::from_secs(seconds);
    if ttl < ca::TTL_MIN || ttl > ca::TTL_MAX {
        return Err(format!("'{text}': a certificate lives for at least 60s and at most 36500d"));
    }
    Ok(ttl)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations() {
        let check = |text: &str, seconds: Option<u64>| {
            assert_eq!(parse_ttl(text).ok(), seconds.map(Duration::from_secs), "{text:?}");
        };
        check("90s", Some(90));
        check("30m", Some(1800));
        check("24h", Some(86_400));
        check("7d", Some(604_800));
        for bad in [
            "",
            "h",
            "24",
            "-1h",
            "+1h",
            "1.5h",
            "24 h",
            "24H",
            "1w",
            "0h",
            "59s",
            "36501d",
            "99999999999999999999d",
            "1é",
        ] {
            check(bad, None);
        }
    }
}
