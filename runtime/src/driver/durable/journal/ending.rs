//! How calls leave the journal: with their outcome, by being given up, by being forgotten.

use std::sync::Arc;
use std::time::Duration;

use super::{Call, Journal};
use crate::driver::durable::recovery::Listener;
use crate::driver::durable::saved::{Slot, ended};
use crate::driver::durable::{carry, in_store, reason};
use crate::driver::lock;
use crate::error::CallError;
use crate::id::{CommitNumber, Seq, StoreId};
use crate::protocol::durable::batch::{Failure, Task};
use crate::protocol::durable::journal::{self, Kept};
use crate::protocol::durable::rows::{JournalRows, Outcome, Request};
use crate::store::{Sqlite, StoreError};
use crate::wire::durable::Answer;

/// A call that has ended.
pub(super) struct Ending {
    seq: Seq,
    pub(super) outcome: Outcome,
    /// The store that said so, and the number of its commit.
    told: Option<(StoreId, CommitNumber)>,
    peer: Arc<str>,
    slots: Vec<Arc<Slot>>,
}

impl Journal {
    /// A call has ended: its callers have the outcome at once, and the journal when it commits next.
    pub(in crate::driver::durable) fn finish(
        self: &Arc<Journal>,
        seq: Seq,
        outcome: Outcome,
        told: Option<(StoreId, CommitNumber)>,
    ) {
        let mut state = lock(&self.state);
        let Some(Call { peer, slots, .. }) = state.calls.remove(&seq) else { return };
        let ending = Arc::new(Ending { seq, outcome, told, peer, slots });
        state.outbound.finished(seq);
        state.held.insert(seq);
        state.ending.insert(seq, ending.clone());
        drop(state);
        let told = ended(&ending.outcome);
        for slot in &ending.slots {
            slot.end(told.clone());
        }
        self.settle(ending);
    }

    fn settle(self: &Arc<Journal>, ending: Arc<Ending>) {
        let (journal, settling) = (self.clone(), ending.clone());
        let run = move |db: &mut Sqlite| {
            let taken = settling.is_taken();
            if let Some((store, commit)) = settling.told {
                journal::saw(db, &settling.peer, store, commit)?;
            }
            journal::settle(db, settling.seq, &settling.outcome, taken).map(|()| taken)
        };
        let done = move |result| match result {
            Ok(taken) => journal.settled(&ending, taken),
            Err(Failure::NotCommitted(error)) if !journal.store.is_stopped() => {
                tracing::warn!(%error, "the end of a call could not be noted, and is noted later");
                journal.clone().spawn(async move {
                    tokio::time::sleep(SETTLE_AGAIN).await;
                    journal.settle(ending);
                });
            }
            // The call is asked about again when the store is opened again.
            Err(_) => {}
        };
        self.store.submit_later(Box::new(Task::new(run, done)));
    }

    /// The end of a call is durable.
    fn settled(self: &Arc<Journal>, ending: &Ending, taken: bool) {
        let seq = ending.seq;
        let mut state = lock(&self.state);
        state.ending.remove(&seq);
        state.outbound.settled(seq);
        if seq < self.first {
            state.earlier -= 1;
        }
        drop(state);
        let (mut told, mut held) = (taken, false);
        for slot in ending.slots.iter().filter(|_| !taken) {
            if slot.kept() {
                told = true;
            } else if !slot.is_gone() {
                held = true;
            }
        }
        match (told, held) {
            (true, _) if taken => {
                lock(&self.state).held.remove(&seq);
            }
            (true, _) => self.taken(seq),
            (false, true) => {}
            (false, false) => self.left(seq),
        }
        if seq < self.first {
            self.tell_listeners(|listener| listener.nudge());
        }
        self.forget_at(&ending.peer);
    }

    /// Somebody has the result of a finished call: the journal need not keep it.
    pub(in crate::driver::durable) fn taken(self: &Arc<Journal>, seq: Seq) {
        lock(&self.state).held.remove(&seq);
        let run = move |db: &mut _| journal::taken(db, seq);
        // If that fails the call is listed as recovered one day.
        self.store.submit_later(Box::new(Task::new(run, drop)));
    }

    /// Nobody waits for the result of a finished call.
    pub(in crate::driver::durable) fn left(&self, seq: Seq) {
        lock(&self.state).held.remove(&seq);
        self.tell_listeners(|listener| listener.finished(seq));
    }

