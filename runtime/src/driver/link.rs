//! The client's end of all connections to one server: what proxies call, and what its connection task works on.
//!
//! Callers lock, let the machine encode, and leave; the task of the connection writes and reads. A call costs no
//! channel, no timer entry and no task.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::back::Channel;
use super::bundle::Share;
use super::clock::Clock;
use super::datagram::Sockets;
use super::lock;
use super::references::received::Received;
use super::references::{Home, Partner};
use crate::dispatch::Status;
use crate::error::CallError;
use crate::limits::Limits;
pub(crate) use crate::protocol::client::NewCall;
use crate::protocol::client::{Answered, Client, ClientConfig, ClientStatistics, Key, NotStarted};
use crate::semantics::Execution;
use crate::time::Time;
use crate::wire::send_buffer::SendBuffer;
use ahead::Unanswered;
pub(super) use leave::MutexState;
use passing::Passing;

mod ahead;
mod bound;
mod leave;
mod member;
mod passing;
#[cfg(test)]
mod tests;

/// All calls of a node to one server.
pub(crate) struct Link {
    state: Mutex<State>,
    limits: Arc<Limits>,
    clock: Clock,
    /// Who is at the other side, once references were passed.
    partner: OnceLock<Partner>,
    /// The calls are calls back.
    is_back: AtomicBool,
}

pub(super) struct State {
    pub(super) client: Client<Waker>,
    pub(super) out: SendBuffer,
    /// The connection's task.
    pub(super) io: Option<Waker>,
    /// The task has been woken, or will look again by itself.
    pub(super) scheduled: bool,
    pub(super) phase: Phase,
    /// Who waits until nothing is in flight, or until the task has ended.
    pub(super) idle: Vec<Waker>,
    /// The task has ended.
    ended: bool,
    /// Nothing more is sent, not even what was to be.
    pub(super) killed: bool,
    /// What was sent has arrived, as far as this side can know; on a stream the kernel sees to it.
    pub(super) settled: bool,
    /// Of this link's sockets for datagrams.
    pub(super) sockets: Sockets,
    /// What the next datagram is given to.
    pub(super) share: Option<Share>,
    /// The node, and the link itself.
    home: Option<(Weak<dyn Home>, Weak<Link>)>,
    /// The stream of calls back, if there is one.
    back: Option<Arc<Channel>>,
    /// References of calls, if there were any.
    passing: Option<Box<Passing>>,
    /// Since when there is no session.
    lost: Option<Time>,
    /// Of a link of a node to itself.
    unanswered: Unanswered,
}

/// Whether the link goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// What is in the send buffer still goes out, then the connection ends.
    Closing,
    /// The task has ended.
    Closed,
}

/// Names a call of a link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallKey(Key);

/// A caller's place among those who wait for room.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    number: Option<u64>,
}

/// What an answer has beside the bytes that are swapped.
#[derive(Default)]
pub(crate) struct Extras {
    /// The bytes, instead, if they are many.
    pub(crate) large: Option<Bytes>,
    /// The references that came with them.
    pub(crate) received: Option<Arc<Received>>,
}

/// Why a call was not taken. Nothing was sent.
pub(crate) enum StartError {
    /// No room; wait with [`Link::poll_capacity`].
    Full,
    /// It cannot be made.
    Failed(CallError),
}

impl Link {
    /// A link that no task drives yet.
    pub(super) fn new(config: ClientConfig, clock: Clock) -> Link {
        let limits = config.limits.clone();
        let state = State {
            client: Client::new(config),
            out: SendBuffer::default(),
            io: None,
            scheduled: true,
            phase: Phase::Open,
            idle: Vec::new(),
            ended: false,
            killed: false,
            settled: true,
            sockets: Sockets::default(),
            share: None,
            home: None,
            back: None,
            passing: None,
            lost: None,
            unanswered: Unanswered::None,
        };
        let (partner, is_back) = (OnceLock::new(), AtomicBool::new(false));
        Link { state: Mutex::new(state), limits, clock, partner, is_back }
    }

