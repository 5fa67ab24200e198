//! The cargo-fuzz binary of [`tower_fanout_fuzz::condition`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tower_fanout_fuzz::condition(data));
