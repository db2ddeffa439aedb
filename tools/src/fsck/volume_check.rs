//! The structures outside the zones: header copies, checkpoints, carry journals, length, and
//! volumes that are not here.

use tapeloop_format::CHECKPOINT_SLOTS;

use super::finding::{Finding, Findings};
use crate::walk::{Store, Volume};

pub(crate) fn check(store: &Store, findings: &mut Findings) {
    for index in &store.missing {
        let detail = format!(
            "volume {index} of {} was not given; what lies on it is not checked, and what it says \
             of the others is not known",
            store.volume_count(),
        );
        let structure = "missing volume";
        findings.damage(Finding { structure, volume: *index, detail, ..Finding::default() });
    }
    for volume in store.volumes() {
        check_volume(volume, findings);
    }
    check_marks(store, findings);
    check_journals(store, findings);
}

fn check_volume(volume: &Volume, findings: &mut Findings) {
    for (offset, fault) in &volume.header_faults {
        findings.damage(outside(volume, "volume header", *offset, fault.to_string()));
    }
    let expected = volume.geometry().volume_len();
    let fits = if volume.is_device() { volume.len >= expected } else { volume.len == expected };
    if !fits {
        let detail = format!("the volume is {} bytes long and should be {expected}", volume.len);
        let at = volume.len.min(expected);
        findings.damage(outside(volume, "volume length", at, detail));
    }
    for (slot, offset) in volume.slots.iter().zip(CHECKPOINT_SLOTS) {
        match slot {
            Err(fault) if !volume.was_never_written(fault) => {
                findings.damage(outside(volume, "checkpoint", offset, fault.to_string()));
            }
            _ => {}
        }
    }
}

/// Every record of every journal. What ends a list is left over from before, or was torn by a
/// crash, unless the lap it is for has begun and does not have it.
fn check_journals(store: &Store, findings: &mut Findings) {
    for (volume, journal) in store.journals() {
        let Some(end) = journal.end else { continue };
        if volume.was_never_written(&end.fault) {
            continue;
        }
        let finding = outside(volume, "carry journal", end.offset, end.fault.to_string());
        match end.is_needed(store) {
            true => findings.damage(finding),
            // Behind valid records lies what longer lists have left.
            false if journal.record_count == 0 => findings.torn.push(finding),
            false => {}
        }
    }
}

/// The zones that the newest checkpoint calls open must exist.
fn check_marks(store: &Store, findings: &mut Findings) {
    let Some(checkpoint) = store.checkpoint() else { return };
    let (zone_count, zone_size) = (store.zone_count(), store.geometry().zone_size());
    let holds_it = |volume: &&Volume| volume.slots.iter().flatten().any(|slot| slot == checkpoint);
    let Some(volume) = store.volumes().iter().find(holds_it) else { return };
    for mark in &checkpoint.open_zones {
        let zone = mark.zone_lap.zone;
        if zone >= zone_count || mark.durable_len > zone_size {
            let detail = format!(
                "calls zone {zone} open with {} bytes; there are {zone_count} zones of {zone_size}",
                mark.durable_len,
            );
            findings.damage(outside(volume, "checkpoint", checkpoint.slot_offset(), detail));
        }
    }
}

fn outside(
    volume: &Volume,
    structure: &'static str,
    volume_offset: u64,
    detail: String,
) -> Finding {
    let volume = volume.index();
    Finding { structure, volume, volume_offset, detail, ..Finding::default() }
}
