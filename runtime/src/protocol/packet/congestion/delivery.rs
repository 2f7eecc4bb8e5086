//! How fast datagrams arrive: draft-cheng-iccrg-delivery-rate-estimation-00.
//!
//! Each datagram carries home what had been delivered when it left. The rate is the slower of that
//! at which its neighbours were sent and that at which they were acknowledged, so neither a burst
//! nor a bunch of acknowledgements looks like a fast path.

use std::time::Duration;

use super::rate_of;
use crate::time::Time;

/// What is kept with a datagram until it is acknowledged or forgotten.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    sent_at: Time,
    first_sent_at: Time,
    delivered_at: Time,
    delivered: u64,
    limited: bool,
    quiet: bool,
}

impl Stamp {
    /// When it left.
    #[inline]
    pub(crate) fn sent_at(&self) -> Time {
        self.sent_at
    }

    /// What had been delivered when it left.
    #[inline]
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Whether the sender had too little to send to show the path's rate.
    #[inline]
    pub(super) fn is_limited(&self) -> bool {
        self.limited
    }

    /// Whether it found the path nearly empty.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        self.quiet
    }
}

/// What one acknowledged datagram says about the path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Bytes per second; 0 if it does not tell.
    pub(super) rate: u64,
    pub(super) rtt: Duration,
}

/// What was delivered on one path.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    total: u64,
    /// When the last of it was acknowledged.
    at: Time,
    /// When the datagram left that was acknowledged last, of those the newest.
    first_sent_at: Time,
    /// Rates are the sender's own until more than this is delivered.
    limited_below: u64,
}

impl Delivery {
    pub(super) fn new(now: Time) -> Delivery {
        Delivery { total: 0, at: now, first_sent_at: now, limited_below: 0 }
    }

    /// Bytes.
    #[inline]
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    #[inline]
    pub(super) fn sent(
        &mut self,
        now: Time,
        bytes: u64,
        in_flight: u64,
        limited: bool,
        quiet: bool,
    ) -> Stamp {
        if in_flight == 0 {
            self.first_sent_at = now;
            self.at = now;
        }
        if limited {
            self.limit(in_flight + bytes);
        }
        Stamp {
            sent_at: now,
            first_sent_at: self.first_sent_at,
            delivered_at: self.at,
            delivered: self.total,
            limited: self.total < self.limited_below,
            quiet,
        }
    }

    /// Until what is in flight is delivered, rates are the sender's own.
    #[inline]
    pub(super) fn limit(&mut self, in_flight: u64) {
        self.limited_below = self.total + in_flight + 1;
    }

    #[inline]
    pub(super) fn acked(&mut self, now: Time, bytes: u64, stamp: &Stamp) -> Sample {
        self.total += bytes;
        self.at = now;
        self.first_sent_at = self.first_sent_at.max(stamp.sent_at);
        let sending = stamp.sent_at.since(stamp.first_sent_at);
        let acknowledging = now.since(stamp.delivered_at);
        let interval = sending.max(acknowledging);
        let rate = match interval.is_zero() {
            true => 0,
            false => rate_of(self.total - stamp.delivered, interval),
        };
        Sample { rate, rtt: now.since(stamp.sent_at) }
    }
}
