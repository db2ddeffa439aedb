//! Record header, chunks and padding from any bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tapeloop_fuzz::decoders::record(bytes));