    fn tell_listeners(&self, tell: impl Fn(&Listener)) {
        lock(&self.state).listeners.retain(|listener| match listener.upgrade() {
            Some(listener) => {
                tell(&listener);
                true
            }
            None => false,
        });
    }

    /// A caller of an unfinished call has gone; the call goes on.
    pub(in crate::driver::durable) fn leave(&self, seq: Seq, slot: &Arc<Slot>) {
        let mut state = lock(&self.state);
        if let Some(call) = state.calls.get_mut(&seq)
            && call.slots.len() > 1
        {
            call.slots.retain(|other| !Arc::ptr_eq(other, slot));
        }
    }

    /// Gives a call up, wherever it is.
    pub(in crate::driver::durable) fn cancel(self: &Arc<Journal>, seq: Seq) {
        let known = lock(&self.state).calls.get(&seq).map(|call| call.request.clone());
        let Some(known) = known else { return };
        let journal = self.clone();
        self.spawn(async move {
            let request = match known {
                Some(request) => Some(request),
                None => journal.read_one(seq).await,
            };
            if let Some(request) = request {
                carry::cancel(journal, seq, request).await;
            }
        });
    }

    /// Reads the request of a call whose turn has not come.
    async fn read_one(&self, seq: Seq) -> Option<Arc<Request>> {
        let found = in_store(&self.store, move |db| db.requests(&[seq])).await;
        Some(Arc::new(found.ok()?.pop()?.request))
    }

    /// Gives a call up that was never bound, and so never sent; whether that was done.
    pub(in crate::driver::durable) async fn cancel_unsent(
        self: &Arc<Journal>,
        seq: Seq,
    ) -> Result<bool, Failure<StoreError>> {
        let cancelled = in_store(&self.store, move |db| journal::cancel_unsent(db, seq)).await?;
        if cancelled.is_ok() {
            let mut state = lock(&self.state);
            state.outbound.settled(seq);
            let call = state.calls.remove(&seq);
            if seq < self.first {
                state.earlier -= 1;
            }
            drop(state);
            for slot in call.iter().flat_map(|call| &call.slots) {
                slot.end(ended(&Outcome::Cancelled));
            }
        }
        Ok(cancelled.is_ok())
    }

    /// Drops what is kept under a key; whether there was something. A call that is not finished is kept, and its ticket
    /// returned.
    pub(crate) async fn forget(self: &Arc<Journal>, key: &str) -> Result<bool, CallError> {
        let key = key.to_owned();
        let forgotten = in_store(&self.store, move |db| {
            let Some(keyed) = db.keyed(&key)? else { return Ok(Err((0, Kept::Unknown))) };
            Ok(journal::forget(db, keyed.seq)?.map_err(|kept| (keyed.seq, kept)))
        });
        match forgotten.await {
            Ok(Ok(())) => Ok(true),
            Ok(Err((_, Kept::Unknown))) => Ok(false),
            Ok(Err((seq, _))) => {
                let slot = Arc::<Slot>::default();
                if !self.attach(seq, &slot) {
                    self.attach_ended(seq, slot.clone(), None);
                }
                let _ = slot.saved(seq);
                Err(CallError::Deferred { waited: Duration::ZERO, ticket: self.ticket(slot) })
            }
            Err(failure) => Err(CallError::Store { reason: reason(&failure).into() }),
        }
    }

    /// Tells the server what it may forget, when there is nothing else to tell it for a while, or not all of it.
    pub(in crate::driver::durable) fn forget_at(self: &Arc<Journal>, peer: &Arc<str>) {
        let mut state = lock(&self.state);
        let (closed, held_up) = (state.closed.is_some(), state.outbound.is_held_up(peer));
        let Some(at) = state.peers.get_mut(peer) else { return };
        let told = at.carried > 0 && !held_up;
        if closed || told || std::mem::replace(&mut at.forgetting, true) {
            return;
        }
        drop(state);
        self.spawn(carry::forget(self.clone(), peer.clone()));
    }
}

impl Ending {
    /// Whether the journal need not keep the result: somebody has it, or all have gone and it is a good one.
    fn is_taken(&self) -> bool {
        let ok = matches!(self.outcome, Outcome::Answered { answer: Answer::Ok, .. });
        let all_gone = !self.slots.is_empty() && self.slots.iter().all(|slot| slot.is_gone());
        self.slots.iter().any(|slot| slot.is_taken()) || ok && all_gone
    }
}

/// How long the end of a call waits to be noted again.
const SETTLE_AGAIN: Duration = Duration::from_secs(1);
