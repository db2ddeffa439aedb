//! Response heads: which headers go with which answer. Bytes are appended to a reusable buffer.

use crate::http::date::DATE_LEN;
use crate::http::response::{ResponseHead, push_decimal, reason_phrase};
use crate::origin::media::{self, Kind, OCTET_STREAM};
use crate::origin::metadata::Metadata;
use crate::origin::{Failure, cache};
use std::ops::Range;

/// On every answer: any page may play from here and measure how long it took.
const CORS: &str = "Access-Control-Allow-Origin: *\r\n\
     Access-Control-Expose-Headers: Accept-Ranges, Content-Length, Content-Range, Date, ETag\r\n\
     Timing-Allow-Origin: *\r\n";

/// On every OPTIONS answer. Pages of other origins may read, never write: nothing but a browser's
/// refusal would stand between any web page and an origin on the loopback interface.
const PREFLIGHT: &str = "Access-Control-Allow-Methods: GET, HEAD, OPTIONS\r\n\
     Access-Control-Allow-Headers: Range, If-Range, If-Match, If-None-Match, If-Modified-Since, \
     If-Unmodified-Since, Content-Type, Authorization, Cache-Control, CMCD-Object, CMCD-Request, \
     CMCD-Session, CMCD-Status\r\n\
     Access-Control-Max-Age: 86400\r\n";

/// The methods there are.
const ALLOW: &str = "Allow: GET, HEAD, PUT, POST, DELETE, OPTIONS\r\n";

/// What every answer of this moment shares.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// The HTTP date of now.
    pub date: [u8; DATE_LEN],
    /// Whether the connection stays open after this answer.
    pub keep_alive: bool,
    /// Whether the client spoke HTTP/1.0 and needs to be told so.
    pub is_http10: bool,
}

/// What the engine knows about an object.
#[derive(Clone, Copy, Debug)]
pub struct View<'o> {
    /// Its key.
    pub key: &'o [u8],
    /// Its length; `None` while it is being uploaded.
    pub len: Option<u64>,
    /// Hash of its bytes.
    pub content_hash: [u8; 16],
    /// When it was created.
    pub created_wall_ms: u64,
    /// Life left.
    pub remaining_ms: u64,
    /// Stored metadata.
    pub metadata: &'o [u8],
}

/// An entity tag without quotes: the content hash in hexadecimal.
pub fn etag(content_hash: &[u8; 16]) -> [u8; 32] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(content_hash) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    text
}

/// The lines that are the same in every 200 and 206 of a sealed object.
pub fn description(view: &View<'_>) -> Box<[u8]> {
    let mut lines = Vec::with_capacity(256);
    let mut head = ResponseHead::lines_only(&mut lines);
    describe(&mut head, view);
    validators(&mut head, view);
    lines.into()
}

/// The head of 200 or 206 for a sealed object with this `description`.
pub fn object(
    out: &mut Vec<u8>,
    stamp: &Stamp,
    view: &View<'_>,
    description: &[u8],
    status: u16,
    range: Range<u64>,
) {
    let len = view.len.expect("a sealed object has a length");
    let mut head = start(out, stamp, status);
    head.number("Content-Length", range.end - range.start);
    if status == 206 {
        let last = range.end - 1;
        head.formatted("Content-Range", format_args!("bytes {}-{last}/{len}", range.start));
    }
    head.lines(description);
    cache::write(&mut head, kind(view), view.remaining_ms);
    head.finish();
}

/// The head of 304 for a sealed object.
pub fn not_modified(out: &mut Vec<u8>, stamp: &Stamp, view: &View<'_>) {
    let mut head = start(out, stamp, 304);
    validators(&mut head, view);
    cache::write(&mut head, kind(view), view.remaining_ms);
    head.finish();
}

/// The head of 200 for an upload in progress: no length, no tag, no copy.
pub fn in_progress(out: &mut Vec<u8>, stamp: &Stamp, view: &View<'_>) {
    let mut head = start(out, stamp, 200);
    if !stamp.is_http10 {
        head.lines("Transfer-Encoding: chunked\r\n");
    }
    describe(&mut head, view);
    head.field("Cache-Control", cache::NO_STORE);
    head.finish();
}

