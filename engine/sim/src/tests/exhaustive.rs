//! Every small history, all of it: each order in which the I/O of up to three operations can end, a
//! crash at each step, and at each crash every subset of the sectors that were not durable, with
//! every order of writes to the same sector.
//!
//! Sectors are coarse: a write is its first block and the rest. That is where formats break: a
//! header without its payload, a payload without its header.

use crate::drive::{self, Drive, Lost, Request, Verdict};
use crate::oracle::Oracle;
use crate::rig::Rig;
use crate::rng::Rng;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use tapeloop_format::{BLOCK, Geometry, StoreGeometry};
use tapeloop_log::Event;

const ZONE_SIZE: u64 = 64 << 10;
const MINUTE_MS: u64 = 60_000;
const KEYS: usize = 2;

/// One operation of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    /// One block.
    Put(usize),
    /// A header block and its payload.
    PutLarge(usize),
    Delete(usize),
}

const OPERATIONS: [Operation; 4] =
    [Operation::Put(0), Operation::PutLarge(0), Operation::Delete(0), Operation::Put(1)];

/// What the store went through before, all of it durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Past {
    /// Nothing.
    Fresh,
    /// Key 0 is there.
    Stored,
    /// Key 0 is there, and the open zone has no room for a large object.
    Full,
    /// The next zone is one in its second lap, with a kill that must outlive it: key 0's first
    /// version still lies in another zone, its second one has expired.
    Carry,
}

/// A run that takes its turns as it is told.
struct Path<'a> {
    rig: Rig,
    oracle: Oracle,
    rng: Rng,
    history: &'a [Operation],
    next: usize,
}

/// What has been looked at, over all paths of a history.
#[derive(Default)]
struct Seen {
    states: HashSet<u64>,
    /// Where orders meet again they go on as one.
    nodes: HashSet<u64>,
    paths: u64,
    crashes: u64,
    again: u64,
}

