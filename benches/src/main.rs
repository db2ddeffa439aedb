//! The harness that measures tapeloop beside its peers, and its restart.
//!
//! Every figure of docs/performance.md is printed by one of these commands. Loopback only, bounded
//! in time; processes and files of a run go away with it, however it ends.
#![forbid(unsafe_code)]

mod agree;
mod binaries;
mod budgets;
mod cgroup;
mod client;
mod compare;
mod error;
mod figures;
mod limits;
mod machine;
mod plot;
mod proc_fs;
mod process;
mod report;
mod restart;
mod results;
mod scratch;
mod tapeloop;
mod text;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(about = "Measures tapeloop beside its peers, and its restart.")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// kill -9 with many small objects: memory per object and time to the first good GET.
    Restart(restart::RestartArgs),
    /// nginx and tapeloop in turn on this machine and disk: GETs, durable PUTs, DVR under ingest.
    Compare(compare::CompareArgs),
    /// Whether two stored comparisons agree within the ranges they state.
    Agree(agree::AgreeArgs),
    /// The tables of docs/performance.md, from stored comparisons taken as one.
    Report(report::ReportArgs),
    /// Draws the plots of stored results again.
    Plot(plot::PlotArgs),
    /// Fills a store and goes on writing until it is killed.
    #[command(hide = true)]
    RestartFill(restart::FillArgs),
}

fn main() -> ExitCode {
    let command = Args::parse().command;
    process::clean_up_on_signals();
    limits::raise_files_max();
    let result = match command {
        Command::Restart(args) => restart::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Agree(args) => agree::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Plot(args) => plot::run(&args),
        Command::RestartFill(args) => restart::fill(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            process::wait_if_stopping();
            eprintln!("tapeloop-benches: {error}");
            ExitCode::from(2)
        }
    }
}
