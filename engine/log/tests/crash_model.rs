//! Crash consistency, from the outside: a seeded workload on a simulated drive that tears and
//! reorders, crashes at any step, and an oracle that knows only what was acknowledged.
//!
//! `TAPELOOP_SEEDS` sets how many seeds run, `TAPELOOP_SEED` replays one.

mod support;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use support::drive::Drive;
use support::oracle::Oracle;
use support::rig::{Faults, Rig, Seen};
use support::rng::Rng;
use tapeloop_format::Geometry;
use tapeloop_log::{AppendError, Event, GroupPolicy};

/// Seeds that once found a bug which the first few thousand others did not.
const ONCE_BAD: [u64; 1] = [2443];
const TRACE_LEN: usize = 60;
const GUARANTEED: u64 = 11;
const LIMITED: u64 = 22;

struct World {
    rng: Rng,
    rig: Rig,
    oracle: Oracle,
    keys: Vec<Vec<u8>>,
    started: bool,
    servable: Vec<Option<u64>>,
    zones_evicted: u64,
    checkpointed: bool,
    /// What recovery found, before anything could be evicted again.
    recovered: Vec<Seen>,
    trace: VecDeque<String>,
}

macro_rules! note {
    ($world:expr, $($arg:tt)*) => {{
        let line = format!("{} {}", $world.rig.now_ms(), format_args!($($arg)*));
        $world.trace.push_back(line);
        if $world.trace.len() > TRACE_LEN {
            $world.trace.pop_front();
        }
    }};
}

impl World {
    fn new(seed: u64, faulty: bool) -> World {
        let mut rng = Rng::new(seed);
        let zone_size = 64 << (10 + rng.pick(&[0u64, 0, 0, 1, 2, 4]));
        let zone_count = rng.within(4, 25) as u32;
        let geometry = Geometry::new(zone_size, zone_count).expect("within the format's bounds");
        let sector = *rng.pick(&[512, 4096]);
        let with_checkpoint = rng.permille(750);
        let mut rig = Rig::new(geometry, sector, with_checkpoint);
        if rng.permille(400) {
            let limited =
                GroupPolicy { group: LIMITED, quota_bytes: Some(zone_size * 2), guaranteed: false };
            let kept = GroupPolicy { group: GUARANTEED, quota_bytes: None, guaranteed: true };
            rig.groups = vec![limited, kept];
        }
        if faulty {
            rig.faults = faults(&mut rng);
        }
        let key_count = rng.within(2, 30) as usize;
        let long = rng.permille(100);
        let key = |n: usize| match long {
            true => vec![b'a' + n as u8 % 26; 1024 - n],
            false => format!("live/{n}.m4s").into_bytes(),
        };
        World {
            rng,
            rig,
            oracle: Oracle::new(key_count),
            keys: (0..key_count).map(key).collect(),
            started: false,
            servable: vec![None; zone_count as usize],
            zones_evicted: 0,
            checkpointed: with_checkpoint,
            recovered: Vec::new(),
            trace: VecDeque::new(),
        }
    }

    fn run(&mut self) {
        self.recover();
        let steps = self.rng.within(200, 2500);
        for _ in 0..steps {
            self.step();
        }
        self.rest();
        self.close();
        self.crash();
    }

    fn step(&mut self) {
        match self.rng.below(1000) {
            0..360 => self.append(),
            360..860 => {
                self.rig.complete_one(&mut self.rng);
                self.observe();
            }
            860..920 => {
                let ms = self.rng.below(900);
                self.pass(ms);
            }
            920..935 => {
                let ms = self.rng.within(1000, 120_000);
                self.pass(ms);
            }
            935..938 => {
                let ms = self.rng.within(600_000, 7_200_000);
                self.pass(ms);
            }
            938..978 => {
                let key = self.rng.below(self.keys.len() as u64) as usize;
                self.check(key);
            }
            978..984 => self.rest(),
            984..990 => self.crash(),
            990..994 => self.kill(),
            994..997 => self.close_and_reopen(),
            _ => (0..self.keys.len()).for_each(|key| self.check(key)),
        }
    }

