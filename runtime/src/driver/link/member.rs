//! What a group asks of the links to its members.

use std::task::Context;

use super::{Link, Phase, add_waker};
use crate::driver::bundle::Share;
use crate::driver::lock;
use crate::id::{Boot, Handle};

impl Link {
    /// The run of the server that the session is of, if there is one.
    pub(crate) fn boot(&self) -> Option<Boot> {
        lock(&self.state).client.session().map(|(boot, _)| boot)
    }

    /// Gives the next datagram to this share, if there is a link over datagrams.
    pub(crate) fn share(&self, share: Share) {
        let mut state = lock(&self.state);
        let old = match state.client.is_over_datagrams() && state.client.is_welcome() {
            true => state.share.replace(share),
            false => Some(share),
        };
        drop(state);
        // It may send: not under the lock.
        drop(old);
    }

    /// Datagrams with something that was sent before, if there is a link over datagrams.
    pub(crate) fn resent(&self) -> Option<u64> {
        let state = lock(&self.state);
        let up = state.client.is_over_datagrams() && state.client.is_welcome();
        up.then_some(state.sockets.traffic.resent)
    }

    /// Whether it is known what became of the look-up of this handle; else the task is woken when it is.
    pub(crate) fn poll_bound(&self, handle: Handle, cx: &mut Context<'_>) -> bool {
        let mut state = lock(&self.state);
        let closed = state.phase == Phase::Closed;
        state.client.bound(handle, |waiting| add_waker(waiting, cx)).is_some() || closed
    }
}
