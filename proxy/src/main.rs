//! The sidecar `pillion`: arguments, configuration, exit codes. Everything is built in `app.rs`.

use std::process::ExitCode;

use pillion::{app, cli};

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
