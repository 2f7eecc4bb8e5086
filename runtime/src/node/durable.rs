//! What a node with a store can do: exactly-once calls, and what is left of those that nobody waited for.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;

use super::{Inner, Node, NodeBuilder};
use crate::address::{IntoUrl, Url};
use crate::driver::durable::NodeStore;
use crate::driver::durable::desk::{self, Desk};
use crate::driver::durable::journal::{Journal, Links};
use crate::driver::durable::recovery::Walk;
use crate::driver::durable::saved::ended;
use crate::driver::entropy::Entropy;
use crate::driver::link::Link;
use crate::driver::references::HOME;
use crate::error::CallError;
use crate::limits::Limits;
use crate::pending::decode;
use crate::private::MethodFailure;
use crate::protocol::durable::rows::Saved;
use crate::semantics::Execution;
use crate::store::{SqliteStore, StoreError};

/// The store of a node, and the journal in it.
pub(super) struct Durable {
    store: Arc<NodeStore>,
    journal: Result<Arc<Journal>, StoreError>,
}

/// Calls that ended while nobody waited for them: a stream; see [`Node::recovered`].
///
/// It ends when all calls of earlier runs have, or behind an error of the store.
pub struct Recovered {
    journal: Arc<Journal>,
    /// The way to the next one. What has been read by then is not lost with who waits for it.
    step: Pin<Box<dyn Future<Output = (Walk, Found)> + Send>>,
    failed: bool,
}

/// The next call that has ended, if there is one.
type Found = Result<Option<Saved>, CallError>;

/// A call that ended while nobody waited for it.
///
/// It stays in the store until it is [forgotten](RecoveredCall::forget), and its key until [`Node::forget`].
pub struct RecoveredCall {
    saved: Saved,
    journal: Arc<Journal>,
}

impl NodeBuilder {
    /// Gives the node a store: it can bind objects with exactly-once methods, and make exactly-once calls.
    ///
    /// Calls that an earlier run of the program has left unfinished in it go on as soon as the node is on a runtime.
    /// One node uses a store at a time.
    #[must_use]
    pub fn store(mut self, store: SqliteStore) -> NodeBuilder {
        self.store = Some(store);
        self
    }
}

impl Node {
    /// Calls of earlier runs of the program that nobody waits for: those that have ended at once, then the others as they
    /// end. Calls of this run are among them if they ended with an error when nobody waited any more.
    ///
    /// # Errors
    /// [`CallError::NoStore`], or [`CallError::Store`] if the store cannot be used.
    pub fn recovered(&self) -> Result<Recovered, CallError> {
        let journal = self.journal()?.clone();
        let step = Box::pin(step(Walk::new(journal.clone())));
        Ok(Recovered { journal, step, failed: false })
    }

    /// Drops a key with the result that is kept under it; false if there is none. The same call under the same key is a
    /// new call from then on.
    ///
    /// # Errors
    /// [`CallError::Deferred`], with its ticket, if the call has not ended: it is kept. [`CallError::NoStore`], or
    /// [`CallError::Store`] if the store failed.
    pub async fn forget(&self, key: &str) -> Result<bool, CallError> {
        self.journal()?.forget(key).await
    }

    /// Takes the store of a server as it is now, though it is another one than before, or older: after it was replaced or
    /// restored from a copy, which [`CallError::Parked`] tells. New calls go there; those that may have run in the store
    /// before stay parked.
    ///
    /// # Errors
    /// [`CallError::BadAddress`] if the URL cannot be read, [`CallError::NoStore`], or [`CallError::Store`] if the store
    /// of this node failed: nothing is accepted then.
    pub async fn accept_store(&self, url: impl IntoUrl) -> Result<(), CallError> {
        let url: Url = url.into_url().map_err(CallError::BadAddress)?;
        self.journal()?.accept(&url.address().to_string()).await
    }

    /// The node's store, if it has one and is not closed.
    #[must_use]
    pub fn store(&self) -> Option<SqliteStore> {
        self.inner.durable.as_ref()?.store.get()
    }

