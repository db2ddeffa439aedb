//! One front-end thread: its ring, its listener, its connections, its sweeper.

use super::deadline::{self, Connections, SWEEP_MS};
use super::memory::{ExtraMemory, Seats};
use super::stats::Counters;
use super::{Limits, accept};
use crate::config::Policies;
use crate::http::date::DateCache;
use crate::origin::respond::Stamp;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tapeloop_engine::{Engine, clock, sleep, spawn, timeout};
use tokio::sync::watch;

/// Entries of the submission queue of one thread.
const RING_ENTRIES: u32 = 4096;

/// What a thread is made of; crosses into it.
pub(super) struct Seed {
    pub(super) listener: std::net::TcpListener,
    pub(super) engine: Engine,
    pub(super) policies: watch::Receiver<Arc<Policies>>,
    pub(super) stopping: watch::Receiver<bool>,
    pub(super) limits: Limits,
    pub(super) counters: Arc<Counters>,
    pub(super) seats: Seats,
}

/// What all connections of a thread share.
pub(super) struct Thread {
    pub(super) engine: Engine,
    pub(super) limits: Limits,
    pub(super) counters: Arc<Counters>,
    pub(super) connections: Rc<Connections>,
    pub(super) is_stopping: Cell<bool>,
    pub(super) seats: Seats,
    pub(super) extra_memory: Rc<ExtraMemory>,
    policies: RefCell<Arc<Policies>>,
    date: RefCell<DateCache>,
    /// Empty answer buffers: one is needed only while an answer is on its way.
    buffers: RefCell<Vec<Vec<u8>>>,
}

/// Spare answer buffers of a thread.
const BUFFERS_MAX: usize = 64;
/// A buffer that grew beyond this is given back to the allocator.
const BUFFER_BYTES_MAX: usize = 32 << 10;
/// What the spare ones take.
pub(super) const SPARE_BYTES_MAX: usize = BUFFERS_MAX * BUFFER_BYTES_MAX;

impl Thread {
    pub(super) fn take_buffer(&self) -> Vec<u8> {
        self.buffers.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn give_buffer(&self, buffer: Vec<u8>) {
        assert!(buffer.is_empty(), "an answer is thrown away");
        let mut buffers = self.buffers.borrow_mut();
        let is_useful = 0 < buffer.capacity() && buffer.capacity() <= BUFFER_BYTES_MAX;
        if is_useful && buffers.len() < BUFFERS_MAX {
            buffers.push(buffer);
        }
    }

    pub(super) fn policies(&self) -> Arc<Policies> {
        Arc::clone(&self.policies.borrow())
    }

    /// What the answers of this moment share. A stopping server keeps no connection.
    pub(super) fn stamp(&self, keep_alive: bool, is_http10: bool) -> Stamp {
        let date = *self.date.borrow_mut().at(clock::wall_ms_coarse());
        let keep_alive = keep_alive && !self.is_stopping.get();
        Stamp { date, keep_alive, is_http10 }
    }
}

/// Runs a thread until it is told to stop and its connections have ended.
pub(super) fn run(seed: Seed) -> io::Result<()> {
    // A request should not wait behind the long turn of another thread. Where the kernel says no,
    // it may.
    let _ = tapeloop_engine::ask_for_short_turns();
    tapeloop_engine::block_on(RING_ENTRIES, serve(seed))
}

async fn serve(seed: Seed) {
    let Seed { listener, engine, mut policies, mut stopping, limits, counters, seats } = seed;
    let thread = Rc::new(Thread {
        engine,
        limits,
        counters,
        connections: Rc::default(),
        is_stopping: Cell::new(false),
        seats,
        extra_memory: Rc::default(),
        policies: RefCell::new(Arc::clone(&policies.borrow_and_update())),
        date: RefCell::default(),
        buffers: RefCell::default(),
    });
    let listener = accept::Listener::new(listener);
    let accepting = spawn(accept::run(Rc::clone(&thread), listener.clone()));
    let sweeping = spawn(sweep(Rc::clone(&thread), policies));
    // An error means that the sender is gone, which is an order to stop as well.
    let _ = stopping.wait_for(|&stop| stop).await;
    thread.is_stopping.set(true);
    listener.stop();
    accepting.await;
    thread.connections.cut_idle();
    drain(&thread).await;
    sweeping.abort();
}

/// Looks at deadlines, and takes over new policies, until the thread ends.
async fn sweep(thread: Rc<Thread>, mut policies: watch::Receiver<Arc<Policies>>) {
    let mut refusals = 0;
    loop {
        sleep(Duration::from_millis(SWEEP_MS)).await;
        thread.connections.sweep(deadline::now_ms(), &thread.counters);
        if std::mem::replace(&mut refusals, thread.seats.refusals()) != refusals {
            thread.connections.cut_longest_idle(&thread.limits);
        }
        if policies.has_changed().unwrap_or(false) {
            *thread.policies.borrow_mut() = Arc::clone(&policies.borrow_and_update());
        }
    }
}

/// Waits for connections to end by themselves, then ends them, then waits for their operations.
async fn drain(thread: &Thread) {
    let limit = Duration::from_millis(thread.limits.drain_ms);
    if timeout(limit, until_empty(thread)).await.is_err() {
        thread.connections.cut_all();
        until_empty(thread).await;
    }
}

async fn until_empty(thread: &Thread) {
    loop {
        let closed = thread.connections.closed.notified();
        if thread.connections.open() == 0 {
            return;
        }
        closed.await;
    }
}