    /// Hands a call to the machine. `waiting` is the place of a caller that has waited for room; others do not
    /// overtake those who wait. The `waiter` is woken when the answer is there, as after [`Link::poll_answer`].
    #[inline]
    pub(crate) fn try_start(
        &self,
        call: &NewCall<'_>,
        waiting: Option<&mut Waiting>,
        waiter: Option<&Waker>,
    ) -> Result<CallKey, StartError> {
        let mut state = lock(&self.state);
        let State { client, out, phase, .. } = &mut *state;
        if *phase != Phase::Open {
            let error = over(self.is_back(), client.peer(), Execution::NotExecuted);
            return Err(StartError::Failed(error));
        }
        if waiting.is_none() && client.has_blocked() {
            return Err(StartError::Full);
        }
        let now = client.needs_time(call.oneway).then(|| self.clock.now());
        let key = client.start(now, call, out).map_err(|error| match error {
            NotStarted::Full if self.is_back() => StartError::Failed(CallError::BufferFull),
            NotStarted::Full => StartError::Full,
            NotStarted::Failed(error) => StartError::Failed(error),
        })?;
        if let Some(waiting) = waiting {
            waiting.number = None;
        }
        if let Some(waiter) = waiter {
            client.wait(key, waiter.clone());
        }
        state.started(key, call.oneway && self.leads_home());
        let io = state.schedule();
        drop(state);
        if let Some(io) = io {
            io.wake();
        }
        Ok(CallKey(key))
    }

