//! Retention classes: objects with similar lifetime share zones, so that a zone expires whole.
//!
//! A class that is in use holds one open zone, sometimes with its successor ready beside it. The
//! number of classes in use is bounded by the number of zones; past the bound neighbours are
//! merged, upwards where possible: a long-lived object in a short-lived zone would keep all of it.

use crate::log::{Log, Pending};
use crate::zone::is_nearly_full;
use std::collections::VecDeque;
use tapeloop_format::{ClassId, RecordShape};

/// Classes that may be open at once in a large store.
const CLASSES_MAX: u32 = 20;

/// A class in use.
pub(crate) struct ClassLog {
    pub(crate) class: ClassId,
    /// Zones that take its records, the oldest first: at most the current one and its successor.
    pub(crate) zones: VecDeque<u32>,
    /// Records that wait for a zone.
    pub(crate) waiting: VecDeque<Pending>,
    /// A zone is wanted.
    pub(crate) wants_zone: bool,
}

impl Log {
    /// The class, by number, that takes records of `ideal`.
    pub(crate) fn class_for(&mut self, ideal: ClassId) -> usize {
        // Here and nowhere else classes are forgotten: nobody holds the number of one.
        self.classes.retain(|class| {
            !class.zones.is_empty() || !class.waiting.is_empty() || class.wants_zone
        });
        let in_group = |class: &ClassLog| class.class.group == ideal.group;
        if let Some(found) = self.classes.iter().position(|class| class.class == ideal) {
            return found;
        }
        // A group of its own keeps one class, so that groups cost a bounded number of zones.
        if ideal.group != 0
            && let Some(found) = self.classes.iter().position(in_group)
        {
            return found;
        }
        let shared = self.classes.iter().filter(|class| class.class.group == 0).count() as u32;
        if ideal.group != 0 || shared < classes_max(self.zones.len() as u32) {
            let (zones, waiting) = (VecDeque::new(), VecDeque::new());
            self.classes.push(ClassLog { class: ideal, zones, waiting, wants_zone: false });
            return self.classes.len() - 1;
        }
        let buckets = self.classes.iter().enumerate().filter(|(_, class)| in_group(class));
        let nearest = buckets.min_by_key(|(_, class)| {
            let bucket = class.class.bucket;
            (bucket < ideal.bucket, bucket.abs_diff(ideal.bucket))
        });
        nearest.expect("the bound is at least one class").0
    }

    /// Zones of the class on volumes that are not to be avoided, the oldest first.
    pub(crate) fn near_zones(&self, class: usize) -> impl Iterator<Item = u32> + '_ {
        let zones = self.classes[class].zones.iter().copied();
        zones.filter(|zone| !self.volume(self.volume_of(*zone)).is_far)
    }

    /// An open zone of the class that takes the record. Zones too full for it are closed once
    /// another has room: a large record must not waste what is left for small ones while it waits.
    pub(crate) fn zone_with_room(
        &mut self,
        class: usize,
        shape: &RecordShape,
        key_len: usize,
    ) -> Option<u32> {
        if !self.is_running() {
            return None;
        }
        let zone_size = self.options.geometry.zone_size();
        let has_room = |zone: u32| self.open[&zone].has_room(zone_size, shape, key_len);
        let fits = self.near_zones(class).position(has_room);
        // A current zone and its successor, both too full: the first must make way for a third.
        let near_count = self.near_zones(class).count();
        let too_full = fits.unwrap_or(near_count.saturating_sub(1));
        let closing: Vec<u32> = self.near_zones(class).take(too_full).collect();
        closing.into_iter().for_each(|zone| self.close_zone(zone));
        fits?;
        self.near_zones(class).next()
    }

    /// The same on a volume that is to be avoided: better than no place at all.
    pub(crate) fn far_zone_with_room(
        &self,
        class: ClassId,
        shape: &RecordShape,
        key_len: usize,
    ) -> Option<u32> {
        let zone_size = self.options.geometry.zone_size();
        let class = self.classes.iter().find(|known| known.class == class)?;
        let mut zones = class.zones.iter().copied();
        zones.find(|zone| self.open[zone].has_room(zone_size, shape, key_len))
    }

    /// Wants the successor of a zone while there is still room in it, so that no PUT waits for it.
    pub(crate) fn prepare_ahead(&mut self, class: usize, zone: u32) {
        let alone = self.near_zones(class).count() == 1;
        if alone && is_nearly_full(self.options.geometry.volume(), &self.open[&zone]) {
            self.classes[class].wants_zone = true;
            self.prepare_next();
        }
    }

    /// A zone is ready for the class: what waited goes ahead, in order.
    pub(crate) fn zone_ready(&mut self, class: ClassId, zone: u32) {
        let class = match self.classes.iter().position(|known| known.class == class) {
            Some(class) => class,
            None => self.class_for(class),
        };
        self.classes[class].zones.push_back(zone);
        self.classes[class].wants_zone = false;
        self.place_waiting(class);
    }

    /// What waited for a zone goes ahead, in order.
    pub(crate) fn place_waiting(&mut self, class: usize) {
        let waiting = std::mem::take(&mut self.classes[class].waiting);
        for pending in waiting {
            self.place(pending);
        }
    }

    /// Everything that came before the log was ready.
    pub(crate) fn place_all_waiting(&mut self) {
        let all: Vec<Pending> =
            self.classes.iter_mut().flat_map(|class| class.waiting.drain(..)).collect();
        for pending in all {
            self.place(pending);
        }
        self.prepare_next();
    }

    /// The zone takes no more records.
    pub(crate) fn leave_class(&mut self, zone: u32) {
        for class in &mut self.classes {
            class.zones.retain(|open| *open != zone);
        }
    }
}

/// A quarter of the zones may be open for the shared classes: the rest holds what is being kept.
pub(crate) fn classes_max(zone_count: u32) -> u32 {
    (zone_count / 4).clamp(1, CLASSES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_store_merges_neighbours_and_a_large_one_is_bounded() {
        assert_eq!([4, 15, 16, 64, 4000].map(classes_max), [1, 3, 4, 16, CLASSES_MAX]);
    }
}
