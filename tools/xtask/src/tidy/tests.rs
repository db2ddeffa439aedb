//! Each rule catches what it is there for, in a house of its own; and this house keeps them all.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::check;

/// A small house that breaks no rule.
fn house() -> TempDir {
    let root = tempfile::tempdir().expect("a temporary folder");
    for (folder, package, uses) in [
        ("engine/format", "tapeloop-format", ""),
        ("engine/log", "tapeloop-log", "tapeloop-format = \"1\""),
        ("engine/io", "tapeloop-io", "tapeloop-format = \"1\""),
        ("engine", "tapeloop-engine", "tapeloop-io = \"1\"\ntapeloop-log = \"1\""),
        ("server", "tapeloop-server", "tapeloop-engine = \"1\""),
        ("tools", "tapeloop-tools", "tapeloop-engine = \"1\"\ntapeloop-format = \"1\""),
        ("tools/xtask", "xtask", "toml = \"1\""),
    ] {
        let manifest = format!("[package]\nname = \"{package}\"\n[dependencies]\n{uses}\n");
        plant(root.path(), &format!("{folder}/Cargo.toml"), &manifest);
        plant(root.path(), &format!("{folder}/src/lib.rs"), "//! Good.\n");
    }
    plant(root.path(), "Cargo.toml", "[workspace]\n");
    root
}

fn plant(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder to plant in");
    fs::write(path, text).expect("a planted file");
}

/// Plants one file in a good house and returns what is found there, as `path:line rule`.
fn found_after(path: &str, text: &str) -> Vec<String> {
    let root = house();
    plant(root.path(), path, text);
    let found = check(root.path()).expect("readable files");
    found.iter().map(|found| format!("{}:{} {}", found.path, found.line, found.rule)).collect()
}

#[track_caller]
fn assert_caught(path: &str, text: &str, line: usize, rule: &str) {
    assert_eq!(found_after(path, text), [format!("{path}:{line} {rule}")]);
}

#[track_caller]
fn assert_clean(path: &str, text: &str) {
    assert_eq!(found_after(path, text), [""; 0]);
}

#[test]
fn this_house_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let found = check(&root).expect("readable files");
    let text: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{} house rules are broken:\n{}", found.len(), text.join("\n"));
}

#[test]
fn a_good_house_is_clean() {
    assert_clean("engine/log/src/a.rs", "//! Good.\nuse tapeloop_format::BLOCK;\n");
}

#[test]
fn a_manifest_that_points_up_is_caught() {
    let manifest = |uses: &str| format!("[package]\nname = \"tapeloop-log\"\n{uses}\n");
    for (uses, line) in [
        ("[dependencies]\ntapeloop-engine = \"1\"", 4),
        ("[dev-dependencies]\ntapeloop-io.workspace = true", 4),
        ("[build-dependencies]\nlow = { version = \"1\", package = \"tapeloop-server\" }", 4),
        ("[target.'cfg(unix)'.dependencies]\ntapeloop-tools = \"1\"", 4),
    ] {
        assert_caught("engine/log/Cargo.toml", &manifest(uses), line, "arrows");
    }
}

#[test]
fn a_crate_without_a_place_is_caught() {
    let manifest = "[package]\nname = \"tapeloop-attic\"\n";
    assert_caught("attic/Cargo.toml", manifest, 1, "arrows");
    let moved = "[package]\nname = \"tapeloop-io\"\n";
    assert_caught("engine/format/Cargo.toml", moved, 1, "arrows");
}

#[test]
fn code_that_points_up_is_caught() {
    for (path, used) in [
        ("engine/format/src/a.rs", "tapeloop_log"),
        ("engine/log/src/a.rs", "tapeloop_io"),
        ("engine/io/tests/a.rs", "tapeloop_engine"),
        ("engine/src/a.rs", "tapeloop_server"),
        ("tools/src/a.rs", "tapeloop_server"),
        ("tools/xtask/src/a.rs", "tapeloop_format"),
        ("server/tests/a.rs", "tapeloop_tools"),
    ] {
        assert_caught(path, &format!("//! Bad.\n\nuse {used}::x;\n"), 3, "arrows");
    }
}

#[test]
fn a_mention_in_a_comment_or_a_literal_is_no_arrow() {
    let text = "//! Serves tapeloop_server.\nconst A: &str = \"tapeloop_server\";\n";
    assert_clean("engine/log/src/a.rs", text);
}

#[test]
fn http_that_reaches_out_is_caught() {
    for import in ["crate::origin::Ttl", "tapeloop_engine::Key", "super::super::net"] {
        let text = format!("//! Bad.\nuse {import};\n");
        assert_caught("server/src/http/head.rs", &text, 2, "arrows");
    }
    assert_caught("server/src/http/mod.rs", "//! Bad.\nuse super::net;\n", 2, "arrows");
    assert_clean("server/src/http/head.rs", "//! Good.\nuse crate::http::A;\nuse super::B;\n");
    assert_clean("server/src/http/a/b.rs", "//! Good.\npub(crate) use super::super::B;\n");
    assert_clean("server/src/origin/a.rs", "//! Good.\nuse crate::net::A;\nuse super::super::B;\n");
}

