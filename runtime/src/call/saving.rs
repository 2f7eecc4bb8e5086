//! The way of an exactly-once call: into the store first, and from there to its server.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::{Call, Plan, Stage, finished_before};
use crate::driver::durable::journal::Journal;
use crate::error::CallError;
use crate::pending::Pending;
use crate::protocol::durable::rows::Request;
use crate::semantics::Semantics;
use crate::sqlite::Transaction;
use crate::ticket::Ticket;
use crate::wire::body::Encoded;

impl<A: Serialize, T, E> Call<A, T, E> {
    /// Saves the call in a transaction, of a handler or of [`SqliteStore::transaction`](crate::SqliteStore::transaction),
    /// together with the program's own writes. It is sent when that has committed, and was never there if it is rolled
    /// back.
    ///
    /// The ticket can be waited on once the transaction has committed; nobody has to: the call goes on without it. An
    /// error of the method is listed by [`Node::recovered`](crate::Node::recovered) then. In the handler of an
    /// exactly-once method this is the only remote call that is allowed.
    ///
    /// # Errors
    /// Nothing was saved, and it will not run: [`CallError::NotDurable`] if the method is not exactly once,
    /// [`CallError::KeyConflict`], [`CallError::JournalFull`], [`CallError::Store`] if the transaction has ended or the
    /// database failed, and those of arguments that cannot be encoded.
    pub fn enqueue(mut self, transaction: &Transaction) -> Result<Ticket, CallError<E>> {
        let Stage::Unstarted(plan, arguments) = std::mem::replace(&mut self.stage, Stage::Finished)
        else {
            finished_before()
        };
        if plan.method().semantics != Semantics::ExactlyOnce {
            return Err(CallError::NotDurable { method: plan.method().name });
        }
        let (journal, mut request) = plan.request(&arguments)?;
        request.wanted = false;
        journal.enqueue(transaction, request).map_err(CallError::widen)
    }
}

impl<T, E> Plan<T, E> {
    /// Has the call saved; the answer comes when its server has it.
    pub(super) fn save<A: Serialize>(
        self,
        arguments: &A,
        timeout: Option<Duration>,
    ) -> Result<Pending<T, E>, CallError<E>> {
        let (journal, request) = self.request(arguments)?;
        let ticket = journal.save(request);
        let method = self.method();
        Ok(Pending::saved(self.target, ticket, method, timeout, self.decoders, self.span))
    }

    fn request<A: Serialize>(
        &self,
        arguments: &A,
    ) -> Result<(Arc<Journal>, Request), CallError<E>> {
        let target = &self.target;
        let journal = target.node.journal().map_err(CallError::widen)?;
        journal.check(&target.peer).map_err(CallError::widen)?;
        let mut bytes = Vec::new();
        let shared = self.encode(arguments, &mut bytes)?;
        let bytes = Encoded { bytes, shared }.into_vec();
        let limit = target.link.largest_request().saturating_sub(AROUND_ARGUMENTS);
        if bytes.len() > limit {
            let datagrams = target.link.is_over_datagrams();
            return Err(CallError::TooLarge { size: bytes.len(), limit, datagrams });
        }
        let method = self.method();
        let request = Request {
            peer: target.peer.clone(),
            object: target.object.clone(),
            interface: target.descriptor.name.into(),
            method: method.id,
            method_name: method.name.into(),
            arguments: bytes,
            nonce: journal.draw(),
            key: self.key.clone(),
            parent: None,
            wanted: true,
        };
        Ok((journal.clone(), request))
    }
}

/// Bytes that stand before the arguments of a saved call, at most.
const AROUND_ARGUMENTS: usize = 64;
