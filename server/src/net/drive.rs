//! Bodies from the drive. Their read buffers are few and shared by all connections of a thread, so
//! a client may keep some waiting for a moment only.
//!
//! A client that takes longer is slow from then on, for this answer: its buffers are given back,
//! and it is read for again, one buffer at a time, whenever its socket has room. That costs the
//! drive some bytes twice, and costs everybody else nothing.

use super::conn::{Conn, Stop, after};
use super::get::next_or_reset;
use std::ops::Range;
use std::time::Duration;
use tapeloop_engine::{Chunk, Chunks, Key};
use tokio::time::{Instant, timeout_at};

/// How long a client may keep buffers waiting before it counts as slow.
const HOLD_MAX: Duration = Duration::from_millis(1000);
/// How long a slow one may keep its one buffer waiting.
const HOLD_SLOW_MAX: Duration = Duration::from_millis(50);
/// What is read at once for a slow one: one buffer.
const WINDOW_BYTES: u64 = 256 << 10;

/// What is being sent: these bytes of this version of the object.
pub(super) struct FromDrive<'k> {
    pub(super) key: &'k Key,
    pub(super) hash: [u8; 16],
    pub(super) range: Range<u64>,
}

impl Conn {
    /// Sends the waiting head with the first chunk, then every chunk while the next is being read.
    pub(super) async fn stream_from_drive(
        &mut self,
        from: FromDrive<'_>,
        first: Chunk,
        mut chunks: Chunks,
    ) -> Result<(), Stop> {
        let head = Chunk::from(std::mem::take(&mut self.out));
        let mut position = from.range.start + first.len() as u64;
        let mut parts = vec![head, first];
        while position < from.range.end {
            let (unsent, next) = tokio::join!(self.send_held(parts, HOLD_MAX), chunks.next());
            let unsent = unsent?;
            if !unsent.is_empty() {
                drop((next, chunks));
                return self.go_on_slowly(from, position, unsent).await;
            }
            let chunk = next_or_reset(next)?;
            position += chunk.len() as u64;
            parts = vec![chunk];
        }
        if position != from.range.end {
            return Err(Stop::Reset);
        }
        let unsent = self.send_held(parts, HOLD_MAX).await?;
        drop(chunks);
        self.go_on_slowly(from, position, unsent).await
    }

    /// Sends what is left for a slow client, holding nothing while its socket is full.
    async fn go_on_slowly(
        &mut self,
        from: FromDrive<'_>,
        position: u64,
        unsent: Vec<Chunk>,
    ) -> Result<(), Stop> {
        // A head is ours and small: it is kept. The rest is read again.
        let (head, body): (Vec<Chunk>, Vec<Chunk>) =
            unsent.into_iter().partition(|part| matches!(part, Chunk::Heap(..)));
        let mut position = position - body.iter().map(|part| part.len() as u64).sum::<u64>();
        drop(body);
        self.send_all(head).await?;
        while position < from.range.end {
            self.expect_send();
            self.socket.writable().await.map_err(|_| Stop::Gone)?;
            let window = position..from.range.end.min(position + WINDOW_BYTES);
            let mut chunks = self.reopen(&from, window.clone()).await?;
            while position < window.end {
                let chunk = next_or_reset(chunks.next().await)?;
                position += chunk.len() as u64;
                let unsent = self.send_held(vec![chunk], HOLD_SLOW_MAX).await?;
                if !unsent.is_empty() {
                    position -= unsent.iter().map(|part| part.len() as u64).sum::<u64>();
                    break;
                }
            }
        }
        self.socket.clear_deadline();
        Ok(())
    }

    /// The same version again. Another one, or none, cannot complete what was begun.
    async fn reopen(&self, from: &FromDrive<'_>, window: Range<u64>) -> Result<Chunks, Stop> {
        match self.thread.engine.head(from.key).await {
            Ok(Some(object))
                if object.info().content_hash == from.hash
                    && object.info().len.is_some_and(|len| window.end <= len) =>
            {
                Ok(object.read(window))
            }
            _ => Err(Stop::Reset),
        }
    }

    /// Sends `parts`, but gives back what the client has not taken after `hold`.
    async fn send_held(&self, mut parts: Vec<Chunk>, hold: Duration) -> Result<Vec<Chunk>, Stop> {
        let until = Instant::now() + hold;
        loop {
            self.expect_send();
            let (result, back) = self.socket.write_chunks(parts).await;
            parts = after(back, self.sent(result)?);
            if parts.is_empty() {
                self.socket.clear_deadline();
                return Ok(parts);
            }
            // A short write: the socket is full. A write now would stay in flight, buffers and all.
            match timeout_at(until, self.socket.writable()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Stop::Gone),
                Err(_) => return Ok(parts),
            }
        }
    }
}
