//! Zone headers and checkpoints that a drive refused, tore or lost: what is read instead.

#[path = "volumes/store.rs"]
#[allow(dead_code, reason = "each test program uses its part")]
mod store;

use store::{Keep, Seen, Store};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// A record that fills more than half of a zone: every one goes to a zone of its own.
const LARGE: u64 = 36_000;

#[test]
fn a_refused_zone_header_that_landed_is_no_damage() {
    let mut store = Store::new(1, 8);
    for step in 0..10 {
        store.put(&format!("seg/{step}"), 1, LARGE, MINUTE_MS).expect("room");
        store.pass(MINUTE_MS / 2);
    }
    store.refuse_headers(true);
    let bad = (10..14).filter(|step| {
        let _ = store.put(&format!("seg/{step}"), 1, LARGE, MINUTE_MS);
        store.log().volume_stats(0).zones_bad > 0
    });
    assert!(bad.count() > 0, "no zone was to be opened");
    store.refuse_headers(false);
    store.crash(Keep::Everything);
    assert_eq!(store.report.findings, []);
}

/// Both drives write their checkpoints at their own pace: whichever is the newest tells, and an
/// older one does no harm.
#[test]
fn any_checkpoint_of_the_last_start_will_do() {
    for lost in 0..2 {
        let mut store = Store::new(2, 8);
        for step in 0..30 {
            store.put("key", step, 500 * (step % 7), HOUR_MS).expect("room");
            store.put(&format!("seg/{}", step % 9), step, 9000, HOUR_MS).expect("room");
            store.pass(700);
        }
        store.crash(Keep::Durable);
        store.spoil_checkpoints(lost);
        store.recover_again();
        assert_eq!(store.look("key"), Seen::Version(29));
        assert!(
            (21..30)
                .all(|step| { store.look(&format!("seg/{}", step % 9)) == Seen::Version(step) })
        );
    }
}
