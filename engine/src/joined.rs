//! Reads that several readers of one thread want at the same time are done once.
//!
//! Invariants: a read is joined only while it is under way, and only by readers of the same place
//! in the same lap. A place is written once in a lap, before anybody can know of it, so the late
//! get the bytes they would have read themselves. A read goes on as long as one of its readers
//! waits, whoever began it, and is given up with the last of them.

use crate::error::ReadError;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::rc::Rc;
use tapeloop_format::StoreId;
use tapeloop_io::ReadBuf;
use tapeloop_io::runtime::{self, Task};
use tokio::sync::Notify;

/// What is read: a place of a store in one lap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) store: StoreId,
    pub(crate) zone: u32,
    pub(crate) lap: u64,
    pub(crate) offset: u64,
    pub(crate) len: usize,
}

type Answer = Result<ReadBuf, ReadError>;

/// One read and who waits for it.
#[derive(Default)]
struct UnderWay {
    answer: RefCell<Option<Answer>>,
    ended: Notify,
    readers: Cell<usize>,
    task: RefCell<Option<Task<()>>>,
}

thread_local! {
    /// Each has a reader that waits, so there are no more than those.
    static UNDER_WAY: RefCell<HashMap<Target, Rc<UnderWay>>> = RefCell::default();
}

/// The answer of the read of `target` that is under way, or of `begin()`, which then is.
pub(crate) async fn read<F>(target: Target, begin: impl FnOnce() -> F) -> Answer
where
    F: Future<Output = Answer> + 'static,
{
    let found = UNDER_WAY.with_borrow(|all| all.get(&target).cloned());
    let reader = Reader::new(target, found.unwrap_or_else(|| start(target, begin())));
    let under_way = &reader.under_way;
    let mut ended = std::pin::pin!(under_way.ended.notified());
    loop {
        // Before the look, or an end between look and wait would be missed.
        ended.as_mut().enable();
        if let Some(answer) = &*under_way.answer.borrow() {
            return answer.clone();
        }
        ended.as_mut().await;
        ended.set(under_way.ended.notified());
    }
}

fn start(target: Target, read: impl Future<Output = Answer> + 'static) -> Rc<UnderWay> {
    let under_way = Rc::new(UnderWay::default());
    UNDER_WAY.with_borrow_mut(|all| all.insert(target, Rc::clone(&under_way)));
    let own = Rc::clone(&under_way);
    let task = runtime::spawn(async move {
        let answer = read.await;
        // Who comes from now on reads for himself: nothing old is ever given out.
        take_off_list(&target, &own);
        *own.answer.borrow_mut() = Some(answer);
        own.ended.notify_waiters();
    });
    *under_way.task.borrow_mut() = Some(task);
    under_way
}

fn take_off_list(target: &Target, under_way: &Rc<UnderWay>) {
    UNDER_WAY.with_borrow_mut(|all| {
        if all.get(target).is_some_and(|listed| Rc::ptr_eq(listed, under_way)) {
            all.remove(target);
        }
    });
}

/// One who waits for a read.
struct Reader {
    target: Target,
    under_way: Rc<UnderWay>,
}

impl Reader {
    fn new(target: Target, under_way: Rc<UnderWay>) -> Reader {
        under_way.readers.set(under_way.readers.get() + 1);
        Reader { target, under_way }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let left = self.under_way.readers.get() - 1;
        self.under_way.readers.set(left);
        if left == 0 && self.under_way.answer.borrow().is_none() {
            // It may still wait for memory, for nobody now. What the kernel has ends by itself.
            take_off_list(&self.target, &self.under_way);
            if let Some(task) = self.under_way.task.take() {
                task.abort();
            }
        }
    }
}
