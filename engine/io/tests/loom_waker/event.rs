//! A model of the eventfd: a counter that can be waited for.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use loom::sync::{Arc, Condvar, Mutex};

thread_local! {
    /// The eventfd made last: a waker keeps its own to itself, and the model's ring waits for it.
    /// All threads of a model are one thread of the machine.
    static LAST: RefCell<Option<Arc<State>>> = const { RefCell::new(None) };
}

#[derive(Debug)]
pub(crate) struct State {
    count: Mutex<u64>,
    signalled: Condvar,
}

impl State {
    /// What the poll on the ring does.
    pub(crate) fn wait(&self) {
        let mut count = self.count.lock().expect("no thread panics with it held");
        while *count == 0 {
            count = self.signalled.wait(count).expect("no thread panics with it held");
        }
    }
}

/// Takes over the eventfd made last.
pub(crate) fn last() -> Arc<State> {
    LAST.take().expect("a waker has been made")
}

#[derive(Debug)]
pub(crate) struct EventFd {
    state: Arc<State>,
}

impl EventFd {
    pub(crate) fn new() -> io::Result<EventFd> {
        let state = Arc::new(State { count: Mutex::new(0), signalled: Condvar::new() });
        LAST.set(Some(Arc::clone(&state)));
        Ok(EventFd { state })
    }

    pub(crate) fn signal(&self) -> io::Result<()> {
        *self.state.count.lock().expect("no thread panics with it held") += 1;
        self.state.signalled.notify_all();
        Ok(())
    }

    pub(crate) fn take(&self) {
        *self.state.count.lock().expect("no thread panics with it held") = 0;
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        -1
    }
}