impl<'a> Path<'a> {
    fn new(volumes: u16, past: Past, history: &'a [Operation]) -> Path<'a> {
        let geometry = Geometry::new(ZONE_SIZE, 4).expect("the smallest");
        let geometry = StoreGeometry::new(geometry, volumes).expect("a few volumes");
        let mut rig = Rig::new(geometry, BLOCK, true);
        rig.key(b"live/0.m4s");
        rig.key(b"live/1.m4s");
        rig.key(b"filler");
        let mut rng = Rng::new(1);
        assert!(rig.recover(&mut rng, |_| false));
        let mut path = Path { rig, oracle: Oracle::new(KEYS + 1), rng, history, next: 0 };
        path.drain();
        path.live_through(past);
        path
    }

    fn live_through(&mut self, past: Past) {
        if past != Past::Fresh {
            self.put(0, 900, 600 * MINUTE_MS);
        }
        if past == Past::Full {
            self.put(2, 36_000, 600 * MINUTE_MS);
        }
        if past == Past::Carry {
            // Every zone of every volume in turn; what expires first is the second one.
            let zones = self.rig.geometry.zone_count();
            self.put(2, 36_000, MINUTE_MS);
            self.put(0, 900, MINUTE_MS);
            for _ in 2..zones {
                self.put(2, 36_000, 600 * MINUTE_MS);
            }
            self.rig.pass(2 * MINUTE_MS);
            self.drain();
        }
        // The checkpoint says how far everything is durable.
        self.rig.pass(2000);
        self.drain();
    }

    /// Puts and waits for the end.
    fn put(&mut self, key: usize, len: u64, ttl_ms: u64) {
        self.ask_put(key, len, ttl_ms);
        self.drain();
    }

    fn ask_put(&mut self, key: usize, len: u64, ttl_ms: u64) {
        let version = self.oracle.next_version();
        let expires_min_ms = self.rig.now_ms() + ttl_ms;
        let ticket = self.rig.put(key, version, len, ttl_ms, 0);
        self.oracle.asked(ticket, key, version, Some((expires_min_ms, 0)));
        self.observe();
    }

    fn issue(&mut self) {
        let operation = self.history[self.next];
        self.next += 1;
        match operation {
            Operation::Put(key) => self.ask_put(key, 700, 600 * MINUTE_MS),
            Operation::PutLarge(key) => self.ask_put(key, 18_000, 600 * MINUTE_MS),
            Operation::Delete(key) => {
                let version = self.oracle.next_version();
                let ticket = self.rig.delete(key);
                self.oracle.asked(ticket, key, version, None);
                self.observe();
            }
        }
    }

    fn drain(&mut self) {
        self.rig.drain(&mut self.rng);
        self.observe();
    }

    fn observe(&mut self) {
        let now_ms = self.rig.now_ms();
        for event in std::mem::take(&mut self.rig.events) {
            match event {
                Event::Stored { ticket, location, expires_ms, .. } => {
                    self.oracle.stored(ticket, expires_ms, (location.zone, location.lap));
                }
                Event::Deleted { ticket, existed } => self.oracle.deleted(ticket, existed, now_ms),
                Event::Started => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Reads end at once: when is nothing that a drive remembers.
    fn end_reads(&mut self) {
        for volume in 0..self.rig.drives.len() {
            while let Some(at) = self.read_in_flight(volume) {
                self.rig.complete(&mut self.rng, volume, at);
                self.observe();
            }
        }
    }

    fn read_in_flight(&self, volume: usize) -> Option<usize> {
        let drive = &self.rig.drives[volume];
        let is_read = |at: &usize| matches!(drive.request(*at), Request::Read { .. });
        (0..drive.in_flight()).find(is_read)
    }

    /// What could happen next: the next operation, or the end of any I/O in flight.
    fn turns(&self) -> usize {
        let flights: usize = self.rig.drives.iter().map(Drive::in_flight).sum();
        flights + usize::from(self.next < self.history.len())
    }

    fn take(&mut self, turn: usize) {
        let mut at = turn;
        if self.next < self.history.len() {
            if turn == 0 {
                return self.issue();
            }
            at -= 1;
        }
        for volume in 0..self.rig.drives.len() {
            let flights = self.rig.drives[volume].in_flight();
            if at < flights {
                self.rig.complete(&mut self.rng, volume, at);
                return self.observe();
            }
            at -= flights;
        }
        unreachable!("a turn is one of those there are");
    }

    /// One number for all that decides what can come: the drives, the I/O in flight, the answers.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.next.hash(&mut hasher);
        self.oracle.hash_models(&mut hasher);
        self.rig.drives.iter().for_each(|drive| drive.fingerprint().hash(&mut hasher));
        hasher.finish()
    }

    /// Crashes here, in every way there is.
    fn crash(&mut self, machines: &mut Machines, seen: &mut Seen) {
        seen.crashes += 1;
        let lost: Vec<Lost> = self.rig.drives.iter_mut().map(Drive::lose_pending).collect();
        let mut sectors = Vec::new();
        for (volume, lost) in lost.iter().enumerate() {
            for (offset, choices) in coarse(lost) {
                sectors.push((volume, offset, choices));
            }
        }
        let mut base = DefaultHasher::new();
        self.oracle.hash_models(&mut base);
        self.rig.drives.iter().for_each(|drive| drive.image.hash(&mut base));
        std::mem::swap(&mut machines.rig.drives, &mut self.rig.drives);
        let states: usize = sectors.iter().map(|(_, _, choices)| choices.len() + 1).product();
        for state in 0..states {
            let chosen = choose(&sectors, state);
            let mut fingerprint = base.clone();
            chosen.iter().for_each(|(volume, offset, bytes)| {
                let known = machines.rig.drives[*volume].image.get(offset).copied();
                let print = drive::fingerprint(bytes);
                // What is durable already changes nothing.
                (known != Some(print)).then_some((volume, offset, print)).hash(&mut fingerprint);
            });
            if seen.states.insert(fingerprint.finish()) {
                // All or nothing of what was pending: also what the store that comes up leaves.
                let again = state == 0 || state == states - 1;
                seen.again += u64::from(again);
                check_state(machines, &self.oracle, &chosen, again);
            }
        }
        std::mem::swap(&mut machines.rig.drives, &mut self.rig.drives);
        for (drive, lost) in self.rig.drives.iter_mut().zip(lost) {
            drive.go_back(lost);
        }
    }
}

type Sector<'a> = (usize, u64, Vec<&'a [u8]>);
type Chosen<'a> = (usize, u64, &'a [u8]);

/// The sectors that take new bytes in the n-th of all states.
fn choose<'a>(sectors: &[Sector<'a>], state: usize) -> Vec<Chosen<'a>> {
    let mut rest = state;
    let mut chosen = Vec::new();
    for (volume, offset, choices) in sectors {
        let choice = rest % (choices.len() + 1);
        rest /= choices.len() + 1;
        if choice > 0 {
            chosen.push((*volume, *offset, choices[choice - 1]));
        }
    }
    chosen
}

