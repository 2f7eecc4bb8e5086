//! What durable calls ask of a database: transactions, and rows of two kinds.
//!
//! Implemented by the SQLite store and by the simulated disk. Everything is called inside a transaction, by one caller
//! at a time.

use std::sync::Arc;

use crate::id::{CommitNumber, Epoch, MethodId, RegistrationId, Seq, StoreId};
use crate::protocol::finished::Finished;
use crate::wire::durable::Answer;

/// Transactions, one at a time, with one savepoint inside.
pub(crate) trait Database {
    /// Why a statement or a commit failed.
    type Error: Clone + Send + std::fmt::Display + 'static;

    /// Begins a transaction that may write. What a transaction that ended by itself has left in memory is forgotten.
    fn begin(&mut self) -> Result<(), Self::Error>;

    /// Marks the point that [`undo`](Database::undo) goes back to.
    fn savepoint(&mut self) -> Result<(), Self::Error>;

    /// Takes everything back since the savepoint, which stays.
    ///
    /// # Errors
    /// Above all if there is none, because a statement has ended the transaction.
    fn undo(&mut self) -> Result<(), Self::Error>;

    /// Forgets the savepoint; what was written stays in the transaction.
    ///
    /// # Errors
    /// Above all if there is none, because a statement has ended the transaction.
    fn release(&mut self) -> Result<(), Self::Error>;

    /// Commits. Numbers that were counted up in memory are written first.
    fn commit(&mut self) -> Committed<Self::Error>;

    /// Takes the whole transaction back.
    ///
    /// # Errors
    /// It is not known what the database holds.
    fn roll_back(&mut self) -> Result<(), Self::Error>;

    /// Whether the database may do later what it did not do now, without anybody being at fault: the disk is full, or
    /// somebody else holds it.
    fn is_passing(error: &Self::Error) -> bool;

    /// Whether the transaction that was begun is still open: a statement of the user may have ended it.
    fn in_transaction(&self) -> bool;
}

/// What a commit came to.
#[derive(Debug, Clone)]
pub(crate) enum Committed<E> {
    /// It is on stable storage.
    Yes,
    /// It is not, and never will be. The transaction may still be open.
    No(E),
    /// It may be, and may show when the database is opened again: nothing may be believed until then.
    Unknown(E),
}

/// The rows of a client: its saved requests, and the servers that know it.
pub(crate) trait JournalRows: Database {
    /// A number that no call of this journal ever had; it counts as used once the transaction is committed.
    fn next_seq(&mut self) -> Result<Seq, Self::Error>;

    /// The unfinished or finished call that has this key.
    fn keyed(&mut self, key: &str) -> Result<Option<Keyed>, Self::Error>;

    /// Adds an unfinished request.
    fn put_request(
        &mut self,
        seq: Seq,
        request: &Request,
        binding: Option<Binding>,
    ) -> Result<(), Self::Error>;

    /// A saved request, with how it ended if it has.
    fn request(&mut self, seq: Seq) -> Result<Option<Saved>, Self::Error>;

    /// Notes how a call ended. `key` says whether it keeps its key: if not, its request has none from now on.
    fn finish(&mut self, seq: Seq, outcome: &Outcome, key: Key) -> Result<(), Self::Error>;

    /// The result of a finished call that is kept for its key was taken: nobody has to be told of it again.
    fn mark_taken(&mut self, seq: Seq) -> Result<(), Self::Error>;

    /// Forgets a call.
    fn remove(&mut self, seq: Seq) -> Result<(), Self::Error>;

    /// What is known of the server at an address.
    fn server(&mut self, peer: &str) -> Result<Option<ServerRow>, Self::Error>;

    /// Notes the store of the server at an address, in place of what was known.
    fn put_server(&mut self, row: &ServerRow) -> Result<(), Self::Error>;

    /// Forgets the server at an address.
    fn remove_server(&mut self, peer: &str) -> Result<(), Self::Error>;

    /// Binds all unfinished, unbound requests for this address; returns their numbers.
    fn bind(&mut self, peer: &str, binding: Binding) -> Result<Vec<Seq>, Self::Error>;

    /// What the journal holds now, this transaction included.
    fn usage(&mut self) -> Result<Usage, Self::Error>;
}

/// The rows of a server: which clients it knows, and what it answered.
pub(crate) trait InboxRows: Database {
    /// The store's name.
    fn store(&self) -> StoreId;

    /// How often something about calls was committed, before this transaction.
    fn commits(&self) -> CommitNumber;

    /// The number that the next new registration gets.
    fn next_registration(&mut self) -> Result<RegistrationId, Self::Error>;

    /// A registration.
    fn registration(&mut self, id: RegistrationId) -> Result<Option<RegistrationRow>, Self::Error>;

    /// The registration of a client.
    fn registration_of(&mut self, client: StoreId) -> Result<Option<RegistrationRow>, Self::Error>;

    /// Adds or replaces a registration.
    fn put_registration(&mut self, row: &RegistrationRow) -> Result<(), Self::Error>;

