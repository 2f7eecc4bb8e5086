//! Bytes on their way to one connection: small frames in one contiguous buffer, large messages in fragments behind it.
//!
//! The machines write here; whoever owns a stream takes a [`Batch`] at a time. All that was written between two
//! batches leaves in one write. Of large messages a batch carries a few fragments, so that small frames pass between.
//! Who sends datagrams takes whole frames and pieces as they fit (`datagrams.rs`). Holds no socket.

mod datagrams;

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

use datagrams::Datagrams;
pub(crate) use datagrams::PieceOut;

use super::body::Body;
use super::frame::{FRAGMENT, Part, put_fragment_head, put_piece_abort};
use crate::id::Seq;

/// What one link will send; a new link begins with an empty one.
#[derive(Default)]
pub(crate) struct SendBuffer {
    small: Vec<u8>,
    /// Bytes that were ever written to `small`.
    written: u64,
    large: VecDeque<Large>,
    /// The next fragment is one of the message that is nearest to its end, not of the oldest.
    shortest_next: bool,
    /// What datagrams need beside; nothing on a stream.
    datagrams: Option<Box<Datagrams>>,
}

/// A message that travels in fragments or pieces.
struct Large {
    /// The call that it belongs to; 0 if it belongs to none.
    seq: Seq,
    head: Vec<u8>,
    body: Body,
    /// Bytes of the body that batches took; the head goes with the first.
    taken: usize,
    /// What is lost of it is not sent again.
    once: bool,
    /// It left before, whole in one datagram, which may still arrive.
    again: bool,
    /// Its number among the messages of a link of datagrams, once its first piece was taken.
    number: Option<u64>,
}

/// Bytes that one write, or a few, hand to the kernel.
#[derive(Default)]
pub(crate) struct Batch {
    small: Vec<u8>,
    small_sent: usize,
    pieces: VecDeque<Bytes>,
    piece_sent: usize,
    /// Bytes of `small` of all batches that the kernel accepted.
    accepted: u64,
}

/// What [`SendBuffer::abort`] found.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Aborted {
    /// It left whole if it ever came here: nothing of it waits, or only a repeat, which is dropped.
    Gone,
    /// It waited, and part of it may have left: the peer is told that the rest will not come.
    Unfinished,
}

impl SendBuffer {
    /// Where small frames are appended.
    #[inline]
    pub(crate) fn small(&mut self) -> &mut Vec<u8> {
        &mut self.small
    }

