//! Received bytes of one connection, cut into frames; the bytes of long fragments are read straight into their message.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use crate::id::Seq;
use crate::protocol::assembly::{Assembled, Assembly};
use crate::time::Time;
use crate::transport::Stream;
use crate::wire::frame::{Frame, FrameError, decode, frame_length};

/// The read buffer: small while a connection is idle, larger where reads fill it.
pub(super) struct Input {
    buffer: BytesMut,
    capacity: usize,
    /// When the last byte came.
    heard: Time,
    /// Since when a frame is incomplete.
    partial: Option<Time>,
    /// The fragment whose bytes are read into its message, and nothing else is.
    direct: Option<Direct>,
    /// The last frame was such a fragment, so that the next probably is: only its head is read into the buffer.
    peeks: bool,
}

/// A fragment that comes straight into its message.
struct Direct {
    seq: Seq,
    /// Bytes that are still to come.
    left: usize,
}

/// What a read brought.
#[derive(Debug)]
pub(super) enum Got {
    /// Bytes in the buffer, perhaps frames.
    Bytes,
    /// More of a fragment that goes straight into its message.
    More,
    /// The end of such a fragment, with what it led to.
    Fragment(Assembled),
}

impl Input {
    /// Nothing received.
    pub(super) fn new(now: Time) -> Input {
        Input {
            buffer: BytesMut::new(),
            capacity: SMALLEST,
            heard: now,
            partial: None,
            direct: None,
            peeks: false,
        }
    }

