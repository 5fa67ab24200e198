//! The cargo-fuzz binary of [`tower_fanout_fuzz::guard`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tower_fanout_fuzz::guard(data));
