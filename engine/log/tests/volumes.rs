//! One log over several volumes: who takes the write head, what a fence does, what a slow or a
//! missing volume costs, and that an old version never comes back from a drive that failed.

#[path = "volumes/store.rs"]
#[allow(dead_code, reason = "each test program uses its part")]
mod store;

use store::{Keep, Seen, Store};
use tapeloop_log::{AppendError, Event, IoFailure};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const GONE: IoFailure = IoFailure { errno: 19 };

/// A record that fills more than half of a zone: every one goes to a zone of its own.
const LARGE: u64 = 36_000;

#[test]
fn the_write_head_goes_round_the_volumes() {
    let mut store = Store::new(3, 8);
    let volumes: Vec<u16> = (0..12)
        .map(|step| {
            let key = format!("seg/{step}");
            store.put(&key, 1, LARGE, HOUR_MS).expect("room");
            store.volume_of(&key)
        })
        .collect();
    for round in volumes.chunks(3) {
        let mut round = round.to_vec();
        round.sort_unstable();
        assert_eq!(round, [0, 1, 2], "of {volumes:?}");
    }
}

#[test]
fn a_fenced_volume_hands_its_unfinished_records_to_another() {
    let mut store = Store::new(2, 8);
    store.put("old", 1, 500, HOUR_MS).expect("room");
    let old = store.volume_of("old");
    let hung = old;
    store.freeze(hung, true);
    let tickets: Vec<u64> =
        (0..5).map(|step| store.begin_put(&format!("new/{step}"), 1, 500, HOUR_MS)).collect();
    store.run();
    assert_eq!(store.events, [], "the drive has not answered");
    store.fence(hung, GONE);
    store.run();
    let stored = tickets.iter().filter(|ticket| store.is_stored(**ticket)).count();
    assert_eq!(stored, 5, "{:?}", store.events);
    assert!(store.events.contains(&Event::Fenced { volume: hung, failure: GONE }));
    for step in 0..5 {
        assert_ne!(store.volume_of(&format!("new/{step}")), hung);
    }
    assert_eq!(store.look("old"), Seen::Version(1), "what was durable is served on");
    assert_eq!(store.log().stats().records_replaced, 5);
    assert!(!store.log().is_read_only());
    // What the drive answers after all counts for nothing.
    store.freeze(hung, false);
    store.run();
    store.check_no_writes_to(hung);
}

#[test]
fn a_failed_flush_fences_its_own_volume_and_the_put_still_succeeds() {
    let mut store = Store::new(2, 8);
    store.put("key", 1, 500, HOUR_MS).expect("room");
    let bad = store.volume_of("key");
    store.fail_flushes(bad, true);
    store.put("key", 2, 500, HOUR_MS).expect("the other volume takes it");
    assert_ne!(store.volume_of("key"), bad);
    assert_eq!(store.log().fenced(bad), Some(IoFailure { errno: 5 }));
    assert_eq!(store.log().fenced(1 - bad), None);
    assert_eq!(store.look("key"), Seen::Version(2));
    store.fail_flushes(bad, false);
    store.crash(Keep::Everything);
    assert_eq!(store.look("key"), Seen::Version(2));
}

#[test]
fn with_the_last_volume_fenced_everything_fails_and_what_was_durable_is_served() {
    let mut store = Store::new(2, 8);
    store.put("key", 1, 500, HOUR_MS).expect("room");
    store.freeze(0, true);
    store.freeze(1, true);
    let ticket = store.begin_put("key", 2, 500, HOUR_MS);
    store.run();
    store.fence(0, GONE);
    store.fence(1, GONE);
    store.run();
    let error = AppendError::Fenced(GONE);
    assert!(store.events.contains(&Event::Failed { ticket, error }), "{:?}", store.events);
    assert!(store.log().is_read_only());
    assert_eq!(store.put("other", 1, 500, HOUR_MS), Err(error));
    assert_eq!(store.look("key"), Seen::Version(1));
    store.log().close();
    store.run();
    assert!(store.events.contains(&Event::Closed));
}

/// Every zone that can be reused is reused, some of them before their time.
fn go_round(store: &mut Store) {
    for step in 0..60 {
        store.put(&format!("fill/{step}"), 1, LARGE, 15 * HOUR_MS).expect("room");
    }
}

