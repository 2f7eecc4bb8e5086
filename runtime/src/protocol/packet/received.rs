//! Which packet numbers of one link and direction have arrived: against replays, and for ACK.
//!
//! Two maps of bits over the last [`WINDOW`] numbers, one of what arrived and one of what the peer
//! may not know yet. Of older numbers nothing is known, so they count as repeats (the replay window
//! of RFC 4303, section 3.4.3; what an ACK need not name again is RFC 9000, section 13.2.4). Fixed
//! size; writes no frame, and the channel says when.

/// Numbers this far or further below the largest are refused.
pub(crate) const WINDOW: u64 = 1024;

/// Ranges of one ACK, at most.
pub(crate) const MAX_RANGES: usize = 32;

/// Numbers from here on are refused: they cannot be written on the wire.
const NUMBER_LIMIT: u64 = 1 << 62;

/// The numbers that arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    largest: Option<u64>,
    seen: Bits,
    /// Those of `seen` that are to be acknowledged.
    unknown: Bits,
    /// What is below is known to the peer, but for what arrived late.
    floor: u64,
    /// None of `unknown` is below, so that nothing is looked for there.
    oldest: u64,
}

impl Received {
    /// Adds a number. False if it is to be dropped: seen before, or too old to tell.
    #[inline]
    pub(crate) fn insert(&mut self, number: u64) -> bool {
        if number >= NUMBER_LIMIT {
            return false;
        }
        match self.largest {
            Some(largest) if number <= largest => {
                if largest - number >= WINDOW || self.seen.contains(number) {
                    return false;
                }
            }
            Some(largest) => {
                self.seen.clear(largest + 1, number);
                self.unknown.clear(largest + 1, number);
                self.largest = Some(number);
            }
            None => self.largest = Some(number),
        }
        self.seen.insert(number);
        self.unknown.insert(number);
        self.oldest = self.oldest.min(number);
        true
    }

    /// The largest number that arrived.
    #[inline]
    pub(crate) fn largest(&self) -> Option<u64> {
        self.largest
    }

    /// Whether the number directly below the largest is missing: the ACK is better not delayed.
    #[inline]
    pub(crate) fn has_gap(&self) -> bool {
        match self.largest {
            Some(largest) => largest > self.floor && !self.seen.contains(largest - 1),
            None => false,
        }
    }

    /// What an ACK is to name: half-open ranges, highest first, at most `most` of them and
    /// [`MAX_RANGES`]. Allocates nothing.
    pub(crate) fn ranges(&self, most: usize) -> impl Iterator<Item = (u64, u64)> + '_ {
        let lowest = self.lowest_unknown();
        // The highest number that is still to be looked at.
        let mut from = self.largest;
        std::iter::from_fn(move || {
            let last = self.unknown.highest(from?, lowest, Wanted::Set)?;
            let below = self.unknown.highest(last, lowest, Wanted::Clear);
            from = below;
            Some((below.map_or(lowest, |below| below + 1), last + 1))
        })
        .take(most.min(MAX_RANGES))
    }

    /// The peer knows what arrived below `number`, which is one more than the largest that an
    /// acknowledged ACK named. It is not named again; what arrives below later is. What arrived
    /// between that ACK and its acknowledgement was named in between or is lost to the peer: at
    /// worst it sends a frame twice.
    pub(crate) fn forget_below(&mut self, number: u64) {
        let Some(largest) = self.largest else { return };
        // The largest stays, so that there is something to say.
        let number = number.min(largest);
        if number >= self.floor {
            let lowest = self.lowest_unknown();
            if number > lowest {
                self.unknown.clear(lowest, number - 1);
            }
            (self.floor, self.oldest) = (number, number);
        }
    }

    /// None of `unknown` that counts is below.
    fn lowest_unknown(&self) -> u64 {
        let window = self.largest.map_or(0, |largest| largest.saturating_sub(WINDOW - 1));
        window.max(self.oldest)
    }
}

const WORDS: u64 = WINDOW / 64;

/// One bit for each number of a window, at the number modulo the window's size.
#[derive(Clone, Debug, Default)]
struct Bits([u64; WORDS as usize]);

enum Wanted {
    Set,
    Clear,
}

impl Bits {
    #[inline]
    fn contains(&self, number: u64) -> bool {
        self.0[word(number)] & bit(number) != 0
    }

    #[inline]
    fn insert(&mut self, number: u64) {
        self.0[word(number)] |= bit(number);
    }

    /// Clears the numbers from `first` to `last`; all, if that is a window or more.
    #[inline]
    fn clear(&mut self, first: u64, last: u64) {
        if last - first >= WINDOW - 1 {
            self.0 = Default::default();
            return;
        }
        let mut number = first;
        while number <= last {
            let end = (number | 63).min(last);
            self.0[word(number)] &= !(u64::MAX >> (63 - (end - number)) << (number % 64));
            number = end + 1;
        }
    }

    /// The highest number from `from` down to `lowest` that is in or not in the map.
    fn highest(&self, from: u64, lowest: u64, wanted: Wanted) -> Option<u64> {
        let flip = match wanted {
            Wanted::Set => 0,
            Wanted::Clear => u64::MAX,
        };
        let mut number = from;
        loop {
            let start = number - number % 64;
            let found = (self.0[word(number)] ^ flip) & (u64::MAX >> (63 - number % 64));
            if found != 0 {
                let found = start + 63 - u64::from(found.leading_zeros());
                return (found >= lowest).then_some(found);
            }
            if start <= lowest {
                return None;
            }
            number = start - 1;
        }
    }
}

