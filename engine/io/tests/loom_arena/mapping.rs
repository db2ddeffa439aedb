//! Plain memory in the place of the arena's mapping.

use std::io;
use std::ptr::NonNull;

pub(crate) struct Mapping {
    bytes: NonNull<[u8]>,
}

// SAFETY: memory of its own; access to its bytes goes through raw pointers, whose users keep the
// rules that these models check.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` gives out nothing but addresses.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(crate) fn anonymous(len: usize) -> io::Result<Mapping> {
        let bytes = Box::leak(vec![0; len].into_boxed_slice());
        Ok(Mapping { bytes: NonNull::from(bytes) })
    }

    pub(crate) fn at(&self, offset: usize) -> NonNull<u8> {
        assert!(offset < self.bytes.len());
        // SAFETY: offset < len, inside the one allocation.
        unsafe { self.bytes.cast::<u8>().add(offset) }
    }
}

impl Mapping {
    /// Nobody outside holds a part of it: the same memory will do.
    ///
    /// # Safety
    /// Nobody may have a reference to these bytes.
    pub(crate) unsafe fn renew(&self, offset: usize, len: usize) -> io::Result<()> {
        // SAFETY: within the allocation, and the caller is alone with it.
        unsafe { self.at(offset).write_bytes(0, len) };
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: leaked from a box in `anonymous`, and given back here once.
        drop(unsafe { Box::from_raw(self.bytes.as_ptr()) });
    }
}
