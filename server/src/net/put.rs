//! PUT, POST and DELETE: admission, body into the arena, acknowledgement.
//!
//! An upload that does not reach its commit is dropped, by whatever end of this function: no
//! object, its space returns, followers are cut off.

use super::body::Body;
use super::conn::{Conn, Fault, Stop, Terms};
use super::deadline;
use super::socket::Expiry;
use crate::config;
use crate::http::chunked::Step;
use crate::http::conditional::{Outcome, Validators, evaluate_write};
use crate::http::response::CONTINUE;
use crate::origin::request::{Conditions, PutPlan};
use crate::origin::{Failure, respond};
use std::time::Instant;
use tapeloop_engine::{Ack, Key, PutError, PutOptions, Upload, clock};

/// An encoder may keep the end of a run to itself until what it sent before is acknowledged. In the
/// midst of a long one the kernel acknowledges in time by itself.
const QUICKACK_MAX: u64 = 64 << 10;
/// Runs of body bytes from this length on are received straight into the arena.
const DIRECT_MIN: u64 = 16 << 10;
/// One receive takes no more than this, ...
const RECEIVE_MAX: u64 = 256 << 10;
/// ... and at first, or when the one before was not full, than this.
const RECEIVE_START: u64 = 64 << 10;

impl Conn {
    pub(super) async fn put(
        &mut self,
        plan: PutPlan,
        mut body: Body,
        terms: Terms,
    ) -> Result<(), Stop> {
        self.is_ingest = true;
        let upload = match self.admit(&plan).await {
            Ok(upload) => upload,
            Err(failure) => return self.refuse(&failure, body, terms).await,
        };
        if terms.expect_continue && self.inbox.is_empty() {
            self.out.extend_from_slice(CONTINUE);
        }
        self.flush().await?;
        match self.receive(upload, &mut body).await {
            Ok(upload) => self.commit(upload, &plan, terms).await,
            Err(Fault::Stop(stop)) => Err(stop),
            Err(Fault::Failure(failure)) => {
                // The client was told to go on, so what is left of its body can be read.
                let terms = Terms { expect_continue: false, ..terms };
                self.refuse(&failure, body, terms).await
            }
        }
    }

    /// Everything that can be refused before the body is asked for.
    async fn admit(&self, plan: &PutPlan) -> Result<Upload, Failure> {
        let max = self.thread.engine.object_len_max();
        if let Some(len) = plan.len.filter(|&len| len > max) {
            return Err(PutError::TooLarge { len, max }.into());
        }
        self.check_preconditions(&plan.key, plan.conditions.as_deref()).await?;
        let options = PutOptions {
            len: plan.len,
            ttl_ms: plan.ttl_ms,
            metadata: plan.metadata.clone(),
            group: plan.group,
            created_wall_ms: clock::wall_ms(),
        };
        Ok(self.thread.engine.put(&plan.key, options).await?)
    }

    async fn check_preconditions(
        &self,
        key: &Key,
        conditions: Option<&Conditions>,
    ) -> Result<(), Failure> {
        let Some(conditions) = conditions else { return Ok(()) };
        let found = self.thread.engine.head(key).await?;
        let sealed = found.as_ref().map(|object| object.info()).filter(|info| info.len.is_some());
        let etag = sealed.map(|info| respond::etag(&info.content_hash));
        let current = sealed.map(|info| Validators {
            etag: etag.as_ref().map(|etag| &etag[..]),
            modified_s: Some(info.created_wall_ms / 1000),
        });
        match evaluate_write(&conditions.fields(), current) {
            Outcome::Proceed => Ok(()),
            Outcome::Failed | Outcome::NotModified => Err(Failure::Precondition),
        }
    }

    /// Receives the whole body. The upload is dropped on every failure.
    async fn receive(&mut self, mut upload: Upload, body: &mut Body) -> Result<Upload, Fault> {
        let mut pace = Pace::new(body);
        loop {
            let unread = self.inbox.unread();
            match body.step(unread).map_err(Failure::from)? {
                Step::Data { skip, len } => {
                    upload.write(&unread[skip..skip + len]).await?;
                    self.thread.counters.bytes_received.add(len as u64);
                    self.inbox.consume(skip + len);
                }
                Step::Done { consumed } => {
                    self.inbox.consume(consumed);
                    self.socket.clear_deadline();
                    return Ok(upload);
                }
                Step::NeedMore => {
                    let all = unread.len();
                    self.inbox.consume(all);
                    let received = self.receive_more(&mut upload, body, &mut pace).await?;
                    if received == 0 {
                        return Err(self.body_ended_early(body).into());
                    }
                }
            }
        }
    }

