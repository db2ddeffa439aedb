//! A volume edited as the bytes say into recovery, and sometimes the recovered log put to work.
#![no_main]

use std::alloc::System;

use cap::Cap;
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, tapeloop_fuzz::MEMORY_MAX);

fuzz_target!(
    init: {
        tapeloop_fuzz::recovery::prepare();
        let limit = MEMORY.allocated() + tapeloop_fuzz::RECOVERY_MEMORY_MAX;
        MEMORY.set_limit(limit).expect("more than is allocated");
    },
    |bytes: &[u8]| tapeloop_fuzz::recovery::recovery(bytes)
);
