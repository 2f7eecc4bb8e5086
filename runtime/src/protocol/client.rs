//! The client's machine: calls of one client to one server, over however many links it takes.
//!
//! A call waits in a slot of a slab until it is finished. It gets its number when it is first encoded; the number
//! belongs to one session of one run of the server. A link that breaks loses nothing: calls that cannot have left are
//! queued again, the others wait for the next link, which tells what the server has. What each semantics does then is
//! in `link.rs`; what time does is in `timers.rs`.
//!
//! `W` is what the driver wakes when a call is finished: a waker, or a number in the simulator.

mod acks;
mod bindings;
mod delivery;
mod ending;
mod frames;
mod link;
#[cfg(feature = "sim")]
mod model;
mod references;
mod room;
mod slots;
mod timers;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use acks::Acks;
use bindings::Binding;
pub(crate) use bindings::Expected;
use link::{Link, Session};
pub(crate) use references::Arrival;
pub(crate) use slots::Key;
use slots::{Answer, Slots, State};
pub(crate) use timers::Health;

use super::packet;
use super::seq_map::SeqMap;
use crate::error::{CallError, Refusal};
use crate::id::{CallId, Handle, NodeId};
use crate::semantics::{Execution, Semantics};
use crate::time::Time;
use crate::wire::body::Body;
use crate::wire::frame::{self, Call};
use crate::wire::send_buffer::SendBuffer;

/// What a client machine needs to know; the durations and sizes are those of [`Limits`](crate::Limits).
#[derive(Debug, Clone)]
pub(crate) struct ClientConfig {
    pub(crate) node: NodeId,
    /// The server's address, for errors.
    pub(crate) peer: Box<str>,
    pub(crate) limits: Arc<crate::limits::Limits>,
    /// Frames travel in datagrams: in any order, and acknowledged by them.
    pub(crate) datagrams: bool,
}

/// All calls of this client to one server.
#[cfg_attr(feature = "sim", derive(Clone))]
pub(crate) struct Client<W> {
    config: ClientConfig,
    slots: Slots<W>,
    by_seq: SeqMap<u32>,
    /// Calls to be encoded when link, window and send buffer allow it, in order.
    queue: VecDeque<Key>,
    session: Option<Session>,
    link: Link,
    /// Number of the newest link.
    link_number: u64,
    acks: Acks,
    bindings: Vec<Binding<W>>,
    /// Handles that mean nothing any more, oldest first.
    free_handles: VecDeque<Handle>,
    /// Bytes of all requests that are kept.
    request_bytes: usize,
    /// Callers that found no room, in order.
    blocked: VecDeque<(u64, W)>,
    blocked_ids: u64,
    /// Callers to be woken.
    woken: Vec<W>,
    /// No deadline or resolve wait ends before this.
    next_deadline: Time,
    /// Calls that were started without a clock; their times count from zero until the next [`tick`](Client::tick).
    untimed: Vec<u32>,
    /// What came that is others' business.
    arrivals: Vec<Arrival>,
    /// Why the last attempt to connect failed.
    unreachable: Option<Arc<io::Error>>,
    statistics: ClientStatistics,
}

/// What a client did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ClientStatistics {
    pub(crate) calls: u64,
    pub(crate) resent: u64,
    pub(crate) links: u64,
    pub(crate) sessions: u64,
}

/// A call to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewCall<'a> {
    pub(crate) handle: Handle,
    /// Position in what was looked up.
    pub(crate) method: u32,
    /// How the session treats it; exactly-once calls are at-least-once calls for it.
    pub(crate) semantics: Semantics,
    pub(crate) oneway: bool,
    /// References stand behind the arguments.
    pub(crate) passes: bool,
    /// None for no deadline.
    pub(crate) timeout: Option<Duration>,
    pub(crate) arguments: &'a [u8],
    /// The arguments, instead, if they are more than [`FRAGMENT`](frame::FRAGMENT) bytes and are to be shared.
    pub(crate) large: Option<&'a Body>,
}

