//! Bodies too large for one write. Arena blocks and read buffers are shared by everybody, so a
//! client may keep some waiting for a moment only.
//!
//! A client that takes longer is slow from then on, for this answer: what it keeps is given back,
//! and is fetched again, a little at a time, whenever its socket has room. That costs the drive
//! some bytes twice, and costs everybody else nothing.

use super::conn::{Conn, Stop, after};
use std::ops::Range;
use std::time::{Duration, Instant};
use tapeloop_engine::{Chunk, Chunks, timeout_at};

/// How long a client may keep memory waiting before it counts as slow.
const HOLD_MAX: Duration = Duration::from_millis(1000);
/// How long a slow one may.
const HOLD_SLOW_MAX: Duration = Duration::from_millis(50);
/// What is fetched at once for a slow one: one read buffer.
const WINDOW_BYTES: u64 = 256 << 10;
/// From this length on an answer is worth a larger send buffer.
const LARGE_BYTES_MIN: u64 = 1 << 20;
/// How bytes leave.
#[derive(Clone, Copy)]
enum Way {
    Copy,
    /// The network keeps the arena's pages: the cheaper way for many readers of the same.
    Lend,
}

/// Arena blocks that leave in one write: they are at hand, and every write is a turn of the ring.
const ARENA_BATCH: usize = 8;

impl Conn {
    /// Sends the waiting head with the first blocks, then batches of blocks.
    pub(super) async fn stream_from_arena(
        &mut self,
        range: Range<u64>,
        first: Chunk,
        mut chunks: Chunks,
    ) -> Result<(), Stop> {
        let way = if chunks.is_popular() { Way::Lend } else { Way::Copy };
        let head = Chunk::from(std::mem::take(&mut self.out));
        let mut position = range.start + first.len() as u64;
        let mut parts = vec![head, first];
        let mut batch_len = ARENA_BATCH + 1;
        loop {
            while position < range.end && parts.len() < batch_len {
                let chunk = next_or_reset(chunks.next().await)?;
                position += chunk.len() as u64;
                parts.push(chunk);
            }
            let unsent = self.send_held(parts, HOLD_MAX, way).await?;
            if !unsent.is_empty() {
                return self.go_on_slowly(chunks, position, range.end, unsent).await;
            }
            if position >= range.end {
                break;
            }
            self.judge_speed(&range);
            batch_len = ARENA_BATCH;
            parts = Vec::with_capacity(batch_len);
        }
        if position == range.end { Ok(()) } else { Err(Stop::Reset) }
    }

    /// Sends the waiting head with the first chunk, then every chunk while the next is being read.
    pub(super) async fn stream_from_drive(
        &mut self,
        range: Range<u64>,
        first: Chunk,
        mut chunks: Chunks,
    ) -> Result<(), Stop> {
        let head = Chunk::from(std::mem::take(&mut self.out));
        let mut position = range.start + first.len() as u64;
        let mut parts = vec![head, first];
        while position < range.end {
            let (unsent, next) =
                tokio::join!(self.send_held(parts, HOLD_MAX, Way::Copy), chunks.next());
            let unsent = unsent?;
            if !unsent.is_empty() {
                drop(next);
                return self.go_on_slowly(chunks, position, range.end, unsent).await;
            }
            self.judge_speed(&range);
            let chunk = next_or_reset(next)?;
            position += chunk.len() as u64;
            parts = vec![chunk];
        }
        if position != range.end {
            return Err(Stop::Reset);
        }
        let unsent = self.send_held(parts, HOLD_MAX, Way::Copy).await?;
        match unsent.is_empty() {
            true => Ok(()),
            false => self.go_on_slowly(chunks, position, range.end, unsent).await,
        }
    }

    /// It took a first part of its answer without delay.
    fn judge_speed(&self, range: &Range<u64>) {
        if range.end - range.start >= LARGE_BYTES_MIN {
            self.socket.set_fast(true);
        }
    }

    /// Sends what is left for a slow client, holding nothing while its socket is full.
    async fn go_on_slowly(
        &mut self,
        mut chunks: Chunks,
        position: u64,
        end: u64,
        unsent: Vec<Chunk>,
    ) -> Result<(), Stop> {
        self.socket.set_fast(false);
        // A head is ours and small: it is kept. The rest is fetched again.
        let (head, body): (Vec<Chunk>, Vec<Chunk>) =
            unsent.into_iter().partition(|part| matches!(part, Chunk::Heap(..)));
        let mut position = position - Chunk::len_of(&body) as u64;
        chunks.seek(position..position);
        drop(body);
        self.send_all(head).await?;
        while position < end {
            self.expect_send();
            self.socket.writable().await.map_err(|_| Stop::Gone)?;
            self.waited_for_room();
            let window_end = end.min(position + WINDOW_BYTES);
            chunks.seek(position..window_end);
            while position < window_end {
                let chunk = next_or_reset(chunks.next().await)?;
                position += chunk.len() as u64;
                let unsent = self.send_held(vec![chunk], HOLD_SLOW_MAX, Way::Copy).await?;
                if !unsent.is_empty() {
                    position -= Chunk::len_of(&unsent) as u64;
                    break;
                }
            }
            chunks.seek(position..position);
        }
        self.socket.clear_deadline();
        Ok(())
    }

    /// Sends what a follower waits for. An upload cannot be fetched again as long as it is one, so
    /// for a slow client the bytes are copied, and the arena has its block back.
    pub(super) async fn send_followed(&mut self, parts: Vec<Chunk>) -> Result<(), Stop> {
        let unsent = self.send_held(parts, HOLD_MAX, Way::Copy).await?;
        if unsent.is_empty() {
            return Ok(());
        }
        if !self.extra.set(Chunk::len_of(&unsent)) {
            return Err(Stop::Reset);
        }
        let copy: Vec<u8> = unsent.iter().flat_map(|part| part.iter().copied()).collect();
        drop(unsent);
        self.send_all(vec![Chunk::from(copy)]).await?;
        assert!(self.extra.set(0), "giving back is always possible");
        Ok(())
    }

    /// Sends `parts`, but gives back what the client has not taken after `hold`.
    async fn send_held(
        &self,
        mut parts: Vec<Chunk>,
        hold: Duration,
        way: Way,
    ) -> Result<Vec<Chunk>, Stop> {
        let mut until = None;
        loop {
            self.expect_send();
            parts = match way {
                Way::Copy => {
                    let (result, back) = self.socket.write_chunks(parts).await;
                    let count = self.sent(result, Chunk::len_of(&back))?;
                    after(back, count)
                }
                Way::Lend => {
                    let result = self.socket.lend_chunks(&parts).await;
                    let is_full = matches!(result, Ok(0));
                    let count = if is_full { 0 } else { self.sent(result, Chunk::len_of(&parts))? };
                    after(parts, count)
                }
            };
            if parts.is_empty() {
                self.socket.clear_deadline();
                return Ok(parts);
            }
            // A short write: the socket is full. A write now would stay in flight, memory and all.
            self.expect_send();
            let until = *until.get_or_insert_with(|| Instant::now() + hold);
            let room = timeout_at(until, self.socket.writable()).await;
            self.waited_for_room();
            match room {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Stop::Gone),
                Err(_) => return Ok(parts),
            }
        }
    }
}

pub(super) fn next_or_reset<E>(next: Option<Result<Chunk, E>>) -> Result<Chunk, Stop> {
    match next {
        Some(Ok(chunk)) => Ok(chunk),
        Some(Err(_)) | None => Err(Stop::Reset),
    }
}
