//! Which operations of a drive fail, and how: by chance, or the k-th of a kind, once or from then
//! on. Counts everything that went wrong in a run.

use crate::drive::{Request, Verdict};
use crate::rng::Rng;
use tapeloop_format::{CARRY_JOURNAL_OFFSET, DATA_OFFSET, Geometry};

/// What an operation is for, as far as its place tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Record,
    /// Zone headers, carries and voids.
    Header,
    Footer,
    Journal,
    Checkpoint,
    Read,
    Flush,
}

const TARGETS: [Target; 7] = [
    Target::Record,
    Target::Header,
    Target::Footer,
    Target::Journal,
    Target::Checkpoint,
    Target::Read,
    Target::Flush,
];

impl Target {
    pub(crate) fn of(request: &Request, geometry: &Geometry) -> Target {
        let (offset, len) = match request {
            Request::Flush => return Target::Flush,
            Request::Read { .. } => return Target::Read,
            Request::Write { is_record: true, .. } => return Target::Record,
            Request::Write { offset, bytes, .. } => (*offset, bytes.len() as u64),
        };
        let in_zone = |at: u64| (at - DATA_OFFSET) % geometry.zone_size();
        match offset {
            _ if offset < CARRY_JOURNAL_OFFSET => Target::Checkpoint,
            _ if offset < DATA_OFFSET => Target::Journal,
            _ if in_zone(offset) == 0 => Target::Header,
            _ if in_zone(offset + len) == 0 => Target::Footer,
            _ => Target::Header,
        }
    }
}

/// What can go wrong, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    WriteError,
    NoSpace,
    ShortWrite,
    ReadError,
    FlushFailed,
    LostWrite,
    MisdirectedWrite,
    BitFlip,
    Unreadable,
    SlowDrive,
    HungDrive,
    GoneDrive,
    MissingVolume,
    WallStep,
    LateWrite,
}

pub(crate) const FAULT_KINDS: usize = 15;

pub(crate) const FAULT_NAMES: [&str; FAULT_KINDS] = [
    "write EIO",
    "write ENOSPC",
    "short write",
    "read EIO",
    "flush failed",
    "write lost",
    "write misdirected",
    "bit flipped",
    "sector unreadable",
    "drive slow",
    "drive hung",
    "drive gone",
    "volume missing at start",
    "wall clock stepped",
    "write later than its process",
];

/// The k-th operation of a kind fails, or it and all that follow.
#[derive(Clone, Debug)]
struct Planned {
    volume: usize,
    target: Target,
    left: u64,
    verdict: Verdict,
    for_good: bool,
}

/// The faults of one run.
#[derive(Clone, Default)]
pub(crate) struct Faults {
    /// In permille, by target.
    rates: [u64; TARGETS.len()],
    /// How many more may happen by chance.
    budget: u32,
    planned: Vec<Planned>,
    /// Lost and misdirected writes, in permille.
    lies: u64,
    lies_left: u32,
    pub(crate) counts: [u64; FAULT_KINDS],
    /// Operations that failed so far.
    pub(crate) done: u32,
}

impl Faults {
    /// Drives that refuse operations.
    pub(crate) fn refusing(rng: &mut Rng, volumes: usize) -> Faults {
        let mut chance = |permille: u64| if rng.permille(500) { permille } else { 0 };
        let rates =
            [chance(30), chance(300), chance(60), chance(100), chance(60), chance(60), chance(3)];
        let budget = *rng.pick(&[1, 3, 5, 40]);
        let planned = (0..rng.below(3)).map(|_| Planned::by_chance(rng, volumes)).collect();
        Faults { rates, budget, planned, ..Faults::default() }
    }

    /// Drives that lie, in addition.
    pub(crate) fn lying(mut self, rng: &mut Rng) -> Faults {
        self.lies = *rng.pick(&[5, 20, 100]);
        self.lies_left = rng.within(1, 4) as u32;
        self
    }

