//! The structures outside the zones: header copies, checkpoints, carry journals, length, and
//! volumes that are not here.

use std::iter::successors;

use tapeloop_format::{BLOCK, CHECKPOINT_SLOTS, Checkpoint};

use super::finding::{Finding, Findings};
use crate::walk::{Store, Volume};

/// At the end of a checkpoint.
const CRC_LEN: usize = 4;

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
        let Err(fault) = slot else { continue };
        if volume.was_never_written(fault) {
            continue;
        }
        let finding = outside(volume, "checkpoint", offset, fault.to_string());
        match is_slot_torn(volume, offset) {
            true => findings.torn.push(finding),
            false => findings.damage(finding),
        }
    }
}

/// A crash while a slot was written may leave sectors of two checkpoints, or of one and of nothing.
/// Then all is as it should be but the checksum, which the flip of a bit does not explain, and the
/// other slot is whole. The next start writes this one anew.
fn is_slot_torn(volume: &Volume, offset: u64) -> bool {
    let Ok(mut block) = volume.read_block(offset) else { return false };
    let store_id = volume.store_id();
    let (content, crc) = block.split_at_mut(BLOCK - CRC_LEN);
    let right = store_id.salt().crc(content).to_le_bytes();
    let wrong = std::array::from_fn::<u8, CRC_LEN, _>(|index| crc[index] ^ right[index]);
    if is_one_flip(u32::from_le_bytes(wrong)) || volume.slots.iter().all(Result::is_err) {
        return false;
    }
    // A first checkpoint of its slot, without its first sector.
    let is_young = volume.slots.iter().flatten().all(|other| other.sequence == 1);
    if is_young && content.iter().all(|byte| *byte == 0) {
        return crc.iter().map(|byte| byte.count_ones()).sum::<u32>() > 1;
    }
    crc.copy_from_slice(&right);
    Checkpoint::decode(&block[..], store_id).is_ok_and(|content| content.slot_offset() == offset)
}

/// Whether the flip of one bit, in the checksum or in the content before it, makes this difference
/// between the checksum that is there and the right one.
fn is_one_flip(difference: u32) -> bool {
    const POLYNOMIAL: u32 = 0xEDB8_8320;
    // What the last bit of the content does; each bit before it does that one shift later.
    let shifted = |after: &u32| Some((after >> 1) ^ (POLYNOMIAL * (after & 1)));
    let mut of_bits = successors(Some(POLYNOMIAL), shifted).take(8 * (BLOCK - CRC_LEN));
    difference.is_power_of_two() || of_bits.any(|of_bit| of_bit == difference)
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

#[cfg(test)]
mod tests {
    use super::*;
    use tapeloop_format::StoreId;

    #[test]
    fn each_flip_of_a_bit_is_known_by_its_checksum_and_two_are_not() {
        let salt = StoreId([7; 16]).salt();
        let mut content = [0x5A; BLOCK - CRC_LEN];
        let right = salt.crc(&content);
        for bit in [0, 1, 7, 8, 2_049, 8 * content.len() - 8, 8 * content.len() - 1] {
            content[bit / 8] ^= 1 << (bit % 8);
            assert!(is_one_flip(salt.crc(&content) ^ right), "bit {bit}");
            content[bit / 8] ^= 1 << (bit % 8);
            assert!(is_one_flip(1 << (bit % 32)), "bit {bit} of the checksum");
        }
        content[9] ^= 3;
        assert!(!is_one_flip(salt.crc(&content) ^ right));
        assert!(!is_one_flip(0));
    }
}
