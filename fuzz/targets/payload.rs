//! Payloads of several types; the first byte chooses the type.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farcall::fuzzing::payload(bytes));
