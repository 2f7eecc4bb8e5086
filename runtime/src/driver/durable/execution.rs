//! Runs the handler of an exactly-once call: on the store's thread, inside the transaction that records its answer.

use std::cell::Cell as Slot;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;

use super::NodeStore;
use crate::context::{Context, Scoped};
use crate::descriptor::MethodDescriptor;
use crate::dispatch::{Arguments, Reply, Room, Status};
use crate::driver::park::block_on;
use crate::driver::references::received::ByName;
use crate::driver::server::Server;
use crate::driver::session::Cell;
use crate::error::FailureCode;
use crate::id::{CommitNumber, RegistrationId, Seq};
use crate::protocol::durable::execute::{Execute, Handler, Ran};
use crate::protocol::durable::inbox::Verdict;
use crate::protocol::durable::journal;
use crate::registry::Dispatcher;
use crate::store::Sqlite;
use crate::wire::body::Encoded;
use crate::wire::durable::{NotDurable, Stamp, Word};
use crate::wire::frame::ReplyStatus;

/// An exactly-once call that the session admitted, and the way back to its caller.
pub(in crate::driver) struct Execution {
    pub(in crate::driver) server: Arc<Server>,
    pub(in crate::driver) cell: Arc<Cell>,
    /// Its number in the session.
    pub(in crate::driver) seq: Seq,
    pub(in crate::driver) object: Arc<dyn Dispatcher>,
    pub(in crate::driver) method: &'static MethodDescriptor,
    pub(in crate::driver) arguments: Bytes,
    pub(in crate::driver) context: Context,
    pub(in crate::driver) span: Option<Box<tracing::Span>>,
}

/// An execution with what its transaction needs to know.
struct Stamped {
    execution: Execution,
    name: (RegistrationId, Seq),
    store: Arc<NodeStore>,
    runtime: Handle,
}

thread_local! {
    /// The exactly-once call whose handler runs on this thread.
    static PARENT: Slot<Option<(RegistrationId, Seq)>> = const { Slot::new(None) };
}

/// The exactly-once call whose handler runs on this thread, if one does.
pub(super) fn parent() -> Option<(RegistrationId, Seq)> {
    PARENT.get()
}

impl Execution {
    /// Hands the call to the store; its answer leaves when the store has committed it. `object` is the name that the
    /// client called.
    pub(in crate::driver) fn submit(mut self, object: &str, store: &Arc<NodeStore>) {
        let stamped = Stamp::get(&self.arguments);
        let Ok((stamp, length)) = stamped else {
            return self.fail(FailureCode::BadArguments, &NotDurable.to_string());
        };
        self.arguments = self.arguments.slice(length..);
        let digest = journal::digest(object, self.method.id, &self.arguments, stamp.nonce);
        let limits = self.server.limits.clone();
        let name = (stamp.registration, stamp.seq);
        let (store, runtime) = (store.clone(), Handle::current());
        let handler = Stamped { execution: self, name, store: store.clone(), runtime };
        store.submit(Box::new(Execute::new(stamp, digest, limits, handler)));
    }

    /// The call cannot come before the store.
    pub(in crate::driver) fn fail(self, code: FailureCode, text: &str) {
        let mut text = Vec::from(text);
        self.cell.complete(self.seq, ReplyStatus::Failed(code), &mut text, false);
    }

    fn answer(self, word: &Word<'_>) {
        let mut body = Vec::new();
        word.put(&mut body);
        self.cell.complete(self.seq, ReplyStatus::Ok, &mut body, false);
    }

    /// What the method made of it.
    fn ran(&self, reply: Reply) -> Ran {
        let Reply { status, body, shared, .. } = reply;
        let body = Encoded { bytes: body, shared }.into_vec();
        let text = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
        let most = self.cell.largest_reply().saturating_sub(AROUND_A_RESULT);
        let most = self.method.max_reply.map_or(most, |limit| limit.min(most));
        let code = FailureCode::RolledBack;
        match status {
            Status::Ok | Status::MethodError if body.len() > most => {
                Ran::Refused { code, text: FailureCode::too_large(body.len(), most) }
            }
            Status::Ok => Ran::Ok(body),
            Status::MethodError => Ran::MethodError(body),
            Status::Failed(FailureCode::ReplyNotEncoded) => {
                Ran::Refused { code, text: text(&body) }
            }
            Status::Failed(refusal) if (refusal as u8) < (FailureCode::RolledBack as u8) => {
                Ran::Refused { code: refusal, text: text(&body) }
            }
            Status::Failed(_) => Ran::Failed { code, text: text(&body) },
        }
    }
}

impl Handler<Sqlite> for Stamped {
    fn run(&mut self, db: &mut Sqlite) -> Ran {
        let Execution { server, object, method, arguments, context, span, .. } = &self.execution;
        let _runtime = self.runtime.enter();
        let _span = span.as_deref().map(tracing::Span::enter);
        let limit = server.limits.handler_timeout;
        let began = server.clock.now();
        let before = PARENT.replace(Some(self.name));
        let polled = catch_unwind(AssertUnwindSafe(|| {
            db.lend(|| {
                let passed = Arguments::shared(arguments.clone(), Vec::new());
                let future = object.dispatch(method.id, passed, Room::default());
                let mut scoped = Scoped::new(context.clone(), future);
                if let Some(home) = server.home() {
                    scoped.receive(arguments.clone(), Arc::new(ByName(home)));
                }
                block_on(scoped, Some(limit))
            })
        }));
        PARENT.set(before);
        let took = server.clock.now().since(began);
        let failed = |text: String| Ran::Failed { code: FailureCode::RolledBack, text };
        match polled {
            Err(_) => {
                tracing::error!(method = method.name, "an exactly-once method panicked");
                failed("it panicked; its message is in the server's log".into())
            }
            Ok(None) => failed(too_long(limit)),
            Ok(Some(_)) if took > limit => failed(too_long(limit)),
            Ok(Some(reply)) => self.execution.ran(reply),
        }
    }

    fn say(self, verdict: Verdict, commits: CommitNumber) {
        self.execution.answer(&verdict.word(commits));
    }

    fn try_again(execute: Execute<Stamped>, failures: u32) {
        let Stamped { store, runtime, .. } = execute.handler();
        let (store, runtime) = (store.clone(), runtime.clone());
        let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(MOST_DOUBLINGS));
        runtime.spawn(async move {
            tokio::time::sleep(pause).await;
            store.submit(Box::new(execute));
        });
    }
}

fn too_long(limit: Duration) -> String {
    format!("it kept the store's writer for longer than {limit:?} (`Limits::handler_timeout`)")
}

/// Bytes that a word adds to a result, at most.
const AROUND_A_RESULT: usize = 16;
/// How long a handler that failed waits for its next attempt, and how often that is doubled.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const MOST_DOUBLINGS: u32 = 6;
