//! Room for calls, in window, budget and send buffer, and the callers who wait for it.

use super::Client;
use crate::wire::send_buffer::SendBuffer;

impl<W> Client<W> {
    /// Leaves `waiter` to be woken when there is room for a call with so many bytes of arguments, unless there is room
    /// now; returns its number. A caller that was woken comes before all others; one that was not keeps its place.
    pub(crate) fn block(
        &mut self,
        bytes: usize,
        out: &SendBuffer,
        old: Option<u64>,
        waiter: W,
    ) -> Option<u64> {
        if let Some(place) = self.blocked.iter_mut().find(|(id, _)| Some(*id) == old) {
            place.1 = waiter;
            return old;
        }
        let woken = old.is_some();
        if (woken || self.blocked.is_empty()) && self.has_room(bytes, out) {
            return None;
        }
        self.blocked_ids += 1;
        if woken {
            self.blocked.push_front((self.blocked_ids, waiter));
        } else {
            self.blocked.push_back((self.blocked_ids, waiter));
        }
        Some(self.blocked_ids)
    }

    /// Whether callers wait for room.
    #[inline]
    pub(crate) fn has_blocked(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// Takes back a waiter that [`block`](Self::block) left; one that was woken passes its turn on.
    pub(crate) fn forget_blocked(&mut self, number: u64) {
        let before = self.blocked.len();
        self.blocked.retain(|&(id, _)| id != number);
        if self.blocked.len() == before {
            self.wake_blocked(1);
        }
    }

    #[inline]
    pub(super) fn has_room(&self, bytes: usize, out: &SendBuffer) -> bool {
        let own = self.config.limits.request_bytes;
        let most = self.session.as_ref().map_or(own, |session| session.request_bytes);
        // A message larger than the whole budget goes alone.
        let budget = self.request_bytes == 0 || self.request_bytes + bytes <= most;
        self.room() > 0 && budget && out.pending() < self.config.limits.send_buffer
    }

    /// Calls that may be taken before the window is full.
    #[inline]
    pub(super) fn room(&self) -> usize {
        self.window().saturating_sub(self.by_seq.len() + self.queue.len())
    }

    pub(super) fn wake_blocked(&mut self, count: usize) {
        for _ in 0..count.min(self.blocked.len()) {
            if let Some((_, waiter)) = self.blocked.pop_front() {
                self.woken.push(waiter);
            }
        }
    }
}
