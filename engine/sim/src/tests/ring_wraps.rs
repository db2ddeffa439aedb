//! The ring goes round: mixed TTLs, overwrites and deletes over many laps, restarts in between, and
//! the order in which zones give way under pressure.

use crate::reader::{Seen, SlowReader};
use crate::rig::Rig;
use crate::rng::Rng;
use std::collections::BTreeMap;
use tapeloop_format::{Geometry, StoreGeometry};
use tapeloop_log::{AppendError, Event, GroupPolicy};

const ZONE_SIZE: u64 = 64 << 10;
const MINUTE_MS: u64 = 60_000;

/// What was acknowledged last under a key: version and expiry, or nothing.
type Truth = BTreeMap<usize, Option<(u64, u64)>>;

struct Ring {
    rng: Rng,
    rig: Rig,
    truth: Truth,
    version: u64,
}

impl Ring {
    fn new(seed: u64, volumes: u16, zone_count: u32, groups: Vec<GroupPolicy>) -> Ring {
        let geometry = Geometry::new(ZONE_SIZE, zone_count).expect("a small geometry");
        let geometry = StoreGeometry::new(geometry, volumes).expect("a few volumes");
        Ring::of(seed, geometry, groups)
    }

    fn of(seed: u64, geometry: StoreGeometry, groups: Vec<GroupPolicy>) -> Ring {
        let mut rng = Rng::new(seed);
        let mut rig = Rig::new(geometry, 512, true);
        rig.groups = groups;
        assert!(rig.recover(&mut rng, |_| false));
        rig.drain(&mut rng);
        assert_eq!(std::mem::take(&mut rig.events), [Event::Started]);
        Ring { rng, rig, truth: Truth::new(), version: 0 }
    }

    /// Puts and waits for the end.
    fn put(&mut self, key: &[u8], len: u64, ttl_ms: u64, group: u64) -> Result<(), AppendError> {
        self.version += 1;
        let key = self.rig.key(key);
        let ticket = self.rig.put(key, self.version, len, ttl_ms, group);
        self.rig.drain(&mut self.rng);
        let events = std::mem::take(&mut self.rig.events);
        assert_eq!(events.len(), 1, "one operation, one event");
        match events[0] {
            Event::Stored { ticket: stored, expires_ms, .. } if stored == ticket => {
                self.truth.insert(key, Some((self.version, expires_ms)));
                Ok(())
            }
            Event::Failed { ticket: failed, error } if failed == ticket => Err(error),
            other => panic!("{other:?}"),
        }
    }

    fn delete(&mut self, key: &[u8]) {
        let key = self.rig.key(key);
        self.rig.delete(key);
        self.rig.drain(&mut self.rng);
        assert!(matches!(self.rig.events[..], [Event::Deleted { .. }]));
        self.rig.events.clear();
        self.truth.insert(key, None);
    }

    fn restart(&mut self, power: bool) {
        match power {
            true => self.rig.drives.iter_mut().for_each(|drive| drive.crash(&mut self.rng)),
            false => {
                self.rig.close();
                self.rig.drain(&mut self.rng);
                assert_eq!(self.rig.events.last(), Some(&Event::Closed));
            }
        }
        self.rig.abandon();
        assert!(self.rig.recover(&mut self.rng, |_| false));
        assert_eq!(self.rig.report.findings, []);
        self.rig.drain(&mut self.rng);
        self.rig.events.clear();
    }

    /// Every key is what was acknowledged last, or expired, or gone under pressure. How many are
    /// served.
    fn check(&self) -> usize {
        let now_ms = self.rig.now_ms();
        let mut served = 0;
        for (key, truth) in &self.truth {
            match (self.rig.look(*key).expect("what is served verifies"), truth) {
                (Seen::Nothing, _) => {}
                (Seen::Object { version, expires_ms, .. }, Some(truth)) => {
                    assert_eq!((version, expires_ms), *truth, "an old version came back");
                    assert!(expires_ms > now_ms, "an expired object is served");
                    served += 1;
                }
                (Seen::Object { .. }, None) => panic!("a deleted object came back"),
                (seen, _) => panic!("{seen:?} on drives that are well"),
            }
        }
        served
    }

    fn is_served(&mut self, key: &[u8]) -> bool {
        let key = self.rig.key(key);
        self.rig.look(key).expect("what is served verifies") != Seen::Nothing
    }

