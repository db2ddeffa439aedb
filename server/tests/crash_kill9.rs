//! Done-when 3: kill -9 under load, again and again, with an oracle outside the killed process.
//!
//! Writer threads PUT, overwrite, DELETE and GET; the oracle in this process remembers what was
//! acknowledged. At a random moment the server is killed and started again on the same store. Then
//! every acknowledged object must be there byte for byte, every deleted one gone, and an operation
//! that was under way has happened wholly or not at all.
//!
//! `TAPELOOP_KILLS` sets the number of kills (CI runs 20), `TAPELOOP_SEED` the seed,
//! `TAPELOOP_BINARY` another tapeloop than the one just built, and `TAPELOOP_FSCK=path/to/tapectl`
//! has each store checked after each kill. The release binary has a thousand kills of its own in
//! tests/faults.

mod crash;

use crash::oracle::{Eviction, Oracle, Tally};
use crash::server::{Server, Store};
use crash::{Random, load, seed};

const WRITERS: usize = 4;

/// What a run is like.
struct Scenario {
    capacity_mib: u64,
    eviction: Eviction,
    /// The least number of kills.
    kills: u64,
    /// Payload bytes to store at least, with more kills if need be.
    bytes_min: u64,
    /// A kill comes after at most so many acknowledgements.
    acknowledged_max: u64,
    /// Payload bytes after which a store is given up for a fresh one.
    bytes_per_store: u64,
}

fn kills(default: u64) -> u64 {
    std::env::var("TAPELOOP_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(default)
}

#[test]
fn no_acknowledged_object_is_lost_or_changed_by_kill_9_under_load() {
    // Large enough that nothing is evicted: absence is loss.
    let scenario = Scenario {
        capacity_mib: 512,
        eviction: Eviction::Never,
        kills: kills(20),
        bytes_min: 0,
        acknowledged_max: 400,
        bytes_per_store: 300 << 20,
    };
    let tally = run(&scenario);
    println!("{tally:?}");
    assert!(tally.verified > scenario.kills, "{tally:?}");
    assert!(tally.in_doubt > 0, "no kill ever hit an operation under way: {tally:?}");
}

#[test]
fn nothing_comes_back_from_the_dead_when_a_wrapping_ring_is_killed() {
    // Small enough that the ring wraps all the time. An object may be gone, by eviction; an older
    // version of it, or one that was deleted, must never be served.
    let scenario = Scenario {
        capacity_mib: 32,
        eviction: Eviction::Happens,
        kills: kills(20) / 2,
        bytes_min: 5 * (32 << 20),
        acknowledged_max: 2_000,
        bytes_per_store: u64::MAX,
    };
    let tally = run(&scenario);
    println!("{tally:?}");
    assert!(tally.verified > scenario.kills, "{tally:?}");
}

#[test]
fn a_server_killed_while_it_makes_its_store_makes_it_the_next_time() {
    let mut random = Random::new(seed());
    let store = Store::new(512);
    for _ in 0..8 {
        Server::start_and_kill(&store, random.below(150));
    }
    Server::start(&store).stop();
    store.fsck();
}

fn run(scenario: &Scenario) -> Tally {
    let seed = seed();
    let mut random = Random::new(seed);
    let mut tally = Tally::default();
    let goes_on =
        |tally: &Tally| tally.kills < scenario.kills || tally.stored_bytes < scenario.bytes_min;
    while goes_on(&tally) {
        let store = Store::new(scenario.capacity_mib);
        let mut oracles: Vec<Oracle> = (0..WRITERS)
            .map(|writer| Oracle::new(writer, random.next(), scenario.eviction))
            .collect();
        let mut server = Server::start(&store);
        let mut stored = 0;
        while goes_on(&tally) && stored < scenario.bytes_per_store {
            let acknowledged = load::until_killed(
                &mut server,
                &mut oracles,
                1 + random.below(scenario.acknowledged_max),
                random.below(3_000),
            );
            stored += acknowledged;
            tally.stored_bytes += acknowledged;
            if random.below(4) == 0 {
                // Recovery may be killed too, and run again.
                Server::start_and_kill(&store, random.below(60));
                tally.recoveries_killed += 1;
            }
            store.fsck();
            server = Server::start(&store);
            tally.slowest_restart_ms = tally.slowest_restart_ms.max(server.started_in_ms());
            tally.kills += 1;
            for oracle in &mut oracles {
                oracle.settle(&server, &mut tally).unwrap_or_else(|wrong| {
                    panic!("seed {seed}, kill {}: {wrong}\n{}", tally.kills, store.complaints())
                });
            }
        }
        server.stop();
    }
    tally
}
