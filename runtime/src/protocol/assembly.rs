//! Puts the fragments of large messages together again, for one link.
//!
//! Memory grows with the bytes that came, never by the total that a peer declares alone; bytes and messages are bounded.
//! Who reads a stream may read what is left of a fragment straight into its message.
//! Dies with its link: a message that a link did not bring to its end was never received.

mod memory;

use std::collections::HashMap;

use bytes::Bytes;

use crate::id::Seq;
use crate::time::Time;
use crate::wire::frame::{FRAGMENT, Fragment, Part};

/// The partly received messages of one link.
pub(crate) struct Assembly {
    messages: HashMap<Seq, Message>,
    bytes: usize,
    /// Capacity of all their memory, in bytes.
    reserved: usize,
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
    /// [`LEAD`] bytes of nothing, then those of the message.
    bytes: Vec<u8>,
    total: usize,
    progress: Time,
    /// Refused; what is still on its way is dropped as it comes.
    refused: bool,
    /// Bytes that are still to come of a fragment that was opened.
    opened: usize,
}

/// What a fragment led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Assembled {
    /// More is to come.
    Unfinished,
    /// The message, type byte first.
    Whole(Bytes),
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
        Assembly { messages: HashMap::new(), bytes: 0, reserved: 0, limits }
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

    /// Takes the beginning of a fragment that will have `size` bytes, if nothing is wrong with it and there is `room`.
    /// The rest is to be appended to its [`space`](Self::space), and then the fragment to be [closed](Self::close).
    /// Else nothing has changed, and [`accept_if`](Self::accept_if) says what is wrong when all of it is there.
    pub(crate) fn open(
        &mut self,
        room: bool,
        now: Time,
        fragment: &Fragment<'_>,
        size: usize,
    ) -> bool {
        if size > FRAGMENT + MAX_HEAD || self.bytes + size > self.limits.bytes {
            return false;
        }
        let (seq, part) = (fragment.seq, fragment.part);
        match part {
            Part::First { total } => {
                let new =
                    !self.messages.contains_key(&seq) && self.messages.len() < self.limits.messages;
                let most = self.limits.message + MAX_HEAD;
                let total = usize::try_from(total).unwrap_or(usize::MAX);
                if !new || !room || total > most || size >= total {
                    return false;
                }
                let message =
                    Message { bytes: Vec::new(), total, progress: now, refused: false, opened: 0 };
                self.messages.insert(seq, message);
            }
            Part::Middle | Part::Last => {
                let Some(message) = self.messages.get(&seq) else { return false };
                let length = message.length() + size;
                let fits =
                    length <= message.total && (length == message.total) == (part == Part::Last);
                if message.refused || !fits {
                    return false;
                }
            }
            Part::Abort => return false,
        }
        let spare = self.limits.bytes.saturating_sub(self.reserved);
        if let Some(message) = self.messages.get_mut(&seq) {
            message.progress = now;
            self.reserved += message.append(fragment.bytes, size, spare);
            message.opened = size - fragment.bytes.len();
            self.bytes += size;
        }
        true
    }

    /// Where the rest of a fragment that was opened goes: to the end, in memory that is there.
    pub(crate) fn space(&mut self, seq: Seq) -> Option<&mut Vec<u8>> {
        self.messages.get_mut(&seq).map(|message| &mut message.bytes)
    }

    /// All bytes of a fragment that was opened are there.
    pub(crate) fn close(&mut self, now: Time, seq: Seq) -> Assembled {
        let Some(message) = self.messages.get_mut(&seq) else { return Assembled::Unfinished };
        message.progress = now;
        message.opened = 0;
        if message.length() < message.total {
            return Assembled::Unfinished;
        }
        self.take(seq).map_or(Assembled::Unfinished, Assembled::Whole)
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
        let mut message =
            Message { bytes: Vec::new(), total: size, progress: now, refused, opened: 0 };
        if !refused {
            let spare = self.limits.bytes.saturating_sub(self.reserved);
            self.reserved += message.append(fragment.bytes, fragment.bytes.len(), spare);
            self.bytes += fragment.bytes.len();
        }
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
        let size = message.length() + fragment.bytes.len();
        if size > message.total || (size == message.total) != last {
            return Assembled::Violation("fragments that do not add up to their message");
        }
        if self.bytes + fragment.bytes.len() > self.limits.bytes {
            return Assembled::Violation("more unfinished bytes than were allowed");
        }
        let spare = self.limits.bytes.saturating_sub(self.reserved);
        self.reserved += message.append(fragment.bytes, fragment.bytes.len(), spare);
        self.bytes += fragment.bytes.len();
        match last {
            true => self.take(fragment.seq).map_or(Assembled::Unfinished, Assembled::Whole),
            false => Assembled::Unfinished,
        }
    }

    fn take(&mut self, seq: Seq) -> Option<Bytes> {
        let message = self.messages.remove(&seq)?;
        self.bytes -= message.length() + message.opened;
        self.reserved -= message.bytes.capacity();
        Some(if message.bytes.is_empty() {
            Bytes::new()
        } else {
            memory::share(message.bytes).slice(LEAD..)
        })
    }
}

impl Message {
    /// Bytes of it that came.
    fn length(&self) -> usize {
        self.bytes.len().saturating_sub(LEAD)
    }

