//! Store time, as a process opening the store this moment would count it.

use tapeloop_io::clock;
use tapeloop_log::{MachineTime, StoreClock};

use super::volume::Volume;

/// Milliseconds of store time; None without a readable checkpoint.
pub(crate) fn store_now_ms(volume: &Volume) -> Option<u64> {
    let checkpoint = volume.checkpoint()?;
    let boottime_ms = clock::boottime_ms();
    let machine = MachineTime { boot_id: clock::boot_id(), boottime_ms, wall_ms: clock::wall_ms() };
    Some(StoreClock::resume(&checkpoint.clock, 0, machine).at(boottime_ms))
}
