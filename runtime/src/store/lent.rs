//! A database that is lent to the program: to a handler on the writer's thread, or to a task of the program's.
//!
//! To lend it, its owner moves it in here; to take it back, out again. Whoever still has a handle then is told that the
//! transaction has ended: nothing can be done to a database too late. While a statement runs the place is empty, so that
//! a statement inside a statement is an error, and nobody waits for himself.

use std::cell::RefCell;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Sqlite;
use super::writer::now;
use crate::sqlite::Error;

thread_local! {
    /// The transaction of the handler that runs on this thread.
    static OF_THIS_CALL: RefCell<Option<Arc<Lent>>> = const { RefCell::new(None) };
}

/// Where a lent database is.
pub(crate) struct Lent {
    place: Mutex<Place>,
    moved: Condvar,
}

struct Place {
    /// Not here while a statement runs, and after the end.
    database: Option<Sqlite>,
    end: Option<End>,
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Commit,
    RollBack,
    /// The program kept it for too long.
    TimedOut,
    /// It was a handler's, and the handler returned.
    Returned,
}

/// The transaction of the handler that runs on this thread.
pub(crate) fn of_this_call() -> Option<Arc<Lent>> {
    OF_THIS_CALL.with_borrow(Clone::clone)
}

/// Whether this thread runs a handler inside a transaction.
pub(crate) fn in_transaction() -> bool {
    OF_THIS_CALL.with_borrow(Option::is_some)
}

/// Lends a database to `run`, on this thread.
pub(super) fn lend<R>(database: &mut Sqlite, run: impl FnOnce() -> R) -> R {
    let lent = Lent::new(mem::take(database));
    let outer = OF_THIS_CALL.replace(Some(lent.clone()));
    let _back = Back { lent, outer, database };
    run()
}

/// Takes the database back, also from a handler that panics.
struct Back<'a> {
    lent: Arc<Lent>,
    outer: Option<Arc<Lent>>,
    database: &'a mut Sqlite,
}

impl Drop for Back<'_> {
    fn drop(&mut self) {
        OF_THIS_CALL.set(self.outer.take());
        self.lent.end(End::Returned);
        let (database, _) = self.lent.wait(Duration::ZERO);
        *self.database = database;
    }
}

impl Lent {
    pub(super) fn new(database: Sqlite) -> Arc<Lent> {
        let place = Mutex::new(Place { database: Some(database), end: None });
        Arc::new(Lent { place, moved: Condvar::new() })
    }

    /// Does something with the database.
    ///
    /// # Errors
    /// [`Error::TransactionEnded`], or [`Error::InUse`] while something else is done with it.
    pub(crate) fn with<R>(&self, run: impl FnOnce(&mut Sqlite) -> R) -> Result<R, Error> {
        let mut place = self.place();
        if place.end.is_some() {
            return Err(Error::TransactionEnded);
        }
        let database = place.database.take().ok_or(Error::InUse)?;
        drop(place);
        let mut used = Used { lent: self, database };
        Ok(run(&mut used.database))
    }

    /// Ends the transaction, if it has not ended.
    pub(super) fn end(&self, end: End) {
        let mut place = self.place();
        if place.end.is_none() {
            place.end = Some(end);
            self.moved.notify_all();
        }
    }

    /// Waits for the end, at most so long, and takes the database back. A statement that runs then is waited for:
    /// interrupting it could roll back more than its own transaction.
    pub(super) fn wait(&self, limit: Duration) -> (Sqlite, End) {
        let until = now() + limit;
        let mut place = self.place();
        loop {
            let left = until.saturating_duration_since(now());
            if place.end.is_none() && left.is_zero() {
                place.end = Some(End::TimedOut);
            }
            let end = place.end;
            if let Some(end) = end
                && let Some(database) = place.database.take()
            {
                return (database, end);
            }
            place = match end {
                Some(_) => self.moved.wait(place).unwrap_or_else(PoisonError::into_inner),
                None => {
                    self.moved.wait_timeout(place, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts the database back, also from a row's function that panics.
struct Used<'a> {
    lent: &'a Lent,
    database: Sqlite,
}

impl Drop for Used<'_> {
    fn drop(&mut self) {
        self.lent.place().database = Some(mem::take(&mut self.database));
        self.lent.moved.notify_all();
    }
}
