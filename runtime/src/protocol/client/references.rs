//! What a client's machine hands on unopened: references that came with replies, and bytes of calls back.

use bytes::Bytes;

use super::slots::{Key, State};
use super::{Client, Violation};
use crate::id::SessionId;
use crate::time::Time;
use crate::wire::frame::{Back, Reply, ReplyStatus};
use crate::wire::references::{entries, split};

/// Something that came and is not for the calls of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// References, with the answer of this call, which waits to be taken.
    References { key: Key, entries: Vec<u8> },
    /// The server has welcomed this client to this session.
    Session(SessionId),
    /// Bytes of the stream on which the server is the client.
    Back { stream: u64, offset: u64, read: u64, end: bool, bytes: Vec<u8> },
}

impl Arrival {
    pub(super) fn back(back: &Back<'_>) -> Arrival {
        let Back { stream, offset, read, end, bytes } = *back;
        Arrival::Back { stream, offset, read, end, bytes: bytes.to_vec() }
    }
}

impl<W> Client<W> {
    /// What came since the last time.
    #[inline]
    pub(crate) fn take_arrivals(&mut self) -> Vec<Arrival> {
        std::mem::take(&mut self.arrivals)
    }

    /// Whether something came.
    #[inline]
    pub(crate) fn has_arrivals(&self) -> bool {
        !self.arrivals.is_empty()
    }

    /// The server's address.
    pub(crate) fn peer(&self) -> &str {
        &self.config.peer
    }

    /// Whether the call has not ended yet.
    pub(crate) fn is_unfinished(&mut self, key: Key) -> bool {
        let slot = self.slots.get_mut(key);
        slot.is_some_and(|slot| !matches!(slot.state, State::Free | State::Done))
    }

    /// Whether the call has not ended, or its answer was not taken yet.
    pub(crate) fn is_known_call(&mut self, key: Key) -> bool {
        self.slots.get_mut(key).is_some_and(|slot| slot.state != State::Free)
    }

    pub(super) fn arrived(&mut self, arrival: Arrival) {
        self.arrivals.push(arrival);
    }

    /// A reply with references. They are handed on if somebody will take the answer; else the server gets them back, since
    /// it asks for those of a call that is finished.
    #[cold]
    pub(super) fn on_passing(
        &mut self,
        now: Time,
        index: u32,
        reply: &Reply<'_>,
        large: Option<Bytes>,
    ) -> Result<(), Violation> {
        let Ok((payload, list)) = split(reply.body) else {
            return Err(Violation("a reply whose references cannot be read"));
        };
        if entries(list).is_err() {
            return Err(Violation("a reply whose references cannot be read"));
        }
        let wanted = self.slots.at(index).is_some_and(|slot| !slot.abandoned);
        if let Some(key) = self.slots.key(index).filter(|_| wanted) {
            self.arrived(Arrival::References { key, entries: list.to_vec() });
        }
        let status = match reply.status {
            ReplyStatus::PassingError => ReplyStatus::MethodError,
            _ => ReplyStatus::Ok,
        };
        let large = large.map(|body| body.slice(..payload));
        let reply = Reply { seq: reply.seq, status, body: &reply.body[..payload] };
        self.on_reply(now, &reply, large)
    }
}
