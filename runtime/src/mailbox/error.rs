//! Why a message was not sent or received.

use std::error::Error;
use std::fmt;

use crate::error::CallError;
use crate::group::Member;
use crate::semantics::Execution;

/// Why a message was not sent, or is not known to have been taken.
///
/// [`execution`](SendError::execution) says of the message what it says of a call: whether it was received.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SendError {
    /// The sender's own buffer is full. Wait with `post().await`.
    Full,
    /// The message could not be encoded.
    NotEncoded {
        /// What the encoder said.
        reason: Box<str>,
    },
    /// The mailbox cannot decode the message: it holds another type.
    Refused {
        /// What the mailbox said.
        reason: Box<str>,
    },
    /// There is no such mailbox any more: its owner dropped it, or was shut down or restarted without it.
    Gone {
        /// The mailbox.
        mailbox: Member,
        /// [`Execution::NotExecuted`] if the message was certainly not received.
        execution: Execution,
    },
    /// The call that carried the message failed; it says whether the message may be in the mailbox.
    Failed(CallError),
    /// The message is in the mailbox, and nobody could be asked whether it was taken.
    Unseen(CallError),
    /// Messages that were posted before did not arrive, or may not have. The message at hand was not posted.
    Lost {
        /// How many.
        messages: u64,
        /// What became of the first.
        first: Box<SendError>,
    },
    /// Of several mailboxes, some did not take the message. The others did.
    Some {
        /// Which, and why.
        failed: Vec<(Member, SendError)>,
        /// How many mailboxes there are.
        of: usize,
    },
    /// The sender's node was shut down or its runtime has ended, and the message had not left.
    Closed,
    /// [`send_blocking`](super::Sender::send_blocking) or [`post_blocking`](super::Sender::post_blocking) was used inside
    /// an async task, where it would stop the runtime; use `send().await` or `post().await`.
    BlockingInAsync,
}

/// Why nothing was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The node was shut down, and all that was in the mailbox has been received.
    Closed,
    /// [`receive_blocking`](super::Mailbox::receive_blocking) was used inside an async task, where it would stop the
    /// runtime; use `receive().await`.
    BlockingInAsync,
}

impl SendError {
    /// Whether the message was received, by any of the mailboxes.
    #[must_use]
    pub fn execution(&self) -> Execution {
        match self {
            SendError::Full
            | SendError::NotEncoded { .. }
            | SendError::Refused { .. }
            | SendError::Lost { .. }
            | SendError::Closed
            | SendError::BlockingInAsync => Execution::NotExecuted,
            SendError::Gone { execution, .. } => *execution,
            SendError::Failed(error) => error.execution(),
            SendError::Unseen(_) => Execution::Unknown,
            SendError::Some { failed, of } => {
                let never =
                    |(_, error): &(Member, SendError)| error.execution() == Execution::NotExecuted;
                match failed.len() < *of {
                    true => Execution::Executed,
                    false if failed.iter().all(never) => Execution::NotExecuted,
                    false => Execution::Unknown,
                }
            }
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Full => f.write_str("the sender's buffer is full; wait with `post().await`"),
            SendError::NotEncoded { reason } => {
                write!(f, "the message could not be encoded: {reason}")
            }
            SendError::Refused { reason } => {
                write!(f, "the mailbox could not decode the message: {reason}")
            }
            SendError::Gone { mailbox, execution } => {
                let fate = match execution {
                    Execution::NotExecuted => "the message was not received",
                    _ => "the message may have been received",
                };
                write!(f, "the mailbox {mailbox} is gone; {fate}")
            }
            SendError::Failed(_) => f.write_str("the message could not be put into the mailbox"),
            SendError::Unseen(_) => f.write_str(
                "the message is in the mailbox, but nobody says whether it was received",
            ),
            SendError::Lost { messages: 1, .. } => {
                f.write_str("a message that was posted before did not arrive")
            }
            SendError::Lost { messages, .. } => {
                write!(f, "{messages} messages that were posted before did not arrive")
            }
            SendError::Some { failed, of } => {
                write!(f, "{} of {of} mailboxes did not take the message", failed.len())
            }
            SendError::Closed => f.write_str("this node was shut down"),
            SendError::BlockingInAsync => f.write_str(
                "blocking inside an async task would stop the runtime; use `send().await` or `post().await`",
            ),
        }
    }
}

impl Error for SendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            SendError::Failed(error) | SendError::Unseen(error) => Some(error),
            SendError::Lost { first, .. } => Some(&**first),
            SendError::Some { failed, .. } => {
                failed.first().map(|(_, error)| error as &(dyn Error + 'static))
            }
            _ => None,
        }
    }
}

impl fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReceiveError::Closed => "the node was shut down",
            ReceiveError::BlockingInAsync => {
                "blocking inside an async task would stop the runtime; use `receive().await`"
            }
        })
    }
}

impl Error for ReceiveError {}
