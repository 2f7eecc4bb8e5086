//! A turn of the program: the writer lends it the database, and waits for it to come back.
//!
//! A batch of its own: what a program did cannot be run again if another's work spoils the commit, and others need not
//! wait for their commit while it takes its time.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::lent::{End, Lent};
use super::{Sqlite, StoreError};
use crate::protocol::durable::batch::{Failure, Work};

/// The turn, while it waits for the writer and while the program has the database.
pub(super) struct Turn {
    limit: Duration,
    give: Option<oneshot::Sender<Result<Given, StoreError>>>,
    done: Option<oneshot::Sender<Result<(), StoreError>>>,
}

/// What the program is given. Dropped, it ends the transaction.
pub(crate) struct Given {
    pub(crate) lent: Arc<Lent>,
    done: oneshot::Receiver<Result<(), StoreError>>,
}

impl Turn {
    pub(super) fn new(limit: Duration, give: oneshot::Sender<Result<Given, StoreError>>) -> Turn {
        Turn { limit, give: Some(give), done: None }
    }
}

impl Work<Sqlite> for Turn {
    fn run(&mut self, db: &mut Sqlite) -> Result<(), StoreError> {
        // It has no second turn.
        let give = self.give.take().ok_or(StoreError::RolledBack)?;
        let (done, receiver) = oneshot::channel();
        self.done = Some(done);
        let lent = Lent::new(mem::take(db));
        // If nobody waits any more, what is given is dropped, and that ends the transaction.
        drop(give.send(Ok(Given { lent: lent.clone(), done: receiver })));
        let (back, end) = lent.wait(self.limit);
        *db = back;
        match end {
            End::Commit => Ok(()),
            End::RollBack | End::Returned => Err(StoreError::RolledBack),
            End::TimedOut => Err(StoreError::TimedOut { limit: self.limit }),
        }
    }

    fn committed(self: Box<Self>, _db: &Sqlite) {
        if let Some(done) = self.done {
            let _ = done.send(Ok(()));
        }
    }

    fn failed(self: Box<Self>, failure: Failure<StoreError>) {
        let error = super::plain(failure);
        match (self.give, self.done) {
            (Some(give), _) => drop(give.send(Err(error))),
            (None, Some(done)) => drop(done.send(Err(error))),
            (None, None) => {}
        }
    }
}

impl Given {
    /// Gives the database back, and waits for the commit.
    pub(crate) fn commit(
        mut self,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        self.lent.end(End::Commit);
        async move { (&mut self.done).await.unwrap_or(Err(StoreError::Closed)) }
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        self.lent.end(End::RollBack);
    }
}