/// The ghost: version 2 lies whole on a drive that was fenced before its flush; its re-placement
/// and what superseded that have expired, and their zones are in use for other things.
#[test]
fn a_ghost_on_a_fenced_volume_never_comes_back() {
    for deleted in [false, true] {
        let mut store = Store::new(2, 8);
        // A zone of the class is open on each volume, and the next record goes to `hung`.
        store.put("first", 1, 500, 10 * HOUR_MS).expect("room");
        let hung = store.volume_of("first");
        store.hold_flushes(hung, true);
        let ticket = store.begin_put("key", 2, 500, 10 * HOUR_MS);
        store.run();
        store.fence(hung, GONE);
        store.hold_flushes(hung, false);
        store.run();
        assert!(store.is_stored(ticket), "placed again on the other volume");
        assert_ne!(store.volume_of("key"), hung);
        let place = store.place_of("key");
        match deleted {
            true => store.delete("key").expect("there is room"),
            false => store.put("key", 3, 500, MINUTE_MS).expect("there is room"),
        }
        // The ring of the healthy volume goes round, until nothing there speaks of the key.
        store.pass(2 * MINUTE_MS);
        go_round(&mut store);
        assert!(store.lap_of(place.0) > place.1, "the zone of the re-placement was reused");
        assert_eq!(store.look("key"), Seen::Nothing);
        store.crash(Keep::Everything);
        assert_eq!(store.look("first"), Seen::Version(1), "its volume is back");
        assert_eq!(store.look("key"), Seen::Nothing, "deleted: {deleted}");
    }
}

/// The same with a write that failed and landed all the same, in a zone that gets no footer.
#[test]
fn a_ghost_of_a_refused_write_never_comes_back() {
    for deleted in [false, true] {
        let mut store = Store::new(1, 8);
        store.put("first", 1, 500, 10 * HOUR_MS).expect("room");
        let haunted = store.place_of("first").0;
        store.refuse_zone(haunted);
        store.put("key", 2, 500, 10 * HOUR_MS).expect("another zone takes it");
        assert_ne!(store.place_of("key").0, haunted);
        let place = store.place_of("key");
        match deleted {
            true => store.delete("key").expect("there is room"),
            false => store.put("key", 3, 500, MINUTE_MS).expect("there is room"),
        }
        store.pass(2 * MINUTE_MS);
        go_round(&mut store);
        assert!(store.lap_of(place.0) > place.1, "the zone of the re-placement was reused");
        store.refuse_nothing();
        store.crash(Keep::Everything);
        assert_eq!(store.look("key"), Seen::Nothing, "deleted: {deleted}");
        assert_eq!(store.look("first"), Seen::Version(1));
    }
}

#[test]
fn the_delete_of_a_failed_put_outlives_its_ghost() {
    let mut store = Store::new(1, 8);
    store.put("first", 1, 500, 10 * HOUR_MS).expect("room");
    store.refuse_records_and_voids(true);
    let failed = store.put("key", 2, 500, 10 * HOUR_MS);
    assert!(matches!(failed, Err(AppendError::WriteFailed { attempts: 3, .. })), "{failed:?}");
    store.refuse_records_and_voids(false);
    // The index knows nothing of the key, and still the delete must not be forgotten.
    store.delete("key").expect("there is room");
    assert_eq!(store.log().stats().tombstones, 1);
    store.crash(Keep::Everything);
    assert_eq!(store.look("key"), Seen::Nothing);
}

#[test]
fn a_refused_write_leaves_a_void_and_no_damage() {
    let mut store = Store::new(1, 8);
    store.put("first", 1, 500, HOUR_MS).expect("room");
    let zone = store.place_of("first").0;
    store.refuse_records_once();
    store.put("key", 2, 500, HOUR_MS).expect("another zone takes it");
    assert_eq!(store.holes_in(zone), [], "every block of it is a record's");
    store.crash(Keep::Durable);
    assert_eq!(store.report.findings, []);
    assert_eq!(store.look("first"), Seen::Version(1));
    assert_eq!(store.look("key"), Seen::Version(2));
}

