//! The store of exactly-once calls: one SQLite database, with the program's own tables beside farcall's.
//!
//! [`protocol::durable`](crate::protocol::durable) decides about calls; here are the rows that it asks for, and the one
//! thread that writes them:
//!
//! - [`open`]: a file is locked, made whole and given a new epoch before anything of it is used; [`schema`] has its tables;
//! - [`writer`]: the queues, the batches, the thread;
//! - [`database`]: transactions and savepoints; [`journal`] and [`inbox`]: rows; [`numbers`]: what is counted in memory;
//! - [`lent`]: how a handler or the program gets at the open transaction; [`turn`]: how the program gets one;
//! - [`guard`]: what the program's statements may not do.
//!
//! The driver submits work; it knows nothing of SQLite.

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

use crate::id::{Seq, StoreId};
use crate::limits::Limits;
use crate::protocol::durable::batch::{Failure, Task, Work};
use crate::protocol::durable::outbound::Identity;
use crate::protocol::durable::rows::{Binding, ServerRow};
use crate::sqlite::Transaction;
use writer::{Bounds, Company, Queues};

mod columns;
mod database;
mod error;
mod guard;
mod inbox;
mod journal;
mod lent;
mod numbers;
mod open;
mod schema;
#[cfg(test)]
mod tests;
mod turn;
mod writer;

pub(crate) use database::Sqlite;
pub use error::StoreError;
pub(crate) use lent::{Lent, in_transaction, of_this_call};
pub(crate) use turn::Given;

/// A store of exactly-once calls: an SQLite database of the program's own, open.
///
/// Clones are handles of the same store. It is closed when the last one is dropped, which waits until what was begun is
/// done. One process owns a store, and opens it once; the file `….farcall-lock` beside it says so, and stays.
///
/// The tables of farcall are called `farcall_…`; all others are the program's, which may read and write them over
/// connections of its own as well. A connection that holds the database for long holds up every call.
///
/// ```no_run
/// use farcall::SqliteStore;
/// use farcall::sqlite::params;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let store = SqliteStore::open("bank.db")?;
/// let tx = store.transaction().await?;
/// tx.execute("create table if not exists account (name text primary key, cents integer not null)", [])?;
/// tx.execute("insert or ignore into account values (?1, ?2)", params!["alice", 0])?;
/// tx.commit().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SqliteStore {
    handle: Arc<Handle>,
}

/// A client that a store knows as a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registration {
    /// The store in which the client keeps its calls.
    pub client: StoreId,
    /// Answers that are kept for it, since it has not acknowledged them.
    pub unacknowledged: usize,
}

/// What a store had saved when a node begins with it.
pub(crate) struct Opened {
    pub(crate) identity: Identity,
    /// The highest number that a call of it has had.
    pub(crate) last_before: Seq,
    /// The last number of each opening that has given any.
    pub(crate) lasts: Vec<Seq>,
    pub(crate) servers: Vec<ServerRow>,
    /// In the order of their numbers, with the addresses of their servers.
    pub(crate) unfinished: Vec<(Seq, Arc<str>, Option<Binding>)>,
}

/// What all handles of a store share.
struct Handle {
    path: Arc<Path>,
    id: StoreId,
    queues: Arc<Queues>,
    writer: Option<JoinHandle<()>>,
    /// A node makes its calls from here: two would both carry what is saved.
    claimed: AtomicBool,
}

impl SqliteStore {
    /// Opens a database, or makes it, with the tables of farcall in it. Blocks the thread, for up to five seconds if another
    /// connection holds the database.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if it is open already; [`StoreError::NewerSchema`] and [`StoreError::NotAStore`] if this
    /// version cannot read it; [`StoreError::Busy`] if another connection keeps it from being brought up to date;
    /// [`StoreError::Io`], [`StoreError::Full`], [`StoreError::Failed`] and [`StoreError::Exhausted`] if disk, file or
    /// SQLite fail.
    pub fn open(path: impl AsRef<Path>) -> Result<SqliteStore, StoreError> {
        SqliteStore::open_with(path.as_ref(), schema::STEPS)
    }

    /// Which store this is: drawn when its file was made.
    #[must_use]
    pub fn id(&self) -> StoreId {
        self.handle.id
    }

