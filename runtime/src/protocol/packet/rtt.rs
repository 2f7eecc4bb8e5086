//! How long a datagram and its acknowledgement take: the estimate of RFC 9002, section 5.
//!
//! Says when an acknowledgement is overdue and when a datagram is lost by time. Sends nothing, sets
//! no timer; the channel tells it one sample per ACK that newly acknowledges the largest number.

use std::time::Duration;

/// The estimate of one path.
#[derive(Clone, Debug)]
pub(crate) struct Rtt {
    latest: Duration,
    smoothed: Duration,
    variation: Duration,
    min: Duration,
    /// Which values the next sample replaces.
    next: Next,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    Refines,
    /// All is a guess.
    Replaces,
    /// The shortest is of a path that may be gone.
    ReplacesMin,
}

impl Rtt {
    /// From a first measured sample, that of the handshake.
    pub(crate) fn new(first: Duration) -> Rtt {
        Rtt {
            latest: first,
            smoothed: first,
            variation: first / 2,
            min: first,
            next: Next::Refines,
        }
    }

    /// From a guess, where the handshake gave no sample of its own: the first sample replaces it.
    pub(crate) fn guessed(guess: Duration) -> Rtt {
        Rtt { next: Next::Replaces, ..Rtt::new(guess) }
    }

    /// Takes a sample. `ack_delay`, which the peer claims to have waited, counts at most as
    /// `max_ack_delay` and only where the rest is not shorter than the shortest sample, so that no
    /// claim makes the path look too short.
    pub(crate) fn update(
        &mut self,
        sample: Duration,
        ack_delay: Duration,
        max_ack_delay: Duration,
    ) {
        match std::mem::replace(&mut self.next, Next::Refines) {
            Next::Replaces => {
                *self = Rtt::new(sample);
                return;
            }
            Next::ReplacesMin => self.min = sample,
            Next::Refines => self.min = self.min.min(sample),
        }
        self.latest = sample;
        let adjusted = match sample.checked_sub(ack_delay.min(max_ack_delay)) {
            Some(adjusted) if adjusted >= self.min => adjusted,
            _ => sample,
        };
        let deviation = self.smoothed.abs_diff(adjusted);
        self.variation = (self.variation * 3 + deviation) / 4;
        self.smoothed = (self.smoothed * 7 + adjusted) / 8;
    }

    /// The path may be another one (persistent congestion, a new address): the next sample is the
    /// shortest.
    pub(crate) fn restart_min(&mut self) {
        if self.next == Next::Refines {
            self.next = Next::ReplacesMin;
        }
    }

    /// The last sample, the peer's delay included.
    #[inline]
    pub(crate) fn latest(&self) -> Duration {
        self.latest
    }

    /// The moving average.
    #[inline]
    pub(crate) fn smoothed(&self) -> Duration {
        self.smoothed
    }

    /// The mean deviation from it.
    #[cfg(test)]
    pub(crate) fn variation(&self) -> Duration {
        self.variation
    }

    /// The shortest sample.
    #[cfg(test)]
    pub(crate) fn min(&self) -> Duration {
        self.min
    }

    /// How long to wait for an acknowledgement before asking with another datagram (RFC 9002,
    /// section 6.2.1). The caller doubles it for each expiry in a row.
    pub(crate) fn pto(&self, max_ack_delay: Duration) -> Duration {
        self.smoothed + (self.variation * 4).max(GRANULARITY) + max_ack_delay
    }

    /// How much older than an acknowledged datagram one may be before it is lost (RFC 9002, section
    /// 6.1.2).
    pub(crate) fn loss_delay(&self) -> Duration {
        (self.smoothed.max(self.latest) * 9 / 8).max(GRANULARITY)
    }
}

/// What a timer may be late by.
const GRANULARITY: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_millis(10);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_first_sample_is_the_average_and_half_of_it_the_variation() {
        let measured = Rtt::new(ms(40));
        let mut guessed = Rtt::guessed(ms(333));
        assert_eq!(guessed.pto(ms(0)), ms(333 + 4 * 333 / 2));
        guessed.update(ms(40), ms(5), MAX);
        for rtt in [measured, guessed] {
            assert_eq!((rtt.latest(), rtt.smoothed()), (ms(40), ms(40)));
            assert_eq!((rtt.variation(), rtt.min()), (ms(20), ms(40)));
        }
    }

    #[test]
    fn later_samples_move_the_average_by_an_eighth() {
        let mut rtt = Rtt::new(ms(40));
        rtt.update(ms(80), ms(0), MAX);
        assert_eq!((rtt.smoothed(), rtt.variation()), (ms(45), ms(25)));
        assert_eq!((rtt.latest(), rtt.min()), (ms(80), ms(40)));
        assert_eq!(rtt.pto(MAX), ms(45 + 100 + 10));
        assert_eq!(rtt.loss_delay(), ms(90));
    }

    #[test]
    fn a_claimed_delay_counts_at_most_as_announced() {
        let (mut honest, mut boasting) = (Rtt::new(ms(40)), Rtt::new(ms(40)));
        honest.update(ms(80), MAX, MAX);
        boasting.update(ms(80), Duration::MAX, MAX);
        assert_eq!(honest.smoothed(), (ms(40) * 7 + ms(70)) / 8);
        assert_eq!(boasting.smoothed(), honest.smoothed());
    }

    #[test]
    fn a_claimed_delay_never_gives_less_than_the_shortest_sample() {
        let mut rtt = Rtt::new(ms(40));
        rtt.update(ms(45), ms(6), MAX);
        assert_eq!(
            rtt.smoothed(),
            (ms(40) * 7 + ms(45)) / 8,
            "45 - 6 is too short: not subtracted"
        );
        let mut rtt = Rtt::new(ms(40));
        rtt.update(ms(45), ms(5), MAX);
        assert_eq!(rtt.smoothed(), ms(40), "45 - 5 is just long enough");
        assert_eq!(rtt.min(), ms(40), "the shortest sample knows of no delay");
    }

    #[test]
    fn a_delay_longer_than_the_sample_is_ignored() {
        let mut rtt = Rtt::new(ms(4));
        rtt.update(ms(5), ms(9), MAX);
        assert_eq!(rtt.smoothed(), (ms(4) * 7 + ms(5)) / 8);
    }

    #[test]
    fn a_shortest_sample_of_an_older_path_is_replaced_once() {
        let mut rtt = Rtt::new(ms(10));
        rtt.restart_min();
        rtt.update(ms(50), ms(0), MAX);
        assert_eq!(rtt.min(), ms(50));
        rtt.update(ms(60), ms(0), MAX);
        assert_eq!(rtt.min(), ms(50));
        let mut guessed = Rtt::guessed(ms(333));
        guessed.restart_min();
        guessed.update(ms(10), ms(0), MAX);
        assert_eq!(guessed.smoothed(), ms(10), "a guess stays a guess");
    }

    #[test]
    fn no_timer_is_finer_than_a_millisecond() {
        let mut rtt = Rtt::new(Duration::from_micros(50));
        for _ in 0..100 {
            rtt.update(Duration::from_micros(50), Duration::ZERO, MAX);
        }
        assert_eq!(rtt.pto(Duration::ZERO), Duration::from_micros(1050));
        assert_eq!(rtt.loss_delay(), ms(1));
    }
}
