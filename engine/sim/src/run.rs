//! Running seeds: one, or many on several threads. A broken promise ends a world by a panic, which
//! becomes a failure with the last steps before it.

use crate::world::{Detail, Totals, World};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Last steps that a failure shows.
const TRACE_LEN: usize = 60;

/// A seed whose world broke a promise.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Replays it.
    pub seed: u64,
    /// What was wrong.
    pub reason: String,
    /// What happened before, the last steps.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seed = self.seed;
        writeln!(out, "seed {seed} fails. Its last steps:")?;
        for line in &self.trace {
            writeln!(out, "  {line}")?;
        }
        writeln!(out, "seed {seed}: {}", self.reason)?;
        write!(out, "replay: cargo run --release -p tapeloop-sim -- --seed {seed}")
    }
}

/// Runs one seed. A failing one runs again with its trace.
pub fn run_seed(seed: u64) -> Result<Totals, Box<Failure>> {
    match run_once(seed, Detail::None).0 {
        Ok(totals) => Ok(totals),
        Err(reason) => {
            let (again, mut trace) = run_once(seed, Detail::Steps);
            trace.drain(..trace.len().saturating_sub(TRACE_LEN));
            let reason = match again {
                Err(again) if again == reason => reason,
                other => format!("{reason}\nand it does not replay: {other:?}"),
            };
            Err(Box::new(Failure { seed, reason, trace }))
        }
    }
}

/// All that happens in a seed's world.
pub(crate) fn trace_of(seed: u64) -> Vec<String> {
    run_once(seed, Detail::All).1
}

fn run_once(seed: u64, detail: Detail) -> (Result<Totals, String>, Vec<String>) {
    let mut world = World::new(seed, detail);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    let trace = world.rig.trace.take().unwrap_or_default();
    let totals = world.totals;
    (result.map(|()| totals).map_err(|panic| reason_of(panic.as_ref())), trace)
}

fn reason_of(panic: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<String>() {
        return text.clone();
    }
    panic.downcast_ref::<&str>().map_or("a panic without a reason", |text| text).to_owned()
}

/// Runs the seeds from `from` on, `count` of them, on several threads; stops at the first failure.
pub fn run_many(from: u64, count: u64, threads: usize) -> Result<Totals, Box<Failure>> {
    let next = AtomicU64::new(from);
    let failed = AtomicBool::new(false);
    let outcome = Mutex::new((Totals::default(), None::<Box<Failure>>));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let mut totals = Totals::default();
                let mut failure = None;
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count {
                        break;
                    }
                    match run_seed(seed) {
                        Ok(run) => totals.add(&run),
                        Err(found) => {
                            failed.store(true, Ordering::Relaxed);
                            failure = Some(found);
                        }
                    }
                }
                let mut outcome = outcome.lock().expect("no thread panics with it");
                outcome.0.add(&totals);
                // Of several the smallest seed is told.
                let earlier = outcome.1.as_ref().map(|earlier| earlier.seed);
                if let Some(found) = failure.filter(|f| earlier.is_none_or(|seed| f.seed < seed)) {
                    outcome.1 = Some(found);
                }
            });
        }
    });
    match outcome.into_inner().expect("no thread panics with it") {
        (totals, None) => Ok(totals),
        (_, Some(failure)) => Err(failure),
    }
}