    fn laps(&self) -> u64 {
        let zones = 0..self.rig.geometry.zone_count();
        zones.filter_map(|zone| self.rig.directory.servable_lap(zone)).max().unwrap_or(0)
    }
}

#[test]
fn forty_laps_of_mixed_lives_serve_nothing_expired_deleted_or_overwritten() {
    let mut ring = Ring::new(7, 1, 12, Vec::new());
    let mut served = 0;
    for step in 0..6000u64 {
        let key = format!("live/{}", ring.rng.below(60)).into_bytes();
        if ring.rng.permille(150) {
            ring.delete(&key);
        } else {
            let len = *ring.rng.pick(&[200, 3000, 9000, 30_000]);
            let ttl_ms = *ring.rng.pick(&[2_000, 30_000, 10 * MINUTE_MS, 120 * MINUTE_MS]);
            ring.put(&key, len, ttl_ms, 0).expect("a ring without guarantees always has space");
        }
        let ms = ring.rng.below(1500);
        ring.rig.pass(ms);
        if step % 50 == 0 {
            ring.check();
        }
        if step % 400 == 399 {
            served += ring.check();
            ring.restart(step % 800 == 799);
            ring.check();
        }
    }
    assert!(served > 100, "the check has something to look at, not {served} objects");
    assert!(ring.laps() >= 40, "{} laps", ring.laps());
}

#[test]
fn nothing_unexpired_is_lost_while_the_ring_has_room() {
    let mut ring = Ring::new(8, 1, 16, Vec::new());
    for step in 0..4000u64 {
        // 20 keys of at most 9 KiB live at any time: less than a quarter of the ring.
        let key = format!("live/{}", step % 20).into_bytes();
        ring.put(&key, 9000, MINUTE_MS, 0).expect("there is room");
        ring.rig.pass(2500);
        let now_ms = ring.rig.now_ms();
        let alive = ring.truth.values().flatten().filter(|(_, at)| *at > now_ms).count();
        assert_eq!(ring.check(), alive);
        if step % 500 == 499 {
            ring.restart(true);
            let now_ms = ring.rig.now_ms();
            let alive = ring.truth.values().flatten().filter(|(_, at)| *at > now_ms).count();
            assert_eq!(ring.check(), alive);
        }
    }
    assert_eq!(ring.rig.log().stats().zones_evicted, 0);
    assert!(ring.laps() >= 20, "{} laps", ring.laps());
}

#[test]
fn under_pressure_the_zone_nearest_its_expiry_gives_first() {
    let mut ring = Ring::new(9, 1, 12, Vec::new());
    // What is being appended to is the live edge and does not give: the second object closes the
    // zone.
    ring.put(b"short", 36_000, 10 * MINUTE_MS, 0).expect("room");
    ring.put(b"edge", 36_000, 10 * MINUTE_MS, 0).expect("room");
    ring.put(b"long", 36_000, 100 * MINUTE_MS, 0).expect("room");
    for step in 0.. {
        let evicted = ring.rig.log().stats().zones_evicted;
        let (short, long) = (ring.is_served(b"short"), ring.is_served(b"long"));
        assert!(long || !short, "the one with more life went first");
        assert!(evicted > 0 || short);
        if !short {
            break;
        }
        assert!(step < 100, "the ring is full and nothing gives");
        ring.put(format!("fill/{step}").as_bytes(), 36_000, 100 * MINUTE_MS, 0).expect("room");
    }
    assert!(ring.is_served(b"long"));
}

#[test]
fn a_group_over_its_quota_gives_before_anything_nearer_its_expiry() {
    let limited = GroupPolicy { group: 5, quota_bytes: Some(ZONE_SIZE), guaranteed: false };
    let mut ring = Ring::new(10, 1, 16, vec![limited]);
    ring.put(b"shared", 36_000, 10 * MINUTE_MS, 0).expect("room");
    for step in 0..40 {
        ring.put(format!("limited/{step}").as_bytes(), 36_000, 500 * MINUTE_MS, 5).expect("room");
    }
    assert!(ring.rig.log().stats().zones_evicted > 10);
    assert!(ring.is_served(b"shared"), "the group in its limits lost what another one needed");
    assert!(ring.is_served(b"limited/39"));
    assert!(!ring.is_served(b"limited/0"));
}

