//! Why a peer has no answer: the byte on the wire, and the caller's error that it stands for.

use std::io;
use std::sync::Arc;

use super::{CallError, Refusal};
use crate::semantics::Execution;

/// Why a peer has no answer, as a byte on the wire. Codes below 16 say that nothing ran.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[doc(hidden)]
#[non_exhaustive]
pub enum FailureCode {
    /// No object of that name and interface.
    NoSuchObject = 1,
    /// No method of that id, or a weaker promise.
    NoSuchMethod = 2,
    /// The arguments do not decode.
    BadArguments = 3,
    /// A limit of the server is reached.
    Busy = 4,
    /// The server is shutting down.
    ShuttingDown = 5,
    /// The deadline had passed before the handler began.
    Expired = 6,
    /// The request is larger than the server accepts.
    TooLarge = 7,
    /// Each time the method ran in its transaction it failed, and all that it wrote was taken back.
    RolledBack = 8,
    /// The caller cancelled the call, and it never runs.
    Cancelled = 9,
    /// The handler panicked.
    Panicked = 16,
    /// The handler's task was ended before it returned.
    Aborted = 17,
    /// The encoded result is larger than allowed.
    ReplyTooLarge = 18,
    /// The result could not be encoded.
    ReplyNotEncoded = 19,
    /// A call that the handler made itself failed.
    FailedWithin = 20,
    /// The object is behind the server, and what became of the call there is not known.
    LostBehind = 21,
}

impl FailureCode {
    /// The code that a peer's byte stands for, if any.
    pub(crate) fn from_wire(byte: u8) -> Option<FailureCode> {
        [
            FailureCode::NoSuchObject,
            FailureCode::NoSuchMethod,
            FailureCode::BadArguments,
            FailureCode::Busy,
            FailureCode::ShuttingDown,
            FailureCode::Expired,
            FailureCode::TooLarge,
            FailureCode::RolledBack,
            FailureCode::Cancelled,
            FailureCode::Panicked,
            FailureCode::Aborted,
            FailureCode::ReplyTooLarge,
            FailureCode::ReplyNotEncoded,
            FailureCode::FailedWithin,
            FailureCode::LostBehind,
        ]
        .into_iter()
        .find(|code| *code as u8 == byte)
    }

    /// Whether a method that ended so had begun.
    pub(crate) fn execution(self) -> Execution {
        match self {
            FailureCode::LostBehind => Execution::Unknown,
            code if (code as u8) < 16 => Execution::NotExecuted,
            _ => Execution::Executed,
        }
    }

    /// A peer's text for a person: control characters, which could drive a terminal, are replaced.
    pub(crate) fn printable(text: &[u8]) -> Box<str> {
        let text = String::from_utf8_lossy(text);
        let visible = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        text.chars().map(visible).collect::<String>().into()
    }

    /// What is told of a result that has more bytes than it may have.
    pub(crate) fn too_large(bytes: usize, allowed: usize) -> String {
        format!("the result takes {bytes} bytes, and {allowed} are allowed")
    }

    /// The caller's error for this code; `execution` counts for refusals only, what ran has run.
    pub(crate) fn into_error(self, detail: Box<str>, execution: Execution) -> CallError {
        let refusal = |detail| Refusal { detail, execution };
        match self {
            FailureCode::NoSuchObject => CallError::NoSuchObject(refusal(detail)),
            FailureCode::NoSuchMethod => CallError::NoSuchMethod(refusal(detail)),
            FailureCode::BadArguments => CallError::BadArguments(refusal(detail)),
            FailureCode::Busy => CallError::Busy(refusal(detail)),
            FailureCode::ShuttingDown => CallError::ShuttingDown(refusal(detail)),
            FailureCode::Expired => CallError::Expired(refusal(detail)),
            FailureCode::TooLarge => CallError::BadArguments(refusal(detail)),
            FailureCode::RolledBack => CallError::RolledBack { reason: detail },
            FailureCode::Cancelled => CallError::Cancelled { execution },
            FailureCode::Panicked | FailureCode::Aborted => CallError::Panicked { reason: detail },
            FailureCode::ReplyTooLarge | FailureCode::ReplyNotEncoded => {
                CallError::BadReply { reason: detail }
            }
            FailureCode::FailedWithin => CallError::FailedWithin { reason: detail },
            FailureCode::LostBehind => CallError::Link {
                peer: "the node of the object".into(),
                source: Arc::new(io::Error::other(detail.into_string())),
                execution: Execution::Unknown,
            },
        }
    }
}
