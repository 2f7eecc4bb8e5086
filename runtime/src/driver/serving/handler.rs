//! Runs the handlers of calls that the session admitted.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::Desk;
use super::backlog::Wait;
use super::desk::ROOMS;
use crate::context::{self, CallContext, Scoped};
use crate::descriptor::MethodDescriptor;
use crate::dispatch::{Arguments, Dispatch, Reply, Room, Status};
#[cfg(feature = "sqlite")]
use crate::driver::durable::execution::Execution;
use crate::driver::references::received::Received;
use crate::driver::server::Server;
use crate::driver::session::{Cell, CellState, Held};
use crate::error::FailureCode;
use crate::id::Seq;
use crate::protocol::client::Violation;
use crate::protocol::server::{Admission, Target};
use crate::registry::Dispatcher;
use crate::semantics::Semantics;
use crate::time::Time;
use crate::wire::body::Encoded;
use crate::wire::frame::{Call, ReplyStatus};
use crate::wire::send_buffer::SendBuffer;

impl Desk {
    /// Runs a call that came a while ago if the session admits it: in place, or in a task of its own if it is not ready at
    /// once. What is `shared` of its arguments is kept as it is; others are copied.
    #[inline]
    pub(in crate::driver) fn handle_call(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        wait: Wait,
        call: &Call<'_>,
        shared: Option<Bytes>,
    ) -> Result<(), Violation> {
        if self.server.is_dead() {
            // The handler before this one brought the crash.
            return Ok(());
        }
        let Some(mut handler) = self.admit(now, wait, call, shared)? else { return Ok(()) };
        if !handler.method.spawn && handler.poll(cx).is_ready() {
            self.answered = true;
            self.rooms[place(call)] = std::mem::take(&mut handler.room);
            self.handler = Some(handler);
            return Ok(());
        }
        // From here on it counts among those that run.
        self.settle(now);
        let (cell, server) = (self.cell.clone(), self.server.clone());
        let computes = handler.method.spawn;
        let spawned = tokio::spawn(Spawned { handler: Some(handler), cell, server });
        #[cfg(feature = "sim")]
        self.server.watch(&spawned);
        drop(spawned);
        if computes {
            // A thread of tokio's keeps the task that it woke last for itself, where no other can take it, and wakes no
            // other for it; if it was the one that waits for the sockets, nobody would until the method is done. Another
            // task takes that place.
            tokio::spawn(async {});
        }
        Ok(())
    }

    /// The call's handler, dispatched, if it may run. An exactly-once call is the store's from here on.
    #[inline]
    fn admit(
        &mut self,
        now: Time,
        wait: Wait,
        call: &Call<'_>,
        shared: Option<Bytes>,
    ) -> Result<Option<Box<Handler>>, Violation> {
        let mut state = self.cell.lock();
        // The call before this one is answered first.
        let answered = std::mem::take(&mut self.answered);
        let memory = self.handler.as_mut().map_or_else(Vec::new, |handler| {
            if answered {
                handler.finish(now, &mut state);
            }
            std::mem::take(&mut handler.reply.bytes)
        });
        state.session.hold_budget();
        self.holds = true;
        let crowded = state.is_crowded(call.seq, self.server.limits.window);
        let CellState { session, handles, link, kept, .. } = &mut *state;
        let mut void;
        let out = match link {
            Some(link) if link.number == self.link => &mut link.out,
            // An older link: what it brings still counts, what it would be told goes to the newest.
            _ => {
                void = SendBuffer::default();
                &mut void
            }
        };
        let found = handles.target(call.handle, call.method);
        let left = call.deadline_ms.map(|ms| ms.saturating_mul(1_000_000));
        let late = left.is_some_and(|left| wait.is_too_long(now, left));
        let target = match &found {
            Ok(_) if crowded => Target::Refused { code: FailureCode::Busy, text: CROWDED },
            Ok((_, method)) => target(method, late),
            Err(refused) => Target::Refused { code: refused.code, text: &refused.text },
        };
        let admission = session.admit(now, call, target, out);
        let (Ok(Admission::Run), Ok((object, method))) = (admission, found) else {
            let replaced = handles.take_replaced();
            drop(state);
            drop_objects(replaced);
            return admission.map(|_| None);
        };
        let serves = CallContext {
            seq: call.seq,
            attempt: call.attempt,
            method,
            deadline: left.map(|left| wait.came.after_nanos(left)),
        };
        let span = self.span(call, method);
        #[cfg(feature = "sqlite")]
        if method.semantics == Semantics::ExactlyOnce {
            let (object, name) = (object.clone(), handles.name(call.handle));
            let replaced = handles.take_replaced();
            drop(state);
            drop_objects(replaced);
            let context = context::Context::new(self.context.clone(), serves);
            let (server, cell) = (self.server.clone(), self.cell.clone());
            let seq = call.seq;
            let arguments = shared.unwrap_or_else(|| Bytes::copy_from_slice(call.arguments));
            let execution =
                Execution { server, cell, seq, object, method, arguments, context, span };
            self.execute(name, execution);
            return Ok(None);
        }
        // Generated code puts its future into the room, and nothing of the user's runs before that is polled.
        let room = std::mem::take(&mut self.rooms[place(call)]);
        let arguments = match shared {
            Some(shared) => Arguments::shared(shared, memory),
            None => Arguments::copied(call.arguments, memory),
        };
        let future = object.dispatch(method.id, arguments, room);
        let passed = self.passed.take();
        if let Some(passed) = &passed
            && !cfg_canary!("arguments_go_before_their_call_has_ended")
        {
            let held = Box::new(passed.received.clone());
            kept.get_or_insert_default().hold(call.seq, held);
        }
        let replaced = handles.take_replaced();
        drop(state);
        drop_objects(replaced);
        let mut handler = match self.handler.take() {
            Some(mut handler) => {
                handler.serve(serves, future, span);
                handler
            }
            None => {
                let context = context::Context::new(self.context.clone(), serves);
                Box::new(Handler::new(context, future, span))
            }
        };
        if let Some(passed) = passed {
            handler.receive(passed.arguments, passed.received);
        }
        Ok(Some(handler))
    }

