//! How calls get into the journal: by themselves, or in a transaction of the program or of a handler.

use std::sync::Arc;
use std::time::Duration;

use super::{Call, Journal, State, closed};
use crate::driver::durable::execution::parent;
use crate::driver::durable::saved::{Caller, Numbered, Slot, ended};
use crate::driver::lock;
use crate::error::CallError;
use crate::id::Seq;
use crate::protocol::durable::batch::{Failure, Task};
use crate::protocol::durable::journal::{self, Saving};
use crate::protocol::durable::outbound::Refused;
use crate::protocol::durable::rows::{JournalRows as _, Request, Saved};
use crate::semantics::Execution;
use crate::sqlite::Transaction;
use crate::store::{Sqlite, StoreError};
use crate::ticket::{Ended, Ticket};

impl Journal {
    /// Whether a call to this server can be taken.
    ///
    /// # Errors
    /// Nothing of this journal is sent any more.
    pub(crate) fn check(&self, peer: &str) -> Result<(), CallError> {
        let state = lock(&self.state);
        match state.outbound.refused(peer) {
            Err(Refused::Stopped(stopped)) => {
                Err(CallError::Store { reason: stopped.to_string().into() })
            }
            _ if state.closed.is_some() => {
                Err(CallError::Closed { execution: Execution::NotExecuted })
            }
            // It is saved, and sent when the program has accepted what is there.
            Err(Refused::Parked(_)) | Ok(()) => Ok(()),
        }
    }

    /// Saves a call; what becomes of it the ticket tells.
    pub(crate) fn save(self: &Arc<Journal>, request: Request) -> Ticket {
        let slot = Arc::<Slot>::default();
        let ticket = self.ticket(slot.clone());
        self.submit(Arc::new(request), slot);
        ticket
    }

    fn submit(self: &Arc<Journal>, request: Arc<Request>, slot: Arc<Slot>) {
        let journal = self.clone();
        let (saving, of_slot) = (journal.clone(), slot.clone());
        let run = move |db: &mut Sqlite| saving.put(db, &request, &of_slot);
        let done = move |saved| match saved {
            Ok(None) => {}
            Ok(Some(refused)) => slot.end(Ended::Failed(refused)),
            Err(failure) => slot.end(Ended::Failed(journal.not_saved(&failure))),
        };
        self.store.submit(Box::new(Task::new(run, done)));
    }

