//! What the world sees of a running store, and what it demands of it.

use crate::drive::Condition;
use crate::reader::Seen;
use crate::rig::Rig;
use crate::swarm::GUARANTEED;
use crate::world::{World, note};
use tapeloop_log::{AppendError, Event};

impl World {
    /// Takes in events and what became of the zones.
    pub(crate) fn observe(&mut self) {
        if self.rig.events.contains(&Event::Started) {
            self.settle();
        }
        self.observe_zones();
        let now_ms = self.rig.now_ms();
        for event in std::mem::take(&mut self.rig.events) {
            note!(self, "{event:?}");
            match event {
                Event::Started => {}
                Event::Closed => self.closed = true,
                Event::Stored { ticket, location, expires_ms, .. } => {
                    self.oracle.stored(ticket, expires_ms, (location.zone, location.lap));
                }
                Event::Deleted { ticket, existed } => self.oracle.deleted(ticket, existed, now_ms),
                Event::Failed { ticket, error } => self.failed(ticket, error),
                Event::Fenced { volume, .. } => {
                    let volume = usize::from(volume);
                    let given_up = self.rig.shut[volume];
                    assert!(given_up || self.is_troubled(), "volume {volume} fenced for no reason");
                    self.rig.shut[volume] = true;
                }
            }
        }
    }

    pub(crate) fn is_troubled(&self) -> bool {
        self.troubled || self.rig.faults.done > 0 || self.rig.faults.has_lied()
    }

    fn failed(&mut self, ticket: u64, error: AppendError) {
        let troubled = self.is_troubled();
        match error {
            AppendError::NoSpace => {
                let guaranteed = self.rig.groups.iter().any(|policy| policy.guaranteed);
                assert!(troubled || guaranteed, "no space, and nothing is guaranteed");
            }
            AppendError::WriteFailed { .. } => assert!(troubled),
            AppendError::Fenced(_) => {
                let left = (0..self.rig.drives.len()).find(|volume| self.rig.is_healthy(*volume));
                assert_eq!(left, None, "failed as fenced, and there is a healthy volume");
            }
            AppendError::Closing => {}
            AppendError::TooLarge { .. } => panic!("within the limit"),
        }
        self.oracle.failed(ticket, !troubled || error == AppendError::Closing);
    }

    /// A zone that stops being served while something in it is alive was evicted: only under
    /// pressure, never from a guaranteed group.
    fn observe_zones(&mut self) {
        let now_ms = self.rig.now_ms();
        let mut evicted = 0;
        for zone in 0..self.servable.len() {
            let lap = self.rig.directory.servable_lap(zone as u32);
            let before = std::mem::replace(&mut self.servable[zone], lap);
            let Some(before) = before.filter(|before| lap != Some(*before)) else { continue };
            let alive = self.oracle.alive_in((zone as u32, before), now_ms);
            if alive.is_empty() {
                continue;
            }
            // Damage can hide whose a zone was.
            let may_give = !alive.contains(&GUARANTEED) || self.is_troubled();
            assert!(may_give, "zone {zone} holds guaranteed objects");
            evicted += 1;
            note!(self, "zone {zone} lap {before} evicted");
            self.oracle.evicted.insert((zone as u32, before));
        }
        let all = self.rig.log().stats().zones_evicted;
        let counted = all - self.zones_evicted;
        self.zones_evicted = all;
        assert!(evicted <= counted, "{evicted} zones lost live objects, {counted} were evicted");
        if evicted > 0 && !self.is_troubled() {
            assert_eq!(self.zones_free(), 0, "evicted while there were free zones");
        }
    }

    /// Zones that are free on volumes that take records.
    fn zones_free(&mut self) -> u32 {
        let mut free = 0;
        for volume in 0..self.rig.drives.len() {
            let healthy = self.rig.is_healthy(volume) && !self.is_avoided(volume);
            if healthy && self.rig.drives[volume].condition == Condition::Fine {
                free += self.rig.log().volume_stats(volume as u16).zones_free;
            }
        }
        free
    }

