//! The RAM that payloads are received into, written to the drive from, and served from.
//!
//! A block has one writer, which appends; any number of readers see only the published prefix.
//! Writer and readers touch disjoint bytes, ordered by a Release store and an Acquire load of
//! the published length. The block is reused only when the last handle is gone, wherever it was:
//! a writer, a reader, a queue, or an operation the kernel still works on. Nobody waits for what
//! the network was lent: a block that was gets other pages before it is reused.

use std::fmt;
use std::io;
use std::mem;
use std::ops::Range;
use std::ptr::NonNull;

use crate::mapping::Mapping;
use crate::slots::{self, Slots};
use crate::sync::{Arc, Notify};
use crate::{BLOCK, round_up_to_block};

/// Bytes in one arena block; blocks are aligned to it.
pub const ARENA_BLOCK: usize = 64 * 1024;

const _: () = assert!(ARENA_BLOCK.is_multiple_of(BLOCK));

struct Shared {
    mapping: Mapping,
    slots: Slots,
    freed: Notify,
}

/// A fixed number of equal blocks. Cheap to clone; all clones are the same arena.
#[derive(Clone)]
pub struct Arena {
    shared: Arc<Shared>,
}

impl Arena {
    /// Maps `bytes`, rounded down to whole blocks. Memory is committed as it is first touched.
    pub fn new(bytes: usize) -> io::Result<Arena> {
        let count = bytes / ARENA_BLOCK;
        if count == 0 || u32::try_from(count).is_err() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("arena of {bytes} bytes: one block is {ARENA_BLOCK}, at most 2^32 - 1"),
            ));
        }
        let mapping = Mapping::anonymous(count * ARENA_BLOCK)?;
        let slots = Slots::new(count);
        Ok(Arena { shared: Arc::new(Shared { mapping, slots, freed: Notify::new() }) })
    }

    /// A free block, or `None` when every block is held.
    pub fn try_alloc(&self) -> Option<BlockWriter> {
        let index = self.shared.slots.take()?;
        // One count of the arena per held block, not per handle: handles are cloned on the read
        // path by every core, and must not meet on one counter.
        let shared = Arc::into_raw(Arc::clone(&self.shared)).cast_mut();
        let shared = NonNull::new(shared).expect("an Arc is never null");
        Some(BlockWriter { handle: Handle { shared, index }, len: 0 })
    }

    /// Waits for a free block. Waiters are woken in turn; dropping the future is harmless.
    pub async fn alloc(&self) -> BlockWriter {
        loop {
            if let Some(writer) = self.try_alloc() {
                // Two blocks freed before two waiters slept leave one stored wake-up: pass it on.
                if self.free_blocks() > 0 {
                    self.shared.freed.notify_one();
                }
                return writer;
            }
            self.shared.freed.notified().await;
        }
    }

    /// Blocks nobody holds. A gauge: another thread may change it at once.
    pub fn free_blocks(&self) -> usize {
        self.shared.slots.free_count()
    }

    /// All blocks, held or free.
    pub fn block_count(&self) -> usize {
        self.shared.slots.count()
    }

    /// Told (one waiter at a time) whenever a block becomes free.
    pub fn freed(&self) -> &Notify {
        &self.shared.freed
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arena({} of {} blocks free)", self.free_blocks(), self.block_count())
    }
}

/// One counted hold on one block. While it exists, the arena and the block's bytes exist.
struct Handle {
    shared: NonNull<Shared>,
    index: u32,
}

// SAFETY: Shared is Send + Sync, and the count that keeps it alive is atomic.
unsafe impl Send for Handle {}
// SAFETY: as above; `&Handle` only reads atomics and published bytes.
unsafe impl Sync for Handle {}

impl Handle {
    fn shared(&self) -> &Shared {
        // SAFETY: the block is held by this handle, and a held block keeps one count of the Arc.
        unsafe { self.shared.as_ref() }
    }

    fn base(&self) -> NonNull<u8> {
        self.shared().mapping.at(self.index as usize * ARENA_BLOCK)
    }

    fn published(&self) -> usize {
        self.shared().slots.published(self.index)
    }
}

impl Clone for Handle {
    fn clone(&self) -> Handle {
        self.shared().slots.retain(self.index);
        Handle { shared: self.shared, index: self.index }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let refs = std::ptr::from_ref(self.shared().slots.refs(self.index));
        // SAFETY: the counter is alive: this handle is still counted in it.
        if !slots::release(unsafe { &*refs }) {
            return;
        }
        // SAFETY: this was the last handle of the block, so the count that `try_alloc` put aside
        // for it is ours to give back, once.
        let shared = unsafe { Arc::from_raw(self.shared.as_ptr().cast_const()) };
        if shared.slots.take_lent(self.index) {
            let start = self.index as usize * ARENA_BLOCK;
            // SAFETY: the last handle is this one: nobody has a use for these bytes any more.
            let renewed = unsafe { shared.mapping.renew(start, ARENA_BLOCK) };
            assert!(renewed.is_ok(), "arena block {}: {renewed:?}", self.index);
        }
        shared.slots.give_back(self.index);
        shared.freed.notify_one();
    }
}

/// The one writer of a block. It appends; what it published never changes again.
///
/// Dropping it seals the block: the bytes after the last published one are zeroed up to the next
/// 4 KiB boundary, so that the block can be written to the drive in whole drive blocks.
pub struct BlockWriter {
    handle: Handle,
    /// Equals the published length; kept here to spare the atomic load.
    len: usize,
}

