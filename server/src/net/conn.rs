//! One connection: requests in order, answers in order, until one side has had enough.

use super::body::Body;
use super::deadline;
use super::inbox::{self, Inbox};
use super::memory::{Extra, Seat};
use super::socket::{Expiry, Socket};
use super::thread::Thread;
use crate::http::chunked::Step as BodyStep;
use crate::http::head::{HeadParser, Method, Step};
use crate::origin::request::{Action, Request};
use crate::origin::{Failure, respond};
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use tapeloop_engine::Chunk;

/// Answers that may wait in the buffer while pipelined requests are still at hand.
const PIPELINED_MAX: usize = 16;
/// Bytes of answers that may wait.
const OUT_BYTES_MAX: usize = 16 << 10;
/// Body bytes read for nothing so that the connection can go on.
pub(super) const DRAIN_BYTES_MAX: u64 = 64 << 10;
/// Bytes read for nothing so that a last answer is not lost by a reset.
const LINGER_BYTES_MAX: u64 = 1 << 20;

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The client is gone, or there is nothing more to say to it.
    Gone,
    /// A last answer was given: let it arrive, then close.
    Linger,
    /// An answer cannot be completed: the client must see that.
    Reset,
}

/// The facts about a request that every answer to it needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) keep_alive: bool,
    pub(super) is_http10: bool,
    pub(super) is_head: bool,
    pub(super) expect_continue: bool,
}

pub(super) struct Conn {
    pub(super) thread: Rc<Thread>,
    pub(super) socket: Rc<Socket>,
    pub(super) inbox: Inbox,
    /// Answers not sent yet.
    pub(super) out: Vec<u8>,
    /// How many of them.
    answers_waiting: usize,
    parser: HeadParser,
    /// Memory for the next key.
    key: Vec<u8>,
    /// It has pushed: an encoder, which is left idle for longer.
    pub(super) is_ingest: bool,
    /// It has not asked for anything yet.
    is_fresh: bool,
    taking: Taking,
    pub(super) extra: Extra,
}

/// How fast a client takes the answers it has asked for. Only time that it kept us waiting counts.
#[derive(Debug, Default)]
struct Taking {
    sent_bytes: Cell<u64>,
    waited_ms: Cell<u64>,
    waiting_since_ms: Cell<u64>,
}

/// Serves a connection to its end.
pub(super) async fn serve(thread: Rc<Thread>, socket: Rc<Socket>, _seat: Seat) {
    let _listed = thread.connections.list(Rc::clone(&socket));
    thread.counters.connections_open.add(1);
    let counters = thread.counters.clone();
    let _open = Defer(|| counters.connections_open.sub(1));
    let mut conn = Conn {
        extra: Extra::new(Rc::clone(&thread.extra_memory)),
        thread,
        socket,
        inbox: Inbox::default(),
        out: Vec::new(),
        answers_waiting: 0,
        parser: HeadParser::new(),
        key: Vec::new(),
        is_ingest: false,
        is_fresh: true,
        taking: Taking::default(),
    };
    match conn.run().await {
        Stop::Gone => {}
        Stop::Linger => conn.linger().await,
        Stop::Reset => {
            conn.thread.counters.resets.add(1);
            conn.socket.reset_on_close();
        }
    }
}

struct Defer<F: FnMut()>(F);

impl<F: FnMut()> Drop for Defer<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl Conn {
    async fn run(&mut self) -> Stop {
        loop {
            let outcome = match self.next_request().await {
                Ok(request) => self.answer(request).await,
                Err(stop) => Err(stop),
            };
            if let Err(stop) = outcome {
                return stop;
            }
        }
    }

