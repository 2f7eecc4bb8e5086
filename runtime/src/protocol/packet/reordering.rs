//! How far a datagram may be overtaken before it counts as lost.
//!
//! Begins with the thresholds of RFC 9002, section 6.1: three numbers, 9/8 of a round trip. Where
//! one that was taken for lost is acknowledged after all, they grow to what would have spared it,
//! as section 6.1.1 allows and RFC 8985, section 3.3.2 does for TCP: a path whose delay varies by
//! more than the pace of its datagrams (a wireless one) would otherwise look lossy, and each of
//! those datagrams would be sent twice. They stay grown: what is truly lost is found by time then.

use std::time::Duration;

use super::rtt::Rtt;

const FIRST_NUMBERS: u64 = 3;
const MAX_NUMBERS: u64 = 512;

/// Eighths of the round trip.
const FIRST_EIGHTHS: u32 = 9;
const MAX_EIGHTHS: u32 = 16;

/// The thresholds of one path.
#[derive(Clone, Debug)]
pub(crate) struct Reordering {
    numbers: u64,
    eighths: u32,
}

impl Default for Reordering {
    fn default() -> Reordering {
        Reordering { numbers: FIRST_NUMBERS, eighths: FIRST_EIGHTHS }
    }
}

impl Reordering {
    /// Lost is what lies so many numbers or more below the largest that was acknowledged.
    #[inline]
    pub(crate) fn numbers(&self) -> u64 {
        self.numbers
    }

    /// Lost is what was sent longer ago than this, if a later one was acknowledged.
    #[inline]
    pub(crate) fn delay(&self, rtt: &Rtt) -> Duration {
        rtt.loss_delay().max(reference(rtt) * self.eighths / 8)
    }

    /// A datagram that was taken for lost was acknowledged: it was overtaken by `overtaken` numbers
    /// (from its own to the largest acknowledged before) and took `age`.
    pub(crate) fn on_spurious(&mut self, overtaken: u64, age: Duration, rtt: &Rtt) {
        self.numbers = self.numbers.max(overtaken.saturating_add(1)).min(MAX_NUMBERS);
        while self.eighths < MAX_EIGHTHS && self.delay(rtt) < age {
            self.eighths += 1;
        }
    }
}

fn reference(rtt: &Rtt) -> Duration {
    rtt.smoothed().max(rtt.latest())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn thresholds_grow_to_what_would_have_spared_the_datagram() {
        let (mut reordering, rtt) = (Reordering::default(), Rtt::new(ms(80)));
        assert_eq!((reordering.numbers(), reordering.delay(&rtt)), (3, ms(90)));
        reordering.on_spurious(7, ms(85), &rtt);
        assert_eq!((reordering.numbers(), reordering.delay(&rtt)), (8, ms(90)));
        reordering.on_spurious(2, ms(105), &rtt);
        assert_eq!((reordering.numbers(), reordering.delay(&rtt)), (8, ms(110)));
    }

    #[test]
    fn thresholds_have_a_bound() {
        let (mut reordering, rtt) = (Reordering::default(), Rtt::new(ms(80)));
        reordering.on_spurious(u64::MAX, Duration::MAX, &rtt);
        assert_eq!((reordering.numbers(), reordering.delay(&rtt)), (512, ms(160)));
        let rtt = Rtt::new(Duration::from_micros(50));
        assert_eq!(reordering.delay(&rtt), ms(1));
    }
}
