//! The checker's own checker: the simulated drive keeps and forgets what it should.

use crate::drive::{Drive, Request, Verdict};
use crate::overlay::{Patch, SECTOR};
use crate::rng::Rng;

fn write(offset: u64, value: u8) -> Request {
    Request::Write { offset, bytes: vec![value; 512], is_record: false }
}

fn complete(drive: &mut Drive, verdict: Verdict) -> bool {
    drive.complete(&mut Rng::new(1), 0, verdict).1.is_ok()
}

#[test]
fn a_sector_is_durable_exactly_when_a_flush_was_asked_for_after_its_write() {
    let mut drive = Drive::new(8192, 512);
    drive.submit(1, write(0, 9));
    assert!(complete(&mut drive, Verdict::Done));
    drive.submit(2, Request::Flush);
    drive.submit(3, write(512, 9));
    drive.complete(&mut Rng::new(1), 1, Verdict::Done).1.expect("written");
    assert!(complete(&mut drive, Verdict::Done));
    assert_eq!(drive.durable(0, 512), [9; 512]);
    assert_eq!(drive.durable(512, 512), [0; 512]);
    assert_eq!(drive.read(512, 512).expect("readable")[..], [9; 512]);
}

#[test]
fn a_crash_leaves_pending_sectors_old_or_new_and_durable_ones_alone() {
    let mut values = [0; 2];
    for seed in 0..200 {
        let mut drive = Drive::new(8192, 512);
        drive.submit(1, write(0, 7));
        assert!(complete(&mut drive, Verdict::Done));
        drive.submit(2, Request::Flush);
        assert!(complete(&mut drive, Verdict::Done));
        drive.submit(3, write(512, 9));
        drive.crash(&mut Rng::new(seed));
        assert_eq!(drive.read(0, 512).expect("readable")[..], [7; 512]);
        let value = drive.read(512, 512).expect("readable")[0];
        assert!(value == 0 || value == 9);
        values[usize::from(value == 9)] += 1;
    }
    assert!(values.iter().all(|count| *count > 20), "both happen: {values:?}");
}

#[test]
fn what_a_failed_flush_dropped_is_seen_until_the_process_ends() {
    let mut lost = 0;
    for seed in 0..50 {
        let mut drive = Drive::new(8192, 512);
        let mut rng = Rng::new(seed);
        drive.submit(1, write(0, 9));
        drive.complete(&mut rng, 0, Verdict::Done).1.expect("written");
        drive.submit(2, Request::Flush);
        drive.complete(&mut rng, 0, Verdict::Eio).1.expect_err("failed");
        assert_eq!(drive.read(0, 512).expect("readable")[..], [9; 512]);
        drive.kill(&mut rng, false);
        lost += usize::from(drive.read(0, 512).expect("readable")[0] == 0);
    }
    assert!(lost > 5, "lost {lost} times of 50");
}

#[test]
fn a_lost_write_shows_the_old_bytes_and_a_misdirected_one_shows_up_elsewhere() {
    let mut drive = Drive::new(16 << 10, 512);
    drive.submit(1, write(0, 1));
    assert!(complete(&mut drive, Verdict::Done));
    drive.submit(2, write(0, 2));
    assert!(complete(&mut drive, Verdict::Lost), "it is said to be done");
    assert_eq!(drive.read(0, 512).expect("readable")[0], 1);
    drive.submit(3, write(0, 3));
    assert!(complete(&mut drive, Verdict::Misdirected(8192)));
    assert_eq!(drive.read(0, 512).expect("readable")[0], 1);
    assert_eq!(drive.read(8192, 512).expect("readable")[0], 3);
    drive.submit(4, write(0, 4));
    assert!(complete(&mut drive, Verdict::Done));
    assert_eq!(drive.read(0, 512).expect("readable")[0], 4, "a new write ends it");
}

#[test]
fn overlays_change_what_is_read_and_nothing_beneath() {
    let mut drive = Drive::new(8192, 512);
    drive.plant(0, &[5; 1024]);
    drive.overlays.put(512, Patch::Flip { at: 3, mask: 0x10 });
    let read = drive.read(0, 1024).expect("readable").into_owned();
    assert_eq!((read[515], read.iter().filter(|byte| **byte != 5).count()), (5 ^ 0x10, 1));
    drive.overlays.put(0, Patch::Unreadable);
    assert!(drive.read(0, 1024).is_err());
    assert!(drive.read(512, 512).is_ok());
    assert_eq!(drive.written(0, 1024), [5; 1024]);
    drive.overlays.lift(0);
    drive.overlays.lift(SECTOR as u64);
    assert_eq!(drive.read(0, 1024).expect("readable")[..], [5; 1024]);
}

#[test]
fn short_and_refused_writes_leave_a_prefix_or_nothing() {
    for seed in 0..50 {
        let mut drive = Drive::new(8192, 512);
        let bytes = vec![9; 4096];
        drive.submit(1, Request::Write { offset: 0, bytes, is_record: true });
        let mut rng = Rng::new(seed);
        drive.complete(&mut rng, 0, Verdict::Short).1.expect_err("short");
        let written = drive.written(0, 4096);
        let len = written.iter().take_while(|byte| **byte == 9).count();
        assert!(len < 4096 && len % 512 == 0);
        assert!(written[len..].iter().all(|byte| *byte == 0));
    }
    let mut drive = Drive::new(8192, 512);
    drive.submit(1, write(0, 9));
    assert!(!complete(&mut drive, Verdict::NoSpace));
    assert_eq!(drive.written(0, 512), [0; 512]);
}
