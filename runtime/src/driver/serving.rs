//! The task of one accepted connection: handshake, then frames in, handlers, frames out.
//!
//! A handler is polled in place first, since most are ready at once, and becomes a task of its own only when it is
//! not. All replies of one batch leave in one write.

mod backlog;
mod desk;
mod handler;
mod handshake;
mod passing;
mod place;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::busy::{BusyPoll, poll_again};
use super::input::{Got, Input};
use super::output::Output;
use super::server::Server;
use super::session::CellState;
use super::timer::Timer;
use crate::dispatch::COPIED_ARGUMENTS;
use crate::id::Seq;
use crate::protocol::assembly::{Assembled, Assembly, AssemblyLimits};
use crate::protocol::client::Violation;
use crate::time::Time;
use crate::transport::Stream;
use crate::wire::frame::{self, CloseCode, Frame, Welcome, decode, decode_call, frame_length};
use crate::wire::send_buffer::SendBuffer;
use backlog::Backlog;
pub(super) use backlog::{Pace, Turn, Wait};
pub(super) use desk::{Desk, drop_held};
pub(crate) use handler::{Answered, Handler};
pub(super) use handshake::{Kind, welcome};
use handshake::{Refusal, poll_hello};
pub(super) use passing::Scope;
pub(crate) use passing::{DESK, REFERENCE};
pub(super) use place::Place;

/// Starts the task of a connection, unless there are too many.
pub(super) fn spawn(server: &Arc<Server>, stream: Stream, peer: Arc<str>) {
    spawn_in(server, stream, peer, Scope::Outside);
}

/// As [`spawn`], for who calls in this scope.
pub(super) fn spawn_in(server: &Arc<Server>, stream: Stream, peer: Arc<str>, scope: Scope) {
    let Some(place) = Place::take(server, &peer) else {
        // Closed by being dropped: a peer that floods gets nothing more.
        tracing::warn!(peer = &*peer, "too many connections");
        return;
    };
    let server = server.clone();
    tokio::spawn(async move {
        if let Err(error) = serve(&server, place, stream, peer.clone(), scope).await
            && error.kind() != io::ErrorKind::UnexpectedEof
        {
            tracing::debug!(peer = &*peer, %error, "a connection ended");
        }
    });
}

/// A connection from its first byte to its last.
async fn serve(
    server: &Arc<Server>,
    mut place: Place,
    mut stream: Stream,
    peer: Arc<str>,
    scope: Scope,
) -> io::Result<()> {
    let task = place.task();
    let now = server.clock.now();
    let mut input = Input::new(now);
    let greeted = tokio::time::timeout(
        server.limits.handshake_timeout,
        std::future::poll_fn(|cx| poll_hello(server, task, &mut stream, &mut input, cx)),
    );
    let hello = match greeted.await {
        Ok(Ok(hello)) => hello,
        Ok(Err(Refusal::Io(error))) => return Err(error),
        Ok(Err(Refusal::Close(code, text))) => {
            let mut bytes = Vec::new();
            frame::put_close(code, &text, &mut bytes);
            stream.write_all(&bytes).await?;
            return finish(stream).await;
        }
        Err(_) => return Err(io::ErrorKind::TimedOut.into()),
    };
    place.greeted();
    let waker = std::future::poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    let begin = |greeting: Welcome| {
        let mut out = SendBuffer::default();
        frame::put_welcome(&greeting, out.small());
        (out, ())
    };
    let cell = match welcome(server, &hello, Kind::Stream, waker, begin) {
        Ok((cell, ())) => cell,
        Err((code, text)) => {
            let mut bytes = Vec::new();
            frame::put_close(code, text, &mut bytes);
            stream.write_all(&bytes).await?;
            return finish(stream).await;
        }
    };
    if !scope.settle(&cell) {
        return Err(io::Error::other("a session of another peer"));
    }
    let mut desk = Desk::new(server.clone(), cell, hello.link, peer);
    desk.set_scope(scope);
    let mut connection = Serving::new(desk, task, stream, input);
    let end = std::future::poll_fn(|cx| connection.poll(cx)).await;
    let stream = connection.detach();
    match end {
        Ok(()) if !server.dead.load(Ordering::Acquire) => finish(stream).await,
        end => end,
    }
}

