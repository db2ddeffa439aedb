//! `tapectl fsck --repair` mends what is proven, can be taken back, and never loses an object.

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::Value;
use support::{Random, StoreBuilder, bytes, dump, fsck, json, mixed_store, seed, tapectl};
use tapeloop_engine::{Engine, Key, Options, block_on};
use tapeloop_format::{BLOCK, CHECKPOINT_SLOTS, Checkpoint};

fn repair(path: &Path, yes: bool) -> (i32, Value) {
    let mut args = vec!["fsck", path.to_str().unwrap(), "--repair", "--json"];
    args.extend(yes.then_some("--yes"));
    json(&args)
}

fn undo(path: &Path, file: &str) -> i32 {
    let args = ["fsck", path.to_str().unwrap(), "--undo", file, "--yes"];
    tapectl(&args).status.code().unwrap()
}

fn plan(report: &Value) -> Vec<&str> {
    report["plan"].as_array().unwrap().iter().map(|step| step["what"].as_str().unwrap()).collect()
}

#[test]
fn a_damaged_header_copy_is_written_from_the_other_and_undo_takes_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = mixed_store(folder.path(), &mut Random(1));
    let whole = std::fs::read(&store.path).unwrap();
    for (at, damage) in [
        (0, vec![0; BLOCK]),
        (0, whole[..10].iter().map(|byte| byte ^ 0x10).take(1).collect()),
        (store.geometry.header_b_offset(), vec![0xff; 100]),
        (store.geometry.header_b_offset(), vec![0; BLOCK]),
    ] {
        let keeps_magic = damage[0] == 0xff;
        let at_byte = if keeps_magic { at + 1000 } else { at };
        store.file.write_all_at(&damage, at_byte).unwrap();
        let damaged = std::fs::read(&store.path).unwrap();
        let (code, report) = repair(&store.path, false);
        assert_eq!((code, plan(&report).len()), (1, 1), "{report:#}");
        assert!(damaged == std::fs::read(&store.path).unwrap(), "the plan alone changes nothing");
        let (code, report) = repair(&store.path, true);
        assert_eq!(code, 0, "{report:#}");
        assert!(whole == std::fs::read(&store.path).unwrap(), "back to the byte");
        let file = report["undo_file"].as_str().unwrap();
        let without_yes = tapectl(&["fsck", store.path.to_str().unwrap(), "--undo", file]);
        assert_eq!(without_yes.status.code(), Some(1));
        assert!(whole == std::fs::read(&store.path).unwrap());
        assert_eq!(undo(&store.path, file), 0);
        assert!(damaged == std::fs::read(&store.path).unwrap(), "and back again");
        assert_eq!(repair(&store.path, true).0, 0);
        std::fs::remove_file(file).ok();
    }
}

#[test]
fn what_somebody_else_wrote_over_a_header_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = mixed_store(folder.path(), &mut Random(2));
    let mut foreign = vec![0x5a; BLOCK];
    foreign[..4].copy_from_slice(b"XFSB");
    store.file.write_all_at(&foreign, 0).unwrap();
    let before = std::fs::read(&store.path).unwrap();
    let (code, report) = repair(&store.path, true);
    assert_eq!((code, plan(&report).len()), (1, 0), "{report:#}");
    assert!(report["left"][0].as_str().unwrap().contains("something else"), "{report:#}");
    assert!(before == std::fs::read(&store.path).unwrap());
}

/// Sealed zones of `mixed_store` are 0 and 1; the footer of zone 1 has a block of each table.
#[test]
fn a_footer_is_rebuilt_to_the_byte_from_the_records_of_its_zone() {
    let seed = seed();
    let mut random = Random(seed);
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = mixed_store(folder.path(), &mut random);
    let whole = std::fs::read(&store.path).unwrap();
    let end = store.geometry.zone_offset(2);
    let block = BLOCK as u64;
    for (table, at) in
        [("entries", end - 4 * block), ("kills", end - 3 * block), ("keys", end - 2 * block)]
    {
        for zeroed in [true, false] {
            match zeroed {
                true => store.file.write_all_at(&[0; BLOCK], at).unwrap(),
                false => store.flip(at + random.below(block), random.below(8) as u8),
            }
            let (code, report) = repair(&store.path, true);
            assert_eq!(code, 0, "seed {seed}, {table}: {report:#}");
            assert!(plan(&report)[0].starts_with("rebuild the footer of zone 1"), "{report:#}");
            assert!(whole == std::fs::read(&store.path).unwrap(), "seed {seed}: {table}");
        }
    }
    // The trailer keeps one thing that nothing else has: when the zone was sealed.
    store.file.write_all_at(&[0xee; BLOCK], end - block).unwrap();
    let (code, report) = repair(&store.path, true);
    assert_eq!(code, 0, "{report:#}");
    let now = std::fs::read(&store.path).unwrap();
    let differs = (0..whole.len()).filter(|at| whole[*at] != now[*at]).collect::<Vec<_>>();
    let trailer = (end - block) as usize;
    let is_seal_time = |at: usize| (72..80).contains(&at) || (4092..4096).contains(&at);
    assert!(differs.iter().all(|at| is_seal_time(at - trailer)), "{differs:?}");
}

