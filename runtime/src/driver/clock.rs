//! The only clock of the runtime: tokio's, which tests can pause.

use std::time::Duration;

use tokio::time::Instant;

use crate::time::Time;

/// Moments since this clock was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts now.
    pub(crate) fn new() -> Clock {
        Clock { start: Instant::now() }
    }

    /// When it started.
    pub(crate) fn began(&self) -> Instant {
        self.start
    }

    /// Now.
    #[inline]
    pub(crate) fn now(&self) -> Time {
        Time::ZERO + self.start.elapsed()
    }

    /// The instant of a moment; one that is never is far away.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        let after = Duration::from_nanos(time.as_nanos()).min(FAR);
        self.start + after
    }
}

/// Tokio's timers reach about two years.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