/// Ends the stream so that what was written arrives: the peer must find no reset, so its bytes are read to the end.
async fn finish(mut stream: Stream) -> io::Result<()> {
    stream.shutdown().await?;
    let rest = async {
        let mut bytes = [0; 1024];
        while stream.read(&mut bytes).await? > 0 {}
        Ok(())
    };
    tokio::time::timeout(LAST_BYTES, rest).await.unwrap_or(Ok(()))
}

/// One connection with a session.
struct Serving {
    desk: Desk,
    task: u64,
    stream: Stream,
    input: Input,
    backlog: Backlog,
    pace: Pace,
    /// When the stream was read last.
    looked: Time,
    /// The peer sends nothing more; what came before is handled first.
    ended: Option<io::Error>,
    output: Output,
    assembly: Assembly,
    timer: Timer,
    busy: BusyPoll,
    registered: bool,
    /// When the session wants to be asked again, if it was asked in this turn.
    solicit: Option<Time>,
}

impl Serving {
    fn new(desk: Desk, task: u64, stream: Stream, input: Input) -> Serving {
        let limits = &desk.server.limits;
        let assembly = Assembly::new(AssemblyLimits {
            message: limits.message,
            bytes: limits.request_bytes.max(limits.message),
            messages: limits.window,
        });
        let timer = Timer::new(desk.server.clock);
        let looked = desk.server.clock.now();
        let busy = BusyPoll::new(limits.busy_poll, looked);
        let output = Output::default();
        Serving {
            desk,
            task,
            stream,
            input,
            backlog: Backlog::default(),
            pace: Pace::default(),
            looked,
            ended: None,
            output,
            assembly,
            timer,
            busy,
            registered: false,
            solicit: None,
        }
    }

