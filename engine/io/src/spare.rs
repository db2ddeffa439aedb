//! The free tails of arena blocks on loan to a receive operation.

use crate::arena::BlockWriter;

/// Owns the blocks' writers while the kernel fills their tails one after the other, so nobody else
/// can write there. Dropping it (a dead connection) publishes nothing and lets the writers go.
#[derive(Debug)]
pub struct Spare {
    writers: Vec<BlockWriter>,
    max: usize,
    /// Bytes the last operation filled, from the start of the first tail.
    filled: usize,
}

impl Spare {
    /// The tails of `writers`, all but the first of them empty, and at most `max_len` bytes of
    /// them. Panics when that is nothing: a receive of 0 bytes looks like the end of the stream.
    pub fn new(writers: Vec<BlockWriter>, max_len: usize) -> Spare {
        assert!(writers.iter().skip(1).all(BlockWriter::is_empty), "a gap between two tails");
        let room: usize = writers.iter().map(BlockWriter::remaining).sum();
        let max = max_len.min(room);
        assert!(max > 0, "a spare of no bytes: {max_len} of {room}");
        Spare { writers, max, filled: 0 }
    }

    /// The most bytes an operation may put here.
    pub fn capacity(&self) -> usize {
        self.max
    }

    /// Where the first tail begins in its block.
    pub fn start(&self) -> usize {
        self.writers[0].len()
    }

    /// Bytes the last operation filled.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Publishes the first `n` received bytes and gives the writers back.
    ///
    /// `n` must be what was really received: the bytes beyond are another object's past.
    pub fn finish(mut self, n: usize) -> Vec<BlockWriter> {
        assert!(n <= self.max, "{n} bytes received into {}", self.max);
        let mut left = n;
        for writer in &mut self.writers {
            let here = left.min(writer.remaining());
            writer.advance(here);
            left -= here;
        }
        self.writers
    }

    /// Where the kernel may write, in order.
    pub(crate) fn list(&self) -> Box<[libc::iovec]> {
        let mut left = self.max;
        let of_writer = |writer: &BlockWriter| {
            let iov_len = left.min(writer.remaining());
            left -= iov_len;
            libc::iovec { iov_base: writer.spare_ptr().as_ptr().cast(), iov_len }
        };
        let list = self.writers.iter().map(of_writer);
        list.filter(|part| part.iov_len > 0).collect()
    }

    pub(crate) fn set_filled(&mut self, n: usize) {
        assert!(n <= self.max, "{n} bytes received into {}", self.max);
        self.filled = self.filled.max(n);
    }
}
