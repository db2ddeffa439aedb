//! Drives that say a write is done and put it elsewhere, or nowhere: it costs what it hit, and
//! nothing dead comes back by it.

#[path = "volumes/store.rs"]
#[allow(dead_code, reason = "each test program uses its part")]
mod store;

use store::{Keep, Seen, Store};

const HOUR_MS: u64 = 3_600_000;
const MINUTE_MS: u64 = 60_000;

/// A record that fills more than half of a zone: every one goes to a zone of its own.
const LARGE: u64 = 36_000;

/// The place in the index says that it was the key's, whatever lies there now.
#[test]
fn a_delete_reaches_an_object_that_a_stray_write_hides() {
    let mut store = Store::new(1, 8);
    store.put("hidden", 1, 500, HOUR_MS).expect("room");
    store.put("stray", 1, 500, HOUR_MS).expect("room");
    // What the log remembers of the latest places must not help it.
    store.shut();
    store.recover(&[]);
    let (place, own) = store.record_of("hidden");
    let (_, stray) = store.record_of("stray");
    store.plant_record(place, &stray);
    store.delete("hidden").expect("room");
    // Gone for good, even if the drive shows the right bytes again.
    store.plant_record(place, &own);
    store.crash(Keep::Durable);
    assert_eq!(store.look("hidden"), Seen::Nothing);
    assert_eq!(store.look("stray"), Seen::Version(1));
}

/// The lap that a lost header would have named is used up all the same.
#[test]
fn a_zone_that_was_given_up_with_an_older_header_begins_a_lap_that_never_was() {
    let mut store = Store::new(2, 4);
    let mut first_headers = Vec::new();
    for step in 0..16 {
        let key = format!("seg/{step}");
        store.put(&key, 1, LARGE, MINUTE_MS).expect("room");
        let (zone, lap) = store.place_of(&key);
        if lap == 1 && store.volume_of(&key) == 1 {
            first_headers.push((zone, store.header_of(zone)));
        }
        store.pass(MINUTE_MS / 2);
    }
    store.shut();
    first_headers.retain(|(zone, _)| store.lap_of(*zone) > 1);
    assert!(!first_headers.is_empty(), "zones were used again");
    for (zone, header) in &first_headers {
        store.plant_record((*zone, 0), header);
    }
    store.recover(&[1]);
    store.put("meanwhile", 1, 500, HOUR_MS).expect("room");
    store.shut();
    store.recover(&[]);
    let keys: Vec<String> = (0..6).map(|step| format!("later/{step}")).collect();
    for key in &keys {
        store.put(key, 2, LARGE, HOUR_MS).expect("room");
    }
    let used = |store: &Store, zone: u32| keys.iter().any(|key| store.place_of(key).0 == zone);
    assert!(first_headers.iter().any(|(zone, _)| used(&store, *zone)), "one of them is in use");
    store.crash(Keep::Durable);
    for key in &keys {
        assert_eq!(store.look(key), Seen::Version(2), "{key}");
    }
}