    /// Ready when the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.registered {
            self.registered = true;
            self.desk.server.is_closing(self.task, cx.waker());
        }
        if self.desk.server.dead.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let now = self.desk.server.clock.now();
        self.poll_input(cx, now)?;
        if self.poll_output(cx, now)?.is_ready() {
            return Poll::Ready(Ok(()));
        }
        let ended = self.poll_time(cx, now);
        if ended.is_pending() {
            self.busy.look_again(cx, now);
        }
        ended
    }

    /// Reads and handles what is there, for one turn.
    fn poll_input(&mut self, cx: &mut Context<'_>, now: Time) -> io::Result<()> {
        let mut turn = Turn::new(now, self.pace);
        if self.backlog.is_empty() {
            // What was read may be left from the handshake.
            self.take_frames(now);
        } else {
            self.read_ahead(cx, now);
        }
        self.looked = now;
        for _ in 0..READS_PER_POLL {
            let asked = !self.backlog.is_empty();
            if !self.handle_backlog(cx, &mut turn)? {
                break;
            }
            if let Some(error) = self.ended.take() {
                return Err(error);
            }
            // Not before: the fragments of a message are put together in the order in which they came.
            if self.input.go_direct(&mut self.assembly, |bytes| self.desk.has_room(bytes), now) {
                self.desk.count_assembly(self.assembly.bytes());
                if asked {
                    // What was asked is answered before more of a large message is read.
                    break;
                }
            }
            match self.input.poll_read(cx, &mut self.stream, &mut self.assembly, now) {
                Poll::Ready(Ok(Got::Bytes)) => {
                    self.busy.active(now);
                    self.take_frames(turn.now);
                }
                Poll::Ready(Ok(Got::More)) => {}
                Poll::Ready(Ok(Got::Fragment(assembled))) => {
                    self.busy.active(now);
                    self.handle_assembled(cx, turn.now, Wait::none(turn.now), assembled, 0)?;
                    self.desk.settle(turn.now);
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(()),
            }
        }
        poll_again(cx);
        Ok(())
    }

    /// Reads what came while frames wait that came before. For how long it has waited in the kernel is not known: perhaps
    /// since the last time that was looked.
    fn read_ahead(&mut self, cx: &mut Context<'_>, now: Time) {
        while self.ended.is_none() && self.backlog.has_room() {
            match self.input.poll_fill(cx, &mut self.stream, now) {
                Poll::Ready(Ok(())) => self.take_frames(self.looked),
                Poll::Ready(Err(error)) => self.ended = Some(error),
                Poll::Pending => return,
            }
        }
    }

    /// Moves the frames that are complete to the others that wait.
    #[inline]
    fn take_frames(&mut self, now: Time) {
        let (frames, result) = self.input.take_frames();
        self.backlog.push(frames, result, now);
    }

    /// Handles what waits; whether all of it, or else the turn is over.
    fn handle_backlog(&mut self, cx: &mut Context<'_>, turn: &mut Turn) -> io::Result<bool> {
        if self.backlog.is_empty() && self.backlog.has_room() {
            return Ok(true);
        }
        let mut over = false;
        while !over && let Some(mut read) = self.backlog.pop() {
            while let Ok(Some((length, used))) = frame_length(&read.bytes[read.done..]) {
                let start = read.done + used;
                read.done = start + length;
                self.handle_frame(cx, turn.now, read.wait, &read.bytes, start, read.done)?;
                if turn.is_over(&self.desk.server.clock) {
                    over = true;
                    break;
                }
            }
            self.backlog.unpop(read);
        }
        self.pace = turn.pace();
        if self.desk.end_turn(turn.now) {
            return Err(io::Error::other("the peer asks more than it reads"));
        }
        if !self.backlog.is_empty() {
            return Ok(false);
        }
        match self.backlog.take_broken() {
            Some(error) => Err(self.broken(&error)),
            None => Ok(!over),
        }
    }

    /// Handles the frame from `start` to `end`. Long arguments of a call share the bytes that it came in with others.
    #[inline]
    fn handle_frame(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        wait: Wait,
        bytes: &Bytes,
        start: usize,
        end: usize,
    ) -> io::Result<()> {
        let frame = &bytes[start..end];
        if let Some(Ok(call)) = &decode_call(frame) {
            let length = call.arguments.len();
            let shared = (length > COPIED_ARGUMENTS).then(|| bytes.slice(end - length..end));
            let handled = self.desk.handle_call(cx, now, wait, call, shared);
            return handled.map_err(|Violation(what)| self.broken(&what));
        }
        self.desk.settle(now);
        match decode(frame).map_err(|error| self.broken(&error))? {
            Frame::Fragment(fragment) => self.handle_fragment(cx, now, wait, &fragment),
            // Others were taken above.
            Frame::Call(call) => {
                let arguments = bytes.slice(end - call.arguments.len()..end);
                let handled = self.desk.handle_passing(cx, now, wait, &call, arguments);
                handled.map_err(|Violation(what)| self.broken(&what))
            }
            Frame::Close { code, .. } => Err(self.desk.closed_by_client(code)),
            frame => {
                let handled = self.desk.handle(now, frame);
                handled.map_err(|Violation(what)| self.broken(&what))
            }
        }
    }

    fn handle_fragment(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        wait: Wait,
        fragment: &frame::Fragment<'_>,
    ) -> io::Result<()> {
        let room = self.desk.has_room(fragment.bytes.len());
        let assembled = self.assembly.accept_if(room, now, fragment);
        self.handle_assembled(cx, now, wait, assembled, fragment.seq)
    }

    /// What a fragment of message `seq` led to.
    fn handle_assembled(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        wait: Wait,
        assembled: Assembled,
        seq: Seq,
    ) -> io::Result<()> {
        self.desk.count_assembly(self.assembly.bytes());
        match assembled {
            Assembled::Unfinished => Ok(()),
            Assembled::Whole(message) => match decode(&message) {
                Ok(Frame::Call(_)) => self.handle_frame(cx, now, wait, &message, 0, message.len()),
                _ => Err(self.broken(&"fragments that make no call")),
            },
            Assembled::Refused(excess) => {
                let refused = self.desk.refuse(now, seq, excess);
                refused.map_err(|Violation(what)| self.broken(&what))
            }
            Assembled::Violation(what) => Err(self.broken(&what)),
        }
    }

    /// Ready when the server is closing and everything is written. A turn takes one batch: what the peer sends meanwhile
    /// does not wait until all of a large reply is written.
    fn poll_output(&mut self, cx: &mut Context<'_>, now: Time) -> Poll<io::Result<()>> {
        let mut taken = false;
        loop {
            ready!(self.output.poll_write(cx, &mut self.stream, now))?;
            let mut state = self.desk.cell.lock();
            let CellState { session, link, .. } = &mut *state;
            let Some(link) = link.as_mut().filter(|link| link.number == self.desk.link) else {
                return Poll::Ready(Err(io::Error::other("a newer link took over")));
            };
            if let Some(back) = &link.back.0 {
                back.set_link(cx.waker());
                back.transmit(&mut link.out, self.desk.server.limits.send_buffer);
            }
            session.flush(&mut link.out);
            if link.out.is_empty() {
                link.scheduled = false;
                if !link.io.will_wake(cx.waker()) {
                    link.io = cx.waker().clone();
                }
                self.solicit = Some(session.next_timeout());
                drop(state);
                self.output.batch.shrink();
                let closing = self.desk.server.is_draining()
                    && self.desk.server.is_closing(self.task, cx.waker());
                return if closing { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            link.scheduled = true;
            if taken {
                poll_again(cx);
                return Poll::Pending;
            }
            taken = true;
            link.out.fill(&mut self.output.batch);
        }
    }

    fn poll_time(&mut self, cx: &mut Context<'_>, now: Time) -> Poll<io::Result<()>> {
        let limits = &self.desk.server.limits;
        let patience = limits.progress_timeout;
        let stalled = self.output.stalled().map_or(Time::NEVER, |since| since + patience);
        let unfinished = self.assembly.oldest_progress().into_iter().chain(self.input.partial());
        let partial = unfinished.min().map_or(Time::NEVER, |since| since + patience);
        // Clients ask after one interval of silence and give up after two.
        let silent = self.input.heard() + limits.ping_interval * SILENT_INTERVALS;
        loop {
            let ask = || self.desk.cell.lock().session.next_timeout();
            let solicit = self.solicit.take().unwrap_or_else(ask);
            let wanted = solicit.min(stalled).min(partial).min(silent);
            if !self.timer.poll(cx, now, wanted) {
                return Poll::Pending;
            }
            if stalled <= now {
                return Poll::Ready(Err(timed_out("the peer reads nothing")));
            }
            if partial <= now {
                return Poll::Ready(Err(timed_out("a frame or a large message does not go on")));
            }
            if silent <= now {
                return Poll::Ready(Err(timed_out("the peer is silent")));
            }
            let asked = self.desk.with_out(|state, out| state.session.handle_timeout(now, out));
            if let Err(Violation(what)) = asked {
                return Poll::Ready(Err(self.broken(&what)));
            }
            cx.waker().wake_by_ref();
        }
    }

    /// The peer broke the protocol: it is told, as far as that goes without waiting.
    fn broken(&self, what: &dyn std::fmt::Display) -> io::Error {
        let text = what.to_string();
        self.desk.with_out(|_, out| frame::put_close(CloseCode::Violation, &text, out.small()));
        io::Error::new(io::ErrorKind::InvalidData, text)
    }

    /// The link is over; its last words are tried once.
    fn detach(mut self) -> Stream {
        if let Some(mut link) = self.desk.detach()
            && self.output.batch.is_empty()
            && !self.desk.server.dead.load(Ordering::Acquire)
        {
            link.out.fill(&mut self.output.batch);
        }
        if let Some(bytes) = self.output.batch.single().filter(|bytes| !bytes.is_empty()) {
            let write = pin!(self.stream.write(bytes));
            let _ = write.poll(&mut Context::from_waker(Waker::noop()));
        }
        self.stream
    }
}

fn timed_out(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// Reads before what waits is written and other tasks get a turn: the heads and bodies of two fragments.
const READS_PER_POLL: usize = 4;
/// Intervals of silence after which a client is given up: it would have asked long before.
const SILENT_INTERVALS: u32 = 4;
/// How long the last bytes of a peer are waited for.
const LAST_BYTES: Duration = Duration::from_secs(1);
