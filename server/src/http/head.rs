//! Incremental parser of a request head.
//!
//! Every byte is judged for structure (line ends, control bytes, folding, limits), and once
//! the empty line is there the fields are judged for meaning (framing, Host, Expect). Both happen
//! in byte order, so a request gets the same verdict however it was split. httparse splits the
//! lines; what it would tolerate has been refused before it runs.

use super::fields::{FieldSection, HEAD_LIMITS, expect_lf, fault, is_token, list_items, trim};
use super::{Reason, Reject, host};

/// The longest request line, CRLF not counted.
pub const REQUEST_LINE_BYTES_MAX: usize = 8 << 10;
/// No head is longer: one line, its CRLF, all fields, the empty line, a tolerated empty line
/// before.
pub const HEAD_BYTES_MAX: usize = REQUEST_LINE_BYTES_MAX + (32 << 10) + 2 + 2 + 2;
/// The largest length that framing can declare.
pub const LENGTH_MAX: u64 = 1 << 63;
/// The longest number that declares one: `u64::MAX` is as long. More, be they zeros, others refuse.
const LENGTH_DIGITS_MAX: usize = 20;

/// What the parser made of the bytes so far.
#[expect(
    clippy::large_enum_variant,
    reason = "lives on the stack of one call; a box would allocate"
)]
#[derive(Debug)]
pub enum Step<'b> {
    /// Nothing wrong yet; the head is not complete.
    NeedMore,
    /// A complete head.
    Head(Head<'b>),
    /// Answer and close.
    Reject(Reject),
}

/// The methods we answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the methods")]
pub enum Method {
    Get,
    Head,
    Put,
    Post,
    Delete,
    Options,
}

/// The versions we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the versions")]
pub enum Version {
    Http10,
    Http11,
}

/// How the end of the body is known. One reading only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// Exactly this many bytes.
    Length(u64),
    /// Chunked, to the last chunk.
    Chunked,
}

/// A complete, unambiguous request head. Borrows the bytes it was parsed from.
#[derive(Clone, Copy, Debug)]
pub struct Head<'b> {
    /// Bytes of the head, empty line included: the body starts here.
    pub len: usize,
    /// The method.
    pub method: Method,
    /// The request target as received.
    pub target: &'b [u8],
    /// The version.
    pub version: Version,
    /// How the body ends.
    pub framing: Framing,
    /// The client wants to send another request on this connection.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// The fields we act on.
    pub fields: Fields<'b>,
}

/// The fields we act on. A field that may be given once and came twice counts as absent (`Range`,
/// `If-*`): the plain answer is always a right one.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "the names are the fields")]
pub struct Fields<'b> {
    pub range: Option<&'b [u8]>,
    pub if_range: Option<&'b [u8]>,
    pub if_match: Option<&'b [u8]>,
    pub if_none_match: Option<&'b [u8]>,
    pub if_modified_since: Option<&'b [u8]>,
    pub if_unmodified_since: Option<&'b [u8]>,
    pub content_type: Option<&'b [u8]>,
    pub content_encoding: Option<&'b [u8]>,
    pub content_range: Option<&'b [u8]>,
    pub origin: Option<&'b [u8]>,
}

#[derive(Clone, Debug)]
enum State {
    Start,
    /// CR before the request line: one empty line is tolerated (RFC 9112 section 2.2).
    EmptyLineCr,
    AfterEmptyLine,
    RequestLine,
    RequestLineCr,
    Fields(FieldSection),
}

/// Remembers how far the bytes have been judged. One per connection, `reset` between requests.
#[derive(Clone, Debug)]
pub struct HeadParser {
    state: State,
    judged: usize,
    line_start: usize,
    line_end: usize,
}

impl Default for HeadParser {
    fn default() -> HeadParser {
        HeadParser::new()
    }
}

impl HeadParser {
    /// A parser at the first byte of a request.
    pub fn new() -> HeadParser {
        HeadParser { state: State::Start, judged: 0, line_start: 0, line_end: 0 }
    }

    /// Forgets the request; the next `parse` starts at the first byte of another.
    pub fn reset(&mut self) {
        *self = HeadParser::new();
    }

    /// True when at least one byte of a request has been seen.
    pub fn has_begun(&self) -> bool {
        self.judged > 0
    }