/// Why a call was not taken. Nothing was sent.
#[derive(Debug)]
pub(crate) enum NotStarted {
    /// No room in window, buffer or budget: wait.
    Full,
    /// It cannot be made at all.
    Failed(CallError),
}

/// How a call was answered; the bytes are beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    /// The bytes are the result.
    Ok,
    /// The bytes are the method's own error.
    MethodError,
}

/// The peer broke the protocol; the link must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Violation(pub(crate) &'static str);

impl NewCall<'_> {
    /// Bytes of the encoded arguments.
    #[inline]
    fn bytes(&self) -> usize {
        self.large.map_or(self.arguments.len(), Body::len)
    }
}

impl<W> Client<W> {
    /// A client without calls, session or link.
    pub(crate) fn new(config: ClientConfig) -> Client<W> {
        let acks = Acks::new(config.datagrams);
        Client {
            config,
            slots: Slots::default(),
            by_seq: SeqMap::default(),
            queue: VecDeque::new(),
            session: None,
            link: Link::Down,
            link_number: 0,
            acks,
            bindings: Vec::new(),
            free_handles: VecDeque::new(),
            request_bytes: 0,
            blocked: VecDeque::new(),
            blocked_ids: 0,
            woken: Vec::new(),
            next_deadline: Time::NEVER,
            untimed: Vec::new(),
            arrivals: Vec::new(),
            unreachable: None,
            statistics: ClientStatistics::default(),
        }
    }

    /// Takes a call: encodes it at once if link and window allow it, else queues it.
    ///
    /// Reading a clock takes as long as the rest of this. Without `now` the call's time begins at the next
    /// [`tick`](Self::tick), before which the link can send nothing anyway; see [`needs_time`](Self::needs_time).
    ///
    /// # Errors
    /// [`NotStarted::Full`] if there is no room, else why the call cannot be made. Nothing was sent in either case.
    #[inline]
    pub(crate) fn start(
        &mut self,
        now: Option<Time>,
        call: &NewCall<'_>,
        out: &mut SendBuffer,
    ) -> Result<Key, NotStarted> {
        self.check(call).map_err(NotStarted::Failed)?;
        let bytes = call.bytes();
        if !self.has_room(bytes, out) {
            return Err(NotStarted::Full);
        }
        self.statistics.calls += 1;
        self.request_bytes += bytes;
        let untimed = now.is_none();
        let now = now.unwrap_or(Time::ZERO);
        let deadline = call.timeout.map_or(Time::NEVER, |timeout| now + timeout);
        let key = self.slots.take(now, deadline, call);
        if untimed {
            self.untimed.push(key.index);
        } else {
            self.next_deadline = self.next_deadline.min(deadline);
        }
        if self.queue.is_empty() && self.is_known(call.handle) && self.may_encode(true, out) {
            self.encode(now, key, out);
        } else {
            self.queue.push_back(key);
            self.flush_queue(now, out);
        }
        Ok(key)
    }

    /// Whether a call can be started only by a known time: it ends at once, or others that wait are looked at too.
    #[inline]
    pub(crate) fn needs_time(&self, oneway: bool) -> bool {
        oneway || !self.queue.is_empty()
    }

    /// The answer, if there is one, and the call is forgotten: its bytes are swapped into `body`, or are in `large` if they
    /// came in fragments.
    #[inline]
    pub(crate) fn take_shared(
        &mut self,
        key: Key,
        body: &mut Vec<u8>,
        large: &mut Option<Bytes>,
    ) -> Option<Result<Answered, CallError>> {
        let slot = self.slots.get_mut(key)?;
        if slot.state != State::Done {
            return None;
        }
        let answer = slot.answer.take()?;
        std::mem::swap(&mut slot.body, body);
        if slot.large_body.is_some() {
            *large = slot.large_body.take();
        }
        self.release(key.index);
        Some(match answer {
            Answer::Ok => Ok(Answered::Ok),
            Answer::MethodError => Ok(Answered::MethodError),
            Answer::Failed(error) => Err(error),
        })
    }

