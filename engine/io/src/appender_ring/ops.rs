//! Operations and the pieces they are split into. Plain bookkeeping: no system call here.
//!
//! Invariant: a piece is queued, or the kernel has it, or it is gone; an operation lives until
//! its last piece is gone, and with it the memory that the pieces point into.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::ops::Range;

use io_uring::{opcode, squeue, types};

use super::OPERATION_MAX;
use crate::BLOCK;
use crate::arena::Block;
use crate::buffers::AlignedBuf;

/// Times a piece is tried again after EAGAIN or EINTR before that is the push's error.
const RETRIES_MAX: u8 = 8;

/// What is written, kept alive until it is.
#[derive(Debug)]
pub enum WriteSource {
    /// A whole aligned buffer.
    Aligned(AlignedBuf),
    /// Part of an arena block. The zero padding of a sealed block may be included.
    Block(Block, Range<usize>),
    /// Several, written one after the other as one run of bytes: a header and its payload.
    Gather(Vec<WriteSource>),
}

impl WriteSource {
    /// Bytes to write.
    pub fn len(&self) -> usize {
        match self {
            WriteSource::Aligned(buf) => buf.len(),
            WriteSource::Block(_, range) => range.len(),
            WriteSource::Gather(parts) => parts.iter().map(WriteSource::len).sum(),
        }
    }

    /// True when there is nothing to write; such a source is refused by a push.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory, part by part.
    fn parts(&self) -> Vec<&[u8]> {
        match self {
            WriteSource::Aligned(buf) => vec![buf],
            WriteSource::Block(block, range) => vec![drive_bytes(block, range)],
            WriteSource::Gather(parts) => parts.iter().flat_map(WriteSource::parts).collect(),
        }
    }
}

fn drive_bytes<'a>(block: &'a Block, range: &Range<usize>) -> &'a [u8] {
    block.drive_bytes(range.clone()).unwrap_or_else(|| {
        let (published, sealed) = (block.len(), block.is_sealed());
        panic!("write of bytes {range:?} of a block: {published} published, sealed: {sealed}")
    })
}

/// A push that ended.
#[derive(Debug)]
pub struct Completion {
    /// The caller's token.
    pub token: u64,
    /// Bytes written or read: all of them, or an error. 0 for a flush.
    pub result: io::Result<u32>,
    /// The buffer of a read.
    pub buf: Option<AlignedBuf>,
}

/// A transfer that stopped short of its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at offset {offset} stopped after {moved} of {wanted} bytes")]
pub struct ShortTransfer {
    /// "read" or "write".
    pub kind: &'static str,
    /// Where the transfer began in the file.
    pub offset: u64,
    /// Bytes asked for.
    pub wanted: usize,
    /// Bytes moved.
    pub moved: usize,
}

pub(super) enum PieceEnd {
    Continues,
    OperationDone(Completion),
}

enum Work {
    Write(#[expect(dead_code, reason = "held for the kernel, which reads it")] WriteSource),
    Read(AlignedBuf),
    Flush,
}

struct Op {
    token: u64,
    work: Work,
    offset: u64,
    len: usize,
    pieces_left: usize,
    error: Option<io::Error>,
}

struct Piece {
    op: usize,
    /// What of the operation's bytes is still to be moved.
    range: Range<usize>,
    /// Where those bytes are. Boxed: the kernel reads the list from this address.
    memory: Box<[libc::iovec]>,
    retries_left: u8,
}

#[derive(Default)]
pub(super) struct Ops {
    ops: Slab<Op>,
    pieces: Slab<Piece>,
    queued: VecDeque<usize>,
    /// Of all operations.
    bytes: u64,
}

impl Ops {
    /// Bytes of the operations that live.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Pieces queued or with the kernel.
    pub(super) fn pieces(&self) -> usize {
        self.pieces.len
    }

    pub(super) fn push_write(&mut self, token: u64, source: WriteSource, offset: u64) {
        let mut memory = Vec::new();
        for part in source.parts() {
            let aligned = part.as_ptr().addr().is_multiple_of(BLOCK);
            assert!(aligned && part.len().is_multiple_of(BLOCK), "a source of whole drive blocks");
            // The kernel only reads through it; iovec has no const form.
            memory.push(iovec(part.as_ptr().cast_mut(), part.len()));
        }
        let len = source.len();
        self.push(token, Work::Write(source), offset, len, &memory);
    }