#[test]
fn a_slow_volume_is_avoided_while_another_can_take_records() {
    let mut store = Store::new(2, 8);
    store.put("first", 1, 500, HOUR_MS).expect("room");
    let slow = store.volume_of("first");
    store.log().avoid_volume(slow, true);
    assert!(store.log().volume_stats(slow).is_avoided);
    let open = store.log().volume_stats(slow).zones_open;
    store.freeze(slow, true);
    for step in 0..20 {
        let key = format!("seg/{step}");
        let len = if step % 2 == 0 { 500 } else { LARGE };
        store.put(&key, 1, len, HOUR_MS).expect("the other volume answers");
        assert_ne!(store.volume_of(&key), slow, "{key}");
    }
    assert_eq!(store.log().volume_stats(slow).zones_open, open, "no zone is opened there either");
    store.freeze(slow, false);
    store.log().avoid_volume(slow, false);
    let fast = (20..40).filter(|step| {
        let key = format!("seg/{step}");
        store.put(&key, 1, LARGE, HOUR_MS).expect("room");
        store.volume_of(&key) != slow
    });
    let fast = fast.count();
    assert!((5..=15).contains(&fast), "{fast} of 20 went to one of two volumes");
}

#[test]
fn the_only_volume_is_never_avoided() {
    let mut store = Store::new(2, 8);
    store.fence(1, GONE);
    store.log().avoid_volume(0, true);
    store.put("key", 1, 500, HOUR_MS).expect("there is nowhere else to go");
    assert!(!store.log().volume_stats(0).is_avoided);
}

#[test]
fn nothing_gives_while_a_busy_volume_has_a_free_zone() {
    let mut store = Store::new(2, 4);
    store.log().avoid_volume(1, true);
    for step in 0..4 {
        store.put(&format!("seg/{step}"), 1, LARGE, HOUR_MS).expect("room");
    }
    store.log().avoid_volume(1, false);
    assert_eq!(store.log().volume_stats(0).zones_free, 0);
    assert_eq!(store.log().stats().zones_evicted, 0, "not for a zone that nothing waits for");
    store.freeze(1, true);
    let tickets = [
        store.begin_put("hour", 1, LARGE, HOUR_MS),
        store.begin_put("day", 1, LARGE, 24 * HOUR_MS),
    ];
    store.run();
    store.freeze(1, false);
    store.run();
    assert!(tickets.iter().all(|ticket| store.is_stored(*ticket)));
    assert_eq!(store.log().stats().zones_evicted, 0);
    assert!((0..4).all(|step| store.look(&format!("seg/{step}")) == Seen::Version(1)));
}

/// A drive hangs while it makes a zone ready: the zones of the other one do not wait for it.
#[test]
fn a_hung_preparation_holds_up_no_other_volume() {
    let mut store = Store::new(2, 8);
    store.freeze(0, true);
    let ticket = store.begin_put("a", 1, LARGE, HOUR_MS);
    store.run();
    assert!(!store.is_stored(ticket), "the first zone is one of volume 0");
    store.log().avoid_volume(0, true);
    store.run();
    assert!(store.is_stored(ticket), "{:?}", store.events);
    assert_eq!(store.volume_of("a"), 1);
}

#[test]
fn a_given_up_volume_comes_back_empty() {
    let mut store = Store::new(2, 8);
    for step in 0..6 {
        store.put(&format!("seg/{step}"), 1, LARGE, 10 * HOUR_MS).expect("room");
    }
    let key = |step: u64| format!("seg/{step}");
    let on_second: Vec<u64> = (0..6).filter(|step| store.volume_of(&key(*step)) == 1).collect();
    assert_eq!(on_second.len(), 3);
    store.shut();
    store.recover(&[1]);
    assert!(store.log().volume_stats(1).is_missing);
    for step in 0..6 {
        let there = !on_second.contains(&step);
        assert_eq!(store.look(&key(step)) == Seen::Version(1), there, "{step}");
    }
    // One of them gets a new version that does not live long.
    let key_again = key(on_second[0]);
    store.put(&key_again, 2, LARGE, MINUTE_MS).expect("room");
    store.pass(2 * MINUTE_MS);
    for restart in 0..3 {
        store.shut();
        store.recover(&[]);
        for step in &on_second {
            assert_eq!(store.look(&key(*step)), Seen::Nothing, "restart {restart}: {step}");
        }
        assert_eq!(store.report.findings, []);
    }
    assert_eq!(store.log().volume_stats(1).zones_free, 8, "it has room for new things");
    for step in 10..20 {
        store.put(&key(step), 3, LARGE, 10 * HOUR_MS).expect("room");
    }
    assert!((10..20).any(|step| store.volume_of(&key(step)) == 1));
    store.crash(Keep::Durable);
    assert!((10..20).all(|step| store.look(&key(step)) == Seen::Version(3)));
    assert!(on_second.iter().all(|step| store.look(&key(*step)) == Seen::Nothing));
}

