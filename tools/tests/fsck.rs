//! `tapectl fsck` finds what is damaged, names it, and calls nothing damaged that is not.

mod support;

use std::os::unix::fs::FileExt;

use serde_json::Value;
use support::{Random, STORE_MS, StoreBuilder, bytes, fsck, json, mixed_store, seed, tapectl};
use tapeloop_format::{BLOCK, CHECKPOINT_SLOTS};

fn damage(report: &Value) -> &Vec<Value> {
    report["damage"].as_array().unwrap()
}

#[test]
fn a_clean_store_is_clean_and_stays_byte_identical() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = mixed_store(folder.path(), &mut Random(1));
    let before = std::fs::read(&store.path).unwrap();
    let (code, report) = fsck(&store.path);
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(report["damage_count"], 0);
    assert_eq!(report["torn"].as_array().unwrap().len(), 0, "{report:#}");
    assert_eq!((&report["sealed_zones"], &report["open_zones"]), (&2.into(), &2.into()));
    assert!(before == std::fs::read(&store.path).unwrap(), "fsck wrote");
}

#[test]
fn every_one_of_200_random_bit_flips_in_records_is_found_and_named() {
    let seed = seed();
    let mut random = Random(seed);
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = mixed_store(folder.path(), &mut random);
    for _ in 0..200 {
        let index = random.below(store.written.len() as u64) as usize;
        let hit = &store.written[index];
        let at = hit.volume_offset + random.below(hit.record_len);
        let bit = random.below(8) as u8;
        store.flip(at, bit);
        let (code, report) = fsck(&store.path);
        store.flip(at, bit);
        assert_eq!(code, 1, "seed {seed}, flip of bit {bit} at {at} in {hit:?} was missed");
        let found = damage(&report);
        assert_eq!(found.len(), 1, "seed {seed}: {hit:?}: {report:#}");
        assert_eq!(found[0]["key"], hit.key.as_str(), "seed {seed}: {report:#}");
        assert_eq!(found[0]["lsn"], hit.lsn);
        assert_eq!(found[0]["zone"], hit.zone);
        assert_eq!(found[0]["zone_offset"], hit.zone_offset);
    }
    assert_eq!(fsck(&store.path).0, 0, "all flips were taken back");
}

#[test]
fn a_flip_in_any_structure_outside_the_records_is_found_too() {
    let seed = seed();
    let mut random = Random(seed);
    let folder = tempfile::tempdir().unwrap();
    let (store, open) = mixed_store(folder.path(), &mut random);
    let geometry = store.geometry;
    let zone = |zone: u32| geometry.zone_offset(zone);
    let block = BLOCK as u64;
    let mut structures = vec![
        ("volume header", 0),
        ("volume header", geometry.header_b_offset()),
        ("checkpoint", CHECKPOINT_SLOTS[0]),
        ("checkpoint", CHECKPOINT_SLOTS[1]),
        ("zone header", zone(0)),
        ("zone header", zone(3)),
        ("footer trailer", zone(1) - block),
        ("footer key blob", zone(1) - 2 * block),
        ("footer entry table", zone(1) - 3 * block),
        ("footer kill table", zone(2) - 3 * block),
    ];
    // The deletion in the open zone is the last record of its zone.
    structures.push(("record header", zone(3) + open[1].used() - block));
    for (name, start) in structures {
        for _ in 0..6 {
            let (at, bit) = (start + random.below(block), random.below(8) as u8);
            store.flip(at, bit);
            let (code, report) = fsck(&store.path);
            store.flip(at, bit);
            assert_eq!(code, 1, "seed {seed}: {name} at {at} bit {bit} was missed");
            let names = damage(&report).iter().map(|finding| &finding["structure"]);
            assert!(names.clone().any(|found| found == name), "seed {seed}: {name}: {report:#}");
        }
    }
    assert_eq!(fsck(&store.path).0, 0);
}

