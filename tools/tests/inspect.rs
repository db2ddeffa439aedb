//! `tapectl inspect` shows what is there, and says of a key which version is live and why.

mod support;

use support::{Random, STORE_MS, StoreBuilder, bytes, json, tapectl};

fn key_report(store: &StoreBuilder, key: &str) -> (i32, serde_json::Value) {
    json(&["inspect", store.path.to_str().unwrap(), "--key", key, "--json"])
}

fn store(folder: &std::path::Path) -> StoreBuilder {
    let mut store = StoreBuilder::new(folder, 1 << 20, 6);
    let mut random = Random(1);
    let mut first = store.open_zone(0, 1);
    store.put(&mut first, "n/kept", &bytes(&mut random, 100_000), None);
    store.put(&mut first, "n/replaced", &bytes(&mut random, 5_000), None);
    store.put(&mut first, "n/deleted", &bytes(&mut random, 5_000), None);
    store.put_living(&mut first, "n/expired", &bytes(&mut random, 10), None, STORE_MS - 1);
    let first = store.seal(first);
    let mut second = store.open_zone(1, 1);
    store.put(&mut second, "n/replaced", &bytes(&mut random, 50), Some(first));
    // The newer version has expired and the older one has not: the key is dead all the same.
    store.delete(&mut second, "n/deleted", first);
    let mut third = store.open_zone(2, 4);
    store.put_living(&mut third, "n/old", &[1], None, STORE_MS - 2);
    store.seal(third);
    store.checkpoint(1, &[&second]);
    store
}

#[test]
fn the_zone_table_tells_unused_free_open_and_sealed_apart() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let (code, report) = json(&["inspect", store.path.to_str().unwrap(), "--json"]);
    assert_eq!(code, 0, "{report:#}");
    let zones = report["zones"].as_array().unwrap();
    let states: Vec<_> = zones.iter().map(|zone| zone["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["sealed", "open", "free", "unused", "unused", "unused"]);
    assert_eq!(zones[0]["object_count"], 4);
    assert_eq!((&zones[1]["object_count"], &zones[1]["kill_count"]), (&1.into(), &2.into()));
    assert_eq!(zones[2]["lap"], 4);
    assert_eq!(report["classes"][0]["zone_count"], 2);
    let text = tapectl(&["inspect", store.path.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("unused"));
}

#[test]
fn a_key_is_explained_version_by_version() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let (code, report) = key_report(&store, "n/replaced");
    assert_eq!((code, &report["live"]), (0, &true.into()), "{report:#}");
    let versions = report["versions"].as_array().unwrap();
    assert_eq!(versions[0]["verdict"], "live");
    assert_eq!(versions[0]["object"]["payload_len"], 50);
    assert!(versions.last().unwrap()["verdict"].as_str().unwrap().starts_with("superseded"));
    for (key, why) in
        [("n/deleted", "deleted at LSN"), ("n/expired", "expired"), ("n/never", "no version")]
    {
        let (code, report) = key_report(&store, key);
        assert_eq!((code, &report["live"]), (1, &false.into()), "{key}");
        assert!(report["why"].as_str().unwrap().contains(why), "{key}: {report:#}");
    }
}

#[test]
fn a_damaged_object_is_not_called_live() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let kept = store.written.iter().find(|put| put.key == "n/kept").unwrap();
    store.flip(kept.volume_offset + 70_000, 2);
    let (code, report) = key_report(&store, "n/kept");
    assert_eq!(code, 1);
    assert!(report["why"].as_str().unwrap().contains("damaged"), "{report:#}");
}

#[test]
fn a_zone_lists_its_records_and_a_wrong_number_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let path = store.path.to_str().unwrap();
    let (code, report) = json(&["inspect", path, "--zone", "1", "--json"]);
    assert_eq!(code, 0, "{report:#}");
    let kinds: Vec<_> = report["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| (record["kind"].as_str().unwrap(), record["key"].as_str().unwrap()))
        .collect();
    assert_eq!(kinds, [("put", "n/replaced"), ("tombstone", "n/deleted")]);
    let output = tapectl(&["inspect", path, "--zone", "6"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("zones 0 to 5"));
}

/// The whole layout, as printed: a change of the disk format shows here.
#[test]
fn the_layout_is_printed_and_does_not_change_unnoticed() {
    let (code, report) = json(&["inspect", "layout", "--json"]);
    assert_eq!(code, 0);
    let constants = report["constants"].as_array().unwrap();
    let value =
        |name: &str| &constants.iter().find(|constant| constant["name"] == name).unwrap()["value"];
    assert_eq!(value("format_version"), 1);
    assert_eq!((value("block"), value("chunk")), (&4096.into(), &65_536.into()));
    assert_eq!(value("data_offset"), 1 << 20);
    let sizes: Vec<_> = report["structures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|structure| (structure["name"].as_str().unwrap(), structure["len"].as_u64().unwrap()))
        .collect();
    let expected = [
        ("volume header", 4096),
        ("checkpoint", 4096),
        ("open zone mark", 24),
        ("zone header", 4096),
        ("record header", 192),
        ("footer entry", 40),
        ("kill", 32),
        ("footer trailer", 4096),
    ];
    assert_eq!(sizes, expected);
    let text = tapectl(&["inspect", "layout"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("key_hash"));
}