    /// Ready when there is room for a call with so many bytes of arguments; else the caller is woken when there is.
    pub(crate) fn poll_capacity(
        &self,
        bytes: usize,
        waiting: &mut Waiting,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let mut state = lock(&self.state);
        let State { client, out, phase, .. } = &mut *state;
        if *phase != Phase::Open {
            return Poll::Ready(());
        }
        waiting.number = client.block(bytes, out, waiting.number, cx.waker().clone());
        if waiting.number.is_none() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The caller no longer waits for room.
    pub(crate) fn forget_waiting(&self, waiting: &mut Waiting) {
        if let Some(number) = waiting.number.take() {
            self.update(|_, client, _| client.forget_blocked(number));
        }
    }

    /// The answer: how the method ended, with the bytes swapped into `body`, or in `extras` if they are many.
    #[inline]
    pub(crate) fn poll_answer(
        &self,
        key: CallKey,
        cx: &mut Context<'_>,
        body: &mut Vec<u8>,
        extras: &mut Extras,
    ) -> Poll<Result<Status, CallError>> {
        let mut state = lock(&self.state);
        let large = &mut extras.large;
        let answer = state.client.take_or_wait(key.0, body, large, |old| match old {
            Some(old) if old.will_wake(cx.waker()) => None,
            _ => Some(cx.waker().clone()),
        });
        let Some(answer) = answer else { return Poll::Pending };
        extras.received = state.answered(key, answer.is_ok());
        Poll::Ready(answer.map(status))
    }

    /// The answer, if it is there.
    pub(crate) fn try_answer(
        &self,
        key: CallKey,
        body: &mut Vec<u8>,
        extras: &mut Extras,
    ) -> Option<Result<Status, CallError>> {
        let mut state = lock(&self.state);
        let answer = state.client.take_shared(key.0, body, &mut extras.large)?;
        extras.received = state.answered(key, answer.is_ok());
        Some(answer.map(status))
    }

    /// Nobody wants the answer any more; the call is given up.
    pub(crate) fn cancel(&self, key: CallKey) {
        self.update(|now, client, out| client.abandon(now, key.0, out));
    }

    /// Gives the call up; what is known of it then is its answer.
    pub(crate) fn cancel_and_wait(&self, key: CallKey) {
        self.update(|now, client, out| client.cancel(now, key.0, out));
    }

    /// The call goes on without anybody waiting.
    pub(crate) fn detach(&self, key: CallKey) {
        self.update(|_, client, _| client.detach(key.0));
    }

    /// The deadline of calls that set none.
    pub(crate) fn default_timeout(&self) -> Option<Duration> {
        self.limits.default_timeout
    }

    /// Bytes that the arguments of a call may have at most, as far as this side knows.
    #[cfg(feature = "sqlite")]
    pub(crate) fn largest_request(&self) -> usize {
        lock(&self.state).client.own_max_message()
    }

    /// Whether it goes over datagrams, which carry less.
    #[cfg(feature = "sqlite")]
    pub(crate) fn is_over_datagrams(&self) -> bool {
        lock(&self.state).client.is_over_datagrams()
    }

    /// Waits until no call is in flight and nothing is to be sent, nor on its way in a datagram.
    pub(crate) async fn idle(&self) {
        std::future::poll_fn(|cx| {
            let mut state = lock(&self.state);
            if state.phase == Phase::Closed || state.is_idle() {
                return Poll::Ready(());
            }
            add_waker(&mut state.idle, cx);
            Poll::Pending
        })
        .await;
    }

    /// Whether no call is in flight and nothing is to be sent.
    pub(crate) fn is_idle(&self) -> bool {
        lock(&self.state).is_idle()
    }

    /// Whether nothing ends with it: no call, nothing that is to be sent, no references.
    pub(crate) fn is_spare(&self) -> bool {
        self.partner.get().is_none() && self.is_idle()
    }

    /// Calls that are not finished.
    pub(crate) fn in_flight(&self) -> usize {
        lock(&self.state).client.in_flight()
    }

    /// What the calls of this link did so far.
    pub(crate) fn statistics(&self) -> ClientStatistics {
        lock(&self.state).client.statistics()
    }

    /// Adds what is counted of this link's sockets for datagrams.
    pub(crate) fn add_sockets(&self, all: &mut Sockets) {
        let state = lock(&self.state);
        all.traffic += state.sockets.traffic;
        all.dropped += state.sockets.dropped;
        all.numbers.extend(&state.sockets.numbers);
    }

    /// Writes the name of a call that was sent, and how often it was, into its span.
    pub(crate) fn trace(&self, key: CallKey, span: &tracing::Span) {
        if let Some((id, attempt)) = lock(&self.state).client.call_name(key.0) {
            span.record("id", tracing::field::display(id));
            span.record("attempt", attempt);
        }
    }

    /// Ends the link: what is to be sent still goes out.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        if state.phase == Phase::Open {
            state.phase = Phase::Closing;
        }
        let io = state.io.clone();
        drop(state);
        if let Some(io) = io {
            io.wake();
        }
    }

    /// Waits until the link's task has ended.
    pub(crate) async fn closed(&self) {
        std::future::poll_fn(|cx| {
            let mut state = lock(&self.state);
            if state.ended {
                return Poll::Ready(());
            }
            add_waker(&mut state.idle, cx);
            Poll::Pending
        })
        .await;
    }

    /// Ends the link at once, as a crash would: nothing more is sent.
    #[cfg_attr(not(feature = "sim"), allow(dead_code, reason = "only the simulator kills"))]
    pub(crate) fn kill(&self) {
        let mut state = lock(&self.state);
        state.phase = Phase::Closed;
        state.out = SendBuffer::default();
        state.killed = true;
    }

    /// Runs `change` on the machine and wakes whom it concerns.
    #[inline]
    pub(super) fn update<R>(
        &self,
        change: impl FnOnce(Time, &mut Client<Waker>, &mut SendBuffer) -> R,
    ) -> R {
        let now = self.clock.now();
        let mut state = self.lock();
        let State { client, out, .. } = &mut *state;
        client.tick(now);
        let result = change(now, client, out);
        state.leave();
        result
    }

    /// The state, for the connection's task.
    #[inline]
    pub(super) fn lock(&self) -> MutexState<'_> {
        MutexState(lock(&self.state))
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    pub(super) fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// The task has ended: every caller is told.
    pub(super) fn ended(&self) {
        let mut state = self.lock();
        state.phase = Phase::Closed;
        state.ended = true;
        let (is_back, peer) = (self.is_back(), state.client.peer().to_owned());
        state.client.close(|execution| over(is_back, &peer, execution));
        let now = self.clock.now();
        state.lose_back(now);
        let waiting = std::mem::take(&mut state.idle);
        state.leave();
        waiting.into_iter().for_each(Waker::wake);
        if let Some(peer) = self.peer() {
            peer.close();
        }
    }

    /// No connection could be made.
    pub(super) fn unreachable(&self, error: Arc<io::Error>) {
        self.update(|_, client, _| client.unreachable(error));
    }
}

/// Adds the task, unless it is there already: a task may be polled any number of times while it waits.
fn add_waker(waiting: &mut Vec<Waker>, cx: &Context<'_>) {
    if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
        waiting.push(cx.waker().clone());
    }
}

/// Nothing is sent any more: this node is shut down, or the session is over in which the peer was called back.
fn over(is_back: bool, peer: &str, execution: Execution) -> CallError {
    if is_back {
        let source = io::Error::new(io::ErrorKind::NotConnected, "its session is over");
        return CallError::Link { peer: peer.into(), source: Arc::new(source), execution };
    }
    CallError::Closed { execution }
}

fn status(answered: Answered) -> Status {
    match answered {
        Answered::Ok => Status::Ok,
        Answered::MethodError => Status::MethodError,
    }
}