#[inline]
fn word(number: u64) -> usize {
    (number / 64 % WORDS) as usize
}

#[inline]
fn bit(number: u64) -> u64 {
    1 << (number % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn received(numbers: impl IntoIterator<Item = u64>) -> Received {
        let mut received = Received::default();
        for number in numbers {
            assert!(received.insert(number), "{number}");
        }
        received
    }

    fn all(received: &Received) -> Vec<(u64, u64)> {
        received.ranges(MAX_RANGES).collect()
    }

    #[test]
    fn a_number_is_new_once() {
        let mut received = received([3, 5, 4, 0]);
        for number in [0, 3, 4, 5] {
            assert!(!received.insert(number));
        }
        assert_eq!(all(&received), [(3, 6), (0, 1)]);
        assert_eq!(received.largest(), Some(5));
    }

    #[test]
    fn a_number_too_far_below_the_largest_is_a_repeat() {
        let mut received = received([5000]);
        assert!(!received.insert(5000 - WINDOW));
        assert!(received.insert(5000 - WINDOW + 1));
        assert_eq!(all(&received), [(5000, 5001), (3977, 3978)]);
    }

    #[test]
    fn a_jump_by_any_length_forgets_what_was_below() {
        for jump in [1, 63, 64, 65, 1022, 1023, 1024, 1025, 1 << 32, NUMBER_LIMIT - 2000] {
            let mut received = received(0..1500);
            let largest = 1499 + jump;
            assert!(received.insert(largest), "{jump}");
            let lowest = largest - (WINDOW - 1);
            let mut expected = vec![(largest, largest + 1)];
            if jump == 1 {
                expected = vec![(lowest, largest + 1)];
            } else if lowest < 1500 {
                expected.push((lowest, 1500));
            }
            assert_eq!(all(&received), expected, "{jump}");
        }
    }

    #[test]
    fn a_number_that_cannot_be_written_is_refused() {
        let mut received = received([NUMBER_LIMIT - 1]);
        assert!(!received.insert(NUMBER_LIMIT));
        assert!(!received.insert(u64::MAX));
        assert_eq!(all(&received), [(NUMBER_LIMIT - 1, NUMBER_LIMIT)]);
    }

    #[test]
    fn an_ack_names_the_highest_ranges_first_and_no_more_than_it_may() {
        let received = received((0..200).step_by(2));
        assert_eq!(all(&received).len(), MAX_RANGES);
        assert_eq!(received.ranges(usize::MAX).count(), MAX_RANGES);
        assert_eq!(received.ranges(2).collect::<Vec<_>>(), [(198, 199), (196, 197)]);
        assert_eq!(Received::default().ranges(9).count(), 0);
    }

    #[test]
    fn a_missing_number_below_the_largest_is_a_gap() {
        assert!(!Received::default().has_gap());
        assert!(!received([0]).has_gap());
        assert!(received([1]).has_gap());
        assert!(!received([1, 0]).has_gap());
        assert!(!received([1, 0, 7, 6]).has_gap(), "the gap is further below");
    }

    #[test]
    fn what_the_peer_knows_is_not_named_again_but_stays_a_repeat() {
        let mut received = received([0, 1, 2, 5, 6]);
        received.forget_below(6);
        assert_eq!(all(&received), [(6, 7)]);
        assert!(!received.insert(1));
        assert!(received.insert(4), "the peer cannot know of it");
        assert_eq!(all(&received), [(6, 7), (4, 5)]);
        received.forget_below(100);
        assert_eq!(all(&received), [(6, 7)], "the largest is always named");
        received.forget_below(3);
        assert!(received.insert(7));
        assert_eq!(all(&received), [(6, 8)], "the floor does not sink");
    }

    #[test]
    fn it_agrees_with_a_plain_set_over_any_order() {
        let mut state = 7_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        for _ in 0..100 {
            let (mut received, mut seen) = (Received::default(), BTreeSet::new());
            let (mut unknown, mut floor) = (BTreeSet::new(), 0);
            let mut base = random(3000);
            for _ in 0..300 {
                let step = [1, 3, 70, 900, 2500][random(5) as usize];
                base += if random(4) == 0 { random(step) } else { 0 };
                let number = base + random(200);
                let largest = seen.last().copied().unwrap_or(0_u64);
                let fits = number + WINDOW > largest;
                let is_new = fits && seen.insert(number);
                assert_eq!(received.insert(number), is_new);
                unknown.extend(is_new.then_some(number));
                let largest = seen.last().copied().unwrap_or_default();
                seen.retain(|&number| number + WINDOW > largest);
                assert_eq!(received.largest(), Some(largest));
                if random(8) == 0 {
                    let known = (base + random(250)).min(largest);
                    received.forget_below(known);
                    floor = floor.max(known);
                    unknown.retain(|&number| known < floor || number >= known);
                }
                unknown.retain(|&number| number + WINDOW > largest);
                let mut expected: Vec<(u64, u64)> = Vec::new();
                for &number in &unknown {
                    match expected.last_mut() {
                        Some((_, end)) if *end == number => *end += 1,
                        _ => expected.push((number, number + 1)),
                    }
                }
                expected.reverse();
                expected.truncate(MAX_RANGES);
                assert_eq!(all(&received), expected);
            }
        }
    }
}
