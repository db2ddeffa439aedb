//! What waits for a moment. The ring's wait ends at the next one.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::current;

/// Those who wait, earliest first.
#[derive(Default)]
pub(super) struct Timers {
    waiting: RefCell<BTreeMap<(Instant, u64), Waker>>,
    count: Cell<u64>,
}

impl Timers {
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.borrow().first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn wake_due(&self) {
        if self.waiting.borrow().is_empty() {
            return;
        }
        let now = Instant::now();
        loop {
            let due = {
                let mut waiting = self.waiting.borrow_mut();
                let first = waiting.first_entry().filter(|first| first.key().0 <= now);
                first.map(|first| first.remove())
            };
            let Some(waker) = due else { return };
            waker.wake();
        }
    }
}

/// The time was up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time was up")]
pub struct Elapsed;

/// A wait for a moment.
struct Sleep {
    at: Instant,
    number: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.at {
            return Poll::Ready(());
        }
        current(|core| {
            let timers = &core.timers;
            let number = *self.number.get_or_insert_with(|| {
                timers.count.set(timers.count.get() + 1);
                timers.count.get()
            });
            timers.waiting.borrow_mut().insert((self.at, number), cx.waker().clone());
        });
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            current(|core| core.timers.waiting.borrow_mut().remove(&(self.at, number)));
        }
    }
}

/// Waits for a time. Call inside [`block_on`](super::block_on), as all of these.
pub async fn sleep(time: Duration) {
    Sleep { at: Instant::now() + time, number: None }.await;
}

/// What `future` comes to, or [`Elapsed`] when that takes longer than `time`: then it is dropped.
pub async fn timeout<F: Future>(time: Duration, future: F) -> Result<F::Output, Elapsed> {
    timeout_at(Instant::now() + time, future).await
}

/// The same until a moment.
pub async fn timeout_at<F: Future>(at: Instant, future: F) -> Result<F::Output, Elapsed> {
    let (mut future, mut sleep) = (pin!(future), pin!(Sleep { at, number: None }));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        sleep.as_mut().poll(cx).map(|()| Err(Elapsed))
    })
    .await
}
