//! The slice for every day: seeds that once found a bug, the first ones, and fresh ones each time.

use crate::faults::Faults;
use crate::rng::Rng;
use crate::run::{run_many, run_seed};
use crate::world::{Detail, World};
use std::time::{Duration, Instant};

/// Seeds that once failed, and what they had found.
const ONCE_BAD: [(u64, &str); 5] = [
    (50_005_988, "a kill is forgotten when its victim's zone cannot be made ready"),
    (50_007_048, "a volume that missed a start wins against who served without it"),
    (130_504_561_827_703, "the oracle forgets a damaged checkpoint that a crash tears once more"),
    (222_000_383, "a dropped record returns when the void before it cannot be read"),
    (6_588, "the oracle asks an old checkpoint what a newer one knew"),
];
/// The same every day.
const FIXED: u64 = 60;
/// Fresh seeds go on for so long.
const FRESH: Duration = Duration::from_secs(12);

#[test]
fn nothing_acknowledged_is_lost_and_nothing_dead_comes_back_after_any_crash() {
    for (seed, name) in ONCE_BAD {
        run_seed(seed).unwrap_or_else(|failure| panic!("{name} is back: {failure}"));
    }
    run_many(0, FIXED, 1).unwrap_or_else(|failure| panic!("{failure}"));
    // One seed a batch, until the time is up: how many there are is no part of the promise.
    let base = fresh_base();
    let (begun, mut next) = (Instant::now(), base);
    while begun.elapsed() < FRESH {
        run_seed(next).unwrap_or_else(|failure| panic!("{failure}"));
        next += 1;
    }
    println!("fresh seeds {base}..{next}");
}

#[test]
fn neither_are_they_when_the_drive_refuses_io() {
    let mut faults = 0;
    for seed in 0..40 {
        let mut world = World::new(seed, Detail::None);
        world.rig.faults = Faults::refusing(&mut Rng::new(seed), world.rig.drives.len());
        world.run();
        faults += u64::from(world.rig.faults.done);
    }
    assert!(faults > 100, "{faults} faults");
}

fn fresh_base() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the machine has chance to give");
    let base = u64::from_le_bytes(bytes) >> 16;
    println!("seed base {base}");
    base
}

#[test]
fn a_seed_replays_to_the_same_trace() {
    for seed in 0..20 {
        let hashes = [0, 1].map(|_| run_seed(seed).map(|totals| totals.trace_hash));
        let [first, second] = hashes.map(|hash| hash.unwrap_or_else(|f| panic!("{f}")));
        assert_eq!(first, second, "seed {seed}");
        let other = run_seed(seed + 1000).unwrap_or_else(|failure| panic!("{failure}"));
        assert_ne!(first, other.trace_hash, "another seed is another world");
    }
}
