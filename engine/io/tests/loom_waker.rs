//! The waker of a ring under loom: `waker.rs` itself, over loom's atomics and a model of the
//! eventfd, run through the orders in which a ring and those who wake it can take their steps.
//!
//! The work is a counter that is touched without any ordering of its own: what the ring sees of it
//! after a wake-up it sees because of the waker. A wake-up that gets lost is a deadlock.
#![allow(dead_code, unreachable_pub, reason = "the file is that of the library")]

#[path = "loom_waker/event.rs"]
mod event;
#[path = "loom_waker/sync.rs"]
mod sync;
#[path = "../src/waker.rs"]
mod waker;

use std::sync::atomic::Ordering::Relaxed;

use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
use loom::thread;
use waker::Waker;

/// A ring's thread and `askers` others, of which each queues `each` pieces of work and wakes it.
fn run(askers: usize, each: usize, preemptions: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || {
        let waker = Waker::new().expect("a model never fails");
        let event = event::last();
        let work = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..askers)
            .map(|_| {
                let (waker, work) = (waker.clone(), Arc::clone(&work));
                thread::spawn(move || {
                    for _ in 0..each {
                        work.fetch_add(1, Relaxed);
                        waker.wake();
                    }
                })
            })
            .collect();
        // The ring: wait until the poll says so, take the wake-up, look at the queue.
        let mut seen = 0;
        while seen < askers * each {
            event.wait();
            waker.reset();
            seen = work.load(Relaxed);
        }
        threads.into_iter().for_each(|thread| thread.join().expect("an asker that ends well"));
    });
}

#[test]
fn a_wake_up_is_never_lost_between_two_of_one_thread() {
    run(1, 3, 4);
}

#[test]
fn a_wake_up_is_never_lost_between_two_threads() {
    run(2, 1, 4);
    run(2, 2, 2);
}
