//! Check of a field section (header lines or trailers), ended by an empty line.
//!
//! Invariants: every byte is judged when it is seen and never again, so the first offending byte
//! decides, whatever the split. The states accept only CRLF line ends and `name: value` lines.

use super::Reason;

/// Bounds of one field section.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest line, CRLF not counted.
    pub line_bytes_max: u32,
    /// All lines together, CRLFs counted, the final empty line not.
    pub section_bytes_max: u32,
    /// Most lines.
    pub lines_max: u32,
}

/// The bounds of a request head.
pub const HEAD_LIMITS: Limits =
    Limits { line_bytes_max: 8 << 10, section_bytes_max: 32 << 10, lines_max: 100 };

/// The bounds of the trailers of a chunked body.
pub const TRAILER_LIMITS: Limits =
    Limits { line_bytes_max: 2 << 10, section_bytes_max: 8 << 10, lines_max: 32 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    LineStart,
    Name,
    Value,
    /// CR after a value: LF must follow.
    ValueCr,
    /// CR at the start of a line: LF must follow and ends the section.
    FinalCr,
    Done,
}

/// Judges one field section.
#[derive(Clone, Debug)]
pub struct FieldSection {
    limits: Limits,
    state: State,
    line_bytes: u32,
    section_bytes: u32,
    lines: u32,
}

impl FieldSection {
    /// A section at its first byte.
    pub fn new(limits: Limits) -> FieldSection {
        FieldSection { limits, state: State::LineStart, line_bytes: 0, section_bytes: 0, lines: 0 }
    }

    /// Judges `bytes` up to the end of the section: how many of them were taken, and whether the
    /// last one ended it. The first offending byte decides, as if each had been pushed.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(usize, bool), Reason> {
        let mut at = 0;
        while at < bytes.len() {
            let plain = match self.state {
                State::Name => run(&bytes[at..], &TOKEN, self.room()),
                State::Value => run(&bytes[at..], &VALUE, self.room()),
                _ => 0,
            };
            self.count(plain)?;
            at += plain;
            let Some(&byte) = bytes.get(at) else { break };
            at += 1;
            if self.push(byte)? {
                return Ok((at, true));
            }
        }
        Ok((at, false))
    }

    /// Judges the next byte. `Ok(true)` when it was the last of the section.
    pub fn push(&mut self, byte: u8) -> Result<bool, Reason> {
        assert!(self.state != State::Done, "a finished section takes no bytes");
        self.state = match self.state {
            State::LineStart => self.line_start(byte)?,
            State::Name => self.name(byte)?,
            State::Value => self.value(byte)?,
            State::ValueCr => {
                expect_lf(byte)?;
                self.line_bytes = 0;
                self.section_bytes += 1;
                State::LineStart
            }
            State::FinalCr => {
                expect_lf(byte)?;
                State::Done
            }
            State::Done => unreachable!("asserted above"),
        };
        Ok(self.state == State::Done)
    }

    /// Bytes of the line being read.
    pub fn line_bytes(&self) -> u32 {
        self.line_bytes
    }

    fn line_start(&mut self, byte: u8) -> Result<State, Reason> {
        match byte {
            b'\r' => Ok(State::FinalCr),
            b' ' | b'\t' => Err(Reason::Folded),
            _ if !is_token(byte) => Err(fault(byte, Reason::BadFieldName)),
            _ => {
                self.lines += 1;
                if self.lines > self.limits.lines_max {
                    return Err(Reason::TooManyFields);
                }
                self.count(1)?;
                Ok(State::Name)
            }
        }
    }

    fn name(&mut self, byte: u8) -> Result<State, Reason> {
        match byte {
            b':' => self.count(1).map(|()| State::Value),
            b' ' | b'\t' => Err(Reason::SpaceBeforeColon),
            _ if is_token(byte) => self.count(1).map(|()| State::Name),
            // A line that ends before its colon is a malformed name, not a bare CR.
            b'\r' => Err(Reason::BadFieldName),
            _ => Err(fault(byte, Reason::BadFieldName)),
        }
    }

    fn value(&mut self, byte: u8) -> Result<State, Reason> {
        match byte {
            b'\r' => {
                self.section_bytes += 1;
                Ok(State::ValueCr)
            }
            _ if VALUE[usize::from(byte)] => self.count(1).map(|()| State::Value),
            _ => Err(fault(byte, Reason::Control)),
        }
    }

    /// Bytes of a line that may follow before a limit is passed.
    fn room(&self) -> usize {
        let line = self.limits.line_bytes_max - self.line_bytes;
        // Line ends count and are not refused.
        let section = self.limits.section_bytes_max.saturating_sub(self.section_bytes);
        line.min(section) as usize
    }

    fn count(&mut self, bytes: usize) -> Result<(), Reason> {
        let bytes = u32::try_from(bytes).expect("no more than there is room for");
        self.line_bytes += bytes;
        self.section_bytes += bytes;
        if self.line_bytes > self.limits.line_bytes_max {
            return Err(Reason::FieldLineTooLong);
        }
        if self.section_bytes > self.limits.section_bytes_max {
            return Err(Reason::FieldsTooLong);
        }
        Ok(())
    }
}

