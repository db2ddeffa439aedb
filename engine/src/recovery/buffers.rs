//! The memory that recovery reads into.
//!
//! Invariant: it takes at most `BYTES_MAX`, and one buffer for each volume however long it is.
//! Buffers are used again: given back to the allocator after each read, their places would fill
//! with small things and the next read would need a new place.

use parking_lot::Mutex;
use tapeloop_io::AlignedBuf;

const BYTES_MAX: usize = 16 << 20;
/// Sizes are powers of two, so that one fits many reads.
const SIZE_MIN: usize = 4 << 10;

#[derive(Default)]
pub(super) struct Buffers(Mutex<State>);

#[derive(Default)]
struct State {
    free: Vec<AlignedBuf>,
    /// Free or not.
    bytes: usize,
    bytes_free: usize,
}

fn size_of(len: usize) -> usize {
    len.next_power_of_two().max(SIZE_MIN)
}

impl Buffers {
    /// A buffer of this length; `None` while there is no room for it, unless it is needed.
    pub(super) fn take(&self, len: usize, is_needed: bool) -> Option<AlignedBuf> {
        let mut state = self.0.lock();
        let state = &mut *state;
        let size = size_of(len);
        if let Some(at) = state.free.iter().position(|buf| buf.capacity() == size) {
            state.bytes_free -= size;
            return Some(state.free.swap_remove(at).with_len(len));
        }
        let in_use = state.bytes - state.bytes_free;
        if in_use + size > BYTES_MAX && !is_needed {
            return None;
        }
        while state.bytes + size > BYTES_MAX
            && let Some(other) = state.free.pop()
        {
            state.bytes -= other.capacity();
            state.bytes_free -= other.capacity();
        }
        state.bytes += size;
        Some(AlignedBuf::zeroed(size).with_len(len))
    }

    pub(super) fn give(&self, buf: AlignedBuf) {
        let mut state = self.0.lock();
        if state.bytes > BYTES_MAX {
            state.bytes -= buf.capacity();
            return;
        }
        state.bytes_free += buf.capacity();
        state.free.push(buf);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_stay_within_their_bound_but_for_one_that_is_needed() {
        let buffers = Buffers::default();
        let quarter = BYTES_MAX / 4;
        let mut taken: Vec<_> = (0..4).map_while(|_| buffers.take(quarter - 5, false)).collect();
        assert_eq!(taken.len(), 4);
        assert!(buffers.take(1, false).is_none());
        let needed = buffers.take(2 * BYTES_MAX, true).expect("whatever its length");
        assert_eq!(needed.len(), 2 * BYTES_MAX);
        buffers.give(needed);
        let place = taken[0].as_ptr();
        taken.drain(..).for_each(|buf| buffers.give(buf));
        let again: Vec<_> = (0..4).map_while(|_| buffers.take(quarter, false)).collect();
        assert_eq!(again.len(), 4);
        assert!(again.iter().any(|buf| buf.as_ptr() == place), "memory is used again");
        again.into_iter().for_each(|buf| buffers.give(buf));
        assert!(buffers.take(BYTES_MAX, false).is_some(), "what is free gives way");
        assert!(buffers.0.lock().bytes <= BYTES_MAX);
    }
}