    pub(crate) fn count(&mut self, fault: Fault) {
        self.counts[fault as usize] += 1;
    }

    pub(crate) fn has_lied(&self) -> bool {
        self.lies_told() > 0
    }

    /// Writes said to be done that were lost or went elsewhere.
    pub(crate) fn lies_told(&self) -> u32 {
        let counts =
            [Fault::LostWrite, Fault::MisdirectedWrite].map(|lie| self.counts[lie as usize]);
        counts.iter().sum::<u64>() as u32
    }

    /// How an operation that is about to end does so.
    pub(crate) fn judge(
        &mut self,
        rng: &mut Rng,
        volume: usize,
        request: &Request,
        geometry: &Geometry,
    ) -> Verdict {
        let target = Target::of(request, geometry);
        let verdict = match self.planned_for(volume, target) {
            Some(verdict) => verdict,
            None => self.by_chance(rng, target),
        };
        let (verdict, fault) = match (verdict, target) {
            (Verdict::Done, _) => return self.lie(rng, target, geometry),
            (_, Target::Read) => (Verdict::Eio, Fault::ReadError),
            (_, Target::Flush) => (Verdict::Eio, Fault::FlushFailed),
            (Verdict::NoSpace, _) => (Verdict::NoSpace, Fault::NoSpace),
            (Verdict::Short, _) => (Verdict::Short, Fault::ShortWrite),
            _ => (Verdict::Eio, Fault::WriteError),
        };
        self.count(fault);
        self.done += 1;
        verdict
    }

    fn planned_for(&mut self, volume: usize, target: Target) -> Option<Verdict> {
        let mut verdict = None;
        for planned in &mut self.planned {
            if planned.volume != volume || planned.target != target {
                continue;
            }
            match planned.left {
                0 if planned.for_good => verdict = Some(planned.verdict),
                0 => {}
                1 => {
                    planned.left = 0;
                    verdict = Some(planned.verdict);
                }
                _ => planned.left -= 1,
            }
        }
        verdict
    }

    fn by_chance(&mut self, rng: &mut Rng, target: Target) -> Verdict {
        let rate = self.rates[target as usize];
        if self.budget == 0 || rate == 0 || !rng.permille(rate) {
            return Verdict::Done;
        }
        self.budget -= 1;
        *rng.pick(&[Verdict::Eio, Verdict::Eio, Verdict::NoSpace, Verdict::Short])
    }

    fn lie(&mut self, rng: &mut Rng, target: Target, geometry: &Geometry) -> Verdict {
        let may_lie = matches!(target, Target::Record | Target::Header | Target::Footer);
        if !may_lie || self.lies_left == 0 || !rng.permille(self.lies) {
            return Verdict::Done;
        }
        self.lies_left -= 1;
        if rng.permille(500) {
            self.count(Fault::LostWrite);
            return Verdict::Lost;
        }
        self.count(Fault::MisdirectedWrite);
        // Somewhere in the zones; what would reach beyond them is cut off by the rig.
        let zone = rng.below(u64::from(geometry.zone_count())) as u32;
        let block = match rng.below(3) {
            0 => 0,
            _ => rng.below(geometry.zone_size() / 4096),
        };
        Verdict::Misdirected(geometry.zone_offset(zone) + block * 4096)
    }

    /// The machine was away: what failed for good may be well again.
    pub(crate) fn rest(&mut self, rng: &mut Rng) {
        self.planned.retain(|planned| planned.left > 0 || rng.permille(500));
    }
}

impl Planned {
    fn by_chance(rng: &mut Rng, volumes: usize) -> Planned {
        let target = *rng.pick(&TARGETS);
        Planned {
            volume: rng.index(volumes),
            target,
            left: 1 + rng.next() % *rng.pick(&[4, 20, 200]),
            verdict: *rng.pick(&[Verdict::Eio, Verdict::NoSpace, Verdict::Short]),
            for_good: rng.permille(400),
        }
    }
}
