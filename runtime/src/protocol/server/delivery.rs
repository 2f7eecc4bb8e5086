//! What a session says of its frames in datagrams: which are still of use, and what their arrival means.
//!
//! A datagram with a whole reply is acknowledged after the client's machine was given it: the call is finished there,
//! and nothing is lost if the server forgets it. Of a reply in pieces only CALL_ACK tells that it was put together, and
//! a call that a draining server refuses may be one that its client puts off and sends again. The record also waits for
//! CALL_ACK where finished calls have as many gaps as a correct client's can have.

use super::ServerSession;
use super::record::Record;
use crate::id::Seq;
use crate::protocol::packet::Delivery;
use crate::wire::frame::{Frame, Kind, call_of, decode};

impl Delivery for ServerSession {
    fn delivered(&mut self, frame: &[u8]) {
        if self.finished.gaps() <= self.limits.window
            && let Some((Kind::Reply, seq)) = call_of(frame)
            && self.records.get(seq).is_some_and(Record::is_finished_by_arrival)
        {
            self.forget_one(seq);
            self.finished.insert(seq);
        }
    }

    fn is_wanted(&self, frame: &[u8]) -> bool {
        match call_of(frame) {
            Some((Kind::Reply, seq)) => self.is_message_wanted(seq),
            Some(_) => true,
            None => !matches!(decode(frame), Ok(Frame::NeedAck | Frame::Ping(_) | Frame::Pong(_))),
        }
    }

    fn is_message_wanted(&self, seq: Seq) -> bool {
        seq == 0 || !self.finished.contains(seq)
    }
}
