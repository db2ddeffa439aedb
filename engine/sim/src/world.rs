//! One simulated world: a store on its drives, clients, clocks, and everything that befalls them,
//! all from one seed. A broken promise is a panic with its reason.

use crate::drive::{Condition, EIO};
use crate::faults::{FAULT_KINDS, Fault};
use crate::ledger::Damage;
use crate::oracle::Oracle;
use crate::reader::{Seen, SlowReader};
use crate::rig::Rig;
use crate::rng::Rng;
use crate::swarm::Swarm;
use std::collections::{BTreeMap, BTreeSet};

/// A drive that has not answered for so long is avoided, as the engine does.
const AVOID_AFTER_MS: u64 = 200;
/// And given up, if another one is left.
const FENCE_AFTER_MS: u64 = 4000;
/// Steps after a refusal or a lie in which more is looked at, and crashes may be likelier.
const TROUBLE_STEPS: u32 = 30;

/// What a run, or many, came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Seeds run.
    pub seeds: u64,
    /// Power cuts and deaths of the process.
    pub crashes: u64,
    /// Of these, while recovery was reading.
    pub crashes_reading: u64,
    /// Of these, after recovery had read everything and before the store served.
    pub crashes_starting: u64,
    /// Of all crashes, the deaths of the process alone.
    pub kills: u64,
    /// Operations acknowledged.
    pub operations: u64,
    /// Looks at one key, compared with the oracle.
    pub looks: u64,
    /// Faults by kind.
    pub faults: [u64; FAULT_KINDS],
    /// Of the last run.
    pub trace_hash: u64,
}

impl Totals {
    /// Crashes in recovery: while it was reading, or before the store served.
    pub fn crashes_in_recovery(&self) -> u64 {
        self.crashes_reading + self.crashes_starting
    }

    /// Adds the totals of other runs.
    pub fn add(&mut self, other: &Totals) {
        self.seeds += other.seeds;
        self.crashes += other.crashes;
        self.crashes_reading += other.crashes_reading;
        self.crashes_starting += other.crashes_starting;
        self.kills += other.kills;
        self.operations += other.operations;
        self.looks += other.looks;
        for (mine, theirs) in self.faults.iter_mut().zip(other.faults) {
            *mine += theirs;
        }
        self.trace_hash = other.trace_hash;
    }
}

/// How much of what happens is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    None,
    Steps,
    All,
}

/// An upload on its way: no operation of the log yet.
pub(crate) struct Upload {
    pub(crate) key: usize,
    pub(crate) version: u64,
    pub(crate) len: u64,
    pub(crate) pieces_left: u64,
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) swarm: Swarm,
    pub(crate) rig: Rig,
    pub(crate) oracle: Oracle,
    pub(crate) started: bool,
    pub(crate) closed: bool,
    pub(crate) servable: Vec<Option<u64>>,
    pub(crate) zones_evicted: u64,
    /// A checkpoint is on every drive for certain.
    pub(crate) checkpointed: bool,
    /// One was damaged, and the store has not served since: a new one may have been cut short.
    pub(crate) checkpoint_damaged: bool,
    /// What recovery found, before anything could be evicted again.
    pub(crate) recovered: Vec<Seen>,
    /// Keys whose versions may have been lost to damage or with a volume.
    pub(crate) suspects: BTreeSet<usize>,
    /// Keys that were suspect once: what was put before this version may come back when nothing
    /// newer is alive, because what kept it dead may be gone.
    pub(crate) loosened: BTreeMap<usize, u64>,
    /// What is damaged, by volume, when the store was opened.
    pub(crate) damages: Vec<Damage>,
    /// Zones that were ever damaged: what was hidden shows again when a write over it is lost.
    pub(crate) zones_damaged: BTreeSet<u32>,
    /// Drives have lied, failed or been away: things may fail that otherwise never do.
    pub(crate) troubled: bool,
    /// Started without it since it was last there: it may have been given up.
    pub(crate) may_be_given_up: Vec<bool>,
    /// Knows for certain with which volumes the store last began to serve.
    pub(crate) is_aware: Vec<bool>,
    /// The volume without which the store was last opened, or begins to serve.
    pub(crate) last_missing: Option<usize>,
    /// Refusals and lies up to the last step, and for how many steps the last one still matters.
    failed_before: u32,
    trouble_left: u32,
    avoided: Vec<bool>,
    pub(crate) uploads: Vec<Upload>,
    readers: Vec<SlowReader>,
    pub(crate) next_segment: usize,
    pub(crate) totals: Totals,
}

