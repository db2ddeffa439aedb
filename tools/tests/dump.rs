//! `tapectl dump` and `load-from-dump`: every byte arrives or is named, both ways.

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::origin::Origin;
use support::{LONG_MS, Random, STORE_MS, StoreBuilder, bytes, json, mixed_store, seed, tapectl};

fn dump_to(store: &Path, prefix: &str, to: &Path) -> (i32, Value) {
    let (store, to) = (store.to_str().unwrap(), to.to_str().unwrap());
    json(&["dump", store, "--prefix", prefix, "--to", to, "--json"])
}

fn load(folder: &Path, origin: &Origin, more: &[&str]) -> (i32, Value) {
    let url = origin.url();
    let mut args = vec!["load-from-dump", folder.to_str().unwrap(), "--to", &url, "--json"];
    args.extend(more);
    json(&args)
}

/// The manifest's objects by key.
fn manifest(folder: &Path) -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(folder.join("manifest.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let objects = lines.filter(|line| line["key"].is_string());
    objects.map(|line| (line["key"].as_str().unwrap().to_owned(), line)).collect()
}

/// All files below a folder, relative to it.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in next.read_dir().unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path.strip_prefix(folder).unwrap().display().to_string()),
            }
        }
    }
    found.sort();
    found
}

fn origin(folder: &Path) -> Origin {
    Origin::start(&[folder.join("data")])
}

#[test]
fn a_dump_loaded_elsewhere_serves_the_same_bytes_types_and_life() {
    let seed = seed();
    let mut random = Random(seed);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let first = origin(folder.path());
    let mut client = first.client();
    let mut pushed = BTreeMap::new();
    for number in 0..40 {
        let path = format!("live/show{}/seg%20{number}.m4s", number % 3);
        let len = [0, 5, 70_000, 300_000][random.below(4) as usize];
        let payload = bytes(&mut random, len);
        let head = format!(
            "PUT /{path}?ttl_seconds=5000 HTTP/1.1\r\nContent-Type: text/x-{number}\r\n\
             Content-Encoding: gzip"
        );
        assert_eq!(client.ask(&head, &payload).unwrap().status, 201);
        pushed.insert(path, payload);
    }
    assert_eq!(client.put("/other/thing", b"not wanted").unwrap().status, 201);
    // Of a store that is being served.
    let to = folder.path().join("dump");
    let (code, report) = dump_to(&folder.path().join("data"), "live/", &to);
    assert_eq!((code, &report["object_count"]), (0, &40.into()), "seed {seed}: {report:#}");
    first.kill();
    let other = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let second = origin(other.path());
    let (code, report) = load(&to, &second, &[]);
    assert_eq!((code, &report["object_count"]), (0, &40.into()), "{report:#}");
    let mut client = second.client();
    for (number, (path, payload)) in pushed.iter().enumerate() {
        let answer = client.get(&format!("/{path}")).unwrap();
        assert_eq!((answer.status, answer.body == *payload), (200, true), "{number} {path}");
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
        assert!(answer.header("content-type").unwrap().starts_with("text/x-"), "{path}");
        let age = answer.header("cache-control").unwrap();
        let life: u64 =
            age.split("max-age=").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
        assert!((4_900..=5_001).contains(&life), "{path}: {age}");
    }
    assert_eq!(client.get("/other/thing").unwrap().status, 404);
}

#[test]
fn keys_that_want_the_same_name_or_none_go_by_numbers_and_none_leaves_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreBuilder::new(folder.path(), 1 << 20, 4);
    let mut zone = store.open_zone(0, 1);
    let long = format!("n/{}", "x".repeat(900));
    let keys = [
        "n/a",
        "n/a/b",
        "n/../../../escape",
        "/n/absolute",
        "n//twice",
        "n/.hidden",
        "n/A",
        "n/end/",
        "n/%2E",
        "n/nul\0",
        "n/t~",
        &long,
    ];
    for (index, key) in keys.iter().enumerate() {
        store.put(&mut zone, key, &[index as u8; 100], None);
    }
    store.checkpoint(1, &[&zone]);
    let to = folder.path().join("dump");
    let (code, report) = dump_to(&store.path, "", &to);
    assert_eq!((code, &report["object_count"]), (0, &(keys.len() as u64).into()), "{report:#}");
    let listed = manifest(&to);
    assert_eq!(listed.len(), keys.len());
    let mut contents = Vec::new();
    for object in listed.values() {
        let file = object["file"].as_str().unwrap();
        contents.push(std::fs::read(to.join(file)).unwrap()[0]);
    }
    contents.sort_unstable();
    assert_eq!(contents, (0..keys.len() as u8).collect::<Vec<_>>(), "each has its own file");
    assert_eq!(files(&to).len(), keys.len() + 1, "{:?}", files(&to));
    let beside: Vec<String> = files(folder.path());
    let strays: Vec<_> =
        beside.iter().filter(|file| *file != "volume" && !file.starts_with("dump/")).collect();
    assert!(strays.is_empty(), "{strays:?}");
}

