//! The sidecar `pillion`: arguments, configuration, exit codes. Everything is built in `app.rs`.

mod admin;
mod admit;
mod app;
mod balance;
mod call;
mod cli;
mod clock;
mod config;
mod discovery;
mod dispatch;
mod drain;
mod edge;
mod error;
mod ingress;
mod logging;
mod metered;
mod metrics;
mod record;
mod route;
mod tls;
mod upstream;
mod worker;
mod wrapper;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::parse() {
        cli::Command::Run(arguments) => match arguments.load() {
            Ok(loaded) => app::run(loaded),
            Err(problems) => cli::complain(&problems),
        },
        cli::Command::Check(arguments) => arguments.run(),
        cli::Command::Wait(arguments) => arguments.run(),
    }
}
