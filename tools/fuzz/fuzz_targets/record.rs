//! Record header, chunks and padding from any bytes.
#![no_main]

use std::alloc::System;

use cap::Cap;
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, tapeloop_fuzz::DECODER_MEMORY_MAX);

fuzz_target!(|bytes: &[u8]| tapeloop_fuzz::decoders::record(bytes));
