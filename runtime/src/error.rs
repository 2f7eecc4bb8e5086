//! Why a call did not give a result, sorted by what the caller can do about it.
//!
//! Every failure answers one question: did the method run? Ask [`CallError::execution`].

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::address::AddressError;
use crate::semantics::Execution;
use crate::ticket::Ticket;

mod code;

pub(crate) use code::FailureCode;

/// Why a call gave no result. `E` is the method's own error type.
///
/// Sorted by what the caller can do: the method's own error first, then what was refused before anything ran, then
/// what ran and went wrong, then what is not known. [`execution`](CallError::execution) says which it is; of what carries a
/// [`Refusal`], [`Refusal::execution`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CallError<E = Infallible> {
    /// The object ran the method, and this is its own error.
    Method(E),

    /// The server has no object of that name and interface. Look it up again, or see why it is not bound.
    NoSuchObject(Refusal),
    /// The server's object has no method with this name and signature, or promises less for it than this interface
    /// declares. Client and server were built from different versions of the trait.
    NoSuchMethod(Refusal),
    /// The server could not decode the arguments, or accepts none so large. Client and server disagree about a type or
    /// a limit.
    BadArguments(Refusal),
    /// A limit is reached, of the server or of this node ([`Limits::members`](crate::Limits::members),
    /// [`Limits::handles`](crate::Limits::handles)), or the server is asked for more than it can do: the call waited there for
    /// more than half of its deadline, or for a quarter where calls have waited without a break for as long as their
    /// deadline. Try again later.
    Busy(Refusal),
    /// The server is shutting down. Try again later, or elsewhere.
    ShuttingDown(Refusal),
    /// The deadline had passed before the server could begin.
    Expired(Refusal),

    /// The text that should say where the object is cannot be used as an address. It did not run.
    BadAddress(AddressError),
    /// The encoded arguments are larger than the peer accepts. It did not run.
    TooLarge {
        /// Encoded size in bytes.
        size: usize,
        /// Largest size in bytes that is accepted.
        limit: usize,
        /// The call was to go over `udp://`; `tcp://` carries more.
        datagrams: bool,
    },
    /// The arguments could not be encoded. It did not run.
    NotEncoded {
        /// What the encoder said.
        reason: Box<str>,
    },
    /// A group that is reached by broadcast is for methods that are *maybe* or *at least once*; this one promises more. It
    /// did not run.
    NotForBroadcast {
        /// The method.
        method: &'static str,
    },
    /// `try_start` found the send buffer or the window of calls in flight full. It did not run; wait with `start().await`.
    BufferFull,
    /// A call that parks its thread was used inside an async task, where it would stop the runtime; use `.await`.
    BlockingInAsync {
        /// [`Execution::NotExecuted`], except when it was `Pending::wait` on a call that had been sent.
        execution: Execution,
    },
    /// No connection to the server could be made, and the call was never sent. It did not run.
    Unreachable {
        /// The address that was tried.
        peer: Box<str>,
        /// What the operating system said.
        source: Arc<io::Error>,
    },

    /// The call cannot be exactly once, since this node has no store: see
    /// [`NodeBuilder::store`](crate::NodeBuilder::store). It did not run.
    NoStore,
    /// `key` and `enqueue` are for methods with `semantics = "exactly_once"`; this one promises less. It did not run.
    NotDurable {
        /// The method.
        method: &'static str,
    },
    /// The handler of an exactly-once method made a remote call, which would keep the database waiting for others and
    /// happen again with each attempt. It did not run. Enqueue an exactly-once call in the transaction: `.enqueue(&tx)`.
    CallInsideTransaction,
    /// The key belongs to another call: to another object, method or other arguments. It did not run.
    KeyConflict {
        /// The key.
        key: Box<str>,
    },
    /// The store holds as many saved calls, results and keys as its limits allow. It did not run. Take or
    /// [forget](crate::Node::forget) what is finished, or raise [`Limits::journal_rows`](crate::Limits::journal_rows) and
    /// [`Limits::journal_bytes`](crate::Limits::journal_bytes).
    JournalFull,
    /// The store failed. As the error of a call: it could not be saved, and did not run. As what a handler returns: the
    /// database failed within, and what it wrote is to be taken back.
    Store {
        /// What the database said, and what to do.
        reason: Box<str>,
    },
    /// An exactly-once method failed each time that it ran in its transaction: it panicked, took too
    /// long, or the database failed. All that it wrote was taken back, and the call never runs again.
    RolledBack {
        /// How it failed the last time.
        reason: Box<str>,
    },

    /// The method panicked, or its task was ended, after it had begun. It ran in part.
    Panicked {
        /// What the server says of it. The panic's own message may be secret and stays in the
        /// server's log.
        reason: Box<str>,
    },
    /// The method failed because a call that it made itself failed: it ran, and failed within.
    FailedWithin {
        /// What failed inside the method.
        reason: Box<str>,
    },
    /// The method ran, but its result was too large, could not be encoded, or could not be decoded
    /// here. Making the call again runs the method again.
    BadReply {
        /// What was wrong with it.
        reason: Box<str>,
    },

    /// An exactly-once call has no answer within its timeout. It goes on, over restarts of both sides, until it has one:
    /// wait again with the [ticket](CallError::ticket), or find it by its key.
    Deferred {
        /// How long was waited.
        waited: Duration,
        /// The call.
        ticket: Ticket,
    },
    /// An exactly-once call may have run, and nobody can be asked: the server's store was replaced, restored from an old
    /// copy, or has dropped this client. It is not sent again.
    Parked {
        /// What happened, and what to do if it is right.
        reason: Box<str>,
    },
    /// The store of this node belongs to somebody else now: it was copied or restored, and the other copy was opened
    /// later. A call that was saved may have run, and is completed there.
    Fenced {
        /// What happened.
        reason: Box<str>,
    },
    /// No answer by the deadline. It may have run, or may yet run: `execution` says what is known.
    DeadlineExceeded {
        /// How long the caller had waited.
        waited: Duration,
        /// Whether the method ran, as far as is known.
        execution: Execution,
        /// Whether the server said that the method had begun.
        started: bool,
    },
    /// The connection was lost, and under this semantics the call is not sent again.
    Link {
        /// The peer's address.
        peer: Box<str>,
        /// What the operating system said.
        source: Arc<io::Error>,
        /// Whether the method ran, as far as is known.
        execution: Execution,
    },
    /// The server was restarted while the call was in flight. It may have run, in the run of the server before.
    ServerRestarted,
    /// The server gave up the session after the client had been silent for too long. The call may have run.
    SessionExpired,
    /// A call to a group was over before this member had answered: the policy was met, or could no longer be. It may have
    /// run, or may yet run, unless `execution` says that it was never sent.
    Silent {
        /// Whether the method ran, as far as is known.
        execution: Execution,
    },
    /// The caller cancelled the call. `execution` says what the server made of it.
    Cancelled {
        /// Whether the method ran, as far as is known.
        execution: Execution,
    },
    /// This node was shut down, or its runtime ended. A call that had been sent may have run.
    Closed {
        /// Whether the method ran, as far as is known.
        execution: Execution,
    },
    /// The peer broke the protocol: a defect of one side. A call that had been sent may have run.
    Protocol {
        /// What it did.
        reason: Box<str>,
        /// Whether the method ran, as far as is known.
        execution: Execution,
    },
}