    /// Appends the beginning of `size` bytes, and sees to memory for the rest of them; where more is wanted, for `spare`
    /// bytes beyond at most. Returns by how many bytes its memory grew.
    fn append(&mut self, beginning: &[u8], size: usize, spare: usize) -> usize {
        let before = self.bytes.capacity();
        if self.bytes.is_empty() {
            let whole = LEAD + self.total;
            let room = if self.total - size <= SHORT_END { whole } else { LEAD + size };
            self.bytes =
                memory::take(whole, spare.min(whole.saturating_mul(2))).unwrap_or_default();
            self.bytes.reserve_exact(room);
            self.bytes.resize(LEAD, 0);
        } else if before - self.bytes.len() < size {
            let length = self.length() + size;
            let wanted = length.saturating_mul(GROWTH).min(self.total) - self.length();
            self.bytes.reserve_exact(wanted.min(spare).max(size));
        }
        self.bytes.extend_from_slice(beginning);
        self.bytes.capacity() - before
    }
}

/// Bytes before each message, so that its first bytes are not those of a block of memory: copies between addresses that
/// differ by a few bytes modulo the size of a page, as those of a vector and of the same bytes behind a header do, are
/// many times slower on some processors.
const LEAD: usize = 64;
/// When memory is too small, there is to be room for so many times the bytes that came, if the message is that long.
/// Memory that nothing was written to costs addresses only.
const GROWTH: usize = 16;
/// An end of a message that is no longer than this, in bytes, has its memory with the first fragment.
const SHORT_END: usize = 4 << 10;

/// Bytes of type and header before the arguments of a message.
pub(crate) const MAX_HEAD: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends a message of `total` bytes by fragments of `size`, each opened with so many bytes; gives it, and the most
    /// memory that was taken for each byte that had come.
    fn directly(total: usize, size: usize, opened: usize) -> (Bytes, usize) {
        let limits = AssemblyLimits { message: 4 << 20, bytes: 16 << 20, messages: 3 };
        let mut assembly = Assembly::new(limits);
        let all: Vec<u8> = (0..total).map(|at| (at % 251) as u8).collect();
        let (mut at, mut most) = (0, 0);
        loop {
            let next = (at + size).min(total);
            let part = match (at, next == total) {
                (0, _) => Part::First { total: total as u64 },
                (_, true) => Part::Last,
                _ => Part::Middle,
            };
            let beginning = &all[at..(at + opened).min(next)];
            let fragment = Fragment { seq: 1, part, bytes: beginning };
            assert!(assembly.open(true, Time::ZERO, &fragment, next - at));
            most = most.max(assembly.reserved / next);
            let space = assembly.space(1).expect("it was opened");
            let (before, rest) = (space.capacity(), &all[at + beginning.len()..next]);
            space.extend_from_slice(rest);
            assert_eq!(space.capacity(), before, "there is memory for all of the fragment");
            match assembly.close(Time::ZERO, 1) {
                Assembled::Whole(bytes) => {
                    assert_eq!((assembly.bytes(), assembly.reserved), (0, 0));
                    assert_eq!(bytes, all);
                    return (bytes, most);
                }
                other => assert_eq!(other, Assembled::Unfinished),
            }
            at = next;
        }
    }

    #[test]
    fn fragments_that_come_straight_into_their_message_make_it_whole() {
        for total in [FRAGMENT + 1, 2 * FRAGMENT, 1 << 20, (1 << 20) + 17] {
            for opened in [1, 4096 - 16, 4096 + 16, FRAGMENT] {
                directly(total, FRAGMENT, opened);
            }
        }
    }

    #[test]
    fn memory_grows_with_what_came_and_not_with_what_was_announced() {
        // In a thread of its own, which has no memory of other messages.
        let grown = std::thread::spawn(|| directly(3 << 20, FRAGMENT, 100).1).join();
        assert!(grown.expect("no panic") <= GROWTH + 1);
        let limits = AssemblyLimits { message: 4 << 20, bytes: 16 << 20, messages: 3 };
        let mut assembly = Assembly::new(limits);
        let first = Fragment { seq: 1, part: Part::First { total: 3 << 20 }, bytes: &[7; 100] };
        assert!(assembly.open(true, Time::ZERO, &first, FRAGMENT));
        assert!(assembly.bytes() <= FRAGMENT);
    }

    #[test]
    fn what_is_wrong_with_a_fragment_is_found_when_all_of_it_is_there() {
        let mut assembly = Assembly::new(LIMITS);
        let wrong = [
            (Part::Middle, 10),
            (Part::Abort, 0),
            (Part::First { total: 10 }, 10),
            (Part::First { total: 5000 }, 10),
        ];
        for (part, size) in wrong {
            let fragment = Fragment { seq: 1, part, bytes: &[7] };
            assert!(!assembly.open(true, Time::ZERO, &fragment, size));
        }
        let first = Fragment { seq: 1, part: Part::First { total: 30 }, bytes: &[7] };
        assert!(!assembly.open(false, Time::ZERO, &first, 10), "there is no room");
        assert_eq!((assembly.bytes(), assembly.reserved, assembly.messages.len()), (0, 0, 0));
        assert!(assembly.open(true, Time::ZERO, &first, 10));
        assert!(!assembly.open(true, Time::ZERO, &first, 10), "it begins twice");
    }

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
        assert_eq!(whole, Assembled::Whole(vec![1; 30].into()));
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
