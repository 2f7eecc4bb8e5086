//! Spreads datagrams over time, so that a window does not leave in one go.
//!
//! A bucket of credit that fills at the rate, kept as the moment up to which what was sent is paid
//! for: no division loses a part of a byte, however often it is asked. The bucket holds what a
//! timer of a millisecond cannot make up for.

use std::time::Duration;

use crate::time::Time;

/// The bucket holds so many datagrams, or this time's worth if that is more.
const BURST_DATAGRAMS: u64 = 10;
const BURST: Duration = Duration::from_millis(2);

#[derive(Clone, Debug)]
pub(super) struct Pacer {
    datagram: u64,
    /// Nanoseconds up to which what was sent is paid for; in the past, the rest is credit.
    paid: i64,
}

impl Pacer {
    /// Begins with a full bucket.
    pub(super) fn new(datagram: u64) -> Pacer {
        Pacer { datagram, paid: i64::MIN / 2 }
    }

    /// Bytes that may leave at once at this rate in bytes per second.
    #[inline]
    pub(super) fn burst(&self, rate: u64) -> u64 {
        let timers = rate / (1_000_000_000 / BURST.as_nanos() as u64);
        timers.max(BURST_DATAGRAMS * self.datagram)
    }

    /// When so many bytes may leave; not before `now`.
    #[inline]
    pub(super) fn ready_at(&self, now: Time, bytes: u64, rate: u64) -> Time {
        let wait = self.paid_with(now, bytes, rate) - nanoseconds(now);
        now + Duration::from_nanos(wait.max(0) as u64)
    }

    /// So many bytes leave; ready or not, that takes credit but makes no debt.
    #[inline]
    pub(super) fn sent(&mut self, now: Time, bytes: u64, rate: u64) {
        self.paid = self.paid_with(now, bytes, rate).min(nanoseconds(now));
    }

    fn paid_with(&self, now: Time, bytes: u64, rate: u64) -> i64 {
        let full = nanoseconds(now) - duration(self.burst(rate), rate);
        self.paid.max(full) + duration(bytes, rate)
    }
}

/// Nanoseconds that so many bytes take.
fn duration(bytes: u64, rate: u64) -> i64 {
    const LONGEST: u64 = 3_600_000_000_000;
    (bytes.saturating_mul(1_000_000_000) / rate.max(1)).min(LONGEST) as i64
}

/// Far enough from the ends that a sum stays within them.
fn nanoseconds(time: Time) -> i64 {
    time.as_nanos().min(i64::MAX as u64 / 2) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEGABYTE: u64 = 1_000_000;

    fn us(microseconds: u64) -> Time {
        Time::ZERO + Duration::from_micros(microseconds)
    }

    /// Sends as fast as it may from `start` to `end`; gives the bytes.
    fn send(pacer: &mut Pacer, start: Time, end: Time, bytes: u64, rate: u64) -> u64 {
        let (mut now, mut total) = (start, 0);
        loop {
            now = pacer.ready_at(now, bytes, rate);
            if now > end {
                return total;
            }
            pacer.sent(now, bytes, rate);
            total += bytes;
        }
    }

    #[test]
    fn a_burst_is_ten_datagrams_or_two_milliseconds() {
        for (rate, expected) in [(MEGABYTE, 12_000), (100 * MEGABYTE, 200_000 / 1200 * 1200)] {
            let mut pacer = Pacer::new(1200);
            assert_eq!(send(&mut pacer, us(0), us(0), 1200, rate), expected);
            let idle = us(60_000_000);
            assert_eq!(send(&mut pacer, idle, idle, 1200, rate), expected, "idle adds nothing");
        }
    }

    #[test]
    fn after_the_burst_the_rate_holds() {
        for bytes in [14, 500, 1200] {
            let mut pacer = Pacer::new(1200);
            let total = send(&mut pacer, us(0), us(1_000_000), bytes, MEGABYTE);
            assert!(total.abs_diff(MEGABYTE + 12_000) < 20_000, "{bytes}: {total}");
        }
    }

    #[test]
    fn asking_often_does_not_slow_it() {
        let mut pacer = Pacer::new(1200);
        let mut total = 0;
        for at in 0..1_000_000 {
            if pacer.ready_at(us(at), 1200, MEGABYTE) <= us(at) {
                pacer.sent(us(at), 1200, MEGABYTE);
                total += 1200;
            }
        }
        assert!(total > MEGABYTE * 99 / 100, "{total}");
    }

    #[test]
    fn a_timer_late_by_a_millisecond_costs_no_rate() {
        let rate = 100 * MEGABYTE;
        let mut pacer = Pacer::new(1200);
        let mut total = 0;
        for at in (0..1_000_000).step_by(1000) {
            total += send(&mut pacer, us(at), us(at), 1200, rate);
        }
        assert!(total > rate * 99 / 100, "{total}");
    }

    #[test]
    fn what_leaves_early_makes_no_debt() {
        let mut pacer = Pacer::new(1200);
        for _ in 0..1000 {
            pacer.sent(us(0), 1200, MEGABYTE);
        }
        assert_eq!(pacer.ready_at(us(0), 1200, MEGABYTE), us(1200));
    }

    #[test]
    fn no_rate_or_time_overflows() {
        for rate in [0, 1, u64::MAX] {
            let mut pacer = Pacer::new(65_000);
            for now in [Time::ZERO, us(1), Time::NEVER] {
                pacer.sent(now, 65_000, rate);
                assert!(pacer.ready_at(now, u64::MAX, rate) >= now);
            }
        }
    }
}