/// What a server said when it refused a call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The server's words.
    pub detail: Box<str>,
    /// [`Execution::NotExecuted`], except for an at-least-once call that had been sent before: an earlier copy of it may
    /// have run or run later.
    pub execution: Execution,
}

/// Marks a type as the error of a remote method, so that `?` turns it into [`CallError::Method`] in a handler of the
/// longer form, `-> Result<T, CallError<E>>`.
///
/// ```
/// use farcall::{CallError, MethodError};
///
/// #[derive(Debug)]
/// struct Overdrawn;
/// impl MethodError for Overdrawn {}
///
/// fn check(cents: i64) -> Result<(), Overdrawn> {
///     if cents < 0 { Err(Overdrawn) } else { Ok(()) }
/// }
/// fn handler(cents: i64) -> Result<(), CallError<Overdrawn>> {
///     check(cents)?;
///     Ok(())
/// }
/// assert!(matches!(handler(-1), Err(CallError::Method(Overdrawn))));
/// ```
pub trait MethodError {}

impl<E> CallError<E> {
    /// Whether the method ran: what the caller needs to know before it tries again.
    #[must_use]
    pub fn execution(&self) -> Execution {
        match self {
            CallError::NoSuchObject(refusal)
            | CallError::NoSuchMethod(refusal)
            | CallError::BadArguments(refusal)
            | CallError::Busy(refusal)
            | CallError::ShuttingDown(refusal)
            | CallError::Expired(refusal) => refusal.execution,
            CallError::BadAddress(_)
            | CallError::TooLarge { .. }
            | CallError::NotEncoded { .. }
            | CallError::BufferFull
            | CallError::NotForBroadcast { .. }
            | CallError::NoStore
            | CallError::NotDurable { .. }
            | CallError::CallInsideTransaction
            | CallError::KeyConflict { .. }
            | CallError::JournalFull
            | CallError::Store { .. }
            | CallError::RolledBack { .. }
            | CallError::Unreachable { .. } => Execution::NotExecuted,
            CallError::Method(_)
            | CallError::Panicked { .. }
            | CallError::FailedWithin { .. }
            | CallError::BadReply { .. } => Execution::Executed,
            CallError::DeadlineExceeded { execution, .. }
            | CallError::Link { execution, .. }
            | CallError::BlockingInAsync { execution }
            | CallError::Silent { execution }
            | CallError::Cancelled { execution }
            | CallError::Closed { execution }
            | CallError::Protocol { execution, .. } => *execution,
            CallError::ServerRestarted
            | CallError::SessionExpired
            | CallError::Deferred { .. }
            | CallError::Parked { .. }
            | CallError::Fenced { .. } => Execution::Unknown,
        }
    }

