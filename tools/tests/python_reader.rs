//! A reader in Python, written from docs/disk-format.md alone, reads every object and agrees with
//! fsck, dump and the origin about keys, lengths and hashes: after a clean stop, after kill -9, and
//! with damage. So the page says enough, and the program does what the page says.

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use support::origin::{Client, Origin};
use support::{Random, StoreBuilder, bytes, flip, fsck, json, mixed_store, seed};

/// What both sides say of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    len: u64,
    content_hash: String,
    metadata: String,
}

fn reader(args: &[&str]) -> std::process::Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("reader/read_store.py");
    let mut command = Command::new("python3");
    // Nothing is written beside the sources.
    command.arg("-B").arg(script).args(args);
    command.output().unwrap_or_else(|error| {
        panic!("python3: {error}; install it with: sudo apt-get install -y python3")
    })
}

fn read_with_python(volumes: &[PathBuf]) -> (i32, Value) {
    let mut args = vec!["check", "--json"];
    args.extend(volumes.iter().map(|path| path.to_str().unwrap()));
    let output = reader(&args);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout);
    (output.status.code().unwrap(), report.unwrap_or_else(|error| panic!("{error}: {text}")))
}

fn unhex(text: &str) -> Vec<u8> {
    let (pairs, _) = text.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.iter().map(byte).collect()
}

/// Undamaged live objects by key, as Python tells.
fn by_python(report: &Value) -> BTreeMap<String, Said> {
    let objects = report["objects"].as_array().unwrap().iter();
    let whole = objects.filter(|object| object["damage"].is_null());
    whole
        .map(|object| {
            let key = String::from_utf8(unhex(object["key_hex"].as_str().unwrap())).unwrap();
            let text = |name: &str| object[name].as_str().unwrap().to_owned();
            let (content_hash, metadata) = (text("content_hash"), text("metadata_hex"));
            (key, Said { len: object["len"].as_u64().unwrap(), content_hash, metadata })
        })
        .collect()
}

/// The same, as `tapectl dump` tells.
fn by_tapectl(volumes: &[PathBuf]) -> BTreeMap<String, Said> {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("dump");
    let mut args = vec!["dump", "--json", "--to", to.to_str().unwrap()];
    args.extend(volumes.iter().map(|path| path.to_str().unwrap()));
    json(&args);
    let manifest = std::fs::read_to_string(to.join("manifest.jsonl")).unwrap();
    let lines = manifest.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter(|line| line["key"].is_string())
        .map(|line| {
            let text = |name: &str| line[name].as_str().unwrap().to_owned();
            let (content_hash, metadata) = (text("content_hash"), text("metadata"));
            (text("key"), Said { len: line["len"].as_u64().unwrap(), content_hash, metadata })
        })
        .collect()
}

