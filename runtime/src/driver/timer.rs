//! One timer of a connection, set again as rarely as possible.
//!
//! The machines' next moment moves with every call. The timer is set again when that moment comes sooner than what is
//! set, and when what is set is near and of no use any more. Else it stays, may go off early, and the machine finds
//! nothing to do.
//!
//! What is near costs: for a thread that goes to sleep for less than what is left of the kernel's tick, a timer of the
//! hardware is set, each time again, and that takes a virtual machine microseconds. So a connection that is busy has no
//! timer that is near, and most that it sets never go off.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::Context;
use std::time::Duration;

use tokio::task::coop::unconstrained;
use tokio::time::{Sleep, sleep_until};

use super::clock::Clock;
use crate::time::Time;

/// Wakes the connection's task.
pub(super) struct Timer {
    clock: Clock,
    sleep: Pin<Box<Sleep>>,
    set: Time,
    /// When it was last moved on.
    moved: Time,
}

impl Timer {
    /// Not set.
    pub(super) fn new(clock: Clock) -> Timer {
        let sleep = Box::pin(sleep_until(clock.instant(Time::NEVER)));
        Timer { clock, sleep, set: Time::NEVER, moved: Time::ZERO }
    }

    /// Sees to it that the task is polled at `wanted` at the latest. Whether that moment is there already.
    #[inline]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, now: Time, wanted: Time) -> bool {
        if wanted <= now {
            self.set = Time::NEVER;
            return true;
        }
        if wanted < self.set || self.set <= now {
            self.sleep.as_mut().reset(self.clock.instant(wanted));
        } else if moves_on(self.set, wanted, now) && self.moved + STEP <= now {
            // A new one: tokio would wake up for the old moment of one that is reset.
            self.sleep.set(sleep_until(self.clock.instant(wanted)));
            self.moved = now;
        } else {
            return false;
        }
        self.set = wanted;
        // Handlers that ran in this task may have used up its turn; the timer would not be set then.
        if pin!(unconstrained(self.sleep.as_mut())).poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        false
    }
}

/// Whether what is set is near, and is of use only a while later.
#[inline]
pub(super) fn moves_on(set: Time, wanted: Time, now: Time) -> bool {
    set <= now + NEAR && set + STEP <= wanted
}

/// The tick of a kernel with 250 in a second, as most have.
const NEAR: Duration = Duration::from_millis(4);
/// What tokio's timers tell apart.
const STEP: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Poll, Wake, Waker};

    use tokio::task::coop::{consume_budget, has_budget_remaining};

    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Alarms(AtomicUsize);

    impl Wake for Alarms {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often a timer goes off in a tenth of a second in which it is asked each half of a millisecond.
    async fn alarms(wanted: impl Fn(Time, usize) -> Time) -> usize {
        let alarms = Arc::new(Alarms::default());
        let waker = Waker::from(alarms.clone());
        let clock = Clock::new();
        let mut timer = Timer::new(clock);
        for turn in 0..200 {
            let now = clock.now();
            timer.poll(&mut Context::from_waker(&waker), now, wanted(now, turn));
            tokio::time::advance(Duration::from_micros(500)).await;
        }
        alarms.0.load(Ordering::Relaxed)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_always_some_time_away_never_goes_off() {
        for millis in [5, 50, 30_000] {
            let away = Duration::from_millis(millis);
            assert_eq!(alarms(|now, _| now + away).await, 0, "{millis} ms");
        }
        // As between a call, with its deadline, and what is to be told after its answer.
        let [near, far] = [5, 30_000].map(Duration::from_millis);
        assert_eq!(alarms(|now, turn| now + if turn % 2 == 0 { near } else { far }).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_moment_is_met_by_a_task_that_has_used_up_its_turn() {
        let alarms = Arc::new(Alarms::default());
        let waker = Waker::from(alarms.clone());
        let clock = Clock::new();
        let mut timer = Timer::new(clock);
        let wanted = clock.now() + Duration::from_millis(5);
        poll_fn(|cx| {
            while has_budget_remaining() {
                let _ = pin!(consume_budget()).poll(cx);
            }
            timer.poll(&mut Context::from_waker(&waker), clock.now(), wanted);
            Poll::Ready(())
        })
        .await;
        tokio::task::yield_now().await;
        let before = alarms.0.load(Ordering::Relaxed);
        tokio::time::advance(Duration::from_millis(10)).await;
        assert_eq!(alarms.0.load(Ordering::Relaxed), before + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_moment_that_stays_is_met() {
        let moment = |millis| Time::ZERO + Duration::from_millis(millis);
        assert_eq!(alarms(|_, _| moment(5)).await, 1);
        // One that comes nearer as well.
        assert_eq!(alarms(|_, turn| moment(if turn < 20 { 300 } else { 60 })).await, 1);
    }
}
