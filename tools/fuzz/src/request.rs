//! Whatever a client may send: heads, targets, conditions, ranges and bodies, without a socket.
//!
//! - A head gets one verdict, wherever the network split it, and what httparse refuses is refused.
//! - The framing of an accepted head is the only one a second reading of its fields allows.
//! - A key neither escapes nor aliases; a range lies within its object.

use std::cell::RefCell;

use tapeloop_server::config::Policies;
use tapeloop_server::http::conditional::{self, Outcome, Validators};
use tapeloop_server::http::date::{self, DATE_LEN};
use tapeloop_server::http::head::{
    Fields, Framing, HEAD_BYTES_MAX, Head, HeadParser, LENGTH_MAX, Method, Step, Version,
};
use tapeloop_server::http::range::{self, Selected};
use tapeloop_server::http::response::ResponseHead;
use tapeloop_server::http::target::{
    Decoded, KEY_BYTES_MAX, TTL_SECONDS_MAX, Target, decode_key, ttl_seconds,
};
use tapeloop_server::origin::metadata::Metadata;
use tapeloop_server::origin::request::{Action, Request};

use crate::body::{self, Bodies};
use crate::splits::Splits;

/// Requests read from one input.
const REQUESTS_MAX: usize = 4;
/// Lengths of the objects that ranges are tried on.
const LENGTHS: [u64; 6] = [0, 1, 1000, 65_537, LENGTH_MAX, u64::MAX];

struct Scratch {
    policies: Policies,
    bodies: Bodies,
    text: Vec<u8>,
    key: Vec<u8>,
    again: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        policies: Policies::open_to_all(60_000),
        bodies: Bodies::default(),
        text: Vec::new(),
        key: Vec::new(),
        again: Vec::new(),
    });
}

/// A conversation from any bytes: requests one behind the other on one connection.
pub fn request(bytes: &[u8]) {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut splits = Splits::of(bytes);
        let mut rest = bytes;
        for _ in 0..REQUESTS_MAX {
            match one(rest, &mut splits, scratch) {
                Some(consumed) if consumed < rest.len() => rest = &rest[consumed..],
                _ => return,
            }
        }
    });
}

/// One request; gives what it takes when another may follow.
fn one(bytes: &[u8], splits: &mut Splits, scratch: &mut Scratch) -> Option<usize> {
    let step = judge(bytes, splits);
    differ(bytes, &step, &mut scratch.text);
    let Step::Head(head) = step else {
        if let Step::Reject(reject) = step {
            assert!(matches!(reject.status(), 400..=499 | 501 | 505), "{reject}");
        }
        return None;
    };
    framing(&bytes[..head.len], &head);
    target(&head, scratch);
    conditions(&head.fields);
    meaning(&head, scratch);
    let body = &bytes[head.len..];
    let body_len = match head.framing {
        Framing::None => 0,
        Framing::Length(len) => usize::try_from(len).ok().filter(|len| *len <= body.len())?,
        Framing::Chunked => body::decode(body, splits, &mut scratch.bodies)?,
    };
    head.keep_alive.then_some(head.len + body_len)
}

/// The verdict on `bytes`, the same whole and in pieces.
fn judge<'b>(bytes: &'b [u8], splits: &mut Splits) -> Step<'b> {
    let whole = HeadParser::new().parse(bytes);
    match &whole {
        Step::Head(head) => {
            assert!(head.len <= bytes.len() && head.len <= HEAD_BYTES_MAX);
            assert!(bytes[..head.len].ends_with(b"\r\n\r\n"));
        }
        Step::NeedMore => assert!(bytes.len() <= HEAD_BYTES_MAX, "a head without an end"),
        Step::Reject(_) => {}
    }
    let cuts = splits.cuts(bytes.len());
    assert_same(&whole, &pieces(bytes, cuts.into_iter().chain([bytes.len()])), bytes);
    if splits.below(8) == 0 {
        assert_same(&whole, &pieces(bytes, 0..=bytes.len()), bytes);
    }
    whole
}

fn pieces(bytes: &[u8], ends: impl IntoIterator<Item = usize>) -> Step<'_> {
    let mut parser = HeadParser::new();
    for end in ends {
        match parser.parse(&bytes[..end]) {
            Step::NeedMore => assert_eq!(parser.has_begun(), end > 0),
            other => return other,
        }
    }
    Step::NeedMore
}

