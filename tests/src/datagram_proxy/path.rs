//! One direction of one client: what becomes of each datagram. Time is a value here; `forward` has the sockets.

use std::time::Duration;

use tokio::time::Instant;

use super::{DatagramFault, DatagramFaults, DatagramKind, Traffic};
use crate::fault_proxy::Direction;
use crate::random::Random;

/// The state that faults leave from one datagram to the next.
pub(super) struct Path {
    /// Names the draws of this path.
    stream: u64,
    random: Random,
    /// Datagrams that the present burst of losses still takes.
    burst_left: u32,
    /// When the last byte that waits for the rate will have left.
    busy_until: Option<Instant>,
}

/// A datagram that leaves at a time.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Departure {
    pub(super) at: Instant,
    pub(super) bytes: Vec<u8>,
}

impl Path {
    /// The path of this client, by its number.
    pub(super) fn new(client: u64, direction: Direction) -> Path {
        let stream = client * 2 + u64::from(direction == Direction::ToClient);
        Path { stream, random: Random::default(), burst_left: 0, busy_until: None }
    }

    /// Decides over a datagram; what is to leave is appended to `into`.
    pub(super) fn pass(
        &mut self,
        now: Instant,
        bytes: Vec<u8>,
        faults: &DatagramFaults,
        ordered: Option<DatagramFault>,
        traffic: &mut Traffic,
        into: &mut Vec<Departure>,
    ) {
        self.random.seed(faults.seed, self.stream);
        traffic.datagrams += 1;
        traffic.bytes += bytes.len() as u64;
        traffic.kinds[DatagramKind::of(&bytes) as usize] += 1;
        if faults.cut || ordered == Some(DatagramFault::Lose) || self.is_lost(faults) {
            traffic.lost += 1;
            return;
        }
        if bytes.len() > faults.largest {
            traffic.too_large += 1;
            return;
        }
        for _ in 0..faults.garbage {
            let garbage = self.garbage(&bytes);
            traffic.garbage += 1;
            into.push(Departure { at: now + faults.delay, bytes: garbage });
        }
        let again =
            self.random.is_among(faults.duplicate) || ordered == Some(DatagramFault::Repeat);
        let copies = faults.copies + u32::from(again);
        traffic.repeated += u64::from(copies.saturating_sub(1));
        for _ in 0..copies {
            let Some(waits) = self.queue(now, bytes.len(), faults) else {
                traffic.overflowed += 1;
                continue;
            };
            let jitter = self.random.below(faults.jitter.as_micros() as u64 + 1);
            let mut at = now + waits + faults.delay + Duration::from_micros(jitter);
            if let Some(DatagramFault::Delay { lasts }) = ordered {
                at += lasts;
            }
            let mut bytes = bytes.clone();
            if self.random.is_among(faults.corrupt) {
                self.flip(&mut bytes);
                traffic.corrupted += 1;
            }
            into.push(Departure { at, bytes });
        }
    }

    fn is_lost(&mut self, faults: &DatagramFaults) -> bool {
        if self.burst_left > 0 {
            self.burst_left -= 1;
            return true;
        }
        // So often must a burst begin behind a datagram that passed, for this share of all to be lost.
        let (loss, burst) = (faults.loss, f64::from(faults.burst.max(1)));
        let begins = self.random.is_among(loss / (burst * (1.0 - loss) + loss));
        if begins {
            self.burst_left = faults.burst.saturating_sub(1);
        }
        begins
    }

    /// How long so many bytes wait for the rate and take at it; `None` if there is no room for them.
    fn queue(&mut self, now: Instant, bytes: usize, faults: &DatagramFaults) -> Option<Duration> {
        let Some(rate) = faults.rate else { return Some(Duration::ZERO) };
        let takes = |bytes: usize| Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        let free = self.busy_until.map_or(now, |until| until.max(now));
        if free - now + takes(bytes) > takes(faults.queue) {
            return None;
        }
        self.busy_until = Some(free + takes(bytes));
        Some(free - now + takes(bytes))
    }

