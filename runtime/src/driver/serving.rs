//! The task of one accepted connection: handshake, then frames in, handlers, frames out.
//!
//! A handler is polled in place first, since most are ready at once, and becomes a task of its own only when it is
//! not. All replies of one batch leave in one write.

mod handler;
mod handshake;
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

use super::handles::Found;
use super::input::Input;
use super::lock;
use super::output::Output;
use super::server::Server;
use super::session::{Cell, CellState};
use super::timer::Timer;
use crate::context::{Caller, CancelSource, SessionContext};
use crate::error::FailureCode;
use crate::protocol::assembly::{Assembled, Assembly, AssemblyLimits, Excess};
use crate::protocol::client::Violation;
use crate::protocol::server::Resolved;
use crate::time::Time;
use crate::transport::Stream;
use crate::wire::frame::{self, BoundResult, CloseCode, Frame, Kind, Lookup, decode};
use crate::wire::send_buffer::SendBuffer;
use handshake::{Refusal, poll_hello, welcome};
use place::Place;

/// Starts the task of a connection, unless there are too many.
pub(super) fn spawn(server: &Arc<Server>, stream: Stream, peer: Arc<str>) {
    let Some(place) = Place::take(server, &peer) else {
        // Closed by being dropped: a peer that floods gets nothing more.
        tracing::warn!(peer = &*peer, "too many connections");
        return;
    };
    let server = server.clone();
    tokio::spawn(async move {
        if let Err(error) = serve(&server, place, stream, peer.clone()).await
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
    let cell = match welcome(server, &hello, waker) {
        Ok(cell) => cell,
        Err((code, text)) => {
            let mut bytes = Vec::new();
            frame::put_close(code, text, &mut bytes);
            stream.write_all(&bytes).await?;
            return finish(stream).await;
        }
    };
    let mut connection = Serving::new(server.clone(), task, cell, hello.link, stream, input, peer);
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
    server: Arc<Server>,
    task: u64,
    cell: Arc<Cell>,
    /// The number of this link in its session.
    link: u64,
    stream: Stream,
    input: Input,
    output: Output,
    assembly: Assembly,
    /// Bytes of `assembly` that the process budget counts.
    assembling: usize,
    timer: Timer,
    context: Arc<SessionContext>,
    /// For the next reply; its memory is used again.
    spare: Vec<u8>,
    registered: bool,
}

impl Serving {
    fn new(
        server: Arc<Server>,
        task: u64,
        cell: Arc<Cell>,
        link: u64,
        stream: Stream,
        input: Input,
        peer: Arc<str>,
    ) -> Serving {
        let limits = &server.limits;
        let assembly = Assembly::new(AssemblyLimits {
            message: limits.message,
            bytes: limits.request_bytes.max(limits.message),
            messages: limits.window,
        });
        let cancel: Arc<dyn CancelSource> = cell.clone();
        let context = Arc::new(SessionContext {
            caller: Caller::new(cell.client, peer, None),
            boot: server.boot,
            session: cell.id,
            cancel: Arc::downgrade(&cancel),
        });
        let timer = Timer::new(server.clock);
        Serving {
            server,
            task,
            cell,
            link,
            stream,
            input,
            output: Output::default(),
            assembly,
            assembling: 0,
            timer,
            context,
            spare: Vec::new(),
            registered: false,
        }
    }

    /// Ready when the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.registered {
            self.registered = true;
            self.server.is_closing(self.task, cx.waker());
        }
        if self.server.dead.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let now = self.server.clock.now();
        self.poll_input(cx, now)?;
        if self.poll_output(cx, now)?.is_ready() {
            return Poll::Ready(Ok(()));
        }
        self.poll_time(cx, now)
    }

    fn poll_input(&mut self, cx: &mut Context<'_>, now: Time) -> io::Result<()> {
        for _ in 0..READS_PER_POLL {
            // What was read may be left from the handshake.
            self.handle_frames(cx, now)?;
            match self.input.poll_read(cx, &mut self.stream, now) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(()),
            }
        }
        self.handle_frames(cx, now)?;
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn handle_frames(&mut self, cx: &mut Context<'_>, now: Time) -> io::Result<()> {
        while let Some((start, end)) = self.input.peek(0).map_err(|error| self.broken(&error))? {
            let frame = self.input.take(start, end);
            self.handle_frame(cx, now, frame)?;
        }
        let limits = &self.server.limits;
        let most = limits.send_buffer + limits.control_backlog;
        let state = self.cell.lock();
        match &state.link {
            Some(link) if link.out.pending() > most => {
                Err(io::Error::other("the peer asks more than it reads"))
            }
            _ => Ok(()),
        }
    }

    #[inline]
    fn handle_frame(&mut self, cx: &mut Context<'_>, now: Time, bytes: Bytes) -> io::Result<()> {
        let frame = decode(&bytes).map_err(|error| self.broken(&error))?;
        let result = match frame {
            Frame::Call(call) => {
                let arguments = bytes.len() - call.arguments.len();
                self.handle_call(cx, now, &call, bytes.slice(arguments..))
            }
            Frame::Fragment(fragment) => return self.handle_fragment(cx, now, &fragment),
            Frame::Close { code, .. } => return Err(self.closed_by_client(code)),
            Frame::Lookup(lookup) => self.handle_lookup(lookup),
            frame => self.handle_control(now, &frame),
        };
        result.map_err(|Violation(what)| self.broken(&what))
    }

    fn handle_control(&mut self, now: Time, frame: &Frame<'_>) -> Result<(), Violation> {
        self.with_out(|state, out| match frame {
            Frame::CallAck { floor, ranges } => state.session.acknowledge(*floor, ranges),
            Frame::Resolve { seq } => {
                if state.session.resolve(now, *seq, out)? == Resolved::Cancel {
                    state.cancel(*seq);
                }
                Ok(())
            }
            Frame::Ping(nonce) => {
                frame::put_nonce(Kind::Pong, *nonce, out.small());
                Ok(())
            }
            Frame::Pong(_) => Ok(()),
            _ => Err(Violation("a frame that clients do not send")),
        })
    }

    fn handle_fragment(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        fragment: &frame::Fragment<'_>,
    ) -> io::Result<()> {
        let room = self.server.budget.may_save(fragment.bytes.len(), &self.server.limits);
        let assembled = self.assembly.accept_if(room, now, fragment);
        self.count_assembly();
        match assembled {
            Assembled::Unfinished => Ok(()),
            Assembled::Whole(message) => match decode(&message) {
                Ok(Frame::Call(_)) => self.handle_frame(cx, now, message.into()),
                _ => Err(self.broken(&"fragments that make no call")),
            },
            Assembled::Refused(excess) => self
                .with_out(|state, out| {
                    let (code, text) = match excess {
                        Excess::Message => (FailureCode::TooLarge, "the request is over the limit"),
                        Excess::Room => (FailureCode::Busy, "there is no room for the request"),
                    };
                    state.session.refuse(now, fragment.seq, code, text, out)
                })
                .map_err(|Violation(what)| self.broken(&what)),
            Assembled::Violation(what) => Err(self.broken(&what)),
        }
    }

    fn handle_lookup(&mut self, lookup: Lookup<'_>) -> Result<(), Violation> {
        if lookup.handle as usize >= self.server.limits.handles {
            return Err(Violation("a handle over the limit"));
        }
        let slot = self.server.registry.resolve(lookup.object);
        self.with_out(|state, out| {
            let found = match slot {
                Some(slot) => {
                    let Lookup { handle, object, interface, methods } = lookup;
                    state.handles.put(handle, object, interface, methods, slot)
                }
                None => Found::Refused {
                    code: FailureCode::Busy,
                    text: "too many names that nobody has bound are asked for".into(),
                },
            };
            let result = match &found {
                Found::Object { verdicts, methods } => {
                    BoundResult::Object { verdicts: verdicts.clone(), methods }
                }
                Found::Refused { code, text } => BoundResult::Failed { code: *code, text },
            };
            frame::put_bound(lookup.handle, &result, out.small());
        });
        let replaced = self.cell.lock().handles.take_replaced();
        handler::drop_objects(replaced);
        Ok(())
    }

    /// Works on the session with the send buffer of this link; an older link has none, and what it would say is lost
    /// with it.
    #[inline]
    fn with_out<R>(&self, work: impl FnOnce(&mut CellState, &mut SendBuffer) -> R) -> R {
        let mut state = self.cell.lock();
        let mut out = match &mut state.link {
            Some(link) if link.number == self.link => std::mem::take(&mut link.out),
            _ => SendBuffer::default(),
        };
        let result = work(&mut state, &mut out);
        if let Some(link) = &mut state.link
            && link.number == self.link
        {
            link.out = out;
        }
        result
    }

    /// Ready when the server is closing and everything is written.
    fn poll_output(&mut self, cx: &mut Context<'_>, now: Time) -> Poll<io::Result<()>> {
        loop {
            ready!(self.output.poll_write(cx, &mut self.stream, now))?;
            let mut state = self.cell.lock();
            let CellState { session, link, .. } = &mut *state;
            let Some(link) = link.as_mut().filter(|link| link.number == self.link) else {
                return Poll::Ready(Err(io::Error::other("a newer link took over")));
            };
            session.flush(&mut link.out);
            if link.out.is_empty() {
                link.scheduled = false;
                if !link.io.will_wake(cx.waker()) {
                    link.io = cx.waker().clone();
                }
                drop(state);
                self.output.batch.shrink();
                let closing = self.server.draining.load(Ordering::Acquire)
                    && self.server.is_closing(self.task, cx.waker());
                return if closing { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            link.scheduled = true;
            link.out.fill(&mut self.output.batch);
        }
    }

    fn poll_time(&mut self, cx: &mut Context<'_>, now: Time) -> Poll<io::Result<()>> {
        let limits = &self.server.limits;
        let patience = limits.progress_timeout;
        let stalled = self.output.stalled().map_or(Time::NEVER, |since| since + patience);
        let unfinished = self.assembly.oldest_progress().into_iter().chain(self.input.partial());
        let partial = unfinished.min().map_or(Time::NEVER, |since| since + patience);
        // Clients ask after one interval of silence and give up after two.
        let silent = self.input.heard() + limits.ping_interval * SILENT_INTERVALS;
        loop {
            let solicit = self.cell.lock().session.next_timeout();
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
            let asked = self.with_out(|state, out| state.session.handle_timeout(now, out));
            if let Err(Violation(what)) = asked {
                return Poll::Ready(Err(self.broken(&what)));
            }
            cx.waker().wake_by_ref();
        }
    }

    /// The client ended the connection, and with it the session if this is its newest link.
    fn closed_by_client(&self, code: CloseCode) -> io::Error {
        let newest = self.cell.lock().session.is_newest(self.link);
        if newest && code == CloseCode::Done {
            lock(&self.server.sessions).remove(self.cell.id);
        }
        io::ErrorKind::UnexpectedEof.into()
    }

    /// The peer broke the protocol: it is told, as far as that goes without waiting.
    fn broken(&self, what: &dyn std::fmt::Display) -> io::Error {
        let text = what.to_string();
        self.with_out(|_, out| frame::put_close(CloseCode::Violation, &text, out.small()));
        io::Error::new(io::ErrorKind::InvalidData, text)
    }

    fn count_assembly(&mut self) {
        let bytes = self.assembly.bytes();
        if bytes > self.assembling {
            self.server.budget.save(bytes - self.assembling);
        } else {
            self.server.budget.unsave(self.assembling - bytes);
        }
        self.assembling = bytes;
    }

    /// The link is over; its last words are tried once.
    fn detach(mut self) -> Stream {
        self.server.budget.unsave(self.assembling);
        self.assembling = 0;
        let now = self.server.clock.now();
        let mut state = self.cell.lock();
        state.session.detach(now, self.link);
        if let Some(mut link) = state.link.take_if(|link| link.number == self.link)
            && self.output.batch.is_empty()
            && !self.server.dead.load(Ordering::Acquire)
        {
            link.out.fill(&mut self.output.batch);
        }
        drop(state);
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

/// Reads before other tasks get a turn.
const READS_PER_POLL: usize = 16;
/// Intervals of silence after which a client is given up: it would have asked long before.
const SILENT_INTERVALS: u32 = 4;
/// How long the last bytes of a peer are waited for.
const LAST_BYTES: Duration = Duration::from_secs(1);