    /// Receives once: a long run straight into the arena, anything else into the inbox.
    async fn receive_more(
        &mut self,
        upload: &mut Upload,
        body: &mut Body,
        pace: &mut Pace,
    ) -> Result<usize, Fault> {
        let direct = body.direct();
        if direct < DIRECT_MIN {
            pace.expect_bytes(self, body);
            return Ok(self.fill().await?);
        }
        // No deadline while the arena is full: it is we who keep the encoder waiting.
        self.socket.clear_deadline();
        let want = usize::try_from(direct.min(pace.receive_len)).expect("bounded");
        let spare = upload.recv_buffer(want).await?;
        let room = spare.capacity();
        pace.expect_bytes(self, body);
        if direct <= QUICKACK_MAX {
            self.socket.quickack();
        }
        let (result, spare) = self.socket.read_spare(spare).await;
        let count = result.map_err(|_| Stop::Gone)?;
        pace.received(count, room);
        upload.received(spare, count);
        body.took_direct(count as u64);
        self.thread.counters.bytes_received.add(count as u64);
        Ok(count)
    }

    async fn commit(&mut self, upload: Upload, plan: &PutPlan, terms: Terms) -> Result<(), Stop> {
        let started = Instant::now();
        let (ack, ack_name) = match plan.ack {
            config::Ack::Durable => (Ack::Durable, "durable"),
            config::Ack::Buffered => (Ack::Buffered, "buffered"),
        };
        match upload.commit(ack).await {
            Err(error) => self.fail(&error.into(), terms).await,
            Ok(committed) => {
                let latency_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.thread.counters.put_latency.record(latency_us);
                let stamp = self.thread.stamp(terms.keep_alive, terms.is_http10);
                let replaced = committed.replaced;
                respond::stored(&mut self.out, &stamp, replaced, &committed.content_hash, ack_name);
                self.answered(if replaced { 204 } else { 201 }, stamp.keep_alive).await
            }
        }
    }

    pub(super) async fn delete(
        &mut self,
        key: &Key,
        conditions: Option<&Conditions>,
        terms: Terms,
    ) -> Result<(), Stop> {
        self.is_ingest = true;
        if let Err(failure) = self.check_preconditions(key, conditions).await {
            return self.fail(&failure, terms).await;
        }
        match self.thread.engine.delete(key).await {
            Err(error) => self.fail(&error.into(), terms).await,
            Ok(false) => self.fail(&Failure::NotFound, terms).await,
            Ok(true) => {
                let stamp = self.thread.stamp(terms.keep_alive, terms.is_http10);
                respond::deleted(&mut self.out, &stamp);
                self.answered(204, stamp.keep_alive).await
            }
        }
    }
}

/// How late the next bytes of a body may be, and how many are received at once.
struct Pace {
    started_ms: u64,
    receive_len: u64,
    /// Live uploads stay open for a whole segment and have no rate; declared ones have.
    has_rate: bool,
}

impl Pace {
    fn new(body: &Body) -> Pace {
        let has_rate = body.is_longer_than(0);
        Pace { started_ms: deadline::now_ms(), receive_len: RECEIVE_START, has_rate }
    }

    /// A receive took `count` bytes where there was room for `room`. An encoder that is ahead of us
    /// is served in fewer and longer receives; one that is not keeps no arena waiting.
    fn received(&mut self, count: usize, room: usize) {
        self.receive_len = match count == room {
            true => RECEIVE_MAX.min(2 * self.receive_len),
            false => RECEIVE_START,
        };
    }

    fn expect_bytes(&self, conn: &Conn, body: &Body) {
        let limits = conn.thread.limits;
        let mut at_ms = deadline::now_ms() + limits.body_idle_ms;
        if self.has_rate {
            let earned_ms = body.received().saturating_mul(1000) / limits.body_bytes_per_s_min;
            at_ms = at_ms.min(self.started_ms + limits.body_idle_ms + earned_ms);
        }
        conn.socket.set_deadline(at_ms, Expiry::StopReading);
    }
}
