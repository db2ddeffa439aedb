//! The command line of the simulator.

use crate::faults::FAULT_NAMES;
use crate::run::{run_many, run_seed, trace_of};
use crate::world::Totals;
use clap::Parser;
use std::process::ExitCode;
use std::time::Instant;

/// Runs the log of tapeloop in simulated worlds.
#[derive(Parser)]
#[command(name = "tapeloop-sim")]
struct Args {
    /// Replay one seed, twice, and compare its two traces.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// With --seed: print everything that happens.
    #[arg(long)]
    trace: bool,
    /// Run so many seeds.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Threads; by default one per core.
    #[arg(long)]
    threads: Option<usize>,
    /// Plant bugs in the log, one after the other, and count the seeds until each is found.
    #[arg(long)]
    planted: bool,
}

#[cfg(tapeloop_planted)]
use crate::planted::examine;

#[cfg(not(tapeloop_planted))]
fn examine(_from: u64, _threads: usize) -> ExitCode {
    eprintln!(
        "nothing can be planted here: RUSTFLAGS=\"--cfg tapeloop_planted\" CARGO_TARGET_DIR=\
         target/planted cargo run --release -p tapeloop-sim -- --planted"
    );
    ExitCode::from(2)
}

/// Parses the command line and obeys: 0 clean, 1 a broken promise.
pub fn main() -> ExitCode {
    // A failing seed is told once, with its trace; panics on the way are part of the search.
    std::panic::set_hook(Box::new(|_| {}));
    let args = Args::parse();
    if args.planted {
        return examine(args.from, threads(&args));
    }
    match args.seed {
        Some(seed) => replay(seed, args.trace),
        None => search(&args),
    }
}

fn replay(seed: u64, trace: bool) -> ExitCode {
    if trace {
        trace_of(seed).iter().for_each(|line| println!("{line}"));
    }
    let (first, second) = match (run_seed(seed), run_seed(seed)) {
        (Ok(first), Ok(second)) => (first, second),
        (Err(failure), _) | (_, Err(failure)) => {
            eprintln!("{failure}");
            return ExitCode::from(1);
        }
    };
    print(&first);
    let (one, two) = (first.trace_hash, second.trace_hash);
    println!("trace hash {one:016x}, again {two:016x}");
    if one != two {
        eprintln!("seed {seed} does not replay");
        return ExitCode::from(1);
    }
    ExitCode::SUCCESS
}

fn threads(args: &Args) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    args.threads.unwrap_or(cores)
}

fn search(args: &Args) -> ExitCode {
    let (count, threads) = (args.seeds.unwrap_or(1000), threads(args));
    let begun = Instant::now();
    match run_many(args.from, count, threads) {
        Ok(totals) => {
            print(&totals);
            let wall_s = begun.elapsed().as_secs_f64();
            let per_s = totals.crashes as f64 / wall_s;
            println!("{wall_s:.1} s on {threads} threads, {per_s:.0} crashes/s, 0 violations");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(1)
        }
    }
}

fn print(totals: &Totals) {
    println!("seeds {}", totals.seeds);
    println!(
        "crashes {} ({} power cuts, {} deaths of the process)",
        totals.crashes,
        totals.crashes - totals.kills,
        totals.kills
    );
    println!(
        "crashes during recovery {} ({} while reading, {} before the store served)",
        totals.crashes_in_recovery(),
        totals.crashes_reading,
        totals.crashes_starting
    );
    println!("operations acknowledged {}, looks at keys {}", totals.operations, totals.looks);
    for (name, count) in FAULT_NAMES.iter().zip(totals.faults) {
        println!("  {name}: {count}");
    }
}