#[test]
fn what_is_damaged_is_named_and_left_out_and_an_old_version_never_stands_in_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = mixed_store(folder.path(), &mut Random(3));
    let whole = folder.path().join("whole");
    assert_eq!(dump_to(&store.path, "live/", &whole).0, 0);
    // The newest version of a0 lies in zone 1, an older one in zone 0.
    let newest = store.written.iter().rfind(|put| put.key == "live/a0.ts").unwrap();
    store.flip(newest.volume_offset + 5_000, 2);
    let b = store.written.iter().find(|put| put.key == "live/b.ts").unwrap();
    store.file.write_all_at(&[0; 4096], b.volume_offset).unwrap();
    let to = folder.path().join("damaged");
    let (code, report) = dump_to(&store.path, "live/", &to);
    assert_eq!(code, 1, "{report:#}");
    let left: Vec<_> =
        report["left_out"].as_array().unwrap().iter().map(|left| &left["key"]).collect();
    assert_eq!(left, ["live/a0.ts", "live/b.ts"], "{report:#}");
    let (mut expected, found) = (manifest(&whole), manifest(&to));
    expected.remove("live/a0.ts");
    expected.remove("live/b.ts");
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    // With a bit of its header gone instead, and of its footer: the header tells whose it was.
    store.flip(newest.volume_offset + 5_000, 2);
    store.flip(newest.volume_offset + 147, 1);
    store.file.write_all_at(&[0; 4096], (2 << 20) + tapeloop_format::DATA_OFFSET - 16_384).unwrap();
    let again = folder.path().join("again");
    let (code, report) = dump_to(&store.path, "live/", &again);
    assert_eq!(code, 1, "{report:#}");
    assert!(!manifest(&again).contains_key("live/a0.ts"), "{report:#}");
}

#[test]
fn expired_deleted_and_superseded_versions_are_not_dumped() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = StoreBuilder::new(folder.path(), 1 << 20, 4);
    let mut first = store.open_zone(0, 1);
    store.put(&mut first, "n/deleted", &[1; 100], None);
    store.put(&mut first, "n/replaced", &[1; 100], None);
    store.put_living(&mut first, "n/expired", &[1; 100], None, STORE_MS - 1);
    // Its successor had the shorter life: the key is dead all the same.
    store.put(&mut first, "n/outlived", &[1; 100], None);
    let first = store.seal(first);
    let mut second = store.open_zone(1, 1);
    store.delete(&mut second, "n/deleted", first);
    store.put(&mut second, "n/replaced", &[2; 50], Some(first));
    store.put_living(&mut second, "n/outlived", &[2; 50], Some(first), STORE_MS - 1);
    store.checkpoint(1, &[&second]);
    let to = folder.path().join("dump");
    let (code, report) = dump_to(&store.path, "n/", &to);
    assert_eq!((code, &report["expired_count"]), (0, &2.into()), "{report:#}");
    let listed = manifest(&to);
    assert_eq!(listed.keys().collect::<Vec<_>>(), ["n/replaced"]);
    assert_eq!(listed["n/replaced"]["len"], 50);
    assert_eq!(listed["n/replaced"]["content_type"], "video/mp4");
    let life = listed["n/replaced"]["life_ms"].as_u64().unwrap();
    assert!(life <= LONG_MS && life > LONG_MS - 3_600_000, "{life}");
}

