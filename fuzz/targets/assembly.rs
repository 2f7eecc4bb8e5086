//! A stream of fragments, put together to messages.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farcall::fuzzing::assembly(bytes));