impl BlockWriter {
    /// Published bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True while nothing is published.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Always [`ARENA_BLOCK`].
    pub fn capacity(&self) -> usize {
        ARENA_BLOCK
    }

    /// Bytes that can still be appended.
    pub fn remaining(&self) -> usize {
        ARENA_BLOCK - self.len
    }

    /// The free tail. Write into it, then [`advance`](Self::advance).
    pub fn spare(&mut self) -> &mut [u8] {
        let (base, len) = (self.spare_ptr(), self.remaining());
        // SAFETY: the tail past the published length is this writer's alone (it is unique, and
        // readers stop at the published length); the memory was zeroed by the kernel when
        // mapped, so it is initialised; `&mut self` covers the slice's life.
        unsafe { std::slice::from_raw_parts_mut(base.as_ptr(), len) }
    }

    /// Publishes the next `n` bytes of the tail.
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.remaining(), "published {n} of {} free bytes", self.remaining());
        self.len += n;
        self.handle.shared().slots.publish(self.handle.index, self.len);
    }

    /// Copies as much of `bytes` as fits, publishes it, and returns how much that was.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.remaining());
        self.spare()[..n].copy_from_slice(&bytes[..n]);
        self.advance(n);
        n
    }

    /// What is published so far.
    pub fn published(&self) -> &[u8] {
        // SAFETY: the first `len` bytes are published and never change while a handle exists.
        unsafe { std::slice::from_raw_parts(self.handle.base().as_ptr(), self.len) }
    }

    /// A reader's handle on the same block. It sees what is published, now and later.
    pub fn share(&self) -> Block {
        Block { handle: self.handle.clone() }
    }

    /// Ends the writing and keeps the block: see the note on dropping.
    pub fn seal(self) -> Block {
        self.share()
    }

    /// The address of the first unpublished byte. For a full block it is one past the end.
    pub(crate) fn spare_ptr(&self) -> NonNull<u8> {
        assert!(self.len <= ARENA_BLOCK);
        // SAFETY: len <= ARENA_BLOCK: inside the block or one past its end, within the mapping's
        // allocation.
        unsafe { self.handle.base().add(self.len) }
    }

    fn zero_tail(&mut self) {
        let pad = round_up_to_block(self.len) - self.len;
        self.spare()[..pad].fill(0);
    }
}

impl Drop for BlockWriter {
    fn drop(&mut self) {
        self.zero_tail();
        self.handle.shared().slots.seal(self.handle.index);
    }
}

impl fmt::Debug for BlockWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockWriter({}, {} bytes)", self.handle.index, self.len)
    }
}

/// A reader's hold on a block. Clones are cheap and may go to any thread.
#[derive(Clone)]
pub struct Block {
    handle: Handle,
}

impl Block {
    /// Bytes published so far. Grows while the writer lives.
    pub fn len(&self) -> usize {
        self.handle.published()
    }

    /// True while nothing is published.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True once the writer is gone: the length is final and the tail is padded.
    pub fn is_sealed(&self) -> bool {
        self.handle.shared().slots.is_sealed(self.handle.index)
    }

    /// The bytes of `range`, which must be published.
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        let published = self.len();
        assert!(
            range.start <= range.end && range.end <= published,
            "bytes {range:?} of a block with {published} published"
        );
        // SAFETY: the range lies within the published prefix, which no one writes to while a
        // handle exists; the Acquire load above ordered the writer's stores before this read.
        unsafe { self.slice(range) }
    }

    /// Everything published so far.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes(0..self.len())
    }

    /// The bytes of `range`, which must be published, in pages that others may keep for longer than
    /// this handle exists. It costs the block its pages when it is reused.
    pub(crate) fn lend(&self, range: Range<usize>) -> &[u8] {
        self.handle.shared().slots.lend(self.handle.index);
        self.bytes(range)
    }

    /// The bytes of `range` as they may go to the drive: the padding up to the next 4 KiB
    /// boundary counts too, once the block is sealed. `None` when the range reaches further.
    pub(crate) fn drive_bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        // Sealed first: its Acquire load orders the final length and the zeroed tail.
        let sealed = self.is_sealed();
        let published = self.len();
        let end = if sealed { round_up_to_block(published) } else { published };
        if range.start > range.end || range.end > end {
            return None;
        }
        // SAFETY: published bytes as in `bytes`; the padding was zeroed by the writer before it
        // sealed the block, and nobody writes to a sealed block.
        Some(unsafe { self.slice(range) })
    }

    /// # Safety
    /// No byte of `range` may be written while the returned slice lives.
    unsafe fn slice(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= ARENA_BLOCK);
        let len = range.end - range.start;
        // SAFETY: start <= ARENA_BLOCK: inside the block, or one past its end with len 0.
        let start = unsafe { self.handle.base().add(range.start) };
        // SAFETY: the block is held, so its memory is mapped and initialised; not written to, by
        // the caller's promise.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), len) }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({}, {} bytes)", self.handle.index, self.len())
    }
}

const _: () = {
    const fn send_and_sync<T: Send + Sync>() {}
    send_and_sync::<Arena>();
    send_and_sync::<Block>();
    send_and_sync::<BlockWriter>();
    assert!(mem::size_of::<Block>() == 16);
};
