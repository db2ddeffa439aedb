//! Ghosts: records whose writing was given up, and which may lie on a drive all the same.
//!
//! A write that failed may have landed; so may one whose volume was fenced before its flush. The
//! operation was placed again elsewhere or has failed, but a recovery could still find such a
//! record, and it would come back once whatever superseded it has expired and its zone is reused.
//!
//! Invariant: a place is forgotten only when a durable record of the key names it as a victim, or
//! when nothing can find the record any more: its zone has a footer, and a void lies over it, or it
//! is in its next lap. Whoever names it does so in the one record that supersedes it, so there is
//! no instant at which one of them counts and the other does not.

use crate::types::IoFailure;
use std::collections::HashMap;
use tapeloop_format::{KeyHash, MORE_VICTIMS_MAX, ZoneLap};

/// Places that one record can name, the version that it supersedes included.
pub(crate) const VICTIMS_MAX: usize = 1 + MORE_VICTIMS_MAX;

/// Where records of one key may lie.
struct Haunted {
    places: Vec<ZoneLap>,
    /// What the drive said last.
    failure: IoFailure,
}

/// All ghosts of a store. One key has as many as it had failures since its last success.
#[derive(Default)]
pub(crate) struct Ghosts {
    keys: HashMap<KeyHash, Haunted>,
}

impl Ghosts {
    pub(crate) fn add(&mut self, hash: KeyHash, place: ZoneLap, failure: IoFailure) {
        let haunted = self.keys.entry(hash).or_insert(Haunted { places: Vec::new(), failure });
        haunted.failure = failure;
        if !haunted.places.contains(&place) {
            haunted.places.push(place);
        }
    }

    /// Where records of the key may lie.
    pub(crate) fn of(&self, hash: &KeyHash) -> &[ZoneLap] {
        self.keys.get(hash).map_or(&[], |haunted| &haunted.places)
    }

    pub(crate) fn failure(&self, hash: &KeyHash) -> Option<IoFailure> {
        self.keys.get(hash).map(|haunted| haunted.failure)
    }

    /// A durable record of the key names these places.
    pub(crate) fn lay(&mut self, hash: &KeyHash, named: &[ZoneLap]) {
        if let Some(haunted) = self.keys.get_mut(hash) {
            haunted.places.retain(|place| !named.contains(place));
            if haunted.places.is_empty() {
                self.keys.remove(hash);
            }
        }
    }

    /// Nothing in the zone, up to this lap of it, can be found any more.
    pub(crate) fn forget_zone(&mut self, gone: ZoneLap) {
        let is_gone = |place: &ZoneLap| place.zone == gone.zone && place.lap <= gone.lap;
        self.keys.retain(|_, haunted| {
            haunted.places.retain(|place| !is_gone(place));
            !haunted.places.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILURE: IoFailure = IoFailure { errno: 5 };

    fn place(zone: u32, lap: u64) -> ZoneLap {
        ZoneLap { zone, lap }
    }

    #[test]
    fn a_ghost_is_remembered_until_it_is_named_or_cannot_be_found() {
        let (key, other) = (KeyHash([1; 16]), KeyHash([2; 16]));
        let mut ghosts = Ghosts::default();
        for at in [place(3, 1), place(4, 1), place(3, 1), place(5, 2)] {
            ghosts.add(key, at, FAILURE);
        }
        ghosts.add(other, place(3, 1), FAILURE);
        assert_eq!(ghosts.of(&key), [place(3, 1), place(4, 1), place(5, 2)]);
        ghosts.lay(&key, &[place(4, 1), place(9, 9)]);
        assert_eq!(ghosts.of(&key), [place(3, 1), place(5, 2)]);
        ghosts.forget_zone(place(5, 1));
        assert_eq!(ghosts.of(&key), [place(3, 1), place(5, 2)], "a later lap is not gone");
        ghosts.forget_zone(place(5, 2));
        ghosts.forget_zone(place(3, 1));
        assert_eq!((ghosts.of(&key), ghosts.of(&other)), (&[][..], &[][..]));
        assert_eq!(ghosts.failure(&key), None);
    }
}
