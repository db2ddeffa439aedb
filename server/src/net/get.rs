//! GET and HEAD: conditions, ranges, and bytes to the socket while the next are being read.

use super::conn::{Conn, Stop, Terms};
use super::stream::next_or_reset;
use crate::http::conditional::{self, Outcome, Validators};
use crate::http::head::Fields;
use crate::http::range::{self, Selected};
use crate::http::response::{CHUNK_END, LAST_CHUNK, push_chunk_size};
use crate::origin::request::{Conditions, Extent};
use crate::origin::respond::{self, View};
use crate::origin::{Failure, respond::Stamp};
use std::ops::Range;
use std::time::Instant;
use tapeloop_engine::{Chunk, Chunks, Key, Object};

/// Bodies up to this length leave with their head in one write.
const SMALL_BODY_MAX: u64 = 16 << 10;

impl Conn {
    pub(super) async fn get(
        &mut self,
        key: &Key,
        conditions: Option<&Conditions>,
        terms: Terms,
    ) -> Result<(), Stop> {
        let started = Instant::now();
        // A HEAD, a condition or a range from the middle would read the first bytes for nothing.
        let extent = match terms.is_head {
            true => Extent::Unknown,
            false => conditions.map_or(Extent::Whole, Conditions::extent),
        };
        let engine = &self.thread.engine;
        let found = match extent {
            Extent::Whole => engine.get(key).await,
            Extent::Start => engine.get_start(key).await,
            Extent::Unknown => engine.head(key).await,
        };
        match found {
            Err(error) => self.fail(&error.into(), terms).await,
            Ok(None) => self.fail(&Failure::NotFound, terms).await,
            Ok(Some(object)) if object.info().len.is_none() => {
                self.follow(key, &object, terms).await
            }
            Ok(Some(object)) => self.sealed(key, object, conditions, terms, started).await,
        }
    }

    /// Answers a failure; the request has no body left to read.
    pub(super) async fn fail(&mut self, failure: &Failure, terms: Terms) -> Result<(), Stop> {
        let answer = failure.answer();
        let stamp = self.thread.stamp(terms.keep_alive && !answer.close, terms.is_http10);
        respond::failure(&mut self.out, &stamp, failure, terms.is_head);
        self.answered(answer.status, stamp.keep_alive).await
    }

    async fn sealed(
        &mut self,
        key: &Key,
        object: Object,
        conditions: Option<&Conditions>,
        terms: Terms,
        started: Instant,
    ) -> Result<(), Stop> {
        let view = view(key, &object);
        let stamp = self.thread.stamp(terms.keep_alive, terms.is_http10);
        let fields = conditions.map_or(Fields::default(), Conditions::fields);
        let (status, range) = match select(&view, &fields, terms.is_head) {
            Ok(selected) => selected,
            Err(failure) => {
                // It may hold read buffers, and the answer may wait for a slow client.
                drop(object);
                return self.fail(&failure, terms).await;
            }
        };
        if status == 304 {
            respond::not_modified(&mut self.out, &stamp, &view);
            drop(object);
            return self.answered(status, stamp.keep_alive).await;
        }
        if terms.is_head || range.is_empty() {
            self.describe(&stamp, &object, &view, status, range);
            drop(object);
            return self.answered(status, stamp.keep_alive).await;
        }
        let mut chunks = object.read(range.clone());
        let first = match chunks.next().await {
            Some(Ok(first)) => first,
            // Nothing was sent yet, so the client can be told in words.
            Some(Err(error)) => return self.fail(&error.into(), terms).await,
            None => return Err(Stop::Reset),
        };
        self.describe(&stamp, &object, &view, status, range.clone());
        self.latency(started);
        let is_in_arena = object.info().in_arena;
        // It may hold a read buffer, and nobody may wait for a second one while holding a first.
        drop(object);
        let len = range.end - range.start;
        if len <= SMALL_BODY_MAX {
            self.append_small(first, &mut chunks, len).await?;
        } else if is_in_arena {
            self.stream_from_arena(range, first, chunks).await?;
        } else {
            self.stream_from_drive(range, first, chunks).await?;
        }
        self.answered(status, stamp.keep_alive).await
    }

