//! Frames that came and were not handled yet, and since when they wait.
//!
//! A connection reads on while its frames wait, so that it knows for how long they do: what waits in the kernel has no
//! age. Calls that waited for too long are refused, which takes a fraction of the time that they would run for, so that a
//! server that is asked for more than it can do does what is still of use.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::driver::clock::Clock;
use crate::time::Time;
use crate::wire::frame::FrameError;

/// What was read and not handled.
#[derive(Default)]
pub(super) struct Backlog {
    first: Option<Frames>,
    /// What came behind it; seldom anything, so that a connection has no memory for it as a rule.
    further: VecDeque<Frames>,
    bytes: usize,
    /// Since when something has waited without a break.
    busy_since: Time,
    /// What comes next is no frame.
    broken: Option<FrameError>,
}

/// The complete frames of one read.
pub(super) struct Frames {
    pub(super) bytes: Bytes,
    /// So far they were handled.
    pub(super) done: usize,
    pub(super) wait: Wait,
}

/// How long a call has waited, and with what before it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(in crate::driver) struct Wait {
    pub(in crate::driver) came: Time,
    /// Since when something has waited on its connection.
    busy_since: Time,
}

impl Wait {
    /// It came now, and nothing waits.
    #[inline]
    pub(in crate::driver) fn none(now: Time) -> Wait {
        Wait { came: now, busy_since: now }
    }

    /// It came then, behind others without a break since another moment.
    #[inline]
    pub(in crate::driver) fn since(came: Time, busy_since: Time) -> Wait {
        Wait { came, busy_since }
    }

    /// Whether a call is not to begin any more, of which the caller had so much time left when it was sent: what is left
    /// must suffice for the method, for its answer, and for the caller to be told if it does not. A connection that has
    /// not caught up for as long as that is asked for more than it can do: what it begins then has waited for less, so
    /// that its answers come well before their deadlines and not just. (Adaptive timeouts: Maurer, "Fail at Scale", ACM
    /// Queue 13(8), 2015.)
    #[inline]
    pub(super) fn is_too_long(self, now: Time, left_nanos: u64) -> bool {
        let behind = now > self.busy_since.after_nanos(left_nanos);
        let share = if behind { OVERLOADED_SHARE } else { SHARE };
        now > self.came.after_nanos(left_nanos / share)
    }
}

impl Backlog {
    /// Frames came, and behind them perhaps something that is none.
    #[inline]
    pub(super) fn push(&mut self, frames: Bytes, result: Result<(), FrameError>, came: Time) {
        self.broken = result.err();
        if frames.is_empty() {
            return;
        }
        self.bytes += frames.len();
        if self.first.is_none() {
            self.busy_since = came;
        }
        let wait = Wait { came, busy_since: self.busy_since };
        let frames = Frames { bytes: frames, done: 0, wait };
        match self.first {
            None => self.first = Some(frames),
            Some(_) => self.further.push_back(frames),
        }
    }

    /// What came first.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<Frames> {
        let frames = self.first.take()?;
        self.bytes -= frames.bytes.len();
        if !self.further.is_empty() {
            self.first = self.further.pop_front();
            if self.further.is_empty() {
                self.further = VecDeque::new();
            }
        }
        Some(frames)
    }

    /// What was popped is not handled yet, unless it is.
    #[inline]
    pub(super) fn unpop(&mut self, frames: Frames) {
        if frames.done < frames.bytes.len() {
            self.bytes += frames.bytes.len();
            if let Some(next) = self.first.replace(frames) {
                self.further.push_front(next);
            }
        }
    }

    /// Whether nothing waits.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Whether more may be read while this waits.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.bytes < MOST_AHEAD && self.broken.is_none()
    }

    /// What came behind the last frame and is none, when all frames are handled.
    #[inline]
    pub(super) fn take_broken(&mut self) -> Option<FrameError> {
        self.broken.take()
    }
}

/// How long handlers run in place, one after the other, before their answers leave and others get a turn.
pub(in crate::driver) struct Turn {
    pub(in crate::driver) now: Time,
    until: Time,
    pace: Pace,
}

/// After how many frames the clock is looked at: few where handlers take long.
#[derive(Clone, Copy)]
pub(in crate::driver) struct Pace {
    frames: u32,
    left: u32,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { frames: MOST_PER_LOOK, left: MOST_PER_LOOK }
    }
}

impl Turn {
    /// Begins now, at the pace of the one before.
    #[inline]
    pub(in crate::driver) fn new(now: Time, pace: Pace) -> Turn {
        Turn { now, until: now + LONGEST_TURN, pace }
    }

