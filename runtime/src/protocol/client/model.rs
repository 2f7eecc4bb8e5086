//! What the exhaustive model of the simulation asks a client.

use super::Client;
use super::slots::State;

impl<W: std::fmt::Debug> Client<W> {
    /// All that decides what the client does next, as text.
    pub(crate) fn fingerprint(&self) -> String {
        let calls = (&self.slots, &self.by_seq, &self.queue, &self.bindings);
        format!("{:?}", (calls, &self.session, self.link, self.link_number, &self.acks))
    }

    /// Whether finished calls are to be acknowledged.
    pub(crate) fn owes_acknowledgement(&self) -> bool {
        self.acks.due().is_some() && self.link.is_up()
    }

    /// Whether a call waits for the server's word on whether it ran.
    pub(crate) fn is_resolving(&self) -> bool {
        let resolves = |&index: &u32| {
            self.slots.at(index).is_some_and(|slot| matches!(slot.state, State::Resolving(_)))
        };
        self.slots.unfinished().iter().any(resolves)
    }
}