/// Bytes that may stand in a method or a field name (RFC 9110 `tchar`).
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    table
};

/// Bytes that may stand in a field value (RFC 9110 section 5.5).
const VALUE: [bool; 256] = {
    let mut table = [true; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = byte == b'\t' as usize;
        byte += 1;
    }
    table[0x7f] = false;
    table
};

/// A byte that may stand in a method or a field name (RFC 9110 `tchar`).
pub fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// How many of the first `most` bytes the table allows in a row. The colon of a name is no token.
fn run(bytes: &[u8], table: &[bool; 256], most: usize) -> usize {
    let bytes = &bytes[..bytes.len().min(most)];
    bytes.iter().position(|byte| !table[usize::from(*byte)]).unwrap_or(bytes.len())
}

/// `value` without the spaces and tabs around it.
pub fn trim(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

/// The items of a comma-separated list, trimmed, empty ones left out.
pub fn list_items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim).filter(|item| !item.is_empty())
}

pub(super) fn expect_lf(byte: u8) -> Result<(), Reason> {
    if byte == b'\n' { Ok(()) } else { Err(Reason::BareCr) }
}

/// Names the most telling reason for a byte that may not stand here.
pub(super) fn fault(byte: u8, otherwise: Reason) -> Reason {
    match byte {
        b'\n' => Reason::BareLf,
        b'\r' => Reason::BareCr,
        0 => Reason::Nul,
        0x01..=0x1f | 0x7f => Reason::Control,
        _ => otherwise,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte by byte and, for every split in two, in runs: one verdict.
    fn judge(bytes: &[u8]) -> Result<bool, Reason> {
        let mut section = FieldSection::new(TRAILER_LIMITS);
        let mut verdict = Ok(false);
        for &byte in bytes {
            assert_eq!(verdict, Ok(false), "bytes after the end");
            verdict = section.push(byte);
            if verdict.is_err() {
                break;
            }
        }
        for split in (0..=bytes.len()).step_by(bytes.len() / 64 + 1) {
            let mut section = FieldSection::new(TRAILER_LIMITS);
            let first = section.take(&bytes[..split]);
            let both = match first {
                Ok((taken, false)) => {
                    assert_eq!(taken, split);
                    section.take(&bytes[split..])
                }
                ended => ended,
            };
            assert_eq!(both.map(|(_, done)| done), verdict, "split at {split}");
        }
        verdict
    }

    #[test]
    fn an_empty_section_and_a_plain_line_are_accepted() {
        assert_eq!(judge(b"\r\n"), Ok(true));
        assert_eq!(judge(b"a: b\r\nc:\r\n\r\n"), Ok(true));
        assert_eq!(judge(b"a: b\r\n"), Ok(false));
    }

    #[test]
    fn every_malformed_line_has_its_reason() {
        let table: &[(&[u8], Reason)] = &[
            (b"a: b\n", Reason::BareLf),
            (b"a: b\rc", Reason::BareCr),
            (b"\n", Reason::BareLf),
            (b"\rX", Reason::BareCr),
            (b"a: \0", Reason::Nul),
            (b"a: \x01", Reason::Control),
            (b"a: \x7f", Reason::Control),
            (b"a: b\r\n c", Reason::Folded),
            (b"a : b", Reason::SpaceBeforeColon),
            (b"a\r\n", Reason::BadFieldName),
            (b": b", Reason::BadFieldName),
            (b"a\xe9: b", Reason::BadFieldName),
            (b"a(b): c", Reason::BadFieldName),
        ];
        for (bytes, reason) in table {
            assert_eq!(judge(bytes), Err(*reason), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn limits_hold_to_the_byte() {
        let line = |value_len: usize| {
            let mut bytes = b"a:".to_vec();
            bytes.resize(2 + value_len, b'x');
            bytes
        };
        let line_max = TRAILER_LIMITS.line_bytes_max as usize;
        assert_eq!(judge(&line(line_max - 2)), Ok(false));
        assert_eq!(judge(&line(line_max - 1)), Err(Reason::FieldLineTooLong));
        let lines = b"a:\r\n".repeat(TRAILER_LIMITS.lines_max as usize);
        assert_eq!(judge(&lines), Ok(false));
        assert_eq!(judge(&[&lines[..], b"a"].concat()), Err(Reason::TooManyFields));
    }
}
