//! The way of an exactly-once call: into the store first, and from there to its server.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::{Call, Remote, finished_before};
use crate::driver::durable::journal::Journal;
use crate::error::CallError;
use crate::protocol::durable::rows::Request;
use crate::semantics::Semantics;
use crate::sqlite::Transaction;
use crate::ticket::Ticket;
use crate::wire::body::Encoded;
use crate::wire::payload::Beside;
use crate::wire::payload::passed::{Naming, with_naming};

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
    /// [`CallError::KeyConflict`], [`CallError::JournalFull`], [`CallError::Store`] if the transaction is one of another store
    /// than this node's, if it has ended or if the database failed, and those of arguments that cannot be encoded.
    pub fn enqueue(mut self, transaction: &Transaction) -> Result<Ticket, CallError<E>> {
        let Some(arguments) = self.arguments.take() else { finished_before() };
        let method = self.pending.method();
        if method.semantics != Semantics::ExactlyOnce {
            return Err(CallError::NotDurable { method: method.name });
        }
        let (journal, mut request) = self.request(&arguments)?;
        request.wanted = false;
        journal.enqueue(transaction, request).map_err(CallError::widen)
    }

    /// Has the call saved; the answer comes when its server has it.
    pub(super) fn save(
        &mut self,
        arguments: &A,
        timeout: Option<Duration>,
    ) -> Result<(), CallError<E>> {
        let (journal, request) = self.request(arguments)?;
        self.pending.saved(journal.save(request), timeout);
        Ok(())
    }

    fn request(&self, arguments: &A) -> Result<(Arc<Journal>, Request), CallError<E>> {
        let target = self.pending.target();
        let journal = target.node.journal().map_err(CallError::widen)?;
        journal.check(&target.peer).map_err(CallError::widen)?;
        let mut bytes = Vec::new();
        let encode = || self.pending.encode(arguments, &mut bytes);
        let Beside { shared, .. } = with_naming(naming(target.peer.clone()), encode)?;
        let bytes = Encoded { bytes, shared }.into_vec();
        let limit = target.link.largest_request().saturating_sub(AROUND_ARGUMENTS);
        if bytes.len() > limit {
            let datagrams = target.link.is_over_datagrams();
            return Err(CallError::TooLarge { size: bytes.len(), limit, datagrams });
        }
        let method = self.pending.method();
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

/// How references are saved for a server: those to what it has under a name, by that name.
fn naming(server: Arc<str>) -> Naming {
    Rc::new(move |passed| {
        let remote: &Remote = passed.downcast_ref().ok_or("no reference to an object")?;
        let target = remote.target();
        match target.unnamed {
            Some(_) => Err(UNNAMED),
            None if target.peer != server => Err(ELSEWHERE),
            None => Ok((target.object.clone(), target.descriptor.name)),
        }
    })
}

const UNNAMED: &str = "a reference to an object without a name ends with its session, and is not saved with an \
                       exactly-once call; bind the object to a name at the server that is called";
const ELSEWHERE: &str = "with an exactly-once call only references to objects of the called server are saved, by their \
                         names; this one is somewhere else";

/// Bytes that stand before the arguments of a saved call, at most.
const AROUND_ARGUMENTS: usize = 64;
