//! A call on its way: the way to its answer, and the ways to give it up.
//!
//! Holds no bytes and no timer: the link does. [`Call`](crate::Call) makes a `Pending` when the
//! request is in the send buffer and is one from then on.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use crate::blocking::{block_on, in_async_task};
use crate::call::{Answer, Decoders, Direct, Target, with_buffer};
use crate::descriptor::MethodDescriptor;
use crate::dispatch::Status;
use crate::driver::link::{CallKey, Extras};
use crate::driver::references::received::Received;
use crate::error::CallError;
use crate::semantics::Execution;
use crate::wire::payload;
use crate::wire::payload::passed::{Incoming, with_incoming};

#[cfg(feature = "sqlite")]
mod saved;

#[cfg(feature = "sqlite")]
use saved::Waiting;
#[cfg(feature = "sqlite")]
pub(crate) use saved::decode;

/// A call that was started: a future of its answer.
///
/// Made by [`Call::start`](crate::Call::start) and [`Call::try_start`](crate::Call::try_start).
/// Dropping it cancels the call, as [`cancel`](Pending::cancel) does, but nobody learns what became
/// of it; [`detach`](Pending::detach) lets the call go on instead. An exactly-once call goes on in any case, unless it
/// is cancelled.
///
/// # Panics
/// If it is polled or waited for after it has given its answer.
#[must_use = "dropping it cancels the call; await it, or let it go on with `detach()`"]
pub struct Pending<T, E = Infallible> {
    target: Arc<Target>,
    way: Way,
    stage: Stage,
    /// Of the method in the interface.
    position: u32,
    method: &'static MethodDescriptor,
    timeout: Option<Duration>,
    decoders: Decoders<T, E>,
    span: Option<Box<tracing::Span>>,
}

/// Where the answer comes from.
enum Way {
    /// It has not started.
    Unstarted,
    Link(CallKey),
    /// The caller runs the method itself.
    Direct(Box<Direct>),
    #[cfg(feature = "sqlite")]
    Saved(Waiting),
}

/// How far a started call has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The link knows the call and will have its answer.
    InFlight,
    /// No reply is ever sent; the link does not know the call any more.
    OneWay,
    /// The answer was given to the caller, or nobody will ask for it, or it has not started.
    Finished,
}

impl<T, E> Pending<T, E> {
    /// Waits for the answer, parking the thread.
    ///
    /// # Errors
    /// Those of the call, and [`CallError::BlockingInAsync`] inside an async task, where the call
    /// is cancelled and may have run.
    pub fn wait(self) -> Result<T, CallError<E>> {
        if in_async_task() {
            return Err(CallError::BlockingInAsync { execution: Execution::Unknown });
        }
        self.park()
    }

    /// Waits for the answer for at most this long, parking the thread: nothing if none came, and
    /// the call goes on.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn example(mut pending: farcall::Pending<u64>) -> Result<u64, farcall::CallError> {
    /// loop {
    ///     match pending.wait_for(Duration::from_secs(1)) {
    ///         Some(answer) => return answer,
    ///         None => println!("still waiting"),
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the call, and [`CallError::BlockingInAsync`] inside an async task, where the call
    /// goes on and may run.
    pub fn wait_for(&mut self, duration: Duration) -> Option<Result<T, CallError<E>>> {
        if in_async_task() {
            return Some(Err(CallError::BlockingInAsync { execution: Execution::Unknown }));
        }
        block_on(self, Some(duration))
    }

    /// The answer if it is there; never waits. Nothing, too, after the answer was taken.
    ///
    /// # Errors
    /// Those of the call.
    pub fn try_take(&mut self) -> Option<Result<T, CallError<E>>> {
        match self.stage {
            Stage::Finished => None,
            Stage::OneWay => Some(self.finish_one_way()),
            Stage::InFlight => match &mut self.way {
                Way::Unstarted => None,
                Way::Direct(direct) => {
                    let answer = direct.poll(&mut Context::from_waker(Waker::noop()));
                    let Poll::Ready(answer) = answer else { return None };
                    Some(self.finish_direct(answer))
                }
                &mut Way::Link(key) => with_buffer(|body| {
                    let mut extras = Extras::default();
                    let answer = self.target.link().try_answer(key, body, &mut extras)?;
                    Some(self.finish(answer, body, extras))
                }),
                #[cfg(feature = "sqlite")]
                Way::Saved(waiting) => {
                    let ended = waiting.ticket.call.try_ended()?;
                    Some(self.end(&ended))
                }
            },
        }
    }

