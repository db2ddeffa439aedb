//! Real faults on the release binary: builds it, then calls the runner of tests/faults, whose runs
//! count like tests.

use std::path::Path;
use std::process::Command;

use clap::Args;

use crate::steps::{self, Tally};

/// Faults of a sample at a time: most of them wait most of the time.
const SAMPLE_JOBS: &str = "2";

/// What to run.
#[derive(Args, Debug)]
pub(crate) struct FaultArgs {
    /// Faults by name, all if none is given.
    names: Vec<String>,
    /// Runs of each, instead of its full count.
    #[arg(long)]
    times: Option<u32>,
    /// A few runs of each, as in `cargo xtask test`.
    #[arg(long, conflicts_with = "times")]
    sample: bool,
    /// The seed of an earlier run.
    #[arg(long)]
    seed: Option<u64>,
}

/// What CI runs.
pub(crate) fn sample(root: &Path, tally: &mut Tally) {
    run(root, &FaultArgs { names: Vec::new(), times: None, sample: true, seed: None }, tally);
}

pub(crate) fn run(root: &Path, args: &FaultArgs, tally: &mut Tally) {
    // A slip of the pen is told before the build.
    if !runner(root, args).arg("--check").status().is_ok_and(|status| status.success()) {
        return tally.count(false);
    }
    let build = ["build", "--release", "-p", "tapeloop-server", "-p", "tapeloop-tools"];
    let mut is_built = false;
    steps::timed("release binary", || {
        is_built = steps::cargo(root, &build);
        tally.count(is_built);
    });
    if is_built {
        steps::timed("faults", || steps::counted(runner(root, args), tally));
    }
}

fn runner(root: &Path, args: &FaultArgs) -> Command {
    let python = ["python3", "-uB", "tests/faults/run.py"];
    let mut command = if is_root() {
        Command::new(python[0])
    } else {
        let mut command = Command::new("sudo");
        command.args(["-n", "-E", python[0]]);
        command
    };
    command.args(&python[1..]).arg("--binaries").arg(steps::release(root)).current_dir(root);
    if args.sample {
        command.args(["--sample", "--jobs", SAMPLE_JOBS]);
    }
    if let Some(times) = args.times {
        command.args(["--times", &times.to_string()]);
    }
    if let Some(seed) = args.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    command.args(&args.names);
    command
}

fn is_root() -> bool {
    let asked = Command::new("id").arg("-u").output();
    asked.is_ok_and(|answer| answer.stdout == b"0\n")
}
