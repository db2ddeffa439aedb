//! Store time, as a process opening the store this moment would count it.

use super::volume::Volume;

/// Milliseconds of store time; None without a readable checkpoint.
pub(crate) fn store_now_ms(volume: &Volume) -> Option<u64> {
    volume.checkpoint().map(tapeloop_engine::store_now_ms)
}