    /// Position in the stream of small frames after the last one that was written.
    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.written + self.small.len() as u64
    }

    /// Queues a message over [`whole`](Self::whole) bytes: type and header in `head`, then `body`. Datagrams do not send
    /// again what is lost of it if it is sent `once`.
    pub(crate) fn push_large(
        &mut self,
        seq: Seq,
        head: Vec<u8>,
        body: impl Into<Body>,
        once: bool,
    ) {
        self.large.push_back(Large { once, ..Large::new(seq, head, body.into()) });
    }

    /// The largest body in bytes that travels in a frame of its own; a larger one is to be pushed as a message.
    #[inline]
    pub(crate) fn whole(&self) -> usize {
        self.datagrams.as_ref().map_or(FRAGMENT, |datagrams| datagrams.whole())
    }

    /// Whether a large message of this call waits here.
    pub(crate) fn has_large(&self, seq: Seq) -> bool {
        self.large.iter().any(|large| large.seq == seq)
    }

    /// Whether a fragment of this message has not been taken by a batch: the peer cannot have the whole of it.
    pub(crate) fn has_unsent(&self, seq: Seq) -> bool {
        self.large.iter().any(|large| large.seq == seq && !large.again)
    }

    /// Drops what is left of a large message.
    pub(crate) fn abort(&mut self, seq: Seq) -> Aborted {
        let Some(index) = self.large.iter().position(|large| large.seq == seq) else {
            return Aborted::Gone;
        };
        let Some(large) = self.large.remove(index) else { return Aborted::Gone };
        match large.number {
            Some(number) => put_piece_abort(number, seq, &mut self.small),
            None if large.taken > 0 => put_fragment_head(seq, Part::Abort, 0, &mut self.small),
            None => {}
        }
        if large.again { Aborted::Gone } else { Aborted::Unfinished }
    }

    /// Drops what is left of the large messages next in turn that are of no use any more, as [`abort`](Self::abort) does.
    pub(crate) fn abort_unwanted(&mut self, is_wanted: impl Fn(Seq) -> bool) {
        let unwanted = |large: &&Large| !is_wanted(large.seq);
        while let Some(large) = self.large.iter().take(UNFINISHED).find(unwanted) {
            self.abort(large.seq);
        }
    }

    /// Bytes of small frames that wait here. Large messages are bounded by the budgets of requests and replies, and do
    /// not count: small frames are to pass between their fragments, not to wait for their ends.
    #[inline]
    pub(crate) fn pending(&self) -> usize {
        match &self.datagrams {
            None => self.small.len(),
            Some(datagrams) => self.small.len() - datagrams.taken(),
        }
    }

    /// Whether nothing waits here.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.pending() == 0 && self.large.is_empty()
    }

    /// Moves what may leave next into `batch`, which must be empty.
    #[inline]
    pub(crate) fn fill(&mut self, batch: &mut Batch) {
        debug_assert!(batch.is_empty());
        batch.small.clear();
        batch.small_sent = 0;
        std::mem::swap(&mut self.small, &mut batch.small);
        self.written += batch.small.len() as u64;
        if !self.large.is_empty() {
            self.fill_fragment(batch);
        }
    }

    /// By turns one fragment of the oldest message, so that it goes on, and one of whichever of the oldest is nearest to
    /// its end: several that take turns all end late, and touch more memory at a time than a cache holds. A younger one
    /// begins when one of them has ended, so that the peer never has more than that many unfinished.
    fn fill_fragment(&mut self, batch: &mut Batch) {
        let oldest = self.large.iter().take(UNFINISHED).enumerate();
        let shortest = oldest.min_by_key(|(_, large)| large.body.len() - large.taken);
        let Some((shortest, _)) = shortest else { return };
        let index = if self.shortest_next { shortest } else { 0 };
        self.shortest_next = !self.shortest_next;
        let large = &mut self.large[index];
        large.next_fragment(&mut batch.pieces);
        if large.taken == large.body.len() {
            self.large.remove(index);
        }
    }
}

impl Large {
    fn new(seq: Seq, head: Vec<u8>, body: Body) -> Large {
        Large { seq, head, body, taken: 0, once: false, again: false, number: None }
    }

    fn next_fragment(&mut self, pieces: &mut VecDeque<Bytes>) {
        let size = (self.body.len() - self.taken).min(CUT);
        let first = self.taken == 0;
        let last = self.taken + size == self.body.len();
        // A message is longer than one fragment, so that none is both first and last.
        let (part, lead) = if first {
            let total = (self.head.len() + self.body.len()) as u64;
            (Part::First { total }, self.head.len())
        } else {
            (if last { Part::Last } else { Part::Middle }, 0)
        };
        let mut head = Vec::with_capacity(self.head.len() + 32);
        put_fragment_head(self.seq, part, lead + size, &mut head);
        if first {
            head.append(&mut self.head);
        }
        pieces.push_back(Bytes::from(head));
        self.body.share(self.taken..self.taken + size, pieces);
        self.taken += size;
    }
}