    /// Puts the head of a 200 or 206 into the buffer. Most of it is the same in every answer.
    fn describe(
        &mut self,
        stamp: &Stamp,
        object: &Object,
        view: &View<'_>,
        status: u16,
        range: Range<u64>,
    ) {
        let made;
        let description = match object.noted(|| respond::description(view)) {
            Some(lines) => lines,
            None => {
                made = respond::description(view);
                &made
            }
        };
        respond::object(&mut self.out, stamp, view, description, status, range);
    }

    /// Puts a small body behind its head.
    async fn append_small(
        &mut self,
        first: Chunk,
        chunks: &mut Chunks,
        len: u64,
    ) -> Result<(), Stop> {
        let mut left = len;
        let mut chunk = first;
        loop {
            self.out.extend_from_slice(&chunk);
            left = left.checked_sub(chunk.len() as u64).ok_or(Stop::Reset)?;
            // Nobody may wait for a second read buffer while holding a first.
            drop(chunk);
            if left == 0 {
                return Ok(());
            }
            chunk = next_or_reset(chunks.next().await)?;
        }
    }

    /// Sends an upload in progress as its bytes arrive. It ends with the upload; if that is
    /// abandoned, with a reset, so that no cache takes the part for the whole.
    async fn follow(&mut self, key: &Key, object: &Object, terms: Terms) -> Result<(), Stop> {
        let keep_alive = terms.keep_alive && !terms.is_http10;
        let stamp: Stamp = self.thread.stamp(keep_alive, terms.is_http10);
        let view = view(key, object);
        if terms.is_head {
            respond::in_progress(&mut self.out, &stamp, &view);
            return self.answered(200, stamp.keep_alive).await;
        }
        // Earlier answers must not wait for an encoder.
        self.flush().await?;
        let mut chunks = object.follow();
        let mut next = match chunks.next().await {
            Some(Err(error)) => return self.fail(&error.into(), terms).await,
            next => next,
        };
        respond::in_progress(&mut self.out, &stamp, &view);
        self.flush().await?;
        loop {
            let chunk = match next {
                None => break,
                Some(Err(_)) => return Err(Stop::Reset),
                Some(Ok(chunk)) => chunk,
            };
            if terms.is_http10 {
                self.send_followed(vec![chunk]).await?;
            } else if !chunk.is_empty() {
                self.send_framed(chunk).await?;
            }
            next = chunks.next().await;
        }
        if !terms.is_http10 {
            self.out.extend_from_slice(LAST_CHUNK);
        }
        self.answered(200, stamp.keep_alive).await
    }

    async fn send_framed(&mut self, chunk: Chunk) -> Result<(), Stop> {
        push_chunk_size(&mut self.out, chunk.len());
        if chunk.len() as u64 <= SMALL_BODY_MAX {
            self.out.extend_from_slice(&chunk);
            self.out.extend_from_slice(CHUNK_END);
            return self.flush().await;
        }
        let size = Chunk::from(std::mem::take(&mut self.out));
        self.send_followed(vec![size, chunk, Chunk::from(CHUNK_END.to_vec())]).await
    }

    fn latency(&self, started: Instant) {
        let latency_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.thread.counters.get_latency.record(latency_us);
    }
}

fn view<'o>(key: &'o Key, object: &'o Object) -> View<'o> {
    let info = object.info();
    View {
        key: key.as_bytes(),
        len: info.len,
        content_hash: info.content_hash,
        created_wall_ms: info.created_wall_ms,
        remaining_ms: info.remaining_ms,
        metadata: &info.metadata,
    }
}

/// Status and bytes of the answer for a sealed object.
fn select(
    view: &View<'_>,
    fields: &Fields<'_>,
    is_head: bool,
) -> Result<(u16, Range<u64>), Failure> {
    let len = view.len.expect("a sealed object has a length");
    let etag = respond::etag(&view.content_hash);
    let validators =
        Validators { etag: Some(&etag), modified_s: Some(view.created_wall_ms / 1000) };
    match conditional::evaluate(fields, validators) {
        Outcome::Failed => return Err(Failure::Precondition),
        Outcome::NotModified => return Ok((304, 0..0)),
        Outcome::Proceed => {}
    }
    // Range is defined for GET alone.
    let applies = !is_head && conditional::range_applies(fields.if_range, Some(&etag));
    match range::select(fields.range.filter(|_| applies), len) {
        Selected::Whole => Ok((200, 0..len)),
        Selected::Part(range) => Ok((206, range)),
        Selected::Unsatisfiable => Err(Failure::RangeNotSatisfiable { len }),
    }
}