macro_rules! note {
    ($world:expr, $($arg:tt)*) => {{
        if $world.rig.trace.is_some() {
            $world.rig.note(&format!($($arg)*));
        }
    }};
}
pub(crate) use note;

impl World {
    pub(crate) fn new(seed: u64, detail: Detail) -> World {
        let mut rng = Rng::new(seed);
        let mut swarm = Swarm::new(&mut rng);
        let mut rig = Rig::new(swarm.geometry, swarm.sector, swarm.with_checkpoint);
        rig.trace = (detail != Detail::None).then(Vec::new);
        rig.traces_io = detail == Detail::All;
        rig.groups = swarm.groups.clone();
        rig.faults = std::mem::take(&mut swarm.faults);
        for name in &swarm.keys {
            rig.key(name);
        }
        let volumes = rig.drives.len();
        World {
            rng,
            oracle: Oracle::new(swarm.keys.len()),
            started: false,
            closed: false,
            servable: vec![None; swarm.geometry.zone_count() as usize],
            zones_evicted: 0,
            checkpointed: swarm.with_checkpoint,
            checkpoint_damaged: false,
            recovered: Vec::new(),
            suspects: BTreeSet::new(),
            loosened: BTreeMap::new(),
            damages: Vec::new(),
            zones_damaged: BTreeSet::new(),
            troubled: false,
            may_be_given_up: vec![false; volumes],
            is_aware: vec![true; volumes],
            last_missing: None,
            failed_before: 0,
            trouble_left: 0,
            avoided: vec![false; volumes],
            uploads: Vec::new(),
            readers: Vec::new(),
            next_segment: 0,
            totals: Totals { seeds: 1, ..Totals::default() },
            swarm,
            rig,
        }
    }

    /// Runs to the end.
    pub(crate) fn run(&mut self) {
        let (volumes, geometry) = (self.rig.drives.len(), self.swarm.geometry);
        note!(self, "{volumes} volumes of {:?}, sectors {}", geometry.volume(), self.swarm.sector);
        self.recover();
        for _ in 0..self.swarm.steps {
            self.step();
        }
        self.rest();
        self.close();
        self.crash();
        self.totals.operations = self.oracle.acknowledged;
        self.totals.faults = self.rig.faults.counts;
        self.totals.trace_hash = self.rig.hash.value();
    }

    fn step(&mut self) {
        let more = self.more_crashes();
        if self.rng.permille(self.swarm.crashes + more) {
            return self.end_of_run();
        }
        if self.swarm.trouble > 0 {
            self.watch();
            if self.rng.permille(self.swarm.trouble) {
                self.trouble();
            }
        }
        if self.swarm.rot > 0 && self.rng.permille(self.swarm.rot) {
            self.rot();
        }
        let eagerness = self.swarm.eagerness;
        match self.rng.below(1000 + eagerness) {
            0..600 => self.client(),
            600..720 => self.slow_reader(),
            720..860 => {
                let ms = self.rng.below(900);
                self.pass(ms);
            }
            860..900 => {
                let ms = self.rng.within(1000, 120_000);
                self.pass(ms);
            }
            900..905 => {
                let ms = self.rng.below(self.swarm.leap_ms);
                self.pass(ms);
            }
            905..920 => self.step_wall(),
            920..990 => {
                let key = self.rng.index(self.oracle.key_count());
                self.check(key);
            }
            990..995 => self.rest(),
            995..1000 => self.check_all(),
            _ => {
                self.rig.complete_one(&mut self.rng);
                self.observe();
            }
        }
    }

    /// For some steps after a drive has refused something or lied crashes may be likelier, and what
    /// is there is looked at more often.
    fn more_crashes(&mut self) -> u64 {
        let failed = self.rig.faults.done + self.rig.faults.lies_told();
        if failed > self.failed_before {
            (self.failed_before, self.trouble_left) = (failed, TROUBLE_STEPS);
        }
        if self.trouble_left == 0 {
            return 0;
        }
        self.trouble_left -= 1;
        if self.started && self.rng.permille(100) {
            self.check_all();
        }
        self.swarm.crashes_in_trouble
    }

    fn end_of_run(&mut self) {
        match self.rng.below(100) {
            0..55 => self.crash(),
            55..85 => self.kill(),
            85..93 => {
                self.close();
                self.crash();
            }
            _ => {
                self.close();
                self.kill();
            }
        }
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        self.rig.pass(ms);
        note!(self, "{ms} ms pass");
        self.observe();
    }

