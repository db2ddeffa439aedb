//! The fence around a volume whose drive cannot be trusted any more: a flush failed, it refuses to
//! write wherever it is tried, or the caller found it hung or gone.
//!
//! Invariants:
//! - A failed flush is never asked for again: what it covered may be lost, and a second flush would
//!   say yes all the same. Nothing more is written to a fenced volume.
//! - What was durable there stays what it was: served, and named as a victim by what supersedes it.
//! - What was not is placed again on another volume within the same operation. It has become a
//!   ghost, which the new record names; so it does not matter what the drive made of it.
//! - Its open zones stay in the checkpoints of the others, as far as they were durable.
//! - A volume that is fenced before it is as recovery found it and wants it takes all others along.

use crate::log::{Flying, Log, Pending, Phase, Purpose};
use crate::types::{AppendError, Event, IoFailure};
use tapeloop_format::ZoneLap;

/// Places on a volume that refuse a write, one after the other and none in between that takes one,
/// after which the drive counts as dead: a bad sector makes one place of them.
const REFUSING_PLACES_MAX: usize = 4;

impl Log {
    /// The caller found the drive hung or gone: nothing more is written to it, and nothing it still
    /// answers counts.
    pub fn fence_volume(&mut self, now_ms: u64, volume: u16, failure: IoFailure) {
        self.advance(now_ms);
        self.fence(volume, failure);
        self.begin_ready();
        self.continue_close();
    }

    pub(crate) fn fence(&mut self, volume: u16, failure: IoFailure) {
        if !self.volume(volume).is_usable() || self.phase == Phase::Closed {
            return;
        }
        let is_doubtful = !self.volume(volume).is_repaired();
        self.put_up_fence(volume, failure);
        if is_doubtful {
            for other in self.usable_volumes() {
                self.put_up_fence(other, failure);
            }
        }
        if self.is_read_only() {
            return self.end_everything(failure);
        }
        let zones = self.options.geometry.zones_of(volume);
        let open: Vec<u32> = self.open.range(zones).map(|(zone, _)| *zone).collect();
        for zone in open {
            self.leave_class(zone);
            self.open.get_mut(&zone).expect("just listed").closing = true;
        }
        let lost = self.lost_records(volume, failure);
        if self.volume(volume).prepare.is_some() {
            self.abandon_zone(volume);
        }
        for pending in lost {
            self.stats.records_replaced += 1;
            self.place(pending);
        }
        self.prepare_next();
        self.continue_start();
        self.continue_last_checkpoints();
    }

    fn put_up_fence(&mut self, volume: u16, failure: IoFailure) {
        self.volume_mut(volume).fenced = Some(failure);
        self.find_far();
        self.events.push_back(Event::Fenced { volume, failure });
        self.abandon_io(volume);
    }

    /// Takes note of how a write ended.
    pub(crate) fn count_refusal(&mut self, volume: u16, purpose: &Purpose, refused: bool) {
        let Some(place) = self.written_place(volume, purpose) else { return };
        let refusing = &mut self.volume_mut(volume).refusing;
        match refused {
            true => drop(refusing.insert(place)),
            false => refusing.clear(),
        }
    }

    /// Does it refuse wherever it is tried, or is no zone left to try?
    pub(crate) fn is_dead(&self, volume: u16) -> bool {
        let mut zones = self.options.geometry.zones_of(volume);
        self.volume(volume).refusing.len() >= REFUSING_PLACES_MAX
            || zones.all(|zone| self.zones[zone as usize].bad)
    }

    /// The zone that a write goes to, or what lies before all zones. `None`: it is no write.
    fn written_place(&self, volume: u16, purpose: &Purpose) -> Option<Option<u32>> {
        match purpose {
            Purpose::Record { lsn } => Some(Some(self.flying[lsn].location.zone)),
            Purpose::Void { zone, .. } | Purpose::Footer { zone, .. } => Some(Some(*zone)),
            Purpose::Checkpoint | Purpose::Repair => Some(None),
            Purpose::Prepare => self.prepare(volume).written_place(),
            Purpose::VictimHeader { .. } | Purpose::Flush => None,
        }
    }

    /// What was not handed out never starts; what was is not listened to.
    fn abandon_io(&mut self, volume: u16) {
        let own = self.volume_mut(volume);
        own.written.clear();
        own.flushing = None;
        own.free.clear();
        let unstarted: Vec<u64> =
            own.wanted.drain(..).chain(own.records_wanted.drain(..)).map(|io| io.id).collect();
        let mut ids: Vec<u64> = self.in_flight.keys().copied().collect();
        ids.retain(|id| self.in_flight[id].volume == volume);
        ids.sort_unstable();
        for id in ids {
            let gone = self.in_flight.remove(&id).expect("just listed");
            if !unstarted.contains(&id) {
                self.abandoned.insert(id);
            }
            // The search for its victim goes on without the drive.
            if let Purpose::VictimHeader { append, .. } = gone.purpose {
                self.ready.push_back(append);
            }
        }
    }

    /// Records that were not durable there, in the order they were placed in.
    fn lost_records(&mut self, volume: u16, failure: IoFailure) -> Vec<Pending> {
        let geometry = self.options.geometry;
        let is_there = |flying: &Flying| geometry.volume_of(flying.location.zone) == volume;
        let lost = self.flying.iter().filter(|(_, flying)| is_there(flying));
        let mut lsns: Vec<u64> = lost.map(|(lsn, _)| *lsn).collect();
        lsns.sort_unstable();
        lsns.into_iter().map(|lsn| self.give_up_record(lsn, failure)).collect()
    }

    /// A record whose writing came to nothing, as far as anybody knows. Its LSN is not done: the
    /// record may be there.
    pub(crate) fn give_up_record(&mut self, lsn: u64, failure: IoFailure) -> Pending {
        let Flying { pending, location, .. } = self.flying.remove(&lsn).expect("a record flying");
        let open = self.open.get_mut(&location.zone).expect("records fly in open zones");
        open.resolve(location.offset, false);
        let place = ZoneLap { zone: location.zone, lap: location.lap };
        if !planted!(Bug::ForgetGhosts) {
            self.ghosts.add(pending.append.hash, place, failure);
        }
        pending
    }

    /// Why nothing can be written, if no volume is left.
    pub(crate) fn read_only(&self) -> Option<IoFailure> {
        let fenced = || self.volumes.iter().find_map(|own| own.fenced);
        self.is_read_only().then(fenced).flatten()
    }

    /// The last volume is fenced: every operation ends.
    fn end_everything(&mut self, failure: IoFailure) {
        let error = AppendError::Fenced(failure);
        let mut tickets: Vec<u64> = Vec::new();
        tickets.extend(self.flying.drain().map(|(_, flying)| flying.pending.append.ticket));
        for class in &mut self.classes {
            tickets.extend(class.waiting.drain(..).map(|pending| pending.append.ticket));
        }
        tickets.extend(self.ready.drain(..).map(|append| append.ticket));
        for (_, queue) in self.busy.drain() {
            tickets.extend(queue.into_iter().map(|append| append.ticket));
        }
        tickets.sort_unstable();
        assert_eq!(tickets.len(), self.stats.backlog as usize, "every operation ends once");
        self.stats.backlog = 0;
        for ticket in tickets {
            self.fail(ticket, error);
        }
        self.unresolved.clear();
        if self.close_wanted {
            self.close_fenced();
        }
    }
}
