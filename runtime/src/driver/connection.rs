//! The task of a link: connects, reads, writes, keeps time, and connects again.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;

use super::busy::{BusyPoll, poll_again};
use super::clock::Clock;
use super::datagram::client::{End, Exchange};
use super::ends::{closed, invalid, take_assembled};
use super::entropy::Entropy;
use super::input::{Got, Input};
use super::link::{Link, MutexState, Phase, State};
use super::output::Output;
use super::timer::Timer;
use crate::address::Address;
use crate::protocol::assembly::{Assembled, Assembly, AssemblyLimits};
use crate::protocol::client::{ClientConfig, Health};
use crate::protocol::packet::ClientEnd;
use crate::time::Time;
use crate::transport::{Datagrams, Network, Side, Stream};
use crate::wire::frame::{CloseCode, Frame, decode, decode_reply, put_close};
use crate::wire::send_buffer::{SendBuffer, UNFINISHED};

/// Makes a link to `address` and starts its task.
pub(crate) fn open(
    runtime: &Handle,
    network: Arc<dyn Network>,
    entropy: Arc<Entropy>,
    address: Address,
    config: ClientConfig,
) -> Arc<Link> {
    let _entered = runtime.enter();
    let clock = Clock::new();
    let link = Arc::new(Link::new(config, clock));
    let driver = Driver {
        link: link.clone(),
        network,
        entropy,
        address,
        failures: 0,
        choice: 0,
        refused: None,
        hurried: false,
    };
    runtime.spawn(driver.run());
    link
}

struct Driver {
    link: Arc<Link>,
    network: Arc<dyn Network>,
    entropy: Arc<Entropy>,
    address: Address,
    /// Attempts that brought no session, since the last that did.
    failures: u32,
    /// Which of the server's addresses is tried, where only an answer tells whether one is right; and why the one before
    /// was not.
    choice: usize,
    refused: Option<Arc<io::Error>>,
    /// The last attempt was made without a pause.
    hurried: bool,
}

/// What carries a link.
enum Carrier {
    Stream(Stream),
    Datagrams(Box<dyn Datagrams>),
}

/// What comes after a link.
enum Next {
    Pause,
    AtOnce,
    Stop,
}

impl Drop for Driver {
    /// However the task ends (the runtime may drop it): nobody waits for it in vain.
    fn drop(&mut self) {
        self.link.ended();
    }
}

impl Driver {
    async fn run(mut self) {
        loop {
            let mut timer = Timer::new(self.link.clock());
            let limit = self.link.limits().handshake_timeout;
            let connecting = tokio::time::timeout(limit, self.connect());
            match while_down(&self.link, &mut timer, connecting).await {
                None => return,
                Some(Ok(Ok(carrier))) => {
                    let next = match carrier {
                        Carrier::Stream(stream) => self.converse(stream).await,
                        Carrier::Datagrams(socket) => self.exchange(socket).await,
                    };
                    match next {
                        Next::Stop => return,
                        Next::AtOnce => continue,
                        Next::Pause => {}
                    }
                }
                Some(Ok(Err(error))) => {
                    self.choice = 0;
                    let error = self.refused.take().unwrap_or_else(|| Arc::new(error));
                    self.unreachable(error);
                }
                Some(Err(_)) => self.unreachable(Arc::new(io::ErrorKind::TimedOut.into())),
            }
            self.hurried = false;
            let pause = tokio::time::sleep(self.pause());
            if while_down(&self.link, &mut timer, pause).await.is_none() {
                return;
            }
        }
    }

    async fn connect(&self) -> io::Result<Carrier> {
        if let Address::Udp(_) = self.address {
            let side = Side::Client { choice: self.choice };
            let socket = self.network.datagrams(&self.address, side, self.link.limits());
            return socket.await.map(Carrier::Datagrams);
        }
        self.network.connect(&self.address).await.map(Carrier::Stream)
    }

    /// Uses one connection until it ends.
    async fn converse(&mut self, stream: Stream) -> Next {
        let Driver { link, entropy, failures, .. } = self;
        let now = link.clock().now();
        begin(link, now, entropy.next(), SendBuffer::default(), |_| ());
        let mut connection = Connection::new(link, stream, now);
        let end = std::future::poll_fn(|cx| connection.poll(cx)).await;
        let error = Arc::new(end.unwrap_or_else(|| io::ErrorKind::ConnectionAborted.into()));
        let welcome = lost(link, Some(connection.output.batch.accepted()), &error);
        if !welcome {
            link.unreachable(error);
        }
        *failures = if welcome { 0 } else { failures.saturating_add(1) };
        let (closing, killed) = {
            let state = link.lock();
            (state.phase != Phase::Open, state.killed)
        };
        if closing && !killed {
            // The peer gets the end of the stream after everything else; it is no loss if it does not.
            let _ = connection.stream.shutdown().await;
        }
        if closing { Next::Stop } else { Next::Pause }
    }