    /// From now on what recovery found is what is true.
    fn settle(&mut self) {
        assert!(!self.started);
        self.started = true;
        self.checkpointed |= self.rig.missing.is_empty();
        self.checkpoint_damaged &= !self.rig.missing.is_empty();
        for (key, seen) in std::mem::take(&mut self.recovered).iter().enumerate() {
            self.oracle.settle(key, seen);
        }
        self.suspects.clear();
        self.last_missing = self.rig.missing.first().map(|volume| usize::from(*volume));
        for volume in 0..self.rig.drives.len() {
            let is_here = !self.rig.is_missing(volume);
            self.is_aware[volume] = is_here && self.rig.log().fenced(volume as u16).is_none();
            self.may_be_given_up[volume] &= !is_here;
        }
        note!(self, "settled");
    }

    pub(crate) fn check(&mut self, key: usize) {
        let seen = self.look(key);
        self.judge(key, &seen);
    }

    pub(crate) fn check_all(&mut self) {
        (0..self.oracle.key_count()).for_each(|key| self.check(key));
    }

    pub(crate) fn look(&mut self, key: usize) -> Seen {
        self.totals.looks += 1;
        self.rig.look(key).unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    /// Is this what may be found under the key now?
    pub(crate) fn judge(&self, key: usize, seen: &Seen) {
        let now_ms = self.rig.now_ms();
        let is_suspect = self.suspects.contains(&key);
        let verdict = match seen {
            Seen::Unavailable { volume } => {
                assert!(!self.rig.answers(*volume), "the drive of key {key} answers");
                Ok(())
            }
            Seen::Damaged { zone, offset, .. } => {
                // Also of an expired record: its header says that it is expired.
                match self.rig.may_be_damaged_at(*zone, *offset) {
                    true => Ok(()),
                    false => Err(format!("key {key}: {seen:?}, and there is no damage there")),
                }
            }
            _ if self.started => self.oracle.check(key, seen, now_ms),
            _ if is_suspect || self.is_loosened(key, seen) => {
                self.oracle.check_genuine(key, seen, now_ms)
            }
            _ => self.oracle.check_recovered(key, seen, now_ms, self.oracle.run),
        };
        if let Err(wrong) = verdict {
            // Where a write was lost there may be a record that a crash had torn off in this very
            // lap: nothing on the drive tells that it is not the one.
            let lied = self.is_lied_about(key);
            let genuine = self.oracle.check_genuine(key, seen, now_ms);
            assert!(lied && genuine.is_ok(), "{wrong}");
        }
    }

    /// Was a record of the key lost on its way to the drive?
    fn is_lied_about(&self, key: usize) -> bool {
        let geometry = self.rig.geometry.volume();
        self.rig.drives.iter().zip(&self.rig.ledgers).any(|(drive, ledger)| {
            let mut lies = drive.overlays.iter().filter(|(_, shows_other)| *shows_other);
            lies.any(|(sector, _)| ledger.is_record_of(geometry, sector, key))
        })
    }

    fn is_loosened(&self, key: usize, seen: &Seen) -> bool {
        let Seen::Object { version, .. } = seen else { return false };
        self.loosened.get(&key).is_some_and(|before| version < before)
            && self.oracle.may_be_absent(key, self.rig.now_ms())
    }

    /// Everything in flight comes to its end; then no operation may be left.
    pub(crate) fn rest(&mut self) {
        for _ in 0..Rig::steps_max() {
            self.end_troubles();
            if !self.rig.complete_one(&mut self.rng) {
                break;
            }
            self.observe();
        }
        let fenced = self.is_read_only();
        assert!(fenced || self.rig.log().is_idle(), "nothing is in flight, and the log waits");
        assert!(fenced || self.started, "the log never starts");
        let pending = &self.oracle.pending;
        assert!(pending.is_empty(), "operations that never end: {pending:?}");
        assert_eq!(self.rig.log().backlog(), 0);
        self.check_all();
    }

    fn is_read_only(&mut self) -> bool {
        self.rig.log().is_read_only()
    }

    pub(crate) fn close(&mut self) {
        note!(self, "close");
        self.rig.close();
        for _ in 0..Rig::steps_max() {
            self.observe();
            self.end_troubles();
            if !self.rig.complete_one(&mut self.rng) {
                break;
            }
        }
        assert!(self.closed, "the log never closes");
        assert!(self.oracle.pending.is_empty(), "close finishes what was accepted");
    }
}
