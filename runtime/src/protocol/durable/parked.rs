//! Why saved calls are not sent any more, in words for their callers.

use std::fmt;

use crate::id::StoreId;

/// Why calls to a server, or one of them, are not sent any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parked {
    /// The server's store is another one than before.
    OtherStore { before: StoreId, now: StoreId },
    /// The server's store is older than what it has told.
    WentBack,
    /// The server dropped the registration under which the call may have run.
    Expired,
    /// The server holds the call for finished.
    Stale,
    /// The server answered another request under this number.
    Different,
}

/// Why a journal sends nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// It was opened again since, or a copy of it was: the calls belong to that opening.
    Fenced,
    /// It is older than what a server has had from it.
    WentBack,
}

impl fmt::Display for Parked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Parked::OtherStore { before, now } => write!(
                f,
                "the server has another store than before ({now}, not {before}); if that is right, say so with \
                 `Node::accept_store`"
            ),
            Parked::WentBack => f.write_str(
                "the server's store is older than what it has answered: a copy of it was restored; if that is \
                 right, say so with `Node::accept_store`",
            ),
            Parked::Expired => f.write_str("the server has dropped what it knew of this client"),
            Parked::Stale => f.write_str("the server holds the call for finished"),
            Parked::Different => f.write_str("the server has answered another request under its number"),
        }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stopped::Fenced => f.write_str("the journal was opened again by somebody else, who has its calls now"),
            Stopped::WentBack => f.write_str(
                "the journal is older than what a server has had from it: a copy of it was restored, and nothing \
                 of it is sent",
            ),
        }
    }
}
