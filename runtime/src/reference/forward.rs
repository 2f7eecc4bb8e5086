//! Objects of one peer that are passed to another: calls go through this node, arguments and results as they are.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::call::{Remote, Target};
use crate::context;
use crate::dispatch::{Arguments, Dispatch, Reply, Room, Status};
use crate::driver::link::{CallKey, Extras, NewCall, StartError, Waiting};
use crate::driver::references::Home;
use crate::driver::references::object::Exported;
use crate::error::{CallError, FailureCode};
use crate::id::MethodId;
use crate::registry::{Bound, Dispatcher};
use crate::semantics::{Execution, Semantics};

/// Stands for an object of another node.
struct Forwarder(Remote);

/// What this node exports in the object's place.
pub(super) fn exported(remote: &Remote, home: &Arc<dyn Home>) -> Arc<Exported> {
    let interface = remote.target().descriptor();
    let object: Arc<dyn Dispatcher> = Arc::new(Forwarder(remote.clone()));
    home.objects().add(Bound { interface, object }, None)
}

impl Dispatcher for Forwarder {
    fn dispatch(&self, method: MethodId, arguments: Arguments, room: Room) -> Dispatch {
        let target = self.0.target().clone();
        room.put(async move {
            let descriptor = target.descriptor();
            let Some(position) = descriptor.methods.iter().position(|one| one.id == method) else {
                let text = "no such method";
                return Reply::failed(FailureCode::NoSuchMethod, &text, arguments.into_memory());
            };
            // An exactly-once call is its caller's and its server's: nobody in between can make it.
            if descriptor.methods[position].semantics == Semantics::ExactlyOnce {
                let text = "an exactly-once call is not passed on; look its object up";
                return Reply::failed(FailureCode::NoSuchMethod, &text, arguments.into_memory());
            }
            forward(target, position, arguments).await
        })
    }
}

async fn forward(target: Arc<Target>, position: usize, arguments: Arguments) -> Reply {
    if crate::wire::payload::passed::has_incoming(&arguments) {
        let text = "references are not passed on through a third node";
        return Reply::failed(FailureCode::BadArguments, &text, arguments.into_memory());
    }
    let method = &target.descriptor().methods[position];
    // The caller is to hear what became of it before it gives up.
    let left = context::Context::current().ok().and_then(|context| context.deadline_left());
    let timeout = left.map(|left| left - left / PART_FOR_THE_WAY_BACK);
    let handle = match target.handle() {
        Ok(handle) => handle,
        Err(error) => return failed(&error, arguments.into_memory()),
    };
    let call = NewCall {
        handle,
        method: u32::try_from(position).unwrap_or(u32::MAX),
        semantics: method.semantics,
        oneway: method.oneway,
        passes: false,
        timeout,
        arguments: &arguments,
        large: None,
    };
    let mut waiting = Waiting::default();
    let started = poll_fn(|cx| poll_start(&target, &call, &mut waiting, cx)).await;
    target.link().forget_waiting(&mut waiting);
    let body = arguments.into_memory();
    let key = match started {
        Ok(key) => key,
        Err(error) => return failed(&error, body),
    };
    if method.oneway {
        return Reply { status: Status::Ok, body, shared: None, held: None };
    }
    let mut pending = Pending { target: &target, key: Some(key) };
    let (mut answer, mut extras) = (body, Extras::default());
    let status = poll_fn(|cx| target.link().poll_answer(key, cx, &mut answer, &mut extras)).await;
    pending.key = None;
    if extras.received.is_some() {
        let text = "references are not passed on through a third node";
        return Reply::failed(FailureCode::ReplyNotEncoded, &text, answer);
    }
    if let Some(large) = extras.large {
        answer = large.into();
    }
    match status {
        Ok(status) => Reply { status, body: answer, shared: None, held: None },
        Err(error) => failed(&error, answer),
    }
}

fn poll_start(
    target: &Target,
    call: &NewCall<'_>,
    waiting: &mut Waiting,
    cx: &mut Context<'_>,
) -> Poll<Result<CallKey, CallError>> {
    for _ in 0..OFFERS {
        if target.link().poll_capacity(call.arguments.len(), waiting, cx).is_pending() {
            return Poll::Pending;
        }
        match target.link().try_start(call, Some(waiting), None) {
            Ok(key) => return Poll::Ready(Ok(key)),
            Err(StartError::Failed(error)) => return Poll::Ready(Err(error)),
            Err(StartError::Full) => {}
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// A call that is given up with the one that it is made for.
struct Pending<'a> {
    target: &'a Target,
    key: Option<CallKey>,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.target.link().cancel(key);
        }
    }
}

/// What the caller is told of a call that failed behind this node.
fn failed(error: &CallError, body: Vec<u8>) -> Reply {
    let code = match (error, error.execution()) {
        (CallError::NoSuchObject(_), Execution::NotExecuted) => FailureCode::NoSuchObject,
        (CallError::NoSuchMethod(_), Execution::NotExecuted) => FailureCode::NoSuchMethod,
        (CallError::BadArguments(_), Execution::NotExecuted) => FailureCode::BadArguments,
        (_, Execution::NotExecuted) => FailureCode::Busy,
        (CallError::Panicked { .. }, _) => FailureCode::Panicked,
        (CallError::BadReply { .. }, _) => FailureCode::ReplyNotEncoded,
        (_, Execution::Executed) => FailureCode::FailedWithin,
        (_, Execution::Unknown) => FailureCode::LostBehind,
    };
    Reply::failed(
        code,
        &format_args!("behind the node that passed the reference on: {error}"),
        body,
    )
}

/// So much of a call's time is kept for telling its caller.
const PART_FOR_THE_WAY_BACK: u32 = 8;
/// How often one poll offers a call to a link that says that it has room and then has none.
const OFFERS: usize = 4;