/// The volume that is left had been fenced long before: it has seen nothing of what the other one
/// did since, and must win against it all the same.
#[test]
fn who_goes_on_without_a_volume_is_newer_than_all_it_did() {
    let mut store = Store::new(2, 8);
    store.put("key", 1, 500, 10 * HOUR_MS).expect("room");
    let first = store.volume_of("key");
    store.fence(1 - first, GONE);
    for version in 2..40 {
        store.put("key", version, LARGE, 10 * HOUR_MS).expect("room");
    }
    // It is opened a few times more, and the other drive refuses everything.
    for _ in 0..4 {
        store.shut();
        store.refuse_volume(1 - first, true);
        store.recover(&[]);
        assert!(store.log().fenced(1 - first).is_some());
    }
    store.put("key", 40, 500, 10 * HOUR_MS).expect("room");
    assert_eq!(store.volume_of("key"), first);
    store.shut();
    store.refuse_volume(1 - first, false);
    store.recover(&[first]);
    assert_eq!(store.look("key"), Seen::Nothing);
    store.put("other", 1, 500, 10 * HOUR_MS).expect("room");
    for _ in 0..2 {
        store.shut();
        store.recover(&[]);
        assert_eq!(store.look("key"), Seen::Nothing, "given up for good");
        assert_eq!(store.look("other"), Seen::Version(1));
    }
}

/// Kills of what lies on a fenced volume outlive any number of laps on the others.
#[test]
fn kills_on_a_fenced_volumes_zones_are_kept() {
    let mut store = Store::new(2, 8);
    store.put("key", 1, 500, 10 * HOUR_MS).expect("room");
    let fenced = store.volume_of("key");
    store.fence(fenced, GONE);
    store.put("key", 2, 500, MINUTE_MS).expect("room");
    for step in 0..60 {
        store.put(&format!("fill/{step}"), 1, LARGE, MINUTE_MS).expect("room");
        store.pass(MINUTE_MS / 4);
    }
    assert!(store.log().stats().kills_carried > 0);
    store.crash(Keep::Durable);
    assert_eq!(store.look("key"), Seen::Nothing, "version 1 came back");
}

/// A store with version 1 of `key` on one volume, and on another one a zone that is just being made
/// ready for its next lap and holds the kill of it. The version that killed it has expired.
fn with_a_kill_on_the_move() -> (Store, u16) {
    let mut store = Store::new(3, 4);
    store.put("key", 1, LARGE, 10 * HOUR_MS).expect("room");
    let home = store.volume_of("key");
    store.put("key", 2, LARGE, MINUTE_MS).expect("room");
    let (killer, volume) = (store.place_of("key"), store.volume_of("key"));
    assert_ne!(home, volume);
    store.pass(2 * MINUTE_MS);
    for fill in 0..100 {
        store.begin_put(&format!("fill/{fill}"), 1, LARGE, 10 * MINUTE_MS);
        while !store.is_preparing(killer.0) && store.step() {}
        if store.is_preparing(killer.0) {
            return (store, volume);
        }
        store.advance(MINUTE_MS);
        while !store.is_preparing(killer.0) && store.step() {}
    }
    panic!("the zone is never reused");
}

