//! The buffer traits of tokio-uring for our buffers.

use tokio_uring::buf::{IoBuf, IoBufMut};

use super::pool::PlainBuf;
use crate::buffers::AlignedBuf;
use crate::chunk::Chunk;
use crate::spare::Spare;

// SAFETY: the heap block does not move with the value and lives until it is dropped; all of it
// is initialised.
unsafe impl IoBuf for AlignedBuf {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }

    fn bytes_total(&self) -> usize {
        self.len()
    }
}

// SAFETY: as above; the value owns its bytes, so the pointer is unique.
unsafe impl IoBufMut for AlignedBuf {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }

    unsafe fn set_init(&mut self, pos: usize) {
        assert!(pos <= self.len());
    }
}

// SAFETY: a chunk holds its memory (arena block, pooled buffer, shared heap bytes), which does
// not move when the chunk does; the range is initialised and no longer written to.
unsafe impl IoBuf for Chunk {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }

    fn bytes_total(&self) -> usize {
        self.len()
    }
}

// SAFETY: the tail of an arena block stays in place while the writer inside the Spare holds the
// block. Arena memory is initialised (zeroed when mapped); `filled` says what is meaningful.
unsafe impl IoBuf for Spare {
    fn stable_ptr(&self) -> *const u8 {
        self.ptr().as_ptr().cast_const()
    }

    fn bytes_init(&self) -> usize {
        self.filled()
    }

    fn bytes_total(&self) -> usize {
        self.capacity()
    }
}

// SAFETY: as above; the Spare owns the one writer, and readers stop at the published length, so
// the tail is unique to the operation.
unsafe impl IoBufMut for Spare {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.ptr().as_ptr()
    }

    unsafe fn set_init(&mut self, pos: usize) {
        self.set_filled(pos);
    }
}

// SAFETY: as for the AlignedBuf inside, which leaves only when the PlainBuf is dropped.
unsafe impl IoBuf for PlainBuf {
    fn stable_ptr(&self) -> *const u8 {
        self.get().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.get().len()
    }

    fn bytes_total(&self) -> usize {
        self.get().len()
    }
}

// SAFETY: as above.
unsafe impl IoBufMut for PlainBuf {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.get_mut().as_mut_ptr()
    }

    unsafe fn set_init(&mut self, pos: usize) {
        assert!(pos <= self.get().len());
    }
}