    /// The exactly-once call that goes on, if this is [`CallError::Deferred`].
    #[must_use]
    pub fn ticket(&self) -> Option<&Ticket> {
        match self {
            CallError::Deferred { ticket, .. } => Some(ticket),
            _ => None,
        }
    }

    /// Whether the same call can be made again without any danger that it runs twice: true exactly if
    /// [`execution`](CallError::execution) is [`Execution::NotExecuted`].
    #[must_use]
    pub fn is_safe_to_retry(&self) -> bool {
        self.execution() == Execution::NotExecuted
    }
}

impl<E> CallError<E> {
    /// The same failure without the method's own error, which is the error here.
    pub(crate) fn split<F>(self) -> Result<CallError<F>, E> {
        Ok(match self {
            CallError::Method(error) => return Err(error),
            CallError::NoSuchObject(refusal) => CallError::NoSuchObject(refusal),
            CallError::NoSuchMethod(refusal) => CallError::NoSuchMethod(refusal),
            CallError::BadArguments(refusal) => CallError::BadArguments(refusal),
            CallError::Busy(refusal) => CallError::Busy(refusal),
            CallError::ShuttingDown(refusal) => CallError::ShuttingDown(refusal),
            CallError::Expired(refusal) => CallError::Expired(refusal),
            CallError::BadAddress(error) => CallError::BadAddress(error),
            CallError::TooLarge { size, limit, datagrams } => {
                CallError::TooLarge { size, limit, datagrams }
            }
            CallError::NotEncoded { reason } => CallError::NotEncoded { reason },
            CallError::BufferFull => CallError::BufferFull,
            CallError::BlockingInAsync { execution } => CallError::BlockingInAsync { execution },
            CallError::Unreachable { peer, source } => CallError::Unreachable { peer, source },
            CallError::NotForBroadcast { method } => CallError::NotForBroadcast { method },
            CallError::NoStore => CallError::NoStore,
            CallError::NotDurable { method } => CallError::NotDurable { method },
            CallError::CallInsideTransaction => CallError::CallInsideTransaction,
            CallError::KeyConflict { key } => CallError::KeyConflict { key },
            CallError::JournalFull => CallError::JournalFull,
            CallError::Store { reason } => CallError::Store { reason },
            CallError::RolledBack { reason } => CallError::RolledBack { reason },
            CallError::Deferred { waited, ticket } => CallError::Deferred { waited, ticket },
            CallError::Parked { reason } => CallError::Parked { reason },
            CallError::Fenced { reason } => CallError::Fenced { reason },
            CallError::Panicked { reason } => CallError::Panicked { reason },
            CallError::FailedWithin { reason } => CallError::FailedWithin { reason },
            CallError::BadReply { reason } => CallError::BadReply { reason },
            CallError::DeadlineExceeded { waited, execution, started } => {
                CallError::DeadlineExceeded { waited, execution, started }
            }
            CallError::Link { peer, source, execution } => {
                CallError::Link { peer, source, execution }
            }
            CallError::ServerRestarted => CallError::ServerRestarted,
            CallError::SessionExpired => CallError::SessionExpired,
            CallError::Silent { execution } => CallError::Silent { execution },
            CallError::Cancelled { execution } => CallError::Cancelled { execution },
            CallError::Closed { execution } => CallError::Closed { execution },
            CallError::Protocol { reason, execution } => CallError::Protocol { reason, execution },
        })
    }
}

impl CallError<Infallible> {
    /// The same failure as that of a method with an error type of its own.
    #[must_use]
    pub fn widen<E>(self) -> CallError<E> {
        match self.split() {
            Ok(failure) => failure,
            Err(never) => match never {},
        }
    }
}