#[test]
fn damage_says_whether_the_object_still_matters() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreBuilder::new(folder.path(), 1 << 20, 4);
    let mut zone = store.open_zone(0, 1);
    let live = store.put(&mut zone, "n/live", &[1; 100], None);
    let old = store.put(&mut zone, "n/old", &[2; 100], None);
    let expired = store.put_living(&mut zone, "n/expired", &[3; 100], None, STORE_MS - 1);
    let here = zone.zone_lap();
    store.put(&mut zone, "n/old", &[4; 100], Some(here));
    store.checkpoint(1, &[&zone]);
    for record in [&live, &old, &expired] {
        store.flip(record.volume_offset + 230, 0);
    }
    let (_, report) = fsck(&store.path);
    let statuses: Vec<_> = damage(&report)
        .iter()
        .map(|found| (found["key"].as_str().unwrap(), found["status"].as_str().unwrap()))
        .collect();
    let expected = [("n/live", "live"), ("n/old", "superseded"), ("n/expired", "expired")];
    assert_eq!(statuses, expected, "{report:#}");
}

#[test]
fn a_torn_tail_is_information_and_the_same_bytes_once_durable_are_damage() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreBuilder::new(folder.path(), 1 << 20, 4);
    let mut zone = store.open_zone(0, 1);
    store.put(&mut zone, "n/kept", &[1; 5_000], None);
    let durable = (zone.zone_lap(), zone.used());
    let tail = store.put(&mut zone, "n/tail", &[2; 50_000], None);
    // The crash came before the last blocks of the payload reached the drive.
    store.file.write_all_at(&[0; 8192], tail.volume_offset + tail.record_len - 8192).unwrap();
    store.checkpoint_marks(1, tail.lsn - 1, &[durable]);
    let (code, report) = fsck(&store.path);
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(report["torn"].as_array().unwrap().len(), 1, "{report:#}");
    store.checkpoint_marks(2, tail.lsn, &[durable]);
    let (code, report) = fsck(&store.path);
    assert_eq!(code, 1);
    assert_eq!(damage(&report)[0]["key"], "n/tail");
}

#[test]
fn what_a_dead_process_left_behind_the_durable_length_is_not_a_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreBuilder::new(folder.path(), 1 << 20, 4);
    let mut zone = store.open_zone(0, 1);
    store.put(&mut zone, "n/kept", &[1; 5_000], None);
    let durable = (zone.zone_lap(), zone.used());
    let ghost = store.put(&mut zone, "n/ghost", &[2; 50_000], None);
    store.flip(ghost.volume_offset + 20_000, 3);
    // Opened again: the ghost was dropped, and everything below the next LSN is settled.
    store.incarnation += 1;
    store.checkpoint_marks(1, ghost.lsn, &[durable]);
    let (code, report) = fsck(&store.path);
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(report["record_count"], 1);
}

#[test]
fn one_lost_block_does_not_hide_what_lies_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = mixed_store(folder.path(), &mut Random(3));
    let hit: Vec<_> = store.written.iter().filter(|put| put.zone == 2).collect();
    store.file.write_all_at(&[0xee; BLOCK], hit[0].volume_offset).unwrap();
    store.flip(hit[2].volume_offset + 250, 1);
    let (code, report) = fsck(&store.path);
    assert_eq!(code, 1);
    let offsets: Vec<_> = damage(&report).iter().map(|found| &found["zone_offset"]).collect();
    assert_eq!(offsets, [hit[0].zone_offset, hit[2].zone_offset], "{report:#}");
}

#[test]
fn foreign_newer_and_absent_volumes_are_could_not_run_with_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = mixed_store(folder.path(), &mut Random(4));
    let path = store.path.to_str().unwrap();
    let refused = |path: &str, words: &str| {
        let output = tapectl(&["fsck", path]);
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(words) && text.lines().count() == 1, "{text}");
    };
    let last = store.geometry.header_b_offset();
    store.file.write_all_at(&2u32.to_le_bytes(), 8).unwrap();
    store.file.write_all_at(&2u32.to_le_bytes(), last + 8).unwrap();
    refused(path, "newer");
    store.file.write_all_at(b"SQLite format 3\0", 0).unwrap();
    store.file.write_all_at(b"whatever", last).unwrap();
    refused(path, "not a tapeloop volume");
    refused("/nonexistent/volume", "/nonexistent/volume");
    refused(folder.path().to_str().unwrap(), "volume-0.tape");
}

