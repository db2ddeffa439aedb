//! The free tail of an arena block on loan to a receive operation.

use std::ptr::NonNull;

use crate::arena::BlockWriter;

/// Owns the block's writer while the kernel fills the tail, so nobody else can write there.
/// Dropping it (a dead connection) publishes nothing and lets the writer go.
#[derive(Debug)]
pub struct Spare {
    writer: BlockWriter,
    max: usize,
    /// Bytes the last operation filled, from the start of the tail.
    filled: usize,
}

impl Spare {
    pub(crate) fn new(writer: BlockWriter, max_len: usize) -> Spare {
        let max = max_len.min(writer.remaining());
        assert!(max > 0, "a spare of no bytes: {max_len} of {}", writer.remaining());
        Spare { writer, max, filled: 0 }
    }

    /// The most bytes an operation may put here.
    pub fn capacity(&self) -> usize {
        self.max
    }

    /// Bytes the last operation filled.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Publishes the first `n` received bytes and gives the writer back.
    ///
    /// `n` must be what was really received: the bytes beyond are another object's past.
    pub fn finish(mut self, n: usize) -> BlockWriter {
        assert!(n <= self.max, "{n} bytes received into {}", self.max);
        self.writer.advance(n);
        self.writer
    }

    pub(crate) fn ptr(&self) -> NonNull<u8> {
        self.writer.spare_ptr()
    }

    pub(crate) fn set_filled(&mut self, n: usize) {
        assert!(n <= self.max, "{n} bytes received into {}", self.max);
        self.filled = self.filled.max(n);
    }
}