#[test]
fn a_file_that_changed_since_the_dump_is_never_pushed_and_the_others_are() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut store = StoreBuilder::new(folder.path(), 1 << 20, 4);
    let mut zone = store.open_zone(0, 1);
    for (key, len) in [
        ("n/good.ts", 9_000),
        ("n/flipped.ts", 9_000),
        ("n/cut.ts", 9_000),
        ("n/gone.ts", 100),
        ("n/refused//by/the/origin", 10),
    ] {
        store.put(&mut zone, key, &vec![7; len], None);
    }
    store.checkpoint(1, &[&zone]);
    let to = folder.path().join("dump");
    assert_eq!(dump_to(&store.path, "", &to).0, 0);
    let named = |key: &str| to.join(manifest(&to)[key]["file"].as_str().unwrap());
    let flipped = File::options().read(true).write(true).open(named("n/flipped.ts")).unwrap();
    support::flip(&flipped, 5_000, 1);
    File::options().write(true).open(named("n/cut.ts")).unwrap().set_len(8_999).unwrap();
    std::fs::remove_file(named("n/gone.ts")).unwrap();
    let origin = origin(folder.path());
    let (code, report) = load(&to, &origin, &["--connections", "2"]);
    assert_eq!((code, &report["object_count"]), (1, &1.into()), "{report:#}");
    let left: BTreeMap<&str, &str> = report["left_out"]
        .as_array()
        .unwrap()
        .iter()
        .map(|left| (left["key"].as_str().unwrap(), left["why"].as_str().unwrap()))
        .collect();
    assert!(left["n/flipped.ts"].contains("hash differs"), "{left:?}");
    assert!(left["n/cut.ts"].contains("8999 bytes long"), "{left:?}");
    assert!(left.contains_key("n/gone.ts"), "{left:?}");
    assert!(left["n/refused//by/the/origin"].contains("status 400"), "{left:?}");
    let mut client = origin.client();
    assert_eq!(client.get("/n/good.ts").unwrap().body, vec![7; 9_000]);
    assert_eq!(client.get("/n/flipped.ts").unwrap().status, 404);
}

#[test]
fn an_unfinished_dump_is_refused_and_an_existing_folder_is_not_touched() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (store, _) = mixed_store(folder.path(), &mut Random(5));
    let to = folder.path().join("dump");
    assert_eq!(dump_to(&store.path, "live/a", &to).0, 0);
    let before = files(&to);
    let again = tapectl(&["dump", store.path.to_str().unwrap(), "--to", to.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(2));
    assert_eq!(files(&to), before);
    // Cut short, as by a full disk: there is no end.
    let text = std::fs::read_to_string(to.join("manifest.jsonl")).unwrap();
    std::fs::write(to.join("manifest.jsonl"), &text[..text.len() / 2]).unwrap();
    let origin = origin(folder.path());
    let url = origin.url();
    let refused = tapectl(&["load-from-dump", to.to_str().unwrap(), "--to", &url]);
    assert_eq!(refused.status.code(), Some(2));
    std::fs::remove_file(to.join("manifest.jsonl")).unwrap();
    let refused = tapectl(&["load-from-dump", to.to_str().unwrap(), "--to", &url]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && said.contains("manifest"), "{said}");
    origin.kill();
    std::fs::write(to.join("manifest.jsonl"), &text).unwrap();
    let nobody = ["load-from-dump", to.to_str().unwrap(), "--to", "http://127.0.0.1:1"];
    let unreachable = tapectl(&nobody);
    assert_eq!(unreachable.status.code(), Some(2), "nobody is there");
}

#[test]
fn the_age_of_a_dump_is_taken_off_when_asked_and_what_has_no_life_left_is_not_pushed() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (store, _) = mixed_store(folder.path(), &mut Random(6));
    let to: PathBuf = folder.path().join("dump");
    assert_eq!(dump_to(&store.path, "live/a", &to).0, 0);
    let path = to.join("manifest.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    // As if it had been made before all of the life in it was over.
    let (head, rest) = text.split_once('\n').unwrap();
    let mut head: Value = serde_json::from_str(head).unwrap();
    head["dumped_wall_ms"] = (head["dumped_wall_ms"].as_u64().unwrap() - LONG_MS - 60_000).into();
    std::fs::write(&path, format!("{head}\n{rest}")).unwrap();
    let origin = origin(folder.path());
    let count = manifest(&to).len() as u64;
    let (code, report) = load(&to, &origin, &["--deduct-age"]);
    assert_eq!((code, &report["expired_count"]), (0, &count.into()), "{report:#}");
    let (code, report) = load(&to, &origin, &[]);
    assert_eq!((code, &report["object_count"]), (0, &count.into()), "{report:#}");
}
