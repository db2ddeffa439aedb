//! Arrows as the code draws them: who mentions whom, line by line.

use super::manifest::{advice, crate_of};
use super::{Source, Violation, identifiers};

const RULE: &str = "arrows";
const HTTP: &str = "server/src/http";

/// Files that may speak to a ring, so that there is one place that does.
const RING_HOME: &str = "engine/io";
/// The crates whose results depend on their arguments alone.
const PURE: [&str; 2] = ["engine/format/src/", "engine/log/src/"];
/// What a pure crate would reach the outside world with.
const WORLD: [&str; 5] = ["fs", "net", "process", "Instant", "SystemTime"];

pub(super) fn check(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut in_tests = source.path.ends_with("tests.rs") || source.path.contains("/tests/");
    for (index, line) in source.code.lines().enumerate() {
        // By habit the tests close a file.
        in_tests |= line.starts_with("mod tests {");
        let messages = [
            upward(source, line),
            ring(source, line),
            http_reaches_out(source, line),
            impure(source, line).filter(|_| !in_tests),
        ];
        for message in messages.into_iter().flatten() {
            found.push(source.violation(index + 1, RULE, message));
        }
    }
    found
}

/// A crate of ours that this file's crate must not see.
fn upward(source: &Source, line: &str) -> Option<String> {
    let home = crate_of(&source.path)?;
    let ours = identifiers(line).filter(|(_, name)| name.starts_with("tapeloop_"));
    let mut packages = ours.map(|(_, name)| name.replace('_', "-"));
    let is_crate = |package: &String| super::manifest::HOUSE.iter().any(|c| c.package == package);
    let used = packages.find(|package| {
        is_crate(package) && package != home.package && !home.may_use.contains(&package.as_str())
    })?;
    Some(advice(home, &used))
}

fn ring(source: &Source, line: &str) -> Option<String> {
    let at_home = source.path.starts_with(RING_HOME);
    if at_home || !identifiers(line).any(|(_, name)| name == "io_uring") {
        return None;
    }
    Some(format!(
        "rings have one home, {RING_HOME}: it knows what the kernel still has. Give this file a \
         type of ours instead.",
    ))
}

/// True for `home.rs` and everything in `home/`.
fn is_module(path: &str, home: &str) -> bool {
    path.strip_prefix(home).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// server/src/http takes bytes and gives bytes; it can be lifted out as it is.
fn http_reaches_out(source: &Source, line: &str) -> Option<String> {
    if !is_module(&source.path, HTTP) {
        return None;
    }
    let mut words = identifiers(line).peekable();
    let depth = module_depth(&source.path) + usize::from(source.code.contains("mod tests {"));
    while let Some((at, word)) = words.next() {
        let outside = match word {
            "crate" => {
                line[at + word.len()..].starts_with("::")
                    && words.peek().is_none_or(|&(_, next)| next != "http")
            }
            "super" => {
                let mut levels = 1;
                while words.next_if(|&(_, next)| next == "super").is_some() {
                    levels += 1;
                }
                levels > depth
            }
            name => name.starts_with("tapeloop_"),
        };
        if outside {
            return Some(
                "server/src/http imports nothing of ours: it takes bytes and returns bytes. Let \
                 its caller do this part."
                    .to_owned(),
            );
        }
    }
    None
}

/// Modules between this file and server/src/http: how often it may say `super`.
fn module_depth(path: &str) -> usize {
    let inside = path.strip_prefix(HTTP).unwrap_or_default().trim_end_matches(".rs");
    inside.split('/').filter(|part| !part.is_empty() && *part != "mod").count()
}

/// Tests may do all of this: read golden images, measure time.
fn impure(source: &Source, line: &str) -> Option<String> {
    let pure = PURE.iter().any(|home| source.path.starts_with(home));
    if !pure || !line.contains("std::") {
        return None;
    }
    let (_, word) = identifiers(line).find(|(_, name)| WORLD.contains(name))?;
    Some(format!(
        "std's `{word}` does not belong here: this crate knows no I/O and no clock, so that \
         it can be simulated. Take the time or the result as an argument.",
    ))
}