    /// As [`take_shared`](Self::take_shared), with all bytes of the answer in `body`.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn take(
        &mut self,
        key: Key,
        body: &mut Vec<u8>,
    ) -> Option<Result<Answered, CallError>> {
        let mut large = None;
        let answer = self.take_shared(key, body, &mut large);
        if let Some(large) = large {
            *body = large.into();
        }
        answer
    }

    /// The answer as [`take_shared`](Self::take_shared), or leaves `waiter` to be woken when it is there.
    #[inline]
    pub(crate) fn take_or_wait(
        &mut self,
        key: Key,
        body: &mut Vec<u8>,
        large: &mut Option<Bytes>,
        waiter: impl FnOnce(Option<&W>) -> Option<W>,
    ) -> Option<Result<Answered, CallError>> {
        let answer = self.take_shared(key, body, large);
        if answer.is_none()
            && let Some(slot) = self.slots.get_mut(key)
            && let Some(waiter) = waiter(slot.waiter.as_ref())
        {
            slot.waiter = Some(waiter);
        }
        answer
    }

    /// Leaves `waiter` to be woken when the answer is there; at once if it is.
    #[inline]
    pub(crate) fn wait(&mut self, key: Key, waiter: W) {
        match self.slots.get_mut(key) {
            Some(slot) if slot.state != State::Done => slot.waiter = Some(waiter),
            _ => self.woken.push(waiter),
        }
    }

    /// The call goes on, and nobody will ask for its answer.
    pub(crate) fn detach(&mut self, key: Key) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.abandoned = true;
            slot.waiter = None;
            if slot.state == State::Done {
                self.release(key.index);
            }
        }
    }

    /// The full name of a call that was sent, and how often it was.
    pub(crate) fn call_name(&mut self, key: Key) -> Option<(CallId, u32)> {
        let session = self.session.as_ref()?;
        let (boot, session) = (session.boot, session.id);
        let slot = self.slots.get_mut(key).filter(|slot| slot.seq != 0)?;
        Some((CallId { boot, session, seq: slot.seq }, slot.attempt))
    }

    /// Callers to be woken; they are woken outside of any lock.
    #[inline]
    pub(crate) fn woken(&mut self) -> &mut Vec<W> {
        &mut self.woken
    }

    /// The send buffer has been taken: encodes what waited for it and wakes who waited.
    pub(crate) fn drained(&mut self, now: Time, out: &mut SendBuffer) {
        self.flush_queue(now, out);
        if !self.blocked.is_empty() {
            self.wake_blocked(self.room());
        }
    }

    /// Whether no call is unfinished.
    pub(crate) fn is_idle(&self) -> bool {
        self.by_seq.is_empty() && self.queue.is_empty()
    }

    /// How many calls are unfinished.
    pub(crate) fn in_flight(&self) -> usize {
        self.by_seq.len() + self.queue.len()
    }

    /// What was done so far.
    pub(crate) fn statistics(&self) -> ClientStatistics {
        self.statistics
    }

    /// Whether the call can be made at all.
    fn check(&self, call: &NewCall<'_>) -> Result<(), CallError> {
        let limit = self.max_message();
        if call.bytes() > limit {
            let (size, datagrams) = (call.bytes(), self.config.datagrams);
            return Err(CallError::TooLarge { size, limit, datagrams });
        }
        if self.link.is_draining() && call.semantics != Semantics::AtLeastOnce {
            return Err(shutting_down());
        }
        self.check_binding(call.handle, call.method)
    }

    #[inline]
    fn window(&self) -> usize {
        self.session.as_ref().map_or(self.config.limits.window, |session| session.window)
    }

    /// Largest message that both sides accept.
    fn max_message(&self) -> usize {
        let own = self.own_max_message();
        self.session.as_ref().map_or(own, |session| session.max_message.min(own))
    }

    /// Whether its frames travel in datagrams.
    pub(crate) fn is_over_datagrams(&self) -> bool {
        self.config.datagrams
    }

    /// Largest message that this side accepts.
    pub(crate) fn own_max_message(&self) -> usize {
        let limits = &self.config.limits;
        if self.config.datagrams { packet::max_message(limits) } else { limits.message }
    }

    fn flush_queue(&mut self, now: Time, out: &mut SendBuffer) {
        while let Some(&key) = self.queue.front() {
            let Some(slot) = self.slots.get_mut(key) else {
                self.queue.pop_front();
                continue;
            };
            if slot.state != State::Queued {
                self.queue.pop_front();
                continue;
            }
            let (new, handle) = (slot.seq == 0, slot.handle);
            if !self.is_known(handle) || !self.may_encode(new, out) {
                return;
            }
            self.queue.pop_front();
            self.encode(now, key, out);
        }
    }

    /// Whether one more call may be encoded now; flushes acknowledgements if only they stand in the way. A call that
    /// is not `new` has its place in the window already.
    #[inline]
    fn may_encode(&mut self, new: bool, out: &mut SendBuffer) -> bool {
        if !self.link.is_up() || out.pending() >= self.config.limits.send_buffer {
            return false;
        }
        if !new {
            return true;
        }
        let window = self.window();
        let kept = self.acks.untold();
        let late = self.by_seq.len() + kept >= window || self.acks.is_late(window);
        if late && !cfg_canary!("replies_free_their_slots") {
            self.acks.flush(out);
        }
        // What was told in a datagram may be lost: only its acknowledgement frees the place.
        self.by_seq.len() + self.acks.in_flight() < window
    }

    #[inline]
    fn encode(&mut self, now: Time, key: Key, out: &mut SendBuffer) {
        let (Some(slot), Some(session)) = (self.slots.get_mut(key), &mut self.session) else {
            return;
        };
        if slot.seq == 0 {
            slot.seq = session.next_seq;
            session.next_seq += 1;
            self.by_seq.insert(slot.seq, key.index);
        }
        slot.attempt += 1;
        self.statistics.resent += u64::from(slot.attempt > 1);
        slot.state = State::Sent;
        // Rounded up: 0 means that the deadline has passed.
        let left = slot.deadline.as_nanos().saturating_sub(now.as_nanos());
        let deadline_ms = (slot.deadline != Time::NEVER).then(|| left.div_ceil(1_000_000));
        let call = Call {
            seq: slot.seq,
            floor: self.acks.floor(),
            handle: slot.handle,
            method: slot.method,
            deadline_ms,
            attempt: slot.attempt,
            passes: slot.passes,
            arguments: &slot.request,
        };
        let once = slot.semantics == Semantics::Maybe;
        let handle = slot.handle;
        let lingers = self.config.datagrams && slot.semantics != Semantics::AtMostOnce;
        let whole = slot.large_request.is_none() && slot.request.len() <= out.whole();
        if whole {
            if once {
                out.mark_once();
            }
            frame::put_call(&call, out.small());
        } else if let Some(request) = &slot.large_request {
            let head = frame::call_message_head(&call);
            out.push_large(slot.seq, head, Body::clone(request), once);
        } else {
            let head = frame::call_message_head(&call);
            out.push_large(slot.seq, head, slot.request.clone(), once);
        }
        slot.position = out.position();
        slot.link = self.link_number;
        self.acks.floor_was_sent(whole, once);
        if slot.oneway {
            self.finish(now, key.index, Answer::Ok);
        }
        if lingers {
            self.linger(handle);
        }
    }

    fn release(&mut self, index: u32) {
        self.slots.release(index);
    }
}

/// The server takes no more calls.
fn shutting_down() -> CallError {
    CallError::ShuttingDown(Refusal {
        detail: "it takes no more calls".into(),
        execution: Execution::NotExecuted,
    })
}
