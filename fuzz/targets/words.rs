//! Stamps and words of exactly-once calls.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farcall::fuzzing::words(bytes));