#[test]
fn a_fence_in_any_step_of_a_preparation_loses_no_kill() {
    for step in 0..24 {
        for keep in [Keep::Durable, Keep::Everything] {
            let (mut store, volume) = with_a_kill_on_the_move();
            for _ in 0..step {
                store.step();
            }
            store.fence(volume, GONE);
            store.run();
            store.crash(keep);
            assert_eq!(store.look("key"), Seen::Nothing, "step {step}, {keep:?}");
        }
    }
}

/// The volume with the kill stays away: version 1 is the newest that is known, and remains so.
#[test]
fn what_a_volume_that_was_away_had_begun_does_not_count() {
    for step in 0..24 {
        for keep in [Keep::Durable, Keep::Everything] {
            let (mut store, volume) = with_a_kill_on_the_move();
            for _ in 0..step {
                store.step();
            }
            store.cut_power(keep);
            store.recover(&[volume]);
            let known = store.look("key");
            for restart in 0..3 {
                store.shut();
                store.recover(&[]);
                assert_eq!(store.look("key"), known, "step {step}, {keep:?}, restart {restart}");
            }
        }
    }
}

#[test]
fn a_dead_drive_is_found_out_before_all_its_zones_are_tried() {
    let mut store = Store::new(2, 40);
    store.refuse_volume(0, true);
    for step in 0..20 {
        store.put(&format!("seg/{step}"), 1, LARGE, HOUR_MS).expect("the other volume is well");
    }
    assert!(store.log().fenced(0).is_some());
    assert!(store.log().volume_stats(0).zones_bad <= 4);
}

#[test]
fn a_volume_that_refuses_everything_is_fenced() {
    let mut store = Store::new(2, 8);
    store.put("first", 1, 500, HOUR_MS).expect("room");
    let dead = store.volume_of("first");
    store.refuse_volume(dead, true);
    for step in 0..20 {
        store.put(&format!("seg/{step}"), 1, LARGE, HOUR_MS).expect("the other volume is well");
        store.pass(1000);
    }
    assert_eq!(store.log().fenced(dead), Some(IoFailure { errno: 5 }));
    assert_eq!(store.look("first"), Seen::Version(1));
}

#[test]
fn the_only_volume_that_refuses_everything_is_fenced_too() {
    let mut store = Store::new(1, 16);
    store.refuse_volume(0, true);
    let failed = store.put("key", 1, 500, HOUR_MS);
    assert!(failed.is_err());
    for _ in 0..5 {
        store.pass(1000);
    }
    assert!(store.log().is_read_only(), "{:?}", store.log().volume_stats(0));
}

#[test]
fn a_bad_zone_now_and_then_fences_nothing_until_none_is_left() {
    let mut store = Store::new(1, 8);
    for step in 0..7 {
        store.refuse_records_once();
        store.put(&format!("seg/{step}"), 1, LARGE, HOUR_MS).expect("another zone takes it");
        assert_eq!(store.log().volume_stats(0).zones_bad, step + 1);
        assert_eq!(store.log().fenced(0), None);
    }
    store.refuse_records_once();
    assert!(store.put("last", 1, LARGE, HOUR_MS).is_err());
    assert!(store.log().is_read_only());
}

#[test]
fn a_volume_that_refuses_at_start_is_fenced_and_the_others_serve() {
    for volume in 0..2 {
        let mut store = Store::new(2, 8);
        for step in 0..4 {
            store.put(&format!("seg/{step}"), 1, LARGE, HOUR_MS).expect("room");
        }
        store.shut();
        store.refuse_volume(volume, true);
        store.recover(&[]);
        assert!(store.log().fenced(volume).is_some());
        assert!((0..4).all(|step| store.look(&format!("seg/{step}")) == Seen::Version(1)));
        store.put("new", 1, 500, HOUR_MS).expect("the other volume is well");
        assert_ne!(store.volume_of("new"), volume);
        store.shut();
        store.refuse_volume(volume, false);
        store.recover(&[]);
        assert!((0..4).all(|step| store.look(&format!("seg/{step}")) == Seen::Version(1)));
        assert_eq!(store.look("new"), Seen::Version(1));
        assert_eq!(store.report.findings, []);
    }
}

