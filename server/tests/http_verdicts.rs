//! One reading per request: every malformed head and body has one verdict, whatever the split.

use proptest::prelude::*;
use tapeloop_server::http::Reason;
use tapeloop_server::http::chunked::{ChunkError, Decoder, Step as ChunkStep};
use tapeloop_server::http::head::{Framing, HeadParser, LENGTH_MAX, Method, Step, Version};

/// What a parser said, detached from the bytes.
#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    NeedMore,
    Head { len: usize, method: Method, target: Vec<u8>, framing: Framing, keep_alive: bool },
    Reject(Reason),
}

fn verdict(step: Step<'_>) -> Verdict {
    match step {
        Step::NeedMore => Verdict::NeedMore,
        Step::Reject(reject) => Verdict::Reject(reject.reason),
        Step::Head(head) => Verdict::Head {
            len: head.len,
            method: head.method,
            target: head.target.to_vec(),
            framing: head.framing,
            keep_alive: head.keep_alive,
        },
    }
}

/// Feeds `bytes` up to each of `splits` in turn, then whole; the first verdict stands.
fn parse_split(bytes: &[u8], splits: &[usize]) -> Verdict {
    let mut parser = HeadParser::new();
    for end in splits.iter().copied().chain([bytes.len()]) {
        match verdict(parser.parse(&bytes[..end])) {
            Verdict::NeedMore => {}
            other => return other,
        }
    }
    Verdict::NeedMore
}

fn parse(bytes: &[u8]) -> Verdict {
    parse_split(bytes, &[])
}

fn reason(bytes: &[u8]) -> Option<Reason> {
    match parse(bytes) {
        Verdict::Reject(reason) => Some(reason),
        _ => None,
    }
}

fn framing(bytes: &[u8]) -> Framing {
    match parse(bytes) {
        Verdict::Head { framing, .. } => framing,
        other => panic!("{}: {other:?}", bytes.escape_ascii()),
    }
}

