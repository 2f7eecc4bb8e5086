//! Transactions of a [store](crate::SqliteStore), for the program's own tables.
//!
//! A handler of an exactly-once call writes through [`transaction`]: what it writes is committed together with the record
//! that the call ran, or not at all. Elsewhere [`SqliteStore::transaction`](crate::SqliteStore::transaction) gives one.
//!
//! ```
//! use farcall::sqlite::{self, params};
//!
//! fn deposit(name: &str, cents: i64) -> Result<i64, sqlite::Error> {
//!     let tx = sqlite::transaction()?;
//!     tx.execute("update account set cents = cents + ?1 where name = ?2", params![cents, name])?;
//!     tx.query_row("select cents from account where name = ?1", [name], |row| row.get(0))
//! }
//!
//! // Outside a handler there is none.
//! assert!(matches!(deposit("alice", 500), Err(sqlite::Error::NoTransaction)));
//! ```
//!
//! Statements are SQLite's, with what [`rusqlite`] has for parameters and rows. Not allowed are those that begin or end a
//! transaction or a savepoint, `PRAGMA`, `ATTACH` and `DETACH`, and whatever touches a table `farcall_…`.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

pub use rusqlite::{self, Params, Row, ToSql, named_params, params};

use crate::error::CallError;
use crate::store::{Given, Lent, Sqlite, SqliteStore, StoreError, of_this_call};

/// An open transaction.
///
/// One that [`SqliteStore::transaction`] gave ends with [`commit`](Transaction::commit) or
/// [`roll_back`](Transaction::roll_back), and is rolled back when it is dropped, or kept for longer than
/// [`Limits::handler_timeout`](crate::Limits::handler_timeout). All calls of the store wait for its end: what takes time,
/// other calls above all, comes before or after it.
pub struct Transaction {
    lent: Arc<Lent>,
    /// Nothing if it is a handler's. Given back before the store can be closed.
    of_program: Option<(Given, SqliteStore)>,
}

/// The transaction of the exactly-once call whose handler this is: a [`Transaction`] that ends with the call, committed if
/// the handler returns `Ok`, else rolled back.
///
/// It cannot be kept over an `await`, which could take it to another thread; ask for it again behind it:
///
/// ```compile_fail
/// # async fn other() {}
/// # fn spawn(_: impl Future<Output = Result<usize, farcall::sqlite::Error>> + Send) {}
/// spawn(async {
///     let tx = farcall::sqlite::transaction()?;
///     other().await;
///     tx.execute("delete from account", [])
/// });
/// ```
///
/// ```
/// # async fn other() {}
/// # fn spawn(_: impl Future<Output = Result<usize, farcall::sqlite::Error>> + Send) {}
/// spawn(async {
///     other().await;
///     let tx = farcall::sqlite::transaction()?;
///     tx.execute("delete from account", [])
/// });
/// ```
#[derive(Debug)]
pub struct CallTransaction {
    transaction: Transaction,
    not_send: PhantomData<*const ()>,
}

/// Why nothing was done in a transaction.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This is no handler of an exactly-once call. Use
    /// [`SqliteStore::transaction`](crate::SqliteStore::transaction).
    #[error(
        "there is no transaction here: `farcall::sqlite::transaction` is for handlers of exactly-once calls; elsewhere \
         use `SqliteStore::transaction`"
    )]
    NoTransaction,
    /// The transaction has ended: with its call, by its deadline, or by a statement such as `INSERT OR ROLLBACK`.
    /// Nothing can be done in it any more.
    #[error(
        "the transaction has ended: with its call, by its deadline, or by a statement that failed and ended it"
    )]
    TransactionEnded,
    /// Another statement of the transaction runs: this is the function that it calls for each row. Collect the rows
    /// first.
    #[error("the transaction is in use by the statement whose row this is: collect the rows first")]
    InUse,
    /// The statement begins or ends a transaction, changes the connection, or touches a table of farcall's.
    #[error("not allowed in a transaction of farcall: {reason}")]
    Denied {
        /// What is not, in SQLite's words.
        reason: Box<str>,
    },
    /// SQLite says no.
    #[error(transparent)]
    Sqlite(rusqlite::Error),
}

