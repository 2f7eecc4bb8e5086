//! One direction of a connection: bytes in flight, and how it ends.
//!
//! Knows time as a value and no hosts; `fabric` decides what happens to it.

use std::collections::VecDeque;
use std::task::{Context, Waker};

use tokio::io::ReadBuf;
use tokio::time::Instant;

use super::rng::Rng;

/// Bytes that one side wrote and the other has not read.
pub(super) struct Pipe {
    chunks: VecDeque<Chunk>,
    /// Bytes in `chunks`, and those that vanished: what the writer's buffer holds.
    bytes: usize,
    /// Nothing arrives before this, since nothing overtakes.
    last: Instant,
    ending: Option<(Ending, Instant)>,
    /// What is written from now on is never delivered.
    void: bool,
    /// Nothing arrives until somebody lets it go.
    withheld: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct Chunk {
    arrives: Instant,
    bytes: Vec<u8>,
    read: usize,
}

/// How the reader sees the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The writer has finished.
    Finished,
    /// The connection is broken.
    Reset,
}

/// What a reader finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Bytes(usize),
    End(Ending),
    /// Nothing before this moment.
    Later(Instant),
    /// Nothing.
    Nothing,
}

impl Pipe {
    pub(super) fn new(now: Instant) -> Pipe {
        Pipe {
            chunks: VecDeque::new(),
            bytes: 0,
            last: now,
            ending: None,
            void: false,
            withheld: false,
            reader: None,
            writer: None,
        }
    }

    /// Bytes that the writer may still write.
    pub(super) fn room(&self) -> usize {
        CAPACITY.saturating_sub(self.bytes)
    }

    /// Takes bytes, which arrive at this moment or when those before them do.
    pub(super) fn push(&mut self, bytes: &[u8], arrives: Instant) {
        self.bytes += bytes.len();
        if self.void || self.ending.is_some() {
            return;
        }
        self.last = self.last.max(arrives);
        self.chunks.push_back(Chunk { arrives: self.last, bytes: bytes.to_vec(), read: 0 });
    }

    /// Gives what has arrived.
    pub(super) fn read(&mut self, now: Instant, into: &mut ReadBuf<'_>) -> Found {
        let mut total = 0;
        if self.withheld {
            return Found::Nothing;
        }
        while into.remaining() > 0
            && let Some(chunk) = self.chunks.front_mut().filter(|chunk| chunk.arrives <= now)
        {
            let count = into.remaining().min(chunk.bytes.len() - chunk.read);
            into.put_slice(&chunk.bytes[chunk.read..chunk.read + count]);
            chunk.read += count;
            total += count;
            if chunk.read == chunk.bytes.len() {
                self.chunks.pop_front();
            }
        }
        self.bytes -= total;
        match (self.chunks.front(), self.ending) {
            _ if total > 0 => Found::Bytes(total),
            (Some(chunk), _) => Found::Later(chunk.arrives),
            (None, Some((ending, at))) if at <= now => Found::End(ending),
            (None, Some((_, at))) => Found::Later(at),
            (None, None) => Found::Nothing,
        }
    }

    /// Whether bytes have arrived that nobody has read.
    pub(super) fn has_unread(&self, now: Instant) -> bool {
        self.chunks.front().is_some_and(|chunk| chunk.arrives <= now)
    }

    /// Whether the reader is told by now that the connection is broken.
    pub(super) fn is_reset(&self, now: Instant) -> bool {
        matches!(self.ending, Some((Ending::Reset, at)) if at <= now)
    }

    pub(super) fn ending(&self) -> Option<Ending> {
        self.ending.map(|(ending, _)| ending)
    }

    /// The writer has finished: the reader sees it behind all bytes, at this moment at the earliest.
    pub(super) fn finish(&mut self, at: Instant) {
        self.ending.get_or_insert((Ending::Finished, at.max(self.last)));
    }

    /// Breaks: any first part of the bytes in flight is still delivered, then the reader is told. Whether bytes are lost.
    pub(super) fn reset(&mut self, at: Instant, rng: &mut Rng) -> bool {
        if self.ending() == Some(Ending::Reset) {
            return false;
        }
        let torn = self.tear(rng);
        self.ending = Some((Ending::Reset, at.max(self.last)));
        torn
    }

    /// From now on nothing is delivered, after any first part of the bytes in flight, and nobody is told. Whether bytes
    /// are lost.
    pub(super) fn vanish(&mut self, rng: &mut Rng) -> bool {
        self.void = true;
        self.tear(rng)
    }

    /// As [`vanish`](Pipe::vanish), but all that is in flight is kept back until [`release`](Pipe::release).
    pub(super) fn withhold(&mut self) {
        self.void = true;
        self.withheld = true;
    }

    /// What was kept back arrives at this moment.
    pub(super) fn release(&mut self, arrives: Instant) {
        self.withheld = false;
        self.last = arrives;
        self.chunks.iter_mut().for_each(|chunk| chunk.arrives = arrives);
    }

    /// When the last bytes arrive.
    pub(super) fn last_arrival(&self) -> Instant {
        self.last
    }

    /// The reader is gone: what is in flight is not wanted.
    pub(super) fn abandon(&mut self) {
        self.void = true;
        self.chunks.clear();
        self.bytes = 0;
    }

    /// Keeps any first part of what is in flight.
    fn tear(&mut self, rng: &mut Rng) -> bool {
        let whole: usize = self.chunks.iter().map(|chunk| chunk.bytes.len() - chunk.read).sum();
        let mut left = match rng.below(4) {
            0 => 0,
            1 => whole,
            _ => usize::try_from(rng.below(whole as u64 + 1)).unwrap_or(whole),
        };
        let torn = left < whole;
        for chunk in &mut self.chunks {
            let kept = left.min(chunk.bytes.len() - chunk.read);
            chunk.bytes.truncate(chunk.read + kept);
            left -= kept;
        }
        self.chunks.retain(|chunk| chunk.read < chunk.bytes.len());
        torn
    }

    /// The reader is to be woken when there is something for it.
    pub(super) fn sleep_reader(&mut self, cx: &Context<'_>) {
        self.reader = Some(cx.waker().clone());
    }

    /// The writer is to be woken when there is room for it.
    pub(super) fn sleep_writer(&mut self, cx: &Context<'_>) {
        self.writer = Some(cx.waker().clone());
    }

    pub(super) fn wake_reader(&mut self, woken: &mut Vec<Waker>) {
        woken.extend(self.reader.take());
    }

    pub(super) fn wake_writer(&mut self, woken: &mut Vec<Waker>) {
        woken.extend(self.writer.take());
    }
}

/// Bytes in flight in one direction before the writer waits.
const CAPACITY: usize = 64 << 10;