#[test]
fn a_truncated_volume_is_a_problem_not_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = mixed_store(folder.path(), &mut Random(5));
    for len in [store.geometry.zone_offset(1) + 12_345, store.geometry.zone_offset(0), 8192] {
        store.file.set_len(len).unwrap();
        let (code, report) = fsck(&store.path);
        assert_eq!(code, 1);
        let names = damage(&report).iter().map(|finding| &finding["structure"]);
        assert!(names.clone().any(|found| found == "volume length"), "{report:#}");
    }
}

#[test]
fn a_lost_header_of_a_reused_open_zone_does_not_hide_its_records() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreBuilder::new(folder.path(), 1 << 20, 4);
    let mut old = store.open_zone(0, 1);
    store.put(&mut old, "n/old", &[1; 200_000], None);
    store.seal(old);
    let mut zone = store.open_zone(0, 2);
    store.put(&mut zone, "n/new", &[2; 300], None);
    let hit = store.put(&mut zone, "n/hit", &[3; 70_000], None);
    store.checkpoint(1, &[&zone]);
    store.flip(store.geometry.zone_offset(0) + 50, 1);
    store.flip(hit.volume_offset + 9_000, 1);
    let (code, report) = fsck(&store.path);
    assert_eq!((code, &report["record_count"]), (1, &2.into()), "{report:#}");
    let names: Vec<_> = damage(&report).iter().map(|found| &found["structure"]).collect();
    assert_eq!(names, ["zone header", "record payload"], "{report:#}");
    assert_eq!(damage(&report)[1]["key"], "n/hit");
}

#[test]
fn a_first_zone_header_that_a_crash_cut_short_is_torn_and_one_with_a_flipped_bit_is_damage() {
    for (offset, is_torn) in [(0, true), (BLOCK - 512, true), (1024, false)] {
        let folder = tempfile::tempdir().unwrap();
        let mut store = StoreBuilder::new(folder.path(), 1 << 20, 4);
        store.checkpoint(1, &[]);
        store.open_zone(2, 1);
        let start = store.geometry.zone_offset(2);
        match is_torn {
            true => store.file.write_all_at(&[0; 512], start + offset as u64).unwrap(),
            false => store.flip(start + offset as u64, 3),
        }
        let (code, report) = fsck(&store.path);
        assert_eq!(code, i32::from(!is_torn), "{report:#}");
        let found = &report[if is_torn { "torn" } else { "damage" }][0];
        assert_eq!(found["structure"], "zone header", "{report:#}");
        // With something behind it, it had been durable.
        store.file.write_all_at(b"something", start + BLOCK as u64).unwrap();
        assert_eq!(fsck(&store.path).0, 1);
    }
}

#[test]
fn a_first_checkpoint_of_a_slot_without_its_first_sector_is_torn() {
    let folder = tempfile::tempdir().unwrap();
    let store = StoreBuilder::new(folder.path(), 1 << 20, 4);
    (1..=2).for_each(|sequence| store.checkpoint(sequence, &[]));
    store.file.write_all_at(&[0; 512], CHECKPOINT_SLOTS[0]).unwrap();
    let (code, report) = fsck(&store.path);
    assert_eq!((code, &report["torn"][0]["structure"]), (0, &"checkpoint".into()), "{report:#}");
    // One bit where nothing was is no checkpoint.
    store.file.write_all_at(&[0; BLOCK], CHECKPOINT_SLOTS[0]).unwrap();
    store.flip(CHECKPOINT_SLOTS[0] + BLOCK as u64 - 1, 3);
    assert_eq!(fsck(&store.path).0, 1);
}

