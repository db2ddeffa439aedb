//! `tapectl inspect`: what is on a volume, from the whole down to one key. Never writes.

mod key;
mod layout;
mod volume;
mod zone;

use std::path::PathBuf;

use crate::error::{Outcome, ToolError};
use crate::walk::Store;

/// A validated `inspect`.
#[derive(Debug, Clone)]
pub(crate) enum InspectPlan {
    /// The constants of the disk format.
    Layout { json: bool },
    /// Header, zones, classes, fill.
    Volume { paths: Vec<PathBuf>, json: bool },
    /// The records of one zone.
    Zone { paths: Vec<PathBuf>, zone: u32, json: bool },
    /// All versions of one key.
    Key { paths: Vec<PathBuf>, key: Vec<u8>, json: bool },
}

/// Runs it. A key that is not live is a problem found: exit 1.
pub(crate) fn run(plan: &InspectPlan) -> Result<Outcome, ToolError> {
    match plan {
        InspectPlan::Layout { json } => layout::run(*json),
        InspectPlan::Volume { paths, json } => volume::run(&Store::open(paths)?, *json),
        InspectPlan::Zone { paths, zone, json } => zone::run(&Store::open(paths)?, *zone, *json),
        InspectPlan::Key { paths, key, json } => key::run(&Store::open(paths)?, key, *json),
    }
}
