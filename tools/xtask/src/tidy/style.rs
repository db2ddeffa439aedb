//! Habits of every file: a head, a readable size, nothing left to do, plain ASCII.

use super::{Source, Violation};

const LINES_MAX: usize = 600;
const COLUMNS_MAX: usize = 100;
const CHECKED: [&str; 5] = [".rs", ".sh", ".py", ".mjs", ".html"];
// In two halves, so that this file does not catch itself.
const UNFINISHED: [&str; 3] = [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X:")];

/// Files that are written by hand as text.
pub(super) fn is_checked(name: &str) -> bool {
    CHECKED.iter().any(|extension| name.ends_with(extension))
}

pub(super) fn check(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    if source.is_rust() && !has_head(&source.text) {
        let message = "starts without a `//!` head: say in a line or two what this file is for and \
                       which invariants it keeps.";
        found.push(source.violation(1, "head", message.to_owned()));
    }
    let lines = source.text.lines().count();
    if lines > LINES_MAX {
        let message = format!("{lines} lines, {LINES_MAX} are the most: split it by meaning.");
        found.push(source.violation(LINES_MAX + 1, "length", message));
    }
    for (index, line) in source.text.lines().enumerate() {
        found.extend(check_line(source, index + 1, line));
    }
    found
}

fn check_line(source: &Source, number: usize, line: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    let columns = line.chars().count();
    if columns > COLUMNS_MAX {
        let message = format!("{columns} columns, {COLUMNS_MAX} are the most.");
        found.push(source.violation(number, "columns", message));
    }
    if let Some(mark) = UNFINISHED.iter().find(|mark| line.contains(*mark)) {
        let message = format!("a {mark} is left: do it, or open an issue and say here what is so.");
        found.push(source.violation(number, "unfinished", message));
    }
    if let Some(odd) = line.chars().find(|c| !c.is_ascii()) {
        let message = format!("{odd:?} is not ASCII: in a literal write it as an escape.");
        found.push(source.violation(number, "ascii", message));
    }
    found
}

/// Inner attributes may come before the head.
fn has_head(text: &str) -> bool {
    let first = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!"));
    first.is_some_and(|line| line.starts_with("//!") && line.len() > "//! ".len())
}
