//! A call of an object of this node by a proxy that is at home: the caller runs the method, and no link is in between.
//!
//! Arguments and result are copies as ever, and the handler has a context, a deadline and a cancellation as ever. What
//! the caller gives up goes on in a task of the node. Only calls that are awaited, and only those that no other could have
//! come before: all others go through the node's link to itself.

use std::any::Any;
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Call, Hold, Target};
use crate::context::{self, CallContext};
use crate::descriptor::MethodDescriptor;
use crate::dispatch::{Arguments, Room, Status};
use crate::driver::references::home::{Count, Visit, visit};
use crate::driver::references::received::{Pins, Received};
use crate::driver::references::{HOME, Home, Partner};
use crate::driver::serving::{Answered, Handler};
use crate::error::{CallError, FailureCode};
use crate::registry::Bound;
use crate::semantics::{Execution, Semantics};
use crate::wire::body::Encoded;
use crate::wire::payload::Beside;
use crate::wire::references::split;

/// A call that its caller runs.
pub(crate) struct Direct {
    /// Never locked, so that what holds a call can be shared as before.
    state: Mutex<State>,
}

struct State {
    /// The handler; nothing when it has ended, or was left to the node.
    running: Option<Box<Running>>,
    /// When the caller stops waiting.
    limit: Option<(Duration, Instant)>,
    alarm: Option<JoinHandle<()>>,
    /// The node ends.
    closing: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// A handler outside of any session.
struct Running {
    handler: Handler,
    visit: Arc<Visit>,
    runtime: Handle,
    /// What was passed is held until the end.
    _pins: Option<Box<Pins>>,
    _count: Count,
}

/// What the method answered.
pub(crate) struct Answer {
    pub(crate) status: Status,
    pub(crate) body: Vec<u8>,
    pub(crate) received: Option<Arc<Received>>,
    /// Holds what was received until it is decoded.
    _held: Option<Box<dyn Any + Send>>,
}

impl Target {
    /// The object, if it is this node's and can be called at once.
    #[cold]
    fn at_home(&self, position: usize) -> Option<(Bound, &'static MethodDescriptor)> {
        // What came before is first.
        if DEPTH.get() >= MOST_DEPTH || self.link.has_calls_ahead() {
            return None;
        }
        let bound = match self.hold() {
            Some(Hold::Own(exported)) => exported.slot().current()?,
            Some(Hold::Import(_)) => return None,
            None => self.node.registry().resolve(&self.object)?.current()?,
        };
        let expected = &self.descriptor.methods[position];
        let method = bound.interface.methods.get(position)?;
        let same = bound.interface.name == self.descriptor.name
            && method.id == expected.id
            && method.semantics == expected.semantics;
        let awaited = !method.oneway && !method.spawn;
        (same && awaited && method.semantics != Semantics::ExactlyOnce).then_some((bound, method))
    }
}

impl<A: Serialize, T, E> Call<A, T, E> {
    /// Has the caller run the method itself, if the object is its own. Whether it does.
    ///
    /// # Errors
    /// The arguments cannot be passed.
    #[inline]
    pub(super) fn begin_direct(
        &mut self,
        arguments: &A,
        timeout: Option<Duration>,
    ) -> Result<bool, CallError<E>> {
        if self.pending.target().is_home {
            self.begin_at_home(arguments, timeout)
        } else {
            Ok(false)
        }
    }

