//! Received bytes of one connection, cut into frames.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use crate::time::Time;
use crate::transport::Stream;
use crate::wire::frame::{FrameError, frame_length};

/// The read buffer: small while a connection is idle, larger where reads fill it.
pub(super) struct Input {
    buffer: BytesMut,
    capacity: usize,
    /// When the last byte came.
    heard: Time,
    /// Since when a frame is incomplete.
    partial: Option<Time>,
}

impl Input {
    /// Nothing received.
    pub(super) fn new(now: Time) -> Input {
        Input { buffer: BytesMut::new(), capacity: SMALLEST, heard: now, partial: None }
    }

    /// Reads once. The end of the stream is an error.
    #[inline]
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        now: Time,
    ) -> Poll<io::Result<()>> {
        if self.buffer.capacity() - self.buffer.len() < self.capacity / 2 {
            self.buffer.reserve(self.capacity);
        }
        // Cancel-safe: a read that is not ready has taken nothing.
        let read = ready!(pin!(stream.read_buf(&mut self.buffer)).poll(cx))?;
        if read == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.heard = now;
        self.partial.get_or_insert(now);
        if read >= self.capacity / 2 && self.capacity < LARGEST {
            self.capacity *= 2;
        }
        Poll::Ready(Ok(()))
    }

    /// The bytes of the next frame without its length, if it is complete.
    #[inline]
    pub(super) fn peek(&self, from: usize) -> Result<Option<(usize, usize)>, FrameError> {
        let rest = &self.buffer[from..];
        match frame_length(rest)? {
            Some((length, used)) if rest.len() - used >= length => {
                Ok(Some((from + used, from + used + length)))
            }
            _ => Ok(None),
        }
    }

    /// A part of what was received.
    #[inline]
    pub(super) fn bytes(&self, start: usize, end: usize) -> &[u8] {
        &self.buffer[start..end]
    }

    /// Everything before `end` has been handled.
    #[inline]
    pub(super) fn consume(&mut self, end: usize) {
        self.buffer.advance(end);
        self.completed(end);
    }

    /// Takes all frames that are complete, as shared bytes, and says whether what follows them is no frame.
    #[inline]
    pub(super) fn take_frames(&mut self) -> (Bytes, Result<(), FrameError>) {
        let mut end = 0;
        let result = loop {
            match self.peek(end) {
                Ok(Some((_, next))) => end = next,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if end == 0 {
            return (Bytes::new(), result);
        }
        let frames = self.buffer.split_to(end).freeze();
        self.completed(end);
        (frames, result)
    }

    /// When the last byte came.
    pub(super) fn heard(&self) -> Time {
        self.heard
    }

    /// Since when a frame is incomplete, if one is.
    #[inline]
    pub(super) fn partial(&self) -> Option<Time> {
        self.partial
    }

    /// Frames of this many bytes were complete; what is left begins another.
    #[inline]
    fn completed(&mut self, bytes: usize) {
        if bytes > 0 {
            self.partial = (!self.buffer.is_empty()).then_some(self.heard);
        }
    }
}

/// Read buffer of an idle connection, in bytes.
const SMALLEST: usize = 1 << 10;
/// Largest read buffer, in bytes.
const LARGEST: usize = 64 << 10;
