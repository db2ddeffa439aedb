//! When the requests of a primitive are due: by one clock for all connections of a thread.
//!
//! Invariants: with a rate, due times follow from the rate and the start alone, whatever the origin
//! does. A request that is due goes to the connection that has been free for longest; with none
//! free it waits, and its latency runs. One clock for all costs one timer for a thread, so that
//! a generator sustains in open loop about what it does in closed loop.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::ticker::Ticker;

/// The pace of one thread, shared by its connections.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    /// None: a request is due whenever a connection is free. The lock is fair: connections wait in
    /// line, and only the first of them for the clock.
    clock: Option<Rc<Mutex<Clock>>>,
}

#[derive(Debug)]
struct Clock {
    first: Instant,
    interval: Duration,
    /// Requests handed out so far.
    count: u64,
    wait: Wait,
}

#[derive(Debug)]
enum Wait {
    Sleep(Ticker),
    /// A processor that went to sleep needs many microseconds to wake up, on a virtual machine most
    /// of all. That would be taken for latency.
    Spin,
}

/// What a run asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PaceOptions {
    /// Requests per second over all threads; None: as fast as answered.
    pub(crate) rate: Option<f64>,
    /// Keep the processor awake between requests.
    pub(crate) spin: bool,
}

impl Pace {
    /// The pace of thread `thread` of `threads`, whose requests take turns.
    pub(crate) fn new(
        options: PaceOptions,
        thread: usize,
        threads: usize,
        start: Instant,
    ) -> io::Result<Pace> {
        assert!(thread < threads);
        let Some(rate) = options.rate else { return Ok(Pace { clock: None }) };
        let wait = if options.spin { Wait::Spin } else { Wait::Sleep(Ticker::new()?) };
        let clock = Clock {
            first: start + Duration::from_secs_f64(thread as f64 / rate),
            interval: Duration::from_secs_f64(threads as f64 / rate),
            count: 0,
            wait,
        };
        Ok(Pace { clock: Some(Rc::new(Mutex::new(clock))) })
    }

    /// Waits for the next request and gives the time it is due; None when `end` comes before.
    pub(crate) async fn next(&self, end: Option<Instant>) -> io::Result<Option<Instant>> {
        let is_over = |at: Instant| end.is_some_and(|end| at >= end);
        let Some(clock) = &self.clock else {
            let now = Instant::now();
            return Ok((!is_over(now)).then_some(now));
        };
        let mut clock = clock.lock().await;
        let due = clock.due();
        if is_over(due) {
            return Ok(None);
        }
        clock.wait.until(due).await?;
        if is_over(Instant::now()) {
            return Ok(None);
        }
        clock.count += 1;
        Ok(Some(due))
    }

    /// The requests that were due before `end` and never handed out.
    pub(crate) async fn unsent(&self, end: Instant) -> Vec<Instant> {
        let Some(clock) = &self.clock else { return Vec::new() };
        let mut clock = clock.lock().await;
        let mut unsent = Vec::new();
        while clock.due() < end {
            unsent.push(clock.due());
            clock.count += 1;
        }
        unsent
    }
}

impl Clock {
    fn due(&self) -> Instant {
        self.first + self.interval.mul_f64(self.count as f64)
    }
}

impl Wait {
    async fn until(&mut self, at: Instant) -> io::Result<()> {
        match self {
            Wait::Sleep(ticker) => ticker.until(at).await,
            Wait::Spin => {
                while Instant::now() < at {
                    tokio::task::yield_now().await;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on(future: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(future);
    }

    #[test]
    fn due_times_follow_from_the_rate_alone_and_none_is_left_out() {
        block_on(async {
            let start = Instant::now();
            for spin in [false, true] {
                let options = PaceOptions { rate: Some(1_000.0), spin };
                let pace = Pace::new(options, 1, 2, start).unwrap();
                let due = |number: u64| start + Duration::from_millis(1 + 2 * number);
                for number in 0..3 {
                    assert_eq!(pace.next(Some(due(9))).await.unwrap(), Some(due(number)));
                    assert!(Instant::now() >= due(number), "never before it is due");
                }
                assert_eq!(pace.next(Some(due(3))).await.unwrap(), None);
                assert_eq!(pace.unsent(due(5)).await, [due(3), due(4)]);
            }
        });
    }

    #[test]
    fn a_late_thread_gets_every_request_it_missed_with_its_own_due_time() {
        block_on(async {
            let start = Instant::now() - Duration::from_secs(1);
            let options = PaceOptions { rate: Some(100.0), spin: false };
            let pace = Pace::new(options, 0, 1, start).unwrap();
            for number in 0..100 {
                let due = start + Duration::from_millis(10 * number);
                assert_eq!(pace.next(None).await.unwrap(), Some(due));
            }
        });
    }

    #[test]
    fn without_a_rate_a_request_is_due_now_until_the_end() {
        block_on(async {
            let options = PaceOptions { rate: None, spin: false };
            let pace = Pace::new(options, 0, 1, Instant::now()).unwrap();
            let before = Instant::now();
            let due = pace.next(Some(before + Duration::from_secs(60))).await.unwrap();
            assert!(due.is_some_and(|due| due >= before));
            assert_eq!(pace.next(Some(before)).await.unwrap(), None);
            assert!(pace.unsent(before + Duration::from_secs(60)).await.is_empty());
        });
    }
}
