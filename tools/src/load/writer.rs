//! The encoder of one rendition: every segment duration one segment, then the playlist naming it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::client::{Client, RequestError};
use super::content::Content;
use super::playlist::Rendition;
use super::run::{Shared, Span};
use super::stats::{Class, Due};
use super::ticker::Ticker;
use crate::error::ToolError;

/// The newest sequence of a rendition whose playlist was acknowledged.
pub(crate) type Newest = Rc<Cell<u64>>;

/// One rendition being pushed.
pub(crate) struct Writer {
    pub(crate) client: Client,
    pub(crate) rendition: Rendition,
    pub(crate) newest: Newest,
    pub(crate) segment_bytes: u64,
    pub(crate) segment_duration: Duration,
    pub(crate) query: String,
    /// Delete the segment this many behind the newest, as encoders with a sliding window do.
    pub(crate) delete_behind: Option<u64>,
}

impl Writer {
    /// Stores segments up to and including `last` as fast as they are taken.
    pub(crate) async fn prefill(&mut self, last: u64) -> Result<(), RequestError> {
        for sequence in 0..=last {
            self.put_segment(sequence).await?;
        }
        self.put_playlist(last).await?;
        self.newest.set(last);
        Ok(())
    }

    /// Learns the newest sequence from the origin, when nothing is pushed in this run.
    pub(crate) async fn learn(&mut self) -> Result<(), RequestError> {
        let last = read_playlist(&mut self.client, &self.rendition, &mut Vec::new()).await?;
        self.newest.set(last);
        Ok(())
    }

    pub(crate) async fn run(
        mut self,
        first_due: Instant,
        span: Span,
        shared: Shared,
    ) -> Result<(), ToolError> {
        let mut ticker = Ticker::new().map_err(ToolError::Runtime)?;
        let mut due = first_due;
        while due < span.end {
            ticker.until(due).await.map_err(ToolError::Runtime)?;
            if Instant::now() >= span.end {
                break;
            }
            self.push_one(due, span, &shared).await;
            due += self.segment_duration;
        }
        while due < span.end {
            shared.borrow_mut().unsent(Class::SegmentPut, due, span.end);
            due += self.segment_duration;
        }
        Ok(())
    }

    async fn push_one(&mut self, due: Instant, span: Span, shared: &Shared) {
        let sequence = self.newest.get() + 1;
        let measured = span.measures(due);
        let segment_due = Due::sent_now(due);
        let result = self.put_segment(sequence).await;
        if measured {
            let path = self.rendition.segment_path(sequence);
            shared.borrow_mut().ended(Class::SegmentPut, segment_due, &path, &result);
        }
        if result.is_err() {
            // Encoders do not retry; this one leaves the sequence for the next segment, so that a
            // refused PUT is counted once and not again by every reader.
            return;
        }
        let playlist_due = Due::sent_now(Instant::now());
        let result = self.put_playlist(sequence).await;
        if measured {
            let path = self.rendition.playlist_path();
            shared.borrow_mut().ended(Class::PlaylistPut, playlist_due, &path, &result);
        }
        // The playlist may be stored even when its answer was lost: the sequence is taken.
        self.newest.set(sequence);
        let old = self.delete_behind.and_then(|behind| sequence.checked_sub(behind));
        if let Some(old) = old {
            let due = Due::sent_now(Instant::now());
            let path = self.rendition.segment_path(old);
            let result = self.client.delete(&path).await;
            if measured {
                shared.borrow_mut().ended(Class::Delete, due, &path, &result);
            }
        }
    }

    async fn put_segment(&mut self, sequence: u64) -> Result<u64, RequestError> {
        let path = self.rendition.segment_path(sequence);
        let content = Content::of_path(&path);
        self.client.put(&(path + &self.query), content, self.segment_bytes).await
    }

    async fn put_playlist(&mut self, last: u64) -> Result<u64, RequestError> {
        let path = self.rendition.playlist_path() + &self.query;
        self.client.put_text(&path, &self.rendition.playlist(last)).await
    }
}

/// GETs and checks a playlist; gives its last sequence. `body` is left holding its text.
pub(crate) async fn read_playlist(
    client: &mut Client,
    rendition: &Rendition,
    body: &mut Vec<u8>,
) -> Result<u64, RequestError> {
    body.clear();
    client
        .get(&rendition.playlist_path(), &mut |_, bytes| {
            body.extend_from_slice(bytes);
            Ok(())
        })
        .await?;
    Ok(rendition.check(body)?)
}
