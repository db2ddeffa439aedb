//! The workload, the same for every engine: clients on threads that wait for each operation.
//!
//! The bytes of an object follow from its number, so that any client can check them.

use crate::Result;
use crate::measure::{Sample, Usage, quantile};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub(crate) const OBJECT_BYTES: usize = 512 << 10;
/// Memory an engine may use for payloads, whatever it calls it.
pub(crate) const MEMORY_BYTES: usize = 64 << 20;
pub(crate) const CLIENTS: u64 = 8;
/// One operation in so many of the mix is a put.
const MIX_PUTS: u64 = 5;
/// Objects lie in a window of this pattern, each at a place of its own.
const STEPS: usize = 4096;

/// An engine: what its clients can do. They are many.
pub(crate) trait Store: Sync {
    /// Runs a client, on this thread, until it has no more operations.
    fn serve(&self, client: &mut Client<'_>) -> Result<()>;
    /// What is still to be written is written.
    fn settle(&self) -> Result<()>;
}

/// One operation.
#[derive(Clone, Copy)]
pub(crate) enum Op {
    Put(u64),
    Get(u64),
}

/// What all clients of a phase share.
struct Phase {
    objects: u64,
    next: AtomicU64,
    /// Numbers below this are given out.
    count: u64,
    end: Option<Instant>,
    /// Of so many operations one is a put; 1 for puts alone, 0 for none.
    puts: u64,
}

/// One client: it hands out operations, keeps their times, and knows every object's bytes.
pub(crate) struct Client<'a> {
    phase: &'a Phase,
    pattern: &'a [u8],
    started: Instant,
    latencies_ns: Vec<u64>,
    misses: u64,
}

impl Client<'_> {
    pub(crate) fn next(&mut self) -> Option<Op> {
        let number = self.phase.next.fetch_add(1, Ordering::Relaxed);
        let is_over = self.phase.end.is_some_and(|end| Instant::now() >= end);
        if is_over || number >= self.phase.count {
            return None;
        }
        self.started = Instant::now();
        Some(match self.phase.puts {
            1 => Op::Put(number),
            puts if puts > 0 && number.is_multiple_of(puts) => {
                Op::Put(mix(number) % self.phase.objects)
            }
            _ => Op::Get(mix(number) % self.phase.objects),
        })
    }

    pub(crate) fn bytes(&self, number: u64) -> &[u8] {
        let at = number as usize % STEPS * 8;
        &self.pattern[at..at + OBJECT_BYTES]
    }

    /// The operation is done.
    pub(crate) fn done(&mut self) {
        self.latencies_ns.push(self.started.elapsed().as_nanos() as u64);
    }

    /// A cache has dropped the object.
    pub(crate) fn missed(&mut self) {
        self.misses += 1;
        self.done();
    }
}

/// Fill, gets, mix.
pub(crate) fn run(store: &dyn Store, objects: u64, seconds: u64) -> Result<Vec<(String, Sample)>> {
    let pattern: Vec<u8> =
        (0..(OBJECT_BYTES / 8 + STEPS) as u64).flat_map(|word| mix(word).to_le_bytes()).collect();
    let time = Duration::from_secs(seconds);
    let phase = |count, end, puts| Phase { objects, next: AtomicU64::new(0), count, end, puts };
    let fill = measured(store, &phase(objects, None, 1), &pattern)?;
    let gets = measured(store, &phase(u64::MAX, Some(Instant::now() + time), 0), &pattern)?;
    let mix = measured(store, &phase(u64::MAX, Some(Instant::now() + time), MIX_PUTS), &pattern)?;
    Ok(vec![
        (format!("engine alone: put 512 KiB, {CLIENTS} clients"), fill),
        (format!("engine alone: random get 512 KiB, {CLIENTS} clients"), gets),
        (format!("engine alone: 4 gets to 1 put of 512 KiB, {CLIENTS} clients"), mix),
    ])
}

fn measured(store: &dyn Store, phase: &Phase, pattern: &[u8]) -> Result<Sample> {
    let before = Usage::now()?;
    let clients = std::thread::scope(|scope| {
        let client = |_| {
            scope.spawn(move || {
                let started = Instant::now();
                let mut client =
                    Client { phase, pattern, started, latencies_ns: Vec::new(), misses: 0 };
                store.serve(&mut client).map(|()| client)
            })
        };
        let threads: Vec<_> = (0..CLIENTS).map(client).collect();
        let joined = threads.into_iter().map(|thread| thread.join().expect("no client panics"));
        joined.collect::<Result<Vec<Client<'_>>>>()
    })?;
    let seconds = before.at.elapsed().as_secs_f64();
    // Not in the time, but in CPU and bytes: it is owed for what was put.
    store.settle()?;
    let after = Usage::now()?;
    let misses: u64 = clients.iter().map(|client| client.misses).sum();
    let mut latencies: Vec<u64> = clients.into_iter().flat_map(|c| c.latencies_ns).collect();
    latencies.sort_unstable();
    if latencies.is_empty() {
        return Err("no operation was done".into());
    }
    let count = latencies.len() as f64;
    let payload = count * OBJECT_BYTES as f64;
    let us = |share| quantile(&latencies, share) as f64 / 1e3;
    Ok(Sample {
        requests_per_s: count / seconds,
        bytes_per_s: payload / seconds,
        cpu_us_per_request: (after.cpu_s - before.cpu_s) * 1e6 / count,
        latency_us_p50: us(0.5),
        latency_us_p99: us(0.99),
        latency_us_p999: us(0.999),
        request_count: latencies.len() as u64,
        error_count: 0,
        rss_bytes: after.rss_bytes,
        extra: [
            ("drive bytes written per byte", (after.written - before.written) / payload),
            ("drive bytes read per byte", (after.read - before.read) / payload),
            ("misses, %", misses as f64 / count * 100.0),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into(),
    })
}

fn mix(value: u64) -> u64 {
    let mut word = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
