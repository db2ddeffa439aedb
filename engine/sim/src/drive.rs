//! A simulated drive. What is written can be read at once; it is durable only after a flush that
//! was asked for when the write had completed. A crash leaves every sector that was not durable at
//! what it durably was, or at what any of the writes under way would have made of it.

use crate::overlay::{Covered, Overlays};
use crate::rng::Rng;
use std::borrow::Cow;
use tapeloop_log::IoFailure;

pub(crate) const EIO: IoFailure = IoFailure { errno: 5 };
const ENODEV: IoFailure = IoFailure { errno: 19 };
const ENOSPC: IoFailure = IoFailure { errno: 28 };

pub(crate) enum Request {
    Write { offset: u64, bytes: Vec<u8>, is_record: bool },
    Read { offset: u64, len: usize },
    Flush,
}

impl Request {
    pub(crate) fn describe(&self) -> String {
        match self {
            Request::Write { offset, bytes, .. } => format!("write {} at {offset}", bytes.len()),
            Request::Read { offset, len } => format!("read {len} at {offset}"),
            Request::Flush => "flush".to_owned(),
        }
    }
}

/// How an operation of the drive ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Done,
    /// Any part of a write lands; a flush drops what it covered.
    Eio,
    /// Nothing of a write lands.
    NoSpace,
    /// The first part of a write lands.
    Short,
    /// A write is said to be done and never happened.
    Lost,
    /// A write is said to be done and went to this offset.
    Misdirected(u64),
}

/// Does the drive answer?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Fine,
    /// Nothing ends before this time since boot.
    Slow {
        until_ms: u64,
    },
    /// Nothing ends any more.
    Hung {
        since_ms: u64,
    },
    /// Every operation fails.
    Gone,
}

#[derive(Clone)]
struct Write {
    completed: u64,
    offset: u64,
    bytes: Vec<u8>,
    /// It was meant for another place.
    is_astray: bool,
    /// What had lain over the place.
    covered: Covered,
}

struct Flight {
    id: u64,
    request: Request,
    /// A flush covers writes with a smaller completion number.
    covers: u64,
}

/// What `lose_pending` put aside.
#[cfg(test)]
pub(crate) struct Lost {
    flights: Vec<Flight>,
    unflushed: Vec<Write>,
}

#[cfg(test)]
impl Lost {
    /// Every write that a crash could leave undone, oldest first: offset and bytes.
    pub(crate) fn pending(&self) -> Vec<(u64, &[u8])> {
        let landed = self.unflushed.iter().map(|write| (write.offset, &write.bytes[..]));
        let flying = self.flights.iter().filter_map(|flight| match &flight.request {
            Request::Write { offset, bytes, .. } => Some((*offset, &bytes[..])),
            _ => None,
        });
        landed.chain(flying).collect()
    }
}

pub(crate) struct Drive {
    durable: Vec<u8>,
    seen: Vec<u8>,
    sector: usize,
    unflushed: Vec<Write>,
    /// Stretches that a failed flush dropped: still seen by this process, never durable.
    dropped: Vec<(usize, usize)>,
    flights: Vec<Flight>,
    completed: u64,
    /// A write that outlives its process and lands when the next one has read everything.
    late: Option<(u64, Vec<u8>)>,
    pub(crate) condition: Condition,
    pub(crate) overlays: Overlays,
    /// Of everything that became durable, in this order.
    #[cfg(test)]
    pub(crate) image: std::collections::BTreeMap<u64, u64>,
}

impl Drive {
    pub(crate) fn new(len: u64, sector: usize) -> Drive {
        Drive {
            durable: vec![0; len as usize],
            seen: vec![0; len as usize],
            sector,
            unflushed: Vec::new(),
            dropped: Vec::new(),
            flights: Vec::new(),
            completed: 0,
            late: None,
            condition: Condition::Fine,
            overlays: Overlays::default(),
            #[cfg(test)]
            image: std::collections::BTreeMap::new(),
        }
    }

