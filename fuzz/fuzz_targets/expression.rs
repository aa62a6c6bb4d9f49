//! Any bytes as an expression: `cargo +nightly fuzz run expression`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lang::fuzz_expression(bytes));
