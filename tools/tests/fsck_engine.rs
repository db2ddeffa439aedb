//! fsck against a store that the engine made: every random bit flip in live data is found and, in
//! an object, named; a clean store is clean.

mod support;

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use support::{Random, bytes, flip, fsck, json, seed};
use tapeloop_engine::{Ack, Engine, Key, Options, PutOptions, block_on};

const CAPACITY: u64 = 32 << 20;

type Failure = Box<dyn std::error::Error>;

/// Objects of all sizes, overwrites and deletes, over several zones, and a clean stop. Gives the
/// keys that exist.
fn make_store(path: &Path, random: &mut Random) -> Vec<String> {
    tapeloop_engine::format(&[path.to_path_buf()], CAPACITY, &mut |_, _| {}).unwrap();
    let (engine, _) = Engine::open(Options::new(path)).unwrap();
    let mut objects = HashMap::new();
    block_on(64, fill(&engine, random, &mut objects)).unwrap().unwrap();
    engine.close();
    let mut keys: Vec<String> = objects.into_keys().collect();
    keys.sort();
    keys
}

async fn fill(
    engine: &Engine,
    random: &mut Random,
    objects: &mut HashMap<String, usize>,
) -> Result<(), Failure> {
    for number in 0..230 {
        // A fifth of the names is used again, so that there are overwrites.
        let name = format!("live/r{}/seg-{:04}.m4s", number % 3, random.below(180));
        let key = Key::new(name.clone().into_bytes())?;
        if random.below(10) == 0 && objects.remove(&name).is_some() {
            engine.delete(&key).await?;
            continue;
        }
        let len = match random.below(4) {
            0 => random.below(3_000),
            1 => random.below(70_000),
            _ => random.below(200_000),
        } as usize;
        let ttl_ms = [3_600_000, 86_400_000][random.below(2) as usize];
        let options = PutOptions { ttl_ms, ..PutOptions::default() };
        let mut upload = engine.put(&key, options).await?;
        upload.write(&bytes(random, len)).await?;
        upload.commit(Ack::Durable).await?;
        objects.insert(name, len);
    }
    Ok(())
}

/// `TAPELOOP_CHECKS=200` checks more often.
#[test]
fn a_store_that_is_written_to_while_it_is_checked_is_never_called_damaged() {
    let seed = seed();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("volume");
    tapeloop_engine::format(std::slice::from_ref(&path), CAPACITY, &mut |_, _| {}).unwrap();
    let (engine, _) = Engine::open(Options::new(&path)).unwrap();
    let is_over = AtomicBool::new(false);
    let count = std::env::var("TAPELOOP_CHECKS").ok().and_then(|count| count.parse().ok());
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let (engine, is_over) = (&engine, &is_over);
                scope.spawn(move || {
                    let mut random = Random(seed.wrapping_add(writer));
                    while !is_over.load(Ordering::Relaxed) {
                        // The ring wraps: zones are sealed, reused and scanned all the time.
                        block_on(64, fill(engine, &mut random, &mut HashMap::new()))
                            .unwrap()
                            .unwrap();
                    }
                })
            })
            .collect();
        for _ in 0..count.unwrap_or(30) {
            let (code, report) = fsck(&path);
            is_over.store(code != 0, Ordering::Relaxed);
            assert_eq!(code, 0, "seed {seed}: {report:#}");
        }
        is_over.store(true, Ordering::Relaxed);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    });
    engine.close();
    assert_eq!(fsck(&path).0, 0);
}

/// Something that holds live data, or leads to it.
#[derive(Debug)]
struct Target {
    /// On the volume.
    offset: u64,
    len: u64,
    zone: Option<u64>,
    /// Of an object: its key and LSN.
    object: Option<(String, u64)>,
}

/// Every live object's record, and every structure that recovery goes by: volume headers, the
/// newest checkpoint, and header and footer of each zone in use.
fn targets(path: &Path, keys: &[String]) -> Vec<Target> {
    let path_text = path.to_str().unwrap();
    let geometry = tapeloop_engine::Geometry::for_capacity(CAPACITY).unwrap();
    let mut targets: Vec<Target> = keys.iter().map(|key| live_record(path_text, key)).collect();
    let block = 4096;
    let outside = |offset| Target { offset, len: block, zone: None, object: None };
    targets.extend([outside(0), outside(geometry.header_b_offset())]);
    let (_, report) = json(&["inspect", path_text, "--json"]);
    let newest = report["checkpoint"]["sequence"].as_u64().unwrap() % 2;
    targets.push(outside(block * (1 + newest)));
    for row in report["zones"].as_array().unwrap() {
        let zone = row["zone"].as_u64().unwrap();
        let start = geometry.zone_offset(zone as u32);
        let in_zone = |offset, len| Target { offset, len, zone: Some(zone), object: None };
        if row["state"] != "unused" {
            targets.push(in_zone(start, block));
        }
        if row["state"] == "sealed" {
            // The trailer says where the footer starts.
            let (mut at, file) = ([0; 4], File::open(path).unwrap());
            let end = start + geometry.zone_size();
            file.read_exact_at(&mut at, end - block + 124).unwrap();
            let footer = u64::from(u32::from_le_bytes(at));
            targets.push(in_zone(start + footer, geometry.zone_size() - footer));
        }
    }
    targets
}

