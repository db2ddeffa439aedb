//! How a command ends. An error here is "could not run" (exit 2); problems that a command was
//! asked to look for are results, not errors. Every message says what happened, where, and what to
//! do.

use std::io;
use std::path::PathBuf;

/// The end of a command that ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing to complain about: exit 0.
    Clean,
    /// The command found what it looks for: exit 1.
    Problems,
}

impl Outcome {
    pub(crate) fn of_problem_count(count: u64) -> Outcome {
        if count == 0 { Outcome::Clean } else { Outcome::Problems }
    }
}

/// A command that could not run: exit 2.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ToolError {
    #[error("invalid value '{value}' for '{flag}': {allowed}")]
    Flag { flag: &'static str, value: String, allowed: String },
    #[error(transparent)]
    Open(#[from] tapeloop_engine::VolumeError),
    #[error("{0}")]
    Create(String),
    #[error("{path}: {cause}; {advice}")]
    Volume { path: PathBuf, cause: String, advice: &'static str },
    #[error("could not write the result to standard output: {0}")]
    Output(io::Error),
    #[error("could not start the load runtime: {0}")]
    Runtime(io::Error),
    #[error("scrub: {0}")]
    Scrub(String),
    #[error("{url}: {cause}; is the origin running? start it with `tapeloop` and try again")]
    Unreachable { url: String, cause: String },
}