    fn append(&mut self) {
        let key = self.rng.below(self.keys.len() as u64) as usize;
        let version = self.oracle.next_version();
        let name = self.keys[key].clone();
        if self.rng.permille(150) {
            let ticket = self.rig.delete(&name);
            note!(self, "delete key {key} as {version}");
            self.oracle.asked(ticket, key, version, None);
        } else {
            let max = tapeloop_log::object_len_max(self.rig.log().directory().geometry().volume());
            let len = match self.rng.below(20) {
                0..9 => self.rng.below(3000),
                9..14 => self.rng.below(20_000),
                14..18 => self.rng.below(150_000),
                18 => self.rng.below(max),
                _ => max - self.rng.below(3) * 4096,
            };
            let ttls = [500, 3000, 20_000, 20_000, 120_000, 600_000, 3_600_000, 20_000_000];
            let ttl_ms = self.rng.within(1, 1500) * self.rng.pick(&ttls) / 1000 + 1;
            let group = match self.rig.groups.is_empty() {
                true => 0,
                false => *self.rng.pick(&[0, 0, 0, LIMITED, GUARANTEED]),
            };
            let ticket = self.rig.put(&name, version, len.min(max), ttl_ms, group);
            note!(self, "put key {key} version {version} len {len} ttl {ttl_ms} group {group}");
            // Waiting for a busy key puts the expiry off, nothing brings it forward.
            let expires_min_ms = self.rig.now_ms() + ttl_ms;
            self.oracle.asked(ticket, key, version, Some((expires_min_ms, group)));
        }
        self.observe();
    }

    fn pass(&mut self, ms: u64) {
        self.rig.pass(ms);
        note!(self, "{ms} ms pass");
        self.observe();
    }

    /// Takes in events and what became of the zones.
    fn observe(&mut self) {
        if self.rig.events.contains(&Event::Started) {
            self.settle();
        }
        self.observe_zones();
        let now_ms = self.rig.now_ms();
        for event in std::mem::take(&mut self.rig.events) {
            note!(self, "{event:?}");
            match event {
                Event::Started | Event::Closed => {}
                Event::Stored { ticket, location, expires_ms, .. } => {
                    self.oracle.stored(ticket, expires_ms, (location.zone, location.lap));
                }
                Event::Deleted { ticket, existed } => self.oracle.deleted(ticket, existed, now_ms),
                Event::Failed { ticket, error } => self.failed(ticket, error),
                Event::Fenced { .. } => {
                    assert!(self.rig.faults_done > 0, "fenced for no reason");
                }
            }
        }
    }

    fn failed(&mut self, ticket: u64, error: AppendError) {
        let faulty = self.rig.faults_done > 0;
        match error {
            AppendError::NoSpace => {
                let guaranteed = self.rig.groups.iter().any(|policy| policy.guaranteed);
                assert!(faulty || guaranteed, "no space, and nothing is guaranteed");
            }
            AppendError::WriteFailed { .. } | AppendError::Fenced(_) => assert!(faulty),
            AppendError::Closing => {}
            AppendError::TooLarge { .. } => panic!("within the limit"),
        }
        self.oracle.failed(ticket, !faulty || error == AppendError::Closing);
    }