#[test]
fn a_footer_that_its_records_do_not_prove_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = mixed_store(folder.path(), &mut Random(4));
    let whole = std::fs::read(&store.path).unwrap();
    let end = store.geometry.zone_offset(2);
    let block = BLOCK as u64;
    let hit = store.written.iter().find(|put| put.key == "live/b.ts").unwrap();
    let first = store.written.iter().rfind(|put| put.key == "live/a0.ts").unwrap();
    let cases: [&[u64]; 4] = [
        // A table, and a record of the zone.
        &[end - 3 * block, first.volume_offset],
        &[end - 3 * block, hit.volume_offset],
        &[end - 4 * block, hit.volume_offset + 100_000],
        // Trailer and entries: nothing tells whether the records are all there.
        &[end - block, end - 4 * block],
    ];
    for blocks in cases {
        for at in blocks {
            store.file.write_all_at(&[0; BLOCK], at / block * block).unwrap();
        }
        let damaged = std::fs::read(&store.path).unwrap();
        let (code, report) = repair(&store.path, true);
        assert_eq!((code, plan(&report).len()), (1, 0), "{report:#}");
        let left = report["left"].to_string();
        assert!(left.contains("footer of zone 1"), "{left}");
        assert!(damaged == std::fs::read(&store.path).unwrap());
        store.file.write_all_at(&whole, 0).unwrap();
    }
}

#[test]
fn a_torn_tail_is_dropped_and_the_same_bytes_once_acknowledged_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreBuilder::new(folder.path(), 1 << 20, 4);
    let mut zone = store.open_zone(0, 1);
    store.put(&mut zone, "n/kept", &[1; 5_000], None);
    let durable = (zone.zone_lap(), zone.used());
    store.put(&mut zone, "n/unmarked", &[3; 5_000], None);
    let tail = store.put(&mut zone, "n/tail", &[2; 50_000], None);
    store.file.write_all_at(&[0; 8192], tail.volume_offset + tail.record_len - 8192).unwrap();
    // First all of it was acknowledged, then it was not.
    store.checkpoint_marks(1, tail.lsn, &[durable]);
    let (code, report) = repair(&store.path, true);
    assert_eq!((code, plan(&report).len()), (1, 0), "{report:#}");
    store.checkpoint_marks(2, tail.lsn - 1, &[durable]);
    store.checkpoint_marks(3, tail.lsn - 1, &[durable]);
    assert_eq!(fsck(&store.path).1["torn"].as_array().unwrap().len(), 1);
    // With a checkpoint lost nobody can tell which of the two it was.
    store.flip(CHECKPOINT_SLOTS[0] + 60, 1);
    let (code, report) = repair(&store.path, true);
    assert_eq!((code, plan(&report).len()), (1, 0), "{report:#}");
    store.flip(CHECKPOINT_SLOTS[0] + 60, 1);
    // Header and payload of the same record: two findings, one place to mend.
    store.flip(tail.volume_offset + 147, 1);
    assert_eq!(fsck(&store.path).1["torn"].as_array().unwrap().len(), 2);
    let (code, report) = repair(&store.path, true);
    assert_eq!((code, plan(&report).len()), (0, 1), "{report:#}");
    assert_eq!(report["fsck"]["torn"].as_array().unwrap().len(), 0, "{report:#}");
    assert_eq!(dump(&store.path).0.len(), 2, "what was whole is still there");
}

#[test]
fn a_store_in_use_is_not_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = mixed_store(folder.path(), &mut Random(5));
    store.flip(store.geometry.header_b_offset() + 40, 1);
    let (engine, _) = Engine::open(Options::new(&store.path)).unwrap();
    let output = tapectl(&["fsck", store.path.to_str().unwrap(), "--repair", "--yes"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("in use"), "{text}");
    engine.close();
}

