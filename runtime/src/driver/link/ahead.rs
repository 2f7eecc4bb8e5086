//! Which calls of a node to itself may not have begun yet: one that its caller runs must not be before them.
//!
//! A link keeps the order of its calls. One without an answer is finished when it is encoded, so that it is known to have
//! begun only when one that was made after it is answered.

use std::sync::Arc;

use super::{CallKey, Link, State};
use crate::driver::lock;
use crate::driver::references::received::Received;
use crate::protocol::client::Key;

/// Whether a call without an answer may not have begun yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// None was made, or all have begun.
    None,
    /// One was made.
    OneWay,
    /// One was made and this call after it: when that is answered, the one before has begun.
    Before(Key),
}

impl Link {
    /// Whether calls were made that may not have begun yet: what goes another way could be before them.
    pub(crate) fn has_calls_ahead(&self) -> bool {
        let state = lock(&self.state);
        state.unanswered != Unanswered::None || state.client.in_flight() > 0
    }
}

impl State {
    /// A call was made; `unanswered` if nobody will hear whether it has begun, and it matters.
    #[inline]
    pub(super) fn started(&mut self, key: Key, unanswered: bool) {
        if unanswered {
            self.unanswered = Unanswered::OneWay;
        } else if self.unanswered != Unanswered::None {
            self.unanswered = Unanswered::Before(key);
        }
    }

    /// The answer of a call was taken; `ran` if it is the method's. Returns the references that came with it.
    #[inline]
    pub(super) fn answered(&mut self, key: CallKey, ran: bool) -> Option<Arc<Received>> {
        if ran && self.unanswered == Unanswered::Before(key.0) {
            self.unanswered = Unanswered::None;
        }
        self.take_received(key)
    }
}
