//! Counters of one front-end thread, read by the admin plane.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only its thread changes: others read it, so no instruction need be locked.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Raises it.
    pub fn add(&self, count: u64) {
        self.0.store(self.get().wrapping_add(count), Ordering::Relaxed);
    }

    /// Lowers it.
    pub fn sub(&self, count: u64) {
        self.0.store(self.get().wrapping_sub(count), Ordering::Relaxed);
    }

    /// Reads it.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the latency buckets, the last one open.
pub const LATENCY_BOUNDS_US: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_500_000];

/// How often an answer took how long.
#[derive(Debug, Default)]
pub struct Latency {
    buckets: [Counter; LATENCY_BOUNDS_US.len() + 1],
    sum_us: Counter,
}

impl Latency {
    /// Counts one answer.
    pub fn record(&self, latency_us: u64) {
        let bucket = LATENCY_BOUNDS_US.partition_point(|&bound| bound < latency_us);
        self.buckets[bucket].add(1);
        self.sum_us.add(latency_us);
    }

    /// Answers per bucket.
    pub fn buckets(&self) -> [u64; LATENCY_BOUNDS_US.len() + 1] {
        std::array::from_fn(|at| self.buckets[at].get())
    }

    /// Sum of all latencies.
    pub fn sum_us(&self) -> u64 {
        self.sum_us.get()
    }
}

/// What one thread has done.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub connections_accepted: Counter,
    /// Connections open now.
    pub connections_open: Counter,
    /// Times accepting paused for want of file descriptors.
    pub accept_pauses: Counter,
    /// Connections shut down by a deadline.
    pub deadlines_passed: Counter,
    /// Answers that had to be cut short by a reset.
    pub resets: Counter,
    /// GET and HEAD requests.
    pub gets: Counter,
    /// PUT and POST requests.
    pub puts: Counter,
    /// DELETE requests.
    pub deletes: Counter,
    /// Answers by class: 2xx, 3xx, 4xx, 5xx.
    pub answers: [Counter; 4],
    /// Body bytes received.
    pub bytes_received: Counter,
    /// Bytes sent, heads included.
    pub bytes_sent: Counter,
    /// From the head of a GET to the first byte of its answer.
    pub get_latency: Latency,
    /// From the last body byte of a PUT to its acknowledgement.
    pub put_latency: Latency,
}

impl Counters {
    /// Counts an answer.
    pub fn answered(&self, status: u16) {
        let class = usize::from(status / 100).clamp(2, 5) - 2;
        self.answers[class].add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_falls_into_the_first_bucket_that_holds_it() {
        let latency = Latency::default();
        for us in [0, 100, 101, 9_999_999] {
            latency.record(us);
        }
        let buckets = latency.buckets();
        assert_eq!((buckets[0], buckets[1], buckets[LATENCY_BOUNDS_US.len()]), (2, 1, 1));
        assert_eq!(latency.sum_us(), 10_000_200);
    }
}