#[test]
fn an_undo_after_the_store_went_on_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = mixed_store(folder.path(), &mut Random(6));
    store.flip(store.geometry.header_b_offset() + 40, 1);
    let (_, report) = repair(&store.path, true);
    let file = report["undo_file"].as_str().unwrap().to_owned();
    store.flip(store.geometry.header_b_offset() + 90, 1);
    let before = std::fs::read(&store.path).unwrap();
    assert_eq!(undo(&store.path, &file), 2);
    assert!(before == std::fs::read(&store.path).unwrap());
}

/// What an engine that opens a copy of the store serves of these keys: key and content.
fn served(path: &Path, keys: &[String]) -> Option<BTreeMap<String, Vec<u8>>> {
    let copy = path.with_extension("copy");
    std::fs::copy(path, &copy).unwrap();
    let opened = Engine::open(Options::new(&copy));
    let Ok((engine, _)) = opened else {
        std::fs::remove_file(&copy).unwrap();
        return None;
    };
    let objects = block_on(64, async {
        let mut objects = BTreeMap::new();
        for name in keys {
            let key = Key::new(name.clone().into_bytes()).unwrap();
            let Ok(Some(object)) = engine.get(&key).await else { continue };
            let len = object.info().len.unwrap();
            let mut chunks = object.read(0..len);
            let mut content = Vec::new();
            let whole = loop {
                match chunks.next().await {
                    Some(Ok(chunk)) => content.extend_from_slice(&chunk),
                    None => break true,
                    Some(Err(_)) => break false,
                }
            };
            if whole {
                objects.insert(name.clone(), content);
            }
        }
        objects
    });
    engine.close();
    std::fs::remove_file(&copy).unwrap();
    Some(objects.unwrap())
}

/// Something bad at a random place: mostly where something is.
fn damage(store: &StoreBuilder, random: &mut Random) -> String {
    let (block, geometry) = (BLOCK as u64, &store.geometry);
    let hit = &store.written[random.below(store.written.len() as u64) as usize];
    let zone_end = geometry.zone_offset(random.below(4) as u32 + 1);
    let at = match random.below(8) {
        0 => random.below(geometry.volume_len()),
        1 => {
            [0, CHECKPOINT_SLOTS[0], CHECKPOINT_SLOTS[1], geometry.header_b_offset()]
                [random.below(4) as usize]
                + random.below(block)
        }
        2 => zone_end - geometry.zone_size() + random.below(block),
        3 | 4 => zone_end - 1 - random.below(5 * block),
        _ => hit.volume_offset + random.below(hit.record_len),
    };
    let start = at / block * block;
    match random.below(4) {
        0 => store.file.write_all_at(&[0; BLOCK], start).unwrap(),
        1 => store.file.write_all_at(&bytes(random, BLOCK), start).unwrap(),
        2 => store.file.write_all_at(&[0; 512], at / 512 * 512).unwrap(),
        _ => {
            let bit = random.below(8) as u8;
            store.flip(at, bit);
            return format!("flip of bit {bit} at {at}");
        }
    }
    format!("block at {start}")
}

#[test]
fn a_lost_header_of_a_reused_zone_costs_nothing_and_brings_nothing_back() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut store = StoreBuilder::new(folder.path(), 1 << 20, 4);
    let mut old = store.open_zone(0, 1);
    store.put(&mut old, "n/old", &[1; 200_000], None);
    store.put(&mut old, "n/older", &[1; 200_000], None);
    store.seal(old);
    let mut zone = store.open_zone(0, 2);
    store.put(&mut zone, "n/new", &[2; 300], None);
    store.checkpoint(1, &[&zone]);
    let keys = ["n/old", "n/older", "n/new"].map(str::to_owned);
    for damage in [vec![0; BLOCK], vec![0xee; 100]] {
        store.file.write_all_at(&damage, store.geometry.zone_offset(0)).unwrap();
        assert_eq!(names(&served(&store.path, &keys).unwrap()), ["n/new"]);
        assert_eq!(names(&dump(&store.path).0), ["n/new"]);
    }
}

