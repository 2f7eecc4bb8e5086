//! What the caller of an exactly-once call waits on.
//!
//! It is there before the call is saved, and after its caller has gone: the journal gives it the outcome, and it gives
//! the outcome to whoever asks. Whether somebody did decides whether the journal keeps the result.

use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};

use super::journal::Journal;
use crate::driver::lock;
use crate::error::CallError;
use crate::id::Seq;
use crate::protocol::durable::rows::Outcome;
use crate::semantics::Execution;
use crate::ticket::{Ended, SavedCall};
use crate::wire::durable::Answer;

/// One caller's view of a call.
#[derive(Default)]
pub(super) struct Slot {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stage: Stage,
    seq: Option<Seq>,
    /// Its caller cancelled it before it had a number.
    cancelled: bool,
    /// Nobody will ask any more.
    gone: bool,
    /// Somebody has the result.
    taken: bool,
    /// The journal keeps the result until it is taken.
    kept: bool,
    wakers: Vec<Waker>,
}

#[derive(Default)]
enum Stage {
    #[default]
    Saving,
    Saved,
    Ended(Ended),
}

/// What came of giving a call its number.
pub(super) enum Numbered {
    Wanted,
    /// Its caller has gone meanwhile.
    Unwanted,
    /// Its caller has cancelled it meanwhile.
    Cancelled,
}

impl Slot {
    /// The call is on stable storage.
    pub(super) fn saved(&self, seq: Seq) -> Numbered {
        let mut state = lock(&self.state);
        state.seq = Some(seq);
        if let Stage::Saving = state.stage {
            state.stage = Stage::Saved;
        }
        let numbered = match *state {
            State { cancelled: true, .. } => Numbered::Cancelled,
            State { gone: true, .. } => Numbered::Unwanted,
            _ => Numbered::Wanted,
        };
        wake(state);
        numbered
    }

    /// The call has ended; the first end counts.
    pub(super) fn end(&self, ended: Ended) {
        let mut state = lock(&self.state);
        if let Stage::Ended(_) = state.stage {
            return;
        }
        state.stage = Stage::Ended(ended);
        wake(state);
    }

    /// Whether the caller has the result.
    pub(super) fn is_taken(&self) -> bool {
        lock(&self.state).taken
    }

    /// Whether the caller has gone.
    pub(super) fn is_gone(&self) -> bool {
        lock(&self.state).gone
    }

    /// The journal keeps the result. Whether it was taken meanwhile, so that it need not.
    pub(super) fn kept(&self) -> bool {
        let mut state = lock(&self.state);
        state.kept = true;
        state.taken
    }

    /// The result, if it is there, and whether the journal is to be told that somebody has it.
    fn take(&self, waker: Option<&Waker>) -> Option<(Ended, Option<Seq>)> {
        let mut state = lock(&self.state);
        let Stage::Ended(ended) = &state.stage else {
            if let Some(waker) = waker
                && !state.wakers.iter().any(|other| other.will_wake(waker))
            {
                state.wakers.push(waker.clone());
            }
            return None;
        };
        let ended = ended.clone();
        let tell = (state.kept && !state.taken).then_some(state.seq).flatten();
        state.taken = true;
        Some((ended, tell))
    }
}

/// Wakes outside of the lock.
fn wake(mut state: std::sync::MutexGuard<'_, State>) {
    let wakers = std::mem::take(&mut state.wakers);
    drop(state);
    wakers.into_iter().for_each(Waker::wake);
}

/// A slot with the journal behind it; the last clone of its `Arc` is the caller's interest.
pub(super) struct Caller {
    pub(super) slot: Arc<Slot>,
    pub(super) journal: Weak<Journal>,
}

impl Caller {
    fn give(&self, (ended, tell): (Ended, Option<Seq>)) -> Ended {
        if let (Some(seq), Some(journal)) = (tell, self.journal.upgrade()) {
            journal.taken(seq);
        }
        ended
    }
}

impl SavedCall for Caller {
    fn number(&self) -> Option<u64> {
        lock(&self.slot.state).seq
    }

    fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<Ended> {
        match self.slot.take(Some(cx.waker())) {
            Some(taken) => Poll::Ready(self.give(taken)),
            None => Poll::Pending,
        }
    }

    fn try_ended(&self) -> Option<Ended> {
        self.slot.take(None).map(|taken| self.give(taken))
    }

    fn poll_saved(&self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        let mut state = lock(&self.slot.state);
        match &state.stage {
            Stage::Saved => Poll::Ready(Ok(())),
            // What failed before it had a number was never made.
            Stage::Ended(Ended::Failed(error)) if state.seq.is_none() => {
                Poll::Ready(Err(error.clone()))
            }
            Stage::Ended(_) => Poll::Ready(Ok(())),
            Stage::Saving => {
                if !state.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                    state.wakers.push(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    fn cancel(&self) {
        let mut state = lock(&self.slot.state);
        state.cancelled = true;
        let seq = state.seq.filter(|_| matches!(state.stage, Stage::Saved));
        drop(state);
        if let (Some(seq), Some(journal)) = (seq, self.journal.upgrade()) {
            journal.cancel(seq);
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let mut state = lock(&self.slot.state);
        state.gone = true;
        let (seq, ended) = (state.seq, matches!(state.stage, Stage::Ended(_)));
        let kept = state.kept && !state.taken;
        drop(state);
        let Some(seq) = seq else { return };
        let Some(journal) = self.journal.upgrade() else { return };
        if !ended {
            journal.leave(seq, &self.slot);
        } else if kept {
            journal.left(seq);
        }
    }
}

/// What an outcome is for those who wait.
pub(crate) fn ended(outcome: &Outcome) -> Ended {
    match outcome {
        Outcome::Answered { answer: Answer::Ok, body } => Ended::Ok(body.as_slice().into()),
        Outcome::Answered { answer: Answer::MethodError, body } => {
            Ended::MethodError(body.as_slice().into())
        }
        Outcome::Answered { answer: Answer::Never(code), body } => {
            let text = crate::error::FailureCode::printable(body);
            Ended::Failed(code.into_error(text, Execution::NotExecuted))
        }
        Outcome::Cancelled => {
            Ended::Failed(CallError::Cancelled { execution: Execution::NotExecuted })
        }
        Outcome::Parked { reason } => Ended::Failed(CallError::Parked { reason: reason.clone() }),
    }
}
