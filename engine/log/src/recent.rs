//! Where the last few keys were written: an overwrite of a playlist finds its victim here, with no
//! read.
//!
//! Bounded to `RECENT_MAX` keys, first in first out.

use crate::directory::Location;
use std::collections::{HashMap, VecDeque};
use tapeloop_format::KeyHash;

const RECENT_MAX: usize = 1 << 16;

#[derive(Default)]
pub(crate) struct Recent {
    places: HashMap<KeyHash, (Location, u64)>,
    order: VecDeque<KeyHash>,
}

impl Recent {
    pub(crate) fn get(&self, hash: &KeyHash) -> Option<(Location, u64)> {
        self.places.get(hash).copied()
    }

    pub(crate) fn insert(&mut self, hash: KeyHash, location: Location, expires_ms: u64) {
        if self.places.insert(hash, (location, expires_ms)).is_none() {
            self.order.push_back(hash);
        }
        while self.order.len() > RECENT_MAX {
            let oldest = self.order.pop_front().expect("longer than the bound");
            self.places.remove(&oldest);
        }
    }

    pub(crate) fn remove(&mut self, hash: &KeyHash) {
        // Its place in the order stays and is worth nothing until it comes up.
        self.places.remove(hash);
    }
}
