//! Building a project-owned ring: the best flags the kernel takes, found by trying.

use std::fmt;
use std::io;

use io_uring::IoUring;

/// The set-up flags a ring got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingFlags {
    /// Only the creating thread submits (Linux 6.0).
    pub single_issuer: bool,
    /// Completions are produced only while that thread waits (Linux 6.1).
    pub defer_taskrun: bool,
    /// Completions do not interrupt the thread (Linux 5.19).
    pub coop_taskrun: bool,
}

/// Best first. DEFER_TASKRUN replaces COOP_TASKRUN and needs SINGLE_ISSUER.
const LADDER: [RingFlags; 4] = [
    RingFlags { single_issuer: true, defer_taskrun: true, coop_taskrun: false },
    RingFlags { single_issuer: true, defer_taskrun: false, coop_taskrun: true },
    RingFlags { single_issuer: false, defer_taskrun: false, coop_taskrun: true },
    RingFlags { single_issuer: false, defer_taskrun: false, coop_taskrun: false },
];

/// Kernel threads a ring may have for work that cannot run inline (flushes, punted writes), as
/// bounded and unbounded. The default grows with the ring's size and would let a storm of
/// punted operations start dozens.
const IO_WORKERS_MAX: [u32; 2] = [4, 2];

/// A ring with at least `entries` submission entries. An unknown flag (EINVAL) steps down the
/// ladder; any other error is final.
pub(crate) fn build(entries: u32) -> io::Result<(IoUring, RingFlags)> {
    let mut refused = None;
    for flags in LADDER {
        match try_build(entries, flags) {
            Ok(ring) => {
                // Since Linux 5.15; older kernels keep their default.
                let _ = ring.submitter().register_iowq_max_workers(&mut IO_WORKERS_MAX.clone());
                return Ok((ring, flags));
            }
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(refused.expect("the ladder is not empty"))
}

/// Lets this thread's rings have so many kernel threads for reads and writes that cannot run
/// inline, if it is more than they have. The bound is the thread's, whichever ring asks. Kernels
/// before 5.15 keep their own.
pub(crate) fn allow_io_workers(count: usize) -> io::Result<()> {
    let asking = IoUring::new(1)?;
    // Zeros change nothing and bring back what is.
    let mut limits = [0; 2];
    asking.submitter().register_iowq_max_workers(&mut limits)?;
    let wanted = u32::try_from(count).unwrap_or(u32::MAX);
    if wanted <= limits[0] {
        return Ok(());
    }
    asking.submitter().register_iowq_max_workers(&mut [wanted, 0])
}

/// What an io_uring_enter says. Interruptions and a passing lack of resources are not errors: what
/// was not submitted stays where it is.
pub(crate) fn unless_passing(entered: io::Result<usize>) -> io::Result<()> {
    match entered {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
            _ => Err(error),
        },
    }
}

fn try_build(entries: u32, flags: RingFlags) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    if flags.single_issuer {
        builder.setup_single_issuer();
    }
    if flags.defer_taskrun {
        builder.setup_defer_taskrun();
    }
    if flags.coop_taskrun {
        builder.setup_coop_taskrun();
    }
    if flags.defer_taskrun || flags.coop_taskrun {
        // Without it, a submit that does not wait never learns of completions held back.
        builder.setup_taskrun_flag();
    }
    builder.build(entries)
}

impl fmt::Display for RingFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (self.single_issuer, "single_issuer"),
            (self.defer_taskrun, "defer_taskrun"),
            (self.coop_taskrun, "coop_taskrun"),
        ];
        let set: Vec<&str> = names.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        if set.is_empty() { f.write_str("default") } else { f.write_str(&set.join("+")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_workers_allowed_by_one_ring_are_the_whole_threads() {
        let ring = IoUring::new(8).expect("a ring");
        // A new ring each time: who asks a ring that has a limit of its own sets it again.
        let allowed = || {
            let mut limits = [0; 2];
            let asked = IoUring::new(1).expect("a ring");
            asked.submitter().register_iowq_max_workers(&mut limits).expect("Linux 5.15");
            limits[0]
        };
        let before = allowed();
        allow_io_workers(before as usize + 40).expect("asked");
        assert_eq!(allowed(), before + 40);
        allow_io_workers(1).expect("asked");
        assert_eq!(allowed(), before + 40, "never fewer");
        drop(ring);
    }
}
