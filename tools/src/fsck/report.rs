//! The result of a check, as text and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::finding::{Finding, Findings};
use crate::error::ToolError;
use crate::output;
use crate::units;
use crate::walk::{Store, Volume, ZoneState};

/// What was read.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Totals {
    /// The server that had the volume open: what it wrote meanwhile may not have been checked.
    pub(crate) in_use_by_pid: Option<u32>,
    pub(crate) unused_zones: u32,
    pub(crate) open_zones: u32,
    pub(crate) sealed_zones: u32,
    pub(crate) unreadable_zones: u32,
    /// Zones of a volume that the store once went on without: nothing in them counts.
    pub(crate) given_up_zones: u32,
    /// Zones that a running server reused faster than they could be read.
    pub(crate) recycled_zones: Vec<u32>,
    pub(crate) record_count: u64,
    pub(crate) payload_bytes: u64,
    pub(crate) read_bytes: u64,
}

impl Totals {
    pub(crate) fn count_zone(&mut self, state: ZoneState) {
        *match state {
            ZoneState::Unused => &mut self.unused_zones,
            ZoneState::Open => &mut self.open_zones,
            ZoneState::Sealed => &mut self.sealed_zones,
            ZoneState::Unreadable => &mut self.unreadable_zones,
            ZoneState::GivenUp => &mut self.given_up_zones,
        } += 1;
    }

    pub(crate) fn add(&mut self, zone: &Totals) {
        self.unused_zones += zone.unused_zones;
        self.open_zones += zone.open_zones;
        self.sealed_zones += zone.sealed_zones;
        self.unreadable_zones += zone.unreadable_zones;
        self.given_up_zones += zone.given_up_zones;
        self.record_count += zone.record_count;
        self.payload_bytes += zone.payload_bytes;
        self.read_bytes += zone.read_bytes;
    }
}

#[derive(Serialize)]
struct Report<'r> {
    store_id: String,
    volume_count: u16,
    volumes: Vec<VolumeRow>,
    /// Indexes of volumes that were not given.
    missing: Vec<u16>,
    clean: bool,
    damage_count: u64,
    /// Damage that is counted but not listed.
    omitted_count: u64,
    damage: &'r [Finding],
    /// Left by a crash, never acknowledged: not damage.
    torn: &'r [Finding],
    #[serde(flatten)]
    totals: &'r Totals,
}

#[derive(Serialize)]
struct VolumeRow {
    index: u16,
    path: String,
}

pub(crate) fn print(
    store: &Store,
    findings: &Findings,
    totals: &Totals,
    json: bool,
) -> Result<(), ToolError> {
    if !json {
        return output::text(&as_text(store, findings, totals));
    }
    output::json(&report(store, findings, totals))
}

/// The result as a JSON value, for commands that say more than the result.
pub(crate) fn value(store: &Store, findings: &Findings, totals: &Totals) -> serde_json::Value {
    serde_json::to_value(report(store, findings, totals)).expect("a report is plain data")
}

fn report<'r>(store: &Store, findings: &'r Findings, totals: &'r Totals) -> Report<'r> {
    let row = |volume: &Volume| VolumeRow {
        index: volume.index(),
        path: volume.path.display().to_string(),
    };
    Report {
        store_id: store.store_id().to_string(),
        volume_count: store.volume_count(),
        volumes: store.volumes().iter().map(row).collect(),
        missing: store.missing.clone(),
        clean: findings.damage_count() == 0,
        damage_count: findings.damage_count(),
        omitted_count: findings.omitted_count,
        damage: &findings.damage,
        torn: &findings.torn,
        totals,
    }
}

pub(crate) fn as_text(store: &Store, findings: &Findings, totals: &Totals) -> String {
    let mut text = String::new();
    let several = store.volume_count() > 1;
    for finding in &findings.damage {
        line(&mut text, "damaged", finding, several);
    }
    for finding in &findings.torn {
        line(&mut text, "torn", finding, several);
    }
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{}: {} records, {} of payload verified in {} sealed and {} open zones ({} unused)",
        store.paths(),
        totals.record_count,
        units::size(totals.payload_bytes),
        totals.sealed_zones,
        totals.open_zones,
        totals.unused_zones,
    );
    if let Some(pid) = totals.in_use_by_pid {
        let _ =
            writeln!(text, "in use by process {pid}: what it wrote meanwhile was not all checked");
    }
    if !totals.recycled_zones.is_empty() {
        let zones = &totals.recycled_zones;
        let _ = writeln!(text, "reused by a running server while they were read: zones {zones:?}");
    }
    if !findings.torn.is_empty() {
        let count = findings.torn.len();
        let _ = writeln!(text, "{count} torn by a crash and never acknowledged: not damage");
    }
    let _ = match findings.damage_count() {
        0 => writeln!(text, "clean"),
        count => writeln!(text, "{count} damaged"),
    };
    text
}

fn line(text: &mut String, verdict: &str, finding: &Finding, several: bool) {
    let _ = write!(text, "{verdict} {}", finding.structure);
    if several {
        let _ = write!(text, ", volume {}", finding.volume);
    }
    if let Some(zone) = finding.zone {
        let _ = write!(text, ", zone {zone}");
    }
    if let Some(lap) = finding.lap {
        let _ = write!(text, " lap {lap}");
    }
    if let Some(offset) = finding.zone_offset {
        let _ = write!(text, " offset {offset}");
    }
    let _ = write!(text, ", volume offset {}", finding.volume_offset);
    if let Some(key) = &finding.key {
        let _ = write!(text, ", key {key}");
    }
    if let Some(lsn) = finding.lsn {
        let _ = write!(text, ", LSN {lsn}");
    }
    if let Some(status) = finding.status {
        let _ = write!(text, " ({status})");
    }
    let _ = writeln!(text, ": {}", finding.detail);
}
