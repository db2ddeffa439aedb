//! Rings, arena, volumes and probing: the only home of `unsafe` in tapeloop.
//!
//! What may be relied on:
//! - memory handed to the kernel is owned by the operation until its completion is seen;
//! - an arena block has one writer, and returns to the free list only with its last handle;
//! - every queue here is bounded and says its bound.
#![deny(unsafe_op_in_unsafe_fn)]

pub mod appender_ring;
pub mod arena;
pub mod buffers;
mod chunk;
pub mod clock;
mod event;
mod heap;
mod mapping;
pub mod probe;
mod ring_setup;
pub mod runtime;
mod slots;
#[cfg(test)]
mod slots_tests;
pub mod socket;
mod spare;
mod sync;
mod turns;
pub mod volume;
mod waker;

pub use appender_ring::{Completion, Full, WriteRing, WriteSource};
pub use arena::{ARENA_BLOCK, Arena, Block, BlockWriter};
pub use buffers::{AlignedBuf, READ_BUF, SMALL_READ_BUF};
pub use chunk::Chunk;
pub use heap::give_back_free_memory;
pub use runtime::{DiskReader, ExpectedRead, Listener, ReadBuf, Stream, block_on};
pub use spare::Spare;
pub use turns::ask_for_short_turns;
pub use volume::{VolumeError, VolumeFile};
pub use waker::Waker;

pub use tapeloop_format::BLOCK;

/// Rounds up to the next multiple of [`BLOCK`].
pub const fn round_up_to_block(len: usize) -> usize {
    len.div_ceil(BLOCK) * BLOCK
}
