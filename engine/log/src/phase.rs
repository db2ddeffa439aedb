//! From start to close: repairs, service, the fence after a failed flush, the last checkpoint.

use crate::log::{Log, Phase, Purpose};
use crate::seal::CHECKPOINT_FAILURES_MAX;
use crate::types::{AppendError, Event, IoFailure};

impl Log {
    /// A failed flush is never asked for again: what it covered may be lost, and a second flush
    /// would say yes all the same.
    pub(crate) fn fence(&mut self, failure: IoFailure) {
        self.fenced = Some(failure);
        self.events.push_back(Event::Fenced(failure));
        let error = AppendError::Fenced(failure);
        let mut tickets: Vec<u64> = Vec::new();
        tickets.extend(self.flying.drain().map(|(_, flying)| flying.pending.append.ticket));
        for class in &mut self.classes {
            tickets.extend(class.waiting.drain(..).map(|pending| pending.append.ticket));
        }
        tickets.extend(self.ready.drain(..).map(|append| append.ticket));
        for purpose in self.purposes.values() {
            if let Purpose::VictimHeader { append, .. } = purpose {
                tickets.push(append.ticket);
            }
        }
        for (_, queue) in self.busy.drain() {
            tickets.extend(queue.into_iter().map(|append| append.ticket));
        }
        tickets.sort_unstable();
        assert_eq!(tickets.len(), self.stats.backlog as usize, "every operation ends once");
        self.stats.backlog = 0;
        for ticket in tickets {
            self.events.push_back(Event::Failed { ticket, error });
        }
        // The I/O not yet handed out never starts.
        for io in self.wanted.drain(..).chain(self.records_wanted.drain(..)) {
            self.purposes.remove(&io.id);
        }
        self.written.clear();
        self.flushing = None;
        self.unresolved.clear();
        if self.close_wanted {
            self.close_fenced();
        }
    }

    pub(crate) fn close_fenced(&mut self) {
        if self.phase != Phase::Closed {
            self.phase = Phase::Closed;
            self.events.push_back(Event::Closed);
        }
    }

    pub(crate) fn repair_durable(&mut self) {
        if let Phase::Starting { writes } = &mut self.phase {
            *writes -= 1;
        }
        self.continue_start();
    }

    /// Repairs first, then the checkpoint that forbids ghosts, then service.
    pub(crate) fn continue_start(&mut self) {
        if self.phase == (Phase::Starting { writes: 0 }) {
            self.want_checkpoint();
        }
    }

    /// The older slot is still good. Starting and closing wait for a checkpoint, so they try again
    /// at once; while the log runs the next one is due in a second.
    pub(crate) fn checkpoint_failed(&mut self, failure: IoFailure) {
        self.checkpoint_refused();
        let again = self.checkpoint_failures < CHECKPOINT_FAILURES_MAX;
        match self.phase {
            Phase::Starting { .. } if again => self.want_checkpoint(),
            Phase::Starting { .. } => self.fence(failure),
            Phase::Closing { checkpoint: true } if again => self.want_checkpoint(),
            Phase::Closing { checkpoint: true } => {
                // What it would have said is found by scanning.
                self.phase = Phase::Closed;
                self.events.push_back(Event::Closed);
            }
            _ => {}
        }
    }

    pub(crate) fn checkpoint_durable(&mut self) {
        self.checkpoint_busy = false;
        self.checkpoint_failures = 0;
        match self.phase {
            Phase::Starting { writes: 0 } => {
                self.phase = Phase::Running;
                self.events.push_back(Event::Started);
                let open: Vec<u32> = self.open.keys().copied().collect();
                open.into_iter().for_each(|zone| self.seal_if_quiet(zone));
                self.place_all_waiting();
                if self.close_wanted {
                    self.close();
                }
            }
            Phase::Closing { checkpoint: true } => {
                self.phase = Phase::Closed;
                self.events.push_back(Event::Closed);
            }
            _ => {}
        }
    }

    pub(crate) fn continue_close(&mut self) {
        if self.phase == (Phase::Closing { checkpoint: false })
            && self.stats.backlog == 0
            && self.is_idle()
        {
            self.phase = Phase::Closing { checkpoint: true };
            self.want_checkpoint();
        }
    }
}
