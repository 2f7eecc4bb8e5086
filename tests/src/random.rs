//! Numbers that look random and follow from a seed (splitmix64). Used by the fault proxies and by the tests that send
//! garbage.

/// A stream of numbers.
#[derive(Clone, Debug, Default)]
pub struct Random {
    seed: Option<u64>,
    state: u64,
}

impl Random {
    /// The stream of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random { seed: Some(seed), state: seed }
    }

    /// Begins anew if the seed is another than before; streams of one seed differ.
    pub fn seed(&mut self, seed: u64, stream: u64) {
        if self.seed != Some(seed) {
            self.seed = Some(seed);
            self.state = seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95);
        }
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    /// True for one of `count` draws; never for 0.
    pub fn one_in(&mut self, count: u32) -> bool {
        count > 0 && self.below(u64::from(count)) == 0
    }

    /// True for this share of the draws, between 0 and 1; 0 takes no draw.
    pub fn is_among(&mut self, share: f64) -> bool {
        share > 0.0 && ((self.draw() >> 11) as f64) < share * (1_u64 << 53) as f64
    }

    /// So many bytes.
    pub fn bytes(&mut self, length: u64) -> Vec<u8> {
        (0..length).map(|_| self.draw() as u8).collect()
    }

    /// Another order of the same things.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for end in (1..things.len()).rev() {
            things.swap(end, self.below(end as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_about_that_share() {
        let mut random = Random::new(1);
        for (share, expected) in [(0.0, 0..=0), (0.01, 800..=1200), (1.0, 100_000..=100_000)] {
            let drawn = (0..100_000).filter(|_| random.is_among(share)).count();
            assert!(expected.contains(&drawn), "{share}: {drawn}");
        }
    }

    #[test]
    fn a_seed_is_the_same_again_and_its_streams_differ() {
        let stream = |number| {
            let mut random = Random::default();
            random.seed(7, number);
            random.bytes(8)
        };
        assert_eq!(stream(1), stream(1));
        assert_ne!(stream(1), stream(2));
    }

    #[test]
    fn shuffled_things_are_the_same_things() {
        let mut things: Vec<u32> = (0..100).collect();
        Random::new(3).shuffle(&mut things);
        assert_ne!(things, (0..100).collect::<Vec<_>>());
        things.sort_unstable();
        assert_eq!(things, (0..100).collect::<Vec<_>>());
    }
}
