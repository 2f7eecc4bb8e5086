//! What a call is for, as its driver knows it.

use crate::error::FailureCode;
use crate::semantics::Semantics;

/// What the driver knows of the method that a call names.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target<'a> {
    /// It can be run.
    Method {
        semantics: Semantics,
        oneway: bool,
        /// The largest encoded result in bytes, if the method declares one.
        max_reply: Option<usize>,
    },
    /// It could be, but the call waited for so long that it is not to begin.
    Late { semantics: Semantics, oneway: bool },
    /// It cannot; nothing runs.
    Refused { code: FailureCode, text: &'a str },
}

/// Why a late call is not begun.
pub(super) const TOO_LATE: (FailureCode, &str) = (
    FailureCode::Busy,
    "it is asked for more than it can do: the call waited for half of its time",
);
