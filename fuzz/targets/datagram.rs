//! One datagram, with its sum or without.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farcall::fuzzing::datagram(bytes));
