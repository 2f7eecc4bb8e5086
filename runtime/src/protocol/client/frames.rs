//! What a client does with the frames that its server sends.

use bytes::Bytes;

use super::slots::{Answer, State, Why};
use super::{Arrival, Client, Violation};
use crate::error::{CallError, FailureCode};
use crate::id::Seq;
use crate::semantics::{Execution, Semantics};
use crate::time::Time;
use crate::wire::frame::{Frame, Kind, Reply, ReplyStatus, put_nonce};
use crate::wire::send_buffer::SendBuffer;

use super::link::Link;

impl<W> Client<W> {
    /// Handles one frame of the newest link. Fragments and CLOSE are the driver's.
    ///
    /// # Errors
    /// [`Violation`] if the server broke the protocol; the link must be closed, and another may be tried.
    #[inline]
    pub(crate) fn handle(
        &mut self,
        now: Time,
        frame: &Frame<'_>,
        out: &mut SendBuffer,
    ) -> Result<(), Violation> {
        if let Frame::Welcome(welcome) = frame {
            return self.on_welcome(now, welcome, out);
        }
        self.heard_of(now)?;
        match frame {
            Frame::Reply(reply) => self.on_reply(now, reply, None),
            Frame::Executing { seq } => self.on_executing(now, *seq),
            Frame::Stale { seq } => self.on_stale(*seq),
            Frame::Bound { handle, result } => self.on_bound(*handle, result),
            Frame::GoAway { known } => {
                self.on_go_away(now, known);
                Ok(())
            }
            Frame::NeedAck => {
                self.acks.repeat(out);
                Ok(())
            }
            Frame::Ping(nonce) => {
                put_nonce(Kind::Pong, *nonce, out.small());
                Ok(())
            }
            Frame::Pong(_) => Ok(()),
            Frame::Back(back) => {
                self.arrived(Arrival::back(back));
                Ok(())
            }
            _ => Err(Violation("a frame that servers do not send")),
        }
    }

    /// As [`handle`](Self::handle), of the frame that comes most often.
    ///
    /// # Errors
    /// As [`handle`](Self::handle).
    #[inline]
    pub(crate) fn handle_reply(&mut self, now: Time, reply: &Reply<'_>) -> Result<(), Violation> {
        self.heard_of(now)?;
        self.on_reply(now, reply, None)
    }

    /// Handles a REPLY that came in fragments; `body` are its own bytes, which are kept and not copied.
    ///
    /// # Errors
    /// As [`handle`](Self::handle).
    pub(crate) fn handle_large(
        &mut self,
        now: Time,
        reply: &Reply<'_>,
        body: Bytes,
    ) -> Result<(), Violation> {
        if !self.is_welcome() {
            return Err(Violation("a frame before WELCOME"));
        }
        self.heard(now);
        self.on_reply(now, reply, Some(body))
    }

    #[inline]
    fn heard_of(&mut self, now: Time) -> Result<(), Violation> {
        let Link::Up { heard, pinged, .. } = &mut self.link else {
            return Err(Violation("a frame before WELCOME"));
        };
        *heard = now;
        *pinged = None;
        Ok(())
    }

    /// The server lives: a fragment came, or it made room for what is sent.
    pub(crate) fn heard(&mut self, now: Time) {
        if let Link::Up { heard, pinged, .. } = &mut self.link {
            *heard = now;
            *pinged = None;
        }
    }

    /// To be called when a batch of frames was handled: acknowledges what piled up out of order.
    #[inline]
    pub(crate) fn after_input(&mut self, now: Time, out: &mut SendBuffer) {
        if !self.is_welcome() {
            // What is finished belongs to a session that the server may not have any more.
            return;
        }
        let kept = self.session.as_ref().map_or(0, |session| session.reply_bytes);
        let batch = self.config.limits.ack_batch;
        self.acks.flush_if_many(batch, kept / ACKNOWLEDGED_PART, out);
        if !self.queue.is_empty() {
            self.flush_queue(now, out);
        }
    }

    #[inline]
    pub(super) fn on_reply(
        &mut self,
        now: Time,
        reply: &Reply<'_>,
        large: Option<Bytes>,
    ) -> Result<(), Violation> {
        let Some(&index) = self.by_seq.get(reply.seq) else {
            let next = self.session.as_ref().map_or(0, |session| session.next_seq);
            // A repeat of a reply that was taken is normal after a resume.
            return if reply.seq < next { Ok(()) } else { Err(Violation("a reply to no call")) };
        };
        if matches!(reply.status, ReplyStatus::Passing | ReplyStatus::PassingError) {
            return self.on_passing(now, index, reply, large);
        }
        let Some(slot) = self.slots.at_mut(index) else { return Ok(()) };
        if slot.state == State::Queued {
            if reply.status == ReplyStatus::Failed(FailureCode::ShuttingDown) {
                // It crossed GOAWAY, which has put the call off until there is another server.
                return Ok(());
            }
            // It answers a copy that an earlier link had brought there.
            slot.sent_before = true;
        }
        if reply.status == ReplyStatus::Failed(FailureCode::ShuttingDown)
            && (slot.semantics, slot.state) == (Semantics::AtLeastOnce, State::Sent)
        {
            // In another datagram, it came before GOAWAY.
            self.put_off(index);
            return Ok(());
        }
        let answer = match reply.status {
            ReplyStatus::Ok | ReplyStatus::MethodError => {
                slot.body.clear();
                match large {
                    Some(body) => slot.large_body = Some(body),
                    None => slot.body.extend_from_slice(reply.body),
                }
                match reply.status {
                    ReplyStatus::Ok => Answer::Ok,
                    _ => Answer::MethodError,
                }
            }
            // Taken apart above.
            ReplyStatus::Passing | ReplyStatus::PassingError => return Ok(()),
            ReplyStatus::Failed(code) => Answer::Failed(self.failure(index, code, reply.body)),
            ReplyStatus::Fenced => {
                let why = Self::why_of(slot.state);
                self.fail_with(now, index, why, Execution::NotExecuted, false);
                return Ok(());
            }
        };
        self.finish(now, index, answer);
        Ok(())
    }

    fn failure(&self, index: u32, code: FailureCode, text: &[u8]) -> CallError {
        let detail = FailureCode::printable(text);
        let again = self.slots.at(index).is_some_and(|slot| {
            slot.semantics == Semantics::AtLeastOnce && (slot.attempt > 1 || slot.sent_before)
        });
        let execution = if again { Execution::Unknown } else { code.execution() };
        code.into_error(detail, execution)
    }

    fn on_executing(&mut self, now: Time, seq: Seq) -> Result<(), Violation> {
        if let Some(&index) = self.by_seq.get(seq)
            && let Some(slot) = self.slots.at_mut(index)
            && let State::Resolving(why) = slot.state
        {
            let started = why == Why::Deadline;
            self.fail_given_up(now, index, why, started);
        }
        Ok(())
    }

    /// The server holds a call for finished that is not: one of the two is wrong.
    fn on_stale(&mut self, seq: Seq) -> Result<(), Violation> {
        if let Some(&index) = self.by_seq.get(seq) {
            let execution = Execution::Unknown;
            let reason = "it holds an unfinished call for finished".into();
            self.fail(index, CallError::Protocol { reason, execution });
            return Err(Violation("STALE for an unfinished call"));
        }
        Ok(())
    }
}

/// Of the server's reply budget, this part is acknowledged at once, without waiting for the next call.
const ACKNOWLEDGED_PART: usize = 8;
