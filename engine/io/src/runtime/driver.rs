//! The ring of a runtime, and its operations in flight.
//!
//! Invariant: the memory of an operation stays where it is until its completion has been seen. As
//! long as somebody waits, the operation's future has it; from then on the driver does.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};
use slab::Slab;

use crate::ring_setup::{self, unless_passing};
use crate::waker::Waker;

/// The user data of the poll on the waker, and of operations whose end nobody wants to know.
/// Operations are numbered from 0.
const WAKE: u64 = u64::MAX;
const FORGOTTEN: u64 = u64::MAX - 1;

/// What an operation keeps in place for the kernel.
pub(super) trait Held: 'static {
    /// Whether the kernel is told when nobody waits for the operation any more. Without that, it
    /// goes on to its end.
    fn is_cancelled(&self) -> bool {
        false
    }

    /// It has ended, and nobody waits for it any more.
    fn abandoned(self: Box<Self>, _result: i32) {}
}

enum State {
    InFlight(Option<std::task::Waker>),
    Abandoned(Box<dyn Held>),
    Done(i32),
}

/// How long a turn may wait.
pub(super) enum Wait {
    No,
    /// `None`: for what comes, however long.
    Until(Option<Instant>),
}

pub(super) struct Driver {
    ring: RefCell<IoUring>,
    states: RefCell<Slab<State>>,
    /// Completions that have been seen and not told.
    completed: RefCell<Vec<(u64, i32)>>,
    waker: Waker,
    is_wake_armed: Cell<bool>,
}

impl Driver {
    pub(super) fn new(entries: u32) -> io::Result<Driver> {
        let (ring, _) = ring_setup::build(entries)?;
        Ok(Driver {
            ring: RefCell::new(ring),
            states: RefCell::default(),
            completed: RefCell::default(),
            waker: Waker::new()?,
            is_wake_armed: Cell::new(false),
        })
    }

    /// Ends a wait from any thread.
    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Starts an operation. The kernel hears of it at the end of the turn.
    ///
    /// # Safety
    /// What `entry` names (memory, descriptor) must stay valid, in place, and untouched by others
    /// as long as `held` exists, wherever `held` itself is moved to.
    pub(super) unsafe fn start<H: Held>(self: &Rc<Self>, held: H, entry: squeue::Entry) -> Op<H> {
        let key = self.states.borrow_mut().insert(State::InFlight(None));
        // SAFETY: by the caller's promise; `held` lives in the Op or, behind it, in `states`, until
        // the completion has been seen.
        unsafe { self.push(&entry.user_data(key as u64)) };
        Op { driver: Rc::clone(self), key, held: Some(held) }
    }

    /// # Safety
    /// As for [`start`](Self::start), or the entry names nothing.
    unsafe fn push(&self, entry: &squeue::Entry) {
        let mut ring = self.ring.borrow_mut();
        // SAFETY: by the caller's promise.
        while unsafe { ring.submission().push(entry) }.is_err() {
            // Full: the kernel takes what there is. Should it want room for completions first, they
            // wait their turn here.
            unless_passing(ring.submit()).expect("a full queue can be submitted");
            let completions = ring.completion();
            self.completed.borrow_mut().extend(completions.map(|it| (it.user_data(), it.result())));
        }
    }

    fn cancel(&self, key: usize) {
        let entry = opcode::AsyncCancel::new(key as u64).build().user_data(FORGOTTEN);
        // SAFETY: it names a number.
        unsafe { self.push(&entry) };
    }

    /// Submits what was started, waits for completions as told, and wakes whom they concern. True
    /// when another thread has used the waker.
    pub(super) fn turn(&self, wait: Wait) -> io::Result<bool> {
        self.arm_waker();
        let mut completed = mem::take(&mut *self.completed.borrow_mut());
        {
            let mut ring = self.ring.borrow_mut();
            enter(&mut ring, if completed.is_empty() { wait } else { Wait::No })?;
            completed.extend(ring.completion().map(|entry| (entry.user_data(), entry.result())));
        }
        let mut is_woken = false;
        for (number, result) in completed.drain(..) {
            match number {
                FORGOTTEN => {}
                WAKE => {
                    self.is_wake_armed.set(false);
                    self.waker.reset();
                    is_woken = true;
                }
                key => self.complete(usize::try_from(key).expect("keys are small"), result),
            }
        }
        // Handling these may have brought others.
        let mut others = self.completed.borrow_mut();
        completed.append(&mut others);
        *others = completed;
        Ok(is_woken)
    }