    /// A zone that stops being served while something in it is alive was evicted: only under
    /// pressure, never from a guaranteed group.
    fn observe_zones(&mut self) {
        let now_ms = self.rig.now_ms();
        let stats = self.rig.log().stats();
        let mut evicted = 0;
        for zone in 0..self.servable.len() {
            let lap = self.rig.directory.servable_lap(zone as u32);
            let before = std::mem::replace(&mut self.servable[zone], lap);
            let Some(before) = before.filter(|before| lap != Some(*before)) else { continue };
            let alive = self.oracle.alive_in((zone as u32, before), now_ms);
            if alive.is_empty() {
                continue;
            }
            assert!(!alive.contains(&GUARANTEED), "zone {zone} holds guaranteed objects");
            evicted += 1;
            note!(self, "zone {zone} lap {before} evicted");
            self.oracle.evicted.insert((zone as u32, before));
        }
        let counted = stats.zones_evicted - self.zones_evicted;
        self.zones_evicted = stats.zones_evicted;
        assert!(evicted <= counted, "{evicted} zones lost live objects, {counted} were evicted");
        assert!(evicted == 0 || stats.zones_free == 0, "evicted while there were free zones");
    }

    fn check(&mut self, key: usize) {
        let seen = self.look(key);
        let now_ms = self.rig.now_ms();
        let verdict = match self.started {
            true => self.oracle.check(key, &seen, now_ms),
            false => self.oracle.check_recovered(key, &seen, now_ms),
        };
        verdict.unwrap_or_else(|wrong| panic!("{wrong}"));
    }

    fn look(&self, key: usize) -> Seen {
        self.rig.look(&self.keys[key]).unwrap_or_else(|wrong| panic!("key {key}: {wrong}"))
    }

    /// From now on what recovery found is what is true.
    fn settle(&mut self) {
        assert!(!self.started);
        self.started = true;
        self.checkpointed = true;
        for (key, seen) in std::mem::take(&mut self.recovered).iter().enumerate() {
            self.oracle.settle(key, seen);
        }
        note!(self, "settled");
    }

    /// Everything in flight comes to its end; then no operation may be left.
    fn rest(&mut self) {
        for _ in 0..100_000 {
            if !self.rig.complete_one(&mut self.rng) {
                break;
            }
            self.observe();
        }
        assert!(self.rig.log().is_idle(), "nothing is in flight, and the log waits");
        if !self.rig.log().is_read_only() {
            assert!(self.started, "the log never starts");
        }
        let pending = &self.oracle.pending;
        assert!(pending.is_empty(), "operations that never end: {pending:?}");
        assert_eq!(self.rig.log().backlog(), 0);
        (0..self.keys.len()).for_each(|key| self.check(key));
    }

    fn close(&mut self) {
        note!(self, "close");
        self.rig.close();
        let mut closed = false;
        loop {
            closed |= self.rig.events.contains(&Event::Closed);
            self.observe();
            if !self.rig.complete_one(&mut self.rng) {
                break;
            }
        }
        assert!(closed, "the log never closes");
        assert!(self.oracle.pending.is_empty(), "close finishes what was accepted");
    }

    fn close_and_reopen(&mut self) {
        self.close();
        if self.rng.permille(500) {
            return self.crash();
        }
        self.kill();
    }

    /// Power fails; the machine comes up again some time later, its wall clock right or wrong.
    fn crash(&mut self) {
        note!(self, "power fails");
        let (before_ms, started) = (self.rig.now_ms(), self.started);
        self.rig.drive.crash(&mut self.rng);
        let mark = self.rig.marked().map(|checkpoint| checkpoint.clock);
        let machine = &mut self.rig.machine;
        let away_ms = *self.rng.pick(&[0, 500, 5000, 60_000, 4_000_000]);
        // A mark on the drive is never older than ten seconds on a machine that runs; here time
        // leaps.
        let fresh = mark.is_some_and(|mark| before_ms - mark.store_ms <= 10_000);
        if fresh && self.rng.permille(300) {
            machine.wall_ms -= self.rng.below(100_000_000);
        } else if let Some(mark) = mark {
            machine.wall_ms = mark.wall_ms + (before_ms - mark.store_ms) + away_ms;
        }
        machine.boot_id = u128::from(self.rng.next()).to_le_bytes();
        machine.boottime_ms = self.rng.below(100_000);
        self.reopen();
        let after_ms = self.rig.now_ms();
        assert!(
            after_ms >= before_ms || !started,
            "store time went from {before_ms} to {after_ms}"
        );
    }

