//! Power cuts, deaths of the process, and what must be true of the store that comes up again.

use crate::faults::Fault;
use crate::rig::STORE_ID;
use crate::world::{World, note};
use tapeloop_format::CARRY_JOURNAL_OFFSET;
use tapeloop_log::Finding;

impl World {
    /// Power fails; the machine comes up again some time later, its wall clock right or wrong.
    pub(crate) fn crash(&mut self) {
        note!(self, "power fails");
        self.count_crash();
        let (before_ms, started) = (self.rig.now_ms(), self.started);
        self.power_off();
        self.choose_missing();
        self.come_up(before_ms);
        self.reopen();
        let after_ms = self.rig.now_ms();
        assert!(
            after_ms >= before_ms || !started || self.troubled,
            "store time went from {before_ms} to {after_ms}"
        );
    }

    fn power_off(&mut self) {
        for drive in &mut self.rig.drives {
            drive.crash(&mut self.rng);
        }
    }

    /// The clocks of the machine after a power cut.
    fn come_up(&mut self, before_ms: u64) {
        let mark = self.rig.marked().map(|checkpoint| checkpoint.clock);
        let away_ms = *self.rng.pick(&[0, 500, 5000, 60_000, 4_000_000]);
        let machine = &mut self.rig.machine;
        // A mark on the drive is never older than ten seconds on a machine that runs; here time
        // leaps.
        let fresh = mark.is_some_and(|mark| before_ms.saturating_sub(mark.store_ms) <= 10_000);
        if fresh && self.rng.permille(300) {
            machine.wall_ms = machine.wall_ms.saturating_sub(self.rng.below(100_000_000));
        } else if let Some(mark) = mark {
            machine.wall_ms = mark.wall_ms + before_ms.saturating_sub(mark.store_ms) + away_ms;
        }
        machine.boot_id = u128::from(self.rng.next()).to_le_bytes();
        machine.boottime_ms = self.rng.below(100_000);
    }

    /// The process dies; the machine stays.
    pub(crate) fn kill(&mut self) {
        note!(self, "process dies");
        self.count_crash();
        self.totals.kills += 1;
        self.process_dies();
        self.rig.machine.boottime_ms += self.rng.below(5000);
        self.choose_missing();
        self.reopen();
    }

    fn process_dies(&mut self) {
        for drive in &mut self.rig.drives {
            drive.kill(&mut self.rng, self.swarm.late);
        }
    }

    fn count_crash(&mut self) {
        self.totals.crashes += 1;
        self.totals.crashes_starting += u64::from(!self.started);
    }

    /// Now and then somebody starts the store without one of its volumes. Volumes that went on
    /// without each other cannot be told apart: one that is there has to know who served last, and
    /// a start that came to nothing may only be tried again as it was, or with all volumes.
    fn choose_missing(&mut self) {
        self.rig.missing.clear();
        if self.swarm.missing == 0 || !self.rng.permille(self.swarm.missing) {
            return;
        }
        let volume = self.rng.index(self.rig.drives.len());
        let mut others = (0..self.rig.drives.len()).filter(|other| *other != volume);
        let knows = |other: usize| {
            let mut damaged = self.rig.drives[other].overlays.iter();
            self.is_aware[other] && damaged.all(|(sector, _)| sector >= CARRY_JOURNAL_OFFSET)
        };
        if self.last_missing != Some(volume) && !others.any(knows) {
            return;
        }
        self.is_aware.fill(false);
        self.last_missing = Some(volume);
        self.rig.missing.push(volume as u16);
        self.rig.count(Fault::MissingVolume);
        self.troubled = true;
        note!(self, "volume {volume} is missing");
    }

    fn reopen(&mut self) {
        self.rig.abandon();
        self.oracle.process_gone();
        self.forget_troubles();
        self.rig.faults.rest(&mut self.rng);
        self.recover();
    }

    /// Reads the drives, dies while it does so as the seed wants it, and looks at everything.
    pub(crate) fn recover(&mut self) {
        loop {
            (self.started, self.closed) = (false, false);
            self.read_drives();
            self.check_recovered();
            if !self.rng.permille(self.swarm.early_crashes) {
                return;
            }
            note!(self, "dies before its first write");
            self.die_again();
            self.totals.crashes_starting += 1;
        }
    }

