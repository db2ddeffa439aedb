//! `tapectl fsck`: reads every structure and payload byte of a store and names what is wrong.
//!
//! Invariants: read-only, also on damage, unless `--repair --yes` or `--undo --yes` is given. What
//! a crash tore is information; what was once durable and cannot be read is damage. Every damage is
//! counted, live or not.

mod finding;
mod repair;
mod report;
mod status;
mod undo;
mod volume_check;
mod zone_check;

use std::path::PathBuf;

use crate::error::{Outcome, ToolError};
use crate::output;
use crate::progress;
use crate::units;
use crate::walk::Store;

use finding::Findings;
use report::Totals;

/// A validated `fsck`.
#[derive(Debug, Clone)]
pub(crate) struct FsckPlan {
    /// Volumes of one store.
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) what: FsckWhat,
    pub(crate) json: bool,
}

/// What it is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FsckWhat {
    /// Check everything.
    Check,
    /// Check one zone and the structures outside the zones.
    Zone(u32),
    /// Check, and mend what can be mended safely: print the plan, or carry it out.
    Repair { yes: bool, undo_file: Option<PathBuf> },
    /// Put back what a repair has overwritten.
    Undo { file: PathBuf, yes: bool },
}

/// What a check found.
#[derive(Debug, Default)]
struct Checked {
    findings: Findings,
    totals: Totals,
}

/// Runs it and prints the report.
pub(crate) fn run(plan: &FsckPlan) -> Result<Outcome, ToolError> {
    match &plan.what {
        FsckWhat::Check => check_and_print(plan, None),
        FsckWhat::Zone(zone) => check_and_print(plan, Some(*zone)),
        FsckWhat::Repair { yes, undo_file } => {
            repair::run(&plan.paths, *yes, undo_file.as_deref(), plan.json)
        }
        FsckWhat::Undo { file, yes } => undo::run(&plan.paths, file, *yes, plan.json),
    }
}

fn check_and_print(plan: &FsckPlan, only: Option<u32>) -> Result<Outcome, ToolError> {
    let store = Store::open(&plan.paths)?;
    if let Some(zone) = only.filter(|zone| store.volume_of(*zone).is_none()) {
        return Err(ToolError::Flag {
            flag: "--zone",
            value: zone.to_string(),
            allowed: format!("the volumes given have zones of 0 to {}", store.zone_count() - 1),
        });
    }
    let zones = only.map_or_else(|| store.zones().count(), |_| 1);
    output::plan(&format!(
        "fsck {}: reading {} in {zones} zones; nothing is written",
        store.paths(),
        units::size(store.len()),
    ));
    let checked = check(&store, only);
    report::print(&store, &checked.findings, &checked.totals, plan.json)?;
    Ok(Outcome::of_problem_count(checked.findings.damage_count()))
}

/// Checks the whole store, or one zone of it.
fn check(store: &Store, only: Option<u32>) -> Checked {
    let mut findings = Findings::default();
    let mut totals = Totals { in_use_by_pid: store.holder_pid(), ..Totals::default() };
    volume_check::check(store, &mut findings);
    let bar = progress::bytes(store.len(), "checking");
    for (volume, zone) in store.zones().filter(|(_, zone)| only.is_none_or(|only| only == *zone)) {
        zone_check::check(volume, zone, &mut findings, &mut totals);
        bar.inc(volume.zone_size());
    }
    bar.finish_and_clear();
    findings.decide(store.checkpoint().map_or(0, |checkpoint| checkpoint.durable_lsn));
    if totals.in_use_by_pid.is_some() {
        look_again(store, &mut findings);
    }
    status::fill_in(store, &mut findings);
    Checked { findings, totals }
}

/// A record on its way to the drive looks damaged to who reads its zone now and hears later that it
/// is durable. What was durable when the first look ended must be whole at the second.
fn look_again(store: &Store, findings: &mut Findings) {
    for zone in findings.damaged_zones() {
        let Some(volume) = store.volume_of(zone) else { continue };
        let mut again = Findings::default();
        zone_check::check(volume, zone, &mut again, &mut Totals::default());
        findings.replace(zone, again);
    }
}
