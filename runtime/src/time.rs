//! Time as a number: nanoseconds since a start that the caller chose.
//!
//! The protocol never reads a clock; whoever drives it passes the time in, so a test can say what time it is.

use std::ops::Add;
use std::time::Duration;

/// A moment: nanoseconds since the driver's start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub(crate) struct Time(u64);

impl Time {
    /// The driver's start.
    pub(crate) const ZERO: Time = Time(0);
    /// Later than every moment that will come.
    pub(crate) const NEVER: Time = Time(u64::MAX);

    /// Nanoseconds since the start.
    pub(crate) const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not.
    pub(crate) const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// So long before this; the driver's start if that was later.
    pub(crate) fn before(self, duration: Duration) -> Time {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Time(self.0.saturating_sub(nanoseconds))
    }

    /// So many nanoseconds after this; saturates at [`Time::NEVER`].
    pub(crate) const fn after_nanos(self, nanoseconds: u64) -> Time {
        Time(self.0.saturating_add(nanoseconds))
    }

    /// As long after `start` as this is after zero.
    pub(crate) const fn counted_from(self, start: Time) -> Time {
        Time(self.0.saturating_add(start.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    /// Saturates at [`Time::NEVER`].
    fn add(self, duration: Duration) -> Time {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Time(self.0.saturating_add(nanoseconds))
    }
}