#[test]
fn a_ring_outside_its_home_is_caught() {
    let text = "//! Text.\nuse io_uring::IoUring;\n";
    for path in ["engine/src/a.rs", "server/src/net/a.rs", "benches/src/a.rs"] {
        assert_caught(path, text, 2, "arrows");
    }
    for path in ["engine/io/src/runtime.rs", "engine/io/src/a/b.rs", "engine/io/examples/a.rs"] {
        assert_clean(path, text);
    }
}

#[test]
fn a_pure_crate_that_reads_a_clock_or_a_file_is_caught() {
    for import in ["std::time::Instant", "std::{io, fs}", "std::process::id"] {
        let text = format!("//! Bad.\nuse {import};\n");
        assert_caught("engine/log/src/a.rs", &text, 2, "arrows");
        assert_clean("engine/src/a.rs", &text);
        assert_clean("engine/format/src/a/tests.rs", &text);
        let in_tests = format!("//! Good.\n#[cfg(test)]\nmod tests {{\n    use {import};\n}}\n");
        assert_clean("engine/log/src/a.rs", &in_tests);
    }
}

#[test]
fn unsafe_outside_engine_io_is_caught() {
    let text = "//! Bad.\n#![allow(unsafe_code)]\nfn f() {\n    unsafe { g() }\n}\n";
    assert_caught("server/src/a.rs", text, 4, "unsafe");
    assert_caught("engine/tests/a.rs", text, 4, "unsafe");
}

#[test]
fn unsafe_without_a_reason_is_caught() {
    let file = |body: &str| format!("//! Text.\n{body}\n");
    for (bad, line) in [
        ("fn f() {\n    unsafe { g() }\n}", 3),
        ("// SAFETY: of another.\nfn h() {}\nunsafe impl Send for A {}", 4),
        ("// SAFETY: too far.\n\nlet a = unsafe { g() };", 4),
    ] {
        assert_caught("engine/io/src/a.rs", &file(bad), line, "safety-comment");
    }
    for good in [
        "// SAFETY: g is sound.\nlet a = unsafe { g() };",
        "// SAFETY: g is sound,\n// and it stays so.\n#[inline]\nunsafe impl Send for A {}",
        "// SAFETY: g is sound.\nlet a =\n    unsafe { g() };",
        "/// # Safety\n/// None.\npub unsafe fn f() {}",
    ] {
        assert_clean("engine/io/src/a.rs", &file(good));
    }
}

#[test]
fn a_file_without_a_head_is_caught() {
    assert_caught("engine/src/a.rs", "fn f() {}\n", 1, "head");
    assert_caught("engine/src/a.rs", "//!\nfn f() {}\n", 1, "head");
    assert_clean("engine/src/a.rs", "#![no_main]\n//! Good.\n");
}

#[test]
fn a_file_that_is_too_long_is_caught() {
    let text = |lines: usize| format!("//! Text.\n{}", "\n".repeat(lines - 1));
    assert_caught("engine/src/a.rs", &text(601), 601, "length");
    assert_clean("engine/src/a.rs", &text(600));
}

#[test]
fn a_line_that_is_too_wide_is_caught() {
    assert_caught("engine/a.sh", &format!("\n#{}", "x".repeat(100)), 2, "columns");
    assert_clean("engine/a.sh", &format!("\n#{}", "x".repeat(99)));
}

#[test]
fn unfinished_work_is_caught() {
    for mark in [concat!("FIX", "ME"), concat!("TO", "DO")] {
        assert_caught("server/page.html", &format!("<p>\n{mark} later"), 2, "unfinished");
    }
}

#[test]
fn letters_beyond_ascii_are_caught() {
    assert_caught("tests/browser/a.mjs", "// \u{2192}\n", 1, "ascii");
}

#[test]
fn a_promise_proved_by_a_test_that_is_gone_is_caught() {
    let page = |name: &str| format!("# Testing\n\n`prose`\n| P1 | kept | `{name}` |\n");
    assert_caught("docs/testing.md", &page("gone"), 4, "promises");
    let root = house();
    plant(root.path(), "engine/tests/a.rs", "//! Good.\nfn here() {}\n");
    plant(root.path(), "docs/testing.md", &page("here"));
    assert_eq!(check(root.path()).expect("readable files"), []);
    assert_caught("docs/testing.md", &page("xtask faults gone"), 4, "promises");
    plant(root.path(), "tests/faults/faults/hung.py", "\"\"\"Good.\"\"\"\nNAME = \"hung\"\n");
    plant(root.path(), "docs/testing.md", &page("xtask faults hung"));
    assert_eq!(check(root.path()).expect("readable files"), []);
}

#[test]
fn what_nobody_wrote_here_is_not_read() {
    for folder in ["target", "node_modules", ".git", "tapeloop-data"] {
        assert_clean(&format!("engine/{folder}/a.rs"), "fn f() {}\n");
    }
}
