//! One frame or assembled message, without its length.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farcall::fuzzing::message(bytes));
