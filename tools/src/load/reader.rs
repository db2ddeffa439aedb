//! Players: one that follows the live edge and one that looks back.
//!
//! Each keeps one connection and has its own schedule. The live segment becomes due when the
//! playlist naming it has arrived, which is when a player learns of it.

use std::time::{Duration, Instant};

use super::client::{Client, RequestError};
use super::content::{Content, mix};
use super::playlist::Rendition;
use super::run::{Shared, Span};
use super::stats::{Class, Due};
use super::ticker::Ticker;
use super::writer::{Newest, read_playlist};
use crate::error::ToolError;

/// A player at the live edge.
pub(crate) struct LiveReader {
    pub(crate) client: Client,
    pub(crate) rendition: Rendition,
    pub(crate) segment_bytes: u64,
    pub(crate) poll_interval: Duration,
    /// Without ingest nothing is ever new; the newest segment is then read again this often, as
    /// new ones would be.
    pub(crate) repeat_interval: Option<Duration>,
}

/// A player that reads older segments.
pub(crate) struct DvrReader {
    pub(crate) client: Client,
    /// All renditions of all streams of this thread.
    pub(crate) renditions: Vec<(Rendition, Newest)>,
    pub(crate) segment_bytes: u64,
    pub(crate) interval: Duration,
    pub(crate) window: u64,
    pub(crate) random: u64,
}

impl LiveReader {
    pub(crate) async fn run(
        mut self,
        first_due: Instant,
        span: Span,
        shared: Shared,
    ) -> Result<(), ToolError> {
        let mut ticker = Ticker::new().map_err(ToolError::Runtime)?;
        let (mut due, mut last_seen, mut body) = (first_due, None, Vec::new());
        let mut next_repeat = first_due;
        while due < span.end {
            ticker.until(due).await.map_err(ToolError::Runtime)?;
            if Instant::now() >= span.end {
                break;
            }
            let repeat = self.repeat_interval.filter(|_| due >= next_repeat);
            next_repeat += repeat.unwrap_or_default();
            self.poll(due, repeat.is_some(), span, &shared, &mut last_seen, &mut body).await;
            due += self.poll_interval;
        }
        while due < span.end {
            shared.borrow_mut().unsent(Class::PlaylistGet, due, span.end);
            due += self.poll_interval;
        }
        Ok(())
    }

    async fn poll(
        &mut self,
        due: Instant,
        repeat: bool,
        span: Span,
        shared: &Shared,
        last_seen: &mut Option<u64>,
        body: &mut Vec<u8>,
    ) {
        let playlist_due = Due::sent_now(due);
        let answer = read_playlist(&mut self.client, &self.rendition, body).await;
        let answer = answer.and_then(|last| match *last_seen {
            Some(from) if last < from => Err(RequestError::WentBack { from, to: last }),
            _ => Ok(last),
        });
        let newest = answer.as_ref().ok().copied();
        if span.measures(due) {
            let path = self.rendition.playlist_path();
            let counted = answer.map(|_| body.len() as u64);
            shared.borrow_mut().ended(Class::PlaylistGet, playlist_due, &path, &counted);
        }
        let Some(newest) = newest else { return };
        if *last_seen == Some(newest) && !repeat {
            return;
        }
        *last_seen = Some(newest);
        let path = self.rendition.segment_path(newest);
        let segment_due = Due::sent_now(Instant::now());
        let result = get_checked(&mut self.client, &path, self.segment_bytes).await;
        if span.measures(due) {
            shared.borrow_mut().ended(Class::LiveGet, segment_due, &path, &result);
        }
    }
}

impl DvrReader {
    pub(crate) async fn run(
        mut self,
        first_due: Instant,
        span: Span,
        shared: Shared,
    ) -> Result<(), ToolError> {
        assert!(!self.renditions.is_empty());
        let mut ticker = Ticker::new().map_err(ToolError::Runtime)?;
        let mut due = first_due;
        while due < span.end {
            ticker.until(due).await.map_err(ToolError::Runtime)?;
            if Instant::now() >= span.end {
                break;
            }
            let path = self.pick();
            let read_due = Due::sent_now(due);
            let result = get_checked(&mut self.client, &path, self.segment_bytes).await;
            if span.measures(due) {
                shared.borrow_mut().ended(Class::DvrGet, read_due, &path, &result);
            }
            due += self.interval;
        }
        while due < span.end {
            shared.borrow_mut().unsent(Class::DvrGet, due, span.end);
            due += self.interval;
        }
        Ok(())
    }

    /// Any rendition, any sequence of the window, except the two newest, which are the live edge.
    fn pick(&mut self) -> String {
        self.random = mix(self.random);
        let (rendition, newest) = &self.renditions[self.random as usize % self.renditions.len()];
        let last = newest.get().saturating_sub(2);
        let first = (newest.get() + 1).saturating_sub(self.window).min(last);
        let sequence = first + mix(self.random) % (last - first + 1);
        rendition.segment_path(sequence)
    }
}

/// GETs an object made by this generator and checks its length and every byte.
pub(crate) async fn get_checked(
    client: &mut Client,
    path: &str,
    expected: u64,
) -> Result<u64, RequestError> {
    let content = Content::of_path(path);
    let received = client.get(path, &mut |offset, bytes| Ok(content.check(offset, bytes)?)).await?;
    if received == expected {
        Ok(received)
    } else {
        Err(RequestError::Length { expected, received })
    }
}
