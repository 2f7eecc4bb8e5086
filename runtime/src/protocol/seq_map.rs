//! Maps from sequence numbers, with a hash of one multiplication.
//!
//! The keys come from a peer, so that it could choose them to collide; every such map is bounded by the window of its
//! session (1,024 by default), which bounds what that can cost.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::id::Seq;

/// A map from sequence numbers.
pub(crate) type SeqMap<V> = HashMap<Seq, V, BuildHasherDefault<SeqHasher>>;

/// Multiplies by the golden ratio and folds, so that both ends of the hash depend on all bits of the number.
#[derive(Default)]
pub(crate) struct SeqHasher(u64);

impl Hasher for SeqHasher {
    #[inline]
    fn write_u64(&mut self, seq: u64) {
        let product = u128::from(seq ^ self.0) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}