    /// Hands an exactly-once call to the store.
    #[cfg(feature = "sqlite")]
    fn execute(&self, object: Option<Arc<str>>, execution: Execution) {
        match (object, &self.server.store) {
            (Some(object), Some(store)) => execution.submit(&object, store),
            // No such object can be bound, and so no handle leads here.
            _ => execution.fail(FailureCode::NoSuchObject, "the server has no store"),
        }
    }

    fn span(
        &self,
        call: &Call<'_>,
        method: &'static MethodDescriptor,
    ) -> Option<Box<tracing::Span>> {
        if tracing::level_filters::LevelFilter::current() < tracing::Level::DEBUG {
            return None;
        }
        let span = tracing::debug_span!(
            "serve",
            id = tracing::field::Empty,
            method = method.name,
            semantics = %method.semantics,
            attempt = call.attempt,
        );
        if span.is_disabled() {
            return None;
        }
        let session = self.cell.id;
        let id = crate::id::CallId { boot: self.server.boot, session, seq: call.seq };
        span.record("id", tracing::field::display(id));
        Some(Box::new(span))
    }
}

/// Where a connection keeps the memory of the call's future; another method's is of no use, but does no harm.
#[inline]
fn place(call: &Call<'_>) -> usize {
    call.method as usize % ROOMS
}

/// The method as the session sees it.
#[inline]
fn target(method: &MethodDescriptor, late: bool) -> Target<'_> {
    let MethodDescriptor { semantics, oneway, max_reply, .. } = *method;
    // A session remembers nothing of an exactly-once call: the store does.
    let semantics = match semantics {
        Semantics::ExactlyOnce => Semantics::AtLeastOnce,
        other => other,
    };
    if late {
        return Target::Late { semantics, oneway };
    }
    Target::Method { semantics, oneway, max_reply }
}

/// A running handler; serves other calls of its session when it has ended.
pub(crate) struct Handler {
    scoped: Scoped,
    /// The memory of its future, when it has ended.
    room: Room,
    seq: Seq,
    method: &'static MethodDescriptor,
    span: Option<Box<tracing::Span>>,
    /// How it ended, and the encoded answer, written where they stay.
    status: ReplyStatus,
    reply: Encoded,
    /// What holds the references in it.
    held: Option<Held>,
}

/// What a handler has answered.
pub(crate) struct Answered {
    pub(crate) status: Status,
    pub(crate) body: Encoded,
    /// What holds the references in it, if there are any.
    pub(crate) held: Option<Held>,
}

impl Handler {
    pub(crate) fn new(
        context: context::Context,
        future: Dispatch,
        span: Option<Box<tracing::Span>>,
    ) -> Handler {
        let CallContext { seq, method, .. } = *context.call();
        let scoped = Scoped::new(context, future);
        let (room, status, reply) = (Room::default(), ReplyStatus::Ok, Encoded::default());
        Handler { scoped, room, seq, method, span, status, reply, held: None }
    }

    #[inline]
    fn serve(&mut self, call: CallContext, future: Dispatch, span: Option<Box<tracing::Span>>) {
        self.seq = call.seq;
        self.method = call.method;
        self.span = span;
        self.scoped.serve(call, future);
    }

    /// References came with the arguments.
    pub(crate) fn receive(&mut self, arguments: Bytes, received: Arc<Received>) {
        self.scoped.receive(arguments, received);
    }

