//! A saved call from outside: what is left of an exactly-once call when its caller stops waiting.
//!
//! Holds no bytes: the journal of the node does, behind [`SavedCall`]. How results are decoded and waited for stands
//! with [`Pending`](crate::Pending).

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::error::CallError;

/// An exactly-once call that is saved, and goes on until it has an answer.
///
/// Cheap to clone. Dropping it changes nothing. After a restart of the program the call is found by its
/// [key](crate::Call::key), or among [`Node::recovered`](crate::Node::recovered).
#[derive(Clone)]
pub struct Ticket {
    pub(crate) call: Arc<dyn SavedCall>,
}

/// What a node's journal lets the holder of a ticket do.
#[cfg_attr(
    not(feature = "sqlite"),
    allow(dead_code, reason = "only exactly-once calls have tickets")
)]
pub(crate) trait SavedCall: Send + Sync {
    /// The call's number in its journal; nothing as long as it is not saved.
    fn number(&self) -> Option<u64>;

    /// How it ended; leaves the waker to be woken when it has.
    fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<Ended>;

    /// How it ended, if it has.
    fn try_ended(&self) -> Option<Ended>;

    /// Ready when the call is on stable storage, or cannot be saved.
    fn poll_saved(&self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>>;

    /// Gives it up: it never runs, unless it has run. What comes of that is how it ends.
    fn cancel(&self);
}

/// How a saved call ended.
#[cfg_attr(
    not(feature = "sqlite"),
    allow(dead_code, reason = "only exactly-once calls have tickets")
)]
#[derive(Debug, Clone)]
pub(crate) enum Ended {
    /// The encoded result.
    Ok(Arc<[u8]>),
    /// The method's own error, encoded.
    MethodError(Arc<[u8]>),
    /// There is neither.
    Failed(CallError),
}

impl Ticket {
    /// The call's number in the journal of its node; nothing as long as it is not saved.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        self.call.number()
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number() {
            Some(number) => write!(f, "#{number}"),
            None => f.write_str("(being saved)"),
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({self})")
    }
}
