//! Pieces of messages, in whatever order, put together.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farcall::fuzzing::pieces(bytes));
