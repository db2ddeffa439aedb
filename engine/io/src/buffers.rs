//! Heap memory fit for direct transfers.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::BLOCK;
pub use crate::runtime::ReadPool;

/// The large class of read buffers: one read of 256 KiB of payload with room for a record header
/// in front and for rounding outwards to drive blocks.
pub const READ_BUF: usize = 256 * 1024 + 32 * 1024;

/// The small class: a whole small record (playlists, manifests) without holding a large buffer.
pub const SMALL_READ_BUF: usize = 8 * 1024;

/// Small buffers for each large one. Eight such weigh less than a quarter of a large one.
pub const SMALL_PER_LARGE: usize = 8;

/// Zeroed heap bytes at an address that is a multiple of 4096. Its length never changes.
pub struct AlignedBuf {
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: AlignedBuf owns its bytes as a Box<[u8]> would.
unsafe impl Send for AlignedBuf {}
// SAFETY: as above; `&AlignedBuf` only reads.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// `len` zero bytes; `len` must not be 0.
    pub fn zeroed(len: usize) -> AlignedBuf {
        let layout = Self::layout(len);
        // SAFETY: the layout has a size above 0, checked in `layout`.
        let ptr = unsafe { alloc_zeroed(layout) };
        let Some(ptr) = NonNull::new(ptr) else { handle_alloc_error(layout) };
        AlignedBuf { ptr, len }
    }

    /// A copy of `bytes`, zero-padded to whole drive blocks (at least one).
    pub fn padded_from(bytes: &[u8]) -> AlignedBuf {
        let mut buf = AlignedBuf::zeroed(crate::round_up_to_block(bytes.len().max(1)));
        buf[..bytes.len()].copy_from_slice(bytes);
        buf
    }

    fn layout(len: usize) -> Layout {
        assert!(len > 0, "an aligned buffer is never empty");
        Layout::from_size_align(len, BLOCK).expect("length fits an isize")
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this very layout.
        unsafe { dealloc(self.ptr.as_ptr(), Self::layout(self.len)) };
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: ptr..ptr+len is owned and was initialised when allocated.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes the access unique.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuf({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_padded_copy_is_aligned_and_zero_after_the_bytes() {
        let buf = AlignedBuf::padded_from(&[7; 5000]);
        assert_eq!(buf.len(), 8192);
        assert_eq!(buf.as_ptr().align_offset(BLOCK), 0);
        assert!(buf[..5000].iter().all(|&byte| byte == 7));
        assert!(buf[5000..].iter().all(|&byte| byte == 0));
    }
}
