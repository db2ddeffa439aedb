//! Why a request is refused: one enum, one status per reason, one line of cause.
//!
//! Every reason here puts the framing or the identity of a request in doubt, so the connection is
//! closed after the answer.

use thiserror::Error;

/// A refused request. The answer is `status()` and the connection closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct Reject {
    /// What was wrong.
    pub reason: Reason,
}

impl Reject {
    /// The status to answer with.
    pub fn status(self) -> u16 {
        self.reason.status()
    }
}

impl From<Reason> for Reject {
    fn from(reason: Reason) -> Reject {
        Reject { reason }
    }
}

/// What was wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Reason {
    /// A line feed that no carriage return precedes.
    #[error("bare LF in the request head")]
    BareLf,
    /// A carriage return that no line feed follows.
    #[error("bare CR in the request head")]
    BareCr,
    /// A zero byte.
    #[error("NUL byte in the request head")]
    Nul,
    /// Another control byte.
    #[error("control byte in the request head")]
    Control,
    /// The request line starts with a space or tab.
    #[error("whitespace before the request line")]
    LeadingSpace,
    /// A field line starts with a space or tab (line folding).
    #[error("folded header line")]
    Folded,
    /// Space or tab between a field name and its colon.
    #[error("space before the colon of a header")]
    SpaceBeforeColon,
    /// A field line without a colon, with an empty name or with a byte no name may hold.
    #[error("malformed header name")]
    BadFieldName,
    /// Not `METHOD SP target SP HTTP/x.y`.
    #[error("malformed request line")]
    BadRequestLine,
    /// The request line is over its limit.
    #[error("request line longer than 8192 bytes")]
    RequestLineTooLong,
    /// One header line is over its limit.
    #[error("header line longer than 8192 bytes")]
    FieldLineTooLong,
    /// All header lines together are over their limit.
    #[error("headers longer than 32768 bytes")]
    FieldsTooLong,
    /// Too many header lines.
    #[error("more than 100 headers")]
    TooManyFields,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("HTTP version not supported: send HTTP/1.1")]
    Version,
    /// A method nobody registered, or one we do not know.
    #[error("method not implemented")]
    MethodUnknown,
    /// A method we know of and do not offer.
    #[error("method not allowed: use GET, HEAD, PUT, POST, DELETE or OPTIONS")]
    MethodNotAllowed,
    /// No Host line.
    #[error("no Host header")]
    HostMissing,
    /// Two or more Host lines.
    #[error("more than one Host header")]
    HostRepeated,
    /// A Host that is no `host[:port]`.
    #[error("malformed Host header")]
    HostMalformed,
    /// Content-Length twice, even if both agree.
    #[error("more than one Content-Length")]
    LengthRepeated,
    /// Content-Length is not digits only.
    #[error("Content-Length is not a decimal number")]
    LengthMalformed,
    /// Content-Length above 2^63.
    #[error("Content-Length above 2^63")]
    LengthOverflow,
    /// Content-Length and Transfer-Encoding in one request.
    #[error("both Content-Length and Transfer-Encoding")]
    LengthAndEncoding,
    /// Transfer-Encoding twice.
    #[error("more than one Transfer-Encoding")]
    EncodingRepeated,
    /// Transfer-Encoding that is not exactly `chunked`.
    #[error("Transfer-Encoding other than chunked")]
    EncodingUnknown,
    /// Transfer-Encoding in HTTP/1.0.
    #[error("Transfer-Encoding in an HTTP/1.0 request")]
    EncodingInHttp10,
    /// Expect with anything but `100-continue`.
    #[error("Expect other than 100-continue")]
    ExpectUnknown,
    /// A byte below 0x21 or above 0x7e, a backslash or a fragment in the target.
    #[error("byte not allowed in the request target")]
    TargetByte,
    /// Neither a path, nor an absolute URI, nor `*` on OPTIONS.
    #[error("malformed request target")]
    TargetForm,
    /// `%` without two hex digits.
    #[error("malformed percent-encoding in the path")]
    PercentMalformed,
    /// `%00`, `%2f`, `%5c` or an encoded control byte.
    #[error("percent-encoded slash, backslash or control byte in the path")]
    PercentForbidden,
    /// The decoded path is not UTF-8.
    #[error("the decoded path is not UTF-8")]
    PathNotUtf8,
    /// A `.` or `..` segment, plain or encoded.
    #[error("dot segment in the path")]
    DotSegment,
    /// `//`.
    #[error("empty segment in the path")]
    EmptySegment,
    /// The decoded key is over its limit.
    #[error("key longer than 1024 bytes")]
    KeyTooLong,
    /// `ttl_seconds` repeated, empty, zero, not digits, or above the limit.
    #[error("ttl_seconds must be given once, a whole number from 1 to 315360000")]
    TtlMalformed,
}

impl Reason {
    /// The status every occurrence of this reason is answered with.
    pub fn status(self) -> u16 {
        use Reason::*;
        match self {
            RequestLineTooLong | KeyTooLong => 414,
            FieldLineTooLong | FieldsTooLong | TooManyFields => 431,
            Version => 505,
            MethodUnknown => 501,
            MethodNotAllowed => 405,
            ExpectUnknown => 417,
            _ => 400,
        }
    }
}
