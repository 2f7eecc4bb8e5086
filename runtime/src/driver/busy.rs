//! Looks again instead of sleeping, for those who pay a core for their latency.
//!
//! A connection's task that has nothing to do goes to sleep, and waking it up costs more than a small call. With
//! [`Limits::busy_poll`](crate::Limits::busy_poll) it is polled again, with a look at the sockets in between, until nothing
//! has come for so long.

use std::future::Future;
use std::pin::pin;
use std::task::Context;
use std::time::Duration;

use crate::time::Time;

/// How long one task looks again.
pub(super) struct BusyPoll {
    span: Duration,
    /// When something came or left last.
    active: Time,
}

impl BusyPoll {
    /// For so long after each activity; not at all for zero.
    pub(super) fn new(span: Duration, now: Time) -> BusyPoll {
        BusyPoll { span, active: now }
    }

    /// Something came, or left.
    #[inline]
    pub(super) fn active(&mut self, now: Time) {
        self.active = now;
    }

    /// The task has nothing to do: sees to it that it is polled again, if it is to look again.
    #[inline]
    pub(super) fn look_again(&self, cx: &mut Context<'_>, now: Time) {
        if !self.span.is_zero() && now.since(self.active) < self.span {
            poll_again(cx);
        }
    }
}

/// Sees to it that this task is polled again when the runtime has looked at sockets and timers. For tasks that are
/// always awake it does so only now and then: after 61 polls, by default, of which each may take a whole turn.
#[inline]
pub(super) fn poll_again(cx: &mut Context<'_>) {
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether a task that looks again at this moment is polled again.
    fn is_woken(busy: &BusyPoll, now: Time) -> bool {
        let count = Arc::<Count>::default();
        let waker = Waker::from(count.clone());
        busy.look_again(&mut Context::from_waker(&waker), now);
        count.0.load(Ordering::Relaxed) > 0
    }

    #[test]
    fn a_task_looks_again_for_so_long_after_something_came() {
        let (begin, span) = (Time::ZERO, Duration::from_micros(100));
        let mut busy = BusyPoll::new(span, begin);
        assert!(is_woken(&busy, begin + span / 2));
        assert!(!is_woken(&busy, begin + span));
        busy.active(begin + span);
        assert!(is_woken(&busy, begin + span * 3 / 2));
    }

    #[test]
    fn without_a_span_it_sleeps_at_once() {
        assert!(!is_woken(&BusyPoll::new(Duration::ZERO, Time::ZERO), Time::ZERO));
    }
}
