//! Answers: saved before they are sent, sent again when they are asked for.

use super::ServerSession;
use super::record::{Body, Record, State};
use crate::error::FailureCode;
use crate::id::Seq;
use crate::semantics::Semantics;
use crate::time::Time;
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
        body: &mut Vec<u8>,
        out: Option<&mut SendBuffer>,
    ) {
        self.budget.end();
        let Some(record) = self.records.get_mut(&seq) else {
            self.unrecorded = self.unrecorded.saturating_sub(1);
            if let Some(out) = out {
                self.send_once(seq, status, body, out);
            }
            return;
        };
        self.running = self.running.saturating_sub(1);
        if record.orphan {
            self.records.remove(&seq);
            self.orphans -= 1;
            return;
        }
        if record.semantics == Semantics::AtLeastOnce {
            // No memory after the reply: if it is lost, the client asks again and the method runs again.
            self.records.remove(&seq);
            if let Some(out) = out {
                self.send_once(seq, status, body, out);
            }
            return;
        }
        if cfg_canary!("panic_resets_the_record")
            && status == ReplyStatus::Failed(FailureCode::Panicked)
        {
            self.records.remove(&seq);
        }
        self.save(now, seq, status, body, out);
    }

    fn save(
        &mut self,
        now: Time,
        seq: Seq,
        status: ReplyStatus,
        body: &mut Vec<u8>,
        out: Option<&mut SendBuffer>,
    ) {
        let (status, saved) = match self.too_large(body.len()).or(self.too_many(body.len())) {
            Some(text) => {
                (ReplyStatus::Failed(FailureCode::ReplyTooLarge), Body::of(text.as_bytes()))
            }
            None if body.len() > FRAGMENT => (status, Body::large(std::mem::take(body))),
            None => (status, Body::of(body)),
        };
        if cfg_canary!("pressure_drops_one_answer") {
            self.drop_one_answer();
        }
        self.count_saved(now, &saved);
        if let Some(record) = self.records.get_mut(&seq) {
            record.state = State::Answered { status, body: saved };
        }
        match out {
            Some(out) if self.to_send.is_empty() && out.pending() < self.limits.send_buffer => {
                self.write(seq, out);
            }
            // Written when the link has room, or by the next link.
            Some(_) => self.to_send.push_back(seq),
            None => {}
        }
    }

    /// Writes the replies that waited for room.
    pub(crate) fn flush(&mut self, out: &mut SendBuffer) {
        while out.pending() < self.limits.send_buffer {
            let Some(seq) = self.to_send.pop_front() else { return };
            self.write(seq, out);
        }
    }

    /// Whether replies wait for room.
    pub(crate) fn has_waiting_replies(&self) -> bool {
        !self.to_send.is_empty()
    }

    /// An answer is about to be kept, a refusal's text too; [`forget_one`](Self::forget_one) takes it back.
    pub(super) fn count_saved(&mut self, now: Time, body: &Body) {
        self.reply_bytes += body.bytes().len();
        self.budget.save(body.bytes().len());
        self.unacknowledged.get_or_insert(now);
    }

    fn too_large(&self, bytes: usize) -> Option<&'static str> {
        if bytes > self.max_message {
            Some("the encoded result is larger than the client accepts")
        } else if bytes > self.limits.reply_reserve && !self.budget.may_save(bytes, &self.limits) {
            Some("the server has no room to save so large a result")
        } else {
            None
        }
    }

    /// Why this session cannot save so large a result, if it cannot: each running call keeps its reserve.
    fn too_many(&self, bytes: usize) -> Option<&'static str> {
        let reserve = self.limits.reply_reserve;
        let used = self.reply_bytes + self.running * reserve;
        let over = bytes > reserve && used + bytes > self.limits.reply_bytes;
        over.then_some("the session has no room to save so large a result")
    }

    /// Sends a reply that is not kept.
    fn send_once(&self, seq: Seq, status: ReplyStatus, body: &mut Vec<u8>, out: &mut SendBuffer) {
        if let Some(text) = self.too_large(body.len()) {
            let status = ReplyStatus::Failed(FailureCode::ReplyTooLarge);
            frame::put_reply(seq, status, text.as_bytes(), out.small());
        } else if body.len() <= FRAGMENT {
            frame::put_reply(seq, status, body, out.small());
        } else if !out.has_unsent(seq) {
            // Else an earlier run of an at-least-once call is being answered, and pieces of two answers would mix.
            let head = frame::reply_message_head(seq, status);
            out.push_large(seq, head, std::mem::take(body).into());
        }
    }

    /// Answers a repeat: from the record, or not yet.
    pub(super) fn send_again(&mut self, seq: Seq, out: &mut SendBuffer) {
        if out.pending() < self.limits.send_buffer {
            self.write(seq, out);
        } else if !self.to_send.contains(&seq) {
            self.to_send.push_back(seq);
        }
    }

    fn write(&self, seq: Seq, out: &mut SendBuffer) {
        let Some(Record { state: State::Answered { status, body }, .. }) = self.records.get(&seq)
        else {
            return;
        };
        match body {
            Body::Large(bytes) => {
                if !out.has_unsent(seq) {
                    let head = frame::reply_message_head(seq, *status);
                    out.push_large(seq, head, bytes.clone());
                }
            }
            small => frame::put_reply(seq, *status, small.bytes(), out.small()),
        }
    }
}