    /// Gives the call up; await or [`wait`](Pending::wait) for what comes back to learn what is known.
    ///
    /// That is [`CallError::Cancelled`] with what is known of the execution, or the answer, if it was on its way already.
    /// Under at-most-once the server is told: a method that has not begun never runs, and one that has begun is told by its
    /// [`Context::cancellation`](crate::Context::cancellation). Under maybe and at-least-once the server is not told. An
    /// exactly-once call is fenced, unless it has run. No method is stopped by force.
    pub fn cancel(mut self) -> Pending<T, E> {
        if self.stage == Stage::InFlight {
            match &mut self.way {
                Way::Unstarted => {}
                Way::Direct(direct) => direct.cancel(),
                Way::Link(key) => self.target.link().cancel_and_wait(*key),
                #[cfg(feature = "sqlite")]
                Way::Saved(waiting) => waiting.ticket.cancel(),
            }
        }
        self
    }

    /// What is left of an exactly-once call when nobody waits here any more; nothing for other calls.
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub fn ticket(&self) -> Option<&crate::ticket::Ticket> {
        match &self.way {
            Way::Unstarted | Way::Link(_) | Way::Direct(_) => None,
            Way::Saved(waiting) => Some(&waiting.ticket),
        }
    }

    /// Lets the call go on with nobody waiting for its answer.
    ///
    /// A program that ends right afterwards may take the call with it: see
    /// [`Node::shutdown`](crate::Node::shutdown).
    pub fn detach(mut self) {
        if self.stage == Stage::InFlight {
            self.stage = Stage::Finished;
            self.way.detach(&self.target);
        }
    }

    /// A call that has not started, and so waits for nothing.
    #[inline(always)]
    pub(crate) fn unstarted(
        target: Arc<Target>,
        position: usize,
        method: &'static MethodDescriptor,
        decoders: Decoders<T, E>,
    ) -> Pending<T, E> {
        let (way, stage) = (Way::Unstarted, Stage::Finished);
        let position = u32::try_from(position).unwrap_or(u32::MAX);
        Pending { target, way, stage, position, method, timeout: None, decoders, span: None }
    }

    /// The link has taken the call.
    #[inline(always)]
    pub(crate) fn started(&mut self, key: CallKey, timeout: Option<Duration>) {
        self.stage = if self.method.oneway { Stage::OneWay } else { Stage::InFlight };
        self.way = Way::Link(key);
        self.timeout = timeout;
        if let Some(span) = &self.span {
            self.target.link().trace(key, span);
        }
    }

    /// The caller runs the method.
    pub(crate) fn started_direct(&mut self, direct: Direct, timeout: Option<Duration>) {
        self.stage = Stage::InFlight;
        self.way = Way::Direct(Box::new(direct));
        self.timeout = timeout;
    }

    /// Whether there is no answer to wait for.
    #[inline]
    pub(crate) fn is_finished(&self) -> bool {
        self.stage == Stage::Finished
    }

    pub(crate) fn target(&self) -> &Arc<Target> {
        &self.target
    }

