//! `unsafe` lives in engine/io, and each use of it says why it is sound.

use super::{Source, Violation, identifiers};

const HOME: &str = "engine/io/";

pub(super) fn check(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    for (index, line) in source.code.lines().enumerate() {
        let Some((at, _)) = identifiers(line).find(|(_, name)| *name == "unsafe") else { continue };
        if !source.path.starts_with(HOME) {
            let message = "`unsafe` lives in engine/io only. Put the call there, behind a safe \
                           function, and use that.";
            found.push(source.violation(index + 1, "unsafe", message.to_owned()));
        } else if needs_reason(&line[at..]) && !has_reason(source, index) {
            let message = "an `unsafe` block or impl without a `// SAFETY:` comment above it: say \
                           what makes it sound.";
            found.push(source.violation(index + 1, "safety-comment", message.to_owned()));
        }
    }
    found
}

/// Blocks and impls. An `unsafe fn` states its contract in its documentation, which clippy checks;
/// `unsafe extern` and `unsafe(attribute)` promise nothing here.
fn needs_reason(from_unsafe: &str) -> bool {
    let next = from_unsafe["unsafe".len()..].trim_start();
    !["fn", "extern", "trait", "("].iter().any(|start| next.starts_with(start))
}

/// Looks up from the line, over the rest of the same statement and the comment above it.
fn has_reason(source: &Source, index: usize) -> bool {
    let text: Vec<&str> = source.text.lines().collect();
    let code: Vec<&str> = source.code.lines().collect();
    if text[index].contains("SAFETY:") {
        return true;
    }
    for above in (0..index).rev() {
        if text[above].contains("SAFETY:") {
            return true;
        }
        let is_comment = code[above].trim().is_empty() && !text[above].trim().is_empty();
        let ends_statement = code[above].trim_end().ends_with([';', '{', '}', ',']);
        if text[above].trim().is_empty() || (!is_comment && ends_statement) {
            return false;
        }
    }
    false
}
