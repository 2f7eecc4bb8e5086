//! What a method promises when things fail, and what a caller knows afterwards.

use std::fmt;

/// What a method promises about how often it runs when messages are lost, repeated or cut off, and
/// when a side crashes.
///
/// Declared per trait and per method: `#[remote(semantics = "at_most_once")]`, which is the
/// default. Ordered from the weakest to the strongest promise; a server that promises less than its
/// client expects is refused with
/// [`CallError::NoSuchMethod`](crate::CallError::NoSuchMethod). So is one that promises exactly once
/// where its client expects less, since such calls are made in another way.
///
/// How often the method runs, and what the caller is told: the result, or an error with this
/// [`Execution`]:
///
/// | what happens | maybe | at_least_once | at_most_once |
/// |---|---|---|---|
/// | nothing goes wrong | once; result | once; result | once; result |
/// | the request is lost | never; Unknown | once; result | once; result |
/// | the reply is lost | once; Unknown | twice; result | once; result |
/// | the request arrives twice | once; result | twice; result | once; result |
/// | the server restarts in mid-call | once; Unknown | twice; result | once; Unknown |
/// | the deadline passes in mid-call | once; Unknown | once; Unknown | once; Unknown |
/// | the caller drops the call in mid-call | once; nothing | once; nothing | once; nothing |
/// | no connection until the deadline | never; NotExecuted | never; NotExecuted | never; NotExecuted |
///
/// Each cell is one run of a test over real sockets. *Twice* stands for as often as it takes: once
/// more for each further loss. Under at-least-once a copy of the request that was delayed on its
/// way may run even after the caller was told.
///
/// Under exactly_once, with the feature `sqlite`, the table has one line: whatever happens, the method takes effect once,
/// and its caller gets the result, or [`CallError::Deferred`](crate::CallError::Deferred) and the result later. The page
/// of the [crate](crate#exactly-once) says how.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Semantics {
    /// The request is sent once and nothing more: the method runs once or never.
    Maybe,
    /// The request is kept and sent again until a reply comes: after an answer the method ran,
    /// perhaps more than once.
    AtLeastOnce,
    /// As at-least-once, and the server recognises repeats and answers them from saved replies: the
    /// method runs once or never, over any number of re-sends, reconnects and crashes.
    AtMostOnce,
    /// Requests and replies are kept on stable storage on both sides, and a reply is saved in the
    /// transaction of its effect: the effect happens once.
    ExactlyOnce,
}

/// What is known about a call that did not answer normally.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Execution {
    /// The method did not run and never will. The call can be made again without harm.
    NotExecuted,
    /// The method ran (wholly or, if it panicked, in part).
    Executed,
    /// The method may have run, may run later, or never.
    Unknown,
}

impl Semantics {
    /// The word in `#[remote(semantics = "…")]`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Semantics::Maybe => "maybe",
            Semantics::AtLeastOnce => "at_least_once",
            Semantics::AtMostOnce => "at_most_once",
            Semantics::ExactlyOnce => "exactly_once",
        }
    }

    /// The byte that stands for it on the wire.
    pub(crate) const fn to_wire(self) -> u8 {
        match self {
            Semantics::Maybe => 0,
            Semantics::AtLeastOnce => 1,
            Semantics::AtMostOnce => 2,
            Semantics::ExactlyOnce => 3,
        }
    }

    /// What the byte of a peer stands for, if anything.
    pub(crate) const fn from_wire(byte: u8) -> Option<Semantics> {
        match byte {
            0 => Some(Semantics::Maybe),
            1 => Some(Semantics::AtLeastOnce),
            2 => Some(Semantics::AtMostOnce),
            3 => Some(Semantics::ExactlyOnce),
            _ => None,
        }
    }
}

impl fmt::Display for Semantics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Execution::NotExecuted => "it did not run",
            Execution::Executed => "it ran",
            Execution::Unknown => "it may have run",
        })
    }
}
