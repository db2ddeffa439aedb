//! Large transfers take turns: one in each turn of the runtime, behind everything small.
//!
//! What becomes ready meanwhile goes before the next of them, so a small answer waits for one large
//! transfer at most, however many there are.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::current;

/// Those who wait for their turn, by their number: in order.
#[derive(Default)]
pub(super) struct Large {
    waiting: RefCell<BTreeMap<u64, Waker>>,
    count: Cell<u64>,
}

impl Large {
    /// Wakes the first one. False when nobody waits.
    pub(super) fn call_next(&self) -> bool {
        let first = self.waiting.borrow_mut().pop_first();
        first.map(|(_, waker)| waker.wake()).is_some()
    }

    pub(super) fn is_awaited(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }
}

/// Waits until one large transfer may be started.
pub(super) async fn large_turn() {
    LargeTurn(None).await;
}

/// With the number under which it was listed.
struct LargeTurn(Option<u64>);

impl Future for LargeTurn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        current(|core| {
            let large = &core.large;
            let mut waiting = large.waiting.borrow_mut();
            match self.0 {
                None => {
                    let number = large.count.get();
                    large.count.set(number + 1);
                    waiting.insert(number, cx.waker().clone());
                    self.0 = Some(number);
                    Poll::Pending
                }
                // No longer listed: it was called.
                Some(number) => match waiting.get_mut(&number) {
                    Some(waker) => {
                        waker.clone_from(cx.waker());
                        Poll::Pending
                    }
                    None => Poll::Ready(()),
                },
            }
        })
    }
}

impl Drop for LargeTurn {
    fn drop(&mut self) {
        if let Some(number) = self.0 {
            current(|core| core.large.waiting.borrow_mut().remove(&number));
        }
    }
}
