//! The second read of an object, begun together with the first: before anything is known of its
//! record but the place and the length that the index has.
//!
//! Invariants: it is exactly what a reader of the whole object reads next, or nobody gets it; its
//! bytes are verified like any others. No first read waits for it in vain: it has its turn later,
//! its reader goes on without it, and until the bytes of their objects are asked for such reads
//! have fewer than half of a drive's buffers. The larger half is left to first reads and senders.

use crate::engine::Shared;
use crate::read::{self, PendingRead};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use tapeloop_format::StoreId;
use tapeloop_log::Location;
use tapeloop_log::read::PayloadRead;

/// A volume of an open store.
type Volume = (StoreId, u16);

thread_local! {
    /// How many reads ahead of each volume nobody has claimed yet; no zeros.
    static UNCLAIMED: RefCell<HashMap<Volume, usize>> = RefCell::default();
}

/// A read that was begun before anybody could ask for it.
pub(crate) struct ReadAhead {
    read: PayloadRead,
    pending: PendingRead,
    _unclaimed: Unclaimed,
}

impl ReadAhead {
    /// Begins `read` of the record at `location`, unless somebody could miss its buffer.
    pub(crate) async fn begin(
        shared: &Arc<Shared>,
        location: &Location,
        read: PayloadRead,
    ) -> Option<ReadAhead> {
        let volume = shared.geometry.volume_of(location.zone);
        let share = read::idle_share(shared, volume)?;
        let unclaimed = Unclaimed::count((shared.store_id, volume), share.saturating_sub(1) / 2)?;
        let pending = read::begin(shared, location.lap, read.at).await;
        Some(ReadAhead { read, pending, _unclaimed: unclaimed })
    }

    /// The answer to `next`, if that is what was begun; otherwise it is given up.
    pub(crate) fn claim(self, next: &PayloadRead) -> Option<PendingRead> {
        (self.read == *next).then_some(self.pending)
    }
}

/// Counts one that nobody has claimed.
struct Unclaimed {
    volume: Volume,
}

impl Unclaimed {
    /// `None` if there are `most` already.
    fn count(volume: Volume, most: usize) -> Option<Unclaimed> {
        UNCLAIMED.with_borrow_mut(|all| {
            let count = all.get(&volume).copied().unwrap_or(0);
            (count < most).then(|| {
                all.insert(volume, count + 1);
                Unclaimed { volume }
            })
        })
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        UNCLAIMED.with_borrow_mut(|all| {
            let count = all.get_mut(&self.volume).expect("counted when it began");
            *count -= 1;
            if *count == 0 {
                all.remove(&self.volume);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_nobody_has_claimed_are_bounded_for_each_volume_and_leave_nothing_behind() {
        let [one, other] = [0, 1].map(|number| (StoreId([7; 16]), number));
        let held: Vec<Unclaimed> = (0..3).map_while(|_| Unclaimed::count(one, 2)).collect();
        assert_eq!(held.len(), 2);
        assert!(Unclaimed::count(other, 1).is_some(), "each volume has its own");
        assert!(Unclaimed::count(other, 0).is_none(), "too few buffers to read ahead");
        drop(held);
        assert!(Unclaimed::count(one, 1).is_some(), "those that ended make room");
        assert!(UNCLAIMED.with_borrow(HashMap::is_empty));
    }
}
