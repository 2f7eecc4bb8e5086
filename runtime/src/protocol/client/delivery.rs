//! What a client says of its frames in datagrams: which are still of use, and what their arrival means.

use super::Client;
use super::slots::State;
use crate::id::Seq;
use crate::protocol::packet::Delivery;
use crate::time::Time;
use crate::wire::frame::{Frame, Kind, call_of, decode, floor_of};

impl<W> Delivery for Client<W> {
    fn delivered(&mut self, frame: &[u8]) {
        if let Some(floor) = floor_of(frame) {
            self.acks.floor_arrived(floor);
        } else if let Ok(Frame::CallAck { floor, ranges }) = decode(frame) {
            self.acks.arrived(floor, &ranges);
        }
    }

    fn is_wanted(&self, frame: &[u8]) -> bool {
        match call_of(frame) {
            Some((Kind::Call, seq)) => self.is_message_wanted(seq),
            Some((Kind::Resolve, seq)) => {
                self.state_of(seq).is_some_and(|state| matches!(state, State::Resolving(_)))
            }
            Some(_) => false,
            None => match decode(frame) {
                Ok(Frame::Lookup(lookup)) => self.is_asked(lookup.handle),
                Ok(Frame::Ping(_) | Frame::Pong(_)) => false,
                _ => true,
            },
        }
    }

    fn is_message_wanted(&self, seq: Seq) -> bool {
        seq == 0 || self.state_of(seq) == Some(State::Sent)
    }
}

impl<W> Client<W> {
    fn state_of(&self, seq: Seq) -> Option<State> {
        let &index = self.by_seq.get(seq)?;
        Some(self.slots.at(index)?.state)
    }

    /// A large reply came, in several datagrams whose arrival does not tell the server that it was put together.
    pub(crate) fn acknowledge_soon(&mut self, now: Time) {
        self.acks.tell_by(now + self.config.limits.ack_delay);
    }
}
