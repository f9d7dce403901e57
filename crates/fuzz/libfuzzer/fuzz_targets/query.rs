//! `query` under libFuzzer: what it promises is in the crate `fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::run("query", data));
