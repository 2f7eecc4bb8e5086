//! What a server keeps of one call until the client has acknowledged it.

use std::borrow::Cow;

use crate::error::FailureCode;
use crate::semantics::Semantics;
use crate::wire::body::Body as Large;
use crate::wire::frame::ReplyStatus;

/// One call's record.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) state: State,
    pub(super) semantics: Semantics,
    /// It runs, and its caller has given up: the outcome is dropped when it comes.
    pub(super) orphan: bool,
    /// Bytes of the reply budget that are kept for it while it runs.
    pub(super) reserve: usize,
}

/// Where it stands.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// A handler was begun.
    Running,
    /// The answer, to be sent again until it is acknowledged. Refusals and fences are answers.
    Answered { status: ReplyStatus, body: Body },
}

/// A saved reply; short ones live in the record.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Short { length: u8, bytes: [u8; SHORT] },
    Heap(Box<[u8]>),
    Large(Large),
}

impl Record {
    pub(super) fn running(semantics: Semantics, reserve: usize) -> Record {
        Record { state: State::Running, semantics, orphan: false, reserve }
    }

    pub(super) fn answered(status: ReplyStatus, body: Body) -> Record {
        let state = State::Answered { status, body };
        Record { state, semantics: Semantics::AtMostOnce, orphan: false, reserve: 0 }
    }

    pub(super) fn is_answered(&self) -> bool {
        matches!(self.state, State::Answered { .. })
    }

    /// Whether the call is finished for a client that has the answer.
    pub(super) fn is_finished_by_arrival(&self) -> bool {
        const PUT_OFF: ReplyStatus = ReplyStatus::Failed(FailureCode::ShuttingDown);
        matches!(self.state, State::Answered { status, .. } if status != PUT_OFF)
    }
}

impl Record {
    /// The call is answered with a copy of a small reply.
    ///
    /// It is written where it stays: what is moved right after it was written makes a processor wait.
    #[inline]
    pub(super) fn answer(&mut self, status: ReplyStatus, reply: &[u8]) {
        if reply.len() > SHORT {
            self.state = State::Answered { status, body: Body::Heap(reply.into()) };
            return;
        }
        let body = Body::Short { length: reply.len() as u8, bytes: [0; SHORT] };
        self.state = State::Answered { status, body };
        if let State::Answered { body: Body::Short { bytes, .. }, .. } = &mut self.state {
            bytes[..reply.len()].copy_from_slice(reply);
        }
    }

    /// The call is answered with a large reply, which is shared with the send buffer.
    pub(super) fn share(&mut self, status: ReplyStatus, reply: Large) {
        self.state = State::Answered { status, body: Body::Large(reply) };
    }
}

impl Body {
    /// A copy of a small reply.
    #[inline]
    pub(super) fn of(reply: &[u8]) -> Body {
        if reply.len() > SHORT {
            return Body::Heap(reply.into());
        }
        let mut bytes = [0; SHORT];
        bytes[..reply.len()].copy_from_slice(reply);
        Body::Short { length: reply.len() as u8, bytes }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            Body::Short { length, .. } => usize::from(*length),
            Body::Heap(bytes) => bytes.len(),
            Body::Large(body) => body.len(),
        }
    }

    #[inline]
    pub(super) fn bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Body::Short { length, bytes } => Cow::Borrowed(&bytes[..usize::from(*length)]),
            Body::Heap(bytes) => Cow::Borrowed(bytes),
            Body::Large(body) => {
                let mut bytes = Vec::with_capacity(body.len());
                body.copy(0..body.len(), &mut bytes);
                Cow::Owned(bytes)
            }
        }
    }
}

/// Longest reply in bytes that needs no allocation of its own.
const SHORT: usize = 30;