/// A tombstone that nobody was told of is in the cache of a drive when the process dies, and the
/// drive then refuses to flush. A delete must not be answered from it.
#[test]
fn nothing_is_answered_from_what_a_drive_refuses_to_make_durable() {
    let mut store = Store::new(2, 8);
    store.put("key", 1, 500, HOUR_MS).expect("room");
    let home = store.volume_of("key");
    let failing = 1 - home;
    store.log().avoid_volume(home, true);
    store.put("other", 1, 500, HOUR_MS).expect("room");
    assert_eq!(store.volume_of("other"), failing);
    store.hold_flushes(failing, true);
    store.begin_delete("key");
    store.run();
    store.hold_flushes(failing, false);
    store.fail_flushes(failing, true);
    store.reopen();
    assert!(store.log().is_read_only());
    assert_eq!(store.look("key"), Seen::Nothing, "the drive still reads the tombstone");
    assert!(store.delete("key").is_err(), "it may be gone tomorrow");
    store.fail_flushes(failing, false);
    store.crash(Keep::Durable);
    assert_eq!(store.report.findings, []);
    assert_eq!(store.look("key"), Seen::Version(1));
    store.delete("key").expect("room");
    store.crash(Keep::Durable);
    assert_eq!(store.look("key"), Seen::Nothing);
}

/// A torn record lies before one that lasted, and the drive takes no writes any more.
#[test]
fn a_torn_hole_that_cannot_be_filled_stops_all_writing() {
    for torn in [false, true] {
        let mut store = Store::new(2, 8);
        store.put("first", 1, 500, HOUR_MS).expect("room");
        let failing = store.volume_of("first");
        store.hold_flushes(failing, true);
        for key in ["a", "b", "c"] {
            store.begin_put(key, 1, 5000, HOUR_MS);
        }
        store.run();
        if torn {
            store.tear_all_but_last(failing);
        }
        store.cut_power(Keep::Durable);
        store.refuse_volume(failing, true);
        store.reopen();
        assert!(store.log().fenced(failing).is_some());
        assert_eq!(store.log().is_read_only(), torn);
        let seen = ["first", "a", "b", "c"].map(|key| store.look(key));
        assert_eq!(seen[0], Seen::Version(1));
        assert_eq!(seen[3] == Seen::Version(1), torn, "the last one lies behind a hole");
        store.refuse_volume(failing, false);
        for restart in 0..3 {
            store.crash(Keep::Durable);
            assert_eq!(["first", "a", "b", "c"].map(|key| store.look(key)), seen);
            assert_eq!(store.report.findings, [], "restart {restart}");
        }
    }
}

/// The carry record of a new lap is refused: until its kills are safe elsewhere the journal is all
/// there is, at whatever step the power fails.
#[test]
fn a_refused_carry_record_loses_no_kill() {
    for step in 0..12 {
        for keep in [Keep::Durable, Keep::Everything] {
            let mut store = Store::new(1, 6);
            store.put("key", 1, LARGE, 10 * HOUR_MS).expect("room");
            store.put("key", 2, LARGE, MINUTE_MS).expect("room");
            let killer = store.place_of("key");
            store.pass(2 * MINUTE_MS);
            store.refuse_carries(true);
            let carried = store.log().stats().kills_carried;
            for fill in 0.. {
                assert!(fill < 100, "the zone is never reused");
                store.begin_put(&format!("fill/{fill}"), 1, LARGE, 10 * MINUTE_MS);
                while store.log().volume_stats(0).zones_bad == 0 && store.step() {}
                if store.log().volume_stats(0).zones_bad > 0 {
                    break;
                }
                store.advance(MINUTE_MS);
            }
            assert!(store.log().stats().kills_carried > carried, "a carry record was refused");
            assert_eq!(store.lap_of(killer.0), killer.1 + 1);
            store.refuse_carries(false);
            for _ in 0..step {
                store.step();
            }
            store.crash(keep);
            assert_eq!(store.look("key"), Seen::Nothing, "step {step}, {keep:?}");
            for fill in 0..40 {
                store.put(&format!("more/{fill}"), 1, LARGE, MINUTE_MS).expect("room");
                store.pass(MINUTE_MS / 2);
            }
            store.crash(keep);
            assert_eq!(store.look("key"), Seen::Nothing, "later, step {step}, {keep:?}");
        }
    }
}