#[test]
fn a_guaranteed_group_never_gives_and_puts_fail_instead() {
    let kept = GroupPolicy { group: 6, quota_bytes: None, guaranteed: true };
    let mut ring = Ring::new(11, 1, 8, vec![kept]);
    let mut refused = 0;
    for step in 0..30 {
        let key = format!("kept/{step}").into_bytes();
        match ring.put(&key, 36_000, 100 * MINUTE_MS, 6) {
            Ok(()) => assert_eq!(refused, 0, "space appeared from nowhere"),
            Err(error) => {
                assert_eq!(error, AppendError::NoSpace);
                refused += 1;
            }
        }
    }
    assert!(refused > 15);
    let kept = ring.truth.len();
    assert!(kept >= 6, "{kept} objects in 8 zones");
    assert_eq!(ring.check(), kept, "nothing guaranteed is lost");
    assert_eq!(ring.put(b"other", 36_000, MINUTE_MS, 0), Err(AppendError::NoSpace));
    ring.restart(true);
    assert_eq!(ring.check(), kept);
    // Expiry makes room again.
    ring.rig.pass(101 * MINUTE_MS);
    ring.rig.drain(&mut ring.rng);
    ring.put(b"other", 36_000, MINUTE_MS, 0).expect("everything has expired");
    assert_eq!(ring.check(), 1);
}

#[test]
fn an_idle_log_writes_nothing_but_a_checkpoint_within_ten_seconds() {
    let mut ring = Ring::new(12, 1, 8, Vec::new());
    ring.put(b"key", 1000, MINUTE_MS, 0).expect("room");
    ring.rig.pass(1000);
    ring.rig.drain(&mut ring.rng);
    let before = ring.rig.log().stats();
    for _ in 0..100 {
        ring.rig.pass(500);
        ring.rig.drain(&mut ring.rng);
        let mark = ring.rig.marked().expect("there are checkpoints").clock;
        assert!(ring.rig.now_ms() - mark.store_ms <= 10_000, "the clock mark is stale");
    }
    let after = ring.rig.log().stats();
    let writes = (after.bytes_written - before.bytes_written) / 4096;
    assert!((5..=7).contains(&writes), "{writes} checkpoints in 50 idle seconds");
    assert_eq!(after.flushes - before.flushes, writes);
}

#[test]
fn the_largest_object_finds_a_place_in_every_state_of_the_ring() {
    let mut ring = Ring::new(13, 1, 6, Vec::new());
    let max = tapeloop_log::object_len_max(ring.rig.geometry.volume());
    for step in 0..200u64 {
        let key = format!("{}", step % 7).into_bytes();
        let len = if step % 3 == 0 { max } else { ring.rng.below(9000) };
        ring.put(&key, len, 10 * MINUTE_MS, 0).expect("nothing is guaranteed");
        if step % 5 == 0 {
            ring.delete(&key);
        }
    }
    assert!(ring.laps() >= 10);
}

#[test]
fn objects_of_several_reads_are_served_whole_or_not_at_all_while_zones_are_reused() {
    let geometry = Geometry::new(1 << 20, 6).expect("zones for several large objects");
    let geometry = StoreGeometry::new(geometry, 1).expect("one volume");
    let mut ring = Ring::of(14, geometry, Vec::new());
    let mut readers: Vec<SlowReader> = Vec::new();
    let (mut served, mut whole, mut moved) = (0, 0, 0);
    for step in 0..400u64 {
        let key = format!("dvr/{}", ring.rng.below(12)).into_bytes();
        let len = *ring.rng.pick(&[200_000, 262_144, 262_145, 500_000, 900_000]);
        ring.put(&key, len, 10 * MINUTE_MS, 0).expect("a ring without guarantees always has space");
        let ms = ring.rng.below(1500);
        ring.rig.pass(ms);
        let key = ring.rig.key(&key);
        readers.extend(ring.rig.begin_slow(key));
        let at = ring.rng.index(readers.len());
        let goes_on = readers[at].read_on(&ring.rig).expect("every byte given out is the object's");
        if !goes_on || readers.len() > 8 {
            let reader = readers.swap_remove(at);
            whole += u64::from(reader.is_done());
            moved += u64::from(!goes_on && !reader.is_done());
        }
        if step % 10 == 0 {
            served += ring.check();
        }
    }
    assert!(
        served > 100 && whole > 20 && moved > 20,
        "{served} served, {whole} and {moved} slowly"
    );
}
