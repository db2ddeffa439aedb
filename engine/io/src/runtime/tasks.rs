//! Who is to be polled next.
//!
//! Invariant: a task is polled by its own thread only. A waker used on another thread puts its task
//! on a list of its own and ends the wait of the ring.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake};
use std::thread::ThreadId;

use async_task::Runnable;
use parking_lot::Mutex;
use slab::Slab;

use super::{CURRENT, current};
use crate::waker::Waker;

/// The tasks of one runtime.
pub(super) struct Tasks {
    ready: RefCell<VecDeque<Runnable>>,
    /// All that have not ended, so that none outlives the runtime.
    listed: RefCell<Slab<std::task::Waker>>,
    elsewhere: Arc<Elsewhere>,
}

/// What wakers on other threads reach.
struct Elsewhere {
    home: ThreadId,
    woken: Mutex<VecDeque<Runnable>>,
    waker: Waker,
}

impl Elsewhere {
    fn is_here(&self) -> bool {
        std::thread::current().id() == self.home
    }

    fn schedule(self: &Arc<Self>, runnable: Runnable) {
        if !self.is_here() {
            self.woken.lock().push_back(runnable);
            return self.waker.wake();
        }
        // Behind the runtime's end there is nobody to poll it: it is dropped.
        CURRENT.with_borrow(|core| {
            let own = core.as_ref().filter(|core| Arc::ptr_eq(&core.tasks.elsewhere, self));
            if let Some(core) = own {
                core.tasks.ready.borrow_mut().push_back(runnable);
            }
        });
    }
}

/// A spawned task. Dropping it lets the task go on; awaiting it gives what it came to, or its
/// panic.
pub struct Task<T>(Option<async_task::Task<T>>);

impl<T> Task<T> {
    /// Drops the task's future at the next turn, wherever it is.
    pub fn abort(mut self) {
        drop(self.0.take());
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(self.0.as_mut().expect("only an abort takes it")).poll(cx)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }
}

/// Starts a task on this thread. A panic ends that task alone. Call inside
/// [`block_on`](super::block_on).
pub fn spawn<F>(future: F) -> Task<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    current(|core| {
        let mut listed = core.tasks.listed.borrow_mut();
        let place = listed.vacant_entry();
        let future = Listed { place: place.key(), future: Box::pin(future) };
        let elsewhere = Arc::clone(&core.tasks.elsewhere);
        let (runnable, task) = async_task::Builder::new()
            .propagate_panic(true)
            .spawn_local(move |()| future, move |runnable| elsewhere.schedule(runnable));
        place.insert(runnable.waker());
        core.tasks.ready.borrow_mut().push_back(runnable);
        Task(Some(task))
    })
}

/// Lets the others that are ready go first.
pub async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A task's future, which leaves the list with its end.
struct Listed<F> {
    place: usize,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Listed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl<F> Drop for Listed<F> {
    fn drop(&mut self) {
        let waker = current(|core| core.tasks.listed.borrow_mut().try_remove(self.place));
        assert!(waker.is_some(), "a task ends once");
    }
}

impl Tasks {
    pub(super) fn new(waker: Waker) -> Tasks {
        let home = std::thread::current().id();
        let elsewhere = Arc::new(Elsewhere { home, woken: Mutex::default(), waker });
        Tasks { ready: RefCell::default(), listed: RefCell::default(), elsewhere }
    }

    /// For the future that the runtime runs.
    pub(super) fn root(&self) -> Root {
        let elsewhere = Arc::clone(&self.elsewhere);
        Root(Arc::new(RootFlag { is_woken: AtomicBool::new(true), elsewhere }))
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.borrow().is_empty()
    }

    /// Polls every task that is ready now, once.
    pub(super) fn run_ready(&self) {
        let count = self.ready.borrow().len();
        for _ in 0..count {
            let runnable = self.ready.borrow_mut().pop_front();
            runnable.expect("nobody else takes them").run();
        }
    }

    /// Takes those that other threads have woken.
    pub(super) fn take_woken_elsewhere(&self) {
        self.ready.borrow_mut().append(&mut self.elsewhere.woken.lock());
    }

    /// Drops every task, and those that come of it.
    pub(super) fn drop_all(&self) {
        while !self.listed.borrow().is_empty() {
            let all: Vec<_> = self.listed.borrow().iter().map(|(_, one)| one.clone()).collect();
            all.into_iter().for_each(std::task::Waker::wake);
            self.take_woken_elsewhere();
            let ready = std::mem::take(&mut *self.ready.borrow_mut());
            assert!(!ready.is_empty(), "what is listed can be woken");
            drop(ready);
        }
    }
}

/// Whether the runtime's own future is to be polled.
pub(super) struct Root(Arc<RootFlag>);

struct RootFlag {
    is_woken: AtomicBool,
    elsewhere: Arc<Elsewhere>,
}

impl Root {
    pub(super) fn waker(&self) -> std::task::Waker {
        Arc::clone(&self.0).into()
    }

    pub(super) fn is_woken(&self) -> bool {
        self.0.is_woken.load(Ordering::Acquire)
    }

    pub(super) fn take_woken(&self) -> bool {
        self.0.is_woken.swap(false, Ordering::AcqRel)
    }
}

impl Wake for RootFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        if !self.elsewhere.is_here() {
            self.elsewhere.waker.wake();
        }
    }
}
