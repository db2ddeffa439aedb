//! The house rules as a test: DESIGN section 3 and the habits every file here follows.
//!
//! Each rule is a function over the sources that returns what it found, with a line an outsider can
//! act on. The rules read text: they are meant to catch a slip, not to beat somebody who cheats.

mod arrows;
mod manifest;
mod mask;
mod promises;
mod style;
mod unsafety;

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use mask::mask;

/// Folders that hold nothing written by hand for this house.
const SKIPPED_FOLDERS: [&str; 3] = ["target", "node_modules", "tapeloop-data"];

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    /// Relative to the root of the house, with forward slashes.
    pub(crate) path: String,
    /// Counted from 1.
    pub(crate) line: usize,
    /// Name of the rule.
    pub(crate) rule: &'static str,
    /// What is wrong and what to do instead.
    pub(crate) message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: [{}] {}", self.path, self.line, self.rule, self.message)
    }
}

/// A file of the house with what the rules want to know of it.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    /// For Rust: the text with comments and literals blanked, line for line.
    pub(crate) code: String,
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn violation(&self, line: usize, rule: &'static str, message: String) -> Violation {
        Violation { path: self.path.clone(), line, rule, message }
    }
}

/// Every broken rule under `root`, sorted by file.
pub(crate) fn check(root: &Path) -> io::Result<Vec<Violation>> {
    let mut sources = Vec::new();
    let mut manifests = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if entry.file_type()?.is_dir() {
                if !name.starts_with('.') && !SKIPPED_FOLDERS.contains(&&*name) {
                    folders.push(path);
                }
            } else if name == "Cargo.toml" {
                manifests.push((relative(root, &path), fs::read_to_string(&path)?));
            } else if style::is_checked(&name) {
                sources.push(read_source(root, &path)?);
            }
        }
    }

    let mut found = Vec::new();
    if let Ok(page) = fs::read_to_string(root.join(promises::PAGE)) {
        found.extend(promises::check(&page, &sources));
    }
    for (path, text) in &manifests {
        found.extend(manifest::check(path, text));
    }
    for source in &sources {
        found.extend(style::check(source));
        if source.is_rust() {
            found.extend(arrows::check(source));
            found.extend(unsafety::check(source));
        }
    }
    found.sort();
    Ok(found)
}

fn read_source(root: &Path, path: &Path) -> io::Result<Source> {
    let text = fs::read_to_string(path)
        .map_err(|cause| io::Error::new(cause.kind(), format!("{}: {cause}", path.display())))?;
    let code = if path.extension().is_some_and(|extension| extension == "rs") {
        mask(&text)
    } else {
        String::new()
    };
    Ok(Source { path: relative(root, path), text, code })
}

fn relative(root: &Path, path: &Path) -> String {
    let path: PathBuf = path.strip_prefix(root).unwrap_or(path).to_path_buf();
    path.to_string_lossy().replace('\\', "/")
}

/// The identifiers of a line of masked code, with the byte each starts at.
pub(crate) fn identifiers(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = 0;
    std::iter::from_fn(move || {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let start = rest + line[rest..].find(is_part)?;
        let len = line[start..].find(|c| !is_part(c)).unwrap_or(line.len() - start);
        rest = start + len;
        Some((start, &line[start..rest]))
    })
}