/// The sectors that a crash may leave old, and what each may become: all writes to it, in order.
fn coarse(lost: &Lost) -> Vec<(u64, Vec<&[u8]>)> {
    let mut sectors: Vec<(u64, Vec<&[u8]>)> = Vec::new();
    for (offset, bytes) in lost.pending() {
        let (first, rest) = bytes.split_at(BLOCK);
        for (offset, part) in [(offset, first), (offset + BLOCK as u64, rest)] {
            if part.is_empty() {
                continue;
            }
            let same = |sector: &&mut (u64, Vec<&[u8]>)| {
                sector.0 == offset && sector.1[0].len() == part.len()
            };
            match sectors.iter_mut().find(same) {
                Some((_, choices)) => choices.push(part),
                None => sectors.push((offset, vec![part])),
            }
        }
    }
    sectors
}

/// Where crashed stores come up. The drives of the first are those of the path, for a moment.
struct Machines {
    rig: Rig,
    copy: Rig,
}

/// A machine that comes up after a crash, with the drives of another still to be put in.
fn machine_after(before: &Rig) -> Rig {
    let mut rig = Rig::new(before.geometry, BLOCK, false);
    for key in &before.keys {
        rig.key(&key.name);
    }
    rig.machine = before.machine;
    rig.machine.boot_id = [2; 16];
    rig
}