#[test]
fn the_checksums_written_in_python_agree_with_their_published_vectors() {
    let output = reader(&["selftest"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn python_and_tapectl_agree_on_overwrites_deletes_voids_old_laps_and_open_zones() {
    let seed = seed();
    for round in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let mut random = Random(seed.wrapping_add(round));
        let (store, _) = mixed_store(folder.path(), &mut random);
        let volumes = [store.path.clone()];
        let (code, report) = read_with_python(&volumes);
        assert_eq!(code, 0, "seed {seed}: {report:#}");
        let said = by_python(&report);
        assert!(said.len() > 20 && !said.contains_key("live/a1.ts"), "deleted");
        assert_eq!(said, by_tapectl(&volumes), "seed {seed}");
        let states = |report: &Value| {
            let zones = report["zones"].as_array().unwrap().iter();
            zones.map(|zone| zone["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let (_, seen) = json(&["inspect", store.path.to_str().unwrap(), "--json"]);
        assert_eq!(states(&report), states(&seen));
    }
}

#[test]
fn python_and_tapectl_agree_on_several_volumes_and_on_one_of_them_missing() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(8);
    let mut store = StoreBuilder::over(folder.path(), 1 << 20, 4, 3);
    let mut victim = None;
    for zone in [0, 5, 10] {
        let mut open = store.open_zone(zone, 1);
        store.put(&mut open, "shared/newest", &bytes(&mut random, 70_000), victim);
        store.put(&mut open, &format!("own/{zone}"), &bytes(&mut random, 1_000), None);
        victim = Some(store.seal(open));
    }
    store.checkpoint(1, &[]);
    let (code, report) = read_with_python(&store.paths);
    assert_eq!((code, by_python(&report).len()), (0, 4), "{report:#}");
    assert_eq!(by_python(&report), by_tapectl(&store.paths));
    let (code, report) = read_with_python(&store.paths[..2]);
    assert_eq!((code, by_python(&report).len()), (1, 3), "{report:#}");
    assert_eq!(by_python(&report), by_tapectl(&store.paths[..2]));
}

#[test]
fn python_and_fsck_find_the_same_place_for_every_flipped_bit() {
    let seed = seed();
    let mut random = Random(seed);
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = mixed_store(folder.path(), &mut random);
    let volumes = [store.path.clone()];
    for _ in 0..25 {
        let hit = &store.written[random.below(store.written.len() as u64) as usize];
        let (at, bit) = (hit.volume_offset + random.below(hit.record_len), random.below(8) as u8);
        store.flip(at, bit);
        let (code, by_fsck) = fsck(&store.path);
        let (python_code, report) = read_with_python(&volumes);
        store.flip(at, bit);
        let what = format!("seed {seed}: bit {bit} at {at} in {hit:?}");
        assert_eq!((code, python_code), (1, 1), "{what}");
        let place = |report: &Value, list: &str, offset: &str| {
            let found = report[list].as_array().unwrap();
            assert_eq!(found.len(), 1, "{what}: {report:#}");
            (found[0]["zone"].as_u64().unwrap(), found[0][offset].as_u64().unwrap())
        };
        let expected = (u64::from(hit.zone), hit.zone_offset);
        assert_eq!(place(&by_fsck, "damage", "zone_offset"), expected, "{what}");
        assert_eq!(place(&report, "findings", "offset"), expected, "{what}");
    }
}

/// Pushes, overwrites and deletes until the server is gone.
fn push(port: u16, writer: u64, acknowledged: &AtomicU64) {
    let mut client = Client::connect(port);
    let mut random = Random(writer);
    for round in 0.. {
        let path = format!("/live/w{writer}/seg-{}.m4s", random.below(60));
        let len = [900, 20_000, 150_000][random.below(3) as usize];
        let payload = bytes(&mut Random(writer << 32 | round), len);
        match client.put(&path, &payload) {
            Some(answer) if answer.status < 300 => acknowledged.fetch_add(1, Ordering::Relaxed),
            _ => return,
        };
        if random.below(9) == 0 {
            client.ask(&format!("DELETE {path} HTTP/1.1"), b"");
        }
    }
}

/// What Python says of a store, the origin must serve, and nothing else under these names.
fn compare_with_origin(volumes: &[PathBuf], said: &BTreeMap<String, Said>, files: &Path) {
    let index = std::fs::read_to_string(files.join("index.json")).unwrap();
    let index: Vec<Value> = serde_json::from_str(&index).unwrap();
    assert_eq!(index.len(), said.len());
    let origin = Origin::start(volumes);
    let mut client = origin.client();
    for entry in &index {
        let key = String::from_utf8(unhex(entry["key_hex"].as_str().unwrap())).unwrap();
        let answer = client.get(&format!("/{key}")).unwrap();
        let file = std::fs::read(files.join(entry["file"].as_str().unwrap())).unwrap();
        assert_eq!(answer.status, 200, "{key}");
        assert!(answer.body == file, "{key}: other bytes");
        assert_eq!(answer.etag(), said[&key].content_hash, "{key}");
        assert_eq!(answer.body.len() as u64, said[&key].len, "{key}");
    }
    for writer in 0..4 {
        for number in 0..60 {
            let key = format!("live/w{writer}/seg-{number}.m4s");
            if !said.contains_key(&key) {
                let answer = client.get(&format!("/{key}")).unwrap();
                assert_eq!(answer.status, 404, "{key} is served and Python does not know it");
            }
        }
    }
}

#[test]
fn python_reads_what_kill_9_left_and_a_restarted_origin_serves_exactly_that() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let volumes = [folder.path().join("data")];
    for round in 0..3 {
        let origin = Origin::start(&volumes);
        let acknowledged = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let (port, acknowledged) = (origin.port, &acknowledged);
                scope.spawn(move || push(port, writer, acknowledged));
            }
            while acknowledged.load(Ordering::Relaxed) < 240 {
                std::thread::yield_now();
            }
            origin.kill();
        });
        let (code, report) = read_with_python(&volumes);
        assert_eq!(code, 0, "round {round}: {report:#}");
        let said = by_python(&report);
        assert!(said.len() > 100, "{}", said.len());
        assert_eq!(said, by_tapectl(&volumes), "round {round}");
        assert_eq!(fsck(&volumes[0]).0, 0);
        let files = folder.path().join(format!("files-{round}"));
        let (data, to) = (volumes[0].to_str().unwrap(), files.to_str().unwrap());
        let output = reader(&["extract", data, "--to", to]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        compare_with_origin(&volumes, &said, &files);
    }
    // And with damage: what Python calls damaged is what fsck calls damaged, and the rest is there.
    let seed = seed();
    let mut random = Random(seed);
    let (_, before) = read_with_python(&volumes);
    let objects = before["objects"].as_array().unwrap();
    let volume = volumes[0].join("volume-0.tape");
    let file = File::options().read(true).write(true).open(&volume).unwrap();
    let zone_size =
        json(&["inspect", data_of(&volumes), "--json"]).1["zone_size"].as_u64().unwrap();
    let mut hit = Vec::new();
    for _ in 0..5 {
        let object = &objects[random.below(objects.len() as u64) as usize];
        let place = |name: &str| object[name].as_u64().unwrap();
        // In the payload: the first block may be the header's.
        if place("len") > 10_000 && !hit.contains(&object["key_hex"]) {
            let start = (1 << 20) + place("zone") * zone_size + place("offset");
            flip(&file, start + 4096 + random.below(place("len") - 8192), random.below(8) as u8);
            hit.push(object["key_hex"].clone());
        }
    }
    let (code, report) = read_with_python(&volumes);
    assert_eq!(code, i32::from(!hit.is_empty()), "seed {seed}: {report:#}");
    let said = by_python(&report);
    assert_eq!(said.len(), objects.len() - hit.len(), "seed {seed}");
    assert_eq!(said, by_tapectl(&volumes), "seed {seed}");
    assert_eq!(fsck(&volumes[0]).1["damage_count"], hit.len(), "seed {seed}");
}

fn data_of(volumes: &[PathBuf]) -> &str {
    volumes[0].to_str().unwrap()
}
