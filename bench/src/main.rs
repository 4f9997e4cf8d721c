//! `make bench`: what a call through two sidecars costs, beside nginx doing the same job, in the same run.
//!
//! Wall time on a shared machine says little; CPU time per call says much. Both sides are measured in turns, so that
//! whatever else the machine does falls on both alike, and medians and spread are printed.

// Its output is what this program is for.
#![allow(clippy::print_stderr)]

mod app;
mod load;
mod measure;
mod proc;
mod report;
mod rig;

use clap::{Parser, Subcommand};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

/// Any failure, in words; a benchmark that fails says why and ends.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Debug, Parser)]
#[command(about = "What a call through two sidecars costs, beside nginx doing the same")]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// Repetitions of the main measurement.
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// Seconds of one measurement.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Only nginx: to check the method where nothing else is built.
    #[arg(long)]
    nginx_only: bool,
}

/// The parts that run as processes of their own, so that their CPU time is not anybody else's.
#[derive(Debug, Subcommand)]
enum Part {
    /// The app behind the sidecars.
    App { listen: SocketAddr },
    /// Bulk streams through a sidecar, until killed.
    Bulk { door: SocketAddr, down: usize, up: usize },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.part {
        Some(Part::App { listen }) => app::serve(listen),
        Some(Part::Bulk { door, down, up }) => load::bulk(door, down, up),
        None => {
            let plan = measure::Plan {
                repetitions: arguments.repetitions.max(1),
                span: Duration::from_secs(arguments.seconds.max(1)),
                nginx_only: arguments.nginx_only,
            };
            measure::all(&plan).and_then(|results| report::publish(&results))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
