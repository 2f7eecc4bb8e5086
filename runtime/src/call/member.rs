//! What a group asks of its members' calls.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::{Call, Remote};
use crate::driver::bundle::Share;
use crate::id::Boot;
use crate::pending::DRIVER_GRACE;
use crate::semantics::Semantics;

impl Remote {
    /// What calls reach now: an object of this name, at this run of its server. Nothing before there is a session.
    pub(crate) fn reached(&self) -> Option<(Boot, Arc<str>)> {
        Some((self.target.link.boot()?, self.target.object.clone()))
    }

    /// What the method at this position is called and promises.
    pub(crate) fn promise(&self, method: usize) -> Option<(&'static str, Semantics)> {
        let method = self.target.descriptor.methods.get(method)?;
        Some((method.name, method.semantics))
    }

    /// Whether the object was looked up, or why it cannot be is known; the task is woken when it is.
    pub(crate) fn poll_bound(&self, cx: &mut Context<'_>) -> bool {
        self.target.handle().is_ok_and(|handle| self.target.link.poll_bound(handle, cx))
    }

    /// Gives the next datagram that goes to the object's server to this share.
    pub(crate) fn share(&self, share: Share) {
        self.target.link.share(share);
    }

    /// Datagrams to the server with something that was sent before; nothing if there is no link over datagrams.
    pub(crate) fn resent(&self) -> Option<u64> {
        self.target.link.resent()
    }
}

impl<A, T, E> Call<A, T, E> {
    /// How long a parked thread waits for this call, before it has started; nothing stands for ever.
    pub(crate) fn longest(&self) -> Option<Duration> {
        self.arguments.as_ref()?;
        Some(self.time()?.saturating_add(DRIVER_GRACE))
    }

    /// Whether the call goes on by itself: it is in the send buffer or, if it is exactly once, saved. If it is being
    /// saved, the task is woken when it is.
    pub(crate) fn is_left(&self, cx: &mut Context<'_>) -> bool {
        let started = self.arguments.is_none() && self.queued.is_none();
        // One that could not be saved has ended: its error is its answer.
        started
            && !self.pending.is_finished()
            && matches!(self.pending.poll_saved(cx), Poll::Ready(Ok(())))
    }
}
