//! Exactly-once calls on tokio: between the machines of [`protocol::durable`](crate::protocol::durable), the store and
//! the links.
//!
//! At the server an [`execution`] runs a handler on the store's thread, and [`desk`] is the object that clients register
//! at. At the client the [`journal`] saves calls, [`carry`] brings each to its server until it is answered, and a
//! [`saved`] call is what its caller waits on.

mod carry;
pub(crate) mod desk;
pub(super) mod execution;
pub(crate) mod journal;
pub(crate) mod recovery;
pub(crate) mod saved;

use std::sync::Mutex;

use tokio::sync::oneshot;

use super::lock;
use crate::protocol::durable::batch::{Failure, Task, Work};
use crate::store::{Opened, Sqlite, SqliteStore, StoreError};

/// The store of a node, which lets go of it when it is closed: whatever its tasks still do then, the file is free to be
/// opened again.
pub(crate) struct NodeStore {
    store: Mutex<Option<SqliteStore>>,
    /// No other node makes calls from it.
    claimed: bool,
}

impl NodeStore {
    /// A node's hold on this store.
    pub(crate) fn new(store: SqliteStore) -> NodeStore {
        let claimed = store.claim();
        NodeStore { store: Mutex::new(Some(store)), claimed }
    }

    /// What the store has for the calls of this node.
    ///
    /// # Errors
    /// Another node makes calls from it, or it cannot be read.
    pub(crate) fn opened(&self) -> Result<Opened, StoreError> {
        match self.get() {
            Some(store) if self.claimed => store.opened(),
            Some(_) => Err(StoreError::Busy { reason: "another node of this process uses it" }),
            None => Err(StoreError::Closed),
        }
    }

    /// The store, as long as the node is not closed.
    pub(crate) fn get(&self) -> Option<SqliteStore> {
        lock(&self.store).clone()
    }

    /// Lets go of the store. If nobody else has it, this waits until it is closed.
    pub(crate) fn release(&self) {
        let store = lock(&self.store).take();
        if let Some(store) = store.filter(|_| self.claimed) {
            store.unclaim();
        }
    }

    /// As [`SqliteStore::submit`].
    fn submit(&self, work: Box<dyn Work<Sqlite>>) {
        match self.get() {
            Some(store) => store.submit(work),
            None => work.failed(Failure::NotCommitted(StoreError::Closed)),
        }
    }

    /// As [`SqliteStore::submit_later`].
    fn submit_later(&self, work: Box<dyn Work<Sqlite>>) {
        match self.get() {
            Some(store) => store.submit_later(work),
            None => work.failed(Failure::NotCommitted(StoreError::Closed)),
        }
    }

    /// Whether nothing will be done any more.
    fn is_stopped(&self) -> bool {
        self.get().is_none_or(|store| store.is_stopped())
    }
}

/// Does something in a transaction of the store, together with whatever else waits for it; resolves when that is
/// committed.
async fn in_store<T: Send + 'static>(
    store: &NodeStore,
    run: impl FnMut(&mut Sqlite) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Failure<StoreError>> {
    let (sender, receiver) = oneshot::channel();
    let done = move |result| drop(sender.send(result));
    store.submit(Box::new(Task::new(run, done)));
    // Work that is dropped unasked belongs to a store that is gone.
    receiver.await.unwrap_or(Err(Failure::Unknown(StoreError::Closed)))
}

/// What a failure of the store says to a person.
fn reason(failure: &Failure<StoreError>) -> String {
    match failure {
        Failure::NotCommitted(error) | Failure::Unknown(error) => error.to_string(),
    }
}