/// The answer to a PUT that was kept.
pub fn stored(out: &mut Vec<u8>, stamp: &Stamp, replaced: bool, hash: &[u8; 16], ack: &str) {
    let mut head = start(out, stamp, if replaced { 204 } else { 201 });
    if !replaced {
        head.number("Content-Length", 0);
    }
    write_etag(&mut head, hash);
    head.field("Tapeloop-Ack", ack);
    head.finish();
}

/// The answer to a DELETE that found something.
pub fn deleted(out: &mut Vec<u8>, stamp: &Stamp) {
    start(out, stamp, 204).finish();
}

/// The answer to OPTIONS, preflight or not.
pub fn options(out: &mut Vec<u8>, stamp: &Stamp) {
    let mut head = start(out, stamp, 204);
    head.lines(ALLOW).lines(PREFLIGHT);
    head.finish();
}

/// The answer to a failure: a problem document of one line, without it for HEAD.
pub fn failure(out: &mut Vec<u8>, stamp: &Stamp, failure: &Failure, is_head: bool) {
    let answer = failure.answer();
    let body = problem(answer.status, &failure.to_string());
    let mut head = start(out, stamp, answer.status);
    head.field("Content-Type", "application/problem+json");
    head.number("Content-Length", body.len() as u64);
    head.field("Cache-Control", answer.cache_control);
    if let Some(seconds) = answer.retry_after_s {
        head.number("Retry-After", seconds);
    }
    if answer.status == 405 || answer.status == 501 {
        head.lines(ALLOW);
    }
    if let Failure::RangeNotSatisfiable { len } = failure {
        head.formatted("Content-Range", format_args!("bytes */{len}"));
    }
    head.finish();
    if !is_head {
        out.extend_from_slice(&body);
    }
}

fn problem(status: u16, detail: &str) -> Vec<u8> {
    let title = serde_json::Value::from(reason_phrase(status));
    let detail = serde_json::Value::from(detail);
    let mut body = Vec::with_capacity(160);
    body.extend_from_slice(b"{\"type\":\"about:blank\",\"title\":");
    body.extend_from_slice(title.to_string().as_bytes());
    body.extend_from_slice(b",\"status\":");
    push_decimal(&mut body, u64::from(status));
    body.extend_from_slice(b",\"detail\":");
    body.extend_from_slice(detail.to_string().as_bytes());
    body.extend_from_slice(b"}\n");
    body
}

fn start<'o>(out: &'o mut Vec<u8>, stamp: &Stamp, status: u16) -> ResponseHead<'o> {
    let mut head = ResponseHead::new(out, status, &stamp.date);
    match (stamp.keep_alive, stamp.is_http10) {
        (false, _) => head.lines("Connection: close\r\n"),
        (true, true) => head.lines("Connection: keep-alive\r\n"),
        (true, false) => &mut head,
    };
    head.lines(CORS);
    head
}

fn describe(head: &mut ResponseHead<'_>, view: &View<'_>) {
    let metadata = Metadata::decode(view.metadata);
    let by_extension = media::of_key(view.key).map_or(OCTET_STREAM, |(mime, _)| mime);
    head.field("Content-Type", metadata.content_type.unwrap_or(by_extension.as_bytes()));
    if let Some(encoding) = metadata.content_encoding {
        head.field("Content-Encoding", encoding);
    }
}

fn validators(head: &mut ResponseHead<'_>, view: &View<'_>) {
    write_etag(head, &view.content_hash);
    head.field("Last-Modified", crate::http::date::format(view.created_wall_ms / 1000));
    head.lines("Accept-Ranges: bytes\r\n");
}

fn kind(view: &View<'_>) -> Kind {
    media::of_key(view.key).map_or(Kind::Other, |(_, kind)| kind)
}

fn write_etag(head: &mut ResponseHead<'_>, content_hash: &[u8; 16]) {
    let text = etag(content_hash);
    let text = std::str::from_utf8(&text).expect("hexadecimal is ASCII");
    head.formatted("ETag", format_args!("\"{text}\""));
}
