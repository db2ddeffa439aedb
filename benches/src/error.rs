//! Why a bench could not run. One line each.

use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// Why a bench could not run.
#[derive(Debug, Error)]
pub(crate) enum BenchError {
    #[error("{context}: {source}")]
    Io { context: String, source: std::io::Error },
    #[error(
        "{path:?} has {free} bytes free and {needed} are needed; name another place with --dir"
    )]
    NoSpace { path: PathBuf, free: u64, needed: u64 },
    #[error("{program} ended with {status}; its last words: {tail}")]
    Ended { program: String, status: String, tail: String },
    #[error("{program} did not answer within {waited:?}; its last words: {tail}")]
    Silent { program: String, waited: Duration, tail: String },
    #[error("{program} was still running after {waited:?} and was killed")]
    TooSlow { program: String, waited: Duration },
    #[error("building the server and tools failed ({status})")]
    Build { status: String },
    #[error("{what}: {cause}")]
    Answer { what: String, cause: String },
    #[error("no cgroup v1 memory controller at {path:?} ({cause}); the capped rows need one")]
    Cgroup { path: PathBuf, cause: String },
    #[error("{flag}: {value:?} is not {allowed}")]
    Flag { flag: &'static str, value: String, allowed: &'static str },
    #[error("engine: {0}")]
    Engine(String),
}

pub(crate) type Result<T> = std::result::Result<T, BenchError>;

/// Names what was being done when an I/O error came up.
pub(crate) trait Context<T> {
    fn context(self, context: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, context: impl Into<String>) -> Result<T> {
        self.map_err(|error| BenchError::Io { context: context.into(), source: error.into() })
    }
}