/// The transaction of the exactly-once call whose handler this is.
///
/// # Errors
/// [`Error::NoTransaction`] anywhere else, tasks and threads that the handler begins among it.
pub fn transaction() -> Result<CallTransaction, Error> {
    let lent = of_this_call().ok_or(Error::NoTransaction)?;
    let transaction = Transaction { lent, of_program: None };
    Ok(CallTransaction { transaction, not_send: PhantomData })
}

impl Deref for CallTransaction {
    type Target = Transaction;

    fn deref(&self) -> &Transaction {
        &self.transaction
    }
}

impl Transaction {
    /// Runs a statement that returns no rows, and says how many rows it changed.
    ///
    /// # Errors
    /// [`Error`]. What earlier statements wrote stays, unless this one ended the transaction.
    pub fn execute(&self, sql: &str, params: impl Params) -> Result<usize, Error> {
        self.with(|db| db.statement(sql, |statement| statement.execute(params)))?
    }

    /// Runs statements, one after another: to make tables.
    ///
    /// # Errors
    /// [`Error`], at the first that fails.
    pub fn execute_batch(&self, sql: &str) -> Result<(), Error> {
        self.with(|db| db.statements(sql))?
    }

    /// Makes a value of the first row.
    ///
    /// # Errors
    /// [`Error::Sqlite`] with [`QueryReturnedNoRows`](rusqlite::Error::QueryReturnedNoRows) if there is none, and else as
    /// [`execute`](Transaction::execute).
    pub fn query_row<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        self.with(|db| db.statement(sql, |statement| statement.query_row(params, read)))?
    }

    /// Makes a value of the first row, if there is one.
    ///
    /// # Errors
    /// As [`execute`](Transaction::execute).
    pub fn query_optional<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, Error> {
        let first = |statement: &mut rusqlite::CachedStatement<'_>| {
            statement.query(params)?.next()?.map(read).transpose()
        };
        self.with(|db| db.statement(sql, first))?
    }

    /// Makes a value of each row.
    ///
    /// # Errors
    /// As [`execute`](Transaction::execute).
    pub fn query_map<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Error> {
        self.with(|db| db.statement(sql, |statement| statement.query_map(params, read)?.collect()))?
    }

    /// The id of the row that was inserted last.
    ///
    /// # Errors
    /// [`Error::TransactionEnded`] or [`Error::InUse`].
    pub fn last_insert_rowid(&self) -> Result<i64, Error> {
        self.with(|db| db.last_insert_rowid())
    }

    /// Commits. The transaction ends at once; it is on the disk when the future returns `Ok`. A future that is dropped
    /// does not keep it from being committed.
    ///
    /// # Errors
    /// [`StoreError::TimedOut`] or [`StoreError::RolledBack`] if it had ended before; [`StoreError::Constraint`],
    /// [`StoreError::Full`] or [`StoreError::Busy`] if it cannot be committed: then nothing of it is. After
    /// [`StoreError::Poisoned`] it may be there when the store is opened again.
    pub fn commit(mut self) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        let committed = self.of_program.take().map(|(given, store)| (given.commit(), store));
        async move {
            match committed {
                // A handler's is never owned by anybody.
                None => Err(StoreError::InsideCall),
                Some((committed, _store)) => committed.await,
            }
        }
    }

    /// Takes everything back that was written in it.
    pub fn roll_back(self) {}

    /// A transaction that the writer gave.
    pub(crate) fn of_program(given: Given, store: SqliteStore) -> Transaction {
        Transaction { lent: given.lent.clone(), of_program: Some((given, store)) }
    }

    /// Does something of farcall's own in the transaction.
    pub(crate) fn with<R>(&self, run: impl FnOnce(&mut Sqlite) -> R) -> Result<R, Error> {
        self.lent.with(run)
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("of_program", &self.of_program.is_some()).finish()
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::AuthorizationForStatementDenied) => {
                Error::Denied { reason: error.to_string().into() }
            }
            _ => Error::Sqlite(error),
        }
    }
}

/// In a handler of the longer form `?` passes a failure of the database on: what was written is rolled back, and the call
/// is tried again.
impl<E> From<Error> for CallError<E> {
    fn from(error: Error) -> CallError<E> {
        CallError::Store { reason: error.to_string().into() }
    }
}

/// As that of [`Error`].
impl<E> From<rusqlite::Error> for CallError<E> {
    fn from(error: rusqlite::Error) -> CallError<E> {
        CallError::from(Error::from(error))
    }
}
