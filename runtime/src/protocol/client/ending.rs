//! How a client's calls end: by an answer, by being given up, by the end of the node.

use super::Client;
use super::slots::{Answer, Key, State, Why};
use crate::error::CallError;
use crate::semantics::{Execution, Semantics};
use crate::time::Time;
use crate::wire::frame::{self, Kind};
use crate::wire::send_buffer::{Aborted, SendBuffer};

impl<W> Client<W> {
    /// The caller no longer wants the answer. What that does depends on the semantics: an at-most-once call that is
    /// not known to be running is fenced in the background, the others are just no longer sent.
    pub(crate) fn abandon(&mut self, now: Time, key: Key, out: &mut SendBuffer) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.abandoned = true;
            slot.waiter = None;
            self.give_up(now, key, Why::Cancelled, out);
        }
    }

    /// The caller wants to know what the server made of the call, and that it go no further.
    pub(crate) fn cancel(&mut self, now: Time, key: Key, out: &mut SendBuffer) {
        self.give_up(now, key, Why::Cancelled, out);
    }

    /// The node is shut down, or whom it calls is gone for ever: every call ends, with what is known of it.
    pub(crate) fn close(&mut self, error: impl Fn(Execution) -> CallError) {
        for index in self.slots.unfinished() {
            let execution = self.execution_if_lost(index);
            self.fail(index, error(execution));
        }
        self.fail_bindings(&error(Execution::NotExecuted));
        self.wake_blocked(usize::MAX);
        self.queue.clear();
    }

    /// Ends a call before its answer came: fences it if its semantics has fences, and says what is known.
    pub(super) fn give_up(&mut self, now: Time, key: Key, why: Why, out: &mut SendBuffer) {
        let link_up = self.link.is_welcome();
        let Some(slot) = self.slots.get_mut(key) else { return };
        match slot.state {
            State::Free | State::Resolving(_) => {}
            State::Done if slot.abandoned => self.release(key.index),
            State::Done => {}
            State::Queued => {
                // The server can say what became of a copy that an earlier link may have brought.
                let ask = slot.sent_before
                    && slot.seq != 0
                    && slot.semantics == Semantics::AtMostOnce
                    && link_up;
                self.queue.retain(|&queued| queued != key);
                if ask {
                    self.resolve(now, key, why, out);
                } else {
                    self.fail_given_up(now, key.index, why, false);
                }
            }
            State::Sent => {
                let seq = slot.seq;
                // Without its last fragment the request cannot run, wherever the others are.
                let unsent = out.abort(seq) == Aborted::Unfinished;
                if unsent && !slot.sent_before {
                    slot.attempt = 0;
                    self.fail_given_up(now, key.index, why, false);
                } else if slot.semantics == Semantics::AtMostOnce && link_up {
                    self.resolve(now, key, why, out);
                } else {
                    self.fail_given_up(now, key.index, why, false);
                }
            }
        }
    }

    /// Asks what became of a call, and that it go no further.
    fn resolve(&mut self, now: Time, key: Key, why: Why, out: &mut SendBuffer) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.state = State::Resolving(why);
        slot.resolve_until = now + self.config.limits.resolve_wait;
        self.next_deadline = self.next_deadline.min(slot.resolve_until);
        frame::put_seq(Kind::Resolve, slot.seq, out.small());
    }

    /// Finishes a call that was given up, with what is known about it.
    pub(super) fn fail_given_up(&mut self, now: Time, index: u32, why: Why, started: bool) {
        let execution = self.execution_if_lost(index);
        self.fail_with(now, index, why, execution, started);
    }

    pub(super) fn fail_with(
        &mut self,
        now: Time,
        index: u32,
        why: Why,
        execution: Execution,
        started: bool,
    ) {
        let Some(slot) = self.slots.at(index) else { return };
        let waited = now.since(slot.began);
        let error = match (why, &self.unreachable) {
            (Why::Cancelled, _) => CallError::Cancelled { execution },
            (Why::Deadline, Some(source)) if execution == Execution::NotExecuted => {
                CallError::Unreachable { peer: self.config.peer.clone(), source: source.clone() }
            }
            (Why::Deadline, _) => CallError::DeadlineExceeded { waited, execution, started },
        };
        self.finish(now, index, Answer::Failed(error));
    }

    /// What is known of a call that will not be asked about any more.
    fn execution_if_lost(&self, index: u32) -> Execution {
        match self.slots.at(index) {
            Some(slot) if slot.may_have_been_sent() => Execution::Unknown,
            _ => Execution::NotExecuted,
        }
    }

    pub(super) fn fail(&mut self, index: u32, error: CallError) {
        self.finish(Time::ZERO, index, Answer::Failed(error));
    }

    /// A call is finished: its number is completed, so that the floor can rise, and its caller is woken.
    #[inline]
    pub(super) fn finish(&mut self, now: Time, index: u32, answer: Answer) {
        let Some(slot) = self.slots.at_mut(index) else { return };
        slot.state = State::Done;
        slot.answer = Some(answer);
        self.request_bytes -= slot.request_bytes();
        slot.request.clear();
        slot.large_request = None;
        if slot.seq != 0 {
            self.by_seq.remove(slot.seq);
            self.acks.finished(slot.seq, slot.body_bytes(), now + self.config.limits.ack_delay);
        }
        let waiter = slot.waiter.take();
        if slot.abandoned {
            self.release(index);
        } else if let Some(waiter) = waiter {
            self.woken.push(waiter);
        }
        if !self.blocked.is_empty() {
            self.wake_blocked(1);
        }
    }
}
