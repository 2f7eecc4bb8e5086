//! The bytes that came of one message, in whatever order.
//!
//! Pieces in order are appended to one vector. One that comes early waits in a chunk of its own; chunks that touch
//! become one, so that there are as many as there are holes.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::id::Seq;
use crate::time::Time;
use crate::wire::frame::Piece;

/// Chunks that a message may wait in, whatever its size.
const CHUNKS: usize = 1024;
/// One more for each of so many bytes of its total. A sender that fills datagrams of the smallest size cannot leave so
/// many holes, since between two of them lies at least one piece.
const BYTES_PER_CHUNK: usize = 512;
/// How long a message that is sent once may stand still: nothing but pieces on their way can bring it on.
const ONCE_PATIENCE: Duration = Duration::from_secs(2);

/// One unfinished message.
pub(super) struct Message {
    total: usize,
    seq: Seq,
    /// What is lost of it is not sent again.
    once: bool,
    /// All bytes up to the first hole.
    beginning: Vec<u8>,
    /// Bytes behind the first hole, by their offset; neither overlapping nor adjacent, to each other or the beginning.
    chunks: BTreeMap<usize, VecDeque<u8>>,
    bytes: usize,
    progress: Time,
}

impl Message {
    /// Of which nothing has come.
    pub(super) fn new(now: Time, piece: &Piece<'_>, total: usize) -> Message {
        let (seq, once) = (piece.seq, piece.once);
        let (beginning, chunks) = (Vec::new(), BTreeMap::new());
        Message { seq, once, total, beginning, chunks, bytes: 0, progress: now }
    }

    /// Whether what is lost of it is not sent again.
    pub(super) fn is_sent_once(&self) -> bool {
        self.once
    }

    /// When something new of it came last.
    pub(super) fn progress(&self) -> Time {
        self.progress
    }

    /// When it has not gone on for `patience`, or for less if it is sent once.
    pub(super) fn expiry(&self, patience: Duration) -> Time {
        let patience = if self.once { patience.min(ONCE_PATIENCE) } else { patience };
        self.progress + patience
    }

    /// Bytes that came.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether `piece` says of the message what the first one said.
    pub(super) fn is_of(&self, piece: &Piece<'_>) -> bool {
        self.seq == piece.seq && self.once == piece.once && self.total as u64 == piece.total
    }

    /// Whether nothing is missing.
    pub(super) fn is_whole(&self) -> bool {
        self.beginning.len() == self.total
    }

    /// All bytes up to the first hole.
    pub(super) fn into_beginning(self) -> Vec<u8> {
        self.beginning
    }

    /// How many of `length` bytes from `offset` on have not come.
    pub(super) fn missing(&self, offset: usize, length: usize) -> usize {
        let end = offset + length;
        let chunks = self.chunks.range(..end).rev();
        let chunks = chunks.map(|(&start, chunk)| (start, start + chunk.len()));
        let came: usize = chunks
            .take_while(|&(_, chunk_end)| chunk_end > offset)
            .map(|(start, chunk_end)| chunk_end.min(end) - start.max(offset))
            .sum();
        length - came - self.beginning.len().min(end).saturating_sub(offset)
    }

    /// Adds bytes of the message; says how many of them are new.
    ///
    /// # Errors
    /// If bytes differ from those that came before, or there are too many holes.
    pub(super) fn add(
        &mut self,
        now: Time,
        offset: usize,
        bytes: &[u8],
    ) -> Result<usize, &'static str> {
        let before = self.bytes;
        if offset == self.beginning.len() && self.chunks.is_empty() {
            self.beginning.extend_from_slice(bytes);
            self.bytes += bytes.len();
        } else {
            self.fill(offset, bytes)?;
        }
        let added = self.bytes - before;
        if added > 0 {
            self.progress = now;
        }
        Ok(added)
    }

    #[cfg(test)]
    pub(super) fn beginning_capacity(&self) -> usize {
        self.beginning.capacity()
    }

    fn fill(&mut self, mut at: usize, mut bytes: &[u8]) -> Result<(), &'static str> {
        while !bytes.is_empty() {
            let taken = match self.came(at, bytes) {
                Some((length, true)) => length,
                Some((_, false)) => return Err("pieces that disagree about a byte"),
                None => {
                    let next = self.chunks.range(at..).next();
                    let hole = next.map_or(usize::MAX, |(&start, _)| start - at);
                    let length = bytes.len().min(hole);
                    self.insert(at, &bytes[..length]);
                    length
                }
            };
            (at, bytes) = (at + taken, &bytes[taken..]);
        }
        // One piece adds one chunk at most.
        match self.chunks.len() > CHUNKS + self.total / BYTES_PER_CHUNK {
            true => Err("pieces that leave too many holes"),
            false => Ok(()),
        }
    }

    /// How many of `bytes`, which begin at `at`, came before without a hole, and whether they were the same; `None` if
    /// the first has not come.
    fn came(&self, at: usize, bytes: &[u8]) -> Option<(usize, bool)> {
        if let Some(came) = self.beginning.get(at..).filter(|came| !came.is_empty()) {
            let length = came.len().min(bytes.len());
            return Some((length, came[..length] == bytes[..length]));
        }
        let (&start, chunk) = self.chunks.range(..=at).next_back()?;
        let skip = at - start;
        let length = chunk.len().checked_sub(skip)?.min(bytes.len());
        let same = chunk.range(skip..skip + length).eq(&bytes[..length]);
        (length > 0).then_some((length, same))
    }

    /// Puts bytes into a hole that has room for them, and joins what then touches.
    fn insert(&mut self, at: usize, bytes: &[u8]) {
        self.bytes += bytes.len();
        let end = at + bytes.len();
        if at == self.beginning.len() {
            self.beginning.extend_from_slice(bytes);
            if let Some(next) = self.chunks.remove(&end) {
                let (front, back) = next.as_slices();
                self.beginning.extend_from_slice(front);
                self.beginning.extend_from_slice(back);
            }
            return;
        }
        let next = self.chunks.remove(&end);
        let before = self.chunks.range_mut(..at).next_back();
        match before.filter(|(start, chunk)| **start + chunk.len() == at) {
            Some((_, chunk)) => {
                chunk.extend(bytes);
                if let Some(next) = next {
                    join(chunk, next);
                }
            }
            None => {
                let mut chunk = next.unwrap_or_default();
                prepend(bytes.iter().rev(), &mut chunk);
                self.chunks.insert(at, chunk);
            }
        }
    }
}

/// Puts `next` behind `chunk`, moving the smaller of the two, so that no order of pieces costs more than their bytes
/// times the logarithm of their number.
fn join(chunk: &mut VecDeque<u8>, mut next: VecDeque<u8>) {
    if chunk.len() >= next.len() {
        chunk.append(&mut next);
    } else {
        prepend(chunk.iter().rev(), &mut next);
        *chunk = next;
    }
}

fn prepend<'a>(reversed: impl ExactSizeIterator<Item = &'a u8>, chunk: &mut VecDeque<u8>) {
    chunk.reserve(reversed.len());
    reversed.for_each(|&byte| chunk.push_front(byte));
}
