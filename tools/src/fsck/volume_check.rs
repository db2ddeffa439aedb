//! The structures outside the zones: header copies, checkpoints, carry journal, length.

use tapeloop_format::{BLOCK, CARRY_JOURNAL_OFFSET, CHECKPOINT_SLOTS, RecordHeader, ZoneLap};

use super::finding::{Finding, Findings};
use crate::walk::{Volume, WINDOW_HEADERS, ZoneReader, ZoneState, ZoneView};

pub(crate) fn check(volume: &Volume, findings: &mut Findings) {
    for (offset, fault) in &volume.header_faults {
        findings.damage(outside("volume header", *offset, fault.to_string()));
    }
    let expected = volume.geometry().volume_len();
    let fits = if volume.is_device() { volume.len >= expected } else { volume.len == expected };
    if !fits {
        let detail = format!("the volume is {} bytes long and should be {expected}", volume.len);
        findings.damage(outside("volume length", volume.len.min(expected), detail));
    }
    for (slot, offset) in volume.slots.iter().zip(CHECKPOINT_SLOTS) {
        match slot {
            Err(fault) if !volume.was_never_written(fault) => {
                findings.damage(outside("checkpoint", offset, fault.to_string()));
            }
            _ => {}
        }
    }
    check_marks(volume, findings);
    check_journal(volume, findings);
}

/// The carry journal is written over whenever a zone with kills is reused, and a crash may tear it.
/// It is needed only while the zone it names has its new header and not yet its carry record.
fn check_journal(volume: &Volume, findings: &mut Findings) {
    let Err((fault, zone_lap)) = volume.read_journal() else { return };
    if volume.was_never_written(&fault) {
        return;
    }
    let finding = outside("carry journal", CARRY_JOURNAL_OFFSET, fault.to_string());
    match zone_lap {
        Some(zone_lap) if is_needed(volume, zone_lap) => findings.damage(finding),
        _ => findings.torn.push(finding),
    }
}

fn is_needed(volume: &Volume, journal: ZoneLap) -> bool {
    if journal.zone >= volume.geometry().zone_count() {
        return false;
    }
    let view = ZoneView::read(volume, journal.zone);
    if view.state != ZoneState::Open || view.lap() != journal.lap {
        return false;
    }
    let mut reader = ZoneReader::new(volume, journal.zone, WINDOW_HEADERS);
    let carried = RecordHeader::decode(reader.block(BLOCK as u64).unwrap_or(&[]), volume.salt());
    carried.is_err()
}

/// The zones that the newest checkpoint calls open must exist.
fn check_marks(volume: &Volume, findings: &mut Findings) {
    let Some(checkpoint) = volume.checkpoint() else { return };
    let (zone_count, zone_size) = (volume.geometry().zone_count(), volume.geometry().zone_size());
    for mark in &checkpoint.open_zones {
        let zone = mark.zone_lap.zone;
        if zone >= zone_count || mark.durable_len > zone_size {
            let detail = format!(
                "calls zone {zone} open with {} bytes; there are {zone_count} zones of {zone_size}",
                mark.durable_len,
            );
            findings.damage(outside("checkpoint", checkpoint.slot_offset(), detail));
        }
    }
}

fn outside(structure: &'static str, volume_offset: u64, detail: String) -> Finding {
    Finding { structure, volume_offset, detail, ..Finding::default() }
}
