//! One connection of a link over a stream: reads, writes, keeps time.

use std::io;
use std::task::{Context, Poll, Waker};

use crate::driver::busy::{BusyPoll, poll_again};
use crate::driver::ends::{closed, invalid, take_assembled};
use crate::driver::input::{Got, Input};
use crate::driver::link::{Link, MutexState, Phase, State};
use crate::driver::output::Output;
use crate::driver::timer::Timer;
use crate::protocol::assembly::{Assembled, Assembly, AssemblyLimits};
use crate::protocol::client::Health;
use crate::time::Time;
use crate::transport::Stream;
use crate::wire::frame::{CloseCode, Frame, decode, decode_reply, put_close};
use crate::wire::send_buffer::UNFINISHED;

/// The connection while it is up.
pub(super) struct Connection<'a> {
    link: &'a Link,
    pub(super) stream: Stream,
    input: Input,
    pub(super) output: Output,
    assembly: Assembly,
    timer: Timer,
    busy: BusyPoll,
    /// Callers to be woken; empty between uses.
    woken: Vec<Waker>,
    /// The task has yielded once, so that callers that are ready could add to this batch.
    yielded: bool,
    /// Callers have their answers and go on before more of a large message is read, and so does what they ask for next.
    interrupted: bool,
    /// When the machine wants to be asked again, if it was asked in this turn.
    wanted: Option<Time>,
}

impl<'a> Connection<'a> {
    pub(super) fn new(link: &'a Link, stream: Stream, now: Time) -> Connection<'a> {
        let limits = link.limits();
        let assembly = Assembly::new(AssemblyLimits {
            message: limits.message,
            // A server may have larger budgets, but has no more replies unfinished at a time than this.
            bytes: limits.reply_bytes.max(limits.message.saturating_mul(UNFINISHED)),
            messages: limits.window,
        });
        let (input, output) = (Input::new(now), Output::default());
        let timer = Timer::new(link.clock());
        let busy = BusyPoll::new(limits.busy_poll, now);
        let woken = Vec::new();
        let (yielded, interrupted, wanted) = (false, false, None);
        Connection {
            link,
            stream,
            input,
            output,
            assembly,
            timer,
            busy,
            woken,
            yielded,
            interrupted,
            wanted,
        }
    }

    /// Ready when the connection has ended: with an error, or with nothing when the link is closed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Error>> {
        let now = self.link.clock().now();
        if std::mem::take(&mut self.interrupted) {
            self.yielded = true;
            poll_again(cx);
        } else if let Err(error) = self.poll_input(cx, now) {
            return Poll::Ready(Some(error));
        }
        match self.poll_output(cx, now) {
            Poll::Ready(Ok(())) => return Poll::Ready(None),
            Poll::Ready(Err(error)) => return Poll::Ready(Some(error)),
            Poll::Pending => {}
        }
        let ended = self.poll_time(cx, now).map(Some);
        if ended.is_pending() {
            self.busy.look_again(cx, now);
        }
        ended
    }

