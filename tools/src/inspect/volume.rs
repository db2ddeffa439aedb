//! The whole store: volumes, checkpoint, every zone in one line, fill by class.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use tapeloop_format::{BLOCK, ClassId};

use super::zone::records_in;
use crate::error::{Outcome, ToolError};
use crate::output;
use crate::units;
use crate::walk::{Footer, Store, Volume, ZoneState, ZoneView};

#[derive(Serialize)]
struct Report {
    store_id: String,
    format_version: u32,
    volume_count: u16,
    volumes: Vec<VolumeRow>,
    /// Indexes of volumes that were not given.
    missing: Vec<u16>,
    zone_size: u64,
    /// On all volumes together.
    zone_count: u32,
    object_len_max: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint: Option<CheckpointRow>,
    store_now_ms: Option<u64>,
    zones: Vec<ZoneRow>,
    classes: Vec<ClassRow>,
    /// Bytes of zones that hold something unexpired, of all zones.
    fill: f64,
    problems: Vec<String>,
}

#[derive(Serialize)]
struct VolumeRow {
    index: u16,
    path: String,
    len: u64,
    created_wall_ms: u64,
    /// Zones with a smaller base position do not count; 0 if the store was never without it.
    given_up_below: u64,
}

#[derive(Serialize)]
struct CheckpointRow {
    sequence: u64,
    incarnation: u64,
    durable_lsn: u64,
    next_lsn: u64,
    store_ms: u64,
    open_zone_count: usize,
}

#[derive(Serialize)]
struct ZoneRow {
    zone: u32,
    volume: u16,
    /// unused, free (everything in it has expired), open, sealed, given up or unreadable.
    state: &'static str,
    lap: u64,
    class_bucket: u8,
    class_group: u64,
    used_len: u64,
    object_count: u64,
    kill_count: u64,
    /// Store time from which nothing in it is alive; None when it holds no object.
    expires_ms: Option<u64>,
    /// That time from now; None when it has passed or cannot be told.
    expires_in_ms: Option<u64>,
}

#[derive(Serialize)]
struct ClassRow {
    class_bucket: u8,
    class_group: u64,
    zone_count: u32,
    used_len: u64,
    object_count: u64,
}

pub(crate) fn run(store: &Store, json: bool) -> Result<Outcome, ToolError> {
    let report = collect(store);
    if json {
        output::json(&report)?
    } else {
        output::text(&as_text(&report))?
    }
    Ok(Outcome::of_problem_count(report.problems.len() as u64))
}

fn collect(store: &Store) -> Report {
    let now_ms = store.now_ms();
    let mut problems: Vec<String> =
        store.missing.iter().map(|index| format!("volume {index} is missing")).collect();
    for volume in store.volumes() {
        let faults = volume.header_faults.iter();
        problems.extend(faults.map(|(offset, fault)| {
            format!("volume {} header at offset {offset}: {fault}", volume.index())
        }));
    }
    let mut zones = Vec::new();
    for (volume, zone) in store.zones() {
        let view = ZoneView::read(volume, zone);
        let faults = [&view.header_fault, &view.trailer_fault];
        problems.extend(faults.into_iter().flatten().map(|fault| format!("zone {zone}: {fault}")));
        zones.push(zone_row(volume, &view, now_ms));
    }
    let is_used = |row: &&ZoneRow| !matches!(row.state, "unused" | "free" | "given up");
    let in_use = zones.iter().filter(is_used).count();
    let geometry = store.geometry();
    Report {
        store_id: store.store_id().to_string(),
        format_version: tapeloop_format::FORMAT_VERSION,
        volume_count: store.volume_count(),
        volumes: store.volumes().iter().map(volume_row).collect(),
        missing: store.missing.clone(),
        zone_size: geometry.zone_size(),
        zone_count: store.zone_count(),
        object_len_max: tapeloop_engine::object_len_max(geometry),
        checkpoint: store.checkpoint().map(|checkpoint| CheckpointRow {
            sequence: checkpoint.sequence,
            incarnation: checkpoint.incarnation,
            durable_lsn: checkpoint.durable_lsn,
            next_lsn: checkpoint.next_lsn,
            store_ms: checkpoint.clock.store_ms,
            open_zone_count: checkpoint.open_zones.len(),
        }),
        store_now_ms: now_ms,
        classes: classes(&zones),
        fill: in_use as f64 / zones.len() as f64,
        zones,
        problems,
    }
}

fn volume_row(volume: &Volume) -> VolumeRow {
    VolumeRow {
        index: volume.index(),
        path: volume.path.display().to_string(),
        len: volume.len,
        created_wall_ms: volume.header.created_wall_ms,
        given_up_below: volume.given_up_below(),
    }
}

