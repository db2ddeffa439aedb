//! The two copies of the volume header: a damaged one is written again from the good one.

use tapeloop_format::BLOCK;

use super::Action;
use super::plan::Plan;
use crate::walk::{Fault, Volume};

const MAGIC: &[u8] = b"TAPELOOP";

pub(super) fn plan(volume: &Volume, plan: &mut Plan) {
    for (offset, fault) in &volume.header_faults {
        match restore(volume, *offset, fault) {
            Ok(action) => plan.actions.push(action),
            Err(why) => {
                let path = volume.path.display();
                plan.left.push(format!("{path}: volume header at offset {offset}: {why}"));
            }
        }
    }
}

fn restore(volume: &Volume, offset: u64, fault: &Fault) -> Result<Action, String> {
    if *fault == Fault::CopiesDiffer {
        return Err("both copies verify and differ: nobody can tell which is right".to_owned());
    }
    if volume.len < offset + BLOCK as u64 {
        return Err("the volume ends before it".to_owned());
    }
    let before = volume.read_block(offset).map_err(|fault| fault.to_string())?;
    let good = volume.header.encode();
    if !is_ours(&before[..], &good[..]) {
        return Err("something else was written there; what is it?".to_owned());
    }
    let copy = if offset == 0 { "A" } else { "B" };
    let what = format!("write volume header copy {copy} from the other copy, which verifies");
    Ok(Action::new(volume.index(), offset, what, before.to_vec(), good.to_vec()))
}

/// Is it our header with damage, and not what somebody else, or a newer release, put there? It is
/// if zeroing some of its bytes made it, or if few bits have flipped.
fn is_ours(found: &[u8], good: &[u8]) -> bool {
    let bits_off: u32 = found.iter().zip(good).map(|(a, b)| (a ^ b).count_ones()).sum();
    let is_zeroed = found.iter().zip(good).all(|(a, b)| *a == 0 || a == b);
    let keeps_version = found[8..12] == good[8..12];
    is_zeroed || bits_off == 1 || (found.starts_with(MAGIC) && keeps_version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_damaged_header_is_written_over() {
        let mut good = vec![0; BLOCK];
        good[..MAGIC.len()].copy_from_slice(MAGIC);
        good[8] = 1;
        good[16..32].fill(7);
        assert!(is_ours(&vec![0; BLOCK], &good));
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        assert!(is_ours(&changed(0, b'T' ^ 4), &good), "one bit of the magic");
        assert!(is_ours(&changed(20, 99), &good), "ours, with a damaged byte");
        assert!(is_ours(&changed(8, 3), &good), "one bit of the version");
        assert!(!is_ours(&changed(8, 6), &good), "a newer release's");
        let mut foreign = vec![0x5a; BLOCK];
        assert!(!is_ours(&foreign, &good));
        foreign[..4].copy_from_slice(b"XFSB");
        assert!(!is_ours(&foreign, &good));
    }
}
