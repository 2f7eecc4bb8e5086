//! A stream inside a link, on which the acceptor is the client: calls back, and their replies.
//!
//! Both ends are ordinary: a client's connection on the side that accepted the link, a server's on the side that opened it.
//! Between them, bytes travel in BACK frames, numbered, so that datagrams may bring them in any order, and limited by what
//! the other side has read. When the link is lost so is the stream, and the calls on it wait for the next, as on any
//! connection.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::lock;
use crate::protocol::client::Violation;
use crate::wire::frame::{Back, put_back};
use crate::wire::send_buffer::SendBuffer;

/// One end of a stream inside a link, as the link sees it.
pub(super) struct Channel {
    state: Mutex<State>,
}

/// The same end, as who reads and writes it sees it. The stream ends when it is dropped.
pub(super) struct Pipe(Arc<Channel>);

struct State {
    /// The number of the stream in its link.
    number: u64,
    /// What came in order and was not read, and how much was read.
    incoming: VecDeque<u8>,
    read: u64,
    /// What of that the other side was told.
    told: u64,
    /// What came before its turn, by offset.
    early: BTreeMap<u64, Vec<u8>>,
    early_bytes: usize,
    reader: Option<Waker>,
    /// What was written and has not left, where its first byte stands, and up to where the other side takes it.
    outgoing: VecDeque<u8>,
    sent: u64,
    allowed: u64,
    writer: Option<Waker>,
    /// Where the other side's bytes end, once it has said so.
    end: Option<u64>,
    /// This side says no more, and has said so.
    finished: bool,
    finish_told: bool,
    /// The link is lost.
    lost: bool,
    /// Wakes the task of the link; nothing while it looks by itself.
    link: Option<Waker>,
}

impl Channel {
    /// The stream with this number, and its end for a client or a server. `link` is woken when something is to be sent.
    pub(super) fn open(number: u64, link: Option<Waker>) -> (Arc<Channel>, Pipe) {
        let state = State {
            number,
            incoming: VecDeque::new(),
            read: 0,
            told: 0,
            early: BTreeMap::new(),
            early_bytes: 0,
            reader: None,
            outgoing: VecDeque::new(),
            sent: 0,
            allowed: WINDOW,
            writer: None,
            end: None,
            finished: false,
            finish_told: false,
            lost: false,
            link,
        };
        let channel = Arc::new(Channel { state: Mutex::new(state) });
        (Arc::clone(&channel), Pipe(channel))
    }

    pub(super) fn number(&self) -> u64 {
        self.lock().number
    }

    /// Whom to wake when there is something to send.
    pub(super) fn set_link(&self, link: &Waker) {
        let mut state = self.lock();
        if !state.link.as_ref().is_some_and(|old| old.will_wake(link)) {
            state.link = Some(link.clone());
        }
    }

    /// Takes bytes that came.
    pub(super) fn receive(&self, back: &Back<'_>) -> Result<(), Violation> {
        let mut state = self.lock();
        let wakers = state.receive(back)?;
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
        Ok(())
    }

    /// Writes what may leave now.
    pub(super) fn transmit(&self, out: &mut SendBuffer, most: usize) {
        let mut state = self.lock();
        state.transmit(out, most);
        let writer = if state.outgoing.len() < BUFFER { state.writer.take() } else { None };
        drop(state);
        writer.into_iter().for_each(Waker::wake);
    }