fn live_record(path: &str, key: &str) -> Target {
    let (code, report) = json(&["inspect", path, "--key", key, "--json"]);
    assert_eq!(code, 0, "{key} is not live: {report:#}");
    let live = report["versions"].as_array().unwrap();
    let live = live.iter().find(|version| version["verdict"] == "live").unwrap();
    let geometry = tapeloop_engine::Geometry::for_capacity(CAPACITY).unwrap();
    let zone = live["zone"].as_u64().unwrap();
    let offset = geometry.zone_offset(zone as u32) + live["zone_offset"].as_u64().unwrap();
    let len = live["object"]["record_len"].as_u64().unwrap();
    let object = Some((key.to_owned(), live["lsn"].as_u64().unwrap()));
    Target { offset, len, zone: Some(zone), object }
}

/// What fsck says with one bit flipped. All of the store is checked now and then, and always when
/// the bit lies outside the zones; else the zone that the bit lies in, by the same code.
fn fsck_after_flip(path: &Path, target: &Target, whole: bool) -> (i32, Value) {
    let path = path.to_str().unwrap();
    match target.zone.filter(|_| !whole) {
        Some(zone) => json(&["fsck", path, "--zone", &zone.to_string(), "--json"]),
        None => json(&["fsck", path, "--json"]),
    }
}

/// `TAPELOOP_FLIPS=10000` flips more of them.
#[test]
fn each_of_500_flips_in_live_data_of_a_real_store_is_found_and_none_without() {
    let seed = seed();
    let mut random = Random(seed);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("volume");
    let keys = make_store(&path, &mut random);
    assert!(keys.len() > 60);
    let (code, report) = fsck(&path);
    assert_eq!(code, 0, "seed {seed}: a clean store: {report:#}");
    assert!(report["sealed_zones"].as_u64().unwrap() >= 1, "{report:#}");
    assert_eq!(report["torn"].as_array().unwrap().len(), 0, "{report:#}");
    let targets = targets(&path, &keys);
    let structures = targets.iter().filter(|target| target.object.is_none()).count();
    assert!(structures >= 6, "{structures}");
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let count = std::env::var("TAPELOOP_FLIPS").ok().and_then(|count| count.parse().ok());
    let count: u64 = count.unwrap_or(500);
    let begun = std::time::Instant::now();
    let mut in_structures = 0;
    for number in 0..count {
        let target = draw(&targets, number, &mut random);
        let (at, bit) = (target.offset + random.below(target.len), random.below(8) as u8);
        flip(&file, at, bit);
        let (code, report) = fsck_after_flip(&path, target, number % 50 == 0);
        flip(&file, at, bit);
        let what = format!("seed {seed}: bit {bit} at {at} of {target:?}");
        assert_eq!(code, 1, "{what} was missed: {report:#}");
        let damage = report["damage"].as_array().unwrap();
        let Some((key, lsn)) = &target.object else {
            in_structures += 1;
            continue;
        };
        assert_eq!(damage.len(), 1, "{what}: {report:#}");
        assert_eq!(damage[0]["key"], key.as_str(), "{what}: {report:#}");
        assert_eq!(damage[0]["status"], "live", "{what}: {report:#}");
        assert_eq!(damage[0]["lsn"], *lsn, "{what}");
    }
    assert_eq!(fsck(&path).0, 0, "all flips were taken back");
    let took_s = begun.elapsed().as_secs();
    println!("{count} flips, {in_structures} of them in structures, all found, in {took_s} s");
    assert!(in_structures > 0);
}

/// Four of five by size, so that every byte is as likely; the fifth in a structure.
fn draw<'t>(targets: &'t [Target], number: u64, random: &mut Random) -> &'t Target {
    if number.is_multiple_of(5) {
        let structures: Vec<&Target> = targets.iter().filter(|t| t.object.is_none()).collect();
        return structures[random.below(structures.len() as u64) as usize];
    }
    let total: u64 = targets.iter().map(|target| target.len).sum();
    let mut place = random.below(total);
    targets
        .iter()
        .find(|target| match place.checked_sub(target.len) {
            Some(rest) => {
                place = rest;
                false
            }
            None => true,
        })
        .expect("a place below the sum lies in one of them")
}
