//! tapectl: format, inspect, check, repair, dump and load a tapeloop store.
//!
//! Exit codes are the same for every command: 0 clean, 1 problems found, 2 could not run.
#![forbid(unsafe_code)]

mod admin;
mod args;
mod dump;
mod error;
mod format;
mod fsck;
mod inspect;
mod load;
mod output;
mod progress;
mod scrub;
mod top;
mod units;
mod walk;

use std::process::ExitCode;

use crate::args::Command;
use crate::error::{Outcome, ToolError};

fn main() -> ExitCode {
    let command = match args::parse() {
        Ok(command) => command,
        Err(error) => return report(Err(error)),
    };
    report(run(command))
}

fn run(command: Command) -> Result<Outcome, ToolError> {
    match command {
        Command::Format(plan) => format::run(&plan),
        Command::Inspect(plan) => inspect::run(&plan),
        Command::Fsck(plan) => fsck::run(&plan),
        Command::Dump(plan) => dump::dump(&plan),
        Command::LoadFromDump(plan) => dump::load(&plan),
        Command::Scrub(plan) => scrub::run(&plan),
        Command::Top(plan) => top::run(&plan),
        Command::LoadMedia(plan) => load::media(&plan),
        Command::LoadGet(plan) => load::get(&plan),
        Command::LoadPut(plan) => load::put(&plan),
    }
}

fn report(result: Result<Outcome, ToolError>) -> ExitCode {
    match result {
        Ok(Outcome::Clean) => ExitCode::from(0),
        Ok(Outcome::Problems) => ExitCode::from(1),
        Err(error) => {
            eprintln!("tapectl: {error}");
            ExitCode::from(2)
        }
    }
}