    /// Judges `bytes`: all bytes of this request so far, those of earlier calls included.
    pub fn parse<'b>(&mut self, bytes: &'b [u8]) -> Step<'b> {
        assert!(self.judged <= bytes.len(), "bytes already judged were taken away");
        match self.scan(bytes) {
            Ok(false) => Step::NeedMore,
            Ok(true) => {
                let (line_start, line_end) = (self.line_start, self.line_end);
                let line = &bytes[line_start..line_end];
                match interpret(line, &bytes[line_start..self.judged], self.judged) {
                    Ok(head) => Step::Head(head),
                    Err(reason) => Step::Reject(reason.into()),
                }
            }
            Err(reason) => Step::Reject(reason.into()),
        }
    }

    /// Judges the bytes not judged yet. `Ok(true)` when the empty line is there.
    fn scan(&mut self, bytes: &[u8]) -> Result<bool, Reason> {
        while self.judged < bytes.len() {
            let at = self.judged;
            if let State::Fields(section) = &mut self.state {
                let (taken, done) = section.take(&bytes[at..])?;
                self.judged += taken;
                return Ok(done);
            }
            if matches!(self.state, State::RequestLine) {
                self.judged += self.plain_run(&bytes[at..]);
            }
            let at = self.judged;
            let Some(&byte) = bytes.get(at) else { break };
            self.scan_line(at, byte)?;
            self.judged += 1;
        }
        Ok(false)
    }

    /// Bytes of the request line that need no further look.
    fn plain_run(&self, bytes: &[u8]) -> usize {
        let room = REQUEST_LINE_BYTES_MAX - (self.judged - self.line_start);
        let bytes = &bytes[..bytes.len().min(room)];
        bytes.iter().position(|byte| !matches!(byte, 0x20..=0x7e)).unwrap_or(bytes.len())
    }

    fn scan_line(&mut self, at: usize, byte: u8) -> Result<(), Reason> {
        match self.state {
            State::Start if byte == b'\r' => self.state = State::EmptyLineCr,
            State::EmptyLineCr => {
                expect_lf(byte)?;
                self.state = State::AfterEmptyLine;
            }
            State::Start | State::AfterEmptyLine => {
                self.line_start = at;
                match byte {
                    b' ' | b'\t' => return Err(Reason::LeadingSpace),
                    _ if !is_token(byte) => return Err(fault(byte, Reason::BadRequestLine)),
                    _ => self.state = State::RequestLine,
                }
            }
            State::RequestLine => match byte {
                b'\r' => {
                    self.line_end = at;
                    self.state = State::RequestLineCr;
                }
                0x20..=0x7e if at - self.line_start < REQUEST_LINE_BYTES_MAX => {}
                0x20..=0x7e => return Err(Reason::RequestLineTooLong),
                _ => return Err(fault(byte, Reason::TargetByte)),
            },
            State::RequestLineCr => {
                expect_lf(byte)?;
                self.state = State::Fields(FieldSection::new(HEAD_LIMITS));
            }
            State::Fields(_) => unreachable!("fields are judged by scan"),
        }
        Ok(())
    }
}

/// Gives meaning to a head whose structure has been judged.
fn interpret<'b>(line: &'b [u8], head: &'b [u8], head_len: usize) -> Result<Head<'b>, Reason> {
    let (method, target, version) = request_line(line)?;
    let mut storage = [const { std::mem::MaybeUninit::uninit() }; 100];
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(head, &mut storage);
    match parsed {
        Ok(httparse::Status::Complete(len)) => assert_eq!(len, head.len(), "one end of the head"),
        // Its reading is not ours: refuse rather than guess.
        Ok(httparse::Status::Partial) | Err(_) => return Err(Reason::BadRequestLine),
    }
    let mut collect = Collect::default();
    for header in request.headers.iter() {
        collect.field(header.name, trim(header.value), version)?;
    }
    collect.finish(method, target, version, head_len)
}

/// Exactly `METHOD SP target SP HTTP/x.y`.
fn request_line(line: &[u8]) -> Result<(Method, &[u8], Version), Reason> {
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Reason::BadRequestLine);
    };
    if method.is_empty() || target.is_empty() || !method.iter().all(|&byte| is_token(byte)) {
        return Err(Reason::BadRequestLine);
    }
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Reason::Version);
        }
        _ => return Err(Reason::BadRequestLine),
    };
    let method = match method {
        b"GET" => Method::Get,
        b"HEAD" => Method::Head,
        b"PUT" => Method::Put,
        b"POST" => Method::Post,
        b"DELETE" => Method::Delete,
        b"OPTIONS" => Method::Options,
        b"CONNECT" | b"PATCH" | b"TRACE" => return Err(Reason::MethodNotAllowed),
        _ => return Err(Reason::MethodUnknown),
    };
    Ok((method, target, version))
}

/// Gathers the fields of one head.
#[derive(Default)]
struct Collect<'b> {
    fields: Fields<'b>,
    repeated: Fields<'b>,
    host_seen: bool,
    length: Option<u64>,
    chunked: bool,
    expect_continue: bool,
    close: bool,
    keep_alive: bool,
}

