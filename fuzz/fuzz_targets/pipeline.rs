//! Any bytes as a pipeline file: `cargo +nightly fuzz run pipeline`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lang::fuzz_pipeline(bytes));
