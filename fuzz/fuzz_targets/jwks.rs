//! See [`tower_fanout_fuzz`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tower_fanout_fuzz::jwks(data));
