//! `cargo xtask`: one command per house chore.
//!
//! `test` is what CI runs and what a contributor runs before a commit: everything, in an order that
//! fails early. `lint` is its quick half, `tidy` the house rules alone.
#![forbid(unsafe_code)]

mod faults;
mod instructions;
mod needs;
mod steps;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use steps::Tally;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "One command per house chore.")]
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// All checks and all tests, with the real ffmpeg, a real browser and a few real faults.
    Test,
    /// Real faults on the release binary; tests/faults/README.md says which. Needs root.
    Faults(faults::FaultArgs),
    /// Instructions of the inner loops against the recorded ones.
    Instructions(instructions::InstructionArgs),
    /// Format, clippy, dependencies and house rules: no test is run.
    Lint,
    /// The house rules alone: arrows, unsafe, heads, sizes.
    Tidy,
}

fn main() -> ExitCode {
    let root = root();
    let mut tally = Tally::default();
    match Args::parse().chore {
        Chore::Test => {
            let wanted = needs::ALL.iter().chain(&needs::FAULTS);
            if let Err(missing) = needs::check(&root, wanted) {
                eprintln!("{missing}");
                return ExitCode::from(2);
            }
            lint(&root, &mut tally);
            steps::tests(&root, &mut tally);
            instructions::compare(&root, &mut tally);
            faults::sample(&root, &mut tally);
        }
        Chore::Faults(args) => {
            if let Err(missing) = needs::check(&root, &needs::FAULTS) {
                eprintln!("{missing}");
                return ExitCode::from(2);
            }
            faults::run(&root, &args, &mut tally);
        }
        Chore::Instructions(args) => {
            if let Err(missing) = needs::check(&root, &needs::INSTRUCTIONS) {
                eprintln!("{missing}");
                return ExitCode::from(2);
            }
            instructions::run(&root, &args, &mut tally);
        }
        Chore::Lint => {
            if let Err(missing) = needs::check(&root, &needs::LINT) {
                eprintln!("{missing}");
                return ExitCode::from(2);
            }
            lint(&root, &mut tally);
        }
        Chore::Tidy => steps::tidy(&root, &mut tally),
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    ExitCode::from(u8::from(tally.failed > 0))
}

fn lint(root: &Path, tally: &mut Tally) {
    steps::tidy(root, tally);
    steps::format(root, tally);
    steps::clippy(root, tally);
    steps::deny(root, tally);
}

/// The workspace, wherever the command was called from.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map_or_else(|| here.to_path_buf(), Path::to_path_buf)
}