    /// Reads once: into the buffer, or into the message that a fragment belongs to. The end of the stream is an error.
    #[inline]
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        assembly: &mut Assembly,
        now: Time,
    ) -> Poll<io::Result<Got>> {
        if self.direct.is_some() {
            return self.poll_direct(cx, stream, assembly, now);
        }
        self.poll_fill(cx, stream, now).map_ok(|()| Got::Bytes)
    }

    /// Reads once into the buffer, where no fragment can be on its way.
    #[inline]
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        now: Time,
    ) -> Poll<io::Result<()>> {
        if self.buffer.capacity() - self.buffer.len() < self.capacity / 2 {
            self.buffer.reserve(self.capacity);
        }
        // Cancel-safe: a read that is not ready has taken nothing.
        let read = if self.peeks {
            // Once: what comes between fragments may be long.
            let mut head = (&mut self.buffer).limit(PEEK);
            ready!(pin!(stream.read_buf(&mut head)).poll(cx))?
        } else {
            ready!(pin!(stream.read_buf(&mut self.buffer)).poll(cx))?
        };
        if read == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.heard = now;
        self.partial.get_or_insert(now);
        if read >= self.capacity / 2 && self.capacity < LARGEST {
            self.capacity *= 2;
        }
        self.peeks = false;
        Poll::Ready(Ok(()))
    }

    /// Reads what is left of a fragment into its message.
    fn poll_direct(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        assembly: &mut Assembly,
        now: Time,
    ) -> Poll<io::Result<Got>> {
        let Some(Direct { seq, left }) = &mut self.direct else { return Poll::Pending };
        let Some(space) = assembly.space(*seq) else {
            return Poll::Ready(Err(io::Error::other("a message went while a part of it came")));
        };
        let mut space = space.limit(*left);
        let read = ready!(pin!(stream.read_buf(&mut space)).poll(cx))?;
        if read == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.heard = now;
        *left -= read;
        if *left > 0 {
            return Poll::Ready(Ok(Got::More));
        }
        let seq = *seq;
        (self.direct, self.partial, self.peeks) = (None, None, true);
        Poll::Ready(Ok(Got::Fragment(assembly.close(now, seq))))
    }

    /// To be called when all frames that are complete were taken: if what is left begins a long fragment that
    /// `assembly` takes, the rest of it is read straight into its message. `room` says whether a message may begin that
    /// has so many bytes already. Whether it is so.
    pub(super) fn go_direct(
        &mut self,
        assembly: &mut Assembly,
        room: impl FnOnce(usize) -> bool,
        now: Time,
    ) -> bool {
        let Ok(Some((length, used))) = frame_length(&self.buffer) else { return false };
        let Some(missing) = (used + length).checked_sub(self.buffer.len()) else { return false };
        if missing < DIRECT {
            return false;
        }
        let Ok(Frame::Fragment(fragment)) = decode(&self.buffer[used..]) else { return false };
        let size = fragment.bytes.len() + missing;
        if !assembly.open(room(size), now, &fragment, size) {
            return false;
        }
        self.direct = Some(Direct { seq: fragment.seq, left: missing });
        self.buffer.clear();
        true
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
const SMALLEST: usize = 512;
/// Largest read buffer, in bytes.
const LARGEST: usize = 64 << 10;
/// Bytes that a fragment must still lack to be read straight into its message: below, one more read costs more than a copy.
const DIRECT: usize = 8 << 10;
/// Bytes that are read where the head of a fragment is expected.
const PEEK: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::assembly::AssemblyLimits;
    use crate::wire::frame::{FRAGMENT, Kind, put_seq};
    use crate::wire::send_buffer::{Batch, SendBuffer};
    use std::io::IoSlice;
    use tokio::io::AsyncWriteExt;

    /// Everything that a link would write: two large messages, and RESOLVE of 1 to 20 between their fragments.
    fn written(bodies: [&Bytes; 2]) -> Vec<u8> {
        let (mut out, mut batch, mut bytes) = (SendBuffer::default(), Batch::default(), Vec::new());
        for (seq, body) in (100..).zip(bodies) {
            out.push_large(seq, vec![seq as u8; 9], body.clone(), false);
        }
        for seq in 1.. {
            if seq <= 20 {
                put_seq(Kind::Resolve, seq, out.small());
            }
            if out.is_empty() {
                return bytes;
            }
            out.fill(&mut batch);
            while !batch.is_empty() {
                let mut slices = [IoSlice::new(&[]); 4];
                let count = batch.slices(&mut slices);
                let before = bytes.len();
                slices[..count].iter().for_each(|slice| bytes.extend_from_slice(slice));
                batch.advance(bytes.len() - before);
            }
        }
        bytes
    }

    #[tokio::test]
    async fn fragments_come_straight_into_their_message_and_frames_between_them_are_seen() {
        let body = |size: usize| Bytes::from_iter((0..size).map(|at| (at % 249) as u8));
        for (pipe, size) in [(100, FRAGMENT + 1), (4096 - 16, 3 * FRAGMENT), (1 << 20, 1 << 20)] {
            let bodies = [body(size), body(size + 4096 + 16)];
            let bytes = written([&bodies[0], &bodies[1]]);
            let (mut writer, reader) = tokio::io::duplex(pipe);
            let writing = tokio::spawn(async move { writer.write_all(&bytes).await });
            let mut stream = Stream::Other(Box::new(reader));
            let mut assembly =
                Assembly::new(AssemblyLimits { message: 4 << 20, bytes: 8 << 20, messages: 4 });
            let mut input = Input::new(Time::ZERO);
            let (mut resolved, mut whole, mut direct) = (Vec::new(), Vec::new(), 0);
            let mut keep = |assembled: Assembled| match assembled {
                Assembled::Whole(message) => whole.push(message),
                other => assert_eq!(other, Assembled::Unfinished),
            };
            let now = Time::ZERO;
            while let Ok(got) =
                std::future::poll_fn(|cx| input.poll_read(cx, &mut stream, &mut assembly, now))
                    .await
            {
                match got {
                    Got::More => {}
                    Got::Fragment(assembled) => {
                        direct += 1;
                        keep(assembled);
                    }
                    Got::Bytes => {
                        let mut done = 0;
                        while let Some((start, end)) = input.peek(done).expect("frames") {
                            match decode(input.bytes(start, end)).expect("a frame") {
                                Frame::Resolve { seq } => resolved.push(seq),
                                Frame::Fragment(part) => keep(assembly.accept(now, &part)),
                                other => panic!("{other:?}"),
                            }
                            done = end;
                        }
                        input.consume(done);
                        input.go_direct(&mut assembly, |_| true, now);
                    }
                }
            }
            writing.await.expect("no panic").expect("written");
            assert_eq!(resolved, Vec::from_iter(1..=resolved.len() as u64));
            assert!(!resolved.is_empty() && direct > 0, "{resolved:?}, {direct}");
            assert_eq!((whole.len(), input.partial()), (2, None));
            for (message, body) in whole.iter().zip(&bodies) {
                assert_eq!(message[9..], body[..]);
            }
        }
    }
}