fn assert_same(whole: &Step<'_>, split: &Step<'_>, bytes: &[u8]) {
    let same = match (whole, split) {
        (Step::NeedMore, Step::NeedMore) => true,
        (Step::Reject(a), Step::Reject(b)) => a == b,
        (Step::Head(a), Step::Head(b)) => same_head(a, b),
        _ => false,
    };
    assert!(same, "{whole:?} whole, {split:?} in pieces: {}", bytes.escape_ascii());
}

fn same_head(a: &Head<'_>, b: &Head<'_>) -> bool {
    let plain = |head: &Head<'_>| {
        let Head { len, method, version, framing, keep_alive, expect_continue, .. } = *head;
        (len, method, version, framing, keep_alive, expect_continue)
    };
    plain(a) == plain(b) && a.target == b.target && each(&a.fields) == each(&b.fields)
}

fn each<'b>(fields: &Fields<'b>) -> [Option<&'b [u8]>; 10] {
    [
        fields.range,
        fields.if_range,
        fields.if_match,
        fields.if_none_match,
        fields.if_modified_since,
        fields.if_unmodified_since,
        fields.content_type,
        fields.content_encoding,
        fields.content_range,
        fields.origin,
    ]
}

/// Nothing is accepted that httparse refuses, and what both accept they read alike.
fn differ(bytes: &[u8], step: &Step<'_>, text: &mut Vec<u8>) {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut other = httparse::Request::new(&mut headers);
    let verdict = other.parse(bytes);
    match (step, verdict) {
        (Step::Head(head), Ok(httparse::Status::Complete(len))) => {
            assert_eq!(len, head.len, "ends of the head: {}", bytes.escape_ascii());
            assert_eq!(other.method, Some(name_of(head.method)));
            assert_eq!(other.path.map(str::as_bytes), Some(head.target));
            let minor = u8::from(head.version == Version::Http11);
            assert_eq!(other.version, Some(minor));
        }
        (Step::Head(_), other) => {
            panic!("accepted, and httparse says {other:?}: {}", bytes.escape_ascii())
        }
        (Step::NeedMore, Err(error)) => {
            // Not refused yet: at the latest its end has to be.
            text.clear();
            text.extend_from_slice(bytes);
            text.extend_from_slice(b"\r\n\r\n");
            let whole = HeadParser::new().parse(text);
            let accepted = matches!(whole, Step::Head(_));
            assert!(!accepted, "httparse says {error}: {}", text.escape_ascii());
        }
        _ => {}
    }
}

fn name_of(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Put => "PUT",
        Method::Post => "POST",
        Method::Delete => "DELETE",
        Method::Options => "OPTIONS",
    }
}

/// Reads the lines of an accepted head again, by the letter of RFC 9112, and comes to one framing.
fn framing(head_bytes: &[u8], head: &Head<'_>) {
    let text = head_bytes.strip_prefix(b"\r\n").unwrap_or(head_bytes);
    let text = text.strip_suffix(b"\r\n\r\n").expect("checked by judge");
    assert!(!text.iter().any(|byte| matches!(byte, 0..=8 | 11 | 12 | 14..=31 | 127)));
    let (mut lengths, mut encodings, mut hosts) = (0, 0, 0);
    let mut length = None;
    for line in text.split(|&byte| byte == b'\n').skip(1) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        assert!(!line.contains(&b'\r'), "a bare CR");
        let colon = line.iter().position(|&byte| byte == b':').expect("a field has a colon");
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        assert!(!name.is_empty() && !name.iter().any(u8::is_ascii_whitespace));
        if name.eq_ignore_ascii_case(b"content-length") {
            lengths += 1;
            length = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
            assert!(value.iter().all(u8::is_ascii_digit), "digits only");
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            encodings += 1;
            assert!(value.eq_ignore_ascii_case(b"chunked"));
        } else if name.eq_ignore_ascii_case(b"host") {
            hosts += 1;
            assert!(!value.is_empty() && !value.contains(&b'/') && !value.contains(&b'@'));
        }
    }
    assert_eq!(hosts, 1, "one Host");
    match head.framing {
        Framing::None => assert_eq!((lengths, encodings), (0, 0)),
        Framing::Length(len) => {
            assert_eq!((lengths, encodings, length), (1, 0, Some(len)));
            assert!(len <= LENGTH_MAX);
        }
        Framing::Chunked => {
            assert_eq!((lengths, encodings, head.version), (0, 1, Version::Http11));
        }
    }
    let has_body = !matches!(head.framing, Framing::None | Framing::Length(0));
    assert!(!head.expect_continue || (has_body && head.version == Version::Http11));
}