    fn complete(&self, key: usize, result: i32) {
        let before = mem::replace(&mut self.states.borrow_mut()[key], State::Done(result));
        match before {
            State::InFlight(waker) => {
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            State::Abandoned(held) => {
                self.states.borrow_mut().remove(key);
                held.abandoned(result);
            }
            State::Done(_) => unreachable!("an operation completes once"),
        }
    }

    fn arm_waker(&self) {
        if !self.is_wake_armed.replace(true) {
            let fd = Fd(self.waker.as_raw_fd());
            let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32).build().user_data(WAKE);
            // SAFETY: it names the waker's descriptor, which the driver keeps open.
            unsafe { self.push(&entry) };
        }
    }

    /// Operations whose end has not been taken.
    #[cfg(test)]
    pub(super) fn in_flight(&self) -> usize {
        self.states.borrow().len()
    }

    /// Lets the kernel know `buffers`, by their order, for reads into them.
    ///
    /// # Safety
    /// They must stay where they are as long as the registration exists.
    pub(super) unsafe fn register(
        self: &Rc<Self>,
        buffers: &[libc::iovec],
    ) -> io::Result<Registration> {
        // SAFETY: by the caller's promise.
        unsafe { self.ring.borrow().submitter().register_buffers(buffers)? };
        Ok(Registration(Rc::clone(self)))
    }

    /// Cancels what can be cancelled and waits for the rest, at most `wait_max`. What the kernel
    /// has then it keeps, memory and ring.
    pub(super) fn end(driver: &Rc<Driver>, wait_max: Duration) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::any()).build().user_data(FORGOTTEN);
        // SAFETY: it names nothing.
        unsafe { driver.push(&entry) };
        let deadline = Instant::now() + wait_max;
        while !driver.states.borrow().is_empty() {
            let is_late = Instant::now() >= deadline;
            if is_late || driver.turn(Wait::Until(Some(deadline))).is_err() {
                mem::forget(Rc::clone(driver));
                return;
            }
        }
    }
}

/// One io_uring_enter, unless there is nothing to do in the kernel.
fn enter(ring: &mut IoUring, wait: Wait) -> io::Result<()> {
    let entered = match wait {
        Wait::No => {
            let queue = ring.submission();
            if queue.is_empty() && !queue.taskrun() && !queue.cq_overflow() {
                return Ok(());
            }
            drop(queue);
            ring.submit()
        }
        Wait::Until(None) => ring.submit_and_wait(1),
        Wait::Until(Some(at)) => {
            let time = Timespec::from(at.saturating_duration_since(Instant::now()));
            ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&time))
        }
    };
    unless_passing(entered)
}

/// Buffers that the kernel knows. It forgets them when this is dropped.
pub(super) struct Registration(Rc<Driver>);

impl Drop for Registration {
    fn drop(&mut self) {
        // A ring that is gone has forgotten them already.
        let _ = self.0.ring.borrow().submitter().unregister_buffers();
    }
}

/// An operation in flight; gives its result, a count or a negative errno, and what it held.
pub(super) struct Op<H: Held> {
    driver: Rc<Driver>,
    key: usize,
    held: Option<H>,
}

// What is held is not pinned by its future: it stays valid wherever it is moved to.
impl<H: Held> Unpin for Op<H> {}

impl<H: Held> Future for Op<H> {
    type Output = (i32, H);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<(i32, H)> {
        let result = {
            let mut states = self.driver.states.borrow_mut();
            match &mut states[self.key] {
                State::Done(result) => {
                    let result = *result;
                    states.remove(self.key);
                    result
                }
                State::InFlight(waker) => {
                    match waker {
                        Some(waker) => waker.clone_from(cx.waker()),
                        None => *waker = Some(cx.waker().clone()),
                    }
                    return Poll::Pending;
                }
                State::Abandoned(_) => unreachable!("its future is here"),
            }
        };
        Poll::Ready((result, self.held.take().expect("not polled after its end")))
    }
}

impl<H: Held> Drop for Op<H> {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        let is_cancelled = held.is_cancelled();
        let held: Box<dyn Held> = Box::new(held);
        let ended = {
            let mut states = self.driver.states.borrow_mut();
            match states[self.key] {
                State::Done(result) => {
                    states.remove(self.key);
                    Some((result, held))
                }
                _ => {
                    states[self.key] = State::Abandoned(held);
                    None
                }
            }
        };
        match ended {
            Some((result, held)) => held.abandoned(result),
            None if is_cancelled => self.driver.cancel(self.key),
            None => {}
        }
    }
}

/// What the kernel says of an operation.
pub(super) fn count(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}