impl Batch {
    /// Whether all of it was accepted.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.small_sent == self.small.len() && self.pieces.is_empty()
    }

    /// The only slice, if there is one.
    #[inline]
    pub(crate) fn single(&self) -> Option<&[u8]> {
        self.pieces.is_empty().then(|| &self.small[self.small_sent..])
    }

    /// The next slices in order; returns how many were filled in.
    pub(crate) fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let small = &self.small[self.small_sent..];
        let pieces =
            self.pieces.iter().enumerate().map(|(index, piece)| {
                if index == 0 { &piece[self.piece_sent..] } else { &piece[..] }
            });
        let all = std::iter::once(small).filter(|small| !small.is_empty()).chain(pieces);
        let mut count = 0;
        for (slot, slice) in into.iter_mut().zip(all) {
            *slot = IoSlice::new(slice);
            count += 1;
        }
        count
    }

    /// The kernel accepted this many bytes more.
    pub(crate) fn advance(&mut self, bytes: usize) {
        let small = bytes.min(self.small.len() - self.small_sent);
        self.small_sent += small;
        self.accepted += small as u64;
        let mut rest = bytes - small;
        while let Some(piece) = self.pieces.front() {
            let left = piece.len() - self.piece_sent;
            if rest < left {
                self.piece_sent += rest;
                return;
            }
            rest -= left;
            self.piece_sent = 0;
            self.pieces.pop_front();
        }
    }

    /// How far the kernel accepted the stream of small frames, as [`SendBuffer::position`] counts.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Gives back memory that a burst needed.
    pub(crate) fn shrink(&mut self) {
        if self.small.capacity() > KEPT_CAPACITY && self.is_empty() {
            self.small = Vec::new();
            self.small_sent = 0;
        }
    }
}

