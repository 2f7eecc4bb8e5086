//! A link's state while somebody works on it, and what is due when it is left.

use std::sync::MutexGuard;
use std::task::{Context, Waker};

use super::State;

/// The locked state of a link.
pub(in crate::driver) struct MutexState<'a>(pub(super) MutexGuard<'a, State>);

impl std::ops::Deref for MutexState<'_> {
    type Target = State;

    #[inline]
    fn deref(&self) -> &State {
        &self.0
    }
}

impl std::ops::DerefMut for MutexState<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut State {
        &mut self.0
    }
}

impl MutexState<'_> {
    /// The task goes to sleep after this, and is to be woken for whatever comes.
    #[inline]
    pub(in crate::driver) fn sleep(&mut self, cx: &Context<'_>) {
        self.0.scheduled = false;
        match &self.0.io {
            Some(io) if io.will_wake(cx.waker()) => {}
            _ => self.0.io = Some(cx.waker().clone()),
        }
    }

    /// As [`leave`](Self::leave), by the task itself, with a vector that it keeps for this.
    #[inline]
    pub(in crate::driver) fn leave_with(mut self, kept: &mut Vec<Waker>) {
        debug_assert!(kept.is_empty());
        std::mem::swap(self.0.client.woken(), kept);
        let finished = self.take_finished();
        drop(self);
        drop(finished);
        kept.drain(..).for_each(Waker::wake);
    }

    /// As [`leave`](Self::leave), by the task itself, which need not be woken; who waits for the end of all calls is, if
    /// this is it.
    #[inline]
    pub(in crate::driver) fn leave_asleep(mut self) {
        let finished = self.take_finished();
        let idle = self.0.take_idle();
        if self.0.client.woken().is_empty() && idle.is_empty() {
            drop(self);
            drop(finished);
            return;
        }
        let woken = std::mem::take(self.0.client.woken());
        drop(self);
        drop(finished);
        woken.into_iter().chain(idle).for_each(Waker::wake);
    }

    /// Unlocks first; wakes then the callers that the machine named, and the task if there is something for it.
    #[inline]
    pub(in crate::driver) fn leave(mut self) {
        let woken = std::mem::take(self.0.client.woken());
        let finished = self.take_finished();
        let io = self.0.schedule();
        drop(self);
        drop(finished);
        woken.into_iter().chain(io).for_each(Waker::wake);
    }
}

impl State {
    /// Whether no call is in flight and nothing is to be sent, nor on its way in a datagram.
    pub(super) fn is_idle(&self) -> bool {
        self.client.is_idle() && self.out.is_empty() && self.settled
    }

    /// Who waits until the link is idle, if it is.
    #[inline]
    pub(in crate::driver) fn take_idle(&mut self) -> Vec<Waker> {
        if self.idle.is_empty() || !self.is_idle() {
            return Vec::new();
        }
        std::mem::take(&mut self.idle)
    }

    /// The connection's task, if there is something for it and it was not woken yet.
    #[inline]
    pub(super) fn schedule(&mut self) -> Option<Waker> {
        if self.scheduled {
            return None;
        }
        self.scheduled = true;
        self.io.clone()
    }
}
