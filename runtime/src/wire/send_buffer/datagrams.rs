//! What datagrams take from a [`SendBuffer`]: whole frames as many as fit, and pieces of large messages.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use super::{Large, SendBuffer, UNFINISHED};
use crate::wire::frame::{PieceHead, call_of, first_frame, piece_room, put_piece_head};

/// What a buffer keeps beside, when its frames leave in datagrams.
pub(super) struct Datagrams {
    /// Largest datagram's room for frames, in bytes.
    room: usize,
    /// Bytes of `small` that were taken.
    taken: usize,
    /// Where in the stream of small frames those begin that are sent once and never again.
    once: VecDeque<u64>,
    /// Messages that were begun.
    messages: u64,
    /// Which of the oldest messages has the next turn.
    turn: usize,
}

/// A part of a large message, on its way.
#[derive(Debug, Clone)]
pub(crate) struct PieceOut {
    pub(crate) head: PieceHead,
    pub(crate) bytes: Bytes,
}

impl Datagrams {
    pub(super) fn whole(&self) -> usize {
        self.room.saturating_sub(MOST_HEAD)
    }

    pub(super) fn taken(&self) -> usize {
        self.taken
    }
}

impl SendBuffer {
    /// One whose frames leave in datagrams with so much room for frames, in bytes.
    pub(crate) fn for_datagrams(room: usize) -> SendBuffer {
        let datagrams = Datagrams { room, taken: 0, once: VecDeque::new(), messages: 0, turn: 0 };
        SendBuffer { datagrams: Some(Box::new(datagrams)), ..SendBuffer::default() }
    }

    /// From now on datagrams have so much room for frames.
    pub(crate) fn set_room(&mut self, room: usize) {
        if let Some(datagrams) = &mut self.datagrams {
            datagrams.room = room;
        }
    }

    /// The small frame that is written next is sent once and never again, where the network may lose it.
    #[inline]
    pub(crate) fn mark_once(&mut self) {
        let start = self.position();
        if let Some(datagrams) = &mut self.datagrams {
            datagrams.once.push_back(start);
        }
    }

    /// How much of the stream of small frames was taken, as [`position`](Self::position) counts.
    pub(crate) fn taken_position(&self) -> u64 {
        self.written + self.datagrams.as_ref().map_or(0, |datagrams| datagrams.taken as u64)
    }

    /// The next small frames, their lengths included, as many as fit `room` bytes and have the same fate when they are
    /// lost; and whether they are sent once. Nothing if none waits or the next one does not fit.
    pub(crate) fn next_frames(&mut self, room: usize) -> Option<(&[u8], bool)> {
        self.split_oversized();
        let datagrams = self.datagrams.as_mut()?;
        let start = datagrams.taken;
        let position = self.written + start as u64;
        let once = datagrams.once.front() == Some(&position);
        let until = match datagrams.once.front() {
            Some(&next) if !once => (next - self.written) as usize,
            _ => self.small.len(),
        };
        let mut end = start;
        while end < until
            && let Some((_, length)) = first_frame(&self.small[end..until])
            && end + length - start <= room
        {
            end += length;
            if once {
                break;
            }
        }
        if end == start {
            return None;
        }
        if once {
            datagrams.once.pop_front();
        }
        datagrams.taken = end;
        Some((&self.small[start..end], once))
    }

    /// A frame that fits no datagram leaves in pieces.
    fn split_oversized(&mut self) {
        let Some(datagrams) = &mut self.datagrams else { return };
        let rest = &self.small[datagrams.taken..];
        let long = first_frame(rest).filter(|&(_, length)| length > datagrams.room);
        let Some((frame, length)) = long else { return };
        let position = self.written + datagrams.taken as u64;
        let once = datagrams.once.pop_front_if(|next| *next == position).is_some();
        datagrams.taken += length;
        let message = Large::of_frame(frame);
        self.large.push_front(Large { once, ..message });
        self.split_oversized();
    }