impl<E> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Method(_) => f.write_str("the method returned an error"),
            CallError::NoSuchObject(refusal) => write!(f, "no such object: {refusal}"),
            CallError::NoSuchMethod(refusal) => write!(f, "no such method: {refusal}"),
            CallError::BadArguments(refusal) => {
                write!(f, "the server could not take the arguments: {refusal}")
            }
            CallError::Busy(refusal) => write!(f, "the server is at a limit: {refusal}"),
            CallError::ShuttingDown(refusal) => write!(f, "the server is shutting down: {refusal}"),
            CallError::Expired(refusal) => {
                write!(f, "the deadline passed before the method began: {refusal}")
            }
            CallError::BadAddress(error) => error.fmt(f),
            CallError::TooLarge { size, limit, datagrams } => {
                let hint = if *datagrams { " over udp://; tcp:// carries more" } else { "" };
                write!(f, "the arguments take {size} bytes, and the peer accepts {limit}{hint}")
            }
            CallError::NotEncoded { reason } => {
                write!(f, "the arguments could not be encoded: {reason}")
            }
            CallError::BufferFull => {
                f.write_str("the send buffer is full; wait with `start().await`")
            }
            CallError::BlockingInAsync { execution } => {
                write!(
                    f,
                    "blocking inside an async task would stop the runtime; use `.await`; {execution}"
                )
            }
            CallError::Unreachable { peer, .. } => {
                write!(f, "no connection to {peer}, nothing was sent")
            }
            CallError::NotForBroadcast { method } => {
                write!(f, "`{method}` promises too much for a broadcast, which is for maybe and at_least_once")
            }
            CallError::NoStore => f.write_str(
                "an exactly-once call needs a store on this node; give it one with `Node::builder().store(…)`",
            ),
            CallError::NotDurable { method } => {
                write!(f, "`{method}` is not an exactly-once method: it has no key and cannot be enqueued")
            }
            CallError::CallInsideTransaction => f.write_str(
                "a handler of an exactly-once method makes no remote calls; enqueue an exactly-once call in its \
                 transaction, `.enqueue(&tx)`",
            ),
            CallError::KeyConflict { key } => {
                write!(f, "the key `{key}` belongs to a call of another method or with other arguments")
            }
            CallError::JournalFull => f.write_str(
                "the store holds as many saved calls as its limits allow; take or forget what is finished",
            ),
            CallError::Store { reason } => write!(f, "the store failed: {reason}"),
            CallError::Deferred { waited, ticket } => {
                write!(f, "no answer within {waited:?}; call {ticket} is saved and goes on")
            }
            CallError::Parked { reason } => {
                write!(f, "it may have run, and is not sent again: {reason}")
            }
            CallError::Fenced { reason } => write!(f, "it may have run: {reason}"),
            CallError::RolledBack { reason } => {
                write!(f, "the method failed each time and was rolled back: {reason}")
            }
            CallError::Panicked { reason } => write!(f, "the method panicked: {reason}"),
            CallError::FailedWithin { reason } => {
                write!(f, "the method ran and failed within: {reason}")
            }
            CallError::BadReply { reason } => {
                write!(f, "the method ran, but its reply is lost: {reason}")
            }
            CallError::DeadlineExceeded { waited, execution, started } => {
                write!(f, "no answer within {waited:?}; {execution}")?;
                if *started { f.write_str(", the server had begun") } else { Ok(()) }
            }
            CallError::Link { peer, execution, .. } => {
                write!(f, "the link to {peer} failed; {execution}")
            }
            CallError::ServerRestarted => f.write_str(
                "the server was restarted while the call was in flight; it may have run",
            ),
            CallError::SessionExpired => {
                f.write_str("the server gave up the session; the call may have run")
            }
            CallError::Silent { execution } => {
                write!(f, "the call to the group was over before this member had answered; {execution}")
            }
            CallError::Cancelled { execution } => write!(f, "the call was cancelled; {execution}"),
            CallError::Closed { execution } => write!(f, "this node was shut down; {execution}"),
            CallError::Protocol { reason, execution } => {
                write!(f, "the peer broke the protocol ({reason}); {execution}")
            }
        }
    }
}

impl<E: Error + 'static> Error for CallError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            CallError::Method(error) => Some(error),
            CallError::Unreachable { source, .. } | CallError::Link { source, .. } => {
                Some(&**source)
            }
            _ => None,
        }
    }
}

impl<E: MethodError> From<E> for CallError<E> {
    fn from(error: E) -> CallError<E> {
        CallError::Method(error)
    }
}

impl<E: MethodError> From<CallError<Infallible>> for CallError<E> {
    fn from(failure: CallError<Infallible>) -> CallError<E> {
        failure.widen()
    }
}

impl From<AddressError> for CallError {
    fn from(error: AddressError) -> CallError {
        CallError::BadAddress(error)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)?;
        if self.execution == Execution::NotExecuted {
            Ok(())
        } else {
            write!(f, "; {}", self.execution)
        }
    }
}
