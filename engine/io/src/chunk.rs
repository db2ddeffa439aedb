//! Bytes on their way to a socket, wherever they are held.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::arena::Block;
use crate::runtime::ReadBuf;

/// A range of bytes that stays valid and unmoved while the chunk, or a clone of it, exists.
/// It belongs to the thread of the runtime that made it.
#[derive(Clone)]
pub enum Chunk {
    /// Published bytes of an arena block.
    Arena(Block, Range<usize>),
    /// Bytes of a pooled read buffer; the buffer returns to its pool with the last clone.
    Read(ReadBuf),
    /// Small bytes made in memory.
    Heap(Arc<[u8]>, Range<usize>),
}

impl Chunk {
    /// Published bytes of an arena block. Panics when `range` is not published.
    pub fn from_block(block: Block, range: Range<usize>) -> Chunk {
        let _ = block.bytes(range.clone());
        Chunk::Arena(block, range)
    }

    /// Bytes of all parts.
    pub fn len_of(parts: &[Chunk]) -> usize {
        parts.iter().map(|part| part.len()).sum()
    }

    /// The part of this chunk at `range`, sharing the same memory.
    pub fn slice(&self, range: Range<usize>) -> Chunk {
        let len = self.len();
        assert!(
            range.start <= range.end && range.end <= len,
            "bytes {range:?} of a chunk of {len}"
        );
        let within = |outer: &Range<usize>| outer.start + range.start..outer.start + range.end;
        match self {
            Chunk::Arena(block, outer) => Chunk::Arena(block.clone(), within(outer)),
            Chunk::Read(buf) => Chunk::Read(buf.slice(range)),
            Chunk::Heap(bytes, outer) => Chunk::Heap(Arc::clone(bytes), within(outer)),
        }
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Chunk::Arena(block, range) => block.bytes(range.clone()),
            Chunk::Read(buf) => buf,
            Chunk::Heap(bytes, range) => &bytes[range.clone()],
        }
    }
}

impl From<Vec<u8>> for Chunk {
    fn from(bytes: Vec<u8>) -> Chunk {
        let len = bytes.len();
        Chunk::Heap(bytes.into(), 0..len)
    }
}

impl From<ReadBuf> for Chunk {
    fn from(buf: ReadBuf) -> Chunk {
        Chunk::Read(buf)
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = match self {
            Chunk::Arena(..) => "arena",
            Chunk::Read(..) => "read buffer",
            Chunk::Heap(..) => "heap",
        };
        write!(f, "Chunk({} bytes, {held})", self.len())
    }
}
