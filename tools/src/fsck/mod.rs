//! `tapectl fsck`: reads every structure and payload byte of a volume and names what is wrong.
//!
//! Invariants: read-only, also on damage. What a crash tore is information; what was once durable
//! and cannot be read is damage. Every damage is counted, live or not.

mod finding;
mod open_zone;
mod report;
mod status;
mod volume_check;
mod zone_check;

use std::path::PathBuf;

use crate::error::{Outcome, ToolError};
use crate::output;
use crate::progress;
use crate::units;
use crate::walk::Volume;

use finding::Findings;
use report::Totals;

/// A validated `fsck`.
#[derive(Debug, Clone)]
pub(crate) struct FsckPlan {
    pub(crate) path: PathBuf,
    pub(crate) json: bool,
}

/// Runs it and prints the report.
pub(crate) fn run(plan: &FsckPlan) -> Result<Outcome, ToolError> {
    let volume = Volume::open(&plan.path)?;
    output::plan(&format!(
        "fsck {}: reading {} in {} zones; nothing is written",
        plan.path.display(),
        units::size(volume.len),
        volume.geometry().zone_count(),
    ));
    let mut findings = Findings::default();
    let mut totals = Totals { in_use_by_pid: volume.holder_pid(), ..Totals::default() };
    volume_check::check(&volume, &mut findings);
    let bar = progress::bytes(volume.geometry().volume_len(), "checking");
    for zone in 0..volume.geometry().zone_count() {
        zone_check::check(&volume, zone, &mut findings, &mut totals);
        bar.inc(volume.geometry().zone_size());
    }
    bar.finish_and_clear();
    findings.decide(volume.checkpoint().map_or(0, |checkpoint| checkpoint.durable_lsn));
    status::fill_in(&volume, &mut findings);
    report::print(&volume, &findings, &totals, plan.json)?;
    Ok(Outcome::of_problem_count(findings.damage_count()))
}
