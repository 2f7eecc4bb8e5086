//! Puts the pieces of large messages together again, for one direction of one link.
//!
//! Pieces come in any order, again, and cut anew; the first writer of a byte wins, and a second that disagrees broke the
//! protocol. Memory grows with the bytes that came: a piece far ahead is kept apart, the hole before it takes nothing.
//! Bytes, messages and holes are bounded. Dies with its link.

mod message;

use std::collections::BTreeMap;
use std::time::Duration;

use self::message::Message;
use crate::protocol::assembly::{Excess, MAX_HEAD};
use crate::protocol::finished::Finished;
use crate::time::Time;
use crate::wire::frame::Piece;

/// A shorter piece is the last of its message, so that a message has not more pieces than bytes that pay for them.
pub(crate) const SMALLEST_PIECE: usize = 64;
/// Holes in the numbers of finished messages that are remembered beside those of unfinished ones. A message of which
/// nothing came in the time of so many others is taken for given up.
const SKIPPED: usize = 1024;
/// A message may be numbered so far ahead of the highest before it.
const MAX_AHEAD: u64 = 1 << 32;

/// The partly received messages of one direction of a link.
pub(crate) struct Pieces {
    unfinished: BTreeMap<u64, Message>,
    /// Of which nothing more is wanted, each number one higher than the message's.
    finished: Finished,
    highest: u64,
    bytes: usize,
    limits: PieceLimits,
}

/// Bounds of [`Pieces`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct PieceLimits {
    /// Bytes of one message, its type and header not counted.
    pub(crate) message: usize,
    /// Bytes of all unfinished messages.
    pub(crate) bytes: usize,
    /// Unfinished messages.
    pub(crate) messages: usize,
}

/// What a piece led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Gathered {
    /// More is to come.
    Unfinished,
    /// The message, type byte first.
    Whole(Vec<u8>),
    /// The message is over a limit and is dropped; told once.
    Refused(Excess),
    /// Nothing new: all of it came before, or nothing more of its message is wanted.
    Repeat,
    /// The piece does not fit the ones before: the peer broke the protocol.
    Violation(&'static str),
}

impl Pieces {
    /// With nothing received.
    pub(crate) fn new(limits: PieceLimits) -> Pieces {
        let (unfinished, finished) = (BTreeMap::new(), Finished::default());
        Pieces { unfinished, finished, highest: 0, bytes: 0, limits }
    }

    /// Takes a piece. Where there is no `room`, no further message begins.
    pub(crate) fn accept(&mut self, now: Time, piece: &Piece<'_>, room: bool) -> Gathered {
        let end = piece.offset.checked_add(piece.bytes.len() as u64);
        let Some(end) = end.filter(|&end| end <= piece.total && !piece.bytes.is_empty()) else {
            return Gathered::Violation("a piece outside of its message");
        };
        if piece.bytes.len() < SMALLEST_PIECE && end != piece.total {
            return Gathered::Violation("a piece is too short");
        }
        if piece.message > self.highest.saturating_add(MAX_AHEAD) || piece.message == u64::MAX {
            return Gathered::Violation("a message is numbered too far ahead");
        }
        self.highest = self.highest.max(piece.message);
        if self.unfinished.contains_key(&piece.message) {
            return self.next(now, piece);
        }
        if self.finished.contains(piece.message + 1) {
            return Gathered::Repeat;
        }
        self.first(now, piece, room)
    }

    /// The rest of a message will not come; says whether part of it had.
    pub(crate) fn abort(&mut self, message: u64) -> bool {
        if message > self.highest.saturating_add(MAX_AHEAD) || message == u64::MAX {
            return false;
        }
        self.highest = self.highest.max(message);
        self.finish(message).is_some()
    }

    /// When [`expire`](Self::expire) with this patience drops something; never if no message is unfinished.
    pub(crate) fn next_expiry(&self, patience: Duration) -> Time {
        let expiries = self.unfinished.values().map(|message| message.expiry(patience));
        expiries.min().unwrap_or(Time::NEVER)
    }

    /// Bytes of unfinished messages.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops the messages that have not gone on for `patience`, or for less if they are sent once; what still comes of them
    /// is a repeat. Whether one of them should have gone on, since what is lost of it is sent again.
    pub(crate) fn expire(&mut self, now: Time, patience: Duration) -> bool {
        let late = |message: &Message| message.expiry(patience) <= now;
        let expired = self.unfinished.iter().filter(|(_, message)| late(message));
        let expired: Vec<(u64, bool)> =
            expired.map(|(&number, message)| (number, !message.is_sent_once())).collect();
        for &(number, _) in &expired {
            self.finish(number);
        }
        expired.iter().any(|&(_, lasting)| lasting)
    }

    fn first(&mut self, now: Time, piece: &Piece<'_>, room: bool) -> Gathered {
        let total = usize::try_from(piece.total).unwrap_or(usize::MAX);
        if total > self.limits.message.saturating_add(MAX_HEAD) {
            self.finish(piece.message);
            return Gathered::Refused(Excess::Message);
        }
        if !room || !self.make_room(piece.bytes.len()) {
            self.finish(piece.message);
            return Gathered::Refused(Excess::Room);
        }
        if piece.bytes.len() == total {
            self.finish(piece.message);
            return Gathered::Whole(piece.bytes.to_vec());
        }
        self.unfinished.insert(piece.message, Message::new(now, piece, total));
        self.next(now, piece)
    }

    /// Makes room for a message with so many bytes at first, if need be in the place of those that are sent once: of the
    /// ones that have not gone on for longest a piece was lost, and they only wait to expire. Whether there is room.
    fn make_room(&mut self, bytes: usize) -> bool {
        while self.unfinished.len() >= self.limits.messages
            || self.bytes + bytes > self.limits.bytes
        {
            let once = self.unfinished.iter().filter(|(_, message)| message.is_sent_once());
            let oldest = once.min_by_key(|(_, message)| message.progress());
            let Some((&number, _)) = oldest else { return false };
            self.finish(number);
        }
        true
    }

    fn next(&mut self, now: Time, piece: &Piece<'_>) -> Gathered {
        let Some(message) = self.unfinished.get_mut(&piece.message) else {
            return Gathered::Repeat;
        };
        if !message.is_of(piece) {
            return Gathered::Violation("pieces of one message that name two");
        }
        // Not beyond the total, which is one that memory can hold.
        let offset = piece.offset as usize;
        // Repeats take nothing, so what is missing is counted only where all of it would not fit.
        if self.bytes + piece.bytes.len() > self.limits.bytes
            && self.bytes + message.missing(offset, piece.bytes.len()) > self.limits.bytes
        {
            self.finish(piece.message);
            return Gathered::Refused(Excess::Room);
        }
        let added = match message.add(now, offset, piece.bytes) {
            Ok(added) => added,
            Err(what) => return Gathered::Violation(what),
        };
        self.bytes += added;
        if message.is_whole() {
            return self.finish(piece.message).map_or(Gathered::Unfinished, Gathered::Whole);
        }
        if added == 0 { Gathered::Repeat } else { Gathered::Unfinished }
    }

    /// Nothing more of this message is wanted; gives what came of it from its beginning.
    fn finish(&mut self, message: u64) -> Option<Vec<u8>> {
        self.finished.insert(message + 1);
        while self.finished.gaps() > self.limits.messages.saturating_add(SKIPPED) {
            self.finished.close_lowest_gap();
        }
        let message = self.unfinished.remove(&message)?;
        self.bytes -= message.bytes();
        Some(message.into_beginning())
    }
}

#[cfg(test)]
mod tests;
