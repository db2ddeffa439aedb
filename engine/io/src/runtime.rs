//! One thread's runtime: tasks, timers, and one ring for sockets and disk reads.
//!
//! A turn polls the tasks that are ready, then enters the kernel once: what they have asked for is
//! submitted, and the thread waits there for what comes next. With DEFER_TASKRUN completions are
//! produced only then, so nothing interrupts a task, and a busy thread pays one system call for
//! many requests.
//!
//! - Tasks stay on their thread. Their wakers may be used from any.
//! - An operation in flight is never abandoned: should its future be dropped, the driver keeps its
//!   memory until the kernel is done with it.

mod driver;
mod in_flight;
mod large;
mod lend;
mod pool;
mod reader;
mod stream;
mod tasks;
mod timers;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use driver::{Driver, Wait};
use large::Large;
use lend::Lender;
pub use pool::{ReadBuf, ReadPool};
pub use reader::{DiskReader, ExpectedRead, READS_PER_DRIVE_MAX};
pub use stream::{Listener, Stream};
use tasks::Tasks;
pub use tasks::{Task, spawn, yield_now};
use timers::Timers;
pub use timers::{Elapsed, sleep, timeout, timeout_at};

/// How long the end of a runtime waits for what the kernel still has.
const END_MAX: Duration = Duration::from_secs(1);

/// What the code inside a runtime reaches.
struct Core {
    driver: Rc<Driver>,
    tasks: Tasks,
    timers: Timers,
    large: Large,
    lender: Lender,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// Runs `future`, and the tasks spawned meanwhile, on a new ring of `entries` submission entries on
/// this thread. Tasks that have not ended by then are dropped.
///
/// When a drive hangs with reads in flight, the ring and their buffers are left to the kernel for
/// the rest of the process: waiting for them could take for ever. Panics inside another runtime.
pub fn block_on<F: Future>(entries: u32, future: F) -> io::Result<F::Output> {
    let driver = Rc::new(Driver::new(entries)?);
    let tasks = Tasks::new(driver.waker());
    let (timers, large, lender) = (Timers::default(), Large::default(), Lender::default());
    let core = Rc::new(Core { driver, tasks, timers, large, lender });
    let entered = Entered::new(Rc::clone(&core));
    let output = core.run(async {
        let output = future.await;
        let _ = timeout(END_MAX, in_flight::until_none()).await;
        output
    });
    drop(entered);
    output
}

impl Core {
    fn run<F: Future>(&self, future: F) -> io::Result<F::Output> {
        let mut future = pin!(future);
        let root = self.tasks.root();
        let waker = root.waker();
        let mut context = Context::from_waker(&waker);
        loop {
            if root.take_woken()
                && let Poll::Ready(output) = future.as_mut().poll(&mut context)
            {
                return Ok(output);
            }
            self.tasks.run_ready();
            if self.large.call_next() {
                self.tasks.run_ready();
            }
            let is_busy = self.tasks.has_ready() || self.large.is_awaited() || root.is_woken();
            let wait = match is_busy {
                true => Wait::No,
                false => Wait::Until(self.timers.next_due()),
            };
            if self.driver.turn(wait)? {
                self.tasks.take_woken_elsewhere();
            }
            self.timers.wake_due();
        }
    }
}

/// The runtime that this thread is in.
fn current<R>(with: impl FnOnce(&Rc<Core>) -> R) -> R {
    CURRENT.with_borrow(|core| with(core.as_ref().expect("called inside block_on")))
}

/// Its driver.
fn driver() -> Rc<Driver> {
    current(|core| Rc::clone(&core.driver))
}

/// While it exists this thread is in the runtime. Its end is the runtime's, also by a panic.
struct Entered(Rc<Core>);

impl Entered {
    fn new(core: Rc<Core>) -> Entered {
        CURRENT.with_borrow_mut(|current| {
            assert!(current.is_none(), "a runtime inside a runtime");
            *current = Some(Rc::clone(&core));
        });
        Entered(core)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let core = &self.0;
        core.tasks.drop_all();
        // A drive that has hung until now is not waited for again.
        let wait_max = if in_flight::count() > 0 { Duration::ZERO } else { END_MAX };
        Driver::end(&core.driver, wait_max);
        CURRENT.with_borrow_mut(Option::take);
    }
}

#[cfg(test)]
mod tests;
