//! Torn tails: what a crash left of a record that was never acknowledged, behind the last good one
//! of its zone. Its header is blanked. Recovery passes over it in any case.

use std::collections::{BTreeMap, BTreeSet};

use tapeloop_format::BLOCK;

use super::super::finding::Finding;
use super::Action;
use super::plan::Plan;
use crate::walk::{Footer, Found, RecordScan, Store, Volume, WINDOW_ALL, ZoneReader, ZoneState};
use crate::walk::{ZoneView, check_payload};

pub(super) fn plan(store: &Store, torn: &[Finding], plan: &mut Plan) {
    // Header and payload of one record may both be torn.
    let mut by_zone: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
    for finding in torn {
        let is_record = finding.structure.starts_with("record");
        if let (true, Some(zone), Some(offset)) = (is_record, finding.zone, finding.zone_offset) {
            by_zone.entry(zone).or_default().insert(offset);
        }
    }
    if by_zone.is_empty() {
        return;
    }
    // With a checkpoint lost, torn cannot be told from what was acknowledged and damaged later.
    let volumes = store.volumes().iter();
    let mut slots = volumes.flat_map(|volume| volume.slots.iter().map(move |slot| (volume, slot)));
    let is_lost = slots
        .any(|(volume, slot)| slot.as_ref().is_err_and(|fault| !volume.was_never_written(fault)));
    if is_lost || store.checkpoint().is_none() {
        let zones: Vec<u32> = by_zone.into_keys().collect();
        plan.left.push(format!(
            "torn tails of zones {zones:?}: with a checkpoint damaged they cannot be told from \
             what was acknowledged; recovery passes over them"
        ));
        return;
    }
    for (zone, offsets) in by_zone {
        let Some(volume) = store.volume_of(zone) else { continue };
        plan_zone(volume, zone, &offsets, plan);
    }
}

fn plan_zone(volume: &Volume, zone: u32, torn: &BTreeSet<u64>, plan: &mut Plan) {
    let view = ZoneView::read(volume, zone);
    if view.state != ZoneState::Open || !view.may_have_been_open {
        return;
    }
    let end = end_of_good_records(volume, &view);
    for offset in torn {
        if *offset < end.max(view.durable_len) {
            plan.left.push(format!(
                "zone {zone} offset {offset}: torn, with good records behind it; the next start \
                 fills the hole"
            ));
            continue;
        }
        let at = volume.zone_offset(zone) + offset;
        let Ok(before) = volume.read_block(at) else { continue };
        let what = format!(
            "drop the torn tail of zone {zone} at offset {offset}: beyond all that was acknowledged"
        );
        let after = vec![0; BLOCK];
        plan.actions.push(Action::new(volume.index(), at, what, before.to_vec(), after));
    }
}

/// Where the last record ends that a recovery would keep.
fn end_of_good_records(volume: &Volume, view: &ZoneView) -> u64 {
    let footer = Footer::default();
    let mut end = BLOCK as u64;
    let mut reader = ZoneReader::new(volume, view.zone, WINDOW_ALL);
    let Some(mut scan) = RecordScan::new(volume, view, &footer) else { return end };
    while let Some(found) = scan.next(&mut reader) {
        let Found::Record { offset, header } = found else { continue };
        let is_durable = offset < view.durable_len;
        if is_durable || check_payload(&mut reader, volume.salt(), offset, &header).is_none() {
            end = offset + header.shape().record_len as u64;
        }
    }
    end
}
