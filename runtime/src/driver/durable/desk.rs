//! The store as a remote object: where clients register, have calls fenced, and say what may be forgotten.

use std::sync::Arc;

use farcall_macros::remote;

use super::{NodeStore, in_store, reason};
use crate::error::{CallError, FailureCode};
use crate::limits::Limits;
use crate::protocol::durable::inbox::{self, NotRegistered, Register, Registered};
use crate::protocol::durable::rows::InboxRows as _;
use crate::store::StoreError;
use crate::wire::durable::{Stamp, Word};

/// Under this name each node with a store has it.
pub(crate) const NAME: &str = "farcall/store";

/// What clients ask of a server's store, beside their calls. `docs/protocol.md` says what each does.
#[remote(crate = crate, semantics = "at_least_once")]
pub(crate) trait RemoteStore {
    /// Registers a journal, or finds its registration.
    async fn register(&self, journal: Register) -> Result<Registered, NotRegistered>;

    /// Makes sure that a call never runs, unless it has run. The request is named by its stamp and, behind it, its digest.
    /// The result is a word.
    async fn fence(&self, request: &[u8], code: u8, text: &str) -> Vec<u8>;

    /// Forgets the answers below a stamp's floor, and those in these half-open ranges above it. The result is empty, or a
    /// word that says what is wrong.
    async fn forget(&self, stamp: &[u8], above: Vec<(u64, u64)>) -> Vec<u8>;
}

/// The store behind [`NAME`].
pub(crate) struct Desk {
    store: Arc<NodeStore>,
    limits: Arc<Limits>,
}

impl Desk {
    pub(crate) fn new(store: Arc<NodeStore>, limits: Arc<Limits>) -> Desk {
        Desk { store, limits }
    }
}

#[remote(crate = crate)]
impl RemoteStore for Desk {
    async fn register(&self, journal: Register) -> Result<Registered, NotRegistered> {
        let limits = self.limits.clone();
        let registered =
            in_store(&self.store, move |db| inbox::register(db, &journal, &limits)).await;
        registered.unwrap_or_else(|failure| {
            let text = format!("the server's store failed: {}", reason(&failure));
            Err(NotRegistered::Refused { text })
        })
    }

    async fn fence(&self, request: &[u8], code: u8, text: &str) -> Result<Vec<u8>, CallError> {
        let code = FailureCode::from_wire(code);
        let Some((stamp, &digest)) = request.split_last_chunk() else { return Err(no_stamp()) };
        let stamp = read(stamp)?;
        let Some(code) = code.filter(|code| (*code as u8) < 16) else {
            return Err(not_understood("no code of a refusal"));
        };
        let (limits, text) = (self.limits.clone(), text.to_owned());
        let fenced = in_store(&self.store, move |db| {
            let verdict = inbox::fence(db, &stamp, &digest, code, &text, &limits)?;
            Ok::<_, StoreError>((verdict, db.commits()))
        });
        Ok(match fenced.await {
            Ok((verdict, commits)) => bytes(&verdict.word(commits)),
            Err(failure) => again(&reason(&failure)),
        })
    }

    async fn forget(&self, stamp: &[u8], above: Vec<(u64, u64)>) -> Result<Vec<u8>, CallError> {
        let stamp = read(stamp)?;
        if above.len() > inbox::MOST_RANGES {
            return Err(not_understood("more ranges of finished calls than a client tells"));
        }
        let forgotten = in_store(&self.store, move |db| inbox::forget(db, &stamp, &above)).await;
        Ok(match forgotten {
            Ok(None) => Vec::new(),
            Ok(Some(verdict)) => bytes(&verdict.word(0)),
            Err(failure) => again(&reason(&failure)),
        })
    }
}

fn read(stamp: &[u8]) -> Result<Stamp, CallError> {
    match Stamp::get(stamp) {
        Ok((read, length)) if length == stamp.len() => Ok(read),
        _ => Err(no_stamp()),
    }
}

fn no_stamp() -> CallError {
    not_understood("no stamp of an exactly-once call")
}

fn not_understood(what: &str) -> CallError {
    CallError::FailedWithin { reason: what.into() }
}

fn bytes(word: &Word<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    word.put(&mut bytes);
    bytes
}

fn again(reason: &str) -> Vec<u8> {
    bytes(&Word::Again { text: &format!("the server's store failed: {reason}") })
}
