//! `tapectl inspect`: what is on a volume, from the whole down to one key. Never writes.

mod key;
mod layout;
mod volume;
mod zone;

use std::path::PathBuf;

use crate::error::{Outcome, ToolError};
use crate::walk::Volume;

/// A validated `inspect`.
#[derive(Debug, Clone)]
pub(crate) enum InspectPlan {
    /// The constants of the disk format.
    Layout { json: bool },
    /// Header, zones, classes, fill.
    Volume { path: PathBuf, json: bool },
    /// The records of one zone.
    Zone { path: PathBuf, zone: u32, json: bool },
    /// All versions of one key.
    Key { path: PathBuf, key: Vec<u8>, json: bool },
}

/// Runs it. A key that is not live is a problem found: exit 1.
pub(crate) fn run(plan: &InspectPlan) -> Result<Outcome, ToolError> {
    match plan {
        InspectPlan::Layout { json } => layout::run(*json),
        InspectPlan::Volume { path, json } => volume::run(&Volume::open(path)?, *json),
        InspectPlan::Zone { path, zone, json } => zone::run(&Volume::open(path)?, *zone, *json),
        InspectPlan::Key { path, key, json } => key::run(&Volume::open(path)?, key, *json),
    }
}
