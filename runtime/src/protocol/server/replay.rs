//! Which of the latest numbers were seen: keeps calls under maybe from running twice, without a record of each.

use crate::id::Seq;

/// A window of [`WINDOW`] numbers below the highest that was seen; what lies below counts as seen.
#[derive(Debug, Clone)]
pub(super) struct Replay {
    /// One above the highest number that was seen.
    next: Seq,
    bits: Option<Box<[u64; WORDS]>>,
}

impl Default for Replay {
    fn default() -> Replay {
        Replay { next: 1, bits: None }
    }
}

impl Replay {
    /// Notes a number; whether it is new.
    pub(super) fn insert(&mut self, seq: Seq) -> bool {
        let bits = self.bits.get_or_insert_with(|| Box::new([0; WORDS]));
        if seq >= self.next {
            // The places of the numbers between become those of numbers not seen.
            let skipped = seq - self.next + 1;
            if skipped >= WINDOW {
                bits.fill(0);
            } else {
                for number in self.next..=seq {
                    bits[word(number)] &= !bit(number);
                }
            }
            self.next = seq + 1;
        } else if seq + WINDOW < self.next {
            return false;
        }
        let new = bits[word(seq)] & bit(seq) == 0;
        bits[word(seq)] |= bit(seq);
        new
    }

    /// Whether this number is known to have been seen; one below the window is not known.
    pub(super) fn has_seen(&self, seq: Seq) -> bool {
        let inside = seq < self.next && seq + WINDOW >= self.next;
        inside && self.bits.as_ref().is_some_and(|bits| bits[word(seq)] & bit(seq) != 0)
    }
}

fn word(seq: Seq) -> usize {
    (seq % WINDOW / 64) as usize
}

fn bit(seq: Seq) -> u64 {
    1 << (seq % 64)
}

const WORDS: usize = 16;
/// Numbers that are told apart.
const WINDOW: u64 = WORDS as u64 * 64;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_agrees_with_a_set_inside_the_window_and_refuses_below() {
        let (mut replay, mut seen, mut highest) = (Replay::default(), BTreeSet::new(), 0);
        let mut state = 7_u64;
        for round in 0..20_000_u64 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let seq = 1 + round / 4 + (state >> 33) % 1500;
            let too_old = seq + WINDOW < highest + 1;
            if !too_old {
                assert_eq!(replay.has_seen(seq), seen.contains(&seq), "{seq} of {highest}");
            }
            assert_eq!(replay.insert(seq), !too_old && !seen.contains(&seq), "{seq} of {highest}");
            if !too_old {
                seen.insert(seq);
                highest = highest.max(seq);
            }
        }
    }
}