/// Large messages that a peer has unfinished at a time.
pub(crate) const UNFINISHED: usize = 4;
/// Bytes of a message in a fragment, at most [`FRAGMENT`]. A batch has one fragment, so that what is called meanwhile waits
/// for no more, beside what the kernel holds; its buffer between programs of one machine holds two.
pub(crate) const CUT: usize = 48 << 10;
/// Capacity in bytes that an idle connection keeps.
const KEPT_CAPACITY: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::{Frame, Kind, decode, frame_length, put_seq};

    fn drain(buffer: &mut SendBuffer, step: usize) -> Vec<u8> {
        let (mut bytes, mut batch) = (Vec::new(), Batch::default());
        while !buffer.is_empty() || !batch.is_empty() {
            if batch.is_empty() {
                buffer.fill(&mut batch);
            }
            let mut slices = [IoSlice::new(&[]); 4];
            let count = batch.slices(&mut slices);
            let offered: Vec<u8> = slices[..count].iter().flat_map(|s| s.iter().copied()).collect();
            let accepted = offered.len().min(step);
            bytes.extend_from_slice(&offered[..accepted]);
            batch.advance(accepted);
        }
        bytes
    }

    #[test]
    fn small_frames_pass_between_the_fragments_of_large_ones() {
        let mut buffer = SendBuffer::default();
        let body = Bytes::from(vec![7; 3 * FRAGMENT]);
        buffer.push_large(5, vec![1, 2, 3], body, false);
        let mut batch = Batch::default();
        buffer.fill(&mut batch);
        put_seq(Kind::Resolve, 9, buffer.small());
        batch.advance(usize::MAX);
        buffer.fill(&mut batch);
        assert!(!batch.single().is_some_and(|_| true));
        let mut slices = [IoSlice::new(&[]); 4];
        batch.slices(&mut slices);
        let (_, used) = frame_length(&slices[0]).unwrap().unwrap();
        assert_eq!(decode(&slices[0][used..]), Ok(Frame::Resolve { seq: 9 }));
    }

    #[test]
    fn a_large_message_arrives_whole_however_it_is_written() {
        for step in [1000, CUT + 1, usize::MAX] {
            let mut buffer = SendBuffer::default();
            let body: Vec<u8> = (0..CUT * 2 + 77).map(|i| i as u8).collect();
            buffer.push_large(5, vec![1, 2, 3], Bytes::from(body.clone()), false);
            assert!(buffer.has_unsent(5));
            let bytes = drain(&mut buffer, step);
            assert!(!buffer.has_unsent(5));
            let (mut rest, mut message, mut parts) = (&bytes[..], Vec::new(), Vec::new());
            while let Some((length, used)) = frame_length(rest).unwrap() {
                let Ok(Frame::Fragment(fragment)) = decode(&rest[used..used + length]) else {
                    panic!("not a fragment")
                };
                parts.push(fragment.part);
                message.extend_from_slice(fragment.bytes);
                rest = &rest[used + length..];
            }
            let total = message.len() as u64;
            assert_eq!(parts, [Part::First { total }, Part::Middle, Part::Last]);
            assert_eq!(message[..3], [1, 2, 3]);
            assert_eq!(message[3..], body);
        }
    }

    #[test]
    fn a_peer_has_few_messages_unfinished_at_a_time() {
        let mut buffer = SendBuffer::default();
        for seq in 1..=20 {
            buffer.push_large(seq, vec![1], Bytes::from(vec![7; (2 + seq as usize) * CUT]), false);
        }
        let bytes = drain(&mut buffer, usize::MAX);
        let (mut rest, mut unfinished) = (&bytes[..], Vec::new());
        while let Some((length, used)) = frame_length(rest).unwrap() {
            let Ok(Frame::Fragment(fragment)) = decode(&rest[used..used + length]) else {
                panic!("not a fragment")
            };
            match fragment.part {
                Part::First { .. } => unfinished.push(fragment.seq),
                Part::Last => unfinished.retain(|&seq| seq != fragment.seq),
                _ => {}
            }
            assert!(unfinished.len() <= UNFINISHED);
            rest = &rest[used + length..];
        }
        assert!(unfinished.is_empty());
    }

    #[test]
    fn a_short_message_ends_before_a_long_one_and_the_long_one_goes_on() {
        let mut buffer = SendBuffer::default();
        let message = |fragments: usize| Bytes::from(vec![7; fragments * CUT]);
        buffer.push_large(1, vec![1], message(100), false);
        buffer.push_large(2, vec![1], message(5), false);
        buffer.push_large(3, vec![1], message(3), false);
        let mut seqs = Vec::new();
        for _ in 0..16 {
            let mut batch = Batch::default();
            buffer.fill(&mut batch);
            let mut slices = [IoSlice::new(&[]); 4];
            assert_eq!(batch.slices(&mut slices), 2, "one fragment's head and bytes");
            let (_, used) = frame_length(&slices[0]).unwrap().unwrap();
            let begun = [&slices[0][used..], &[0]].concat();
            let Ok(Frame::Fragment(fragment)) = decode(&begun) else { panic!("not a fragment") };
            seqs.push(fragment.seq);
        }
        assert_eq!(seqs, [1, 3, 1, 3, 1, 3, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2]);
    }

    #[test]
    fn what_the_kernel_took_of_small_frames_is_counted_to_the_byte() {
        let mut buffer = SendBuffer::default();
        put_seq(Kind::Resolve, 9, buffer.small());
        let first = buffer.position();
        put_seq(Kind::Resolve, 300, buffer.small());
        let second = buffer.position();
        let mut batch = Batch::default();
        buffer.fill(&mut batch);
        batch.advance(first as usize);
        assert!(batch.accepted() >= first && batch.accepted() < second);
        batch.advance((second - first) as usize);
        assert_eq!(batch.accepted(), second);
        assert!(batch.is_empty());
    }

    #[test]
    fn an_aborted_message_tells_the_peer_if_part_of_it_left() {
        let mut buffer = SendBuffer::default();
        buffer.push_large(5, vec![1], Bytes::from(vec![0; 2 * CUT]), false);
        assert_eq!(buffer.abort(5), Aborted::Unfinished);
        assert!(buffer.is_empty());
        buffer.push_large(6, vec![1], Bytes::from(vec![0; 2 * CUT]), false);
        let mut batch = Batch::default();
        buffer.fill(&mut batch);
        assert_eq!(buffer.abort(6), Aborted::Unfinished);
        assert_eq!(buffer.abort(6), Aborted::Gone);
        assert_eq!(buffer.pending(), 3);
    }

    #[test]
    fn a_frame_that_left_whole_and_is_sent_again_in_pieces_is_not_unsent() {
        let mut buffer = SendBuffer::for_datagrams(400);
        let mut frame = Vec::new();
        put_seq(Kind::Resolve, 5, &mut frame);
        frame.resize(1000, 0);
        buffer.push_again(&frame[1..]);
        assert!(buffer.has_large(5) && !buffer.has_unsent(5));
        assert!(buffer.next_piece(400).is_some());
        assert_eq!(buffer.abort(5), Aborted::Gone);
        assert!(!buffer.has_large(5));
        assert!(buffer.pending() > 0, "the peer is told that the rest will not come");
    }
}
