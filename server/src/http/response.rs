//! Builds response heads and chunk framing into one reusable buffer.
//!
//! Invariant: values are ours or have been judged by the head parser, so none holds CR or LF; that
//! is asserted, because a response split in two is somebody else's cache poisoned.

use super::date::DATE_LEN;
use std::io::Write;

/// Writes one response head. `finish` ends it.
#[derive(Debug)]
pub struct ResponseHead<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> ResponseHead<'o> {
    /// Starts a head at the end of `out`.
    pub fn new(out: &'o mut Vec<u8>, status: u16, date: &[u8; DATE_LEN]) -> ResponseHead<'o> {
        let mut head = ResponseHead { out };
        head.out.extend_from_slice(b"HTTP/1.1 ");
        head.decimal(u64::from(status));
        head.out.push(b' ');
        head.out.extend_from_slice(reason_phrase(status).as_bytes());
        head.out.extend_from_slice(b"\r\nDate: ");
        head.out.extend_from_slice(date);
        head.out.extend_from_slice(b"\r\n");
        head
    }

    /// Adds a field.
    pub fn field(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        let value = value.as_ref();
        assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "one line per field");
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        self.out.extend_from_slice(value);
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Adds a field whose value is a number.
    pub fn number(&mut self, name: &str, value: u64) -> &mut Self {
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        self.decimal(value);
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Adds a line made of a prepared start, a number and a prepared end with its CRLF.
    pub fn number_between(
        &mut self,
        start: &'static str,
        value: u64,
        end: &'static str,
    ) -> &mut Self {
        assert!(end.ends_with("\r\n"), "whole lines only");
        self.out.extend_from_slice(start.as_bytes());
        self.decimal(value);
        self.out.extend_from_slice(end.as_bytes());
        self
    }

    /// Adds a field whose value is formatted in place.
    pub fn formatted(&mut self, name: &str, value: std::fmt::Arguments<'_>) -> &mut Self {
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        let start = self.out.len();
        self.out.write_fmt(value).expect("writing to memory");
        let clean = !self.out[start..].iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
        assert!(clean, "one line per field");
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Adds whole lines prepared elsewhere, each ended by CRLF.
    pub fn lines(&mut self, lines: impl AsRef<[u8]>) -> &mut Self {
        let lines = lines.as_ref();
        assert!(lines.is_empty() || lines.ends_with(b"\r\n"), "whole lines only");
        self.out.extend_from_slice(lines);
        self
    }

    /// Begins lines that heads will be given with `lines`.
    pub fn lines_only(out: &'o mut Vec<u8>) -> ResponseHead<'o> {
        ResponseHead { out }
    }

    /// Ends the head; what is appended to the buffer next is body.
    pub fn finish(self) {
        self.out.extend_from_slice(b"\r\n");
    }

    fn decimal(&mut self, value: u64) {
        push_decimal(self.out, value);
    }
}

/// Appends `value` in decimal.
pub fn push_decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(value % 10).expect("one digit");
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends the size line of a chunk; data and CRLF follow.
pub fn push_chunk_size(out: &mut Vec<u8>, len: usize) {
    assert!(len > 0, "a chunk of no bytes ends the body");
    write!(out, "{len:x}\r\n").expect("writing to memory");
}

/// What follows the data of every chunk.
pub const CHUNK_END: &[u8] = b"\r\n";
/// What ends a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// The interim answer to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The reason phrase of a status we send.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_the_bytes_a_client_reads() {
        let mut out = Vec::new();
        let mut head = ResponseHead::new(&mut out, 206, &super::super::date::format(784_111_777));
        head.field("ETag", "\"a\"").number("Content-Length", 0).number("Age", u64::MAX);
        head.formatted("Content-Range", format_args!("bytes {}-{}/{}", 1, 2, 3));
        head.lines("Accept-Ranges: bytes\r\n");
        head.finish();
        let wanted = "HTTP/1.1 206 Partial Content\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                      ETag: \"a\"\r\nContent-Length: 0\r\nAge: 18446744073709551615\r\n\
                      Content-Range: bytes 1-2/3\r\nAccept-Ranges: bytes\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&out), wanted);
    }

    #[test]
    fn a_chunk_size_is_hexadecimal() {
        let mut out = Vec::new();
        push_chunk_size(&mut out, 0x1f40);
        assert_eq!(out, b"1f40\r\n");
    }

    #[test]
    #[should_panic(expected = "one line per field")]
    fn a_value_cannot_start_a_new_line() {
        let mut out = Vec::new();
        ResponseHead::new(&mut out, 200, &[b' '; DATE_LEN]).field("X", "a\r\nSet-Cookie: b");
    }
}
