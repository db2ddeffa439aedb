//! The allocator's free memory.

/// Gives memory that the process has freed, and its allocator keeps, back to the system. It takes
/// milliseconds and holds up whoever allocates meanwhile: for the end of a recovery, which has
/// freed several times what the store goes on with.
pub fn give_back_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no arguments that could be wrong; the function takes the allocator's own locks and
    // touches only memory that is free.
    unsafe {
        libc::malloc_trim(0);
    }
}