impl<'b> Collect<'b> {
    fn field(&mut self, name: &'b str, value: &'b [u8], version: Version) -> Result<(), Reason> {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        match name.len() {
            4 if is("host") => self.host(value)?,
            5 if is("range") => once(&mut self.fields.range, &mut self.repeated.range, value),
            6 if is("expect") => self.expect(value, version)?,
            6 if is("origin") => once(&mut self.fields.origin, &mut self.repeated.origin, value),
            8 if is("if-match") => {
                once(&mut self.fields.if_match, &mut self.repeated.if_match, value);
            }
            8 if is("if-range") => {
                once(&mut self.fields.if_range, &mut self.repeated.if_range, value);
            }
            10 if is("connection") => self.connection(value),
            12 if is("content-type") => {
                once(&mut self.fields.content_type, &mut self.repeated.content_type, value);
            }
            13 if is("if-none-match") => {
                once(&mut self.fields.if_none_match, &mut self.repeated.if_none_match, value);
            }
            13 if is("content-range") => self.fields.content_range = Some(value),
            14 if is("content-length") => self.length(value)?,
            16 if is("content-encoding") => {
                once(&mut self.fields.content_encoding, &mut self.repeated.content_encoding, value);
            }
            17 if is("if-modified-since") => {
                let (field, repeated) = (&mut self.fields, &mut self.repeated);
                once(&mut field.if_modified_since, &mut repeated.if_modified_since, value);
            }
            17 if is("transfer-encoding") => self.encoding(value, version)?,
            19 if is("if-unmodified-since") => {
                let (field, repeated) = (&mut self.fields, &mut self.repeated);
                once(&mut field.if_unmodified_since, &mut repeated.if_unmodified_since, value);
            }
            _ => {}
        }
        Ok(())
    }

    fn host(&mut self, value: &[u8]) -> Result<(), Reason> {
        if self.host_seen {
            return Err(Reason::HostRepeated);
        }
        self.host_seen = true;
        if host::is_valid(value) { Ok(()) } else { Err(Reason::HostMalformed) }
    }

    fn length(&mut self, value: &[u8]) -> Result<(), Reason> {
        if self.length.is_some() {
            return Err(Reason::LengthRepeated);
        }
        self.length = Some(parse_length(value)?);
        Ok(())
    }

    fn encoding(&mut self, value: &[u8], version: Version) -> Result<(), Reason> {
        if version == Version::Http10 {
            return Err(Reason::EncodingInHttp10);
        }
        if self.chunked {
            return Err(Reason::EncodingRepeated);
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Reason::EncodingUnknown);
        }
        self.chunked = true;
        Ok(())
    }

    fn expect(&mut self, value: &[u8], version: Version) -> Result<(), Reason> {
        if version == Version::Http10 {
            return Ok(());
        }
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(Reason::ExpectUnknown);
        }
        self.expect_continue = true;
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) {
        for option in list_items(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    fn finish(
        self,
        method: Method,
        target: &'b [u8],
        version: Version,
        len: usize,
    ) -> Result<Head<'b>, Reason> {
        if !self.host_seen {
            return Err(Reason::HostMissing);
        }
        let framing = match (self.length, self.chunked) {
            (Some(_), true) => return Err(Reason::LengthAndEncoding),
            (Some(length), false) => Framing::Length(length),
            (None, true) => Framing::Chunked,
            (None, false) => Framing::None,
        };
        let keep_alive = !self.close && (version == Version::Http11 || self.keep_alive);
        let has_body = !matches!(framing, Framing::None | Framing::Length(0));
        let expect_continue = self.expect_continue && has_body;
        let fields = self.fields;
        Ok(Head { len, method, target, version, framing, keep_alive, expect_continue, fields })
    }
}

/// Keeps the first value, and none at all once a second came.
fn once<'b>(slot: &mut Option<&'b [u8]>, seen: &mut Option<&'b [u8]>, value: &'b [u8]) {
    *slot = if seen.is_some() { None } else { Some(value) };
    *seen = Some(value);
}

fn parse_length(value: &[u8]) -> Result<u64, Reason> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Reason::LengthMalformed);
    }
    if value.len() > LENGTH_DIGITS_MAX {
        return Err(Reason::LengthOverflow);
    }
    let mut length = 0u64;
    for digit in value {
        length = length
            .checked_mul(10)
            .and_then(|tens| tens.checked_add(u64::from(digit - b'0')))
            .ok_or(Reason::LengthOverflow)?;
    }
    if length > LENGTH_MAX { Err(Reason::LengthOverflow) } else { Ok(length) }
}
