//! The tokio-uring side. Its types stay in this module (and in the server's sockets), so that
//! another ring can take its place.
//!
//! A read in flight is never abandoned: should its future be dropped, it goes on by itself, and its
//! buffer returns to the pool with its completion.

mod in_flight;
mod iobuf;
mod pool;
mod reader;

use std::future::Future;
use std::io;
use std::mem;
use std::time::Duration;

pub use pool::{ReadBuf, ReadPool};
pub use reader::{DiskReader, ExpectedRead, READS_PER_DRIVE_MAX};

/// How long the end of a runtime waits for reads that the kernel still has.
const READS_END_MAX: Duration = Duration::from_secs(1);

/// Runs `future` on a new ring of `entries` submission entries, on this thread. Sockets and
/// disk reads share that ring.
///
/// COOP_TASKRUN halves the interrupted waits of this runtime. DEFER_TASKRUN hangs it: it polls
/// the ring's descriptor, which deferred completions do not make readable.
///
/// When a drive hangs with reads in flight, the ring and their buffers are left to the kernel for
/// the rest of the process: waiting for them could take for ever.
pub fn block_on<F: Future>(entries: u32, future: F) -> io::Result<F::Output> {
    let mut ring = tokio_uring::uring_builder();
    ring.setup_coop_taskrun().setup_single_issuer();
    let mut builder = tokio_uring::builder();
    builder.entries(entries).uring_builder(&ring);
    let runtime = match tokio_uring::Runtime::new(&builder) {
        // A kernel before 6.0 does not know a flag.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            builder.uring_builder(&tokio_uring::uring_builder());
            tokio_uring::Runtime::new(&builder)?
        }
        other => other?,
    };
    let output = runtime.block_on(async {
        let output = future.await;
        let _ = tokio::time::timeout(READS_END_MAX, in_flight::until_none()).await;
        output
    });
    if in_flight::count() > 0 {
        mem::forget(runtime);
    }
    Ok(output)
}