    /// How many exactly-once calls of this node are saved and not finished.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.journal().map_or(0, |journal| journal.unfinished())
    }

    pub(crate) fn journal(&self) -> Result<&Arc<Journal>, CallError> {
        match self.inner.durable.as_ref().map(|durable| &durable.journal) {
            None => Err(CallError::NoStore),
            Some(Ok(journal)) => Ok(journal),
            Some(Err(error)) => Err(CallError::Store { reason: error.to_string().into() }),
        }
    }

    /// Binds the store for those who call it, and begins with what an earlier run has left.
    pub(super) fn open_journal(&self) {
        let Some(durable) = &self.inner.durable else { return };
        let object = Desk::new(durable.store.clone(), self.inner.limits.clone());
        self.inner.registry.bind_own(desk::NAME, object);
        if Handle::try_current().is_ok() {
            self.runtime();
        }
    }

    pub(super) fn start_journal(&self, runtime: &Handle) {
        if let Ok(journal) = self.journal() {
            let links: Weak<Inner> = Arc::downgrade(&self.inner);
            journal.start(runtime, links);
        }
    }

    /// What became of calls is in the store when the node has ended.
    pub(super) async fn flush_journal(&self) {
        if let Ok(journal) = self.journal() {
            journal.flush().await;
        }
    }
}

impl Inner {
    pub(super) fn close_journal(&self) {
        let Some(Durable { store, journal }) = &self.durable else { return };
        if let Ok(journal) = journal {
            journal.close();
        }
        store.release();
    }
}

impl Links for Inner {
    fn link(&self, peer: &str) -> Result<Arc<Link>, CallError> {
        if peer == HOME {
            let closed = CallError::Closed { execution: Execution::NotExecuted };
            return self.own_link().ok_or(closed);
        }
        let url: Url = peer.into_url().map_err(CallError::BadAddress)?;
        self.link(url.address())
    }
}

impl Durable {
    pub(super) fn new(store: SqliteStore, limits: &Arc<Limits>, entropy: &Arc<Entropy>) -> Durable {
        store.configure(limits);
        let store = Arc::new(NodeStore::new(store));
        let journal = store
            .opened()
            .map(|opened| Journal::new(store.clone(), limits.clone(), entropy.clone(), opened));
        Durable { store, journal }
    }

    /// For the node's server.
    pub(super) fn store(&self) -> Arc<NodeStore> {
        self.store.clone()
    }
}

impl Recovered {
    /// The next call that has ended; nothing when all calls of earlier runs have.
    ///
    /// # Errors
    /// [`CallError::Store`] if the store failed.
    pub async fn next(&mut self) -> Result<Option<RecoveredCall>, CallError> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// All that are still to come.
    ///
    /// # Errors
    /// [`CallError::Store`] if the store failed.
    pub async fn all(mut self) -> Result<Vec<RecoveredCall>, CallError> {
        let mut calls = Vec::new();
        while let Some(call) = self.next().await? {
            calls.push(call);
        }
        Ok(calls)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<RecoveredCall>, CallError>> {
        let (walk, found) = ready!(self.step.as_mut().poll(cx));
        self.step = Box::pin(step(walk));
        let call = |saved| RecoveredCall { saved, journal: self.journal.clone() };
        Poll::Ready(found.map(|found| found.map(call)))
    }
}

async fn step(mut walk: Walk) -> (Walk, Found) {
    let found = walk.next().await;
    (walk, found)
}

impl Stream for Recovered {
    type Item = Result<RecoveredCall, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let found = ready!(self.poll(cx)).transpose();
        self.failed = matches!(found, Some(Err(_)));
        Poll::Ready(found)
    }
}

impl RecoveredCall {
    /// The call's number in the journal.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.saved.seq
    }

    /// The key that its caller gave it.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.saved.request.key.as_deref()
    }

    /// The name of the object that was called, and the address of its server.
    #[must_use]
    pub fn object(&self) -> (&str, &str) {
        (&self.saved.request.object, &self.saved.request.peer)
    }

    /// The method's name.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.saved.request.method_name
    }

    /// The result. The types are those of the method.
    ///
    /// # Errors
    /// Those of the call, and [`CallError::BadReply`] if the types are not the method's.
    pub fn decode<T, E, Kind>(&self) -> Result<T, CallError<E>>
    where
        T: DeserializeOwned,
        E: MethodFailure<Kind>,
    {
        match &self.saved.outcome {
            Some(outcome) => decode(&ended(outcome)),
            // What is listed has ended.
            None => Err(CallError::Closed { execution: Execution::Unknown }),
        }
    }

    /// Drops it from the store, with its key.
    ///
    /// # Errors
    /// [`CallError::Store`] if the store failed: it is listed again.
    pub async fn forget(self) -> Result<(), CallError> {
        self.journal.forget_call(self.saved.seq).await
    }
}

impl fmt::Debug for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recovered").finish_non_exhaustive()
    }
}

impl fmt::Debug for RecoveredCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecoveredCall")
            .field("number", &self.number())
            .field("key", &self.key())
            .field("method", &self.method())
            .finish_non_exhaustive()
    }
}