/// Every refused head of the table, with its reason.
const REFUSED: &[(&[u8], Reason)] = &[
    (b"GET /a/b HTTP/1.1\nHost: h\r\n\r\n", Reason::BareLf),
    (b"GET /a/b HTTP/1.1\r\nHost: h\n\r\n", Reason::BareLf),
    (b"GET /a/b HTTP/1.1\r\nHost: h\r\n\n", Reason::BareLf),
    (b"\nGET /a/b HTTP/1.1\r\nHost: h\r\n\r\n", Reason::BareLf),
    (b"GET /a/b HTTP/1.1\rHost: h\r\n\r\n", Reason::BareCr),
    (b"GET /a/b HTTP/1.1\r\nHost: h\rX\r\n\r\n", Reason::BareCr),
    (b"GET /a/b HTTP/1.1\r\r\nHost: h\r\n\r\n", Reason::BareCr),
    (b"GET /a/b HTTP/1.1\r\nHost: h\r\n\rX", Reason::BareCr),
    (b"\rGET /a/b HTTP/1.1\r\nHost: h\r\n\r\n", Reason::BareCr),
    (b"GET /a\0b HTTP/1.1\r\nHost: h\r\n\r\n", Reason::Nul),
    (b"GET /a/b HTTP/1.1\r\nHost: h\0\r\n\r\n", Reason::Nul),
    (b"GET /a/b HTTP/1.1\r\nHo\0st: h\r\n\r\n", Reason::Nul),
    (b"GET /a/b HTTP/1.1\r\nHost: h\x0b\r\n\r\n", Reason::Control),
    (b"GET /a/b HTTP/1.1\r\nHost: h\r\nX: \x7f\r\n\r\n", Reason::Control),
    (b"GET\t/a/b HTTP/1.1\r\nHost: h\r\n\r\n", Reason::Control),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Reason::Control),
    (b" GET /a/b HTTP/1.1\r\nHost: h\r\n\r\n", Reason::LeadingSpace),
    (b"\tGET /a/b HTTP/1.1\r\nHost: h\r\n\r\n", Reason::LeadingSpace),
    (b"\r\n\r\nGET /a/b HTTP/1.1\r\nHost: h\r\n\r\n", Reason::BareCr),
    (b"GET /a/b HTTP/1.1\r\n Host: h\r\n\r\n", Reason::Folded),
    (b"GET /a/b HTTP/1.1\r\nHost: h\r\n X: y\r\n\r\n", Reason::Folded),
    (b"GET /a/b HTTP/1.1\r\nHost: h\r\nX: y\r\n\tz\r\n\r\n", Reason::Folded),
    (b"GET /a/b HTTP/1.1\r\nHost : h\r\n\r\n", Reason::SpaceBeforeColon),
    (b"PUT /a/b HTTP/1.1\r\nHost: h\r\nContent-Length\t: 1\r\n\r\n", Reason::SpaceBeforeColon),
    (b"GET /a/b HTTP/1.1\r\nHost\r\n\r\n", Reason::BadFieldName),
    (b"GET /a/b HTTP/1.1\r\n: h\r\n\r\n", Reason::BadFieldName),
    (b"GET /a/b HTTP/1.1\r\nHost: h\r\nX@Y: z\r\n\r\n", Reason::BadFieldName),
    (b"GET  /a/b HTTP/1.1\r\nHost: h\r\n\r\n", Reason::BadRequestLine),
    (b"GET /a/b  HTTP/1.1\r\nHost: h\r\n\r\n", Reason::BadRequestLine),
    (b"GET /a/b HTTP/1.1 \r\nHost: h\r\n\r\n", Reason::BadRequestLine),
    (b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", Reason::BadRequestLine),
    (b"GET /a/b\r\nHost: h\r\n\r\n", Reason::BadRequestLine),
    (b"GET\r\nHost: h\r\n\r\n", Reason::BadRequestLine),
    (b"GET /a/b http/1.1\r\nHost: h\r\n\r\n", Reason::BadRequestLine),
    (b"GET /a/b HTTP/1.10\r\nHost: h\r\n\r\n", Reason::BadRequestLine),
    (b"G(T /a/b HTTP/1.1\r\nHost: h\r\n\r\n", Reason::BadRequestLine),
    (b"GET /a/\xc3\xa9 HTTP/1.1\r\nHost: h\r\n\r\n", Reason::TargetByte),
    (b"GET /a/b HTTP/2.0\r\nHost: h\r\n\r\n", Reason::Version),
    (b"GET /a/b HTTP/1.2\r\nHost: h\r\n\r\n", Reason::Version),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reason::Version),
    (b"BREW /a/b HTTP/1.1\r\nHost: h\r\n\r\n", Reason::MethodUnknown),
    (b"get /a/b HTTP/1.1\r\nHost: h\r\n\r\n", Reason::MethodUnknown),
    (b"PATCH /a/b HTTP/1.1\r\nHost: h\r\n\r\n", Reason::MethodNotAllowed),
    (b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", Reason::MethodNotAllowed),
    (b"GET /a/b HTTP/1.1\r\n\r\n", Reason::HostMissing),
    (b"GET /a/b HTTP/1.0\r\n\r\n", Reason::HostMissing),
    (b"GET /a/b HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", Reason::HostRepeated),
    (b"GET /a/b HTTP/1.1\r\nHost: h\r\nhOST: i\r\n\r\n", Reason::HostRepeated),
    (b"GET /a/b HTTP/1.1\r\nHost:\r\n\r\n", Reason::HostMalformed),
    (b"GET /a/b HTTP/1.1\r\nHost: a, b\r\n\r\n", Reason::HostMalformed),
    (b"GET /a/b HTTP/1.1\r\nHost: u@h\r\n\r\n", Reason::HostMalformed),
    (b"GET /a/b HTTP/1.1\r\nHost: h/x\r\n\r\n", Reason::HostMalformed),
    (b"PUT /a/b HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\n", Reason::LengthMalformed),
    (b"PUT /a/b HTTP/1.1\r\nHost: h\r\nContent-Length: -5\r\n\r\n", Reason::LengthMalformed),
    (b"PUT /a/b HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 5\r\n\r\n", Reason::LengthMalformed),
    (b"PUT /a/b HTTP/1.1\r\nHost: h\r\nContent-Length: 0x5\r\n\r\n", Reason::LengthMalformed),
    (b"PUT /a/b HTTP/1.1\r\nHost: h\r\nContent-Length: 5_0\r\n\r\n", Reason::LengthMalformed),
    (b"PUT /a/b HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n", Reason::LengthMalformed),
    (b"PUT /a/b HTTP/1.1\r\nHost: h\r\nContent-Length: 5 5\r\n\r\n", Reason::LengthMalformed),
    (
        b"PUT /a/b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        Reason::LengthRepeated,
    ),
    (
        b"PUT /a/b HTTP/1.1\r\nHost: h\r\nContent-Length: 9223372036854775809\r\n\r\n",
        Reason::LengthOverflow,
    ),
    (
        b"PUT /a/b HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        Reason::LengthOverflow,
    ),
    (
        b"PUT /a/b HTTP/1.1\r\nHost: h\r\nContent-Length: 000000000000000000005\r\n\r\n",
        Reason::LengthOverflow,
    ),
    (
        b"PUT /a/b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        Reason::LengthAndEncoding,
    ),
    (
        b"PUT /a/b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        Reason::LengthAndEncoding,
    ),
    (
        b"PUT /a/b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        Reason::EncodingUnknown,
    ),
    (
        b"PUT /a/b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        Reason::EncodingUnknown,
    ),
    (
        b"PUT /a/b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n\r\n",
        Reason::EncodingUnknown,
    ),
    (b"PUT /a/b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n\r\n", Reason::EncodingUnknown),
    (
        b"PUT /a/b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n",
        Reason::EncodingUnknown,
    ),
    (
        b"PUT /a/b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\
          Transfer-Encoding: chunked\r\n\r\n",
        Reason::EncodingRepeated,
    ),
    (
        b"PUT /a/b HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
        Reason::EncodingInHttp10,
    ),
    (b"PUT /a/b HTTP/1.1\r\nHost: h\r\nExpect: 200-maybe\r\n\r\n", Reason::ExpectUnknown),
];