    /// Uses one socket until the link over it ends.
    async fn exchange(&mut self, socket: Box<dyn Datagrams>) -> Next {
        let Driver { link, entropy, failures, choice, refused, hurried, .. } = self;
        let (now, nonce) = (link.clock().now(), entropy.next());
        let limits = link.limits().clone();
        let out = SendBuffer::for_datagrams(ClientEnd::room(&limits));
        let end = begin(link, now, nonce, out, |out| ClientEnd::new(now, limits, nonce, out));
        let mut exchange = Exchange::new(link, socket, end);
        let end = std::future::poll_fn(|cx| exchange.poll(cx)).await;
        exchange.retire();
        let (error, forgotten) = match end {
            End::Closed => (io::ErrorKind::ConnectionAborted.into(), false),
            End::Forgotten(error) => (error, true),
            End::Lost(error) => (error, false),
        };
        let error = Arc::new(error);
        let welcome = lost(link, None, &error);
        if link.lock().phase != Phase::Open {
            return Next::Stop;
        }
        if welcome {
            *failures = 0;
            // Once: a server that forgets every link is not to be asked without a pause.
            let at_once = forgotten && !*hurried;
            *hurried = at_once;
            return if at_once { Next::AtOnce } else { Next::Pause };
        }
        // Perhaps it is the host's next address; there is an error if it has none.
        *choice += 1;
        *refused = Some(error);
        Next::AtOnce
    }

    fn unreachable(&mut self, error: Arc<io::Error>) {
        self.failures = self.failures.saturating_add(1);
        self.link.unreachable(error);
    }

    /// Full jitter: a random part of a time that doubles with every failure.
    fn pause(&mut self) -> Duration {
        let limits = self.link.limits();
        let most = limits.reconnect_min.saturating_mul(1 << self.failures.min(16));
        let most = most.min(limits.reconnect_max).max(limits.reconnect_min);
        let fraction = (self.entropy.next() >> 11) as f64 / (1_u64 << 53) as f64;
        most.mul_f64(fraction)
    }
}

/// Tells the machine that there is a connection, whose frames `out` takes; `look` sees HELLO in it.
fn begin<R>(
    link: &Link,
    now: Time,
    nonce: u64,
    out: SendBuffer,
    look: impl FnOnce(&mut SendBuffer) -> R,
) -> R {
    let mut state = link.lock();
    state.out = out;
    let State { client, out, .. } = &mut *state;
    client.connected(now, nonce, out);
    let seen = look(out);
    state.leave();
    seen
}

/// Tells the machine that its connection is lost; small frames up to `accepted` may have left, in datagrams those that
/// were taken. Whether there had been a session.
fn lost(link: &Link, accepted: Option<u64>, error: &Arc<io::Error>) -> bool {
    let mut state = link.lock();
    let State { client, out, .. } = &mut *state;
    let now = link.clock().now();
    client.tick(now);
    let welcome = client.is_welcome();
    let accepted = accepted.unwrap_or_else(|| out.taken_position());
    client.link_lost(now, accepted, out, error);
    state.out = SendBuffer::default();
    state.settled = true;
    state.lose_back(now);
    state.leave();
    welcome
}

/// Does some work while no connection is up, and keeps the calls' time meanwhile. Nothing if the link is closed.
async fn while_down<F: Future>(link: &Link, timer: &mut Timer, work: F) -> Option<F::Output> {
    let mut work = pin!(work);
    std::future::poll_fn(|cx| {
        loop {
            let now = link.clock().now();
            let mut state = link.lock();
            if state.phase != Phase::Open {
                return Poll::Ready(None);
            }
            state.client.tick(now);
            let wanted = state.client.next_timeout();
            if !timer.poll(cx, now, wanted) {
                state.sleep(cx);
                state.leave_asleep();
                return work.as_mut().poll(cx).map(Some);
            }
            let State { client, out, .. } = &mut *state;
            client.handle_timeout(now, out);
            state.leave();
        }
    })
    .await
}

/// One connection of a link.
struct Connection<'a> {
    link: &'a Link,
    stream: Stream,
    input: Input,
    output: Output,
    assembly: Assembly,
    timer: Timer,
    busy: BusyPoll,
    /// Callers to be woken; empty between uses.
    woken: Vec<Waker>,
    /// The task has yielded once, so that callers that are ready could add to this batch.
    yielded: bool,
    /// When the machine wants to be asked again, if it was asked in this turn.
    wanted: Option<Time>,
}

impl<'a> Connection<'a> {
    fn new(link: &'a Link, stream: Stream, now: Time) -> Connection<'a> {
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
        let (yielded, wanted) = (false, None);
        Connection { link, stream, input, output, assembly, timer, busy, woken, yielded, wanted }
    }

    /// Ready when the connection has ended: with an error, or with nothing when the link is closed.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Error>> {
        let now = self.link.clock().now();
        if let Err(error) = self.poll_input(cx, now) {
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
                    self.handle_frames(now)?;
                    self.input.go_direct(&mut self.assembly, |_| true, now);
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

    fn handle_frames(&mut self, now: Time) -> io::Result<()> {
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
        result
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