    fn kill(&mut self) {
        note!(self, "process dies");
        self.rig.drive.kill(&mut self.rng);
        self.rig.machine.boottime_ms += self.rng.below(5000);
        self.reopen();
    }

    fn reopen(&mut self) {
        self.rig.abandon();
        self.oracle.process_gone();
        self.recover();
    }

    fn recover(&mut self) {
        self.started = false;
        let chance = *self.rng.pick(&[0, 0, 5, 50]);
        while !self.rig.recover(&mut self.rng, |rng| rng.permille(chance)) {
            note!(self, "dies in recovery");
            match self.rng.permille(500) {
                true => self.rig.drive.crash(&mut self.rng),
                false => self.rig.drive.kill(&mut self.rng),
            }
        }
        note!(self, "recovered: {:?}", self.rig.report);
        self.zones_evicted = 0;
        for zone in 0..self.servable.len() {
            self.servable[zone] = self.rig.directory.servable_lap(zone as u32);
        }
        if self.checkpointed && self.rig.faults_done == 0 {
            let findings = &self.rig.report.findings;
            assert!(findings.is_empty(), "damage reported after a mere crash: {findings:?}");
        }
        (0..self.keys.len()).for_each(|key| self.check(key));
        self.recovered = (0..self.keys.len()).map(|key| self.look(key)).collect();
        self.observe();
    }
}

fn faults(rng: &mut Rng) -> Faults {
    let mut chance = |permille: u64| if rng.permille(500) { permille } else { 0 };
    let mut faults = Faults {
        record: chance(30),
        header: chance(60),
        footer: chance(60),
        journal: chance(100),
        checkpoint: chance(60),
        read: chance(60),
        flush: chance(3),
        budget: 0,
    };
    faults.budget = rng.within(1, 6) as u32;
    faults
}

fn run_seed(seed: u64, faulty: bool) {
    let mut world = World::new(seed, faulty);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    if let Err(panic) = result {
        eprintln!("seed {seed} (faulty: {faulty}) fails. Its last steps:");
        world.trace.iter().for_each(|line| eprintln!("  {line}"));
        eprintln!("replay: TAPELOOP_SEED={seed} cargo test -p tapeloop-log --test crash_model");
        resume_unwind(panic);
    }
}

/// Enough for every fault that was ever planted in the log; see docs/testing.md.
const SEEDS: u64 = 200;

fn run_seeds(faulty: bool, default: u64) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    if let Some(seed) = number("TAPELOOP_SEED") {
        return run_seed(seed, faulty);
    }
    ONCE_BAD.iter().for_each(|seed| run_seed(*seed, faulty));
    let from = number("TAPELOOP_SEED_FROM").unwrap_or(0);
    for seed in from..from + number("TAPELOOP_SEEDS").unwrap_or(default) {
        run_seed(seed, faulty);
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_dead_comes_back_after_any_crash() {
    run_seeds(false, SEEDS);
}

#[test]
fn neither_are_they_when_the_drive_refuses_io() {
    run_seeds(true, SEEDS);
}

/// The checker's own checker: a drive that forgets a flushed write must be noticed.
#[test]
fn a_sector_is_durable_exactly_when_a_flush_was_asked_for_after_its_write() {
    use support::drive::Request;
    let mut rng = Rng::new(1);
    let mut drive = Drive::new(8192, 512);
    let write = |offset| Request::Write { offset, bytes: vec![9; 512], is_record: false };
    drive.submit(1, write(0));
    let _ = drive.complete(&mut rng, |_, _| false);
    drive.submit(2, Request::Flush);
    drive.submit(3, write(512));
    while drive.in_flight() > 0 {
        let _ = drive.complete(&mut rng, |_, _| false);
    }
    assert_eq!(drive.durable(0, 512), [9; 512]);
    assert_eq!(drive.durable(512, 512), [0; 512]);
    assert_eq!(drive.read(512, 512), [9; 512]);
}