    /// How many registrations there are.
    fn registrations(&mut self) -> Result<usize, Self::Error>;

    /// What was answered to a call.
    fn answer(
        &mut self,
        registration: RegistrationId,
        seq: Seq,
    ) -> Result<Option<AnswerRow>, Self::Error>;

    /// Records an answer.
    fn put_answer(
        &mut self,
        registration: RegistrationId,
        seq: Seq,
        row: &AnswerRow,
    ) -> Result<(), Self::Error>;

    /// How many answers a registration has, and a number that none of them is above (0 if it has none); one of its calls
    /// had that number.
    fn answers(&mut self, registration: RegistrationId) -> Result<(usize, Seq), Self::Error>;

    /// Forgets the answers from one number to below another; returns the highest that it forgot.
    fn drop_answers(
        &mut self,
        registration: RegistrationId,
        start: Seq,
        end: Seq,
    ) -> Result<Option<Seq>, Self::Error>;
}

/// A call to be saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// The server's address, and the object's name there.
    pub(crate) peer: Arc<str>,
    pub(crate) object: Arc<str>,
    pub(crate) interface: Arc<str>,
    pub(crate) method: MethodId,
    /// For people.
    pub(crate) method_name: Arc<str>,
    pub(crate) arguments: Vec<u8>,
    /// Drawn at random.
    pub(crate) nonce: u64,
    pub(crate) key: Option<Box<str>>,
    /// The call whose handler enqueued it, if one did.
    pub(crate) parent: Option<(RegistrationId, Seq)>,
    /// Somebody wants the result: it is kept until it was taken.
    pub(crate) wanted: bool,
}

/// The one store, and the one registration in it, under which a call may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Binding {
    pub(crate) store: StoreId,
    pub(crate) registration: RegistrationId,
}

/// A call that is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) seq: Seq,
    pub(crate) request: Request,
    /// As what it may have been sent.
    pub(crate) binding: Option<Binding>,
    /// How it ended, if it has.
    pub(crate) outcome: Option<Outcome>,
}

/// What a key is in use for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keyed {
    pub(crate) seq: Seq,
    /// Of the request, without its nonce.
    pub(crate) digest: Digest,
    pub(crate) outcome: Option<Outcome>,
}

/// How a saved call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The server said so, and will say so for ever.
    Answered { answer: Answer, body: Vec<u8> },
    /// It was cancelled, and never runs.
    Cancelled,
    /// It may have run, cannot be asked about, and is not sent again.
    Parked { reason: Box<str> },
}

/// Whether a finished call keeps its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Kept,
    Freed,
}

/// What a client knows of the server at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerRow {
    pub(crate) peer: Arc<str>,
    pub(crate) binding: Binding,
    /// The highest commit number that it told.
    pub(crate) seen: CommitNumber,
}

/// What a journal holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    pub(crate) rows: usize,
    /// Of arguments and kept results.
    pub(crate) bytes: usize,
}

/// What a server keeps of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RegistrationRow {
    pub(crate) id: RegistrationId,
    /// The store in which the client keeps its journal.
    pub(crate) client: StoreId,
    /// The newest opening of the journal, and what that opening drew at random.
    pub(crate) epoch: Epoch,
    pub(crate) opening: u128,
    /// Answers to these calls are gone, and they never run.
    pub(crate) finished: Finished,
    /// No call above ever had an answer, as far as those that are gone tell.
    pub(crate) max: Seq,
}

/// A recorded answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AnswerRow {
    /// Of the request; a row without one is every request's.
    pub(crate) digest: Option<Digest>,
    pub(crate) answer: Answer,
    pub(crate) body: Vec<u8>,
}

/// SipHash-2-4 of a request, 128 bits.
pub(crate) type Digest = [u8; 16];

/// Counts the calls of a journal: in memory, with a row that is written before each commit.
///
/// The row never has a number that no call got: old copies of a journal are known by what it cannot have given.
#[derive(Debug, Clone)]
pub(crate) struct Counter {
    /// The first number of this opening.
    first: Seq,
    /// The last number that was taken, in this opening or before.
    last: Seq,
    stored: Seq,
}

impl Counter {
    /// Goes on behind the last number that was stored, in the epoch that begins now.
    pub(crate) fn open(epoch: Epoch, stored: Seq) -> Counter {
        if cfg_canary!("calls_are_counted_in_memory") {
            return Counter { first: 1, last: 0, stored };
        }
        Counter { first: epoch.first_seq(), last: stored, stored }
    }

    /// The next number.
    pub(crate) fn take(&mut self) -> Seq {
        self.last = (self.last + 1).max(self.first);
        self.last
    }

    /// The last number that was taken, in this opening or before.
    pub(crate) fn last(&self) -> Seq {
        self.last
    }

    /// The last number that was taken, if the row does not have it.
    pub(crate) fn unstored(&self) -> Option<Seq> {
        (self.stored != self.last).then_some(self.last)
    }

    /// The last number in the row is committed.
    pub(crate) fn committed(&mut self) {
        self.stored = self.last;
    }
}
