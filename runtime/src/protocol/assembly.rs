//! Puts the fragments of large messages together again, for one link.
//!
//! Memory grows with the bytes that came, never by the total that a peer declares; bytes and messages are bounded.
//! Dies with its link: a message that a link did not bring to its end was never received.

use std::collections::HashMap;

use crate::id::Seq;
use crate::time::Time;
use crate::wire::frame::{FRAGMENT, Fragment, Part};

/// The partly received messages of one link.
pub(crate) struct Assembly {
    messages: HashMap<Seq, Message>,
    bytes: usize,
    limits: AssemblyLimits,
}

/// Bounds of an [`Assembly`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct AssemblyLimits {
    /// Bytes of one message.
    pub(crate) message: usize,
    /// Bytes of all unfinished messages.
    pub(crate) bytes: usize,
    /// Unfinished messages.
    pub(crate) messages: usize,
}

struct Message {
    bytes: Vec<u8>,
    total: usize,
    progress: Time,
    /// Refused; what is still on its way is dropped as it comes.
    refused: bool,
}

/// What a fragment led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Assembled {
    /// More is to come.
    Unfinished,
    /// The message, type byte first.
    Whole(Vec<u8>),
    /// The message is over a limit and is dropped; told once, at its first fragment.
    Refused(Excess),
    /// The fragment does not fit the ones before: the peer broke the protocol.
    Violation(&'static str),
}

/// Why a message is not taken.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Excess {
    /// It is larger than any message may be.
    Message,
    /// There is no room for it now.
    Room,
}

impl Assembly {
    /// With nothing received.
    pub(crate) fn new(limits: AssemblyLimits) -> Assembly {
        Assembly { messages: HashMap::new(), bytes: 0, limits }
    }

    /// Takes the next fragment of a message.
    pub(crate) fn accept(&mut self, now: Time, fragment: &Fragment<'_>) -> Assembled {
        self.accept_if(true, now, fragment)
    }

    /// As [`accept`](Self::accept), but where there is no `room`, no further message begins.
    pub(crate) fn accept_if(
        &mut self,
        room: bool,
        now: Time,
        fragment: &Fragment<'_>,
    ) -> Assembled {
        if fragment.bytes.len() > FRAGMENT + MAX_HEAD {
            return Assembled::Violation("a fragment is too long");
        }
        match fragment.part {
            Part::First { total } => self.first(now, fragment, total, room),
            Part::Abort => match self.take(fragment.seq) {
                Some(_) => Assembled::Unfinished,
                None => Assembled::Violation("a fragment without its beginning"),
            },
            Part::Middle | Part::Last => self.next(now, fragment),
        }
    }

    /// When the unfinished message that has waited longest last went on; never if there is none.
    pub(crate) fn oldest_progress(&self) -> Option<Time> {
        self.messages.values().map(|message| message.progress).min()
    }

    /// Bytes of unfinished messages.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn first(&mut self, now: Time, fragment: &Fragment<'_>, total: u64, room: bool) -> Assembled {
        if self.messages.contains_key(&fragment.seq) {
            return Assembled::Violation("a message begins twice");
        }
        if fragment.bytes.len() as u64 >= total {
            return Assembled::Violation("a fragment that is the whole message");
        }
        if self.messages.len() >= self.limits.messages {
            return Assembled::Violation("too many unfinished messages");
        }
        let size = usize::try_from(total).unwrap_or(usize::MAX);
        let excess = if size > self.limits.message + MAX_HEAD {
            Some(Excess::Message)
        } else if !room || self.bytes + fragment.bytes.len() > self.limits.bytes {
            Some(Excess::Room)
        } else {
            None
        };
        let refused = excess.is_some();
        let bytes = if refused { Vec::new() } else { fragment.bytes.to_vec() };
        self.bytes += bytes.len();
        let message = Message { bytes, total: size, progress: now, refused };
        self.messages.insert(fragment.seq, message);
        excess.map_or(Assembled::Unfinished, Assembled::Refused)
    }

    fn next(&mut self, now: Time, fragment: &Fragment<'_>) -> Assembled {
        let Some(message) = self.messages.get_mut(&fragment.seq) else {
            return Assembled::Violation("a fragment without its beginning");
        };
        let last = fragment.part == Part::Last;
        message.progress = now;
        if message.refused {
            if last {
                self.take(fragment.seq);
            }
            return Assembled::Unfinished;
        }
        let size = message.bytes.len() + fragment.bytes.len();
        if size > message.total || (size == message.total) != last {
            return Assembled::Violation("fragments that do not add up to their message");
        }
        if self.bytes + fragment.bytes.len() > self.limits.bytes {
            return Assembled::Violation("more unfinished bytes than were allowed");
        }
        message.bytes.extend_from_slice(fragment.bytes);
        self.bytes += fragment.bytes.len();
        match last {
            true => self.take(fragment.seq).map_or(Assembled::Unfinished, Assembled::Whole),
            false => Assembled::Unfinished,
        }
    }

    fn take(&mut self, seq: Seq) -> Option<Vec<u8>> {
        let message = self.messages.remove(&seq)?;
        self.bytes -= message.bytes.len();
        Some(message.bytes)
    }
}

