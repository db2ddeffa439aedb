//! loom's locks and atomics under the names of `engine/io/src/sync.rs`, and a model of tokio's
//! `Notify`: `notify_one` wakes the one who has waited longest, or is kept for the next to come.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use loom::sync::MutexGuard;

pub(crate) use loom::sync::Arc;
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, fence};

/// A mutex without poisoning, as parking_lot's.
#[derive(Debug)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Mutex<T> {
        Mutex(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("no thread panics with it held")
    }
}

#[derive(Default)]
struct Queue {
    /// Told when nobody waited.
    kept: bool,
    next_id: u64,
    waiting: VecDeque<(u64, Waker)>,
    /// Told, and not polled since.
    told: Vec<u64>,
}

impl Queue {
    fn tell_one(&mut self) -> Option<Waker> {
        match self.waiting.pop_front() {
            Some((id, waker)) => {
                self.told.push(id);
                Some(waker)
            }
            None => {
                self.kept = true;
                None
            }
        }
    }
}

pub(crate) struct Notify {
    queue: Mutex<Queue>,
}

impl Notify {
    pub(crate) fn new() -> Notify {
        Notify { queue: Mutex::new(Queue::default()) }
    }

    pub(crate) fn notify_one(&self) {
        let waker = self.queue.lock().tell_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn notified(&self) -> Notified<'_> {
        Notified { notify: self, id: None }
    }
}

/// A wait. Dropped after it was told and before it was polled, it tells the next.
pub(crate) struct Notified<'n> {
    notify: &'n Notify,
    id: Option<u64>,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.notify.queue.lock();
        let Some(id) = self.id else {
            if std::mem::take(&mut queue.kept) {
                return Poll::Ready(());
            }
            let id = queue.next_id;
            queue.next_id += 1;
            queue.waiting.push_back((id, context.waker().clone()));
            drop(queue);
            self.id = Some(id);
            return Poll::Pending;
        };
        if let Some(at) = queue.told.iter().position(|told| *told == id) {
            queue.told.swap_remove(at);
            drop(queue);
            self.id = None;
            return Poll::Ready(());
        }
        let place = queue.waiting.iter_mut().find(|(waiting, _)| *waiting == id);
        place.expect("it waits or was told").1 = context.waker().clone();
        Poll::Pending
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let mut queue = self.notify.queue.lock();
        queue.waiting.retain(|(waiting, _)| *waiting != id);
        let was_told = queue.told.iter().position(|told| *told == id);
        let next = was_told.and_then(|at| {
            queue.told.swap_remove(at);
            queue.tell_one()
        });
        drop(queue);
        if let Some(waker) = next {
            waker.wake();
        }
    }
}
