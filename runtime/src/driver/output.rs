//! What one connection is writing.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;
use tokio::task::coop::{has_budget_remaining, unconstrained};

use crate::time::Time;
use crate::transport::Stream;
use crate::wire::send_buffer::Batch;

/// A batch on its way, and since when the peer has accepted nothing of it.
#[derive(Default)]
pub(super) struct Output {
    pub(super) batch: Batch,
    stalled: Option<Time>,
    /// The peer accepted something after it had accepted nothing for a while.
    resumed: bool,
}

impl Output {
    /// Writes until the batch is empty or the stream takes no more.
    #[inline]
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        now: Time,
    ) -> Poll<io::Result<()>> {
        while !self.batch.is_empty() {
            let mut written = self.write(cx, stream);
            if written.is_pending() && !has_budget_remaining() {
                // Perhaps not the stream says so, but tokio, since handlers that ran in this task have used up its turn.
                let again = poll_fn(|cx| self.write(cx, stream));
                written = pin!(unconstrained(again)).poll(cx);
            }
            if written.is_pending() {
                self.stalled.get_or_insert(now);
            }
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.batch.advance(written),
            }
            self.resumed |= self.stalled.take().is_some();
        }
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn write(&self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<io::Result<usize>> {
        let stream = Pin::new(stream);
        match self.batch.single() {
            Some(bytes) => stream.poll_write(cx, bytes),
            None => {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let count = self.batch.slices(&mut slices);
                stream.poll_write_vectored(cx, &slices[..count])
            }
        }
    }

    /// Whether the peer made room in buffers that were full: a sign of life, which bytes that find room at once are not.
    #[inline]
    pub(super) fn take_resumed(&mut self) -> bool {
        std::mem::take(&mut self.resumed)
    }

    /// Since when the peer has accepted nothing, if something waits for it.
    pub(super) fn stalled(&self) -> Option<Time> {
        self.stalled
    }
}

/// Pieces that one write carries.
const SLICES: usize = 16;
