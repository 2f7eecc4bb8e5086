//! The database on its writer's thread: transactions, savepoints, and what is told after a commit.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rusqlite::{CachedStatement, Connection, ErrorCode, params};

use super::guard::{Guarded, own};
use super::numbers::Numbers;
use super::{StoreError, columns, lent};
use crate::protocol::durable::outbound::Identity;
use crate::protocol::durable::rows::{Committed, Database};
use crate::sqlite::Error;

/// The database of a store. It lives on the writer's thread, and is moved from hand to hand: an empty one is where it
/// was lent from.
#[derive(Default)]
pub(crate) struct Sqlite {
    inner: Option<Box<Inner>>,
}

pub(super) struct Inner {
    pub(super) guarded: Guarded,
    pub(super) identity: Identity,
    pub(super) numbers: Numbers,
    /// What is to be done after the commit of this transaction, and how much of it is from before the savepoint.
    then: Vec<Then>,
    savepoint: usize,
    /// What is to be done now: its transaction is committed.
    due: Vec<Then>,
}

type Then = Box<dyn FnOnce() + Send>;

impl Sqlite {
    /// The database of this connection.
    pub(super) fn new(connection: Connection, identity: Identity, numbers: Numbers) -> Sqlite {
        let guarded = Guarded::new(connection);
        let (then, due) = (Vec::new(), Vec::new());
        let inner = Inner { guarded, identity, numbers, then, savepoint: 0, due };
        Sqlite { inner: Some(Box::new(inner)) }
    }

    /// Runs `run` on this thread so that [`sqlite::transaction`](crate::sqlite::transaction) finds this database's open
    /// transaction until it returns.
    pub(crate) fn lend<R>(&mut self, run: impl FnOnce() -> R) -> R {
        lent::lend(self, run)
    }

    /// Which store this is, and which opening of it.
    pub(crate) fn identity(&self) -> Identity {
        self.get().identity
    }

    /// Does this, in order, after the commit of this transaction and after its works were told of it; forgets it if what
    /// asked for it is undone.
    pub(crate) fn after_commit(&mut self, then: Then) {
        self.get_mut().then.push(then);
    }

    /// Runs a statement of the program.
    pub(crate) fn statement<R>(
        &self,
        sql: &str,
        run: impl FnOnce(&mut CachedStatement<'_>) -> rusqlite::Result<R>,
    ) -> Result<R, Error> {
        self.get().guarded.statement(sql, run)
    }

    /// Runs several statements of the program.
    pub(crate) fn statements(&self, sql: &str) -> Result<(), Error> {
        self.get().guarded.statements(sql)
    }

    /// The id of the row that was inserted last.
    pub(crate) fn last_insert_rowid(&self) -> i64 {
        self.get().guarded.last_insert_rowid()
    }

    /// Does what is due after the commits before.
    pub(super) fn tell(&mut self) {
        let inner = self.get_mut();
        if !inner.guarded.in_transaction() {
            inner.forget();
        }
        for then in std::mem::take(&mut inner.due) {
            // One that panics takes no other with it.
            let _ = catch_unwind(AssertUnwindSafe(then));
        }
    }

    pub(super) fn get(&self) -> &Inner {
        self.inner.as_deref().expect("nobody has a database that is lent but its borrower")
    }

    pub(super) fn get_mut(&mut self) -> &mut Inner {
        self.inner.as_deref_mut().expect("nobody has a database that is lent but its borrower")
    }
}

impl Inner {
    /// The transaction is over, and was not committed.
    fn forget(&mut self) {
        self.numbers.roll_back();
        self.then.clear();
    }

    fn write_numbers(&mut self) -> Result<(), StoreError> {
        let Some(row) = self.numbers.unwritten() else { return Ok(()) };
        let write = own!("update main.farcall_meta set seq = ?1, registration = ?2, commits = ?3");
        let registration = row.registration.0.cast_signed();
        self.guarded.own(write)?.execute(params![
            columns::ordered(row.seq),
            registration,
            row.commits.cast_signed()
        ])?;
        Ok(())
    }
}

impl Database for Sqlite {
    type Error = StoreError;

    fn begin(&mut self) -> Result<(), StoreError> {
        // A statement may have ended the transaction before without anybody saying so.
        self.tell();
        let inner = self.get_mut();
        inner.guarded.control(own!("begin immediate"))?;
        inner.numbers.begin();
        Ok(())
    }

    fn savepoint(&mut self) -> Result<(), StoreError> {
        let inner = self.get_mut();
        inner.guarded.control(own!("savepoint c"))?;
        inner.numbers.savepoint();
        inner.savepoint = inner.then.len();
        Ok(())
    }

    fn undo(&mut self) -> Result<(), StoreError> {
        let inner = self.get_mut();
        if !inner.guarded.in_transaction() {
            return Err(StoreError::RolledBack);
        }
        inner.guarded.control(own!("rollback to c"))?;
        inner.numbers.undo();
        inner.then.truncate(inner.savepoint);
        Ok(())
    }

    fn release(&mut self) -> Result<(), StoreError> {
        let inner = self.get_mut();
        if !inner.guarded.in_transaction() {
            return Err(StoreError::RolledBack);
        }
        Ok(inner.guarded.control(own!("release c"))?)
    }

    fn commit(&mut self) -> Committed<StoreError> {
        let inner = self.get_mut();
        if let Err(error) = inner.write_numbers() {
            return Committed::No(error);
        }
        match inner.guarded.control(own!("commit")) {
            Ok(()) => {
                inner.numbers.committed();
                inner.due.append(&mut inner.then);
                Committed::Yes
            }
            Err(error) if nothing_was_written(&error) => Committed::No(error.into()),
            Err(error) => Committed::Unknown(error.into()),
        }
    }

    fn roll_back(&mut self) -> Result<(), StoreError> {
        let inner = self.get_mut();
        if inner.guarded.in_transaction() {
            inner.guarded.control(own!("rollback"))?;
        }
        inner.forget();
        Ok(())
    }

    fn is_passing(error: &StoreError) -> bool {
        matches!(error, StoreError::Full | StoreError::Busy { .. })
    }

    fn in_transaction(&self) -> bool {
        self.get().guarded.in_transaction()
    }
}

/// Whether a commit that failed like this has certainly not been done. After an I/O error it may have been: what was
/// written may be on the disk although the disk said that it is not.
fn nothing_was_written(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::ConstraintViolation
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
        )
    )
}