    /// Waits for a complete, judged request.
    async fn next_request(&mut self) -> Result<Request, Stop> {
        let limits = self.thread.limits;
        let (idle_ms, idle) = match (self.is_ingest, self.is_fresh) {
            (true, _) => (limits.ingest_idle_ms, Expiry::IdleIngest),
            (false, true) => (limits.idle_ms, Expiry::IdleFresh),
            (false, false) => (limits.idle_ms, Expiry::Idle),
        };
        let start_ms = deadline::now_ms();
        let mut head_deadline_ms = None;
        loop {
            let mut is_head = false;
            let refused = match self.parser.parse(self.inbox.unread()) {
                Step::Head(head) => {
                    let request = Request::from_head(
                        &head,
                        &self.thread.policies(),
                        std::mem::take(&mut self.key),
                    );
                    is_head = head.method == Method::Head;
                    let head_len = head.len;
                    self.inbox.consume(head_len);
                    self.parser.reset();
                    match request {
                        Ok(request) => return Ok(request),
                        Err(failure) => Some(failure),
                    }
                }
                Step::Reject(reject) => Some(reject.into()),
                Step::NeedMore => None,
            };
            if let Some(failure) = refused {
                return Err(self.refuse_and_close(&failure, is_head).await);
            }
            self.flush().await?;
            if self.parser.has_begun() {
                let now_ms = deadline::now_ms();
                let at_ms = *head_deadline_ms.get_or_insert(now_ms + limits.head_ms);
                self.socket.set_deadline(at_ms, Expiry::StopReading);
            } else if self.thread.is_stopping.get() {
                return Err(Stop::Gone);
            } else {
                self.socket.set_deadline(start_ms + idle_ms, idle);
            }
            let received = self.fill().await?;
            if received == 0 {
                if self.parser.has_begun() && self.socket.has_expired() {
                    return Err(self.refuse_and_close(&Failure::HeadTimeout, false).await);
                }
                return Err(Stop::Gone);
            }
        }
    }

    async fn answer(&mut self, request: Request) -> Result<(), Stop> {
        self.socket.clear_deadline();
        self.taking = Taking::default();
        self.is_fresh = false;
        self.need_buffer();
        let terms = Terms {
            keep_alive: request.keep_alive,
            is_http10: request.is_http10,
            is_head: request.is_head,
            expect_continue: request.expect_continue,
        };
        let body = Body::new(request.framing);
        let counters = Rc::clone(&self.thread);
        let counters = &counters.counters;
        match request.action {
            Action::Put(plan) => {
                counters.puts.add(1);
                self.put(plan, body, terms).await
            }
            Action::Refuse(failure) => self.refuse(&failure, body, terms).await,
            Action::Get { key, conditions } => {
                counters.gets.add(1);
                let terms = self.skip_body(body, terms).await?;
                let outcome = self.get(&key, conditions.as_deref(), terms).await;
                self.key = key.into_bytes();
                outcome
            }
            Action::Delete { key, conditions } => {
                counters.deletes.add(1);
                let terms = self.skip_body(body, terms).await?;
                self.delete(&key, conditions.as_deref(), terms).await
            }
            Action::Options => {
                let terms = self.skip_body(body, terms).await?;
                let stamp = self.thread.stamp(terms.keep_alive, terms.is_http10);
                respond::options(&mut self.out, &stamp);
                self.answered(204, stamp.keep_alive).await
            }
        }
    }

    /// Reads the body of a request that uses none. One that still waits for `100 Continue` is not
    /// read: the answer ends the connection instead.
    async fn skip_body(&mut self, mut body: Body, terms: Terms) -> Result<Terms, Stop> {
        if body.is_done() {
            return Ok(terms);
        }
        if terms.expect_continue {
            return Ok(Terms { keep_alive: false, ..terms });
        }
        match self.drain(&mut body).await {
            Ok(true) => Ok(terms),
            Ok(false) => Err(self.refuse_and_close(&Failure::BodyUnused, terms.is_head).await),
            Err(Fault::Stop(stop)) => Err(stop),
            Err(Fault::Failure(failure)) => {
                Err(self.refuse_and_close(&failure, terms.is_head).await)
            }
        }
    }

