//! One timer of a connection, set again as rarely as possible.
//!
//! The machines' next moment moves with every call; the timer is set only when it moves forward past what is set, and
//! may so fire early, when the machine finds nothing to do.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;

use tokio::time::{Sleep, sleep_until};

use super::clock::Clock;
use crate::time::Time;

/// Wakes the connection's task.
pub(super) struct Timer {
    clock: Clock,
    sleep: Pin<Box<Sleep>>,
    set: Time,
}

impl Timer {
    /// Not set.
    pub(super) fn new(clock: Clock) -> Timer {
        let sleep = Box::pin(sleep_until(clock.instant(Time::NEVER)));
        Timer { clock, sleep, set: Time::NEVER }
    }

    /// Sees to it that the task is polled at `wanted` at the latest. Whether that moment is there already.
    #[inline]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, now: Time, wanted: Time) -> bool {
        if wanted <= now {
            self.set = Time::NEVER;
            return true;
        }
        if wanted < self.set || self.set <= now {
            self.set = wanted;
            self.sleep.as_mut().reset(self.clock.instant(wanted));
            if self.sleep.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        false
    }
}