    fn poll_input(&mut self, cx: &mut Context<'_>, now: Time) -> io::Result<()> {
        for _ in 0..READS_PER_POLL {
            match self.input.poll_read(cx, &mut self.stream, &mut self.assembly, now) {
                Poll::Ready(Ok(Got::Bytes)) => {
                    self.busy.active(now);
                    let answered = self.handle_frames(now)?;
                    if self.input.go_direct(&mut self.assembly, |_| true, now) && answered {
                        self.interrupted = true;
                        break;
                    }
                }
                // A part of a frame is no sign of life: one must become whole.
                Poll::Ready(Ok(Got::More)) => {}
                Poll::Ready(Ok(Got::Fragment(assembled))) => {
                    self.busy.active(now);
                    self.handle_assembled(now, assembled)?;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(()),
            }
        }
        poll_again(cx);
        Ok(())
    }

    /// Handles the frames that are complete; whether there were any.
    fn handle_frames(&mut self, now: Time) -> io::Result<bool> {
        let mut state = self.link.lock();
        // This task looks at the send buffer before it sleeps; nobody need wake it for that.
        state.scheduled = true;
        let State { client, out, .. } = &mut *state;
        client.tick(now);
        let mut done = 0;
        let result = loop {
            let (start, end) = match self.input.peek(done) {
                Ok(Some(frame)) => frame,
                Ok(None) => break Ok(()),
                Err(error) => break Err(invalid(error.to_string())),
            };
            done = end;
            let frame = self.input.bytes(start, end);
            if let Some(Ok(reply)) = &decode_reply(frame) {
                match client.handle_reply(now, reply) {
                    Ok(()) => continue,
                    Err(violation) => break Err(invalid(violation.0)),
                }
            }
            let result = match decode(frame) {
                Err(error) => Err(invalid(error.to_string())),
                Ok(Frame::Close { code, text }) => Err(closed(code, text)),
                Ok(Frame::Fragment(fragment)) => {
                    client.heard(now);
                    take_assembled(self.assembly.accept(now, &fragment), now, client)
                }
                Ok(frame) => {
                    client.handle(now, &frame, out).map_err(|violation| invalid(violation.0))
                }
            };
            if result.is_err() {
                break result;
            }
        };
        client.after_input(now, out);
        let limits = self.link.limits();
        let flooded = out.pending() > limits.send_buffer + limits.control_backlog;
        self.input.consume(done);
        state.leave_with(&mut self.woken);
        if flooded {
            return Err(invalid("the peer asks more than it reads"));
        }
        result.map(|()| done > 0)
    }

    /// A fragment came straight into its message.
    fn handle_assembled(&mut self, now: Time, assembled: Assembled) -> io::Result<()> {
        let mut state = self.link.lock();
        state.scheduled = true;
        let State { client, out, .. } = &mut *state;
        client.heard(now);
        let result = take_assembled(assembled, now, client);
        client.after_input(now, out);
        state.leave_with(&mut self.woken);
        result
    }

    /// Ready when the link is closed and everything is written. A turn takes one batch: what the server sends meanwhile
    /// does not wait until all of a large request is written.
    fn poll_output(&mut self, cx: &mut Context<'_>, now: Time) -> Poll<io::Result<()>> {
        let mut taken = false;
        loop {
            let written = self.output.poll_write(cx, &mut self.stream, now)?;
            let mut state = self.link.lock();
            if written.is_pending() {
                // Calls can be started meanwhile: their deadlines are kept, though they cannot leave.
                self.sleep(cx, now, state);
                return Poll::Pending;
            }
            state.scheduled = true;
            if state.killed {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            state.transmit_back(cx, self.link.limits().send_buffer);
            if state.out.is_empty() {
                if state.phase != Phase::Open {
                    if state.phase == Phase::Closing {
                        // Once: the next turn finds it written.
                        state.phase = Phase::Closed;
                        put_close(CloseCode::Done, "", state.out.small());
                        continue;
                    }
                    return Poll::Ready(Ok(()));
                }
                self.yielded = false;
                self.output.batch.shrink();
                self.sleep(cx, now, state);
                return Poll::Pending;
            }
            if taken {
                self.yielded = true;
                poll_again(cx);
                return Poll::Pending;
            }
            // Others that are ready to run may have calls for the same write.
            if state.client.in_flight() > 1 && !self.yielded {
                self.yielded = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            (self.yielded, taken) = (false, true);
            self.busy.active(now);
            let State { client, out, .. } = &mut *state;
            out.fill(&mut self.output.batch);
            client.tick(now);
            client.drained(now, out);
            state.leave_with(&mut self.woken);
        }
    }

    /// Nothing can be written now: whoever brings something wakes the task.
    fn sleep(&mut self, cx: &Context<'_>, now: Time, mut state: MutexState<'_>) {
        state.client.tick(now);
        self.wanted = Some(state.client.next_timeout());
        state.sleep(cx);
        state.leave_asleep();
    }

    /// Ready when the connection is of no use any more.
    fn poll_time(&mut self, cx: &mut Context<'_>, now: Time) -> Poll<io::Error> {
        loop {
            let patience = self.link.limits().progress_timeout;
            let stalled = self.output.stalled().map_or(Time::NEVER, |since| since + patience);
            if self.output.take_resumed() {
                self.link.lock().client.heard(now);
                self.wanted = None;
            }
            let wanted = self.wanted.take().unwrap_or_else(|| {
                let mut state = self.link.lock();
                state.client.tick(now);
                state.client.next_timeout()
            });
            if !self.timer.poll(cx, now, wanted.min(stalled)) {
                return Poll::Pending;
            }
            if stalled <= now {
                return Poll::Ready(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the peer reads nothing",
                ));
            }
            let mut state = self.link.lock();
            let State { client, out, .. } = &mut *state;
            let health = client.handle_timeout(now, out);
            let written = !out.is_empty();
            state.leave();
            if health == Health::Silent {
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the peer is silent"));
            }
            if written {
                // To be written by the next turn.
                cx.waker().wake_by_ref();
            }
        }
    }
}

/// Reads before what waits is written and other tasks get a turn: the heads and bodies of two fragments.
const READS_PER_POLL: usize = 4;