    /// Answers a failure before, or instead of, reading the body.
    pub(super) async fn refuse(
        &mut self,
        failure: &Failure,
        mut body: Body,
        terms: Terms,
    ) -> Result<(), Stop> {
        // A client told to wait may or may not send its body now: only a close is unambiguous.
        let unreadable =
            !body.is_done() && (terms.expect_continue || body.is_longer_than(DRAIN_BYTES_MAX));
        let keep_alive = terms.keep_alive && !unreadable && !failure.answer().close;
        let stamp = self.thread.stamp(keep_alive, terms.is_http10);
        respond::failure(&mut self.out, &stamp, failure, terms.is_head);
        self.answered(failure.answer().status, stamp.keep_alive).await?;
        if body.is_done() {
            return Ok(());
        }
        self.flush().await?;
        match self.drain(&mut body).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(Fault::Failure(_)) => Err(Stop::Linger),
            Err(Fault::Stop(stop)) => Err(stop),
        }
    }

    /// Answers a failure that ends the connection.
    async fn refuse_and_close(&mut self, failure: &Failure, is_head: bool) -> Stop {
        self.need_buffer();
        let stamp = self.thread.stamp(false, false);
        respond::failure(&mut self.out, &stamp, failure, is_head);
        match self.answered(failure.answer().status, false).await {
            Err(stop) => stop,
            Ok(()) => unreachable!("an answer that closes stops the connection"),
        }
    }

    fn need_buffer(&mut self) {
        if self.out.capacity() == 0 {
            self.out = self.thread.take_buffer();
        }
    }

    /// Reads a body for nothing. False when it is too long for that.
    async fn drain(&mut self, body: &mut Body) -> Result<bool, Fault> {
        let mut read: u64 = 0;
        if body.is_longer_than(DRAIN_BYTES_MAX) {
            return Ok(false);
        }
        loop {
            let unread = self.inbox.unread();
            let consumed = match body.step(unread).map_err(Failure::from)? {
                BodyStep::Data { skip, len } => skip + len,
                BodyStep::NeedMore => unread.len(),
                BodyStep::Done { consumed } => {
                    self.inbox.consume(consumed);
                    return Ok(true);
                }
            };
            self.inbox.consume(consumed);
            read += consumed as u64;
            if body.is_done() {
                return Ok(true);
            }
            if read > DRAIN_BYTES_MAX {
                return Ok(false);
            }
            if self.inbox.is_empty() {
                let at_ms = deadline::now_ms() + self.thread.limits.head_ms;
                self.socket.set_deadline(at_ms, Expiry::StopReading);
                if self.fill().await? == 0 {
                    return Err(self.body_ended_early(body).into());
                }
            }
        }
    }

    /// Why a body has no more bytes although it should.
    pub(super) fn body_ended_early(&self, body: &Body) -> Failure {
        if self.socket.has_expired() {
            Failure::BodyTimeout
        } else {
            Failure::BodyShort { received: body.received() }
        }
    }

    /// Reads what has arrived. 0: the client has ended its side, or a deadline has.
    pub(super) async fn fill(&mut self) -> Result<usize, Stop> {
        if self.is_ingest {
            self.socket.quickack();
        }
        let buffer = self.inbox.lend();
        let has_memory = self.extra.set(inbox::extra_bytes(&buffer));
        if !has_memory {
            return Err(Stop::Reset);
        }
        let (result, bytes) = self.socket.read(buffer).await;
        self.inbox.restore(bytes);
        result.map_err(|_| Stop::Gone)
    }

    /// An answer was put into the buffer; decides when it leaves and whether another may follow.
    pub(super) async fn answered(&mut self, status: u16, keep_alive: bool) -> Result<(), Stop> {
        self.thread.counters.answered(status);
        self.answers_waiting += 1;
        if !keep_alive {
            self.flush().await?;
            return Err(Stop::Linger);
        }
        // More requests at hand: their answers leave together. The next read flushes anyway.
        let may_wait = !self.inbox.is_empty()
            && self.answers_waiting < PIPELINED_MAX
            && self.out.len() < OUT_BYTES_MAX;
        if may_wait { Ok(()) } else { self.flush().await }
    }

    /// Sends all answers that wait.
    pub(super) async fn flush(&mut self) -> Result<(), Stop> {
        let mut sent = 0;
        while sent < self.out.len() {
            self.expect_send();
            let (result, out) = self.socket.write(std::mem::take(&mut self.out), sent).await;
            self.out = out;
            sent += self.sent(result, self.out.len() - sent)?;
            // Not taken at once: the next write may wait for long.
            if sent < self.out.len() && !self.extra.set(self.out.capacity()) {
                return Err(Stop::Reset);
            }
        }
        self.out.clear();
        if self.out.capacity() > 0 {
            self.thread.give_buffer(std::mem::take(&mut self.out));
        }
        self.answers_waiting = 0;
        self.socket.clear_deadline();
        Ok(())
    }

    /// Sends several chunks in as few writes as the socket allows.
    pub(super) async fn send_all(&self, mut parts: Vec<Chunk>) -> Result<(), Stop> {
        while !parts.is_empty() {
            self.expect_send();
            let (result, back) = self.socket.write_chunks(parts).await;
            let count = self.sent(result, Chunk::len_of(&back))?;
            parts = after(back, count);
        }
        self.socket.clear_deadline();
        Ok(())
    }

    /// The client is to take something now: some of it soon, and all of it at the slowest rate.
    pub(super) fn expect_send(&self) {
        let (limits, taking) = (&self.thread.limits, &self.taking);
        let now_ms = deadline::now_ms();
        taking.waiting_since_ms.set(now_ms);
        let mut left_ms = limits.send_stall_ms;
        if taking.waited_ms.get() > 0 {
            let bytes = taking.sent_bytes.get();
            let earned_ms = bytes.saturating_mul(1000) / limits.send_bytes_per_s_min;
            left_ms = left_ms.min((left_ms + earned_ms).saturating_sub(taking.waited_ms.get()));
        }
        self.socket.set_deadline(now_ms + left_ms, Expiry::Cut);
    }

    /// What was expected has come, or was not waited for any longer.
    pub(super) fn waited_for_room(&self) {
        let taking = &self.taking;
        let waited_ms = deadline::now_ms() - taking.waiting_since_ms.get();
        taking.waited_ms.set(taking.waited_ms.get() + waited_ms);
    }

    /// What became of a write of `wanted` bytes. Less than all of them: the client is slow.
    pub(super) fn sent(&self, result: io::Result<usize>, wanted: usize) -> Result<usize, Stop> {
        match result {
            Ok(count) if count > 0 => {
                if count < wanted {
                    self.waited_for_room();
                }
                self.taking.sent_bytes.set(self.taking.sent_bytes.get() + count as u64);
                self.thread.counters.bytes_sent.add(count as u64);
                Ok(count)
            }
            _ => Err(Stop::Gone),
        }
    }

    /// Ends our side and reads on for a moment: closing with unread bytes would reset the
    /// connection and could take the answer with it.
    async fn linger(&mut self) {
        self.socket.end_sending();
        let at_ms = deadline::now_ms() + self.thread.limits.linger_ms;
        self.socket.set_deadline(at_ms, Expiry::Cut);
        let mut read: u64 = 0;
        while read < LINGER_BYTES_MAX {
            self.inbox.consume(self.inbox.unread().len());
            match self.fill().await {
                Ok(count) if count > 0 => read += count as u64,
                _ => return,
            }
        }
    }
}

/// A request that goes no further: the connection ends, or the client is told.
pub(super) enum Fault {
    Stop(Stop),
    Failure(Failure),
}

impl From<Stop> for Fault {
    fn from(stop: Stop) -> Fault {
        Fault::Stop(stop)
    }
}

impl<F: Into<Failure>> From<F> for Fault {
    fn from(failure: F) -> Fault {
        Fault::Failure(failure.into())
    }
}

/// What is left of `parts` when the first `count` bytes are gone.
pub(super) fn after(parts: Vec<Chunk>, mut count: usize) -> Vec<Chunk> {
    let mut left = Vec::with_capacity(parts.len());
    for part in parts {
        let gone = count.min(part.len());
        count -= gone;
        if gone < part.len() {
            left.push(if gone == 0 { part } else { part.slice(gone..part.len()) });
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_write_leaves_exactly_the_rest() {
        let parts = || vec![Chunk::from(b"abc".to_vec()), Chunk::from(b"defg".to_vec())];
        for count in 0..=7 {
            let left: Vec<u8> =
                after(parts(), count).iter().flat_map(|part| part.to_vec()).collect();
            assert_eq!(left, &b"abcdefg"[count..]);
        }
        assert!(after(parts(), 7).is_empty());
    }
}