    /// A frame was handled; whether the turn is over, if that was looked at.
    #[inline]
    pub(in crate::driver) fn is_over(&mut self, clock: &Clock) -> bool {
        self.pace.left -= 1;
        if self.pace.left > 0 {
            return false;
        }
        let now = clock.now();
        let frames = if now.since(self.now) > LONG_LOOK {
            (self.pace.frames / 4).max(1)
        } else {
            (self.pace.frames * 2).min(MOST_PER_LOOK)
        };
        (self.now, self.pace) = (now, Pace { frames, left: frames });
        self.has_ended()
    }

    /// Whether it was over when that was looked at last.
    #[inline]
    pub(in crate::driver) fn has_ended(&self) -> bool {
        self.now >= self.until
    }

    /// For the next turn.
    #[inline]
    pub(in crate::driver) fn pace(&self) -> Pace {
        self.pace
    }
}

/// A call begins only if it waited for less than this part of its caller's time, and of a connection with too much.
const SHARE: u64 = 2;
const OVERLOADED_SHARE: u64 = 4;
/// Bytes of frames that are read ahead at most.
const MOST_AHEAD: usize = 256 << 10;
const LONGEST_TURN: Duration = Duration::from_millis(1);
/// Frames between two looks at the clock at most, and what is a long time between them.
const MOST_PER_LOOK: u32 = 16;
const LONG_LOOK: Duration = Duration::from_micros(200);

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(bytes: &'static [u8]) -> Bytes {
        Bytes::from_static(bytes)
    }

    #[test]
    fn what_is_put_back_comes_first_and_keeps_its_age() {
        let (early, late) = (Time::ZERO, Time::ZERO + Duration::from_secs(1));
        let mut backlog = Backlog::default();
        backlog.push(frames(b"ab"), Ok(()), early);
        backlog.push(frames(b"cd"), Ok(()), late);
        let mut first = backlog.pop().expect("it came");
        first.done = 1;
        backlog.unpop(first);
        let ages: Vec<_> =
            std::iter::from_fn(|| backlog.pop()).map(|read| (read.done, read.wait.came)).collect();
        assert_eq!(ages, [(1, early), (0, late)]);
        assert!(backlog.is_empty() && backlog.has_room());
    }

    #[test]
    fn a_call_begins_while_more_than_half_of_its_time_is_left() {
        let ms = |ms: u64| ms * 1_000_000;
        let at = |ms| Time::ZERO + Duration::from_millis(ms);
        let wait = Wait::none(Time::ZERO);
        assert!(!wait.is_too_long(at(5), ms(10)));
        assert!(wait.is_too_long(at(6), ms(10)));
        assert!(!wait.is_too_long(Time::ZERO, ms(0)), "that is for the session to say");
    }

    #[test]
    fn a_connection_that_does_not_catch_up_begins_only_what_waited_for_less() {
        let at = |ms| Time::ZERO + Duration::from_millis(ms);
        let left = 10_000_000;
        let mut backlog = Backlog::default();
        backlog.push(frames(b"ab"), Ok(()), at(0));
        backlog.push(frames(b"cd"), Ok(()), at(8));
        backlog.pop();
        let behind = backlog.pop().expect("it came").wait;
        assert!(!behind.is_too_long(at(10), left));
        assert!(
            behind.is_too_long(at(11), left),
            "something has waited since 0, and this for 3 of 10"
        );
        backlog.push(frames(b"ef"), Ok(()), at(20));
        let caught_up = backlog.pop().expect("it came").wait;
        assert_eq!(caught_up, Wait::none(at(20)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_ends_when_its_time_is_over_and_slow_handlers_are_watched_closely() {
        let clock = Clock::new();
        let mut turn = Turn::new(clock.now(), Pace::default());
        let mut frames = 0;
        while !turn.is_over(&clock) {
            frames += 1;
            tokio::time::advance(Duration::from_micros(300)).await;
        }
        assert_eq!(frames, MOST_PER_LOOK - 1, "it had no reason to look before");
        let mut turn = Turn::new(clock.now(), turn.pace());
        let mut frames = 0;
        while !turn.is_over(&clock) {
            frames += 1;
            tokio::time::advance(Duration::from_micros(300)).await;
        }
        assert!(frames <= 6, "{frames} times 0.3 ms");
    }

    #[test]
    fn little_is_read_ahead_and_nothing_behind_what_is_no_frame() {
        let mut backlog = Backlog::default();
        let most = Bytes::from(vec![0; MOST_AHEAD]);
        backlog.push(most, Ok(()), Time::ZERO);
        assert!(!backlog.has_room());
        assert!(backlog.pop().is_some() && backlog.has_room());
        backlog.push(Bytes::new(), Err(FrameError::Short), Time::ZERO);
        assert!(backlog.is_empty() && !backlog.has_room());
        assert_eq!(backlog.take_broken(), Some(FrameError::Short));
    }
}
