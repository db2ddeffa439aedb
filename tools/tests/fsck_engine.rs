//! Done-when 7: fsck against a store that the engine made. Each of 200 random bit flips in live
//! records is found and named; a clean store is clean.

mod support;

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

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
            assert!(engine.delete(&key).await?);
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

/// Where the live record of a key lies: (offset in the volume, length).
fn place(path: &str, key: &str) -> (u64, u64, Value) {
    let (code, report) = json(&["inspect", path, "--key", key, "--json"]);
    assert_eq!(code, 0, "{key} is not live: {report:#}");
    let live = report["versions"].as_array().unwrap();
    let live = live.iter().find(|version| version["verdict"] == "live").unwrap().clone();
    let geometry = tapeloop_engine::Geometry::for_capacity(CAPACITY).unwrap();
    let zone = live["zone"].as_u64().unwrap() as u32;
    let offset = geometry.zone_offset(zone) + live["zone_offset"].as_u64().unwrap();
    (offset, live["object"]["record_len"].as_u64().unwrap(), live)
}

#[test]
fn each_of_200_flips_in_live_records_of_a_real_store_is_found_and_none_without() {
    let seed = seed();
    let mut random = Random(seed);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volume");
    let keys = make_store(&path, &mut random);
    assert!(keys.len() > 60);
    let (code, report) = fsck(&path);
    assert_eq!(code, 0, "seed {seed}: a clean store: {report:#}");
    assert!(report["sealed_zones"].as_u64().unwrap() >= 1, "{report:#}");
    assert_eq!(report["torn"].as_array().unwrap().len(), 0, "{report:#}");
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let path_text = path.to_str().unwrap();
    for _ in 0..200 {
        let key = &keys[random.below(keys.len() as u64) as usize];
        let (offset, len, live) = place(path_text, key);
        let (at, bit) = (offset + random.below(len), random.below(8) as u8);
        flip(&file, at, bit);
        let (code, report) = fsck(&path);
        flip(&file, at, bit);
        let damage = report["damage"].as_array().unwrap();
        assert_eq!((code, damage.len()), (1, 1), "seed {seed}: {key} at {at}.{bit}: {report:#}");
        assert_eq!(damage[0]["key"], key.as_str(), "seed {seed}: {report:#}");
        assert_eq!(damage[0]["status"], "live", "seed {seed}: {report:#}");
        assert_eq!(damage[0]["lsn"], live["lsn"]);
    }
    assert_eq!(fsck(&path).0, 0, "all flips were taken back");
}