    /// The answer, where no session wants it.
    pub(crate) fn take_answer(&mut self) -> Answered {
        let status = match self.status {
            ReplyStatus::Ok | ReplyStatus::Passing => Status::Ok,
            ReplyStatus::MethodError | ReplyStatus::PassingError => Status::MethodError,
            ReplyStatus::Failed(code) => Status::Failed(code),
            // Of sessions, and no outcome of a handler.
            ReplyStatus::Fenced => Status::Failed(FailureCode::Aborted),
        };
        Answered { status, body: std::mem::take(&mut self.reply), held: self.held.take() }
    }

    /// Polls the user's code; its panic is an outcome like others. Ready when there is an answer.
    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let span = self.span.take();
        let entered = span.as_deref().map(tracing::Span::enter);
        let polled = self.poll_user(cx);
        drop(entered);
        self.span = span;
        polled
    }

    #[inline]
    fn poll_user(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let scoped = &mut self.scoped;
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(scoped).poll(cx)));
        match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(reply)) => self.ended(reply),
            Err(panic) => {
                let reason = message(&*panic);
                tracing::error!(method = self.method.name, reason, "a method panicked");
                self.failed(FailureCode::Panicked, PANICKED);
            }
        }
        // What the user's future still holds is dropped here, and may panic as well.
        match catch_unwind(AssertUnwindSafe(|| self.scoped.end())) {
            Ok(room) => self.room = room,
            Err(_) => {
                let method = self.method.name;
                tracing::error!(method, "a method's future panicked when dropped");
            }
        }
        Poll::Ready(())
    }

    #[inline]
    fn ended(&mut self, reply: Reply) {
        let Reply { status, body, shared, held } = reply;
        self.reply = Encoded { bytes: body, shared };
        self.held = held;
        self.status = match (status, &self.held) {
            (Status::Ok, None) => ReplyStatus::Ok,
            (Status::MethodError, None) => ReplyStatus::MethodError,
            (Status::Ok, Some(_)) => ReplyStatus::Passing,
            (Status::MethodError, Some(_)) => ReplyStatus::PassingError,
            (Status::Failed(code), _) => ReplyStatus::Failed(code),
        };
        if self.method.max_reply.is_some_and(|limit| self.reply.len() > limit) {
            self.failed(FailureCode::ReplyTooLarge, "it is larger than its `max_reply`");
        }
    }

    fn failed(&mut self, code: FailureCode, text: &str) {
        self.status = ReplyStatus::Failed(code);
        self.reply = Vec::from(text).into();
    }

    /// Brings the answer to the session. The memory of a small one is left.
    #[inline]
    pub(super) fn finish(&mut self, now: Time, state: &mut CellState) {
        if let Some(held) = self.held.take() {
            state.keep(self.seq, held);
        }
        state.complete(now, self.seq, self.status, &mut self.reply, self.method.oneway);
        if self.reply.bytes.capacity() > KEPT_CAPACITY || self.reply.shared.is_some() {
            self.reply = Encoded::default();
        }
    }
}

/// A handler with a task of its own.
struct Spawned {
    handler: Option<Box<Handler>>,
    cell: Arc<Cell>,
    server: Arc<Server>,
}

impl Future for Spawned {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(handler) = &mut this.handler else { return Poll::Ready(()) };
        if this.server.dead.load(Ordering::Acquire) {
            // A crash: nothing of the handler goes on, and nobody is told.
            this.handler = None;
            return Poll::Ready(());
        }
        if handler.poll(cx).is_pending() {
            return Poll::Pending;
        }
        if let Some(mut handler) = this.handler.take() {
            let Handler { seq, status, method, .. } = *handler;
            if let Some(held) = handler.held.take() {
                this.cell.keep(seq, held);
            }
            this.cell.complete(seq, status, &mut handler.reply, method.oneway);
        }
        Poll::Ready(())
    }
}

impl Drop for Spawned {
    /// The runtime ended the task: the method ran in part.
    fn drop(&mut self) {
        if let Some(handler) = self.handler.take()
            && !self.server.is_dead()
        {
            let status = ReplyStatus::Failed(FailureCode::Aborted);
            let mut body = Vec::from(ABORTED);
            self.cell.complete(handler.seq, status, &mut body, handler.method.oneway);
        }
    }
}

/// Drops objects that were replaced; their `Drop` is the user's code, and may panic.
#[inline]
pub(super) fn drop_objects(objects: Option<Vec<Arc<dyn Dispatcher>>>) {
    if objects.is_some() && catch_unwind(AssertUnwindSafe(|| drop(objects))).is_err() {
        tracing::error!("an object that was replaced panicked when it was dropped");
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// What the caller is told; the panic's own words may be secret and go to the log of the server.
const PANICKED: &str = "its message is in the server's log";
const ABORTED: &str = "its task was ended";
const CROWDED: &str = "too many calls with references are unacknowledged";

/// Capacity in bytes of the reply buffer that a connection keeps.
const KEPT_CAPACITY: usize = 16 << 10;