    /// The link is lost, and with it the stream.
    pub(super) fn lose(&self) {
        let mut state = self.lock();
        state.lost = true;
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn receive(&mut self, back: &Back<'_>) -> Result<[Option<Waker>; 2], Violation> {
        if back.stream != self.number {
            // Of a stream before this one.
            return Ok([None, None]);
        }
        self.allowed = self.allowed.max(back.read.saturating_add(WINDOW));
        let end = back.offset.checked_add(back.bytes.len() as u64);
        let end = end.filter(|end| *end <= self.read + WINDOW);
        let Some(end) = end else {
            return Err(Violation("more bytes of calls back than were read"));
        };
        if back.offset > self.next() && self.early_bytes + back.bytes.len() > WINDOW as usize {
            return Err(Violation("bytes of calls back that overlap"));
        }
        if back.end {
            self.end = Some(end);
        }
        self.accept(back.offset, back.bytes);
        let next = self.next();
        while let Some((&offset, _)) = self.early.first_key_value() {
            if offset > self.next() {
                break;
            }
            let Some((offset, bytes)) = self.early.pop_first() else { break };
            self.early_bytes -= bytes.len();
            self.accept(offset, &bytes);
        }
        let more = self.next() > next || back.end || !back.bytes.is_empty();
        let reader = if more { self.reader.take() } else { None };
        let writer = if self.outgoing.len() < BUFFER { self.writer.take() } else { None };
        // Perhaps it may send what it could not before.
        let link = if self.may_send() { self.link.clone() } else { None };
        reader.into_iter().for_each(Waker::wake);
        Ok([writer, link])
    }

    fn accept(&mut self, offset: u64, bytes: &[u8]) {
        let next = self.next();
        if offset > next {
            if !bytes.is_empty() && !self.early.contains_key(&offset) {
                self.early_bytes += bytes.len();
                self.early.insert(offset, bytes.to_vec());
            }
            return;
        }
        let known = usize::try_from(next - offset).unwrap_or(usize::MAX);
        if let Some(new) = bytes.get(known..) {
            self.incoming.extend(new);
        }
    }

    /// Where the next byte in order stands.
    fn next(&self) -> u64 {
        self.read + self.incoming.len() as u64
    }

    fn may_send(&self) -> bool {
        let bytes = !self.outgoing.is_empty() && self.sent < self.allowed;
        let end = self.finished && !self.finish_told && self.outgoing.is_empty();
        bytes || end || self.read >= self.told + WINDOW / 4
    }

    fn transmit(&mut self, out: &mut SendBuffer, most: usize) {
        let piece = out.whole().saturating_sub(HEAD).clamp(1, PIECE);
        while self.may_send() && out.pending() < most {
            let room = usize::try_from(self.allowed - self.sent).unwrap_or(usize::MAX);
            let length = self.outgoing.len().min(room).min(piece);
            let bytes: Vec<u8> = self.outgoing.drain(..length).collect();
            let end = self.finished && self.outgoing.is_empty();
            let (stream, offset, read) = (self.number, self.sent, self.read);
            put_back(&Back { stream, offset, read, end, bytes: &bytes }, out.small());
            self.sent += length as u64;
            self.told = self.read;
            self.finish_told |= end;
        }
    }

    /// The link's task, if there is something for it.
    fn wake_link(&self) -> Option<Waker> {
        if self.may_send() { self.link.clone() } else { None }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        if state.incoming.is_empty() {
            if state.lost {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if state.end == Some(state.read) {
                return Poll::Ready(Ok(()));
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        while into.remaining() > 0 && !state.incoming.is_empty() {
            let (bytes, _) = state.incoming.as_slices();
            let length = bytes.len().min(into.remaining());
            into.put_slice(&bytes[..length]);
            state.incoming.drain(..length);
            state.read += length as u64;
        }
        let link = state.wake_link();
        drop(state);
        link.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        if state.lost || state.finished || state.end.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = BUFFER.saturating_sub(state.outgoing.len());
        if room == 0 {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let length = room.min(bytes.len());
        state.outgoing.extend(&bytes[..length]);
        let link = state.wake_link();
        drop(state);
        link.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.finish();
        Poll::Ready(Ok(()))
    }
}

impl Channel {
    fn finish(&self) {
        let mut state = self.lock();
        state.finished = true;
        let link = state.wake_link();
        drop(state);
        link.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// Bytes of one direction that may be on their way, or wait to be read.
const WINDOW: u64 = 256 << 10;
/// Bytes that wait for the link before who writes waits.
const BUFFER: usize = 64 << 10;
/// Bytes in one frame, at most, and what stands before them.
const PIECE: usize = 32 << 10;
const HEAD: usize = 40;

#[cfg(test)]
mod tests;
