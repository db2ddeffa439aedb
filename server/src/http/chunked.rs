//! Incremental decoder of a chunked body.
//!
//! It never copies: it says which bytes of the input are data, and how many raw data bytes of the
//! current chunk are still to come, so that a socket may receive those straight into their final
//! memory (`remaining`, `received`). Extensions and trailers are read within bounds and ignored.

use super::fields::{FieldSection, TRAILER_LIMITS};
use thiserror::Error;

/// Extension bytes of one chunk.
pub const EXTENSION_BYTES_MAX: u32 = 256;
/// Extension bytes of one body.
pub const BODY_EXTENSION_BYTES_MAX: u32 = 16 << 10;
/// The largest chunk.
pub const CHUNK_BYTES_MAX: u64 = 1 << 63;
const SIZE_DIGITS_MAX: u8 = 16;

/// What a run of input bytes was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// All of the input was framing; more is needed.
    NeedMore,
    /// `input[skip..skip + len]` is data; bytes before it were framing. Both are consumed.
    Data {
        /// Framing bytes before the data.
        skip: usize,
        /// Data bytes, at least one.
        len: usize,
    },
    /// The body ended; the first `consumed` bytes belonged to it.
    Done {
        /// Bytes of the input that belonged to the body.
        consumed: usize,
    },
}

/// Why a chunked body is malformed. All of them: 400 and close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ChunkError {
    /// No hex digit where a size must start, or a stray byte after it.
    #[error("malformed chunk size")]
    BadSize,
    /// More than 16 hex digits, or above 2^63.
    #[error("chunk size above 2^63")]
    SizeOverflow,
    /// A size line or data that does not end in CRLF.
    #[error("chunk not ended by CRLF")]
    MissingCrlf,
    /// A control byte in a chunk extension.
    #[error("control byte in a chunk extension")]
    ExtensionByte,
    /// Extensions over their bounds.
    #[error("chunk extensions longer than 256 bytes per chunk or 16384 per body")]
    ExtensionsTooLong,
    /// A malformed trailer.
    #[error("malformed trailer: {0}")]
    Trailer(super::Reason),
}

#[derive(Clone, Debug)]
enum State {
    Size { digits: u8 },
    Extension,
    SizeCr,
    Data,
    DataCr,
    DataLf,
    Trailers(FieldSection),
    Done,
}

/// Decodes one chunked body.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
    /// Size being read, then data bytes of the chunk still to come.
    remaining: u64,
    extension_bytes: u32,
    body_extension_bytes: u32,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new()
    }
}

impl Decoder {
    /// A decoder at the first byte of a body.
    pub fn new() -> Decoder {
        Decoder {
            state: State::Size { digits: 0 },
            remaining: 0,
            extension_bytes: 0,
            body_extension_bytes: 0,
        }
    }

    /// Raw data bytes of the current chunk still to come; 0 while framing is expected.
    pub fn remaining(&self) -> u64 {
        if matches!(self.state, State::Data) { self.remaining } else { 0 }
    }

    /// Tells that `len` data bytes of the current chunk were received elsewhere.
    pub fn received(&mut self, len: u64) {
        assert!(len <= self.remaining(), "more data received than the chunk holds");
        self.remaining -= len;
        if self.remaining == 0 {
            self.state = State::DataCr;
        }
    }

    /// Reads framing up to the next run of data, the end of the body, or the end of the input.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, ChunkError> {
        for (at, &byte) in input.iter().enumerate() {
            if matches!(self.state, State::Data) {
                let here = (input.len() - at) as u64;
                let len = here.min(self.remaining);
                self.received(len);
                let len = usize::try_from(len).expect("bounded by the input");
                return Ok(Step::Data { skip: at, len });
            }
            if self.framing(byte)? {
                return Ok(Step::Done { consumed: at + 1 });
            }
        }
        Ok(Step::NeedMore)
    }

    /// Judges one byte of framing. `Ok(true)` when it ended the body.
    fn framing(&mut self, byte: u8) -> Result<bool, ChunkError> {
        let next = match &mut self.state {
            State::Size { digits } => {
                let digits = *digits;
                Some(self.size(byte, digits)?)
            }
            State::Extension => self.extension(byte)?,
            State::SizeCr if byte != b'\n' => return Err(ChunkError::MissingCrlf),
            State::SizeCr if self.remaining == 0 => {
                Some(State::Trailers(FieldSection::new(TRAILER_LIMITS)))
            }
            State::SizeCr => Some(State::Data),
            State::DataCr if byte == b'\r' => Some(State::DataLf),
            State::DataLf if byte == b'\n' => {
                (self.remaining, self.extension_bytes) = (0, 0);
                Some(State::Size { digits: 0 })
            }
            State::DataCr | State::DataLf => return Err(ChunkError::MissingCrlf),
            State::Trailers(section) => {
                section.push(byte).map_err(ChunkError::Trailer)?.then_some(State::Done)
            }
            State::Data | State::Done => unreachable!("no framing byte is expected here"),
        };
        if let Some(next) = next {
            self.state = next;
        }
        Ok(matches!(self.state, State::Done))
    }

    fn size(&mut self, byte: u8, digits: u8) -> Result<State, ChunkError> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            if digits == SIZE_DIGITS_MAX {
                return Err(ChunkError::SizeOverflow);
            }
            // 16 digits fill a u64 exactly, so the shift cannot lose a bit.
            self.remaining = (self.remaining << 4) | u64::from(digit);
            return Ok(State::Size { digits: digits + 1 });
        }
        if digits == 0 {
            return Err(ChunkError::BadSize);
        }
        if self.remaining > CHUNK_BYTES_MAX {
            return Err(ChunkError::SizeOverflow);
        }
        match byte {
            b'\r' => Ok(State::SizeCr),
            b';' => Ok(State::Extension),
            b'\n' => Err(ChunkError::MissingCrlf),
            _ => Err(ChunkError::BadSize),
        }
    }

    fn extension(&mut self, byte: u8) -> Result<Option<State>, ChunkError> {
        match byte {
            b'\r' => return Ok(Some(State::SizeCr)),
            b'\n' => return Err(ChunkError::MissingCrlf),
            b'\t' | 0x20..=0x7e | 0x80..=0xff => {}
            _ => return Err(ChunkError::ExtensionByte),
        }
        self.extension_bytes += 1;
        self.body_extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES_MAX
            || self.body_extension_bytes > BODY_EXTENSION_BYTES_MAX
        {
            return Err(ChunkError::ExtensionsTooLong);
        }
        Ok(None)
    }
}
