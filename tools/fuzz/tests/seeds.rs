//! The fuzz targets for seconds, in every `cargo test`: each kept seed, then some thousands of
//! mutations of them, the same ones each time. No coverage guides this; the long runs with
//! libFuzzer do that (docs/testing.md).
//!
//! `TAPELOOP_FUZZ_RUNS=n` makes n times as many, `TAPELOOP_FUZZ_SEED=n` others.

use std::alloc::System;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use cap::Cap;
use tapeloop_fuzz::splits::Splits;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, tapeloop_fuzz::MEMORY_MAX);

/// Bytes that mean something to one target or another.
const TOKENS: [&[u8]; 24] = [
    b"GET ",
    b" HTTP/1.1\r\n",
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b"Host: h\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: keep-alive\r\n",
    b"Range: bytes=0-\r\n",
    b"0\r\n\r\n",
    b"7fffffffffffffff\r\n",
    b"%2f",
    b"..",
    b"[namespaces.a]\n",
    b" = ",
    b"\"",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x0a\x00\x00\x00\x0f",
];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect(name))
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let entries = std::fs::read_dir(&folder).expect("a folder of seeds");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no seed in {}", folder.display());
    paths.iter().map(|path| std::fs::read(path).expect("a seed")).collect()
}

/// Runs every seed, then `count` mutations of them.
fn run(name: &str, target: fn(&[u8]), count: u64) {
    let seeds = seeds(name);
    seeds.iter().for_each(|seed| once(name, target, seed));
    let start = number("TAPELOOP_FUZZ_SEED", 1);
    let mut choices = Splits::of(&[name.as_bytes(), &start.to_le_bytes()].concat());
    for _ in 0..count * number("TAPELOOP_FUZZ_RUNS", 1) {
        let mut bytes = seeds[choices.below(seeds.len())].clone();
        for _ in 0..=choices.below(5) {
            mutate(&mut bytes, &seeds, &mut choices);
        }
        once(name, target, &bytes);
    }
}

/// A failing input is told, so that it can be kept under the name of what it broke.
fn once(name: &str, target: fn(&[u8]), bytes: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(bytes))) {
        eprintln!("target {name} fails on b\"{}\"", bytes.escape_ascii());
        resume_unwind(panic);
    }
}

fn mutate(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], choices: &mut Splits) {
    let at = choices.below(bytes.len() + 1);
    let len = choices.below(8).min(bytes.len() - at);
    match choices.below(8) {
        0 if at < bytes.len() => bytes[at] ^= 1 << choices.below(8),
        1 if at < bytes.len() => bytes[at] = choices.below(256) as u8,
        2 => bytes.insert(at, choices.below(256) as u8),
        3 => drop(bytes.drain(at..at + len)),
        4 | 5 => {
            let token = TOKENS[choices.below(TOKENS.len())];
            drop(bytes.splice(at..at + len, token.iter().copied()));
        }
        6 => {
            let again = bytes[at..at + len].to_vec();
            drop(bytes.splice(at..at, again));
        }
        _ => {
            let other = &seeds[choices.below(seeds.len())];
            let from = choices.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
    }
}

#[test]
fn requests_of_any_bytes_get_one_verdict_and_mean_one_thing() {
    run("request", tapeloop_fuzz::request::request, 60_000);
}

#[test]
fn chunked_bodies_of_any_bytes_decode_alike_however_they_are_split() {
    run("chunked", tapeloop_fuzz::body::chunked, 60_000);
}

#[test]
fn any_text_is_a_configuration_within_its_bounds_or_one_line_of_cause() {
    run("config", tapeloop_fuzz::config::config, 3000);
}

#[test]
fn recovery_survives_any_volume_and_what_it_then_takes_it_keeps() {
    run("recovery", tapeloop_fuzz::recovery::recovery_and_work, 1500);
}

#[test]
fn fsck_and_inspect_survive_any_volume_and_change_nothing_unasked() {
    run("volume_tools", tapeloop_fuzz::tapectl::tapectl, 200);
}
