//! Whatever a client sends, in pieces of any size, is a request or has an answer.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lcr_control::fuzzed(bytes));