#[test]
fn a_checkpoint_slot_of_which_a_crash_left_sectors_of_two_is_torn_and_anything_else_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreBuilder::new(folder.path(), 1 << 20, 4);
    let slot = CHECKPOINT_SLOTS[1];
    let read = |store: &StoreBuilder| {
        let mut block = [0; BLOCK];
        store.file.read_exact_at(&mut block, slot).unwrap();
        block
    };
    let nothing = [0; BLOCK];
    for sequence in [1, 2] {
        store.checkpoint(sequence, &[]);
    }
    let older = read(&store);
    store.open_zone(2, 1);
    store.checkpoint(3, &[]);
    let newer = read(&store);
    store.file.write_all_at(&older, slot).unwrap();
    let verdict = |sectors: &[&[u8]]| {
        let mut block = sectors.concat();
        assert_eq!(block.len(), BLOCK);
        store.file.write_all_at(&block, slot).unwrap();
        let (code, report) = fsck(&store.path);
        let (torn, found) = (report["torn"].as_array().unwrap(), damage(&report));
        assert_eq!((torn.len() + found.len(), code), (1, found.len() as i32), "{report:#}");
        // Whatever it is, one more flip is damage.
        block[777] ^= 1;
        store.file.write_all_at(&block, slot).unwrap();
        assert_eq!(fsck(&store.path).0, 1);
        torn.len() == 1
    };
    assert!(verdict(&[&newer[..512], &older[512..]]));
    assert!(verdict(&[&older[..512], &newer[512..]]));
    assert!(verdict(&[&newer[..512], &nothing[512..]]));
    assert!(!verdict(&[&nothing[..512], &newer[512..]]), "the slot was not empty before");
    assert!(!verdict(&[&newer[..512], b"rot", &older[515..]]));
    // A flip in a clock, whose every value is as good, and in the checksum.
    for at in [56, 72, BLOCK - 1] {
        assert!(!verdict(&[&newer[..at], &[newer[at] ^ 4], &newer[at + 1..]]), "byte {at}");
    }
    assert!(!verdict(&[&[newer[0] ^ 1], &newer[1..512], &older[512..]]), "no magic");
}

#[test]
fn a_seal_that_a_crash_cut_short_is_torn_and_a_footer_damaged_later_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreBuilder::new(folder.path(), 1 << 20, 4);
    let mut zone = store.open_zone(0, 1);
    store.put(&mut zone, "n/a", &[1; 20_000], None);
    store.checkpoint(1, &[&zone]);
    store.seal(zone);
    let entries = store.geometry.zone_offset(1) - 3 * BLOCK as u64;
    store.file.write_all_at(&[0; BLOCK], entries).unwrap();
    let (code, report) = fsck(&store.path);
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(report["torn"][0]["structure"], "footer entry table", "{report:#}");
    store.checkpoint(2, &[]);
    assert_eq!(fsck(&store.path).0, 1);
}

#[test]
fn in_a_sealed_zone_whatever_is_no_record_or_is_not_listed_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreBuilder::new(folder.path(), 1 << 20, 4);
    let mut zone = store.open_zone(0, 1);
    store.put(&mut zone, "n/a", &[1; 20_000], None);
    let unlisted = store.put_refused(&mut zone, "n/b", &[2; 9_000]);
    let hole = zone.used();
    zone.skip(3 * BLOCK as u64);
    store.put(&mut zone, "n/c", &[5; 100], None);
    // Nothing behind it tells that it was durable, but that the zone was sealed.
    let last = zone.used();
    zone.skip(BLOCK as u64);
    store.seal(zone);
    store.checkpoint(1, &[]);
    let (code, report) = fsck(&store.path);
    let offsets: Vec<_> = damage(&report).iter().map(|found| &found["zone_offset"]).collect();
    assert_eq!(
        (code, offsets),
        (1, vec![&unlisted.zone_offset.into(), &hole.into(), &last.into()]),
        "{report:#}"
    );
}

#[test]
fn a_deletion_that_is_lost_from_a_sealed_zone_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreBuilder::new(folder.path(), 1 << 20, 4);
    let mut first = store.open_zone(0, 1);
    store.put(&mut first, "n/a", &[1; 100], None);
    let first = store.seal(first);
    let mut second = store.open_zone(1, 1);
    let gone = store.delete(&mut second, "n/a", first);
    store.put(&mut second, "n/b", &[2; 100], None);
    store.seal(second);
    store.checkpoint(1, &[]);
    assert_eq!(fsck(&store.path).0, 0);
    store.file.write_all_at(&[0; BLOCK], gone.volume_offset).unwrap();
    let (code, report) = fsck(&store.path);
    assert_eq!((code, damage(&report).len()), (1, 1), "{report:#}");
    assert_eq!(damage(&report)[0]["zone_offset"], gone.zone_offset);
}