    /// What a read brings.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>, IoFailure> {
        let bytes = &self.seen[offset as usize..][..len];
        if !self.overlays.touches(offset, len) {
            return Ok(Cow::Borrowed(bytes));
        }
        let mut bytes = bytes.to_vec();
        match self.overlays.apply(offset, &mut bytes) {
            true => Ok(Cow::Owned(bytes)),
            false => Err(EIO),
        }
    }

    /// What is written, overlays aside.
    pub(crate) fn written(&self, offset: u64, len: usize) -> &[u8] {
        &self.seen[offset as usize..][..len]
    }

    pub(crate) fn durable(&self, offset: u64, len: usize) -> &[u8] {
        &self.durable[offset as usize..][..len]
    }

    /// Written and durable at once: how a formatter leaves things.
    pub(crate) fn plant(&mut self, offset: u64, bytes: &[u8]) {
        self.durable[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        self.seen[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn submit(&mut self, id: u64, request: Request) {
        self.flights.push(Flight { id, request, covers: self.completed });
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    pub(crate) fn request(&self, at: usize) -> &Request {
        &self.flights[at].request
    }

    /// Ends the I/O in flight at `at`.
    pub(crate) fn complete(
        &mut self,
        rng: &mut Rng,
        at: usize,
        verdict: Verdict,
    ) -> (u64, Result<Vec<u8>, IoFailure>) {
        let Flight { id, request, covers } = self.flights.swap_remove(at);
        let failure = match verdict {
            _ if self.condition == Condition::Gone => Some(ENODEV),
            Verdict::Eio | Verdict::Short => Some(EIO),
            Verdict::NoSpace => Some(ENOSPC),
            Verdict::Done | Verdict::Lost | Verdict::Misdirected(_) => None,
        };
        let result = match request {
            Request::Write { offset, bytes, .. } => self.write(rng, offset, bytes, verdict),
            Request::Read { offset, len } if failure.is_none() => {
                self.read(offset, len).map(Cow::into_owned)
            }
            Request::Read { .. } => Ok(Vec::new()),
            Request::Flush => {
                self.flush(rng, covers, failure.is_some());
                Ok(Vec::new())
            }
        };
        (id, failure.map_or(result, Err))
    }

    fn write(
        &mut self,
        rng: &mut Rng,
        offset: u64,
        bytes: Vec<u8>,
        verdict: Verdict,
    ) -> Result<Vec<u8>, IoFailure> {
        if self.condition == Condition::Gone {
            return Ok(Vec::new());
        }
        match verdict {
            Verdict::Done => self.land(offset, bytes),
            Verdict::Eio => self.land_in_part(rng, offset, &bytes),
            Verdict::NoSpace => {}
            Verdict::Short => {
                let sectors = bytes.len() / self.sector;
                let len = rng.index(sectors) * self.sector;
                if len > 0 {
                    self.land(offset, bytes[..len].to_vec());
                }
            }
            Verdict::Lost => self.overlays.mark(offset, bytes.len()),
            Verdict::Misdirected(to) => {
                let len = bytes.len();
                self.land(to, bytes);
                self.unflushed.last_mut().expect("it just landed").is_astray = true;
                self.overlays.mark(to, len);
                self.overlays.mark(offset, len);
            }
        }
        Ok(Vec::new())
    }

    fn land(&mut self, offset: u64, bytes: Vec<u8>) {
        let covered = self.overlays.written(offset, bytes.len());
        self.seen[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
        let completed = self.completed;
        self.unflushed.push(Write { completed, offset, bytes, is_astray: false, covered });
        self.completed += 1;
    }

    fn land_in_part(&mut self, rng: &mut Rng, offset: u64, bytes: &[u8]) {
        let chance = *rng.pick(&[0, 300, 700, 1000]);
        for (index, sector) in bytes.chunks(self.sector).enumerate() {
            if rng.permille(chance) {
                self.land(offset + (index * self.sector) as u64, sector.to_vec());
            }
        }
    }

    fn flush(&mut self, rng: &mut Rng, covers: u64, failed: bool) {
        let (covered, rest): (Vec<Write>, Vec<Write>) =
            std::mem::take(&mut self.unflushed).into_iter().partition(|w| w.completed < covers);
        self.unflushed = rest;
        for write in covered {
            if failed {
                self.dropped.push((write.offset as usize, write.bytes.len()));
                self.tear(rng, 500, &write);
            } else {
                let at = write.offset as usize;
                self.durable[at..][..write.bytes.len()].copy_from_slice(&write.bytes);
                #[cfg(test)]
                self.image.insert(write.offset, fingerprint(&write.bytes));
            }
        }
    }

    fn tear(&mut self, rng: &mut Rng, chance: u64, write: &Write) {
        for (index, sector) in write.bytes.chunks(self.sector).enumerate() {
            let (at, len) = (write.offset + (index * self.sector) as u64, sector.len());
            if !rng.permille(chance) {
                self.overlays.restore(&write.covered, at, len);
                continue;
            }
            self.overlays.written(at, len);
            if write.is_astray {
                self.overlays.mark(at, len);
            }
            self.durable[at as usize..][..len].copy_from_slice(sector);
        }
    }

    /// The power fails. Sectors keep what they durably were or take what any write not yet durable
    /// brings them; a drive that had stopped answering starts afresh.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        let mut writes = std::mem::take(&mut self.unflushed);
        self.late = None;
        let gone = self.condition == Condition::Gone;
        for flight in self.flights.drain(..) {
            if let Request::Write { offset, bytes, .. } = flight.request
                && !gone
            {
                let completed = self.completed;
                let (is_astray, covered) = (false, Covered::new());
                writes.push(Write { completed, offset, bytes, is_astray, covered });
            }
        }
        self.condition = Condition::Fine;
        let chance = *rng.pick(&[0, 100, 500, 500, 900, 1000]);
        let mut touched = Vec::new();
        for write in &writes {
            // Most of the time whole writes make it or not; torn ones are the exception.
            let chance =
                if rng.permille(500) { 1000 * u64::from(rng.permille(chance)) } else { chance };
            self.tear(rng, chance, write);
            touched.push((write.offset as usize, write.bytes.len()));
        }
        self.forget(touched);
    }

    fn forget(&mut self, stretches: Vec<(usize, usize)>) {
        for (at, len) in stretches.into_iter().chain(std::mem::take(&mut self.dropped)) {
            let (durable, seen) = (&self.durable[at..at + len], &mut self.seen[at..at + len]);
            seen.copy_from_slice(durable);
        }
    }

    /// The process dies, the machine stays: what was in flight lands or not; what was written stays
    /// readable, and is still not durable.
    pub(crate) fn kill(&mut self, rng: &mut Rng, may_be_late: bool) {
        // What a failed flush dropped is not there for the next process: nothing but the drive
        // keeps it. A write that came after it is.
        self.forget(Vec::new());
        for write in &self.unflushed {
            self.seen[write.offset as usize..][..write.bytes.len()].copy_from_slice(&write.bytes);
        }
        let gone = self.condition == Condition::Gone;
        for flight in std::mem::take(&mut self.flights) {
            let Request::Write { offset, bytes, is_record } = flight.request else { continue };
            if gone {
                continue;
            }
            match rng.below(4) {
                0 => {}
                1 => self.land_in_part(rng, offset, &bytes),
                2 if is_record && may_be_late && self.late.is_none() => {
                    self.late = Some((offset, bytes));
                }
                _ => self.land(offset, bytes),
            }
        }
        self.condition = Condition::Fine;
    }

    /// What the dead process had in flight lands at last, if there is something.
    pub(crate) fn land_late(&mut self) -> bool {
        let late = self.late.take();
        let is_late = late.is_some();
        if let Some((offset, bytes)) = late {
            self.land(offset, bytes);
        }
        is_late
    }

    /// For looking at crashes without one: the drive as it would be with nothing but what is
    /// durable. Undone by `go_back`.
    #[cfg(test)]
    pub(crate) fn lose_pending(&mut self) -> Lost {
        let flights = std::mem::take(&mut self.flights);
        let unflushed = std::mem::take(&mut self.unflushed);
        let stretches: Vec<(usize, usize)> =
            unflushed.iter().map(|write| (write.offset as usize, write.bytes.len())).collect();
        self.forget(stretches);
        Lost { flights, unflushed }
    }

    #[cfg(test)]
    pub(crate) fn go_back(&mut self, lost: Lost) {
        for write in &lost.unflushed {
            self.seen[write.offset as usize..][..write.bytes.len()].copy_from_slice(&write.bytes);
        }
        (self.flights, self.unflushed) = (lost.flights, lost.unflushed);
    }

    /// Shows these bytes, or what is durable again.
    #[cfg(test)]
    pub(crate) fn show(&mut self, offset: u64, bytes: Option<&[u8]>, len: usize) {
        let at = offset as usize;
        let (durable, seen) = (&self.durable[at..at + len], &mut self.seen[at..at + len]);
        seen.copy_from_slice(bytes.unwrap_or(durable));
    }

    /// One number for what is durable, what is written, what is in flight, and what a flush in
    /// flight covers; whatever order it came in.
    #[cfg(test)]
    pub(crate) fn fingerprint(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let flushes = self.flights.iter().filter(|f| matches!(f.request, Request::Flush));
        let covers = flushes.map(|flush| flush.covers).max().unwrap_or(0);
        let mut all: Vec<(u64, u64, u64)> = Vec::new();
        for write in &self.unflushed {
            let state = 1 + u64::from(write.completed < covers);
            all.push((state, write.offset, fingerprint(&write.bytes)));
        }
        for flight in &self.flights {
            all.push(match &flight.request {
                Request::Write { offset, bytes, .. } => (3, *offset, fingerprint(bytes)),
                Request::Read { offset, len } => (4, *offset, *len as u64),
                Request::Flush => (5, 0, 0),
            });
        }
        all.sort_unstable();
        let mut hasher = DefaultHasher::new();
        (&self.image, all).hash(&mut hasher);
        hasher.finish()
    }

    #[cfg(test)]
    pub(crate) fn forget_flights(&mut self) {
        self.flights.clear();
    }

    /// Becomes a drive on which everything that the other one shows is durable.
    #[cfg(test)]
    pub(crate) fn copy_seen(&mut self, other: &Drive) {
        self.flights.clear();
        self.unflushed.clear();
        self.durable.clone_from(&other.seen);
        self.seen.clone_from(&other.seen);
    }
}

/// One number for some bytes.
#[cfg(test)]
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    use std::hash::Hasher;
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
