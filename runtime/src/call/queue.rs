//! The wait for room in the send buffer: the slow path of a call, with everything that only it
//! needs.
//!
//! Bounded by the call's deadline. Fairness among those who wait is the link's business.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Target;
use crate::driver::link::{CallKey, StartError, Waiting};
use crate::driver::references::received::Pins;
use crate::error::CallError;
use crate::pending::Pending;
use crate::semantics::Execution;
use crate::wire::body::Body;

/// A call that found no room in the send buffer: the slow path, with everything that only it needs.
pub(super) struct Queued {
    request: Request,
    timeout: Option<Duration>,
    since: Instant,
    place: Place,
}

/// Encoded arguments.
pub(super) struct Request {
    arguments: Arguments,
    /// What holds the references behind them.
    pins: Option<Box<Pins>>,
}

enum Arguments {
    Small(Vec<u8>),
    Large(Box<Body>),
}

/// A request as the link takes it: small arguments, or else large ones that are shared.
#[derive(Clone, Copy)]
pub(super) struct Offer<'a> {
    pub(super) arguments: &'a [u8],
    pub(super) large: Option<&'a Body>,
    /// References stand behind them.
    pub(super) passes: bool,
}

impl Request {
    /// What is in the buffer, unless it is a large message's.
    pub(super) fn new(
        buffer: &mut Vec<u8>,
        large: Option<Box<Body>>,
        pins: Option<Box<Pins>>,
    ) -> Request {
        let small = || Arguments::Small(std::mem::take(buffer));
        Request { arguments: large.map_or_else(small, Arguments::Large), pins }
    }

    fn bytes(&self) -> usize {
        match &self.arguments {
            Arguments::Small(bytes) => bytes.len(),
            Arguments::Large(body) => body.len(),
        }
    }

    fn offer(&self) -> Offer<'_> {
        let passes = self.pins.is_some();
        match &self.arguments {
            Arguments::Small(bytes) => Offer { arguments: bytes, large: None, passes },
            Arguments::Large(body) => Offer { arguments: &[], large: Some(body), passes },
        }
    }
}

/// A call's place in the link's queue for room. Gives it back when it goes.
struct Place {
    target: Arc<Target>,
    waiting: Waiting,
    alarm: Option<JoinHandle<()>>,
}

/// Who ends the wait for room at the deadline.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Alarm {
    /// A timer on the node's runtime, which the call arms for itself.
    Timer,
    /// The thread that is parked.
    Caller,
}

impl Queued {
    pub(super) fn new(target: Arc<Target>, request: Request, timeout: Option<Duration>) -> Queued {
        let place = Place { target, waiting: Waiting::default(), alarm: None };
        Queued { request, timeout, since: Instant::now(), place }
    }

    /// How much of the call's time is left.
    pub(super) fn remaining(&self) -> Option<Duration> {
        self.timeout.map(|timeout| timeout.saturating_sub(self.since.elapsed()))
    }

    /// Waits for room and offers the request of `call` again. What is left of the deadline goes with it, and comes back.
    pub(super) fn poll_offer<T, E>(
        &mut self,
        call: &Pending<T, E>,
        cx: &mut Context<'_>,
        alarm: Alarm,
    ) -> Poll<Result<(CallKey, Option<Duration>), CallError>> {
        for _ in 0..OFFERS_PER_POLL {
            let Place { target, waiting, .. } = &mut self.place;
            let room = target.link.poll_capacity(self.request.bytes(), waiting, cx);
            if room.is_pending() {
                return match alarm {
                    Alarm::Timer => self.poll_alarm(cx).map(Err),
                    Alarm::Caller => Poll::Pending,
                };
            }
            let remaining = self.remaining();
            if remaining == Some(Duration::ZERO) {
                return Poll::Ready(Err(never_sent(self.since.elapsed())));
            }
            let waiting = Some(&mut self.place.waiting);
            match call.offer(self.request.offer(), remaining, waiting, None) {
                Ok(key) => {
                    if let Some(pins) = self.request.pins.take() {
                        self.place.target.link.pin(key, *pins);
                    }
                    return Poll::Ready(Ok((key, remaining)));
                }
                Err(StartError::Failed(error)) => return Poll::Ready(Err(error)),
                // Another call was faster.
                Err(StartError::Full) => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready with the error when the deadline has passed.
    ///
    /// The timer is a task of the node's runtime: a `Sleep` in here would panic on a caller's
    /// executor that is not tokio's, and when the node's runtime has ended.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<CallError> {
        let Some(remaining) = self.remaining() else { return Poll::Pending };
        let closed = || CallError::Closed { execution: Execution::NotExecuted };
        let Some(runtime) = self.place.target.node.runtime() else {
            return Poll::Ready(closed());
        };
        let alarm = self.place.alarm.get_or_insert_with(|| {
            runtime.spawn(async move { tokio::time::sleep(remaining).await })
        });
        Poll::Ready(match ready!(Pin::new(alarm).poll(cx)) {
            Ok(()) => never_sent(self.since.elapsed()),
            Err(_ended) => closed(),
        })
    }
}

/// The deadline passed while the request waited.
pub(super) fn never_sent(waited: Duration) -> CallError {
    CallError::DeadlineExceeded { waited, execution: Execution::NotExecuted, started: false }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.target.link.forget_waiting(&mut self.waiting);
        if let Some(alarm) = &self.alarm {
            alarm.abort();
        }
    }
}

/// How often one poll offers a request to a link that says that it has room and then has none.
const OFFERS_PER_POLL: usize = 4;
