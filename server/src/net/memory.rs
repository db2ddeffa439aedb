//! What connections may take of memory: each of them a little, and all of a thread together some
//! more, for heads that are long and answers that nobody takes.
//!
//! Invariant: a connection that wants more than is left ends. Whoever keeps so much waiting is no
//! player and no CDN.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Connections of a server at once. Those beyond wait to be accepted.
pub(super) const CONNECTIONS_MAX: usize = 16_384;
/// What one takes by being there: its task, its socket, room for a usual head.
pub(super) const CONNECTION_BYTES: u64 = 12 << 10;
/// What the connections of one thread may take beyond.
pub(super) const EXTRA_BYTES_MAX: usize = 16 << 20;

/// Places for connections, shared by the threads of a server.
#[derive(Clone, Debug, Default)]
pub(super) struct Seats(Arc<Taken>);

#[derive(Debug, Default)]
struct Taken {
    count: AtomicUsize,
    /// How often there was none left.
    refusals: AtomicUsize,
}

/// The place of one connection.
#[derive(Debug)]
pub(super) struct Seat(Arc<Taken>);

impl Seats {
    /// A place, unless all are taken.
    pub(super) fn take(&self, max: usize) -> Option<Seat> {
        let below = |count: usize| (count < max).then_some(count + 1);
        let taken = self.0.count.fetch_update(Ordering::AcqRel, Ordering::Acquire, below);
        if taken.is_err() {
            self.0.refusals.fetch_add(1, Ordering::Relaxed);
        }
        taken.ok().map(|_| Seat(Arc::clone(&self.0)))
    }

    /// How often there was no place left. While it rises, every thread should make some.
    pub(super) fn refusals(&self) -> usize {
        self.0.refusals.load(Ordering::Relaxed)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let before = self.0.count.fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "a place given back twice");
    }
}

/// What is left of a thread's extra memory.
#[derive(Debug)]
pub(super) struct ExtraMemory(Cell<usize>);

impl Default for ExtraMemory {
    fn default() -> ExtraMemory {
        ExtraMemory(Cell::new(EXTRA_BYTES_MAX))
    }
}

/// The part of it that one connection has.
#[derive(Debug)]
pub(super) struct Extra {
    from: Rc<ExtraMemory>,
    bytes: usize,
}

impl Extra {
    pub(super) fn new(from: Rc<ExtraMemory>) -> Extra {
        Extra { from, bytes: 0 }
    }

    /// Has so many bytes from now on; false, and as many as before, if there are not enough.
    pub(super) fn set(&mut self, bytes: usize) -> bool {
        let Some(left) = (self.from.0.get() + self.bytes).checked_sub(bytes) else { return false };
        self.from.0.set(left);
        self.bytes = bytes;
        true
    }
}

impl Drop for Extra {
    fn drop(&mut self) {
        assert!(self.set(0), "giving back is always possible");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_connections_together_have_no_more_than_there_is() {
        let memory = Rc::new(ExtraMemory::default());
        let [mut one, mut other] = [(), ()].map(|()| Extra::new(Rc::clone(&memory)));
        assert!(one.set(EXTRA_BYTES_MAX - 10) && other.set(10));
        assert!(!other.set(11) && !one.set(EXTRA_BYTES_MAX - 9));
        assert!(one.set(0) && other.set(EXTRA_BYTES_MAX));
        drop((one, other));
        assert_eq!(memory.0.get(), EXTRA_BYTES_MAX);
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_ends() {
        let seats = Seats::default();
        let taken: Vec<Seat> = (0..3).map_while(|_| seats.clone().take(2)).collect();
        assert_eq!((taken.len(), seats.refusals()), (2, 1));
        drop(taken);
        assert!(seats.take(2).is_some());
    }
}
