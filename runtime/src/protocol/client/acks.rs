//! What the client has finished, and how much of that the server was told.
//!
//! A call's place in the window is free again only when an acknowledgement that covers it was sent: every CALL carries
//! the floor, CALL_ACK carries ranges above it. A CALL in fragments tells nothing that counts: it may be refused, or given
//! up, before it is whole. In datagrams, where what was sent may be lost, it must have arrived;
//! but there the arrival of a reply is itself an acknowledgement, so that nothing need be told for its own sake.

use crate::id::Seq;
use crate::protocol::finished::{Finished, to_ranges};
use crate::time::Time;
use crate::wire::frame::{Ranges, put_call_ack};
use crate::wire::send_buffer::SendBuffer;

/// The finished calls of one session.
#[derive(Debug, Clone)]
pub(super) struct Acks {
    finished: Finished,
    /// Finished calls that no sent acknowledgement covers.
    unsent: Vec<Seq>,
    /// Finished calls whose acknowledgement is on its way; on a stream that is as good as there.
    told: Vec<Seq>,
    /// The highest floor of a call that has arrived.
    floor_arrived: Seq,
    /// Bytes of their replies, which the server keeps.
    reply_bytes: usize,
    /// When `unsent` is to be sent at the latest.
    due: Option<Time>,
    datagrams: bool,
}

impl Acks {
    /// Nothing finished yet.
    pub(super) fn new(datagrams: bool) -> Acks {
        Acks {
            finished: Finished::default(),
            unsent: Vec::new(),
            told: Vec::new(),
            floor_arrived: 0,
            reply_bytes: 0,
            due: None,
            datagrams,
        }
    }

    /// All calls below are finished.
    #[inline]
    pub(super) fn floor(&self) -> Seq {
        self.finished.floor()
    }

    /// A call is finished, with a reply of this size; tell the server by `due`.
    #[inline]
    pub(super) fn finished(&mut self, seq: Seq, reply_bytes: usize, due: Time) {
        self.finished.insert(seq);
        self.unsent.push(seq);
        self.reply_bytes += reply_bytes;
        if !self.datagrams {
            self.due.get_or_insert(due);
        }
    }

    /// The server is to be told of what is finished now, by then.
    pub(super) fn tell_by(&mut self, due: Time) {
        if !self.unsent.is_empty() {
            self.due.get_or_insert(due);
        }
    }

    /// Finished calls that the server may not know of.
    #[inline]
    pub(super) fn untold(&self) -> usize {
        self.unsent.len() + self.told.len()
    }

    /// Of those, the calls whose acknowledgement is on its way.
    #[inline]
    pub(super) fn in_flight(&self) -> usize {
        if cfg_canary!("what_was_told_has_arrived") { 0 } else { self.told.len() }
    }

    /// The floor was just sent with a call, `whole` or in fragments, and `once` or again if it is lost.
    #[inline]
    pub(super) fn floor_was_sent(&mut self, whole: bool, once: bool) {
        let told = if self.datagrams { !once } else { whole };
        if told && !self.unsent.is_empty() {
            let floor = self.finished.floor();
            if self.datagrams {
                self.told.extend(self.unsent.iter().filter(|&&seq| seq < floor));
            }
            self.unsent.retain(|&seq| seq >= floor);
            if self.unsent.is_empty() {
                self.due = None;
                self.reply_bytes = 0;
            }
        }
    }

    /// A call that carried this floor has arrived.
    #[inline]
    pub(super) fn floor_arrived(&mut self, floor: Seq) {
        // Calls that left together carry the same, and what is told later is not below it.
        if floor > self.floor_arrived {
            self.floor_arrived = floor;
            self.arrived(floor, &[]);
        }
    }

    /// An acknowledgement of these has arrived.
    pub(super) fn arrived(&mut self, floor: Seq, ranges: &[(Seq, Seq)]) {
        let within = |seq: Seq| ranges.iter().any(|&(start, end)| start <= seq && seq < end);
        self.told.retain(|&seq| seq >= floor && !within(seq));
    }

    /// When the server is to be told at the latest.
    pub(super) fn due(&self) -> Option<Time> {
        self.due
    }