    fn read_drives(&mut self) {
        let chance = self.swarm.recovery_crashes;
        loop {
            // Before recovery writes: it may write over what was damaged.
            self.suspect();
            if self.rig.recover(&mut self.rng, |rng| rng.permille(chance)) {
                return;
            }
            note!(self, "dies in recovery");
            self.die_again();
            self.totals.crashes_reading += 1;
        }
    }

    fn die_again(&mut self) {
        self.totals.crashes += 1;
        self.rig.abandon();
        match self.rng.permille(500) {
            true => self.power_off(),
            false => {
                self.totals.kills += 1;
                self.process_dies();
            }
        }
    }

    fn check_recovered(&mut self) {
        note!(self, "recovered: {:?}", self.rig.report);
        if self.rig.traces_io {
            for volume in 0..self.rig.drives.len() {
                let mark = self.rig.marked_on(volume);
                note!(self, "  volume {volume} {mark:?}");
            }
        }
        self.zones_evicted = 0;
        for zone in 0..self.servable.len() {
            self.servable[zone] = self.rig.directory.servable_lap(zone as u32);
        }
        self.check_findings();
        self.recovered = (0..self.oracle.key_count()).map(|key| self.look(key)).collect();
        for key in 0..self.recovered.len() {
            self.judge(key, &self.recovered[key]);
        }
        for volume in 0..self.rig.drives.len() {
            self.may_be_given_up[volume] |= self.rig.is_missing(volume);
        }
        self.observe();
    }

    /// Whose versions damage or a missing volume may cost.
    fn suspect(&mut self) {
        // Suspicion stays until the store serves: a recovery that died may have written over both
        // the damage and what it hid.
        self.damages.clear();
        for (drive, ledger) in self.rig.drives.iter().zip(&self.rig.ledgers) {
            self.damages.push(ledger.damage(
                self.rig.geometry.volume(),
                &STORE_ID,
                drive.overlays.iter(),
                |offset, len| drive.written(offset, len),
            ));
        }
        let before = self.oracle.version_after();
        self.checkpoint_damaged |= self.damages.iter().any(|damage| damage.checkpoint);
        if self.checkpoint_damaged {
            // The older of two checkpoints knows an earlier time, and fewer volumes to have been
            // given up.
            self.loosened.extend((0..self.oracle.key_count()).map(|key| (key, before)));
        }
        for (volume, damage) in self.damages.iter().enumerate() {
            let first = self.rig.geometry.zones_of(volume as u16).start;
            self.zones_damaged.extend(damage.zones.iter().map(|zone| first + zone));
            self.suspects.extend(&damage.keys);
            self.loosened.extend(damage.keys.iter().map(|key| (*key, before)));
            if self.rig.is_missing(volume) || self.may_be_given_up[volume] {
                let keys = self.rig.ledgers[volume].keys();
                self.loosened.extend(keys.iter().map(|key| (*key, before)));
                self.suspects.extend(keys);
            }
        }
    }

    /// Was only that reported as damaged which is?
    fn check_findings(&mut self) {
        if !self.checkpointed || self.rig.faults.done > 0 {
            return;
        }
        if self.checkpoint_damaged {
            // An older checkpoint cannot tell what was torn from what was durable, and what is once
            // taken for durable stays reported.
            let zones = self.rig.report.findings.iter().filter_map(|finding| match finding {
                Finding::Record { zone, .. } => Some(*zone),
                _ => None,
            });
            self.zones_damaged.extend(zones);
        }
        let damages = &self.damages;
        for finding in &self.rig.report.findings {
            let explained = match finding {
                Finding::Checkpoint { .. } => self.checkpoint_damaged,
                Finding::ZoneHeader { zone, .. }
                | Finding::Footer { zone, .. }
                | Finding::Record { zone, .. } => self.zones_damaged.contains(zone),
                Finding::Unreadable { .. } => damages.iter().any(|damage| damage.is_some()),
            };
            assert!(explained, "damage reported where there is none: {finding:?}");
        }
    }
}