#[test]
fn a_footer_that_is_gone_without_a_trace_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreBuilder::new(folder.path(), 1 << 20, 4);
    let mut zone = store.open_zone(0, 1);
    store.put(&mut zone, "n/a", &[1; 20_000], None);
    store.seal(zone);
    store.checkpoint(1, &[]);
    let last = store.geometry.zone_offset(1) - BLOCK as u64;
    store.file.write_all_at(&[0; BLOCK], last).unwrap();
    let (code, report) = fsck(&store.path);
    assert_eq!((code, damage(&report).len()), (1, 1), "{report:#}");
    assert_eq!(damage(&report)[0]["structure"], "footer trailer");
}

#[test]
fn a_payload_with_good_checksums_and_another_content_hash_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreBuilder::new(folder.path(), 1 << 20, 4);
    let mut zone = store.open_zone(0, 1);
    store.put_with_hash(&mut zone, "n/a", &[1; 20_000], [0x5a; 16]);
    store.checkpoint(1, &[&zone]);
    let (code, report) = fsck(&store.path);
    assert_eq!(code, 1, "{report:#}");
    assert!(damage(&report)[0]["detail"].as_str().unwrap().contains("content hash"), "{report:#}");
    assert_eq!(damage(&report)[0]["key"], "n/a");
}

/// Three volumes, a sealed and an open zone on each, overwrites across them.
fn store_over_three(folder: &std::path::Path) -> StoreBuilder {
    let mut random = Random(7);
    let mut store = StoreBuilder::over(folder, 1 << 20, 4, 3);
    let mut open = Vec::new();
    let mut victim = None;
    for volume in 0..3 {
        let mut zone = store.open_zone(4 * volume, 1);
        for index in 0..4 {
            store.put(&mut zone, &format!("v{volume}/{index}"), &bytes(&mut random, 30_000), None);
        }
        store.put(&mut zone, "shared/newest", &bytes(&mut random, 5_000), victim);
        victim = Some(store.seal(zone));
        let mut zone = store.open_zone(4 * volume + 2, 1);
        store.put(&mut zone, &format!("v{volume}/open"), &bytes(&mut random, 3_000), None);
        open.push(zone);
    }
    store.checkpoint(1, &open.iter().collect::<Vec<_>>());
    store
}

fn fsck_of(paths: &[std::path::PathBuf]) -> (i32, Value) {
    let mut args = vec!["fsck", "--json"];
    args.extend(paths.iter().map(|path| path.to_str().unwrap()));
    json(&args)
}

#[test]
fn a_store_over_several_volumes_is_checked_as_one_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_over_three(folder.path());
    let mut paths = store.paths.clone();
    for _ in 0..3 {
        let (code, report) = fsck_of(&paths);
        assert_eq!((code, &report["record_count"]), (0, &18.into()), "{report:#}");
        paths.rotate_left(1);
    }
    let hit = store.written.iter().find(|put| put.key == "v2/1").unwrap();
    let last = std::fs::File::options().read(true).write(true).open(&store.paths[2]).unwrap();
    support::flip(&last, hit.volume_offset + 9_000, 3);
    let (code, report) = fsck_of(&paths);
    assert_eq!((code, damage(&report).len()), (1, 1), "{report:#}");
    let found = &damage(&report)[0];
    assert_eq!((&found["key"], &found["volume"]), (&"v2/1".into(), &2.into()), "{report:#}");
    assert_eq!(found["status"], "live");
    let (code, report) = json(&[
        "inspect",
        paths[0].to_str().unwrap(),
        paths[1].to_str().unwrap(),
        paths[2].to_str().unwrap(),
        "--key",
        "shared/newest",
        "--json",
    ]);
    assert_eq!((code, &report["live"]), (0, &true.into()), "{report:#}");
    assert_eq!(report["versions"][0]["zone"], 8, "the newest lies on the last volume");
}

