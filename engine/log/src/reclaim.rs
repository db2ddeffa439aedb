//! Zones go back into use: expired ones for free, others under pressure.
//!
//! Order under pressure, when nothing has expired: zones of groups over their quota first, then the
//! zone whose last object is nearest its expiry. Groups with a guarantee never give.

use crate::log::Log;
use crate::zone::{Zone, ZoneState};
use tapeloop_format::OPEN_ZONES_MAX;

impl Log {
    /// After recovery: open zones back to their classes, everything expired to the free lists.
    pub(crate) fn adopt_zones(&mut self) {
        let mut free: Vec<u32> = (0..self.zones.len() as u32)
            .filter(|zone| self.zones[*zone as usize].state == ZoneState::Free)
            .collect();
        free.sort_by_key(|zone| (self.zones[*zone as usize].lap > 0, *zone));
        for zone in free {
            let volume = self.volume_of(zone);
            self.volume_mut(volume).free.push_back(zone);
        }
        let open: Vec<u32> = self.open.keys().copied().collect();
        for zone in open {
            if self.open[&zone].closing {
                continue;
            }
            let class = self.class_for(self.zones[zone as usize].class);
            self.classes[class].zones.push_back(zone);
        }
        for class in &mut self.classes {
            let zones = &self.zones;
            class.zones.make_contiguous().sort_by_key(|zone| zones[*zone as usize].base_position);
        }
        self.expire_zones();
    }

    /// Frees sealed zones in which everything has expired, in O(1) each: their entries die at once.
    pub(crate) fn expire_zones(&mut self) {
        let (now_ms, running) = (self.now_ms, self.is_running());
        for zone in 0..self.zones.len() as u32 {
            let meta = &mut self.zones[zone as usize];
            let early_ms = if planted!(Bug::ExpireEarly) { 1000 } else { 0 };
            if meta.max_expires_ms > now_ms + early_ms || meta.bad {
                continue;
            }
            match meta.state {
                ZoneState::Sealed => {
                    meta.state = ZoneState::Free;
                    self.directory.set_lap(zone, meta.lap, false);
                    self.stats.zones_expired += 1;
                    let volume = self.volume_of(zone);
                    self.volume_mut(volume).free.push_back(zone);
                }
                ZoneState::Open if running => self.close_if_expired(zone),
                _ => {}
            }
        }
    }

    /// An open zone whose objects are all gone, in a class that nobody uses any more.
    fn close_if_expired(&mut self, zone: u32) {
        let open = &self.open[&zone];
        if !open.listed.is_empty() && open.in_flight == 0 && !open.closing {
            self.close_zone(zone);
        }
    }

    /// A zone for the next lap, on a volume that prepares none. The volumes take turns, so that
    /// records spread over all drives. `None`: nothing may be taken now.
    ///
    /// While a far volume has free zones, what a near one holds gives only for records that wait:
    /// what is wanted ahead of need waits for the slow drive.
    pub(crate) fn take_zone(&mut self, is_needed: bool) -> Option<u32> {
        // A zone that a checkpoint cannot name as open could not be recovered.
        if self.open.len() >= OPEN_ZONES_MAX {
            return None;
        }
        let (near, far): (Vec<u16>, Vec<u16>) =
            self.volumes_in_turn().into_iter().partition(|volume| !self.volume(*volume).is_far);
        let may_give = is_needed || !far.iter().any(|volume| self.has_free(*volume));
        let zone = self.take_zone_of(&near, may_give).or_else(|| {
            // Nearer ones may have some in a moment.
            let is_certain = !near.iter().any(|volume| self.volume(*volume).prepare.is_some());
            (is_needed && is_certain).then(|| self.take_zone_of(&far, true)).flatten()
        })?;
        self.turn = (self.volume_of(zone) + 1) % self.options.geometry.volume_count();
        Some(zone)
    }

    fn has_free(&self, volume: u16) -> bool {
        self.volume(volume).free.iter().any(|zone| self.may_try(*zone))
    }

    fn volumes_in_turn(&self) -> Vec<u16> {
        let count = self.options.geometry.volume_count();
        let in_turn = (0..count).map(|step| (self.turn + step) % count);
        in_turn.filter(|volume| self.volume(*volume).is_usable()).collect()
    }

    /// A free zone, else one that must give.
    fn take_zone_of(&mut self, volumes: &[u16], may_give: bool) -> Option<u32> {
        let is_ready = |volume: &u16| self.volume(*volume).prepare.is_none();
        let ready: Vec<u16> = volumes.iter().copied().filter(is_ready).collect();
        if let Some(zone) = ready.iter().find_map(|volume| self.take_free(*volume)) {
            return Some(zone);
        }
        // One that is busy may have a free zone: nothing must give for want of patience.
        if !may_give || volumes.iter().any(|volume| self.has_free(*volume)) {
            return None;
        }
        let is_sealed = |zone: &u32| {
            let is_there = ready.contains(&self.volume_of(*zone));
            is_there && self.zones[*zone as usize].state == ZoneState::Sealed
        };
        let zone = self.first_to_give((0..self.zones.len() as u32).filter(is_sealed))?;
        let meta = &self.zones[zone as usize];
        self.stats.zones_evicted += 1;
        self.stats.evicted_early_ms = meta.max_expires_ms.saturating_sub(self.now_ms);
        self.stats.retention_achieved_ms = self.now_ms.saturating_sub(meta.opened_ms);
        Some(zone)
    }

    fn take_free(&mut self, volume: u16) -> Option<u32> {
        for _ in 0..self.volume(volume).free.len() {
            let zone = self.volume_mut(volume).free.pop_front()?;
            if self.may_try(zone) {
                return Some(zone);
            }
            self.volume_mut(volume).free.push_back(zone);
        }
        None
    }

    /// Of zones that hold something, the one that goes first.
    pub(crate) fn first_to_give(&self, zones: impl Iterator<Item = u32>) -> Option<u32> {
        let over_quota = self.groups_over_quota();
        let may_give = |zone: &u32| {
            let meta = &self.zones[*zone as usize];
            !meta.bad && self.may_try(*zone) && !self.is_guaranteed(meta.class.group)
        };
        zones.filter(may_give).min_by_key(|zone| {
            let meta = &self.zones[*zone as usize];
            let over = over_quota.contains(&meta.class.group);
            (!over, meta.max_expires_ms, meta.base_position)
        })
    }

    fn may_try(&self, zone: u32) -> bool {
        self.zones[zone as usize].put_back_at != Some(self.next_base_position)
    }

    fn is_guaranteed(&self, group: u64) -> bool {
        let is_kept = !planted!(Bug::EvictGuaranteed);
        let mut policies = self.options.groups.iter();
        is_kept && policies.any(|policy| policy.group == group && policy.guaranteed)
    }

    fn groups_over_quota(&self) -> Vec<u64> {
        let is_held = |zone: &&Zone| matches!(zone.state, ZoneState::Open | ZoneState::Sealed);
        let mut over = Vec::new();
        for policy in &self.options.groups {
            let Some(quota_bytes) = policy.quota_bytes else { continue };
            let zones = self.zones.iter().filter(is_held);
            let held = zones.filter(|zone| zone.class.group == policy.group).count() as u64;
            if held * self.options.geometry.zone_size() > quota_bytes {
                over.push(policy.group);
            }
        }
        over
    }
}
