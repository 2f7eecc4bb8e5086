//! A stream of frames, from its first byte.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farcall::fuzzing::varint_frame(bytes));
