//! `tapectl format` makes a store that everything else opens, or changes nothing.

mod support;

use std::path::Path;
use std::process::Command;

use support::{fsck, json, tapectl};

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_formatted_store_is_clean_and_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volume");
    let path = path.to_str().unwrap();
    let (code, report) = json(&["format", path, "--capacity", "64MiB", "--yes", "--json"]);
    assert_eq!((code, &report["zone_count"]), (0, &8.into()), "{report:#}");
    let (code, checked) = fsck(Path::new(path));
    assert_eq!((code, &checked["unused_zones"]), (0, &8.into()), "{checked:#}");
    let (code, seen) = json(&["inspect", path, "--json"]);
    assert_eq!((code, &seen["store_id"]), (0, &report["store_id"]));
    assert_eq!(seen["object_len_max"], report["object_len_max"]);
    assert_eq!(names_in(folder.path()), ["volume"]);
}

#[test]
fn a_directory_gets_the_volume_that_the_server_looks_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    assert_eq!(json(&["format", path, "--capacity", "32MiB", "--yes", "--json"]).0, 0);
    assert_eq!(names_in(folder.path()), ["volume-0.tape"]);
    assert_eq!(fsck(folder.path()).0, 0);
}

#[test]
fn several_paths_make_one_store_with_a_volume_on_each() {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..3).map(|index| folder.path().join(format!("drive-{index}"))).collect();
    let mut args = vec!["format", "--capacity", "32MiB", "--yes", "--json"];
    args.extend(paths.iter().map(|path| path.to_str().unwrap()));
    let (code, report) = json(&args);
    assert_eq!((code, &report["zone_count"]), (0, &12.into()), "{report:#}");
    let mut args = vec!["fsck", "--json"];
    args.extend(paths.iter().rev().map(|path| path.to_str().unwrap()));
    let (code, checked) = json(&args);
    assert_eq!((code, &checked["unused_zones"]), (0, &12.into()), "{checked:#}");
    let (code, seen) = json(&["inspect", paths[1].to_str().unwrap(), "--json"]);
    assert_eq!((code, &seen["missing"]), (1, &serde_json::json!([0, 2])), "{seen:#}");
    // One that is in the way: nothing is made at all.
    let more = [folder.path().join("other-0"), paths[0].clone()];
    let args = [
        "format",
        "--capacity",
        "32MiB",
        "--yes",
        more[0].to_str().unwrap(),
        more[1].to_str().unwrap(),
    ];
    assert_eq!(tapectl(&args).status.code(), Some(2));
    assert_eq!(names_in(folder.path()).len(), 3);
}

#[test]
fn an_existing_file_is_refused_and_stays_byte_identical() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volume");
    let path = path.to_str().unwrap();
    assert_eq!(tapectl(&["format", path, "--capacity", "32MiB", "--yes"]).status.code(), Some(0));
    let before = std::fs::read(path).unwrap();
    let again = tapectl(&["format", path, "--capacity", "32MiB", "--yes"]);
    assert_eq!(again.status.code(), Some(2));
    let text = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(text.contains("holds a store") && text.contains(path), "{text}");
    assert!(before == std::fs::read(path).unwrap());
    let other = folder.path().join("notes.txt");
    std::fs::write(&other, "mine").unwrap();
    let refused = tapectl(&["format", other.to_str().unwrap(), "--capacity", "32MiB", "--yes"]);
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(std::fs::read(&other).unwrap(), b"mine");
}

#[test]
fn without_a_yes_nothing_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volume");
    let output = tapectl(&["format", path.to_str().unwrap(), "--capacity", "32MiB"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.starts_with("format ") && text.contains("--yes"), "{text}");
    assert!(names_in(folder.path()).is_empty());
}

#[test]
fn a_capacity_that_makes_no_store_names_flag_value_and_bound() {
    let output = tapectl(&["format", "/nonexistent/v", "--capacity", "1MiB", "--yes"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("--capacity") && text.contains("1 MiB") && text.contains("33554432"));
}

#[test]
fn a_full_disk_is_a_clear_error_and_nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volume");
    let path = path.to_str().unwrap();
    let tapectl_path = env!("CARGO_BIN_EXE_tapectl");
    // A file size limit fails the same calls as a full disk does; so does more than any disk has.
    let limited = format!(
        "trap '' XFSZ; ulimit -f 8192; exec {tapectl_path} format {path} --capacity 64MiB --yes"
    );
    let huge = format!("exec {tapectl_path} format {path} --capacity 200TiB --yes");
    for script in [limited, huge] {
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("space") || text.contains("large"), "{text}");
        assert!(names_in(folder.path()).is_empty(), "{text}");
    }
}