    fn flip(&mut self, bytes: &mut [u8]) {
        for _ in 0..=self.random.below(5) {
            let bit = self.random.below(bytes.len() as u64 * 8) as usize;
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    fn garbage(&mut self, good: &[u8]) -> Vec<u8> {
        let mut bytes = good.to_vec();
        match self.random.below(4) {
            0 => {
                let length = 1 + self.random.below(1200);
                bytes = self.random.bytes(length);
            }
            1 => {
                let length = 1 + self.random.below(200);
                bytes = self.random.bytes(length);
                bytes[0] = [0, 1, 2, 3, 4, 0x40][self.random.below(6) as usize];
            }
            2 => bytes.truncate(self.random.below(good.len() as u64) as usize),
            _ => {
                let position = self.random.below(good.len() as u64) as usize;
                if let Some(byte) = bytes.get_mut(position) {
                    *byte ^= 1 + self.random.below(255) as u8;
                }
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes so many datagrams at once; what leaves, and what was counted.
    fn passed(faults: &DatagramFaults, datagrams: usize) -> (Vec<Departure>, Traffic) {
        let mut path = Path::new(1, Direction::ToServer);
        let (mut traffic, mut departures) = (Traffic::default(), Vec::new());
        let now = Instant::now();
        for number in 0..datagrams {
            let bytes = [&number.to_be_bytes()[..], &[0; 92]].concat();
            path.pass(now, bytes, faults, None, &mut traffic, &mut departures);
        }
        (departures, traffic)
    }

    fn number_of(departure: &Departure) -> usize {
        let bytes = departure.bytes[..8].try_into().expect("eight bytes");
        usize::from_be_bytes(bytes)
    }

    #[test]
    fn without_faults_everything_leaves_at_once_as_it_came() {
        let (departures, traffic) = passed(&DatagramFaults::default(), 100);
        assert!(departures.iter().map(number_of).eq(0..100));
        assert_eq!((traffic.datagrams, traffic.bytes, traffic.lost), (100, 10_000, 0));
    }

    #[test]
    fn losses_are_the_share_that_was_asked_for_alone_or_in_bursts() {
        for burst in [1, 10] {
            let faults = DatagramFaults { loss: 0.05, burst, ..DatagramFaults::default() };
            let (departures, traffic) = passed(&faults, 100_000);
            let lost = traffic.lost;
            assert!((4_400..=5_600).contains(&lost), "bursts of {burst}: {lost}");
            let numbers: Vec<usize> = departures.iter().map(number_of).collect();
            let gaps = numbers.windows(2).filter(|pair| pair[1] - pair[0] > 1);
            let shortest = gaps.clone().map(|pair| pair[1] - pair[0] - 1).min();
            assert_eq!(shortest, Some(burst as usize));
        }
    }

    #[test]
    fn the_rate_spreads_what_comes_at_once_and_drops_what_does_not_fit() {
        let faults =
            DatagramFaults { rate: Some(10_000), queue: 2_000, ..DatagramFaults::default() };
        let (departures, traffic) = passed(&faults, 50);
        assert_eq!((departures.len(), traffic.overflowed), (20, 30));
        let last = departures.last().expect("some").at - departures[0].at;
        assert_eq!(last.as_millis(), 190);
    }

    #[test]
    fn jitter_reorders_and_every_datagram_still_leaves() {
        let jitter = Duration::from_millis(10);
        let faults = DatagramFaults { delay: jitter, jitter, ..DatagramFaults::default() };
        let (mut departures, _) = passed(&faults, 1000);
        let shortest = departures.iter().map(|departure| departure.at).min().expect("some");
        departures.sort_by_key(|departure| departure.at);
        let numbers: Vec<usize> = departures.iter().map(number_of).collect();
        assert!(!numbers.is_sorted());
        let longest = departures.last().expect("some").at - shortest;
        assert!(longest > jitter / 2 && longest <= jitter, "{longest:?}");
    }

    #[test]
    fn copies_flips_sizes_and_cuts_are_counted() {
        let with = |change: fn(&mut DatagramFaults)| {
            let mut faults = DatagramFaults { seed: 3, ..DatagramFaults::default() };
            change(&mut faults);
            passed(&faults, 10_000)
        };
        let (departures, traffic) = with(|faults| faults.copies = 5);
        assert_eq!((departures.len(), traffic.repeated), (50_000, 40_000));
        let (_, traffic) = with(|faults| faults.duplicate = 0.02);
        assert!((120..=280).contains(&traffic.repeated), "{}", traffic.repeated);
        let (departures, traffic) = with(|faults| faults.corrupt = 0.01);
        let flipped = departures.iter().enumerate().filter(|(number, departure)| {
            departure.bytes != [&number.to_be_bytes()[..], &[0; 92]].concat()
        });
        // Two flips of one bit are none.
        let (flipped, corrupted) = (flipped.count() as u64, traffic.corrupted);
        assert!(flipped <= corrupted && flipped + 3 >= corrupted && corrupted > 50, "{corrupted}");
        let (departures, traffic) = with(|faults| faults.largest = 99);
        assert_eq!((departures.len(), traffic.too_large), (0, 10_000));
        let (departures, traffic) = with(|faults| faults.cut = true);
        assert_eq!((departures.len(), traffic.lost), (0, 10_000));
        let (departures, traffic) = with(|faults| faults.garbage = 10);
        assert_eq!((departures.len(), traffic.garbage), (110_000, 100_000));
    }

    #[test]
    fn a_seed_does_the_same_again() {
        let faults = |seed| DatagramFaults {
            seed,
            loss: 0.1,
            duplicate: 0.1,
            corrupt: 0.1,
            ..DatagramFaults::default()
        };
        let bytes = |seed| {
            let (departures, _) = passed(&faults(seed), 500);
            departures.into_iter().map(|departure| departure.bytes).collect::<Vec<_>>()
        };
        assert!(bytes(1) == bytes(1));
        assert!(bytes(1) != bytes(2));
    }
}
