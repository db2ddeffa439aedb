//! The simulator's own examination: every bug that can be planted in the log has to be found.

use crate::run::run_seed;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tapeloop_log::{Bug, plant};

/// Seeds that a bug may survive.
const SEEDS_MAX: u64 = 10_000;

/// How a bug fared.
struct Hunt {
    bug: Bug,
    /// Seeds it took, and what gave it away.
    found: Option<(u64, String)>,
}

/// Plants each bug in turn and prints how many seeds it took to find it.
pub(crate) fn examine(from: u64, threads: usize) -> ExitCode {
    let next = AtomicUsize::new(0);
    let hunts = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some(bug) = Bug::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let hunt = hunt(*bug, from);
                    hunts.lock().expect("no thread panics with it").push(hunt);
                }
            });
        }
    });
    let mut hunts = hunts.into_inner().expect("no thread panics with it");
    hunts.sort_by_key(|hunt| hunt.found.as_ref().map_or(u64::MAX, |(seeds, _)| *seeds));
    println!("| planted bug | seeds | what gave it away |\n|---|---|---|");
    for Hunt { bug, found } in &hunts {
        match found {
            Some((seeds, reason)) => println!("| {} | {seeds} | {reason} |", bug.what()),
            None => println!("| {} | NOT in {SEEDS_MAX} | |", bug.what()),
        }
    }
    let killed = hunts.iter().filter(|hunt| hunt.found.is_some()).count();
    println!("{killed} of {} killed", hunts.len());
    if killed == hunts.len() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

fn hunt(bug: Bug, from: u64) -> Hunt {
    plant(Some(bug));
    let failure = (from..from + SEEDS_MAX).find_map(|seed| run_seed(seed).err());
    plant(None);
    let found = failure.map(|failure| {
        let reason = failure.reason.lines().next().unwrap_or_default();
        (failure.seed - from + 1, reason.chars().take(60).collect())
    });
    Hunt { bug, found }
}
