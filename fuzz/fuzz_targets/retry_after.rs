//! The cargo-fuzz binary of [`tower_fanout_fuzz::retry_after`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tower_fanout_fuzz::retry_after(data));
