//! Store time: the clock that TTLs follow, in milliseconds.
//!
//! Invariants:
//! - It never runs backwards, also not across restarts: a mark on the drive is its high-water mark.
//! - While the machine is up it follows the boot-time clock, which no wall-clock step can move. A
//!   restart within the same boot goes on along the same line.
//! - Only a reboot must ask the wall clock how long the machine was away. A wall clock that stepped
//!   back counts as one mark period, so that nothing that was refused as expired is served again;
//!   one that ran further ahead than `AWAY_MS_MAX` counts as just that, and the operator is told,
//!   because a wrong clock must not expire a whole store.

use tapeloop_format::ClockMark;

/// Longest absence that a reboot may add to store time: a week.
pub const AWAY_MS_MAX: u64 = 7 * 24 * 3600 * 1000;

/// A mark on the drive is never older than this while the store is open.
pub(crate) const MARK_PERIOD_MS: u64 = 10_000;

/// What the machine's clocks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineTime {
    /// Identity of this boot.
    pub boot_id: [u8; 16],
    /// Milliseconds since boot, suspended time included.
    pub boottime_ms: u64,
    /// Wall clock, milliseconds since 1970.
    pub wall_ms: u64,
}

/// The line from boot time to store time.
#[derive(Clone, Copy, Debug)]
pub struct StoreClock {
    boot_id: [u8; 16],
    boottime_base_ms: u64,
    store_base_ms: u64,
    held_ms: u64,
}

impl StoreClock {
    /// The clock of a new store starts at the wall clock.
    pub fn new(now: MachineTime) -> StoreClock {
        StoreClock {
            boot_id: now.boot_id,
            boottime_base_ms: now.boottime_ms,
            store_base_ms: now.wall_ms,
            held_ms: 0,
        }
    }

    /// Goes on from the last mark. `seen_ms` is the latest store time met anywhere on the drive.
    pub fn resume(mark: &ClockMark, seen_ms: u64, now: MachineTime) -> StoreClock {
        let same_boot = mark.boot_id == now.boot_id && now.boottime_ms >= mark.boottime_ms;
        let (away_ms, held_ms) = if same_boot {
            (now.boottime_ms - mark.boottime_ms, 0)
        } else {
            let least_ms = if planted!(Bug::ClockGoesBack) { 0 } else { MARK_PERIOD_MS };
            let away_ms = now.wall_ms.saturating_sub(mark.wall_ms).max(least_ms);
            (away_ms.min(AWAY_MS_MAX), away_ms.saturating_sub(AWAY_MS_MAX))
        };
        StoreClock {
            boot_id: now.boot_id,
            boottime_base_ms: now.boottime_ms,
            store_base_ms: (mark.store_ms + away_ms).max(seen_ms),
            held_ms,
        }
    }

    /// The same clock, but not before a time that was met on the drive.
    pub(crate) fn not_before(mut self, seen_ms: u64) -> StoreClock {
        self.store_base_ms = self.store_base_ms.max(seen_ms);
        self
    }

    /// Store time at a reading of the boot-time clock.
    pub fn at(&self, boottime_ms: u64) -> u64 {
        self.store_base_ms + boottime_ms.saturating_sub(self.boottime_base_ms)
    }

    /// How much of a reboot's wall-clock jump was not believed; 0 in a healthy machine.
    pub fn held_ms(&self) -> u64 {
        self.held_ms
    }

    /// The mark to keep on the drive.
    pub fn mark(&self, boottime_ms: u64, wall_ms: u64) -> ClockMark {
        let store_ms = self.at(boottime_ms);
        ClockMark { boot_id: self.boot_id, boottime_ms, store_ms, wall_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn machine(boot: u8, boottime_ms: u64, wall_ms: u64) -> MachineTime {
        MachineTime { boot_id: [boot; 16], boottime_ms, wall_ms }
    }

    #[test]
    fn wall_steps_within_a_boot_neither_expire_nor_prolong() {
        let clock = StoreClock::new(machine(1, 1000, 100 * HOUR));
        let mark = clock.mark(1000 + HOUR, 9 * HOUR);
        for wall_ms in [0, 5 * HOUR, 101 * HOUR, 100_000 * HOUR] {
            let later = StoreClock::resume(&mark, 0, machine(1, 1000 + 2 * HOUR, wall_ms));
            assert_eq!(later.at(1000 + 2 * HOUR), 102 * HOUR);
            assert_eq!(later.held_ms(), 0);
        }
    }

    #[test]
    fn a_reboot_counts_the_time_away_by_the_wall_clock() {
        let mark = StoreClock::new(machine(1, 500, 100 * HOUR)).mark(500, 100 * HOUR);
        let clock = StoreClock::resume(&mark, 0, machine(2, 10, 103 * HOUR));
        assert_eq!(clock.at(10), 103 * HOUR);
        assert_eq!(clock.at(10 + HOUR), 104 * HOUR);
    }

    #[test]
    fn a_wall_clock_behind_the_mark_never_resurrects() {
        let mark = StoreClock::new(machine(1, 0, 100 * HOUR)).mark(0, 100 * HOUR);
        let clock = StoreClock::resume(&mark, 0, machine(2, 10, 50 * HOUR));
        assert_eq!(clock.at(10), 100 * HOUR + MARK_PERIOD_MS);
        let clock = StoreClock::resume(&mark, 101 * HOUR, machine(2, 10, 50 * HOUR));
        assert_eq!(clock.at(10), 101 * HOUR, "the latest time on the drive is the floor");
    }

    #[test]
    fn a_wall_clock_years_ahead_after_a_reboot_is_held_and_told() {
        let mark = StoreClock::new(machine(1, 0, 100 * HOUR)).mark(0, 100 * HOUR);
        let wall_ms = 100 * HOUR + AWAY_MS_MAX + 10 * HOUR;
        let clock = StoreClock::resume(&mark, 0, machine(2, 10, wall_ms));
        assert_eq!(clock.at(10), 100 * HOUR + AWAY_MS_MAX);
        assert_eq!(clock.held_ms(), 10 * HOUR);
    }
}
