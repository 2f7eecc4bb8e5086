//! Maps from sequence numbers that lie close together, as those of the calls in flight do.
//!
//! A number's place is its remainder in a ring that grows with the number of entries. Numbers that claim one place, since
//! calls in flight are far apart or since a peer chose them so, are kept in a hash map beside it. The keys come from a
//! peer, so that it could choose them to collide there too; every such map is bounded by the window of its session (1,024
//! by default), which bounds what that can cost.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use crate::id::Seq;

/// A map from sequence numbers.
#[derive(Clone)]
pub(crate) struct SeqMap<V> {
    /// As long as a power of two, or empty.
    ring: Vec<Option<(Seq, V)>>,
    /// Entries whose places in the ring are taken.
    spilled: HashMap<Seq, V, BuildHasherDefault<SeqHasher>>,
    length: usize,
}

impl<V> Default for SeqMap<V> {
    fn default() -> SeqMap<V> {
        SeqMap { ring: Vec::new(), spilled: HashMap::default(), length: 0 }
    }
}

impl<V> SeqMap<V> {
    /// How many entries there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The value of a number.
    #[inline]
    pub(crate) fn get(&self, seq: Seq) -> Option<&V> {
        match self.ring.get(place(&self.ring, seq)) {
            Some(Some((found, value))) if *found == seq => Some(value),
            _ if self.spilled.is_empty() => None,
            _ => self.spilled.get(&seq),
        }
    }

    /// The value of a number, to be changed.
    #[inline]
    pub(crate) fn get_mut(&mut self, seq: Seq) -> Option<&mut V> {
        let place = place(&self.ring, seq);
        match self.ring.get_mut(place) {
            Some(Some((found, value))) if *found == seq => Some(value),
            _ if self.spilled.is_empty() => None,
            _ => self.spilled.get_mut(&seq),
        }
    }

    /// Whether the number has a value.
    #[inline]
    pub(crate) fn contains(&self, seq: Seq) -> bool {
        self.get(seq).is_some()
    }

    /// Sets the value of a number. Inlined, so that the value is put together where it stays: what is copied right after
    /// it was written makes a processor wait.
    #[inline(always)]
    pub(crate) fn insert(&mut self, seq: Seq, value: V) {
        let place = place(&self.ring, seq);
        match self.ring.get_mut(place) {
            Some(entry @ None) if self.spilled.is_empty() => {
                *entry = Some((seq, value));
                self.length += 1;
            }
            _ => self.insert_slowly(seq, value),
        }
    }

    fn insert_slowly(&mut self, seq: Seq, value: V) {
        if let Some(old) = self.get_mut(seq) {
            *old = value;
            return;
        }
        self.length += 1;
        if self.ring.len() < FEWEST.max(2 * self.length) {
            self.grow();
        }
        self.put(seq, value);
    }

    /// Puts what is not there into its place, or beside the ring.
    fn put(&mut self, seq: Seq, value: V) {
        let place = place(&self.ring, seq);
        match self.ring.get_mut(place) {
            Some(entry @ None) => *entry = Some((seq, value)),
            _ => {
                self.spilled.insert(seq, value);
            }
        }
    }

    fn grow(&mut self) {
        let length = (2 * self.ring.len()).max(FEWEST);
        let ring = std::mem::take(&mut self.ring);
        let spilled = std::mem::take(&mut self.spilled);
        self.ring.resize_with(length, || None);
        for (seq, value) in ring.into_iter().flatten().chain(spilled) {
            self.put(seq, value);
        }
    }

    /// Takes a number's value out.
    #[inline]
    pub(crate) fn remove(&mut self, seq: Seq) -> Option<V> {
        let place = place(&self.ring, seq);
        let removed = match self.ring.get_mut(place) {
            Some(entry @ Some(_)) if entry.as_ref().is_some_and(|(found, _)| *found == seq) => {
                entry.take().map(|(_, value)| value)
            }
            _ if self.spilled.is_empty() => None,
            _ => self.spilled.remove(&seq),
        };
        self.length -= usize::from(removed.is_some());
        removed
    }

    /// The value of a number, which is made if there is none.
    pub(crate) fn get_or_default(&mut self, seq: Seq) -> &mut V
    where
        V: Default,
    {
        if !self.contains(seq) {
            self.insert(seq, V::default());
        }
        self.get_mut(seq).expect("it was just put in")
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = SeqMap::default();
    }

    /// All entries, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Seq, &V)> {
        let ring = self.ring.iter().flatten().map(|(seq, value)| (*seq, value));
        ring.chain(self.spilled.iter().map(|(&seq, value)| (seq, value)))
    }
}

/// Where a number belongs in a ring; nowhere in an empty one.
#[inline]
fn place<T>(ring: &[T], seq: Seq) -> usize {
    seq as usize & ring.len().wrapping_sub(1)
}

/// In the order of the numbers, so that equal maps look alike.
impl<V: fmt::Debug> fmt::Debug for SeqMap<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut entries: Vec<_> = self.iter().collect();
        entries.sort_unstable_by_key(|(seq, _)| *seq);
        f.debug_map().entries(entries).finish()
    }
}

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

/// Places of the smallest ring.
const FEWEST: usize = 8;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_agrees_with_a_plain_map_over_any_numbers() {
        let mut state = 1_u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        // Close together, far apart, and all for one place.
        for distance in [1, 7, 1 << 20] {
            let (mut map, mut plain) = (SeqMap::default(), BTreeMap::new());
            for step in 0..5_000 {
                let seq = draw(100) * distance;
                if draw(5) < 3 {
                    map.insert(seq, step);
                    plain.insert(seq, step);
                } else {
                    assert_eq!(map.remove(seq), plain.remove(&seq));
                }
                let asked = draw(100) * distance;
                assert_eq!(map.get(asked), plain.get(&asked));
                assert_eq!(map.get_mut(asked), plain.get_mut(&asked));
                assert_eq!(map.contains(asked), plain.contains_key(&asked));
                assert_eq!((map.len(), map.is_empty()), (plain.len(), plain.is_empty()));
            }
            let mut entries: Vec<_> = map.iter().map(|(seq, value)| (seq, *value)).collect();
            entries.sort_unstable();
            assert_eq!(
                entries,
                plain.iter().map(|(&seq, &value)| (seq, value)).collect::<Vec<_>>()
            );
            assert_eq!(format!("{map:?}"), format!("{plain:?}"));
        }
    }

    #[test]
    fn numbers_in_a_row_need_nothing_beside_the_ring() {
        let mut map = SeqMap::default();
        for seq in 1..10_000 {
            map.insert(seq, seq);
            if seq > 1000 {
                assert_eq!(map.remove(seq - 1000), Some(seq - 1000));
            }
            assert!(map.spilled.is_empty() && map.ring.len() <= FEWEST.max(4 * map.len()));
        }
    }

    #[test]
    fn numbers_that_claim_one_place_do_not_make_the_ring_grow() {
        let mut map = SeqMap::default();
        for seq in 0..1000 {
            map.insert(seq << 32, ());
        }
        assert!(map.ring.len() <= 4 * map.len());
    }
}