fn zone_row(volume: &Volume, view: &ZoneView, now_ms: Option<u64>) -> ZoneRow {
    let ClassId { bucket, group } = view.class();
    let mut row = ZoneRow {
        zone: view.zone,
        volume: volume.index(),
        state: view.state.name(),
        lap: view.lap(),
        class_bucket: bucket,
        class_group: group,
        used_len: 0,
        object_count: 0,
        kill_count: 0,
        expires_ms: None,
        expires_in_ms: None,
    };
    if let Some(trailer) = &view.trailer {
        row.used_len = trailer.used_len;
        row.object_count = u64::from(trailer.entry_count);
        row.kill_count = u64::from(trailer.kill_count);
        row.expires_ms = (trailer.entry_count > 0).then_some(trailer.expires_ms_max);
    } else if view.state == ZoneState::Open {
        row.used_len = BLOCK as u64;
        for record in records_in(volume, view, &Footer::default()) {
            row.used_len = row.used_len.max(record.offset + record.record_len);
            row.object_count += u64::from(record.kind == "put");
            row.kill_count += u64::from(record.supersedes.is_some());
            row.expires_ms = row.expires_ms.max(record.expires_ms);
        }
    }
    if let (Some(expires_ms), Some(now_ms)) = (row.expires_ms, now_ms) {
        row.expires_in_ms = expires_ms.checked_sub(now_ms).filter(|left| *left > 0);
    }
    let nothing_left = now_ms.is_some() && row.expires_in_ms.is_none();
    if view.state == ZoneState::Sealed && nothing_left {
        row.state = "free";
    }
    row
}

fn classes(zones: &[ZoneRow]) -> Vec<ClassRow> {
    let mut classes: BTreeMap<(u64, u8), ClassRow> = BTreeMap::new();
    for row in zones.iter().filter(|row| matches!(row.state, "open" | "sealed")) {
        let class = classes.entry((row.class_group, row.class_bucket)).or_insert(ClassRow {
            class_bucket: row.class_bucket,
            class_group: row.class_group,
            zone_count: 0,
            used_len: 0,
            object_count: 0,
        });
        class.zone_count += 1;
        class.used_len += row.used_len;
        class.object_count += row.object_count;
    }
    classes.into_values().collect()
}

/// What TTLs a class takes, as people say it.
fn class_name(bucket: u8, group: u64) -> String {
    let ttl = if bucket == ClassId::BUCKET_MAX {
        "longest".to_owned()
    } else {
        format!("<={}", units::duration_ms(1000 << bucket))
    };
    if group == 0 { ttl } else { format!("{ttl} group {group:016x}") }
}

fn as_text(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "store {}, format {}: {} zones of {} on {} volumes; objects up to {}",
        report.store_id,
        report.format_version,
        report.zone_count,
        units::size(report.zone_size),
        report.volume_count,
        units::size(report.object_len_max),
    );
    for volume in &report.volumes {
        let _ =
            writeln!(text, "volume {}: {}, {}", volume.index, volume.path, units::size(volume.len));
    }
    match &report.checkpoint {
        Some(checkpoint) => {
            let _ = writeln!(
                text,
                "checkpoint {}: incarnation {}, durable up to LSN {}, {} zones open",
                checkpoint.sequence,
                checkpoint.incarnation,
                checkpoint.durable_lsn,
                checkpoint.open_zone_count,
            );
        }
        None => text.push_str("no readable checkpoint: expiry cannot be told\n"),
    }
    let _ = writeln!(
        text,
        "\n{:>6} {:<10} {:>6} {:>11} {:>6} {:>9} {:>7}  {:>10}  class",
        "zone", "state", "lap", "used", "fill", "objects", "kills", "expires in",
    );
    for row in &report.zones {
        zone_line(&mut text, row, report.zone_size);
    }
    text.push_str("\nclasses in use:\n");
    for class in &report.classes {
        let _ = writeln!(
            text,
            "  {:<24} {:>5} zones {:>11} {:>9} objects",
            class_name(class.class_bucket, class.class_group),
            class.zone_count,
            units::size(class.used_len),
            class.object_count,
        );
    }
    let _ = writeln!(text, "zones holding something unexpired: {:.0} %", report.fill * 100.0);
    for problem in &report.problems {
        let _ = writeln!(text, "problem: {problem}; run `tapectl fsck` on it");
    }
    text
}

fn zone_line(text: &mut String, row: &ZoneRow, zone_size: u64) {
    if row.state == "unused" {
        let _ = writeln!(text, "{:>6} {:<10}", row.zone, row.state);
        return;
    }
    let expires = match (row.expires_in_ms, row.object_count) {
        (Some(left), _) => units::duration_ms(left),
        (None, 0) => "-".to_owned(),
        (None, _) => "expired".to_owned(),
    };
    let _ = writeln!(
        text,
        "{:>6} {:<10} {:>6} {:>11} {:>4.0} % {:>9} {:>7}  {:>10}  {}",
        row.zone,
        row.state,
        row.lap,
        units::size(row.used_len),
        row.used_len as f64 * 100.0 / zone_size as f64,
        row.object_count,
        row.kill_count,
        expires,
        class_name(row.class_bucket, row.class_group),
    );
}