    /// Tells the server, if `batch` calls are finished that the floor of the next call will not cover, or if it keeps
    /// more than `reply_bytes` for calls that are finished.
    pub(super) fn flush_if_many(&mut self, batch: usize, reply_bytes: usize, out: &mut SendBuffer) {
        if self.reply_bytes > reply_bytes {
            return self.flush(out);
        }
        if self.unsent.len() >= batch {
            let floor = self.finished.floor();
            if self.unsent.iter().filter(|&&seq| seq >= floor).count() >= batch {
                self.flush(out);
            }
        }
    }

    /// Tells the server everything, since it asked.
    pub(super) fn repeat(&mut self, out: &mut SendBuffer) {
        if self.datagrams {
            put_call_ack(self.finished.floor(), &self.finished.ranges(), out.small());
        } else {
            self.flush(out);
        }
    }

    /// Whether so much was not told that the window would be full before the acknowledgement has arrived.
    #[inline]
    pub(super) fn is_late(&self, window: usize) -> bool {
        self.datagrams && self.told.is_empty() && self.unsent.len() > window / 2
    }

    /// Tells the server now.
    pub(super) fn flush(&mut self, out: &mut SendBuffer) {
        if self.datagrams {
            if self.unsent.is_empty() {
                // It is on its way, and is sent again until it arrives.
                return;
            }
            self.told.extend_from_slice(&self.unsent);
        }
        let floor = self.finished.floor();
        self.unsent.retain(|&seq| seq >= floor);
        self.unsent.sort_unstable();
        put_call_ack(floor, &to_ranges(self.unsent.drain(..)), out.small());
        self.reply_bytes = 0;
        self.due = None;
    }

    /// Everything finished, for the handshake of a new link, which thereby tells it: no more than `most` ranges above
    /// the floor. What is not among them is told later.
    pub(super) fn tell_all(&mut self, most: usize) -> (Seq, Ranges) {
        let (floor, mut ranges) = (self.finished.floor(), self.finished.ranges());
        self.unsent.append(&mut self.told);
        ranges.truncate(most);
        let told_up_to = ranges.last().map_or(floor, |&(_, end)| end);
        self.unsent.retain(|&seq| seq >= told_up_to);
        if self.unsent.is_empty() {
            self.reply_bytes = 0;
            self.due = None;
        }
        (floor, ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_datagrams_a_place_is_free_when_a_call_with_its_floor_has_arrived() {
        let mut acks = Acks::new(true);
        for seq in 1..=3 {
            acks.finished(seq, 0, Time::ZERO);
        }
        // Two calls that leave together.
        acks.floor_was_sent(true, false);
        acks.floor_was_sent(true, false);
        assert_eq!((acks.floor(), acks.in_flight()), (4, 3));
        acks.floor_arrived(4);
        assert_eq!(acks.in_flight(), 0);
        acks.floor_arrived(4);
        acks.finished(4, 0, Time::ZERO);
        acks.floor_was_sent(true, false);
        assert_eq!(acks.in_flight(), 1);
        acks.floor_arrived(5);
        assert_eq!(acks.in_flight(), 0);
    }

    #[test]
    fn on_a_stream_a_call_in_fragments_frees_no_place() {
        let mut acks = Acks::new(false);
        acks.finished(1, 0, Time::ZERO);
        acks.floor_was_sent(false, false);
        assert_eq!((acks.untold(), acks.due()), (1, Some(Time::ZERO)));
        acks.floor_was_sent(true, false);
        assert_eq!((acks.untold(), acks.due()), (0, None));
    }

    #[test]
    fn the_answer_to_a_question_frees_no_place_that_is_told_later() {
        let mut acks = Acks::new(true);
        let mut out = SendBuffer::for_datagrams(1000);
        acks.finished(1, 0, Time::ZERO);
        acks.repeat(&mut out);
        acks.arrived(2, &[]);
        acks.floor_was_sent(true, false);
        assert_eq!(acks.in_flight(), 1);
        acks.floor_arrived(2);
        assert_eq!(acks.in_flight(), 0);
    }
}