    pub(super) fn push_read(&mut self, token: u64, mut buf: AlignedBuf, offset: u64) {
        let (address, len) = (buf.as_mut_ptr(), buf.len());
        self.push(token, Work::Read(buf), offset, len, &[iovec(address, len)]);
    }

    pub(super) fn push_flush(&mut self, token: u64) {
        let op = Op { token, work: Work::Flush, offset: 0, len: 0, pieces_left: 1, error: None };
        let op = self.ops.insert(op);
        self.push_piece(op, 0..0, Box::new([]));
    }

    fn push(&mut self, token: u64, work: Work, offset: u64, len: usize, memory: &[libc::iovec]) {
        assert!(len > 0 && u32::try_from(len).is_ok(), "one push of {len} bytes");
        let pieces_left = len.div_ceil(OPERATION_MAX);
        self.bytes += len as u64;
        let op = self.ops.insert(Op { token, work, offset, len, pieces_left, error: None });
        for start in (0..len).step_by(OPERATION_MAX) {
            let range = start..len.min(start + OPERATION_MAX);
            let memory = cut(memory, range.clone());
            self.push_piece(op, range, memory);
        }
    }

    fn push_piece(&mut self, op: usize, range: Range<usize>, memory: Box<[libc::iovec]>) {
        let piece = self.pieces.insert(Piece { op, range, memory, retries_left: RETRIES_MAX });
        self.queued.push_back(piece);
    }

    /// The kernel's form of the next queued piece. From here on the kernel has it.
    pub(super) fn next_entry(&mut self, fd: types::Fd) -> Option<squeue::Entry> {
        let index = self.queued.pop_front()?;
        let piece = self.pieces.get(index);
        let op = self.ops.get(piece.op);
        let offset = op.offset + piece.range.start as u64;
        let (list, count) = (piece.memory.as_ptr(), piece.memory.len() as u32);
        let entry = match (&op.work, &*piece.memory) {
            (Work::Flush, _) => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(),
            (Work::Write(_), [one]) => {
                let address = one.iov_base.cast_const().cast();
                opcode::Write::new(fd, address, one.iov_len as u32).offset(offset).build()
            }
            (Work::Write(_), _) => opcode::Writev::new(fd, list, count).offset(offset).build(),
            (Work::Read(_), [one]) => {
                let address = one.iov_base.cast();
                opcode::Read::new(fd, address, one.iov_len as u32).offset(offset).build()
            }
            (Work::Read(_), _) => opcode::Readv::new(fd, list, count).offset(offset).build(),
        };
        Some(entry.user_data(index as u64))
    }

    /// The kernel is done with a piece. `result` is a byte count or a negative errno.
    pub(super) fn piece_ended(&mut self, user_data: u64, result: i32) -> PieceEnd {
        let index = usize::try_from(user_data).expect("piece numbers are small");
        let piece = self.pieces.get_mut(index);
        let op = self.ops.get_mut(piece.op);
        match judge(op, piece, result) {
            Verdict::Again => {
                // To the front: the rest of a write that is half done comes first.
                self.queued.push_front(index);
                return PieceEnd::Continues;
            }
            Verdict::Done => {}
            // The first error tells most; later ones often follow from it.
            Verdict::Failed(error) => drop(op.error.get_or_insert(error)),
        }
        op.pieces_left -= 1;
        let finished = op.pieces_left == 0;
        let op_index = self.pieces.remove(index).op;
        if finished {
            let op = self.ops.remove(op_index);
            self.bytes -= op.len as u64;
            PieceEnd::OperationDone(finish(op))
        } else {
            PieceEnd::Continues
        }
    }