    /// Where its database is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.handle.path
    }

    /// Waits for the program's turn, and begins a transaction: for tables of its own, and for calls that are enqueued
    /// in it.
    ///
    /// All calls wait while it is open, and it is rolled back after
    /// [`Limits::handler_timeout`](crate::Limits::handler_timeout). In a handler of an exactly-once call use
    /// [`sqlite::transaction`](crate::sqlite::transaction).
    ///
    /// # Errors
    /// [`StoreError::Busy`] if too much waits or another connection holds the database, [`StoreError::Poisoned`], and
    /// [`StoreError::InsideCall`] in a handler of an exactly-once call.
    pub async fn transaction(&self) -> Result<Transaction, StoreError> {
        if in_transaction() {
            return Err(StoreError::InsideCall);
        }
        let (give, given) = oneshot::channel();
        let limit = self.handle.queues.bounds().handler_timeout;
        self.handle.queues.submit(Box::new(turn::Turn::new(limit, give)), Company::None);
        let given = given.await.unwrap_or(Err(StoreError::Closed))?;
        Ok(Transaction::of_program(given, self.clone()))
    }

    /// The clients that this store knows, as a server, in the order in which they came.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Poisoned`] or [`StoreError::Failed`].
    pub async fn registrations(&self) -> Result<Vec<Registration>, StoreError> {
        self.ask(Sqlite::clients).await
    }

    /// Drops what is kept of a client that does not come back. Says whether it did: a client with unacknowledged answers
    /// is kept, and one that is not known cannot be dropped.
    ///
    /// Calls of a client that was dropped never run here again: if it comes back, those that it has not finished are
    /// parked on its side.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Full`], [`StoreError::Poisoned`] or [`StoreError::Failed`].
    pub async fn purge(&self, client: StoreId) -> Result<bool, StoreError> {
        self.ask(move |db| db.purge(client)).await
    }

    /// Has the writer do this in its next batch.
    pub(crate) fn submit(&self, work: Box<dyn Work<Sqlite>>) {
        self.handle.queues.submit(work, Company::Any);
    }

    /// Has the writer do this with the next commit that somebody else needs, or after
    /// [`Limits::settle_delay`](crate::Limits::settle_delay). Never refused because too much waits.
    pub(crate) fn submit_later(&self, work: Box<dyn Work<Sqlite>>) {
        self.handle.queues.submit_later(work);
    }

    /// Takes the store for a node; false if another has it.
    pub(crate) fn claim(&self) -> bool {
        !self.handle.claimed.swap(true, Ordering::AcqRel)
    }

    /// The node that had claimed the store is closed.
    pub(crate) fn unclaim(&self) {
        self.handle.claimed.store(false, Ordering::Release);
    }

    /// Takes the limits of a node; the last one counts.
    pub(crate) fn configure(&self, limits: &Limits) {
        self.handle.queues.configure(Bounds::of(&limits.clone().usable()));
    }

    /// What the store has saved. Blocks until the writer has looked.
    pub(crate) fn opened(&self) -> Result<Opened, StoreError> {
        if in_transaction() {
            return Err(StoreError::InsideCall);
        }
        let (answer, answered) = mpsc::sync_channel(1);
        let done = move |result: Result<_, _>| drop(answer.send(result.map_err(plain)));
        self.submit(Box::new(Task::new(Sqlite::opened, done)));
        answered.recv().unwrap_or(Err(StoreError::Closed))
    }

    /// Whether nothing will be done any more: it is closed or poisoned.
    pub(crate) fn is_stopped(&self) -> bool {
        self.handle.queues.is_stopped()
    }

    fn open_with(path: &Path, steps: &[&str]) -> Result<SqliteStore, StoreError> {
        let open::Open { path, id, database, lock } = open::open(path, steps)?;
        let queues = Arc::new(Queues::new(Bounds::of(&Limits::default())));
        let of_writer = queues.clone();
        let writer = thread::Builder::new()
            .name("farcall-store".to_owned())
            .spawn(move || writer::run(&of_writer, database, lock))
            .map_err(|error| StoreError::Io { path: path.clone(), source: Arc::new(error) })?;
        Ok(SqliteStore {
            handle: Arc::new(Handle {
                path,
                id,
                queues,
                writer: Some(writer),
                claimed: AtomicBool::new(false),
            }),
        })
    }

    async fn ask<T: Send + 'static>(
        &self,
        run: impl FnMut(&mut Sqlite) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        if in_transaction() {
            return Err(StoreError::InsideCall);
        }
        let (answer, answered) = oneshot::channel();
        let done = move |result: Result<_, _>| drop(answer.send(result.map_err(plain)));
        self.submit(Box::new(Task::new(run, done)));
        answered.await.unwrap_or(Err(StoreError::Closed))
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path()).field("id", &self.id()).finish()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queues.close();
        // The writer itself may drop the last handle, with a piece of work.
        if let Some(writer) = self.writer.take()
            && writer.thread().id() != thread::current().id()
        {
            let _ = writer.join();
        }
    }
}

/// For those who have no call whose fate could be unknown.
fn plain(failure: Failure<StoreError>) -> StoreError {
    match failure {
        Failure::NotCommitted(error) => error,
        Failure::Unknown(_) => StoreError::Poisoned,
    }
}

/// Without the system's generator the hasher's keys, which come from it or an address, are the best there is.
fn draw() -> u64 {
    getrandom::u64()
        .unwrap_or_else(|_| std::collections::hash_map::RandomState::new().build_hasher().finish())
}
