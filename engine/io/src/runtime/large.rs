//! Large transfers take turns: one in each turn of the runtime, behind everything small.
//!
//! What becomes ready meanwhile goes before the next of them, so a small answer waits for one large
//! transfer at most, however many there are.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::current;

/// Those who wait for their turn, in order.
#[derive(Default)]
pub(super) struct Large {
    waiting: RefCell<VecDeque<(u64, Waker)>>,
    count: Cell<u64>,
}

impl Large {
    /// Wakes the first one. False when nobody waits.
    pub(super) fn call_next(&self) -> bool {
        let first = self.waiting.borrow_mut().pop_front();
        first.map(|(_, waker)| waker.wake()).is_some()
    }

    pub(super) fn is_awaited(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }
}

/// Waits until one large transfer may be started.
pub(super) async fn large_turn() {
    let number = current(|core| core.large.count.replace(core.large.count.get() + 1));
    LargeTurn { number, is_listed: false }.await;
}

struct LargeTurn {
    number: u64,
    is_listed: bool,
}

impl Future for LargeTurn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        current(|core| {
            let mut waiting = core.large.waiting.borrow_mut();
            if !self.is_listed {
                waiting.push_back((self.number, cx.waker().clone()));
                self.is_listed = true;
                return Poll::Pending;
            }
            match waiting.iter_mut().find(|(number, _)| *number == self.number) {
                Some((_, waker)) => {
                    waker.clone_from(cx.waker());
                    Poll::Pending
                }
                None => {
                    self.is_listed = false;
                    Poll::Ready(())
                }
            }
        })
    }
}

impl Drop for LargeTurn {
    fn drop(&mut self) {
        if self.is_listed {
            let of_this = |(number, _): &(u64, Waker)| *number == self.number;
            current(|core| core.large.waiting.borrow_mut().retain(|waiting| !of_this(waiting)));
        }
    }
}