    pub(crate) fn method(&self) -> &'static MethodDescriptor {
        self.method
    }

    pub(crate) fn position(&self) -> u32 {
        self.position
    }

    pub(crate) fn span(&self) -> Option<&tracing::Span> {
        self.span.as_deref()
    }

    pub(crate) fn set_span(&mut self, span: tracing::Span) {
        self.span = Some(Box::new(span));
    }

    /// Ready when the request is where it cannot be lost by accident: at once, but for a call that is being saved.
    pub(crate) fn poll_saved(&self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        match &self.way {
            Way::Unstarted | Way::Link(_) | Way::Direct(_) => {
                let _ = cx;
                Poll::Ready(Ok(()))
            }
            #[cfg(feature = "sqlite")]
            Way::Saved(waiting) => waiting.ticket.call.poll_saved(cx),
        }
    }

    /// Parks the thread until the answer. The link ends the call at its deadline, but a parked
    /// thread does not rely on it: the runtime that drives the link may have stopped.
    pub(crate) fn park(mut self) -> Result<T, CallError<E>> {
        #[cfg(feature = "sqlite")]
        if let Way::Saved(_) = self.way {
            return self.park_saved();
        }
        let limit = self.timeout.map(|timeout| timeout.saturating_add(DRIVER_GRACE));
        block_on(&mut self, limit).unwrap_or_else(|| {
            let (waited, execution) = (limit.unwrap_or_default(), Execution::Unknown);
            Err(CallError::DeadlineExceeded { waited, execution, started: false })
        })
    }

    /// Decodes the link's answer. The call is finished before any code of the user runs, so that
    /// its panic harms no other.
    fn finish(
        &mut self,
        answer: Result<Status, CallError>,
        body: &[u8],
        extras: Extras,
    ) -> Result<T, CallError<E>> {
        self.stage = Stage::Finished;
        let Extras { large, received } = extras;
        match (answer, large) {
            (Ok(status), Some(large)) => {
                payload::lend(&large, || self.decode(status, &large, received))
            }
            (Ok(status), None) => self.decode(status, body, received),
            (Err(error), _) => Err(error.widen()),
        }
    }

    #[cold]
    fn finish_direct(&mut self, answer: Result<Answer, CallError>) -> Result<T, CallError<E>> {
        self.stage = Stage::Finished;
        let answer = answer.map_err(CallError::widen)?;
        let Answer { status, body, received, .. } = &answer;
        self.decode(*status, body, received.clone())
    }

    #[inline]
    fn decode(
        &self,
        status: Status,
        body: &[u8],
        received: Option<Arc<Received>>,
    ) -> Result<T, CallError<E>> {
        let Some(received) = received else { return self.decoded(status, body) };
        let received: Arc<dyn Incoming> = received;
        with_incoming(body, &received, || self.decoded(status, body))
    }

    #[inline]
    fn decoded(&self, status: Status, body: &[u8]) -> Result<T, CallError<E>> {
        match status {
            Status::Ok => (self.decoders.result)(body)
                .map_err(|error| CallError::BadReply { reason: error.to_string().into() }),
            Status::MethodError => match (self.decoders.error)(body) {
                Ok(error) => Err(CallError::Method(error)),
                Err(reason) => Err(CallError::BadReply { reason }),
            },
            Status::Failed(code) => {
                let detail = String::from_utf8_lossy(body).into();
                Err(code.into_error(detail, code.execution()).widen())
            }
        }
    }

    fn finish_one_way(&mut self) -> Result<T, CallError<E>> {
        self.finish(Ok(Status::Ok), &[], Extras::default())
    }

    /// As [`poll_answer`](Self::poll_answer), for a call that somebody listens to.
    #[cold]
    fn poll_within(
        &mut self,
        span: Box<tracing::Span>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<T, CallError<E>>> {
        let polled = span.in_scope(|| self.poll_answer(cx));
        self.span = Some(span);
        polled
    }

    #[inline]
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, CallError<E>>> {
        match self.stage {
            Stage::Finished => panic!("the answer of `{}` was already taken", self.method.name),
            Stage::OneWay => Poll::Ready(self.finish_one_way()),
            Stage::InFlight => match &mut self.way {
                Way::Unstarted => Poll::Pending,
                Way::Direct(direct) => {
                    let answer = ready!(direct.poll(cx));
                    Poll::Ready(self.finish_direct(answer))
                }
                &mut Way::Link(key) => with_buffer(|body| {
                    let mut extras = Extras::default();
                    let answer = self.target.link().poll_answer(key, cx, body, &mut extras);
                    answer.map(|answer| self.finish(answer, body, extras))
                }),
                #[cfg(feature = "sqlite")]
                Way::Saved(waiting) => {
                    let runtime = self.target.node().runtime();
                    let ended = ready!(waiting.poll(self.timeout, runtime, cx));
                    Poll::Ready(self.end(&ended))
                }
            },
        }
    }
}

impl<T, E> Future for Pending<T, E> {
    type Output = Result<T, CallError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match this.span.take() {
            None => this.poll_answer(cx),
            Some(span) => this.poll_within(span, cx),
        }
    }
}

impl Way {
    /// Nobody waits any more, and the call goes on. A saved call does so by itself.
    fn detach(&mut self, target: &Target) {
        match self {
            Way::Direct(direct) => direct.detach(),
            Way::Link(key) => target.link().detach(*key),
            Way::Unstarted => {}
            #[cfg(feature = "sqlite")]
            Way::Saved(_) => {}
        }
    }
}

impl<T, E> Unpin for Pending<T, E> {}

impl<T, E> Drop for Pending<T, E> {
    fn drop(&mut self) {
        if let (Stage::InFlight, Way::Link(key)) = (self.stage, &self.way) {
            self.target.link().cancel(*key);
        }
    }
}

impl<T, E> fmt::Debug for Pending<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("object", &self.target.object())
            .field("method", &self.method.name)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

/// How long a parked thread gives the link, after a call's deadline, to say what is known of the
/// call: the link asks the server and waits 50 ms for the answer.
pub(crate) const DRIVER_GRACE: Duration = Duration::from_millis(500);
