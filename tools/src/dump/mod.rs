//! `tapectl dump` and `tapectl load-from-dump`: objects to files and back.
//!
//! Invariants: no byte is written or pushed unverified. A key never names a file outside the folder
//! and no two keys name one file. An object that is damaged is named and left out, and never costs
//! another one. The manifest appears last and whole: a dump that was cut short has none.

mod load;
mod manifest;
mod metadata;
mod names;
mod newest;
mod origin;
mod write;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use load::run as load;
pub(crate) use origin::Origin;
pub(crate) use write::run as dump;

/// A validated `dump`.
#[derive(Debug, Clone)]
pub(crate) struct DumpPlan {
    /// Volumes of one store.
    pub(crate) paths: Vec<PathBuf>,
    /// What the keys wanted start with.
    pub(crate) prefix: Vec<u8>,
    /// Folder to make.
    pub(crate) to: PathBuf,
    pub(crate) json: bool,
}

/// A validated `load-from-dump`.
#[derive(Debug, Clone)]
pub(crate) struct LoadFromDumpPlan {
    pub(crate) folder: PathBuf,
    pub(crate) origin: Origin,
    /// Take the time since the dump off every life.
    pub(crate) deduct_age: bool,
    pub(crate) connections: usize,
    pub(crate) timeout: Duration,
    pub(crate) json: bool,
}

/// An object that was left out, and why.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct LeftOut {
    pub(crate) key: String,
    pub(crate) why: String,
}

/// Names kept for the report; the rest is counted.
const LEFT_OUT_MAX: usize = 10_000;
