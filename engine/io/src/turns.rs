//! Short turns on the processor, for threads that wake often and work briefly.

use std::io;
use std::mem;

/// What the kernel's scheduler takes for a long turn: it cuts in on others only after theirs, and
/// a thread that asks for short ones is let in sooner by all who ask for longer ones.
const TURN_NS: u64 = 100_000;

/// Asks for short turns of the calling thread on the processor. It gets no more time than before,
/// only sooner. Kernels before 6.12 take no notice.
pub fn ask_for_short_turns() -> io::Result<()> {
    let size = mem::size_of::<libc::sched_attr>() as u32;
    // SAFETY: all zeros is a valid value of this plain C struct.
    let mut attributes: libc::sched_attr = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes at most `size` bytes to `attributes`, which is as large; thread 0
    // is the calling one.
    check(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) })?;
    attributes.size = size;
    attributes.sched_runtime = TURN_NS;
    // SAFETY: the kernel reads `size` bytes of `attributes`, which the caller keeps.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })
}

fn check(status: libc::c_long) -> io::Result<()> {
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_ask_for_short_turns_without_any_privilege() {
        std::thread::spawn(|| ask_for_short_turns().expect("granted, or not noticed"))
            .join()
            .expect("no panic");
    }
}