fn check_state(
    Machines { rig, copy }: &mut Machines,
    oracle: &Oracle,
    chosen: &[Chosen<'_>],
    again: bool,
) {
    for (volume, offset, bytes) in chosen {
        rig.drives[*volume].show(*offset, Some(bytes), bytes.len());
    }
    check_recovery(rig, oracle);
    if again {
        check_second_crash(rig, copy, oracle);
    }
    rig.abandon();
    rig.drives.iter_mut().for_each(Drive::forget_flights);
    for (volume, offset, bytes) in chosen {
        rig.drives[*volume].show(*offset, None, bytes.len());
    }
}

/// The store comes up, and crashes again with nothing but that behind it.
fn check_second_crash(rig: &Rig, copy: &mut Rig, oracle: &Oracle) {
    let mut rng = Rng::new(2);
    for (drive, other) in copy.drives.iter_mut().zip(&rig.drives) {
        drive.copy_seen(other);
    }
    check_recovery(copy, oracle);
    let found = states(copy);
    copy.drain(&mut rng);
    assert!(copy.events.contains(&Event::Started), "the store does not come up");
    copy.abandon();
    copy.drives.iter_mut().for_each(|drive| drop(drive.lose_pending()));
    check_recovery(copy, oracle);
    copy.abandon();
    assert_eq!(states(copy), found, "another store after a second crash");
}

fn check_recovery(rig: &mut Rig, oracle: &Oracle) {
    let mut rng = Rng::new(3);
    assert!(rig.recover(&mut rng, |_| false));
    assert_eq!(rig.report.findings, [], "damage reported after a mere crash");
    for key in 0..KEYS {
        let seen = rig.look(key).unwrap_or_else(|wrong| panic!("{wrong}"));
        let verdict = oracle.check_recovered(key, &seen, rig.now_ms(), u64::MAX);
        verdict.unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}

fn states(rig: &Rig) -> Vec<crate::reader::Seen> {
    (0..KEYS).map(|key| rig.look(key).expect("just checked")).collect()
}

/// All orders of one history.
fn explore(volumes: u16, past: Past, history: &[Operation], seen: &mut Seen) {
    let mut prefix: Vec<usize> = Vec::new();
    let mut machines = None;
    loop {
        let mut path = Path::new(volumes, past, history);
        let machines = machines.get_or_insert_with(|| Machines {
            rig: machine_after(&path.rig),
            copy: machine_after(&path.rig),
        });
        let mut widths = Vec::new();
        for depth in 0.. {
            path.end_reads();
            // What lies before the last turn that is new was crashed on an earlier path.
            if depth >= prefix.len() {
                if !seen.nodes.insert(path.fingerprint()) {
                    break;
                }
                path.crash(machines, seen);
            }
            let turns = path.turns();
            if turns == 0 {
                assert!(path.oracle.pending.is_empty(), "operations that never end");
                break;
            }
            let turn = prefix.get(depth).copied().unwrap_or(0);
            widths.push((turn, turns));
            path.take(turn);
        }
        seen.paths += 1;
        let Some(last) = widths.iter().rposition(|(turn, turns)| turn + 1 < *turns) else { return };
        prefix = widths[..last].iter().map(|(turn, _)| *turn).collect();
        prefix.push(widths[last].0 + 1);
    }
}

fn histories(operations_max: usize) -> Vec<Vec<Operation>> {
    let mut all: Vec<Vec<Operation>> = vec![Vec::new()];
    let mut from = 0;
    for _ in 0..operations_max {
        let until = all.len();
        for at in from..until {
            for operation in OPERATIONS {
                let mut longer = all[at].clone();
                longer.push(operation);
                all.push(longer);
            }
        }
        from = until;
    }
    all
}

/// Every history from one past; prints and returns how many states there were.
fn explore_all(volumes: u16, past: Past, operations_max: usize) -> usize {
    let all = histories(operations_max);
    let (mut states, mut total) = (0, Seen::default());
    for history in &all {
        let mut seen = Seen::default();
        explore(volumes, past, history, &mut seen);
        states += seen.states.len();
        total.paths += seen.paths;
        total.crashes += seen.crashes;
        total.again += seen.again;
    }
    let (histories, Seen { paths, crashes, again, .. }) = (all.len(), total);
    println!(
        "{volumes} volumes, {past:?}: {histories} histories, {paths} orders, {crashes} crash \
         points, {states} states, {again} second crashes: all checked"
    );
    states
}

#[test]
fn every_state_that_a_crash_can_leave_of_a_fresh_store_is_old_or_new() {
    assert!(explore_all(1, Past::Fresh, 3) > 1000);
}

#[test]
fn every_state_that_a_crash_can_leave_of_overwrites_and_deletes_is_old_or_new() {
    assert!(explore_all(1, Past::Stored, 3) > 1000);
}

#[test]
fn every_state_that_a_crash_can_leave_where_a_zone_ends_is_old_or_new() {
    assert!(explore_all(1, Past::Full, 3) > 1000);
}

#[test]
fn every_state_that_a_crash_can_leave_where_a_zone_is_reused_is_old_or_new() {
    assert!(explore_all(1, Past::Carry, 3) > 1000);
}

#[test]
fn every_state_that_a_crash_can_leave_of_two_volumes_is_old_or_new() {
    for past in [Past::Fresh, Past::Stored, Past::Full, Past::Carry] {
        assert!(explore_all(2, past, 2) > 100);
    }
}

#[test]
fn coarse_sectors_offer_every_write_to_the_same_place() {
    let mut drive = Drive::new(16 << 10, BLOCK);
    let mut rng = Rng::new(1);
    for value in [1, 2] {
        let bytes = vec![value; 2 * BLOCK];
        drive.submit(value.into(), Request::Write { offset: 4096, bytes, is_record: true });
    }
    drive.complete(&mut rng, 0, Verdict::Done).1.expect("done");
    let lost = drive.lose_pending();
    let sectors = coarse(&lost);
    let choices: Vec<(u64, Vec<u8>)> = sectors
        .iter()
        .map(|(offset, choices)| (*offset, choices.iter().map(|bytes| bytes[0]).collect()))
        .collect();
    assert_eq!(choices, [(4096, vec![1, 2]), (8192, vec![1, 2])]);
}
