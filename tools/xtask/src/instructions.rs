//! Instructions of the inner loops, as callgrind counts them, against the committed figures.
//!
//! Times depend on the machine, counts on compiler and code alone: with one toolchain they are the
//! same to the last instruction. Better counts fail too, or the figures would grow stale and let a
//! later loss pass. Valgrind shows programs a processor without AVX-512, so that all x86-64
//! machines with AVX2 take the same paths in libraries that look for features.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use clap::Args;

use crate::steps::{self, Tally};

const FIGURES: &str = "benches/instructions.txt";
/// Times of the shorter of two runs; the other has twice as many.
const TIMES: u64 = 1_000;
/// Another patch release of compiler or C library moves them that far.
const TOLERANCE_PERCENT: u64 = 10;
/// What the figures were counted on.
const FEATURES: &str = "x86_64 avx2 pclmulqdq";

const HEAD: &str = "\
# Instructions of the inner loops (benches/src/bin/instructions.rs), counted by callgrind.
# `cargo xtask instructions` compares, `cargo xtask instructions --record` writes this file.
";

/// Counts or records.
#[derive(Args, Debug)]
pub(crate) struct InstructionArgs {
    /// Writes what is counted instead of comparing it.
    #[arg(long)]
    record: bool,
}

/// By name of the loop.
type Counts = BTreeMap<String, u64>;

/// What `cargo xtask test` does.
pub(crate) fn compare(root: &Path, tally: &mut Tally) {
    run(root, &InstructionArgs { record: false }, tally);
}

pub(crate) fn run(root: &Path, args: &InstructionArgs, tally: &mut Tally) {
    let build = ["build", "--release", "-p", "tapeloop-benches", "--bin", "instructions"];
    let mut is_built = false;
    steps::timed("release build of the inner loops", || is_built = steps::cargo(root, &build));
    if !is_built {
        return tally.count(false);
    }
    steps::timed("instructions", || {
        let program = steps::release(root).join("instructions");
        let found = measure(&program).and_then(|counts| settle(root, args, &counts));
        match found {
            Ok(Verdict { text, passed, failed }) => {
                print!("{text}");
                tally.passed += passed;
                tally.failed += failed;
            }
            Err(cause) => {
                eprintln!("{cause}");
                tally.count(false);
            }
        }
    });
}

/// What was found, line by line.
#[derive(Debug)]
struct Verdict {
    text: String,
    passed: u64,
    failed: u64,
}

fn settle(root: &Path, args: &InstructionArgs, counts: &Counts) -> Result<Verdict, String> {
    let path = root.join(FIGURES);
    if args.record {
        let text = write(counts);
        std::fs::write(&path, &text).map_err(|cause| format!("{FIGURES}: {cause}"))?;
        return Ok(Verdict { text, passed: 1, failed: 0 });
    }
    let text = std::fs::read_to_string(&path).map_err(|cause| format!("{FIGURES}: {cause}"))?;
    Ok(judge(&read(&text)?, counts))
}

/// Counts every loop.
fn measure(program: &Path) -> Result<Counts, String> {
    let (features, _) = callgrind(program, &["features"])?;
    if features.trim() != FEATURES {
        let cause = "counts of another processor cannot be compared";
        return Err(format!("{} instead of {FEATURES}: {cause}", features.trim()));
    }
    let (names, _) = callgrind(program, &["list"])?;
    let mut counts = Counts::new();
    for name in names.lines() {
        let count = |times: u64| callgrind(program, &[name, &times.to_string()]);
        let ((_, once), (_, twice)) = (count(TIMES)?, count(2 * TIMES)?);
        counts.insert(name.to_owned(), twice.saturating_sub(once) / TIMES);
    }
    Ok(counts)
}

/// Runs a program under callgrind: what it printed, and the instructions it took.
fn callgrind(program: &Path, args: &[&str]) -> Result<(String, u64), String> {
    let mut command = Command::new("valgrind");
    // Where the program's memory lies depends on its environment.
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program).args(args);
    let output = command.output().map_err(|cause| format!("cannot start valgrind: {cause}"))?;
    let messages = String::from_utf8_lossy(&output.stderr);
    match collected(&messages) {
        Some(count) if output.status.success() => {
            Ok((String::from_utf8_lossy(&output.stdout).into_owned(), count))
        }
        _ => Err(format!("{program:?} {args:?}: {}: {messages}", output.status)),
    }
}

