//! A simulated drive. What is written can be read at once; it is durable only after a flush that
//! was asked for when the write had completed. A crash leaves every sector that was not durable old
//! or new, each by its own chance.

use super::rng::Rng;
use tapeloop_log::IoFailure;

pub(crate) enum Request {
    Write { offset: u64, bytes: Vec<u8>, is_record: bool },
    Read { offset: u64, len: usize },
    Flush,
}

struct Flight {
    id: u64,
    request: Request,
    /// A flush covers writes with a smaller completion number.
    covers: u64,
}

struct Write {
    completed: u64,
    offset: u64,
    bytes: Vec<u8>,
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
        }
    }

    pub(crate) fn read(&self, offset: u64, len: usize) -> &[u8] {
        &self.seen[offset as usize..][..len]
    }

    pub(crate) fn durable(&self, offset: u64, len: usize) -> &[u8] {
        &self.durable[offset as usize..][..len]
    }

    /// Written and durable at once: how a formatter leaves things, or how bits rot.
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

    /// Ends one I/O in flight, any of them. `fails` decides whether it fails.
    pub(crate) fn complete(
        &mut self,
        rng: &mut Rng,
        fails: impl FnOnce(&mut Rng, &Request) -> bool,
    ) -> (u64, Result<Vec<u8>, IoFailure>) {
        let at = rng.below(self.flights.len() as u64) as usize;
        let flight = self.flights.swap_remove(at);
        let failed = fails(rng, &flight.request);
        let result = match flight.request {
            Request::Write { offset, bytes, .. } if failed => {
                self.land_in_part(rng, offset, &bytes);
                Vec::new()
            }
            Request::Write { offset, bytes, .. } => {
                self.land(offset, bytes);
                Vec::new()
            }
            Request::Read { offset, len } => self.read(offset, len).to_vec(),
            Request::Flush => {
                self.flush(rng, flight.covers, failed);
                Vec::new()
            }
        };
        (flight.id, if failed { Err(IoFailure { errno: 5 }) } else { Ok(result) })
    }

    fn land(&mut self, offset: u64, bytes: Vec<u8>) {
        self.seen[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
        self.unflushed.push(Write { completed: self.completed, offset, bytes });
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
        let (covered, rest) =
            std::mem::take(&mut self.unflushed).into_iter().partition(|w| w.completed < covers);
        self.unflushed = rest;
        let covered: Vec<Write> = covered;
        for write in covered {
            if failed {
                self.dropped.push((write.offset as usize, write.bytes.len()));
                self.tear(rng, 500, &write);
            } else {
                let at = write.offset as usize;
                self.durable[at..][..write.bytes.len()].copy_from_slice(&write.bytes);
            }
        }
    }

    fn tear(&mut self, rng: &mut Rng, chance: u64, write: &Write) {
        for (index, sector) in write.bytes.chunks(self.sector).enumerate() {
            if rng.permille(chance) {
                let at = write.offset as usize + index * self.sector;
                self.durable[at..][..sector.len()].copy_from_slice(sector);
            }
        }
    }

    /// The power fails.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        let mut writes = std::mem::take(&mut self.unflushed);
        self.late = None;
        for flight in self.flights.drain(..) {
            if let Request::Write { offset, bytes, .. } = flight.request {
                writes.push(Write { completed: self.completed, offset, bytes });
            }
        }
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
    pub(crate) fn kill(&mut self, rng: &mut Rng) {
        // What a failed flush dropped is not there for the next process: nothing but the drive
        // keeps it.
        self.forget(Vec::new());
        for flight in std::mem::take(&mut self.flights) {
            let Request::Write { offset, bytes, is_record } = flight.request else { continue };
            match rng.below(4) {
                0 => {}
                1 => self.land_in_part(rng, offset, &bytes),
                2 if is_record && self.late.is_none() => self.late = Some((offset, bytes)),
                _ => self.land(offset, bytes),
            }
        }
    }

    /// What the dead process had in flight lands at last.
    pub(crate) fn land_late(&mut self) {
        if let Some((offset, bytes)) = self.late.take() {
            self.land(offset, bytes);
        }
    }
}
