//! What the client has finished, and how much of that the server was told.
//!
//! A call's place in the window is free again only when an acknowledgement that covers it was sent: every CALL carries
//! the floor, CALL_ACK carries ranges above it.

use crate::id::Seq;
use crate::protocol::finished::{Finished, to_ranges};
use crate::time::Time;
use crate::wire::frame::{Ranges, put_call_ack};
use crate::wire::send_buffer::SendBuffer;

/// The finished calls of one session.
#[derive(Debug, Default, Clone)]
pub(super) struct Acks {
    finished: Finished,
    /// Finished calls that no sent acknowledgement covers.
    unsent: Vec<Seq>,
    /// Bytes of their replies, which the server keeps.
    reply_bytes: usize,
    /// When `unsent` is to be sent at the latest.
    due: Option<Time>,
}

impl Acks {
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
        self.due.get_or_insert(due);
    }

    /// Finished calls that the server was not told of.
    #[inline]
    pub(super) fn unsent(&self) -> usize {
        self.unsent.len()
    }

    /// The floor was just sent with a call.
    #[inline]
    pub(super) fn floor_was_sent(&mut self) {
        if !self.unsent.is_empty() {
            let floor = self.finished.floor();
            self.unsent.retain(|&seq| seq >= floor);
            if self.unsent.is_empty() {
                self.due = None;
                self.reply_bytes = 0;
            }
        }
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

    /// Tells the server now.
    pub(super) fn flush(&mut self, out: &mut SendBuffer) {
        let floor = self.finished.floor();
        self.unsent.retain(|&seq| seq >= floor);
        self.unsent.sort_unstable();
        put_call_ack(floor, &to_ranges(self.unsent.drain(..)), out.small());
        self.reply_bytes = 0;
        self.due = None;
    }

    /// Everything finished, for the handshake of a new link, which thereby tells it.
    pub(super) fn tell_all(&mut self) -> (Seq, Ranges) {
        self.unsent.clear();
        self.reply_bytes = 0;
        self.due = None;
        (self.finished.floor(), self.finished.ranges())
    }
}
