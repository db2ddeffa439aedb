//! docs/testing.md says which test proves which promise: the tests it names have to exist.

use super::{Source, Violation};

pub(super) const PAGE: &str = "docs/testing.md";

/// A row of the table starts with the number of its promise; names of tests stand in backticks. A
/// test is a function, or a module of tests/faults, by the command that runs it.
pub(super) fn check(page: &str, sources: &[Source]) -> Vec<Violation> {
    let mut found = Vec::new();
    for (index, line) in page.lines().enumerate() {
        if !line.starts_with("| P") {
            continue;
        }
        for name in line.split('`').skip(1).step_by(2) {
            let is_there = match name.strip_prefix("xtask faults ") {
                Some(fault) => {
                    let head = format!("\nNAME = \"{fault}\"\n");
                    sources.iter().any(|source| source.text.contains(&head))
                }
                None => {
                    let head = format!("fn {name}(");
                    sources.iter().any(|source| source.code.contains(&head))
                }
            };
            if !is_there {
                found.push(Violation {
                    path: PAGE.to_owned(),
                    line: index + 1,
                    rule: "promises",
                    message: format!(
                        "there is no test `{name}`: name the one that took its place."
                    ),
                });
            }
        }
    }
    found
}
