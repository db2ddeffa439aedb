//! From start to close: repairs, the first checkpoints, service, the last checkpoints.
//!
//! Start: all volumes flush what recovery read, then get its repairs: a record must not last in a
//! zone whose new header might not. When all have that, a checkpoint that forbids ghosts goes to
//! each; when all have that, the log serves. A volume that refuses its checkpoint is fenced and is
//! not waited for: the others' checkpoints speak for it.
//!
//! A volume that does not make durable what recovery read from it, or not its repairs, stops the
//! whole log: a tombstone there, that nobody was told of, may be gone tomorrow, and what it killed
//! elsewhere be back; a torn record may be whole. Who answers cannot know which places to name.

use crate::log::{Log, Phase, Purpose, Repair};
use crate::seal::CHECKPOINT_FAILURES_MAX;
use crate::types::{Event, IoFailure};

impl Log {
    pub(crate) fn found_durable(&mut self, volume: u16) {
        let own = self.volume_mut(volume);
        own.is_found_durable = true;
        let repairs = std::mem::take(&mut own.repairs);
        own.repairs_left = repairs.len() as u32;
        for Repair { zone, offset, bytes } in repairs {
            self.want_zone_write(zone, offset, bytes, Purpose::Repair);
        }
        self.continue_start();
    }

    pub(crate) fn repair_durable(&mut self, volume: u16) {
        self.volume_mut(volume).repairs_left -= 1;
        self.continue_start();
    }

    /// Repairs first, then the checkpoints, then service.
    pub(crate) fn continue_start(&mut self) {
        let Phase::Starting { checkpoint } = self.phase else { return };
        let usable = self.usable_volumes();
        if usable.is_empty() || !usable.iter().all(|volume| self.volume(*volume).is_repaired()) {
            return;
        }
        if !checkpoint {
            self.phase = Phase::Starting { checkpoint: true };
            usable.into_iter().for_each(|volume| self.want_checkpoint(volume));
        } else if !self.is_checkpoint_under_way() {
            self.started();
        }
    }

    fn started(&mut self) {
        self.phase = Phase::Running;
        self.events.push_back(Event::Started);
        let open: Vec<u32> = self.open.keys().copied().collect();
        open.into_iter().for_each(|zone| self.seal_if_quiet(zone));
        self.place_all_waiting();
        if self.close_wanted {
            self.close();
        }
    }

    fn is_checkpoint_under_way(&self) -> bool {
        self.volumes.iter().any(|own| own.is_usable() && own.slots.busy)
    }

    /// The older slot is still good. Starting and closing wait for a checkpoint, so they try again
    /// at once; while the log runs the next one is due in a second.
    pub(crate) fn checkpoint_failed(&mut self, volume: u16, failure: IoFailure) {
        self.checkpoint_refused(volume);
        let again = self.volume(volume).slots.failures < CHECKPOINT_FAILURES_MAX;
        match self.phase {
            Phase::Starting { .. } if again => self.want_checkpoint(volume),
            Phase::Starting { .. } => self.fence(volume, failure),
            Phase::Closing { checkpoint: true } if again => self.want_checkpoint(volume),
            // What it would have said is found by scanning.
            _ => self.continue_last_checkpoints(),
        }
    }

    pub(crate) fn checkpoint_durable(&mut self, volume: u16) {
        let slots = &mut self.volume_mut(volume).slots;
        slots.busy = false;
        slots.failures = 0;
        self.continue_start();
        self.continue_last_checkpoints();
    }

    pub(crate) fn continue_close(&mut self) {
        if self.phase == (Phase::Closing { checkpoint: false })
            && self.stats.backlog == 0
            && self.is_idle()
            && !self.is_read_only()
        {
            self.phase = Phase::Closing { checkpoint: true };
            self.usable_volumes().into_iter().for_each(|volume| self.want_checkpoint(volume));
        }
    }

    pub(crate) fn continue_last_checkpoints(&mut self) {
        if self.phase == (Phase::Closing { checkpoint: true }) && !self.is_checkpoint_under_way() {
            self.phase = Phase::Closed;
            self.events.push_back(Event::Closed);
        }
    }

    pub(crate) fn close_fenced(&mut self) {
        if self.phase != Phase::Closed {
            self.phase = Phase::Closed;
            self.events.push_back(Event::Closed);
        }
    }
}