    /// Somebody sets the wall clock.
    fn step_wall(&mut self) {
        let wall_ms = self.rig.machine.wall_ms;
        let by_ms = *self.rng.pick(&[1000, 3_600_000, 80_000_000_000]);
        let by_ms = self.rng.below(by_ms);
        let back = self.rng.permille(500);
        let wall_ms = if back { wall_ms.saturating_sub(by_ms) } else { wall_ms + by_ms };
        self.rig.machine.wall_ms = wall_ms;
        self.rig.count(Fault::WallStep);
        note!(self, "wall clock set to {wall_ms}");
    }

    /// A drive becomes slow, hangs or vanishes.
    fn trouble(&mut self) {
        let volume = self.rng.index(self.rig.drives.len());
        if self.rig.is_missing(volume) || self.rig.drives[volume].condition != Condition::Fine {
            return;
        }
        let since_ms = self.rig.machine.boottime_ms;
        let (condition, fault) = match self.rng.below(10) {
            0..5 => {
                let until_ms = since_ms + self.rng.below(3000);
                (Condition::Slow { until_ms }, Fault::SlowDrive)
            }
            5..8 => (Condition::Hung { since_ms }, Fault::HungDrive),
            _ => (Condition::Gone, Fault::GoneDrive),
        };
        if fault != Fault::SlowDrive {
            self.rig.faults.done += 1;
        }
        self.troubled = true;
        self.rig.drives[volume].condition = condition;
        self.rig.count(fault);
        note!(self, "volume {volume} is {condition:?}");
    }

    /// What the engine does about drives that do not answer.
    fn watch(&mut self) {
        let now_ms = self.rig.machine.boottime_ms;
        for volume in 0..self.rig.drives.len() {
            match self.rig.drives[volume].condition {
                Condition::Slow { until_ms } if until_ms <= now_ms => self.recover_drive(volume),
                Condition::Slow { .. } => self.avoid(volume, true),
                Condition::Hung { since_ms } => {
                    let waited_ms = now_ms - since_ms;
                    if self.rng.permille(10) {
                        self.recover_drive(volume);
                    } else if waited_ms > FENCE_AFTER_MS {
                        self.give_up(volume);
                    } else if waited_ms > AVOID_AFTER_MS {
                        self.avoid(volume, true);
                    }
                }
                Condition::Fine | Condition::Gone => {}
            }
        }
    }

    fn recover_drive(&mut self, volume: usize) {
        note!(self, "volume {volume} answers again");
        self.rig.drives[volume].condition = Condition::Fine;
        self.avoid(volume, false);
    }

    fn avoid(&mut self, volume: usize, avoid: bool) {
        if self.avoided[volume] != avoid && !self.rig.shut[volume] {
            self.avoided[volume] = avoid;
            self.rig.avoid(volume, avoid);
            self.observe();
        }
    }

    /// A drive that hangs is fenced if another one is left to write to.
    fn give_up(&mut self, volume: usize) -> bool {
        let others = (0..self.rig.drives.len()).filter(|other| *other != volume);
        let left = others.filter(|other| self.rig.is_healthy(*other)).count();
        if left == 0 || self.rig.shut[volume] || self.rig.log().fenced(volume as u16).is_some() {
            return false;
        }
        note!(self, "volume {volume} is given up");
        self.rig.fence(volume, EIO);
        self.observe();
        true
    }

    pub(crate) fn is_avoided(&self, volume: usize) -> bool {
        self.avoided[volume]
    }

    /// Everything that hangs is given up or answers again, so that the log can come to rest.
    pub(crate) fn end_troubles(&mut self) {
        for volume in 0..self.rig.drives.len() {
            match self.rig.drives[volume].condition {
                Condition::Slow { until_ms } => {
                    let ms = until_ms.saturating_sub(self.rig.machine.boottime_ms);
                    self.pass(ms);
                    self.recover_drive(volume);
                }
                Condition::Hung { .. } => {
                    if !self.rig.shut[volume] && !self.give_up(volume) {
                        self.recover_drive(volume);
                    }
                }
                Condition::Fine | Condition::Gone => {}
            }
        }
    }

    /// Troubles end with the machine, or the process.
    pub(crate) fn forget_troubles(&mut self) {
        self.avoided.fill(false);
        self.uploads.clear();
        self.readers.clear();
    }

    fn slow_reader(&mut self) {
        if self.readers.len() < 4 && self.rng.permille(300) {
            let key = self.rng.index(self.oracle.key_count());
            self.readers.extend(self.rig.begin_slow(key));
            return;
        }
        if self.readers.is_empty() {
            return;
        }
        let at = self.rng.index(self.readers.len());
        let goes_on = self.readers[at].read_on(&self.rig).unwrap_or_else(|wrong| panic!("{wrong}"));
        if !goes_on {
            self.readers.swap_remove(at);
        }
    }
}