    /// Saves a call in a transaction of the program or of a handler: it is sent when that is committed.
    ///
    /// # Errors
    /// It was not saved: the transaction is of another store, the key belongs to another call, the journal is full, or the
    /// transaction has ended.
    pub(crate) fn enqueue(
        self: &Arc<Journal>,
        transaction: &Transaction,
        mut request: Request,
    ) -> Result<Ticket, CallError> {
        request.parent = parent();
        let slot = Arc::<Slot>::default();
        let ticket = self.ticket(slot.clone());
        let request = Arc::new(request);
        let saved = transaction.with(|db| match db.identity() == self.identity {
            true => self.put(db, &request, &slot),
            false => Ok(Some(CallError::Store { reason: ELSEWHERE.into() })),
        });
        let failed = |reason: String| CallError::Store { reason: reason.into() };
        match saved.map_err(|error| failed(error.to_string()))? {
            Ok(None) => Ok(ticket),
            Ok(Some(refused)) => Err(refused),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Saves a call in the open transaction, or says why it is not taken. Once that is committed it is published: behind
    /// all calls with lower numbers, however they were saved, since a floor may be told that passes what was not.
    fn put(
        self: &Arc<Journal>,
        db: &mut Sqlite,
        request: &Arc<Request>,
        slot: &Arc<Slot>,
    ) -> Result<Option<CallError>, StoreError> {
        if let Some(key) = &request.key {
            self.free(db, key)?;
        }
        let saving = if self.is_accepted(&request.peer) {
            journal::save(db, request, &self.limits)?
        } else {
            journal::save_unbound(db, request, &self.limits)?
        };
        match (&saving, &request.key) {
            (Saving::New { .. } | Saving::Attached { .. }, _) => {
                let (journal, request, slot) = (self.clone(), request.clone(), slot.clone());
                db.after_commit(Box::new(move || journal.on_saved(saving, request, slot)));
                Ok(None)
            }
            (Saving::KeyConflict, Some(key)) => {
                Ok(Some(CallError::KeyConflict { key: key.clone() }))
            }
            _ => Ok(Some(CallError::JournalFull)),
        }
    }

    /// Frees a key whose call did not run and never will: its caller knows that before the journal has noted it.
    fn free(&self, db: &mut Sqlite, key: &str) -> Result<(), StoreError> {
        let Some(keyed) = db.keyed(key)? else { return Ok(()) };
        let ending = lock(&self.state).ending.get(&keyed.seq).cloned();
        match ending {
            Some(ending) if journal::never_ran(&ending.outcome) => {
                journal::settle(db, keyed.seq, &ending.outcome, false)
            }
            _ => Ok(()),
        }
    }

    /// Whether the store that the journal knows at a server's address is the one that is there, as far as it knows.
    fn is_accepted(&self, peer: &str) -> bool {
        !matches!(lock(&self.state).outbound.refused(peer), Err(Refused::Parked(_)))
    }

    pub(super) fn ticket(self: &Arc<Journal>, slot: Arc<Slot>) -> Ticket {
        Ticket { call: Arc::new(Caller { slot, journal: Arc::downgrade(self) }) }
    }

    /// What saving came to is durable.
    fn on_saved(self: &Arc<Journal>, saving: Saving, request: Arc<Request>, slot: Arc<Slot>) {
        let (seq, fresh) = match saving {
            Saving::New { seq, binding } => {
                let peer = request.peer.clone();
                let call = Call { peer, request: Some(request.clone()), slots: vec![slot.clone()] };
                lock(&self.state).add(seq, call, binding);
                (seq, true)
            }
            Saving::Attached { seq, outcome: Some(outcome) } => {
                let _ = slot.saved(seq);
                return slot.end(ended(&outcome));
            }
            Saving::Attached { seq, outcome: None } => {
                if !self.attach(seq, &slot) {
                    return self.attach_ended(seq, slot, Some(request));
                }
                (seq, false)
            }
            Saving::KeyConflict | Saving::Full => return,
        };
        match slot.saved(seq) {
            Numbered::Wanted => {}
            Numbered::Unwanted => self.leave(seq, &slot),
            Numbered::Cancelled => self.cancel(seq),
        }
        if fresh {
            self.pump(&request.peer);
        }
    }

    /// Lets one more caller wait for a call that is not finished, or whose end is not durable yet; false if there is none.
    pub(super) fn attach(&self, seq: Seq, slot: &Arc<Slot>) -> bool {
        let mut state = lock(&self.state);
        let State { calls, closed, .. } = &mut *state;
        if let Some(call) = calls.get_mut(&seq) {
            match closed {
                Some(closed) => slot.end(closed.clone()),
                None => call.slots.push(slot.clone()),
            }
            return true;
        }
        let Some(ending) = state.ending.get(&seq).cloned() else { return false };
        drop(state);
        slot.end(ended(&ending.outcome));
        true
    }

    /// Gives a caller the end of a call that ended a moment ago: its row says how. One that is gone has freed its key: the
    /// request, if there is one, is saved as a call of its own.
    pub(super) fn attach_ended(
        self: &Arc<Journal>,
        seq: Seq,
        slot: Arc<Slot>,
        request: Option<Arc<Request>>,
    ) {
        let journal = self.clone();
        let run = move |db: &mut Sqlite| db.request(seq);
        let done = move |found: Result<Option<Saved>, _>| match (found, request) {
            (Ok(None), Some(request)) => journal.submit(request, slot),
            (found, _) => {
                let _ = slot.saved(seq);
                let outcome = found.ok().flatten().and_then(|saved| saved.outcome);
                slot.end(outcome.as_ref().map_or_else(closed, ended));
            }
        };
        self.store.submit(Box::new(Task::new(run, done)));
    }

    /// The error of a call whose request may not be in the journal.
    fn not_saved(self: &Arc<Journal>, failure: &Failure<StoreError>) -> CallError {
        match failure {
            Failure::NotCommitted(error) => CallError::Store { reason: error.to_string().into() },
            // It shows, or not, when the store is opened again; this run of the program does not learn it.
            Failure::Unknown(_) => {
                let slot = Arc::<Slot>::default();
                slot.end(closed());
                CallError::Deferred { waited: Duration::ZERO, ticket: self.ticket(slot) }
            }
        }
    }
}

const ELSEWHERE: &str = "the transaction is one of another store: enqueue the call in a transaction of its node's store";
