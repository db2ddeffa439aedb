//! Received bytes that nobody has taken yet: heads, small bodies, pipelined requests.
//!
//! Bounded: it grows only while one head does not fit, and a head is bounded by its parser.

use crate::http::head::HEAD_BYTES_MAX;

/// Room for a usual head. Also what an idle connection costs.
const CAPACITY_START: usize = 4 << 10;
/// The parser refuses a head before it can fill this.
const CAPACITY_MAX: usize = HEAD_BYTES_MAX + 1024;

/// What a lent buffer takes beyond the room for a usual head.
pub(super) fn extra_bytes(lent: &Vec<u8>) -> usize {
    lent.capacity().saturating_sub(CAPACITY_START)
}

/// A buffer that is filled at its end and taken from its start.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
}

impl Inbox {
    /// What has been received and not taken.
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Takes the first `count` unread bytes.
    pub(super) fn consume(&mut self, count: usize) {
        assert!(count <= self.unread().len(), "only what was received can be taken");
        self.start += count;
        if self.is_empty() {
            self.start = 0;
            self.bytes.clear();
            if self.bytes.capacity() > CAPACITY_START {
                // A connection may be idle for long: it costs no more than a usual head.
                self.bytes = Vec::new();
            }
        }
    }

    /// Lends the buffer to a read, unread bytes first, with room behind them.
    pub(super) fn lend(&mut self) -> Vec<u8> {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        let len = self.bytes.len();
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(CAPACITY_START);
        } else if len == self.bytes.capacity() {
            let grown = (len * 2).min(CAPACITY_MAX);
            assert!(grown > len, "the head parser refuses before the inbox is full");
            self.bytes.reserve_exact(grown - len);
        }
        std::mem::take(&mut self.bytes)
    }

    /// Takes the buffer back.
    pub(super) fn restore(&mut self, bytes: Vec<u8>) {
        assert!(self.bytes.is_empty() && self.start == 0, "lent out once, restored once");
        self.bytes = bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_taken_in_order_and_room_is_found_behind_them() {
        let mut inbox = Inbox::default();
        let mut lent = inbox.lend();
        assert!(lent.capacity() >= CAPACITY_START);
        lent.extend_from_slice(b"abcdef");
        inbox.restore(lent);
        inbox.consume(2);
        assert_eq!(inbox.unread(), b"cdef");
        let mut lent = inbox.lend();
        assert_eq!(lent, b"cdef");
        lent.resize(lent.capacity(), b'x');
        let full = lent.len();
        inbox.restore(lent);
        let lent = inbox.lend();
        assert!(lent.capacity() > full);
        inbox.restore(lent);
        inbox.consume(full);
        assert!(inbox.is_empty());
    }
}
