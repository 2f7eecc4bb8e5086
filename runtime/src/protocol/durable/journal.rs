//! The client's decisions about its saved requests, each inside one transaction.
//!
//! A request is saved before it is sent, and leaves when its result was taken. What runs over the network in between is
//! not here.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher24};

use super::rows::{Binding, Digest, JournalRows, Key, Outcome, Request, Saved, ServerRow};
use crate::id::{CommitNumber, MethodId, Seq, StoreId};
use crate::limits::Limits;
use crate::wire::durable::Answer;

/// What saving a request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Saving {
    /// It has this number, and is bound as its server was known before.
    New { seq: Seq, binding: Option<Binding> },
    /// The key belongs to the same request: this is it.
    Attached { seq: Seq, outcome: Option<Outcome> },
    /// The key belongs to another request.
    KeyConflict,
    /// The journal holds as much as it may.
    Full,
}

/// Why a saved call cannot be dropped or cancelled here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// There is none.
    Unknown,
    /// It is finished.
    Finished,
    /// It is not finished, and may have been sent.
    MayHaveBeenSent,
}

/// Saves a request, or finds the one that has its key. It is bound at once to the store that is known at its server's
/// address.
pub(crate) fn save<D: JournalRows>(
    db: &mut D,
    request: &Request,
    limits: &Limits,
) -> Result<Saving, D::Error> {
    let binding = db.server(&request.peer)?.map(|server| server.binding);
    save_bound(db, request, binding, limits)
}

/// As [`save`], for a server whose store the program has not accepted yet: what is never sent to the store before is
/// bound to the one that will be.
pub(crate) fn save_unbound<D: JournalRows>(
    db: &mut D,
    request: &Request,
    limits: &Limits,
) -> Result<Saving, D::Error> {
    save_bound(db, request, None, limits)
}

fn save_bound<D: JournalRows>(
    db: &mut D,
    request: &Request,
    binding: Option<Binding>,
    limits: &Limits,
) -> Result<Saving, D::Error> {
    if let Some(key) = &request.key
        && let Some(keyed) = db.keyed(key)?
    {
        return Ok(if keyed.digest == key_digest(request) {
            Saving::Attached { seq: keyed.seq, outcome: keyed.outcome }
        } else {
            Saving::KeyConflict
        });
    }
    let usage = db.usage()?;
    let bytes = usage.bytes.saturating_add(request.arguments.len());
    if usage.rows >= limits.journal_rows || bytes > limits.journal_bytes {
        return Ok(Saving::Full);
    }
    let seq = db.next_seq()?;
    db.put_request(seq, request, binding)?;
    Ok(Saving::New { seq, binding })
}

/// Notes how a call ended. `taken` says that its caller has the result: what has no key then leaves the journal. So
/// does a result that nobody wants. What was noted first stays.
pub(crate) fn settle<D: JournalRows>(
    db: &mut D,
    seq: Seq,
    outcome: &Outcome,
    taken: bool,
) -> Result<(), D::Error> {
    let Some(saved) = db.request(seq)? else { return Ok(()) };
    if saved.outcome.is_some() {
        return if taken { self::taken(db, seq) } else { Ok(()) };
    }
    let key = if never_ran(outcome) { Key::Freed } else { Key::Kept };
    let keyed = saved.request.key.is_some() && key == Key::Kept;
    let keyed = keyed && !cfg_canary!("keys_end_with_their_calls");
    let unwanted =
        !saved.request.wanted && matches!(outcome, Outcome::Answered { answer: Answer::Ok, .. });
    if !keyed && (taken || unwanted) {
        return db.remove(seq);
    }
    db.finish(seq, outcome, key)?;
    if taken { db.mark_taken(seq) } else { Ok(()) }
}

/// The result of a finished call was taken: it leaves the journal unless it has a key.
pub(crate) fn taken<D: JournalRows>(db: &mut D, seq: Seq) -> Result<(), D::Error> {
    match db.request(seq)? {
        Some(saved) if saved.outcome.is_none() => Ok(()),
        Some(saved) if saved.request.key.is_none() => db.remove(seq),
        Some(_) => db.mark_taken(seq),
        None => Ok(()),
    }
}

/// Notes the highest commit number that a store has told, so that a copy that is older is known after a restart too. Goes
/// into the transaction that settles a call.
pub(crate) fn saw<D: JournalRows>(
    db: &mut D,
    peer: &str,
    store: StoreId,
    seen: CommitNumber,
) -> Result<(), D::Error> {
    match db.server(peer)? {
        Some(server) if server.binding.store == store && server.seen < seen => {
            db.put_server(&ServerRow { seen, ..server })
        }
        _ => Ok(()),
    }
}

/// Drops a finished call.
pub(crate) fn forget<D: JournalRows>(db: &mut D, seq: Seq) -> Result<Result<(), Kept>, D::Error> {
    match db.request(seq)? {
        None => Ok(Err(Kept::Unknown)),
        Some(Saved { outcome: None, .. }) => Ok(Err(Kept::MayHaveBeenSent)),
        Some(_) => db.remove(seq).map(Ok),
    }
}

/// Cancels a call that no run of this journal can have sent.
pub(crate) fn cancel_unsent<D: JournalRows>(
    db: &mut D,
    seq: Seq,
) -> Result<Result<(), Kept>, D::Error> {
    match db.request(seq)? {
        None => Ok(Err(Kept::Unknown)),
        Some(Saved { outcome: Some(_), .. }) => Ok(Err(Kept::Finished)),
        Some(Saved { binding: Some(_), .. }) => Ok(Err(Kept::MayHaveBeenSent)),
        Some(_) => settle(db, seq, &Outcome::Cancelled, true).map(Ok),
    }
}

/// Notes the registration at a server, and that from now on its requests may be sent there; returns the numbers of those
/// that were not bound to a store before.
pub(crate) fn adopt<D: JournalRows>(db: &mut D, server: &ServerRow) -> Result<Vec<Seq>, D::Error> {
    db.put_server(server)?;
    db.bind(&server.peer, server.binding)
}

/// What a server compares to see that a number was not used for two requests.
pub(crate) fn digest(object: &str, method: MethodId, arguments: &[u8], nonce: u64) -> Digest {
    let mut hasher = SipHasher24::new_with_keys(nonce, 0);
    put_text(object, &mut hasher);
    hasher.write(&method.0.to_le_bytes());
    hasher.write(arguments);
    hasher.finish128().as_bytes()
}

/// What tells whether the same key is used for the same request.
pub(crate) fn key_digest(request: &Request) -> Digest {
    let mut hasher = SipHasher24::new();
    put_text(&request.peer, &mut hasher);
    put_text(&request.object, &mut hasher);
    hasher.write(&request.method.0.to_le_bytes());
    hasher.write(&request.arguments);
    hasher.finish128().as_bytes()
}

/// A call that never ran can be made again under its key.
pub(crate) fn never_ran(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Cancelled | Outcome::Answered { answer: Answer::Never(_), .. })
}

/// With its length, so that two texts do not run together.
fn put_text(text: &str, hasher: &mut SipHasher24) {
    hasher.write(&(text.len() as u64).to_le_bytes());
    hasher.write(text.as_bytes());
}