#[test]
fn every_ambiguous_head_is_refused_for_its_own_reason() {
    for (bytes, wanted) in REFUSED {
        assert_eq!(reason(bytes), Some(*wanted), "{}", bytes.escape_ascii());
    }
}

#[test]
fn every_refusal_is_a_client_or_version_error() {
    for (_, reason) in REFUSED {
        assert!(matches!(reason.status(), 400..=499 | 501 | 505), "{reason}: {}", reason.status());
    }
    assert_eq!(Reason::Version.status(), 505);
    assert_eq!(Reason::MethodUnknown.status(), 501);
    assert_eq!(Reason::MethodNotAllowed.status(), 405);
    assert_eq!(Reason::RequestLineTooLong.status(), 414);
    assert_eq!(Reason::TooManyFields.status(), 431);
}

#[test]
fn heads_as_encoders_and_players_send_them_are_accepted() {
    let ffmpeg = b"PUT /live/seg_1.ts HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\
                   User-Agent: Lavf/59.27.100\r\nAccept: */*\r\nConnection: close\r\n\
                   Host: 127.0.0.1:8080\r\nIcy-MetaData: 1\r\n\r\n";
    assert_eq!(
        parse(ffmpeg),
        Verdict::Head {
            len: ffmpeg.len(),
            method: Method::Put,
            target: b"/live/seg_1.ts".to_vec(),
            framing: Framing::Chunked,
            keep_alive: false,
        }
    );
    let head = |extra: &str| format!("PUT /a/b HTTP/1.1\r\nHost: h\r\n{extra}\r\n").into_bytes();
    assert_eq!(framing(&head("")), Framing::None);
    assert_eq!(framing(&head("content-length:  5\t \r\n")), Framing::Length(5));
    assert_eq!(framing(&head("Content-Length: 0005\r\n")), Framing::Length(5));
    assert_eq!(framing(&head("Content-Length: 00000000000000000005\r\n")), Framing::Length(5));
    assert_eq!(
        framing(&head("Content-Length: 9223372036854775808\r\n")),
        Framing::Length(LENGTH_MAX)
    );
    assert_eq!(framing(&head("TRANSFER-ENCODING: Chunked\r\n")), Framing::Chunked);
    assert_eq!(framing(&head("Upgrade: h2c\r\nX-Obs: \u{e9}\r\n")), Framing::None);
    let empty_line_first = b"\r\nGET /a/b HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(framing(empty_line_first), Framing::None);
}