fn target(head: &Head<'_>, scratch: &mut Scratch) {
    let Ok(Target::Path { path, query }) = Target::split(head.target) else { return };
    assert!(path.starts_with(b"/"));
    if let Ok(Some(seconds)) = ttl_seconds(query) {
        assert!((1..=TTL_SECONDS_MAX).contains(&seconds));
    }
    let key = &mut scratch.key;
    if !matches!(decode_key(path, key), Ok(Decoded::Key)) {
        return;
    }
    assert!(key.len() <= KEY_BYTES_MAX && std::str::from_utf8(key).is_ok());
    assert!(!key.iter().any(|byte| matches!(byte, 0..=31 | 127 | b'\\')));
    let mut segments = 0;
    for segment in key.split(|&byte| byte == b'/') {
        assert!(!segment.is_empty() && segment != b"." && segment != b"..");
        segments += 1;
    }
    assert!(segments >= 2, "a namespace and a path");
    // Written down in its one canonical way, it names the same object.
    let text = &mut scratch.text;
    text.clear();
    text.push(b'/');
    for &byte in key.iter() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(byte);
        } else {
            let digits = b"0123456789ABCDEF";
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
            text.extend_from_slice(&[b'%', digits[high], digits[low]]);
        }
    }
    assert_eq!(decode_key(text, &mut scratch.again), Ok(Decoded::Key));
    assert_eq!(scratch.again, *key, "two names for one object");
}

fn conditions(fields: &Fields<'_>) {
    for len in LENGTHS {
        if let Selected::Part(part) = range::select(fields.range, len) {
            assert!(part.start < part.end && part.end <= len, "{part:?} of {len}");
        }
    }
    let unconditional = each(fields)[2..6].iter().all(Option::is_none);
    for etag in [None, Some(&b"0123456789abcdef"[..])] {
        for modified_s in [None, Some(784_111_777)] {
            let current = Validators { etag, modified_s };
            let outcome = conditional::evaluate(fields, current);
            assert!(!unconditional || outcome == Outcome::Proceed);
            for write in [Some(current), None] {
                let outcome = conditional::evaluate_write(fields, write);
                assert!(outcome != Outcome::NotModified, "a write is done or not");
                assert!(!unconditional || outcome == Outcome::Proceed);
            }
        }
        let applies = conditional::range_applies(fields.if_range, etag);
        assert!(applies || fields.if_range.is_some());
        assert!(!applies || fields.if_range.is_none() || etag.is_some());
    }
    for text in [fields.if_modified_since, fields.if_unmodified_since].into_iter().flatten() {
        if let Some(second) = date::parse(text) {
            assert_eq!(date::parse(&date::format(second)), Some(second));
        }
    }
}

/// What the origin makes of the head, and that its values can stand in an answer.
fn meaning(head: &Head<'_>, scratch: &mut Scratch) {
    let Ok(request) = Request::from_head(head, &scratch.policies, Vec::new()) else { return };
    if let Action::Put(plan) = &request.action {
        assert!((1..=TTL_SECONDS_MAX * 1000).contains(&plan.ttl_ms));
        assert!(plan.metadata.len() <= 1024, "{} bytes of metadata", plan.metadata.len());
        assert_eq!(plan.len.is_none(), head.framing == Framing::Chunked);
        let metadata = Metadata::decode(&plan.metadata);
        let text = &mut scratch.text;
        text.clear();
        let mut answer = ResponseHead::new(text, 200, &[b' '; DATE_LEN]);
        for value in [metadata.content_type, metadata.content_encoding].into_iter().flatten() {
            answer.field("X", value);
        }
        answer.finish();
    }
}