/// Bytes of type and header before the arguments of a message.
pub(crate) const MAX_HEAD: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: AssemblyLimits = AssemblyLimits { message: 1000, bytes: 1500, messages: 3 };

    fn accept(assembly: &mut Assembly, seq: Seq, part: Part, length: usize) -> Assembled {
        assembly.accept(Time::ZERO, &Fragment { seq, part, bytes: &vec![seq as u8; length] })
    }

    #[test]
    fn interleaved_messages_come_together() {
        let mut assembly = Assembly::new(LIMITS);
        for seq in [1, 2] {
            accept(&mut assembly, seq, Part::First { total: 30 }, 10);
        }
        for seq in [2, 1] {
            assert_eq!(accept(&mut assembly, seq, Part::Middle, 10), Assembled::Unfinished);
        }
        let whole = accept(&mut assembly, 1, Part::Last, 10);
        assert_eq!(whole, Assembled::Whole(vec![1; 30]));
        assert_eq!(assembly.bytes(), 20);
    }

    #[test]
    fn a_declared_size_allocates_nothing_and_is_refused_once() {
        let mut assembly = Assembly::new(LIMITS);
        let refused = accept(&mut assembly, 1, Part::First { total: u64::MAX }, 10);
        assert_eq!(refused, Assembled::Refused(Excess::Message));
        assert_eq!(assembly.bytes(), 0);
        assert_eq!(accept(&mut assembly, 1, Part::Middle, 10), Assembled::Unfinished);
        assert_eq!(accept(&mut assembly, 1, Part::Last, 10), Assembled::Unfinished);
        assert_eq!(assembly.oldest_progress(), None);
    }

    #[test]
    fn fragments_that_do_not_fit_are_violations() {
        let violation = |parts: &[(Part, usize)]| {
            let mut assembly = Assembly::new(LIMITS);
            let all = parts.iter().map(|&(part, length)| accept(&mut assembly, 1, part, length));
            matches!(all.last(), Some(Assembled::Violation(_)))
        };
        let first = (Part::First { total: 30 }, 10);
        assert!(violation(&[(Part::Middle, 10)]));
        assert!(violation(&[(Part::Abort, 0)]));
        assert!(violation(&[first, first]));
        assert!(violation(&[first, (Part::Last, 10)]));
        assert!(violation(&[first, (Part::Middle, 20)]));
        assert!(violation(&[first, (Part::Last, 30)]));
        assert!(violation(&[(Part::First { total: 10 }, 10)]));
        assert!(!violation(&[first, (Part::Last, 20)]));
        assert!(!violation(&[first, (Part::Abort, 0)]));
    }

    #[test]
    fn unfinished_bytes_and_messages_are_bounded() {
        let mut assembly = Assembly::new(LIMITS);
        for seq in 1..=3 {
            accept(&mut assembly, seq, Part::First { total: 900 }, 500);
        }
        assert!(assembly.bytes() <= LIMITS.bytes);
        let fourth = accept(&mut assembly, 4, Part::First { total: 900 }, 1);
        assert!(matches!(fourth, Assembled::Violation(_)));
    }
}
