//! Reads that the kernel has, counted per thread, and what becomes of those nobody waits for.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::sync::Notify;

#[derive(Default)]
struct Reads {
    count: Cell<usize>,
    ended: Notify,
}

thread_local! {
    static READS: Rc<Reads> = Rc::default();
}

/// One read on its way. Dropped when the kernel is done with it.
pub(super) struct InFlight {
    reads: Rc<Reads>,
}

impl InFlight {
    pub(super) fn begin() -> InFlight {
        let reads = READS.with(Rc::clone);
        reads.count.set(reads.count.get() + 1);
        InFlight { reads }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let count = self.reads.count.get();
        assert!(count > 0, "a read ended that was never begun");
        self.reads.count.set(count - 1);
        self.reads.ended.notify_one();
    }
}

/// Reads of this thread that the kernel has.
pub(super) fn count() -> usize {
    READS.with(|reads| reads.count.get())
}

/// Waits until the kernel has none.
pub(super) async fn until_none() {
    let reads = READS.with(Rc::clone);
    while reads.count.get() > 0 {
        reads.ended.notified().await;
    }
}

/// A read that goes on by itself when its waiter is dropped, so that what it holds is given back
/// when the kernel is done, and not before.
pub(super) struct Unabandoned<T: 'static> {
    read: Option<Pin<Box<dyn Future<Output = T>>>>,
}

impl<T: 'static> Unabandoned<T> {
    pub(super) fn new(read: impl Future<Output = T> + 'static) -> Unabandoned<T> {
        Unabandoned { read: Some(Box::pin(read)) }
    }
}

impl<T: 'static> Future for Unabandoned<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let read = self.read.as_mut().expect("not polled after its end");
        let polled = read.as_mut().poll(cx);
        if polled.is_ready() {
            self.read = None;
        }
        polled
    }
}

impl<T: 'static> Drop for Unabandoned<T> {
    fn drop(&mut self) {
        if let Some(read) = self.read.take() {
            // While a runtime ends this drops the read at once: its driver then keeps the buffer.
            drop(super::spawn(read));
        }
    }
}
