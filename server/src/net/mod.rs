//! The data plane: one thread per core, each with its own ring, listener and connections.
//!
//! Invariants: an operation handed to the ring is never dropped while it is in flight; a deadline
//! shuts the socket down and lets the operation end. Nothing is shared between threads but the
//! engine, the policies and the counters.

mod accept;
mod body;
mod conn;
mod deadline;
mod get;
mod inbox;
mod listener;
mod memory;
mod put;
mod socket;
mod stats;
mod stream;
mod thread;

pub use stats::{Counters, LATENCY_BOUNDS_US, Latency};

use crate::config::{Config, Policies};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use tapeloop_engine::Engine;
use thiserror::Error;
use tokio::sync::watch;

/// Deadlines and rates. The defaults are the product's; tests shorten them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the first byte of a head to its last.
    pub head_ms: u64,
    /// Between two requests.
    pub idle_ms: u64,
    /// Between two requests on a connection that has pushed: encoders die of a closed one.
    pub ingest_idle_ms: u64,
    /// Between two bytes of a body.
    pub body_idle_ms: u64,
    /// Slowest average of a body of declared length.
    pub body_bytes_per_s_min: u64,
    /// Between two bytes that the client takes.
    pub send_stall_ms: u64,
    /// Slowest average at which a client may take an answer.
    pub send_bytes_per_s_min: u64,
    /// For reading on after an answer that ends the connection.
    pub linger_ms: u64,
    /// For requests in progress when the server is told to stop.
    pub drain_ms: u64,
    /// Connections at once, over all threads. Those beyond wait to be accepted.
    pub connections_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head_ms: 10_000,
            idle_ms: 75_000,
            ingest_idle_ms: 600_000,
            body_idle_ms: 60_000,
            body_bytes_per_s_min: 8 << 10,
            send_stall_ms: 30_000,
            send_bytes_per_s_min: 8 << 10,
            linger_ms: 2_000,
            drain_ms: 10_000,
            connections_max: memory::CONNECTIONS_MAX,
        }
    }
}

/// What the data plane runs by.
#[derive(Clone, Debug)]
pub struct DataPlane {
    /// Where to listen. Port 0: any free one.
    pub listen: SocketAddr,
    /// How many front-end threads.
    pub threads: usize,
    /// Deadlines and rates.
    pub limits: Limits,
}

/// Why the data plane does not run.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The address is taken or not ours.
    #[error("cannot listen on {addr}: {cause}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// A thread could not start or lost its ring.
    #[error("front-end thread {thread}: {cause}")]
    Thread {
        /// Which one.
        thread: usize,
        /// Why.
        cause: io::Error,
    },
}

/// A running data plane.
#[derive(Debug)]
pub struct Serving {
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    threads: Vec<FrontEnd>,
    counters: Vec<Arc<Counters>>,
}

/// A front-end thread, and what it says at its end. It is never joined: when a drive hangs with its
/// reads in flight, the kernel may keep the thread although it has ended.
#[derive(Debug)]
struct FrontEnd {
    handle: std::thread::JoinHandle<()>,
    ended: mpsc::Receiver<io::Result<()>>,
}

/// The address is ours; nobody is answered yet.
#[derive(Debug)]
pub struct Bound {
    listeners: Vec<std::net::TcpListener>,
    addr: SocketAddr,
    limits: Limits,
}

impl DataPlane {
    /// As configured.
    pub fn of(config: &Config, limits: Limits) -> DataPlane {
        DataPlane { listen: config.listen, threads: config.threads, limits }
    }

    /// The most memory that connections take, in bytes, whatever their clients do.
    pub fn memory_max(&self) -> u64 {
        let connections = self.limits.connections_max as u64 * memory::CONNECTION_BYTES;
        let thread = memory::EXTRA_BYTES_MAX + thread::SPARE_BYTES_MAX;
        connections + self.threads as u64 * thread as u64
    }
}

/// Takes the address, so that a store is not even opened when that fails. Clients wait from here
/// on.
pub fn bind(plane: &DataPlane) -> Result<Bound, ServeError> {
    assert!(plane.threads > 0, "somebody has to listen");
    let failed = |cause| ServeError::Listen { addr: plane.listen, cause };
    let listeners = listener::bind_all(plane.listen, plane.threads).map_err(failed)?;
    let addr = listeners[0].local_addr().map_err(failed)?;
    Ok(Bound { listeners, addr, limits: plane.limits })
}

/// Serves until `Serving::stop`.
pub fn serve(
    bound: Bound,
    engine: &Engine,
    policies: &watch::Receiver<Arc<Policies>>,
) -> Result<Serving, ServeError> {
    let Bound { listeners, addr, limits } = bound;
    let (stop, stopping) = watch::channel(false);
    let seats = memory::Seats::default();
    let mut serving = Serving { addr, stop, threads: Vec::new(), counters: Vec::new() };
    for (number, listener) in listeners.into_iter().enumerate() {
        let counters = Arc::new(Counters::default());
        let seed = thread::Seed {
            listener,
            engine: engine.clone(),
            policies: policies.clone(),
            stopping: stopping.clone(),
            limits,
            counters: Arc::clone(&counters),
            seats: seats.clone(),
        };
        let (end, ended) = mpsc::sync_channel(1);
        let spawned = std::thread::Builder::new()
            .name(format!("front-{number}"))
            .spawn(move || drop(end.send(thread::run(seed))));
        match spawned {
            Ok(handle) => serving.threads.push(FrontEnd { handle, ended }),
            Err(cause) => {
                // Those that run are told to stop by the drop of the sender.
                return Err(ServeError::Thread { thread: number, cause });
            }
        }
        serving.counters.push(counters);
    }
    Ok(serving)
}

impl Serving {
    /// The address that is listened on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The counters, one set per thread.
    pub fn counters(&self) -> Vec<Arc<Counters>> {
        self.counters.clone()
    }

    /// True when a thread has ended although nobody told it to.
    pub fn has_failed(&self) -> bool {
        !*self.stop.borrow() && self.threads.iter().any(|thread| thread.handle.is_finished())
    }

    /// Stops accepting, lets requests in progress finish, waits for the threads.
    pub fn stop(self) -> Result<(), ServeError> {
        self.stop.send_replace(true);
        let mut outcome = Ok(());
        for (number, thread) in self.threads.into_iter().enumerate() {
            let ended = thread.ended.recv();
            let ended = ended.unwrap_or_else(|_| Err(io::Error::other("panicked")));
            outcome =
                outcome.and(ended.map_err(|cause| ServeError::Thread { thread: number, cause }));
        }
        outcome
    }
}
