//! Where random numbers come from: the operating system, or a seed in the simulator.

use std::hash::{BuildHasher, Hasher};
use std::sync::Mutex;

use super::lock;

/// A source of random numbers.
pub(crate) enum Entropy {
    /// The operating system's generator.
    System,
    /// A sequence that a seed determines (SplitMix64, Steele, Lea and Flood 2014).
    Seeded(Mutex<u64>),
}

impl Entropy {
    /// A sequence that `seed` determines.
    #[cfg_attr(not(feature = "sim"), allow(dead_code, reason = "only the simulator has a seed"))]
    pub(crate) fn seeded(seed: u64) -> Entropy {
        Entropy::Seeded(Mutex::new(seed))
    }

    /// Whether this is a simulated node's.
    #[cfg(feature = "sim")]
    pub(crate) fn is_seeded(&self) -> bool {
        matches!(self, Entropy::Seeded(_))
    }

    /// The next number, uniform over all.
    pub(crate) fn next(&self) -> u64 {
        match self {
            // Without the system's generator the hasher's keys, which come from it or an address, are the best there is.
            Entropy::System => getrandom::u64().unwrap_or_else(|_| {
                std::collections::hash_map::RandomState::new().build_hasher().finish()
            }),
            Entropy::Seeded(state) => {
                let mut state = lock(state);
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut mixed = *state;
                mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                mixed ^ (mixed >> 31)
            }
        }
    }
}