#[test]
fn a_missing_volume_is_named_and_the_others_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_over_three(folder.path());
    let here = [store.paths[0].clone(), store.paths[2].clone()];
    let (code, report) = fsck_of(&here);
    assert_eq!((code, damage(&report).len()), (1, 1), "{report:#}");
    assert_eq!(damage(&report)[0]["structure"], "missing volume");
    assert_eq!(report["missing"], serde_json::json!([1]));
    assert_eq!(report["record_count"], 12, "{report:#}");
}

#[test]
fn volumes_that_do_not_belong_together_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_over_three(folder.path());
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let single = StoreBuilder::new(&other, 1 << 20, 4);
    let refused = |paths: &[&std::path::PathBuf], word: &str| {
        let mut args = vec!["fsck"];
        args.extend(paths.iter().map(|path| path.to_str().unwrap()));
        let output = tapectl(&args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(word), "{text}");
    };
    refused(&[&store.paths[0], &store.paths[0]], "volume 0 again");
    refused(&[&store.paths[0], &single.path], "number or size of volumes");
}

#[test]
fn one_zone_can_be_checked_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = mixed_store(folder.path(), &mut Random(9));
    let hit = store.written.iter().find(|put| put.zone == 2).unwrap();
    store.flip(hit.volume_offset + 300, 1);
    let path = store.path.to_str().unwrap();
    let of_zone = |zone: &str| json(&["fsck", path, "--zone", zone, "--json"]);
    assert_eq!(of_zone("0").0, 0);
    let (code, report) = of_zone("2");
    assert_eq!((code, &damage(&report)[0]["key"]), (1, &hit.key.as_str().into()), "{report:#}");
    assert_eq!(tapectl(&["fsck", path, "--zone", "6"]).status.code(), Some(2));
}

#[test]
fn a_damaged_journal_record_counts_only_while_its_zone_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreBuilder::new(folder.path(), 1 << 20, 4);
    let mut first = store.open_zone(0, 1);
    store.put(&mut first, "n/a", &[1; 100], None);
    let first = store.seal(first);
    let waiting = store.open_zone(1, 5);
    let at = store.journal_record(&waiting, "n/a", first);
    store.checkpoint(1, &[&waiting]);
    let (code, report) = fsck(&store.path);
    assert_eq!((code, report["torn"].as_array().unwrap().len()), (0, 0), "{report:#}");
    let key = json(&["inspect", store.path.to_str().unwrap(), "--key", "n/a", "--json"]);
    assert_eq!(key.1["live"], false, "the journal's kill counts: {:#}", key.1);
    for offset in [at + 60, at + 200, at + 5] {
        store.flip(offset, 2);
        let (code, report) = fsck(&store.path);
        assert_eq!(code, 1, "{offset}: {report:#}");
        assert_eq!(damage(&report)[0]["structure"], "carry journal");
        store.flip(offset, 2);
    }
    // Once the zone has moved on nobody needs it.
    let mut later = store.open_zone(1, 6);
    store.put(&mut later, "n/b", &[2; 100], None);
    store.checkpoint(2, &[&later]);
    store.flip(at + 200, 2);
    assert_eq!(fsck(&store.path).0, 0);
}

#[test]
fn a_hole_at_the_start_of_a_zone_that_the_journal_still_fills_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreBuilder::new(folder.path(), 1 << 20, 4);
    let mut first = store.open_zone(0, 1);
    store.put(&mut first, "n/a", &[1; 100], None);
    let first = store.seal(first);
    let mut zone = store.open_zone(1, 5);
    let at = store.journal_record(&zone, "n/a", first);
    // The drive refused the carry in the zone, and took what came behind it.
    zone.skip(BLOCK as u64);
    store.put(&mut zone, "n/b", &[2; 9_000], None);
    store.checkpoint(1, &[&zone]);
    let (code, report) = fsck(&store.path);
    assert_eq!((code, report["torn"].as_array().unwrap().len()), (0, 1), "{report:#}");
    store.flip(at + 200, 2);
    let (code, report) = fsck(&store.path);
    let names: Vec<_> =
        damage(&report).iter().map(|found| found["structure"].as_str().unwrap()).collect();
    assert_eq!((code, names), (1, vec!["carry journal", "record"]), "{report:#}");
}
