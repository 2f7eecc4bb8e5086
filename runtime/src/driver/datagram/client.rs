//! One link of a client over datagrams, from its first to its last.

use std::io;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Traffic;
use super::outbox::Outbox;
use crate::driver::bundle::Share;
use crate::driver::busy::{BusyPoll, poll_again};
use crate::driver::ends::{closed, invalid};
use crate::driver::link::{Link, Phase, State};
use crate::driver::timer::Timer;
use crate::protocol::packet::{ClientEnd, Ended};
use crate::time::Time;
use crate::transport::{Datagrams, Inbox, Route, dropped_by_kernel};
use crate::wire::frame::{CloseCode, put_close};

/// A link with its socket.
pub(in crate::driver) struct Exchange<'a> {
    link: &'a Link,
    socket: Box<dyn Datagrams>,
    end: ClientEnd,
    inbox: Inbox,
    outbox: Outbox,
    timer: Timer,
    busy: BusyPoll,
    /// Datagrams that were received, and what of all that the link counts already.
    received: u64,
    counted: Traffic,
    /// Callers to be woken; empty between uses.
    woken: Vec<Waker>,
    /// The task has yielded once, so that callers that are ready could add to this batch.
    yielded: bool,
    /// Since when the link is closing.
    closing: Option<Time>,
    /// A datagram for a bundle.
    shared: Option<(Share, Vec<u8>)>,
}

/// How a link ended.
pub(in crate::driver) enum End {
    /// It was closed here.
    Closed,
    /// The server does not know it any more, and a new one may be made at once.
    Forgotten(io::Error),
    /// It is of no use for another reason.
    Lost(io::Error),
}

/// What there is to do after the machine was asked.
enum Next {
    /// Others are ready to run and may add to the batch.
    Yield,
    /// More could leave than the outbox holds.
    Send,
    /// Nothing before this moment, unless something comes.
    Sleep(Time),
    /// The last datagram leaves.
    Close,
}