    /// Forgets the pieces the kernel does not have. What it has a part of ends with an error; the
    /// tokens of the rest come back.
    pub(super) fn discard_queued(&mut self) -> Vec<u64> {
        let mut tokens = Vec::new();
        for index in mem::take(&mut self.queued) {
            let op_index = self.pieces.remove(index).op;
            let op = self.ops.get_mut(op_index);
            op.pieces_left -= 1;
            op.error.get_or_insert(os_error(-libc::ECANCELED));
            if op.pieces_left == 0 {
                let op = self.ops.remove(op_index);
                self.bytes -= op.len as u64;
                tokens.push(op.token);
            }
        }
        tokens
    }
}

enum Verdict {
    Done,
    Again,
    Failed(io::Error),
}

fn judge(op: &Op, piece: &mut Piece, result: i32) -> Verdict {
    if let Work::Flush = op.work {
        // A failed flush is never tried again: the kernel may have dropped the dirty state.
        return if result < 0 { Verdict::Failed(os_error(result)) } else { Verdict::Done };
    }
    let Ok(moved) = usize::try_from(result) else {
        let passing = matches!(-result, libc::EAGAIN | libc::EINTR);
        if passing && piece.retries_left > 0 {
            piece.retries_left -= 1;
            return Verdict::Again;
        }
        return Verdict::Failed(os_error(result));
    };
    let wanted = piece.range.len();
    assert!(moved <= wanted, "the kernel moved {moved} of {wanted} bytes");
    if moved == wanted {
        return Verdict::Done;
    }
    // Direct transfers go on at block boundaries only; the torn block is moved again.
    let kept = moved - moved % BLOCK;
    if kept == 0 {
        let (kind, error) = match op.work {
            Work::Read(_) => ("read", io::ErrorKind::UnexpectedEof),
            _ => ("write", io::ErrorKind::WriteZero),
        };
        let done = piece.range.start + moved;
        let short = ShortTransfer { kind, offset: op.offset, wanted: op.len, moved: done };
        return Verdict::Failed(io::Error::new(error, short));
    }
    piece.memory = cut(&piece.memory, kept..wanted);
    piece.range.start += kept;
    Verdict::Again
}

fn finish(op: Op) -> Completion {
    let len = u32::try_from(op.len).expect("checked when pushed");
    let result = op.error.map_or(Ok(len), Err);
    let buf = match op.work {
        Work::Read(buf) => Some(buf),
        Work::Write(_) | Work::Flush => None,
    };
    Completion { token: op.token, result, buf }
}

fn os_error(result: i32) -> io::Error {
    io::Error::from_raw_os_error(-result)
}

fn iovec(address: *mut u8, len: usize) -> libc::iovec {
    libc::iovec { iov_base: address.cast(), iov_len: len }
}

/// The part of a run of memory that `range` covers, counted from the run's start.
fn cut(memory: &[libc::iovec], range: Range<usize>) -> Box<[libc::iovec]> {
    let mut parts = Vec::new();
    let mut before = 0;
    for part in memory {
        let start = range.start.max(before);
        let end = range.end.min(before + part.iov_len);
        if start < end {
            let address = part.iov_base.cast::<u8>().wrapping_add(start - before);
            parts.push(iovec(address, end - start));
        }
        before += part.iov_len;
    }
    assert!(range.end <= before, "bytes {range:?} of a run of {before}");
    parts.into()
}

/// A vector with holes, whose indices stay valid.
struct Slab<T> {
    places: Vec<Option<T>>,
    vacant: Vec<usize>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { places: Vec::new(), vacant: Vec::new(), len: 0 }
    }
}

impl<T> Slab<T> {
    fn insert(&mut self, value: T) -> usize {
        self.len += 1;
        if let Some(index) = self.vacant.pop() {
            self.places[index] = Some(value);
            return index;
        }
        self.places.push(Some(value));
        self.places.len() - 1
    }

    fn get(&self, index: usize) -> &T {
        self.places[index].as_ref().expect("an occupied place")
    }

    fn get_mut(&mut self, index: usize) -> &mut T {
        self.places[index].as_mut().expect("an occupied place")
    }

