//! The cargo-fuzz binary of [`tower_fanout_fuzz::template`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tower_fanout_fuzz::template(data));
