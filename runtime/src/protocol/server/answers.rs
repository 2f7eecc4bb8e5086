//! Answers: saved before they are sent, sent again when they are asked for.

use super::ServerSession;
use super::record::{Body, Record, State};
use crate::error::FailureCode;
use crate::id::Seq;
use crate::semantics::Semantics;
use crate::time::Time;
use crate::wire;
use crate::wire::body::Encoded;
use crate::wire::frame::{self, FRAGMENT, ReplyStatus};
use crate::wire::send_buffer::SendBuffer;

impl ServerSession {
    /// The handler's outcome: saved if the semantics says so, and sent if a link is up.
    #[inline]
    pub(crate) fn complete(
        &mut self,
        now: Time,
        seq: Seq,
        status: ReplyStatus,
        body: &mut impl Outcome,
        out: Option<&mut SendBuffer>,
    ) {
        self.budget.end();
        // A record that is answered is another call's: a peer can give two the same number.
        let record = self.records.get_mut(seq).filter(|record| !record.is_answered());
        let Some(record) = record else {
            self.unrecorded = self.unrecorded.saturating_sub(1);
            if let Some(out) = out {
                self.send_unsaved(seq, status, body, Fate::Once, out);
            }
            return;
        };
        self.running = self.running.saturating_sub(1);
        self.reserved -= record.reserve;
        if record.orphan {
            self.records.remove(seq);
            self.orphans -= 1;
            return;
        }
        if record.semantics == Semantics::AtLeastOnce {
            // No memory after the reply: if it is lost, the client asks again and the method runs again.
            self.records.remove(seq);
            if let Some(out) = out {
                self.send_unsaved(seq, status, body, Fate::Arrives, out);
            }
            return;
        }
        if cfg_canary!("panic_resets_the_record")
            && status == ReplyStatus::Failed(FailureCode::Panicked)
        {
            self.records.remove(seq);
        }
        self.save(now, seq, status, body, out);
    }

    fn save(
        &mut self,
        now: Time,
        seq: Seq,
        status: ReplyStatus,
        body: &mut impl Outcome,
        mut out: Option<&mut SendBuffer>,
    ) {
        let refused = self.too_large(body.len());
        let shared = body.len() > self.shared();
        if cfg_canary!("pressure_drops_one_answer") {
            self.drop_one_answer();
        }
        self.count_saved(now, refused.map_or(body.len(), str::len));
        let room = out.as_ref().is_some_and(|out| self.has_room(out));
        if let Some(record) = self.records.get_mut(seq) {
            let too_large = ReplyStatus::Failed(FailureCode::ReplyTooLarge);
            match refused {
                Some(text) => record.answer(too_large, text.as_bytes()),
                None if shared => record.share(status, body.take()),
                None => {
                    record.answer(status, body.encoded());
                    if room && let Some(out) = out.take() {
                        // As it would be read from the record.
                        put_whole(seq, status, body.encoded(), Fate::Arrives, out);
                    }
                }
            }
        }
        match out {
            Some(out) if room => self.write(seq, out),
            // Written when the link has room, or by the next link.
            Some(_) => self.write_later(seq),
            None => {}
        }
    }

    /// Whether a reply can be written now, behind all that came before it.
    #[inline]
    fn has_room(&self, out: &SendBuffer) -> bool {
        self.to_send.is_empty() && out.pending() < self.limits.send_buffer
    }

    /// Writes the replies that waited for room.
    pub(crate) fn flush(&mut self, out: &mut SendBuffer) {
        while out.pending() < self.limits.send_buffer {
            match self.to_send.pop_front() {
                None => return,
                Some(ToSend::Saved(seq)) => self.write(seq, out),
                Some(ToSend::Unsaved { seq, status, body, fate }) => {
                    self.once -= 1;
                    self.uncount(body.len());
                    put(seq, status, &body, fate, out);
                }
            }
        }
    }

    /// The link is gone, and what it would have brought. Saved replies wait for the next.
    pub(super) fn forget_to_send(&mut self) {
        for waiting in std::mem::take(&mut self.to_send) {
            if let ToSend::Unsaved { body, .. } = waiting {
                self.once -= 1;
                self.uncount(body.len());
            }
        }
    }

    /// Whether replies wait for room.
    pub(crate) fn has_waiting_replies(&self) -> bool {
        !self.to_send.is_empty()
    }

    /// An answer is about to be kept, a refusal's text too; [`forget_one`](Self::forget_one) takes it back.
    pub(super) fn count_saved(&mut self, now: Time, bytes: usize) {
        self.count(bytes);
        self.unacknowledged.get_or_insert(now);
    }

    fn count(&mut self, bytes: usize) {
        self.reply_bytes += bytes;
        self.budget.save(bytes);
    }

    /// Bytes of replies are gone.
    pub(super) fn uncount(&mut self, bytes: usize) {
        self.reply_bytes -= bytes;
        self.budget.unsave(bytes);
    }

    /// Bytes that a reply may have at most, for both sides.
    #[cfg(feature = "sqlite")]
    pub(crate) fn largest_reply(&self) -> usize {
        self.max_message.min(self.limits.message)
    }

