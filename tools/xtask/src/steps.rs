//! The steps of `cargo xtask test`. Each runs to its end and is counted, so that one run shows all
//! that is wrong.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::tidy as rules;

/// What passed and what failed: tests one by one, every other step as one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Tally {
    pub(crate) fn count(&mut self, passed: bool) {
        if passed {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }

    /// Adds a line like `test result: ok. 3 passed; 0 failed; ...` of cargo, or like
    /// `hung: 20 runs, 20 as promised (99 s)` of the faults; other lines count nothing.
    fn add_line(&mut self, line: &str) {
        if let Some((runs, kept)) = runs_and_kept(line) {
            self.passed += kept;
            self.failed += runs.saturating_sub(kept);
        }
        let Some((_, figures)) =
            line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for figure in figures.split("; ") {
            match figure.split_once(' ') {
                Some((n, "passed")) => self.passed += n.parse::<u64>().unwrap_or(0),
                Some((n, "failed")) => self.failed += n.parse::<u64>().unwrap_or(0),
                _ => {}
            }
        }
    }
}

fn runs_and_kept(line: &str) -> Option<(u64, u64)> {
    let (_, figures) = line.split_once(": ")?;
    let (runs, rest) = figures.split_once(" runs, ")?;
    let (kept, _) = rest.split_once(" as promised")?;
    Some((runs.parse().ok()?, kept.parse().ok()?))
}

pub(crate) fn tidy(root: &Path, tally: &mut Tally) {
    timed("tidy", || match rules::check(root) {
        Ok(found) => {
            found.iter().for_each(|violation| eprintln!("{violation}"));
            tally.count(found.is_empty());
        }
        Err(cause) => {
            eprintln!("cannot read the sources: {cause}");
            tally.count(false);
        }
    });
}

pub(crate) fn format(root: &Path, tally: &mut Tally) {
    timed("format", || tally.count(cargo(root, &["fmt", "--all", "--check"])));
}

pub(crate) fn clippy(root: &Path, tally: &mut Tally) {
    let args = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    timed("clippy", || tally.count(cargo(root, &args)));
}

/// Advisories are left out: they need a database from the network, and a new advisory would turn an
/// old commit red.
pub(crate) fn deny(root: &Path, tally: &mut Tally) {
    let args = ["deny", "--log-level", "error", "check", "bans", "licenses", "sources"];
    timed("deny", || tally.count(cargo(root, &args)));
}

/// All tests of the workspace. Their lines are shown as they come and their results are added up.
pub(crate) fn tests(root: &Path, tally: &mut Tally) {
    timed("tests", || {
        let mut command = Command::new("cargo");
        command.args(["test", "--workspace", "--no-fail-fast"]).current_dir(root);
        counted(command, tally);
    });
}

/// Runs a command that prints results, shows its lines and adds the results up.
pub(crate) fn counted(mut command: Command, tally: &mut Tally) {
    let mut child = match command.stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(cause) => {
            eprintln!("cannot start {}: {cause}", command.get_program().display());
            return tally.count(false);
        }
    };
    let before = tally.failed;
    let lines = child.stdout.take().map(|stdout| BufReader::new(stdout).lines());
    for line in lines.into_iter().flatten().map_while(Result::ok) {
        println!("{line}");
        tally.add_line(&line);
    }
    // A build that breaks or a test that aborts leaves no result line.
    let ended_well = child.wait().is_ok_and(|status| status.success());
    if !ended_well && tally.failed == before {
        tally.count(false);
    }
}

pub(crate) fn cargo(root: &Path, args: &[&str]) -> bool {
    let status = Command::new("cargo").args(args).current_dir(root).status();
    status.is_ok_and(|status| status.success())
}

/// Where cargo puts release binaries.
pub(crate) fn release(root: &Path) -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    root.join(target).join("release")
}

pub(crate) fn timed(name: &str, step: impl FnOnce()) {
    println!("== {name}");
    let started = Instant::now();
    step();
    println!("== {name}: {:.1} s", started.elapsed().as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn results_of_all_test_programs_are_added_up() {
        let mut tally = Tally { passed: 1, failed: 0 };
        for line in [
            "running 9 tests",
            "test result: ok. 9 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out",
            "test a ... FAILED",
            "hung: 20 runs, 18 as promised (99 s)",
            "  hung: run 3: 20 runs, 18 as promised, said somebody",
            "test result: FAILED. 3 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            tally.add_line(line);
        }
        assert_eq!(tally, Tally { passed: 31, failed: 6 });
    }
}