    /// A frame (type and body) that left whole leaves once more, in pieces, before others that wait.
    pub(crate) fn push_again(&mut self, frame: &[u8]) {
        let message = Large::of_frame(frame);
        self.large.push_front(Large { again: true, ..message });
    }

    /// The next piece of a large message whose frame takes at most `room` bytes. The oldest messages take turns.
    pub(crate) fn next_piece(&mut self, room: usize) -> Option<PieceOut> {
        if self.large.is_empty() {
            return None;
        }
        let datagrams = self.datagrams.as_mut()?;
        let index = datagrams.turn % self.large.len().min(UNFINISHED);
        let large = &mut self.large[index];
        let number = large.number.unwrap_or(datagrams.messages);
        let piece = large.next_piece(number, room)?;
        if large.number.is_none() {
            large.number = Some(number);
            datagrams.messages += 1;
        }
        datagrams.turn = datagrams.turn.wrapping_add(1);
        if large.taken == large.body.len() {
            self.large.remove(index);
        }
        Some(piece)
    }

    /// Forgets what was taken.
    pub(crate) fn compact(&mut self) {
        let Some(datagrams) = &mut self.datagrams else { return };
        if datagrams.taken == self.small.len() || datagrams.taken >= KEPT_TAKEN {
            self.small.drain(..datagrams.taken);
            self.written += datagrams.taken as u64;
            datagrams.taken = 0;
            if self.small.is_empty() && self.small.capacity() > KEPT_TAKEN {
                self.small = Vec::new();
            }
        }
    }
}

impl Large {
    fn of_frame(frame: &[u8]) -> Large {
        let seq = call_of(frame).map_or(0, |(_, seq)| seq);
        Large::new(seq, Vec::new(), Bytes::copy_from_slice(frame).into())
    }

    fn next_piece(&mut self, message: u64, room: usize) -> Option<PieceOut> {
        let total = (self.head.len() + self.body.len()) as u64;
        let lead = if self.taken == 0 { self.head.len() } else { 0 };
        let offset = if self.taken == 0 { 0 } else { (self.head.len() + self.taken) as u64 };
        let head = PieceHead { message, seq: self.seq, offset, total, once: self.once };
        let left = self.body.len() - self.taken;
        let size = left.min(piece_room(&head, room).checked_sub(lead)?);
        if size == 0 || (lead + size < LEAST_PIECE && size < left) {
            return None;
        }
        let part = self.taken..self.taken + size;
        let bytes = if lead == 0 {
            self.body.slice(part)
        } else {
            let mut bytes = self.head.clone();
            self.body.copy(part, &mut bytes);
            bytes.into()
        };
        self.taken += size;
        Some(PieceOut { head, bytes })
    }
}

impl PieceOut {
    /// Appends the frame.
    pub(crate) fn put(&self, into: &mut Vec<u8>) {
        put_piece_head(&self.head, self.bytes.len(), into);
        into.extend_from_slice(&self.bytes);
    }

    /// The part of this piece whose frame takes at most `room` bytes; the rest stays.
    pub(crate) fn split(&mut self, room: usize) -> Option<PieceOut> {
        let most = piece_room(&self.head, room);
        let whole = self.bytes.len();
        let size = if whole <= most {
            whole
        } else {
            // Neither part may be shorter than a piece must be.
            most.min(whole - LEAST_PIECE.min(whole))
        };
        if size == 0 || (size < whole && size < LEAST_PIECE) {
            return None;
        }
        let first = PieceOut { head: self.head, bytes: self.bytes.slice(..size) };
        self.bytes.advance(size);
        self.head.offset += size as u64;
        Some(first)
    }
}

/// Shortest piece in bytes that is not the last of its message: shorter ones cost the receiver more than they carry.
pub(crate) const LEAST_PIECE: usize = 64;
/// Most that length, type and header of a CALL or REPLY take.
const MOST_HEAD: usize = 40;
/// Taken bytes that stay in the buffer until it is emptied.
const KEPT_TAKEN: usize = 64 << 10;