    /// Why a result is given up, if it is. It belongs to a call that ran: the session's own budget bounds what begins,
    /// and only a process without room makes a result go.
    fn too_large(&self, bytes: usize) -> Option<&'static str> {
        if bytes > self.max_message && self.datagrams {
            Some(
                "the encoded result is larger than the client accepts over udp://; tcp:// carries more",
            )
        } else if bytes > self.max_message {
            Some("the encoded result is larger than the client accepts")
        } else if bytes > self.limits.reply_reserve && !self.budget.may_save(bytes, &self.limits) {
            Some("the server has no room to save so large a result")
        } else {
            None
        }
    }

    /// Replies of more bytes are shared with the send buffer, and not copied into it.
    fn shared(&self) -> usize {
        if self.datagrams { SHARED_WITH_DATAGRAMS } else { FRAGMENT }
    }

    /// Sends a reply that is not kept once it is written.
    fn send_unsaved(
        &mut self,
        seq: Seq,
        status: ReplyStatus,
        body: &mut impl Outcome,
        fate: Fate,
        out: &mut SendBuffer,
    ) {
        let (status, body) = match self.too_large(body.len()) {
            Some(text) => {
                (ReplyStatus::Failed(FailureCode::ReplyTooLarge), Body::of(text.as_bytes()))
            }
            None if self.has_room(out) && body.len() <= self.shared() => {
                return put_whole(seq, status, body.encoded(), fate, out);
            }
            None if body.len() > self.shared() => (status, Body::Large(body.take())),
            None => (status, Body::of(body.encoded())),
        };
        if self.has_room(out) {
            put(seq, status, &body, fate, out);
        } else {
            self.count(body.len());
            self.once += 1;
            self.to_send.push_back(ToSend::Unsaved { seq, status, body, fate });
        }
    }

    /// Answers a repeat: from the record, or not yet.
    pub(super) fn send_again(&mut self, seq: Seq, out: &mut SendBuffer) {
        if self.datagrams {
            // It waits, or is in the hands of the channel until it has arrived.
        } else if out.pending() < self.limits.send_buffer {
            self.write(seq, out);
        } else if !self
            .to_send
            .iter()
            .any(|waiting| matches!(waiting, ToSend::Saved(s) if *s == seq))
        {
            self.write_later(seq);
        }
    }

    /// A saved reply waits for room. A client can acknowledge what it has not read; the places of such replies go when
    /// they outnumber the others, so that each is looked at a few times at most.
    fn write_later(&mut self, seq: Seq) {
        self.to_send.push_back(ToSend::Saved(seq));
        let wanted = self.records.len() + self.once;
        if self.to_send.len() > 2 * wanted + self.limits.window {
            let records = &self.records;
            self.to_send.retain(|waiting| match waiting {
                ToSend::Saved(seq) => records.contains(*seq),
                ToSend::Unsaved { .. } => true,
            });
        }
    }

    fn write(&self, seq: Seq, out: &mut SendBuffer) {
        if let Some(Record { state: State::Answered { status, body }, .. }) = self.records.get(seq)
        {
            put(seq, *status, body, Fate::Arrives, out);
        }
    }
}

/// An encoded result, error or text of a failure.
pub(crate) trait Outcome {
    /// Bytes of it.
    fn len(&self) -> usize;

    /// The bytes, if they are no more than [`FRAGMENT`].
    fn encoded(&self) -> &[u8];

    /// All of it, shared from now on; nothing is left.
    fn take(&mut self) -> wire::body::Body;
}

impl Outcome for Vec<u8> {
    #[inline]
    fn len(&self) -> usize {
        Vec::len(self)
    }

    #[inline]
    fn encoded(&self) -> &[u8] {
        self
    }

    fn take(&mut self) -> wire::body::Body {
        std::mem::take(self).into()
    }
}

impl Outcome for Encoded {
    #[inline]
    fn len(&self) -> usize {
        Encoded::len(self)
    }

    #[inline]
    fn encoded(&self) -> &[u8] {
        // What is shared is itself longer than a fragment may be.
        &self.bytes
    }

    fn take(&mut self) -> wire::body::Body {
        wire::body::Body::of(&mut self.bytes, self.shared.take())
    }
}

/// A reply that waits for room on the link.
#[derive(Debug)]
#[cfg_attr(feature = "sim", derive(Clone))]
pub(super) enum ToSend {
    /// It is in its record.
    Saved(Seq),
    /// It is kept here only, until it is written.
    Unsaved { seq: Seq, status: ReplyStatus, body: Body, fate: Fate },
}

/// What becomes of a reply that a datagram loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is sent again until it has arrived.
    Arrives,
    /// It is lost.
    Once,
}

/// Writes one reply.
fn put(seq: Seq, status: ReplyStatus, body: &Body, fate: Fate, out: &mut SendBuffer) {
    match body {
        Body::Large(large) if large.len() > out.whole() => {
            // Else another run of an at-least-once call, or this one, is being answered: pieces of two would mix.
            if !out.has_large(seq) {
                let head = frame::reply_message_head(seq, status);
                out.push_large(seq, head, large.clone(), fate == Fate::Once);
            }
        }
        small => put_whole(seq, status, &small.bytes(), fate, out),
    }
}

#[inline]
fn put_whole(seq: Seq, status: ReplyStatus, body: &[u8], fate: Fate, out: &mut SendBuffer) {
    if fate == Fate::Once {
        out.mark_once();
    }
    frame::put_reply(seq, status, body, out.small());
}

/// About what one datagram of the usual size carries, in bytes.
const SHARED_WITH_DATAGRAMS: usize = 1024;
