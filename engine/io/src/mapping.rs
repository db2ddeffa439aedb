//! The arena's memory. Its pages may leave for the network by reference, and be held there for as
//! long as a client likes. So memory that was lent is not written to again: [`Mapping::renew`] puts
//! other pages in its place.

use std::io;
use std::ptr::NonNull;

use memmap2::{Advice, MmapMut, MmapOptions};

use crate::socket::check;

/// A huge page on x86-64 and most arm64 kernels. The mapping starts on one so that none is lost.
const HUGE_PAGE: usize = 2 * 1024 * 1024;

/// Anonymous zeroed memory, aligned to a huge page, shared by raw pointer.
///
/// It hands out pointers only: who may touch which byte when is the arena's business.
pub(crate) struct Mapping {
    _map: MmapMut,
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is plain memory at a fixed address; it has no thread affinity, and access
// to its bytes goes through raw pointers whose users keep the aliasing rules themselves.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` gives out nothing but addresses.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(crate) fn anonymous(len: usize) -> io::Result<Mapping> {
        assert!(len > 0, "an empty mapping has no base");
        let padded = len
            .checked_add(HUGE_PAGE)
            .ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let mut map = MmapOptions::new().len(padded).map_anon()?;
        // Best effort: without huge pages the arena works, only with more TLB misses.
        let _ = map.advise(Advice::HugePage);
        // A fork (for a tool) must not copy gigabytes of media.
        let _ = map.advise(Advice::DontFork);
        let skip = map.as_ptr().align_offset(HUGE_PAGE);
        assert!(skip <= HUGE_PAGE && skip + len <= padded);
        // SAFETY: skip + len <= padded, so the offset stays inside the mapping.
        let base = unsafe { map.as_mut_ptr().add(skip) };
        let base = NonNull::new(base).expect("mmap never returns null");
        Ok(Mapping { _map: map, base, len })
    }

    /// Puts zeroed pages in the place of those at `offset`. Whoever holds the old ones keeps them,
    /// and what they say.
    ///
    /// # Safety
    /// Nobody may have a reference to these bytes.
    pub(crate) unsafe fn renew(&self, offset: usize, len: usize) -> io::Result<()> {
        assert!(offset + len <= self.len && len > 0);
        let address = self.at(offset).as_ptr().cast();
        // SAFETY: within the mapping, and of no use to anybody, by the caller's promise. Private
        // anonymous memory shows zeros from here on.
        check(unsafe { libc::madvise(address, len, libc::MADV_DONTNEED) })?;
        // All at once, or the next receive meets them page by page. Kernels before 5.14 say no.
        // SAFETY: as above; it writes nothing.
        let _ = check(unsafe { libc::madvise(address, len, libc::MADV_POPULATE_WRITE) });
        Ok(())
    }

    /// The address of byte `offset`. Stable for the life of the mapping.
    pub(crate) fn at(&self, offset: usize) -> NonNull<u8> {
        assert!(offset < self.len);
        // SAFETY: offset < len, inside the one mapping.
        unsafe { self.base.add(offset) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_is_aligned_to_a_huge_page_and_zeroed() {
        let mapping = Mapping::anonymous(3 * 65536).unwrap();
        assert_eq!(mapping.at(0).as_ptr().align_offset(HUGE_PAGE), 0);
        // SAFETY: nobody else has a pointer into this mapping.
        let bytes = unsafe { std::slice::from_raw_parts(mapping.at(0).as_ptr(), 3 * 65536) };
        assert!(bytes.iter().all(|&byte| byte == 0));
    }
}