    #[cold]
    fn begin_at_home(
        &mut self,
        arguments: &A,
        timeout: Option<Duration>,
    ) -> Result<bool, CallError<E>> {
        let target = self.pending.target().clone();
        let found = target.at_home(self.pending.position() as usize);
        let Some((bound, method)) = found else { return Ok(false) };
        let Some(runtime) = target.node.runtime().cloned() else { return Ok(false) };
        let home = target.node.home();
        let Some((visit, count, seq)) = visit(&home) else { return Ok(false) };
        let mut bytes = Vec::new();
        let Beside { shared, passed } = self.pending.encode(arguments, &mut bytes)?;
        let mut bytes = Encoded { bytes, shared }.into_vec();
        let limit = home.server().message_limit();
        if bytes.len() > limit {
            return Err(CallError::TooLarge { size: bytes.len(), limit, datagrams: false });
        }
        let pins = target.seal(&passed, &mut bytes).map_err(CallError::widen)?;
        let mut arguments = Bytes::from(bytes);
        let received = pins.as_ref().and_then(|_| received(&home, &arguments));
        if let Some((length, _)) = &received {
            arguments.truncate(*length);
        }
        let limit =
            timeout.and_then(|timeout| Some((timeout, Instant::now().checked_add(timeout)?)));
        let session = visit.session();
        let deadline = limit.map(|(_, deadline)| session.moment(deadline));
        let call = CallContext { seq, attempt: 1, method, deadline };
        let context = context::Context::new(session, call);
        let passed = Arguments::shared(arguments.clone(), Vec::new());
        let future = bound.object.dispatch(method.id, passed, Room::default());
        let mut handler = Handler::new(context, future, None);
        if let Some((_, received)) = received {
            handler.receive(arguments, Arc::new(received));
        }
        let running = Running { handler, visit, runtime, _pins: pins, _count: count };
        let running = Some(Box::new(running));
        let state = State { running, limit, alarm: None, closing: None };
        self.pending.started_direct(Direct { state: Mutex::new(state) }, timeout);
        Ok(true)
    }
}

/// What came behind a payload, and how long that is.
fn received(home: &Arc<dyn Home>, body: &[u8]) -> Option<(usize, Received)> {
    // The list was written here.
    let (payload, list) = split(body).ok()?;
    let received = Received::new(home.clone(), &Partner::Local, list).ok()?;
    Some((payload, received))
}

impl Direct {
    /// Runs the method further.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, CallError>> {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = &mut state.running else {
            let execution = Execution::Unknown;
            return Poll::Ready(Err(CallError::Cancelled { execution }));
        };
        if let Poll::Ready(answered) = running.poll(cx) {
            let answer = running.answer(answered);
            state.running = None;
            return Poll::Ready(answer);
        }
        let execution = Execution::Unknown;
        let flag = running.visit.closing();
        let closing =
            state.closing.get_or_insert_with(|| Box::pin(async move { flag.wait().await }));
        if closing.as_mut().poll(cx).is_ready() {
            state.give_up(true);
            return Poll::Ready(Err(CallError::Closed { execution }));
        }
        if let Some((waited, deadline)) = state.limit {
            let alarm = state.alarm.get_or_insert_with(|| {
                running.runtime.spawn(async move { tokio::time::sleep_until(deadline).await })
            });
            if Pin::new(alarm).poll(cx).is_ready() {
                state.give_up(true);
                let started = true;
                return Poll::Ready(Err(CallError::DeadlineExceeded {
                    waited,
                    execution,
                    started,
                }));
            }
        }
        Poll::Pending
    }

    /// Nobody waits for the answer any more; the method is told, and goes on.
    pub(crate) fn cancel(&mut self) {
        self.state.get_mut().unwrap_or_else(PoisonError::into_inner).give_up(true);
    }

    /// Nobody waits for the answer any more; the method goes on and is not told.
    pub(crate) fn detach(&mut self) {
        self.state.get_mut().unwrap_or_else(PoisonError::into_inner).give_up(false);
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl State {
    /// Leaves what still runs to the node.
    fn give_up(&mut self, cancelled: bool) {
        if let Some(alarm) = self.alarm.take() {
            alarm.abort();
        }
        let Some(running) = self.running.take() else { return };
        if cancelled {
            running.visit.cancel();
        }
        let runtime = running.runtime.clone();
        let home = running.visit.home().clone();
        home.server().go_on(&runtime, Left(Some(running)));
    }
}

impl Running {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Answered> {
        let _deeper = Deeper::new();
        let _runtime = self.runtime.enter();
        match self.handler.poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(self.handler.take_answer()),
        }
    }

    fn answer(&self, answered: Answered) -> Result<Answer, CallError> {
        let Answered { status, body, held } = answered;
        let mut body = body.into_vec();
        let home = self.visit.home();
        let limit = home.server().message_limit();
        if body.len() > limit {
            let text = FailureCode::too_large(body.len(), limit);
            let code = FailureCode::ReplyTooLarge;
            return Err(code.into_error(text.into(), code.execution()));
        }
        let received = held.as_ref().and_then(|_| received(home, &body));
        let received = received.map(|(length, received)| {
            body.truncate(length);
            Arc::new(received)
        });
        Ok(Answer { status, body, received, _held: held })
    }
}

/// What is left of a call that its caller has given up: it goes on, and nobody hears what it answers.
struct Left(Option<Box<Running>>);

impl Future for Left {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(running) = &mut self.0 else { return Poll::Ready(()) };
        if !running.visit.home().server().is_dead() && running.poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.0 = None;
        Poll::Ready(())
    }
}

/// One more call runs inside another on this thread.
struct Deeper;

impl Deeper {
    fn new() -> Deeper {
        DEPTH.set(DEPTH.get() + 1);
        Deeper
    }
}

impl Drop for Deeper {
    fn drop(&mut self) {
        let _ = DEPTH.try_with(|depth| depth.set(depth.get().saturating_sub(1)));
    }
}

thread_local! {
    /// How many calls run inside one another here.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// So many calls may run inside one another: all of them are on one stack.
const MOST_DEPTH: usize = 16;

/// Whether a proxy of this peer calls its own node.
pub(super) fn is_home(peer: &str) -> bool {
    peer == HOME
}