impl<'a> Exchange<'a> {
    /// A link whose HELLO `end` holds.
    pub(in crate::driver) fn new(
        link: &'a Link,
        socket: Box<dyn Datagrams>,
        end: ClientEnd,
    ) -> Exchange<'a> {
        link.lock().sockets.numbers.extend(socket.kernel_number());
        Exchange {
            link,
            socket,
            end,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            timer: Timer::new(link.clock()),
            busy: BusyPoll::new(link.limits().busy_poll, link.clock().now()),
            received: 0,
            counted: Traffic::default(),
            woken: Vec::new(),
            yielded: false,
            closing: None,
            shared: None,
        }
    }

    /// Ready when the link has ended.
    pub(in crate::driver) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let now = self.link.clock().now();
        if let Err(end) = self.poll_input(cx, now) {
            return Poll::Ready(end);
        }
        loop {
            let blocked = match self.poll_send(cx) {
                Ok(blocked) => blocked,
                Err(end) => return Poll::Ready(end),
            };
            let wanted = match self.work(cx, now, blocked) {
                Err(end) => return Poll::Ready(end),
                Ok(Next::Close) => {
                    let _ = self.poll_send(cx);
                    return Poll::Ready(End::Closed);
                }
                Ok(Next::Yield) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Ok(Next::Send) => {
                    self.busy.active(now);
                    continue;
                }
                Ok(Next::Sleep(wanted)) => wanted,
            };
            if let Err(end) = self.poll_send(cx) {
                return Poll::Ready(end);
            }
            if self.timer.poll(cx, now, wanted) {
                cx.waker().wake_by_ref();
            }
            self.busy.look_again(cx, now);
            return Poll::Pending;
        }
    }

    /// Closes the socket.
    pub(in crate::driver) fn retire(self) {
        let dropped = self.socket.kernel_number().and_then(|number| dropped_by_kernel(&[number]));
        let mut state = self.link.lock();
        state.sockets.dropped += dropped.unwrap_or_default();
        state.sockets.numbers.clear();
        state.sockets.traffic += self.traffic() - self.counted;
    }

    fn poll_input(&mut self, cx: &mut Context<'_>, now: Time) -> Result<(), End> {
        for _ in 0..READS_PER_POLL {
            self.inbox.clear();
            match self.socket.poll_receive(cx, &mut self.inbox) {
                Poll::Ready(Ok(())) => self.handle(now)?,
                Poll::Ready(Err(error)) => return Err(self.failed(error)),
                Poll::Pending => return Ok(()),
            }
        }
        poll_again(cx);
        Ok(())
    }

    fn handle(&mut self, now: Time) -> Result<(), End> {
        self.received += self.inbox.len() as u64;
        self.busy.active(now);
        let mut state = self.link.lock();
        // This task looks at the send buffer before it sleeps; nobody need wake it for that.
        state.scheduled = true;
        let State { client, out, .. } = &mut *state;
        client.tick(now);
        let mut datagrams = self.inbox.iter();
        let handled =
            datagrams.try_for_each(|datagram| self.end.receive(now, datagram.bytes, client, out));
        self.end.after_input(now, client, out);
        let limits = self.link.limits();
        let flooded = out.pending() > limits.send_buffer + limits.control_backlog;
        state.leave_with(&mut self.woken);
        if flooded {
            return Err(End::Lost(invalid("the peer asks more than it reads")));
        }
        handled.map_err(over)
    }

    /// Sends what waits. Whether the socket is full.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if let Some((share, datagram)) = self.shared.take()
            && let Err(datagram) = share.give(datagram)
        {
            self.outbox.put(|into| {
                into.extend_from_slice(&datagram);
                Some(Route::default())
            });
        }
        loop {
            match self.outbox.poll_send(cx, &mut *self.socket) {
                Poll::Ready(Ok(())) => return Ok(false),
                Poll::Pending => return Ok(true),
                Poll::Ready(Err(error)) if is_fatal(&error) => return Err(self.failed(error)),
                // As lost as any other.
                Poll::Ready(Err(error)) => tracing::debug!(%error, "a datagram could not be sent"),
            }
        }
    }

    /// One turn under the lock: time, then what may leave.
    fn work(&mut self, cx: &mut Context<'_>, now: Time, blocked: bool) -> Result<Next, End> {
        let mut state = self.link.lock();
        state.scheduled = true;
        if state.killed {
            return Err(End::Lost(io::ErrorKind::ConnectionAborted.into()));
        }
        state.transmit_back(cx, self.link.limits().send_buffer);
        let State { client, out, phase, share, .. } = &mut *state;
        client.tick(now);
        if self.end.next_timeout(client) <= now
            && let Err(ended) = self.end.handle_timeout(now, client, out)
        {
            state.leave_with(&mut self.woken);
            return Err(over(ended));
        }
        // Others that are ready to run may have calls for the same datagram.
        if out.pending() > 0 && client.in_flight() > 1 && !std::mem::take(&mut self.yielded) {
            self.yielded = true;
            state.leave_with(&mut self.woken);
            return Ok(Next::Yield);
        }
        let mut until = Time::NEVER;
        let mut closed = false;
        if *phase != Phase::Open {
            let since = *self.closing.get_or_insert(now);
            until = since + CLOSING;
            closed = until <= now || (self.end.is_idle() && out.is_empty());
            if closed {
                *phase = Phase::Closed;
                put_close(CloseCode::Done, "", out.small());
            }
        }
        if !blocked && let Some(share) = share.take() {
            let mut datagram = Vec::new();
            // Nothing may leave now: the others need not wait for it.
            self.end.transmit(now, client, out, &mut datagram);
            self.shared = Some((share, datagram));
        }
        while !blocked && self.outbox.has_room() {
            let end = &mut self.end;
            let one = |into: &mut Vec<u8>| {
                end.transmit(now, client, out, into).then_some(Route::default())
            };
            if !self.outbox.put(one) {
                break;
            }
        }
        state.settled = self.end.is_idle();
        let traffic = self.traffic();
        state.sockets.traffic += traffic - std::mem::replace(&mut self.counted, traffic);
        if closed || !self.outbox.has_room() && !blocked {
            state.leave_with(&mut self.woken);
            return Ok(if closed { Next::Close } else { Next::Send });
        }
        self.yielded = false;
        let wanted = if blocked { now + FULL_PAUSE } else { self.end.next_timeout(&state.client) };
        let waiting = state.take_idle();
        state.sleep(cx);
        state.leave_with(&mut self.woken);
        waiting.into_iter().for_each(Waker::wake);
        Ok(Next::Sleep(wanted.min(until)))
    }

    fn traffic(&self) -> Traffic {
        let statistics = self.end.statistics();
        Traffic {
            sent: self.outbox.sent(),
            received: self.received,
            lost: statistics.lost,
            resent: statistics.resent,
            rejected: statistics.rejected,
        }
    }

    /// The socket's own error. A server that is gone may be back already.
    fn failed(&self, error: io::Error) -> End {
        if error.kind() == io::ErrorKind::ConnectionRefused {
            End::Forgotten(error)
        } else {
            End::Lost(error)
        }
    }
}

/// Whether a link is of no use after its socket has said so; else only what was to be sent is lost.
fn is_fatal(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, NetworkDown, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | NetworkUnreachable | NetworkDown | AddrNotAvailable)
}

fn over(ended: Ended) -> End {
    let timed_out = |what| End::Lost(io::Error::new(io::ErrorKind::TimedOut, what));
    match ended {
        Ended::Closed { code, text } => End::Lost(closed(code, &text)),
        Ended::Violation(what) => End::Lost(invalid(what)),
        Ended::Malformed(error) => End::Lost(invalid(error.to_string())),
        Ended::Silent => timed_out("the peer is silent"),
        Ended::Stalled => timed_out("a large message does not go on"),
        Ended::Unknown => End::Forgotten(io::Error::new(
            io::ErrorKind::ConnectionReset,
            "the server does not know this link",
        )),
    }
}

/// Batches that are received before other tasks get a turn.
const READS_PER_POLL: usize = 4;
/// How long a link that is closing waits until what it sent has arrived.
pub(in crate::driver) const CLOSING: Duration = Duration::from_secs(1);
/// How long deadlines wait while the socket takes nothing.
const FULL_PAUSE: Duration = Duration::from_millis(10);
