//! Damage over what lies on the drives, and looks through it.

use crate::faults::Fault;
use crate::overlay::{Patch, SECTOR};
use crate::reader::Seen;
use crate::world::{World, note};
use tapeloop_format::CARRY_JOURNAL_OFFSET;

impl World {
    /// Bits rot: something that lies on a drive cannot be read as it was written any more.
    pub(crate) fn rot(&mut self) {
        let volume = self.rng.index(self.rig.drives.len());
        let number = self.rng.next();
        let Some((offset, len)) = self.rig.ledgers[volume].nth(number) else { return };
        let sector = offset + self.rng.below(len / SECTOR as u64) * SECTOR as u64;
        // Two copies of the checkpoint, and the store knows nothing of its past: one damage there.
        let in_checkpoint = |offset: u64| offset < CARRY_JOURNAL_OFFSET;
        let mut drives = self.rig.drives.iter();
        if in_checkpoint(sector)
            && drives.any(|drive| drive.overlays.iter().any(|(at, _)| in_checkpoint(at)))
        {
            return;
        }
        let (patch, fault) = match self.rng.permille(500) {
            true => {
                let (at, bit) = (self.rng.index(SECTOR), self.rng.below(8));
                (Patch::Flip { at, mask: 1 << bit }, Fault::BitFlip)
            }
            false => (Patch::Unreadable, Fault::Unreadable),
        };
        self.troubled = true;
        note!(self, "{fault:?} on volume {volume} at {sector}, in {len} bytes at {offset}");
        self.rig.count(fault);
        let overlays = &mut self.rig.drives[volume].overlays;
        let is_new = !overlays.touches(sector, SECTOR);
        overlays.put(sector, patch);
        if is_new && self.rng.permille(300) {
            self.lift(volume, sector);
        }
    }

    /// Looks at everything through the damage, then without it: only the damage was wrong.
    fn lift(&mut self, volume: usize, sector: u64) {
        self.check_all();
        self.rig.drives[volume].overlays.lift(sector);
        for key in 0..self.oracle.key_count() {
            let seen = self.look(key);
            let intact = !matches!(seen, Seen::Damaged { .. });
            assert!(intact || self.is_damaged_elsewhere(&seen), "damaged without damage: {seen:?}");
        }
        note!(self, "lifted");
    }

    fn is_damaged_elsewhere(&self, seen: &Seen) -> bool {
        let Seen::Damaged { zone, offset, .. } = seen else { return false };
        self.rig.may_be_damaged_at(*zone, *offset)
    }
}