/// `TAPELOOP_REPAIRS=2000` tries longer, `TAPELOOP_SEED` tries again.
#[test]
fn no_object_that_could_be_read_is_lost_by_a_repair_and_the_engine_agrees() {
    let seed = seed();
    let count = std::env::var("TAPELOOP_REPAIRS").ok().and_then(|count| count.parse().ok());
    let (mut repairs, mut plans) = (0, 0);
    for round in 0..count.unwrap_or(40) {
        let mut random = Random(seed.wrapping_add(round));
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (mut store, mut open) = mixed_store(folder.path(), &mut random);
        let mut keys: Vec<String> = store.written.iter().map(|put| put.key.clone()).collect();
        keys.extend((0..12).map(|index| format!("old/{index}")));
        // Acknowledged by the word of the last record alone; that one was not, and is torn.
        let zone = &mut open[random.below(2) as usize];
        let kept = store.put(zone, "live/late.ts", &bytes(&mut random, 9_000), None);
        let torn = store.put(zone, "live/torn.ts", &bytes(&mut random, 30_000), None);
        let cut = random.below(8) * BLOCK as u64;
        store.file.write_all_at(&[0; BLOCK], torn.volume_offset + cut).unwrap();
        assert!(kept.lsn < torn.lsn);
        let marks = vec![(zone.zone_lap(), kept.zone_offset)];
        let marks = [marks, other_marks(&open, kept.zone)].concat();
        store.checkpoint_marks(3, kept.lsn - 1, &marks);
        let keys = [keys, vec!["live/late.ts".into(), "live/torn.ts".into()]].concat();
        let done: Vec<String> =
            (0..1 + random.below(3)).map(|_| damage(&store, &mut random)).collect();
        let what = format!("TAPELOOP_SEED={} {done:?}", seed.wrapping_add(round));
        if !knows_its_time(&store) {
            continue; // By the wall clock, decades later, everything in this store has expired.
        }
        let (before, before_code) = dump(&store.path);
        if before_code == 2 {
            continue; // Both header copies: there is no store left to repair.
        }
        let served_before = served(&store.path, &keys);
        let damaged = std::fs::read(&store.path).unwrap();
        let (code, report) = repair(&store.path, true);
        assert!(code < 2, "{what}: {report:#}");
        repairs += 1;
        plans += plan(&report).len();
        let (after, _) = dump(&store.path);
        // Of these the newest version is damaged: what was read in its place, while its footer was
        // damaged as well, was an older one.
        let older: Vec<&str> = live_damage(&report);
        let is_newest = |key: &str| !older.contains(&key);
        let newest_of = |keys: Vec<&String>| {
            keys.into_iter().filter(|key| is_newest(key)).cloned().collect::<Vec<_>>()
        };
        for (key, content) in before.iter().filter(|(key, _)| is_newest(key)) {
            assert_eq!(after.get(key), Some(content), "{what}: {key}: {report:#}");
        }
        let served_after = served(&store.path, &keys);
        if let Some(served_before) = &served_before {
            let served_after = served_after.as_ref().expect("it opened before");
            for (key, content) in served_before.iter().filter(|(key, _)| is_newest(key)) {
                assert!(served_after.get(key) == Some(content), "{what}: {key}: {report:#}");
            }
            let [dumped, served] = [names(&before), names(served_before)].map(newest_of);
            assert_eq!(dumped, served, "{what}: before");
        }
        if let Some(served_after) = &served_after {
            let [dumped, served] = [names(&after), names(served_after)].map(newest_of);
            assert_eq!(dumped, served, "{what}: after: {report:#}");
        }
        if let Some(file) = report["undo_file"].as_str() {
            assert_eq!(undo(&store.path, file), 0, "{what}");
            assert!(damaged == std::fs::read(&store.path).unwrap(), "{what}: undone to the byte");
        }
    }
    println!("{repairs} damaged stores, {plans} places mended");
    assert!(plans > repairs / 4, "mostly nothing was there to repair: {plans} of {repairs}");
}

/// Keys whose newest version is found damaged after the repair.
fn live_damage(report: &Value) -> Vec<&str> {
    let damage = report["fsck"]["damage"].as_array().expect("a list").iter();
    let live = damage.filter(|found| found["status"] == "live");
    live.filter_map(|found| found["key"].as_str()).collect()
}

/// Is one of its two checkpoints intact?
fn knows_its_time(store: &StoreBuilder) -> bool {
    let slots = CHECKPOINT_SLOTS.map(|at| {
        let mut block = [0; BLOCK];
        store.file.read_exact_at(&mut block, at).unwrap();
        Checkpoint::decode(&block, &store.store_id)
    });
    Checkpoint::newest(slots).is_some()
}

fn names<T>(objects: &BTreeMap<String, T>) -> Vec<&String> {
    objects.keys().collect()
}

fn other_marks(open: &[support::OpenZone], but: u32) -> Vec<(tapeloop_format::ZoneLap, u64)> {
    let others = open.iter().filter(|zone| zone.zone_lap().zone != but);
    others.map(|zone| (zone.zone_lap(), zone.used())).collect()
}
