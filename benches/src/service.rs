//! The service that is called.

use bytes::Bytes;
use farcall::remote;

/// Arithmetic, as small as a call can be: 16 bytes in, 8 bytes out.
#[remote(semantics = "at_most_once")]
pub trait Calculator {
    /// The sum; numbers near [`EIGHT_BYTES`] take eight bytes each when encoded.
    async fn add(&self, a: u64, b: u64) -> u64;
    /// The same, at least once.
    #[remote(semantics = "at_least_once")]
    async fn add_again(&self, a: u64, b: u64) -> u64;
    /// The same, once or never.
    #[remote(semantics = "maybe")]
    async fn add_maybe(&self, a: u64, b: u64) -> u64;
    /// Gives back what it gets.
    async fn echo(&self, bytes: Bytes) -> Bytes;
    /// Takes what it gets, and says how much it was.
    async fn length(&self, bytes: Bytes) -> u64;
}

/// The service.
#[derive(Debug, Default)]
pub struct Adder;

#[remote]
impl Calculator for Adder {
    async fn add(&self, a: u64, b: u64) -> u64 {
        a.wrapping_add(b)
    }
    async fn add_again(&self, a: u64, b: u64) -> u64 {
        a.wrapping_add(b)
    }
    async fn add_maybe(&self, a: u64, b: u64) -> u64 {
        a.wrapping_add(b)
    }
    async fn echo(&self, bytes: Bytes) -> Bytes {
        bytes
    }
    async fn length(&self, bytes: Bytes) -> u64 {
        bytes.len() as u64
    }
}

/// A number whose encoding has eight bytes.
pub const EIGHT_BYTES: u64 = 1 << 50;
