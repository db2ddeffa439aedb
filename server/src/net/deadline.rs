//! The connections of a thread and their deadlines.

use super::Limits;
use super::socket::Socket;
use super::stats::Counters;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use tapeloop_engine::clock;
use tokio::sync::Notify;

/// How often deadlines are looked at; they are late by at most this.
pub(super) const SWEEP_MS: u64 = 250;

/// One of so many idle connections makes room at once.
const CUT_DIVISOR: usize = 16;

/// The clock of deadlines, in milliseconds. They are seconds away and looked at every quarter of
/// one: the time of the last tick will do, and is read several times for every request.
pub(super) fn now_ms() -> u64 {
    clock::monotonic_ms_coarse()
}

/// All open connections of a thread.
#[derive(Default)]
pub(super) struct Connections {
    slots: RefCell<Slots>,
    open: Cell<usize>,
    /// Told when a connection has closed.
    pub(super) closed: Notify,
}

#[derive(Default)]
struct Slots {
    sockets: Vec<Option<Rc<Socket>>>,
    free: Vec<usize>,
}

/// Keeps a connection listed; dropping it, by whatever end, takes it off the list.
pub(super) struct Listed {
    connections: Rc<Connections>,
    slot: usize,
}

impl Connections {
    pub(super) fn list(self: &Rc<Self>, socket: Rc<Socket>) -> Listed {
        let mut slots = self.slots.borrow_mut();
        let slot = match slots.free.pop() {
            Some(slot) => slot,
            None => {
                slots.sockets.push(None);
                slots.sockets.len() - 1
            }
        };
        assert!(slots.sockets[slot].is_none(), "a free slot holds nothing");
        slots.sockets[slot] = Some(socket);
        self.open.set(self.open.get() + 1);
        Listed { connections: Rc::clone(self), slot }
    }

    pub(super) fn open(&self) -> usize {
        self.open.get()
    }

    /// Shuts down whatever is past its deadline.
    pub(super) fn sweep(&self, now_ms: u64, counters: &Counters) {
        for socket in self.slots.borrow().sockets.iter().flatten() {
            if socket.sweep(now_ms) {
                counters.deadlines_passed.add(1);
            }
        }
    }

    /// Shuts down connections without a request.
    pub(super) fn cut_idle(&self) {
        for socket in self.slots.borrow().sockets.iter().flatten() {
            if socket.is_idle() {
                socket.cut();
            }
        }
    }

    /// Shuts down some of those that have been idle for the longest time, because others wait for
    /// their places. Encoders stay, and so does who came only just now.
    pub(super) fn cut_longest_idle(&self, limits: &Limits) {
        let fresh_until_ms = now_ms() + limits.idle_ms.saturating_sub(limits.head_ms);
        let slots = self.slots.borrow();
        let sockets = slots.sockets.iter().flatten();
        let idle = sockets.filter_map(|one| Some((one.may_be_cut(fresh_until_ms)?, one)));
        let mut idle: Vec<_> = idle.collect();
        idle.sort_unstable_by_key(|(until_ms, _)| *until_ms);
        let count = idle.len().div_ceil(CUT_DIVISOR);
        idle.iter().take(count).for_each(|(_, socket)| socket.cut());
    }

    /// Shuts down every connection.
    pub(super) fn cut_all(&self) {
        for socket in self.slots.borrow().sockets.iter().flatten() {
            socket.cut();
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut slots = self.connections.slots.borrow_mut();
        let socket = slots.sockets[self.slot].take();
        assert!(socket.is_some(), "listed once, taken off once");
        slots.free.push(self.slot);
        self.connections.open.set(self.connections.open.get() - 1);
        // Waiters are woken after this task's own handle is gone too, at the next turn.
        self.connections.closed.notify_waiters();
    }
}