#[test]
fn keep_alive_follows_version_and_connection() {
    let keep = |version: &str, lines: &str| {
        let bytes = format!("GET /a/b HTTP/{version}\r\nHost: h\r\n{lines}\r\n");
        match HeadParser::new().parse(bytes.as_bytes()) {
            Step::Head(head) => {
                let wanted = if version == "1.0" { Version::Http10 } else { Version::Http11 };
                assert_eq!(head.version, wanted);
                head.keep_alive
            }
            other => panic!("{other:?}"),
        }
    };
    assert!(keep("1.1", ""));
    assert!(!keep("1.1", "Connection: close\r\n"));
    assert!(!keep("1.1", "Connection: keep-alive, Close\r\n"));
    assert!(!keep("1.1", "Connection: keep-alive\r\nConnection: close\r\n"));
    assert!(!keep("1.0", ""));
    assert!(keep("1.0", "Connection: Keep-Alive\r\n"));
}

#[test]
fn a_field_given_twice_counts_as_absent() {
    let bytes = b"GET /a/b HTTP/1.1\r\nHost: h\r\nRange: bytes=0-1\r\nRange: bytes=2-3\r\n\
                  If-Range: \"x\"\r\n\r\n";
    match HeadParser::new().parse(bytes) {
        Step::Head(head) => {
            assert_eq!(head.fields.range, None);
            assert_eq!(head.fields.if_range, Some(&b"\"x\""[..]));
        }
        other => panic!("{other:?}"),
    }
    let thrice = b"GET /a/b HTTP/1.1\r\nHost: h\r\nRange: a\r\nRange: b\r\nRange: c\r\n\r\n";
    match HeadParser::new().parse(thrice) {
        Step::Head(head) => assert_eq!(head.fields.range, None, "an odd count is no less repeated"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn limits_refuse_at_the_first_byte_too_many() {
    let line = |len: usize| {
        let path = "x".repeat(len - "GET / HTTP/1.1".len());
        format!("GET /{path} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes()
    };
    assert!(matches!(parse(&line(8192)), Verdict::Head { .. }));
    assert_eq!(reason(&line(8193)), Some(Reason::RequestLineTooLong));
    assert_eq!(reason(&line(8193)[..8193]), Some(Reason::RequestLineTooLong), "needs no line end");
    let field = |len: usize| {
        let value = "x".repeat(len - 2);
        format!("GET /a/b HTTP/1.1\r\nHost: h\r\nX:{value}\r\n\r\n").into_bytes()
    };
    assert!(matches!(parse(&field(8192)), Verdict::Head { .. }));
    assert_eq!(reason(&field(8193)), Some(Reason::FieldLineTooLong));
    let count = |fields: usize| {
        format!("GET /a/b HTTP/1.1\r\nHost: h\r\n{}\r\n", "a: b\r\n".repeat(fields - 1))
            .into_bytes()
    };
    assert!(matches!(parse(&count(100)), Verdict::Head { .. }));
    assert_eq!(reason(&count(101)), Some(Reason::TooManyFields));
    let section = format!("X: {}\r\n", "y".repeat(8000)).repeat(5);
    let bytes = format!("GET /a/b HTTP/1.1\r\nHost: h\r\n{section}\r\n");
    assert_eq!(reason(bytes.as_bytes()), Some(Reason::FieldsTooLong));
}

#[test]
fn a_verdict_is_the_same_at_every_split_point() {
    let good: &[&[u8]] = &[
        b"\r\nGET http://h/a/b?c HTTP/1.1\r\nHost: h\r\nRange: bytes=0-\r\n\r\nGET /next",
        b"PUT /a/b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
    ];
    for bytes in REFUSED.iter().map(|(bytes, _)| *bytes).chain(good.iter().copied()) {
        let whole = parse(bytes);
        assert_ne!(whole, Verdict::NeedMore, "{}", bytes.escape_ascii());
        for at in 0..=bytes.len() {
            assert_eq!(parse_split(bytes, &[at]), whole, "{} at {at}", bytes.escape_ascii());
        }
        let every: Vec<usize> = (0..=bytes.len()).collect();
        assert_eq!(parse_split(bytes, &every), whole, "{} bytewise", bytes.escape_ascii());
    }
}

/// A decoded body, and the bytes of the input that belonged to it.
type Decoded = Result<Option<(Vec<u8>, usize)>, ChunkError>;

/// Decodes `bytes` in runs ended by `splits`. Data after a split may be taken "from the socket".
fn decode_split(bytes: &[u8], splits: &[usize], direct: bool) -> Decoded {
    let mut decoder = Decoder::new();
    let mut body = Vec::new();
    let mut start = 0;
    for end in splits.iter().copied().chain([bytes.len()]) {
        if direct && decoder.remaining() > 0 {
            let here =
                (end - start).min(usize::try_from(decoder.remaining()).unwrap_or(usize::MAX));
            body.extend_from_slice(&bytes[start..start + here]);
            decoder.received(here as u64);
            start += here;
        }
        while start < end {
            match decoder.step(&bytes[start..end])? {
                ChunkStep::NeedMore => start = end,
                ChunkStep::Data { skip, len } => {
                    assert!(len > 0, "a run of data has bytes");
                    body.extend_from_slice(&bytes[start + skip..start + skip + len]);
                    start += skip + len;
                }
                ChunkStep::Done { consumed } => return Ok(Some((body, start + consumed))),
            }
        }
    }
    Ok(None)
}

const BODIES_REFUSED: &[(&[u8], ChunkError)] = &[
    (b"\r\n", ChunkError::BadSize),
    (b"g\r\n", ChunkError::BadSize),
    (b"+5\r\n", ChunkError::BadSize),
    (b"0x5\r\n", ChunkError::BadSize),
    (b"5_0\r\n", ChunkError::BadSize),
    (b" 5\r\nhello\r\n", ChunkError::BadSize),
    (b"5 \r\nhello\r\n", ChunkError::BadSize),
    (b";a\r\n", ChunkError::BadSize),
    (b"11111111111111111\r\n", ChunkError::SizeOverflow),
    (b"00000000000000000\r\n", ChunkError::SizeOverflow),
    (b"8000000000000001\r\n", ChunkError::SizeOverflow),
    (b"ffffffffffffffff\r\n", ChunkError::SizeOverflow),
    (b"5\nhello\r\n", ChunkError::MissingCrlf),
    (b"5\rhello\r\n", ChunkError::MissingCrlf),
    (b"5\r\nhello0\r\n\r\n", ChunkError::MissingCrlf),
    (b"5\r\nhello\n0\r\n\r\n", ChunkError::MissingCrlf),
    (b"5\r\nhello\rX", ChunkError::MissingCrlf),
    (b"5;a\nhello\r\n", ChunkError::MissingCrlf),
    (b"5;a\rb\r\nhello", ChunkError::MissingCrlf),
    (b"5;a=\0\r\nhello", ChunkError::ExtensionByte),
    (b"0\r\na b: c\r\n\r\n", ChunkError::Trailer(Reason::SpaceBeforeColon)),
    (b"0\r\na: b\n\r\n", ChunkError::Trailer(Reason::BareLf)),
    (b"0\r\n\n", ChunkError::Trailer(Reason::BareLf)),
    (b"0\r\n a: b\r\n\r\n", ChunkError::Trailer(Reason::Folded)),
];

#[test]
fn every_malformed_chunk_is_refused_for_its_own_reason() {
    for (bytes, wanted) in BODIES_REFUSED {
        assert_eq!(decode_split(bytes, &[], false), Err(*wanted), "{}", bytes.escape_ascii());
    }
}

#[test]
fn extensions_and_trailers_are_ignored_within_their_bounds() {
    let body = b"5;a=b;c=\"d e\"\r\nhello\r\n1\r\n!\r\n000;x\r\nEtag: 1\r\nX: y\r\n\r\nGET";
    assert_eq!(decode_split(body, &[], false), Ok(Some((b"hello!".to_vec(), body.len() - 3))));
    let extension = |len: usize| format!("1;{}\r\nx\r\n", "e".repeat(len)).into_bytes();
    assert_eq!(decode_split(&extension(256), &[], false), Ok(None));
    assert_eq!(decode_split(&extension(257), &[], false), Err(ChunkError::ExtensionsTooLong));
    assert_eq!(decode_split(&extension(256).repeat(64), &[], false), Ok(None));
    let over = extension(256).repeat(65);
    assert_eq!(decode_split(&over, &[], false), Err(ChunkError::ExtensionsTooLong));
    let trailers = [b"0\r\n".to_vec(), b"a: b\r\n".repeat(33)].concat();
    let refused = Err(ChunkError::Trailer(Reason::TooManyFields));
    assert_eq!(decode_split(&trailers, &[], false), refused);
}

#[test]
fn a_chunked_body_reads_the_same_at_every_split_point() {
    let good: &[&[u8]] = &[b"0\r\n\r\n", b"5;a\r\nhello\r\n3\r\n\r\n0\r\n0\r\nX: y\r\n\r\n"];
    let all = BODIES_REFUSED.iter().map(|(bytes, _)| *bytes).chain(good.iter().copied());
    for bytes in all {
        let whole = decode_split(bytes, &[], false);
        for at in 0..=bytes.len() {
            for direct in [false, true] {
                let name = bytes.escape_ascii();
                assert_eq!(decode_split(bytes, &[at], direct), whole, "{name} at {at}");
            }
        }
        let every: Vec<usize> = (0..=bytes.len()).collect();
        assert_eq!(decode_split(bytes, &every, true), whole, "{}", bytes.escape_ascii());
    }
}

/// Bytes that look like HTTP often enough to reach every state.
fn nearly_http() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&'static [u8]> = vec![
        b"GET ",
        b"PUT ",
        b"/a/b",
        b"?ttl_seconds=1",
        b" HTTP/1.1",
        b" HTTP/1.0",
        b"\r\n",
        b"\r",
        b"\n",
        b"Host: h",
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"X: y",
        b" ",
        b":",
        b"\0",
        b"\x80",
        b"5",
        b"hello",
        b"0",
        b";e",
        b"\t",
    ];
    prop::collection::vec(prop::sample::select(pieces), 0..24).prop_map(|runs| runs.concat())
}

proptest! {
    #[test]
    fn any_bytes_get_one_verdict_however_they_are_split(
        bytes in nearly_http(),
        cuts in prop::collection::vec(0usize..400, 0..6),
    ) {
        let mut splits: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        splits.sort_unstable();
        prop_assert_eq!(parse_split(&bytes, &splits), parse(&bytes));
        let whole = decode_split(&bytes, &[], false);
        prop_assert_eq!(decode_split(&bytes, &splits, true), whole);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        parse(&bytes);
        let _ = decode_split(&bytes, &[], false);
    }

    #[test]
    fn a_framed_body_decodes_to_its_bytes(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8),
        cuts in prop::collection::vec(0usize..3000, 0..8),
    ) {
        let mut wire = Vec::new();
        for chunk in &chunks {
            wire.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"0\r\n\r\n");
        let mut splits: Vec<usize> = cuts.into_iter().map(|cut| cut.min(wire.len())).collect();
        splits.sort_unstable();
        let wanted = Ok(Some((chunks.concat(), wire.len())));
        prop_assert_eq!(decode_split(&wire, &splits, true), wanted);
    }
}
