//! Carries a sender's messages to one mailbox: one call at a time, with as many messages as there are places for.
//!
//! A task of its own for each mailbox of a sender, so that a slow one holds up none but the buffer. It ends when the
//! sender is gone and all has left, or when a full mailbox has then taken nothing for as long as a call may take.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::buffer::{Buffer, Placed, length_in_batch};
use super::error::SendError;
use super::inbox::LONGEST_WAIT;
use super::object::{NotPut, Put};
use super::sender::SenderConfig;
use super::way::Way;
use crate::error::CallError;
use crate::group::Member;
use crate::semantics::{Execution, Semantics};

pub(super) struct Pump {
    pub(super) buffer: Arc<Buffer>,
    /// Which of the sender's mailboxes.
    pub(super) number: usize,
    pub(super) member: Member,
    pub(super) mailbox: Way,
    pub(super) config: SenderConfig,
    /// Bytes of several messages in one call; fewer after the mailbox's node refused as many.
    pub(super) batch_bytes: usize,
    /// The number of the first message that has no end here.
    pub(super) next: u64,
    /// Messages of the put that is on its way.
    pub(super) on_its_way: usize,
}

impl Pump {
    pub(super) async fn run(mut self) {
        let mut room = 1;
        let mut full_since = None;
        while self.is_more().await {
            let asked = self.may_give_up().then(Instant::now);
            let batch = self.buffer.batch(self.next, room, self.batch_bytes);
            self.on_its_way = batch.len();
            let put = self.mailbox.put(&batch, &self.config).await;
            self.on_its_way = 0;
            let ended = match put {
                Ok(put) => {
                    room = usize::try_from(put.room).unwrap_or(usize::MAX).clamp(1, MOST_MESSAGES);
                    self.note(batch.len(), &put)
                }
                Err(CallError::Method(NotPut::Busy)) => {
                    tokio::time::sleep(BUSY_PAUSE).await;
                    0
                }
                Err(CallError::TooLarge { .. } | CallError::BadArguments(_)) if batch.len() > 1 => {
                    self.halve(&batch);
                    continue;
                }
                Err(_) if cfg_canary!("what_failed_is_put_again") && !self.buffer.flow().closed => {
                    0
                }
                Err(error) => {
                    self.end(batch.len(), &Err(failure(&self.member, error)));
                    batch.len()
                }
            };
            // What counts is how long it was asked for a place and had none, not how long there was nothing to send.
            full_since = if ended > 0 { None } else { full_since.or(asked) };
            if full_since.is_some_and(|since| since.elapsed() >= self.config.timeout) {
                return self.give_up();
            }
        }
    }

    /// Whether there is a further message, once that is decided.
    async fn is_more(&self) -> bool {
        let next = self.next;
        self.buffer.until(|flow| flow.posted > next || flow.closed).await.posted > next
    }

    /// Nobody sends any more, and nothing was promised for longer than that.
    fn may_give_up(&self) -> bool {
        self.config.semantics != Semantics::ExactlyOnce && self.buffer.flow().closed
    }

    /// The mailbox's node accepts no call as large as this batch; each of its messages may fit all the same.
    ///
    /// How much it accepts is known only when it is reached, and an exactly-once call is saved before that: who saved it
    /// hears that it was refused and saves its halves. If its process ended in between, nobody does.
    fn halve(&mut self, batch: &[Bytes]) {
        self.batch_bytes = batch.iter().map(length_in_batch).sum::<usize>() / 2;
    }

    /// Notes what was put of a batch; how many messages have an end.
    fn note(&mut self, batch: usize, put: &Put) -> usize {
        let accepted = usize::try_from(put.accepted).unwrap_or(usize::MAX).min(batch);
        let Put { mailbox, last, taken, .. } = *put;
        if accepted > 0 {
            self.end(accepted, &Ok(Placed { mailbox, position: last, taken }));
        }
        let Some(reason) = put.refused.as_ref().filter(|_| accepted < batch) else {
            return accepted;
        };
        self.end(1, &Err(SendError::Refused { reason: reason.as_str().into() }));
        accepted + 1
    }

    fn end(&mut self, count: usize, end: &Result<Placed, SendError>) {
        self.buffer.end(self.number, self.next, count, end);
        self.next = self.next.saturating_add(count as u64);
    }

    /// Nobody sends any more, and the mailbox takes nothing.
    fn give_up(&mut self) {
        let waited = self.config.timeout;
        let execution = Execution::NotExecuted;
        let error = CallError::DeadlineExceeded { waited, execution, started: false };
        self.end(usize::MAX, &Err(SendError::Failed(error)));
    }
}

impl Drop for Pump {
    /// Its task may have ended with its runtime: nobody carries anything any more.
    fn drop(&mut self) {
        self.buffer.close();
        // It may have arrived: the answer does not.
        let unknown = CallError::Closed { execution: Execution::Unknown };
        self.end(self.on_its_way, &Err(SendError::Failed(unknown)));
        self.end(usize::MAX, &Err(SendError::Closed));
    }
}

/// Why a message was not put.
pub(super) fn failure(member: &Member, error: CallError<NotPut>) -> SendError {
    let gone = |execution| SendError::Gone { mailbox: member.clone(), execution };
    match error {
        CallError::NoSuchObject(refusal) => gone(refusal.execution),
        CallError::Method(NotPut::Gone) => gone(Execution::NotExecuted),
        CallError::Method(NotPut::Replaced) => gone(Execution::Unknown),
        CallError::Method(own) => SendError::Refused { reason: own.to_string().into() },
        error => SendError::Failed(narrow(error)),
    }
}

/// The failure of a call, whose own errors were told apart before.
pub(super) fn narrow(error: CallError<NotPut>) -> CallError {
    error.split().unwrap_or_else(|own| CallError::FailedWithin { reason: own.to_string().into() })
}

/// How long a call may wait at the mailbox, if it is to be answered within its timeout.
pub(super) fn wait_ms(timeout: Duration) -> u32 {
    u32::try_from((timeout / 2).min(LONGEST_WAIT).as_millis()).unwrap_or(0)
}

/// Messages in one call, at most.
const MOST_MESSAGES: usize = 256;

/// How long a sender waits that too many others wait with.
pub(super) const BUSY_PAUSE: Duration = Duration::from_millis(50);