/// The number in a line like `==123== Collected : 6777579`.
fn collected(messages: &str) -> Option<u64> {
    let line = messages.lines().find_map(|line| line.split_once("Collected : "))?;
    line.1.trim().parse().ok()
}

fn write(counts: &Counts) -> String {
    let mut text = HEAD.to_owned();
    for (name, count) in counts {
        let _ = writeln!(text, "{name:<24}{count:>8}");
    }
    text
}

fn read(text: &str) -> Result<Counts, String> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.starts_with('#'));
    let counts = lines.map(|(number, line)| {
        let count = line.split_once(' ').and_then(|(name, count)| {
            Some((name.to_owned(), count.trim().parse::<u64>().ok().filter(|count| *count > 0)?))
        });
        count.ok_or_else(|| format!("{FIGURES}:{number}: not a name and a count: {line}"))
    });
    counts.collect()
}

/// A line for each loop of either side.
fn judge(recorded: &Counts, counted: &Counts) -> Verdict {
    let mut verdict = Verdict { text: String::new(), passed: 0, failed: 0 };
    let mut names: Vec<&String> = recorded.keys().chain(counted.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let (fault, text) = match (recorded.get(name), counted.get(name)) {
            (Some(old), Some(new)) => {
                let change = (*new as f64 / *old as f64 - 1.0) * 100.0;
                let is_near = new.abs_diff(*old) * 100 <= old * TOLERANCE_PERCENT;
                let fault = if is_near {
                    ""
                } else if new > old {
                    "  FAILED: find what it costs, or record it with the reason in the commit"
                } else {
                    "  FAILED: better; keep it with `cargo xtask instructions --record`"
                };
                (fault, format!("{new:>8}, recorded {old:>8} ({change:+.1} %)"))
            }
            (None, Some(new)) => ("  FAILED: not recorded", format!("{new:>8}")),
            (_, None) => ("  FAILED: recorded, but no such loop", String::new()),
        };
        verdict.passed += u64::from(fault.is_empty());
        verdict.failed += u64::from(!fault.is_empty());
        let _ = writeln!(verdict.text, "{name:<24}{text}{fault}");
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, u64)]) -> Counts {
        pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn a_loop_fails_beyond_a_tenth_in_either_direction() {
        let old = counts(&[("a", 1000), ("b", 1000), ("c", 1000), ("d", 1000)]);
        let new = counts(&[("a", 1100), ("b", 1101), ("c", 900), ("d", 899)]);
        let verdict = judge(&old, &new);
        let failed = verdict.text.lines().filter(|line| line.contains("FAILED"));
        let failed: Vec<_> = failed.map(|line| &line[..1]).collect();
        assert_eq!((failed, verdict.failed), (vec!["b", "d"], 2));
    }

    #[test]
    fn a_loop_that_came_or_went_fails() {
        let verdict = judge(&counts(&[("gone", 7)]), &counts(&[("new", 7)]));
        assert_eq!(verdict.failed, 2, "{}", verdict.text);
    }

    #[test]
    fn figures_are_read_as_they_were_written() {
        let figures = counts(&[("checksum-64k", 29_795), ("x", 1)]);
        assert_eq!(read(&write(&figures)), Ok(figures));
        assert_eq!(
            read("# head\nx zero\n"),
            Err("benches/instructions.txt:2: not a name and a count: x zero".to_owned())
        );
        assert!(read("x 0\n").is_err(), "a loop of nothing measures nothing");
    }

    #[test]
    fn the_count_is_found_among_the_messages_of_valgrind() {
        let messages = "==9== \n==9== Events    : Ir\n==9== Collected : 6777579\n==9== \n";
        assert_eq!(collected(messages), Some(6_777_579));
        assert_eq!(collected("valgrind: cannot"), None);
    }
}
