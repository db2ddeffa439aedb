//! The body of a request: which bytes of the stream belong to it.

use crate::http::chunked::{ChunkError, Decoder, Step};
use crate::http::head::Framing;

/// Where a body is in its stream.
#[derive(Debug)]
pub(super) struct Body {
    state: State,
    received: u64,
}

#[derive(Debug)]
enum State {
    Length { remaining: u64 },
    Chunked(Box<Decoder>),
    Done,
}

impl Body {
    pub(super) fn new(framing: Framing) -> Body {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(remaining) => State::Length { remaining },
            Framing::Chunked => State::Chunked(Box::default()),
        };
        Body { state, received: 0 }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Data bytes received so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// True when the body is known to have more than `limit` bytes to come.
    pub(super) fn is_longer_than(&self, limit: u64) -> bool {
        matches!(self.state, State::Length { remaining } if remaining > limit)
    }

    /// Data bytes that come next without any framing in between.
    pub(super) fn direct(&self) -> u64 {
        match &self.state {
            State::Length { remaining } => *remaining,
            State::Chunked(decoder) => decoder.remaining(),
            State::Done => 0,
        }
    }

    /// Tells that `count` of those were received elsewhere.
    pub(super) fn took_direct(&mut self, count: u64) {
        assert!(count <= self.direct(), "more received than was to come");
        self.received += count;
        match &mut self.state {
            State::Length { remaining } => {
                *remaining -= count;
                if *remaining == 0 {
                    self.state = State::Done;
                }
            }
            State::Chunked(decoder) => decoder.received(count),
            State::Done => {}
        }
    }

    /// Finds the next run of data in `input`.
    pub(super) fn step(&mut self, input: &[u8]) -> Result<Step, ChunkError> {
        let step = match &mut self.state {
            State::Done => return Ok(Step::Done { consumed: 0 }),
            State::Length { .. } if input.is_empty() => Step::NeedMore,
            State::Length { remaining } => {
                let len = (*remaining).min(input.len() as u64);
                self.took_direct(len);
                let len = usize::try_from(len).expect("bounded by the input");
                return Ok(Step::Data { skip: 0, len });
            }
            State::Chunked(decoder) => decoder.step(input)?,
        };
        match step {
            Step::Data { len, .. } => self.received += len as u64,
            Step::Done { .. } => self.state = State::Done,
            Step::NeedMore => {}
        }
        Ok(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_length_ends_where_it_says() {
        let mut body = Body::new(Framing::Length(5));
        assert!(body.is_longer_than(4) && !body.is_longer_than(5));
        assert_eq!(body.step(b""), Ok(Step::NeedMore));
        assert_eq!(body.step(b"abc"), Ok(Step::Data { skip: 0, len: 3 }));
        assert_eq!(body.direct(), 2);
        assert_eq!(body.step(b"deGET"), Ok(Step::Data { skip: 0, len: 2 }));
        assert!(body.is_done());
        assert_eq!(body.step(b"GET"), Ok(Step::Done { consumed: 0 }));
        assert_eq!(body.received(), 5);
    }

    #[test]
    fn bytes_received_elsewhere_count() {
        let mut body = Body::new(Framing::Chunked);
        assert_eq!(body.step(b"8\r\nab"), Ok(Step::Data { skip: 3, len: 2 }));
        assert_eq!(body.direct(), 6);
        body.took_direct(6);
        assert_eq!(body.direct(), 0);
        assert_eq!(body.step(b"\r\n0\r\n\r\n"), Ok(Step::Done { consumed: 7 }));
        assert_eq!(body.received(), 8);
        assert!(Body::new(Framing::Length(0)).is_done());
    }
}