    fn remove(&mut self, index: usize) -> T {
        let value = self.places[index].take().expect("an occupied place");
        self.vacant.push(index);
        self.len -= 1;
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FD: types::Fd = types::Fd(-1);
    const TOKEN: u64 = 42;

    /// One write of three blocks in two parts, whose only piece the kernel has.
    fn started() -> (Ops, u64) {
        let mut ops = Ops::default();
        let parts = [AlignedBuf::zeroed(BLOCK), AlignedBuf::zeroed(2 * BLOCK)];
        let source = WriteSource::Gather(parts.into_iter().map(WriteSource::Aligned).collect());
        ops.push_write(TOKEN, source, 8 * BLOCK as u64);
        let entry = ops.next_entry(FD).unwrap();
        (ops, entry.get_user_data())
    }

    fn finished(end: PieceEnd) -> Completion {
        match end {
            PieceEnd::OperationDone(completion) => completion,
            PieceEnd::Continues => panic!("the operation should be done"),
        }
    }

    #[test]
    fn a_short_write_goes_on_where_it_stopped() {
        let (mut ops, piece) = started();
        let end = ops.piece_ended(piece, BLOCK as i32 + 100);
        assert!(matches!(end, PieceEnd::Continues));
        let rest = ops.pieces.get(piece as usize);
        assert_eq!(rest.range, BLOCK..3 * BLOCK);
        assert_eq!(rest.memory.iter().map(|part| part.iov_len).sum::<usize>(), 2 * BLOCK);
        assert_eq!(ops.next_entry(FD).unwrap().get_user_data(), piece);
        let completion = finished(ops.piece_ended(piece, 2 * BLOCK as i32));
        assert_eq!((completion.token, completion.result.unwrap()), (TOKEN, 3 * BLOCK as u32));
        assert_eq!(ops.pieces(), 0);
    }

    #[test]
    fn a_write_that_stops_for_good_says_where() {
        let (mut ops, piece) = started();
        ops.piece_ended(piece, BLOCK as i32);
        ops.next_entry(FD).unwrap();
        let error = finished(ops.piece_ended(piece, 0)).result.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
        let short = error.get_ref().unwrap().downcast_ref::<ShortTransfer>().unwrap();
        let told = (short.offset, short.wanted, short.moved);
        assert_eq!(told, (8 * BLOCK as u64, 3 * BLOCK, BLOCK));
    }

    #[test]
    fn a_passing_error_is_tried_again_a_bounded_number_of_times() {
        let (mut ops, piece) = started();
        for _ in 0..RETRIES_MAX {
            assert!(matches!(ops.piece_ended(piece, -libc::EAGAIN), PieceEnd::Continues));
            ops.next_entry(FD).unwrap();
        }
        let error = finished(ops.piece_ended(piece, -libc::EAGAIN)).result.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
    }

    #[test]
    fn a_failed_flush_is_never_tried_again() {
        let mut ops = Ops::default();
        ops.push_flush(TOKEN);
        let piece = ops.next_entry(FD).unwrap().get_user_data();
        let error = finished(ops.piece_ended(piece, -libc::EINTR)).result.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINTR));
        assert_eq!(ops.pieces(), 0);
    }

    #[test]
    fn a_large_write_completes_once_with_its_first_error() {
        let mut ops = Ops::default();
        let source = WriteSource::Aligned(AlignedBuf::zeroed(2 * OPERATION_MAX + BLOCK));
        ops.push_write(TOKEN, source, 0);
        let pieces: Vec<u64> =
            std::iter::from_fn(|| ops.next_entry(FD)).map(|entry| entry.get_user_data()).collect();
        assert_eq!(pieces.len(), 3);
        assert!(matches!(ops.piece_ended(pieces[1], -libc::EIO), PieceEnd::Continues));
        assert!(matches!(ops.piece_ended(pieces[0], -libc::ENOSPC), PieceEnd::Continues));
        let error = finished(ops.piece_ended(pieces[2], BLOCK as i32)).result.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
    }

    #[test]
    fn discarding_frees_what_the_kernel_never_had() {
        let mut ops = Ops::default();
        let source = WriteSource::Aligned(AlignedBuf::zeroed(2 * OPERATION_MAX));
        ops.push_write(TOKEN, source, 0);
        let piece = ops.next_entry(FD).unwrap().get_user_data();
        ops.push_flush(TOKEN + 1);
        assert_eq!(ops.discard_queued(), [TOKEN + 1]);
        assert_eq!((ops.pieces(), ops.ops.len), (1, 1), "the kernel still has one");
        assert_eq!(ops.bytes(), 2 * OPERATION_MAX as u64, "its memory is held whole");
        let error = finished(ops.piece_ended(piece, OPERATION_MAX as i32)).result.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECANCELED), "half of it was never written");
        assert_eq!((ops.pieces(), ops.ops.len, ops.bytes()), (0, 0, 0));
    }
}
