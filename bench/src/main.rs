//! `make bench`: what a call through two sidecars costs, beside other proxies doing the same job, in the same run.
//!
//! Wall time on a shared machine says little; CPU time a call says much. All are measured in turns, so that whatever else
//! the machine does falls on all alike, and medians and spread are printed.

// Its output is what this program is for.
#![allow(clippy::print_stderr)]

mod app;
mod curves;
mod docs;
mod goals;
mod load;
mod machine;
mod measure;
mod peers;
mod plot;
mod proc;
mod report;
mod site;
mod workloads;

use clap::{Parser, Subcommand};
use machine::Machine;
use measure::Plan;
use peers::Peer;
use report::Report;
use site::Site;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use workloads::{WORKLOADS, Workload};

/// Any failure, in words; a benchmark that fails says why and ends.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Debug, Parser)]
#[command(about = "What a call through two sidecars costs, beside other proxies doing the same")]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// Only these workloads, by their letters: a,b,g.
    #[arg(long, value_delimiter = ',', value_name = "LETTERS")]
    only: Vec<char>,
    /// Who is measured, of pillion, nginx, haproxy, haproxy-h1 and envoy.
    #[arg(long, value_delimiter = ',', value_name = "NAMES", default_values = peers::DEFAULT)]
    peers: Vec<String>,
    /// Adds the sidecars of another build as `before`: DIR/pillion.
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,
    /// Repetitions of each measurement.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    repetitions: u16,
    /// Seconds of one measurement.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Measures the scaling curves, or these of them, and only the workloads that `--only` names.
    #[arg(long, value_delimiter = ',', value_name = "NAMES", num_args = 0..)]
    curves: Option<Vec<String>>,
    /// Writes what was measured into docs/.
    #[arg(long)]
    write_docs: bool,
}

/// What runs as a process of its own, so that its CPU time is not anybody else's.
#[derive(Debug, Subcommand)]
enum Part {
    /// The app behind the sidecars.
    App { listen: SocketAddr, listen_h2c: SocketAddr },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.part {
        Some(Part::App { listen, listen_h2c }) => app::serve(listen, listen_h2c),
        None => run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let mut peers = arguments.peers.iter().map(|name| Peer::named(name)).collect::<Result<Vec<_>>>()?;
    peers.extend(arguments.against.as_deref().map(Peer::before));
    let workloads = chosen(arguments)?;
    if arguments.write_docs && has_gaps(arguments) {
        return Err("--write-docs wants all workloads and peers, or all curves: tables with gaps mislead".into());
    }
    let machine = Machine::here(&peers)?;
    let site = Site::open()?;
    let span = Duration::from_secs(arguments.seconds);
    let plan = Plan { repetitions: usize::from(arguments.repetitions), span };
    let outcomes = if workloads.is_empty() { Vec::new() } else { measure::all(&site, plan, &workloads, peers)? };
    let curves = match &arguments.curves {
        Some(names) => curves::all(&site, plan, names)?,
        None => Vec::new(),
    };
    Report::new(machine, plan, outcomes, curves).publish(&site, arguments.write_docs)
}

/// The workloads to measure: all, unless some are named or only curves are wanted.
fn chosen(arguments: &Arguments) -> Result<Vec<&'static Workload>> {
    if arguments.only.is_empty() {
        return Ok(if arguments.curves.is_some() { Vec::new() } else { WORKLOADS.iter().collect() });
    }
    let find = |letter: &char| {
        let found = WORKLOADS.iter().find(|workload| workload.letter == *letter);
        found.ok_or_else(|| format!("no workload {letter}").into())
    };
    arguments.only.iter().map(find).collect()
}

/// Whether something is left out that the tables in docs/ show.
fn has_gaps(arguments: &Arguments) -> bool {
    let named = !arguments.only.is_empty() || arguments.curves.as_ref().is_some_and(|names| !names.is_empty());
    named || arguments.against.is_some() || arguments.peers != peers::DEFAULT
}
