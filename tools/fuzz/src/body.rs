//! Chunked bodies: any bytes, however split, give one decoded body or one refusal, and what is
//! accepted means the same to a second, simple reader.

use std::cell::RefCell;

use tapeloop_server::http::chunked::{CHUNK_BYTES_MAX, ChunkError, Decoder, Step};

use crate::splits::Splits;

/// Decoded bodies of one input, in memory that is used again.
#[derive(Debug, Default)]
pub struct Bodies {
    whole: Vec<u8>,
    other: Vec<u8>,
}

thread_local! {
    static BODIES: RefCell<Bodies> = RefCell::default();
}

/// The body of a request from any bytes.
pub fn chunked(bytes: &[u8]) {
    BODIES.with_borrow_mut(|bodies| {
        decode(bytes, &mut Splits::of(bytes), bodies);
    });
}

/// Checks everything about the body at the start of `bytes`; gives its length when it is whole.
pub(crate) fn decode(bytes: &[u8], splits: &mut Splits, bodies: &mut Bodies) -> Option<usize> {
    let whole = run(bytes, [bytes.len()], false, &mut bodies.whole);
    let cuts = splits.cuts(bytes.len());
    let ends = cuts.into_iter().chain([bytes.len()]);
    let is_direct = splits.below(2) == 0;
    let split = run(bytes, ends, is_direct, &mut bodies.other);
    assert_eq!(split, whole, "split at {cuts:?}");
    assert_eq!(bodies.other, bodies.whole, "split at {cuts:?}");
    if splits.below(8) == 0 {
        let bytewise = run(bytes, 0..=bytes.len(), is_direct, &mut bodies.other);
        assert_eq!(bytewise, whole, "byte by byte");
        assert_eq!(bodies.other, bodies.whole, "byte by byte");
    }
    assert!(bodies.whole.len() <= bytes.len(), "more decoded than received");
    let Ok(Some(consumed)) = whole else { return None };
    assert!(consumed <= bytes.len());
    bodies.other.clear();
    let reference = reference(bytes, &mut bodies.other);
    assert_eq!(reference, Some(consumed), "the second reader does not accept it");
    assert_eq!(bodies.other, bodies.whole, "the second reader reads another body");
    Some(consumed)
}

/// Decodes in runs that end at `ends`. `is_direct`: data at the start of a run goes past the
/// decoder, as it does from a socket straight into its final memory.
fn run(
    bytes: &[u8],
    ends: impl IntoIterator<Item = usize>,
    is_direct: bool,
    body: &mut Vec<u8>,
) -> Result<Option<usize>, ChunkError> {
    let mut decoder = Decoder::new();
    let mut start = 0;
    body.clear();
    for end in ends {
        while start < end {
            let remaining = decoder.remaining();
            assert!(remaining <= CHUNK_BYTES_MAX);
            if is_direct && remaining > 0 {
                let len = usize::try_from(remaining).unwrap_or(usize::MAX).min(end - start);
                body.extend_from_slice(&bytes[start..start + len]);
                decoder.received(len as u64);
                start += len;
                continue;
            }
            match decoder.step(&bytes[start..end])? {
                Step::NeedMore => start = end,
                Step::Data { skip, len } => {
                    assert!(len > 0, "a run of data has bytes");
                    body.extend_from_slice(&bytes[start + skip..start + skip + len]);
                    start += skip + len;
                }
                Step::Done { consumed } => {
                    assert!(consumed > 0 && start + consumed <= end);
                    return Ok(Some(start + consumed));
                }
            }
        }
    }
    Ok(None)
}

/// Reads a whole body the way httparse understands chunk sizes; trailers end with an empty line.
fn reference(bytes: &[u8], body: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    loop {
        let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(&bytes[at..])
        else {
            return None;
        };
        at += line;
        if size == 0 {
            break;
        }
        let data = bytes[at..].get(..usize::try_from(size).ok()?)?;
        body.extend_from_slice(data);
        at += data.len();
        if bytes.get(at..at + 2)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
    let mut headers = [httparse::EMPTY_HEADER; 64];
    match httparse::parse_headers(&bytes[at..], &mut headers) {
        Ok(httparse::Status::Complete((len, _))) => Some(at + len),
        _ => None,
    }
}
