//! Why a store does not do what it is asked for.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::ErrorCode;

use crate::error::CallError;

/// Why a store cannot be opened, or did not save what it was to save.
///
/// Sorted by what can be done about it. But for [`Failed`](StoreError::Failed) and [`Poisoned`](StoreError::Poisoned),
/// nothing was written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store is open already, in this process or another: a store has one owner. Share the [`SqliteStore`] inside a
    /// process; end the other process, or give this one a file of its own.
    ///
    /// [`SqliteStore`]: crate::SqliteStore
    #[error("{} is open already, in this process or another: one process owns a store, and opens it once", .path.display())]
    Locked {
        /// The database.
        path: Arc<Path>,
    },
    /// A newer version of farcall has written the file. Use that version, or a newer one.
    #[error(
        "the store has schema {found}, and this version of farcall knows schemas up to {known}: use a newer one"
    )]
    NewerSchema {
        /// The schema of the file.
        found: u32,
        /// The newest that this version can read.
        known: u32,
    },
    /// The file is something else, or damaged.
    #[error("{} is not an SQLite database, or is damaged", .path.display())]
    NotAStore {
        /// The file.
        path: Arc<Path>,
    },
    /// The disk is full. Nothing was written; the store goes on when there is room.
    #[error("the disk is full: nothing was written; make room and try again")]
    Full,
    /// Too much waits for the store, or another connection holds the database. Try again later.
    #[error("the store is busy: {reason}; try again later")]
    Busy {
        /// What it is busy with.
        reason: &'static str,
    },
    /// A constraint of the database was violated when the transaction was to be committed: nothing was written.
    #[error("the transaction breaks a constraint: {reason}")]
    Constraint {
        /// Which one, in SQLite's words.
        reason: Arc<str>,
    },
    /// The transaction was open for longer than [`Limits::handler_timeout`](crate::Limits::handler_timeout), and was
    /// rolled back: others wait for the database. Prepare everything before the transaction begins.
    #[error(
        "the transaction was open for more than {limit:?}, and was rolled back: others wait for the store"
    )]
    TimedOut {
        /// How long it may be open.
        limit: Duration,
    },
    /// The transaction was rolled back, by the program or by a statement that ended it.
    #[error("the transaction was rolled back")]
    RolledBack,
    /// This is a handler of an exactly-once call, which has the store's writer to itself: waiting for the store would be
    /// waiting for itself. Its transaction is [`sqlite::transaction`](crate::sqlite::transaction).
    #[error(
        "a handler of an exactly-once call cannot wait for the store: its transaction is `sqlite::transaction`"
    )]
    InsideCall,
    /// What was to be done with the store panicked. Nothing was written.
    #[error("it panicked: {text}")]
    Panicked {
        /// The panic's text.
        text: Arc<str>,
    },
    /// Nobody knows whether a commit before reached the disk: the store answers nothing until it is opened again. Drop
    /// all nodes and handles that use it, or start the program anew.
    #[error("it is not known whether a commit reached the disk: the store is to be opened again")]
    Poisoned,
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// The store was opened 8,388,607 times, which is as often as its calls can be told apart.
    #[error("the store was opened as often as it can be: use a new one")]
    Exhausted,
    /// The file system failed.
    #[error("the file system failed at {}", .path.display())]
    Io {
        /// The file.
        path: Arc<Path>,
        /// What it said.
        source: Arc<io::Error>,
    },
    /// SQLite failed. If it was a commit, it may have been done: the store is then poisoned.
    #[error("SQLite failed")]
    Failed {
        /// What it said.
        source: Arc<rusqlite::Error>,
    },
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        let code = error.sqlite_error_code();
        match code {
            Some(ErrorCode::DiskFull) => StoreError::Full,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                StoreError::Busy { reason: "another connection holds the database" }
            }
            Some(ErrorCode::ConstraintViolation) => {
                StoreError::Constraint { reason: error.to_string().into() }
            }
            _ => StoreError::Failed { source: Arc::new(error) },
        }
    }
}

/// In a handler `?` passes on that the store gave no transaction: the method failed within.
impl<E> From<StoreError> for CallError<E> {
    fn from(error: StoreError) -> CallError<E> {
        CallError::Store { reason: error.to_string().into() }
    }
}
