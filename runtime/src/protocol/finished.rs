//! Which calls of a session, or of a registration, are finished: all below a floor, and ranges above it.
//!
//! The client keeps one of what it finished, the server one of what it was told. Bounded: only unfinished calls leave
//! gaps, and of those there are at most a window's worth, or as many as a client of exactly-once calls may tell.

use std::collections::VecDeque;

use crate::id::Seq;
use crate::wire::frame::Ranges;

/// A set of sequence numbers that only grows: `1..floor` and some ranges above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finished {
    floor: Seq,
    /// Ascending, neither empty nor adjacent, all above `floor`.
    above: VecDeque<(Seq, Seq)>,
    /// Ranges were added since somebody asked.
    grown: bool,
}

impl Default for Finished {
    fn default() -> Finished {
        Finished { floor: 1, above: VecDeque::new(), grown: false }
    }
}

impl Finished {
    /// The lowest number that is not in the set.
    #[inline]
    pub(crate) fn floor(&self) -> Seq {
        self.floor
    }

    /// Whether `seq` is in the set.
    #[inline]
    pub(crate) fn contains(&self, seq: Seq) -> bool {
        seq < self.floor || (!self.above.is_empty() && self.is_above(seq))
    }

    fn is_above(&self, seq: Seq) -> bool {
        let index = self.above.partition_point(|&(_, end)| end <= seq);
        self.above.get(index).is_some_and(|&(start, _)| start <= seq)
    }

    /// Adds one number.
    #[inline]
    pub(crate) fn insert(&mut self, seq: Seq) {
        if seq == self.floor {
            self.grown = true;
            self.floor += 1;
            self.absorb();
        } else if seq > self.floor {
            self.insert_range(seq, seq + 1);
        }
    }

    /// Adds all numbers below `floor`.
    pub(crate) fn raise(&mut self, floor: Seq) {
        if floor > self.floor {
            self.grown = true;
            self.floor = floor;
            while let Some(&(start, end)) = self.above.front() {
                if start > floor {
                    break;
                }
                self.floor = self.floor.max(end);
                self.above.pop_front();
            }
        }
    }

    /// Adds the numbers from `start` to below `end`.
    pub(crate) fn insert_range(&mut self, start: Seq, end: Seq) {
        if start <= self.floor {
            self.raise(end);
            return;
        }
        self.grown = true;
        // The ranges that touch the new one become part of it.
        let first = self.above.partition_point(|&(_, next)| next < start);
        let last = self.above.partition_point(|&(next, _)| next <= end);
        if first == last {
            self.above.insert(first, (start, end));
            return;
        }
        let merged = (start.min(self.above[first].0), end.max(self.above[last - 1].1));
        self.above.drain(first + 1..last);
        self.above[first] = merged;
    }

    /// Adds the numbers between the floor and the lowest range above it.
    pub(crate) fn close_lowest_gap(&mut self) {
        if let Some((_, end)) = self.above.pop_front() {
            self.floor = end;
        }
    }

    /// Whether something was added since the last time.
    pub(crate) fn take_grown(&mut self) -> bool {
        std::mem::take(&mut self.grown)
    }

    /// How many ranges lie above the floor.
    pub(crate) fn gaps(&self) -> usize {
        self.above.len()
    }

    /// The ranges above the floor.
    pub(crate) fn ranges(&self) -> Ranges {
        self.above.iter().copied().collect()
    }

    #[inline]
    fn absorb(&mut self) {
        if let Some(&(start, end)) = self.above.front()
            && start == self.floor
        {
            self.floor = end;
            self.above.pop_front();
        }
    }
}

/// What registrations ask.
#[cfg(feature = "sqlite")]
impl Finished {
    /// All numbers below `floor`, and those of the ranges.
    pub(crate) fn of(floor: Seq, above: &[(Seq, Seq)]) -> Finished {
        let mut finished = Finished { floor, ..Finished::default() };
        finished.insert_ranges(above);
        finished.grown = false;
        finished
    }

    /// Whether all numbers from `start` to below `end` are in the set.
    pub(crate) fn covers(&self, start: Seq, end: Seq) -> bool {
        let index = self.above.partition_point(|&(_, next)| next < end);
        end <= self.floor || self.above.get(index).is_some_and(|&(first, _)| first <= start)
    }

    /// The number behind the last one in the set.
    pub(crate) fn end(&self) -> Seq {
        self.above.back().map_or(self.floor, |&(_, end)| end)
    }

    /// Adds the numbers of these ranges; those that are empty or turned round have none.
    pub(crate) fn insert_ranges(&mut self, ranges: &[(Seq, Seq)]) {
        for &(start, end) in ranges.iter().filter(|(start, end)| start < end) {
            self.insert_range(start, end);
        }
    }
}

/// Ascending numbers as ranges.
pub(crate) fn to_ranges(ascending: impl IntoIterator<Item = Seq>) -> Ranges {
    let mut ranges = Ranges::new();
    for seq in ascending {
        match ranges.last_mut() {
            Some((_, end)) if *end == seq => *end += 1,
            Some((_, end)) if *end > seq => {}
            _ => ranges.push((seq, seq + 1)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_agrees_with_a_plain_set_over_any_order() {
        let mut state = 1_u64;
        for _ in 0..200 {
            let (mut finished, mut set) = (Finished::default(), BTreeSet::new());
            for _ in 0..100 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let start = 1 + (state >> 33) % 90;
                let length = if state >> 62 == 0 { (state >> 50) % 9 + 1 } else { 1 };
                if state >> 61 == 7 {
                    finished.raise(start);
                    set.extend(1..start);
                } else if length == 1 {
                    finished.insert(start);
                    set.insert(start);
                } else {
                    finished.insert_range(start, start + length);
                    set.extend(start..start + length);
                }
                for seq in 1..110 {
                    assert_eq!(finished.contains(seq), set.contains(&seq));
                }
                let floor = (1..).find(|seq| !set.contains(seq)).unwrap();
                assert_eq!(finished.floor(), floor);
                let above = set.iter().copied().filter(|&seq| seq > floor);
                assert_eq!(finished.ranges(), to_ranges(above));
            }
        }
    }
}
