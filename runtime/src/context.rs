//! What a running method may ask about the call that it serves.
//!
//! The driver wraps each handler's future in [`Scoped`], which lends the context to this thread
//! while it polls: no allocation per call, and nothing to hand through the user's signatures.
//! Nothing here ends a call; the server tells, through [`Cancellation`], that nobody waits any
//! more.

mod flag;

use std::any::Any;
use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::descriptor::MethodDescriptor;
use crate::dispatch::{Dispatch, Reply, Room};
use crate::id::{Boot, CallId, NodeId, SessionId};
use crate::time::Time;
use crate::wire::payload::passed::{Incoming, with_incoming};
pub(crate) use flag::Flag;

/// The call that a handler serves: who calls, which call it is, how long it may take.
///
/// ```
/// use farcall::{Context, NoContext};
///
/// // In a handler this is `Ok`; here nobody called.
/// assert!(matches!(Context::current(), Err(NoContext { .. })));
/// ```
#[derive(Clone)]
pub struct Context {
    session: Arc<SessionContext>,
    call: CallContext,
}

/// Who calls.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Caller {
    /// The run of the calling process, as it names itself. It is not proven to be true.
    pub node: NodeId,
    /// Where the connection comes from: `127.0.0.1:50123`, or the name of a node in this process.
    pub address: Arc<str>,
    /// Who the caller proved to be, if the transport authenticates.
    pub identity: Option<Arc<str>>,
}

/// There is no call that the code at hand serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct NoContext {}

/// Tells a handler that nobody waits for its result any more: the caller cancelled, or the deadline
/// has passed.
///
/// A request, not force: the handler goes on until it returns. A caller that gives up before its
/// deadline says so under at-most-once only; under the other semantics the deadline alone is known.
/// Cheap to clone; may be kept and sent elsewhere.
#[derive(Clone)]
pub struct Cancellation {
    flag: Arc<Flag>,
    deadline: Option<Instant>,
}

/// What all calls of one session have in common.
pub(crate) struct SessionContext {
    pub(crate) caller: Caller,
    pub(crate) boot: Boot,
    pub(crate) session: SessionId,
    /// When the clock began that says when the session's calls end.
    pub(crate) began: Instant,
    /// Weak, so that a context that the user keeps keeps no session.
    pub(crate) cancel: Weak<dyn CancelSource>,
}

impl SessionContext {
    /// A deadline as its calls have it.
    pub(crate) fn moment(&self, deadline: Instant) -> Time {
        Time::ZERO + deadline.saturating_duration_since(self.began)
    }
}

/// What one call adds.
#[derive(Clone, Copy)]
pub(crate) struct CallContext {
    pub(crate) seq: u64,
    pub(crate) attempt: u32,
    pub(crate) method: &'static MethodDescriptor,
    /// After the start of the session's clock; few handlers ask for it.
    pub(crate) deadline: Option<Time>,
}

/// Where a handler's wish to hear of cancellation goes. The server's driver implements it.
pub(crate) trait CancelSource: Send + Sync + 'static {
    /// The flag of the running call `seq`: raised already if the session has given the call up, and
    /// the same one each time for the same call.
    fn subscribe(&self, seq: u64) -> Arc<Flag>;

    /// The session, for the references that cross it.
    fn session(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }
}

/// A handler's future with the context of its call. May be polled in place first and spawned then, and serves another
/// call of its session when it has ended.
pub(crate) struct Scoped {
    /// Boxed, since it moves to the thread and back with each poll.
    context: Option<Box<Context>>,
    future: Option<Dispatch>,
    /// The arguments, and the references that came with them.
    passed: Option<(Bytes, Arc<dyn Incoming>)>,
}

impl Context {
    /// What it says of the call itself.
    pub(crate) fn call(&self) -> &CallContext {
        &self.call
    }

    /// The context of the call that this code serves.
    ///
    /// # Errors
    /// [`NoContext`] outside a handler, also in what a handler gave to `tokio::spawn`: see
    /// [`Context::scope`].
    pub fn current() -> Result<Context, NoContext> {
        let current = CURRENT.try_with(|current| {
            let context = current.take();
            let copy = context.as_deref().cloned();
            current.set(context);
            copy
        });
        current.ok().flatten().ok_or(NoContext {})
    }

    /// Who calls.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.session.caller
    }

    /// The full name of the call. All attempts of one call have the same.
    #[must_use]
    pub fn call_id(&self) -> CallId {
        CallId { boot: self.session.boot, session: self.session.session, seq: self.call.seq }
    }

    /// The session, for the references that cross it; nothing when it is over.
    pub(crate) fn session(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.session.cancel.upgrade()?.session()
    }

    /// The method that runs.
    #[must_use]
    pub fn method(&self) -> &'static MethodDescriptor {
        self.call.method
    }

    /// Which sending of the request this execution answers, from 1. Greater than 1 says that the
    /// caller sent it again, not that the method ran before. Datagrams of the same request that were
    /// lost and sent again are one sending.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.call.attempt
    }

    /// How long the caller will go on waiting; zero if it has given up, nothing if it set no
    /// deadline.
    #[must_use]
    pub fn deadline_left(&self) -> Option<Duration> {
        let deadline = self.deadline()?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    /// When the caller gives up; nothing, too, for what no clock will reach.
    fn deadline(&self) -> Option<Instant> {
        let after = Duration::from_nanos(self.call.deadline?.as_nanos());
        self.session.began.checked_add(after)
    }

    /// What tells that nobody waits for the result any more.
    #[must_use]
    pub fn cancellation(&self) -> Cancellation {
        let flag = match self.session.cancel.upgrade() {
            Some(source) => source.subscribe(self.call.seq),
            None => Arc::new(Flag::raised()),
        };
        Cancellation { flag, deadline: self.deadline() }
    }

    /// Runs a future with this context, so that [`Context::current`] works in it wherever it runs.
    ///
    /// ```
    /// # async fn handler() -> Result<(), farcall::NoContext> {
    /// let context = farcall::Context::current()?;
    /// tokio::spawn(context.scope(async {
    ///     let caller = farcall::Context::current().map(|context| context.caller().clone());
    /// }));
    /// # Ok(())
    /// # }
    /// ```
    pub fn scope<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        let mut context = Some(Box::new(self.clone()));
        async move {
            let mut future = std::pin::pin!(future);
            poll_fn(move |cx| {
                let _entered = Entered::new(&mut context);
                future.as_mut().poll(cx)
            })
            .await
        }
    }

    /// The context of one call of a session.
    pub(crate) fn new(session: Arc<SessionContext>, call: CallContext) -> Context {
        Context { session, call }
    }
}

impl Caller {
    /// Who calls, from where, and who it proved to be.
    pub(crate) fn new(node: NodeId, address: Arc<str>, identity: Option<Arc<str>>) -> Caller {
        Caller { node, address, identity }
    }
}

impl Cancellation {
    /// Whether nobody waits any more.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.flag.is_raised() || self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Resolves when nobody waits any more; at once if that is so already.
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled, if the call has a deadline. Handlers run inside
    /// one.
    pub async fn cancelled(&self) {
        match self.deadline {
            None => self.flag.wait().await,
            // Passing the deadline is one of the two ways to be cancelled.
            Some(deadline) => drop(tokio::time::timeout_at(deadline, self.flag.wait()).await),
        }
    }
}

impl Scoped {
    /// A dispatched call that serves `context`.
    pub(crate) fn new(context: Context, future: Dispatch) -> Scoped {
        Scoped { context: Some(Box::new(context)), future: Some(future), passed: None }
    }

    /// Serves another call, whose handler is `future`.
    #[inline]
    pub(crate) fn serve(&mut self, call: CallContext, future: Dispatch) {
        if let Some(context) = &mut self.context {
            context.call = call;
        }
        self.future = Some(future);
    }

    /// References came with the arguments.
    pub(crate) fn receive(&mut self, arguments: Bytes, passed: Arc<dyn Incoming>) {
        self.passed = Some((arguments, passed));
    }

    /// Drops what the handler still holds, which is the user's code and may panic; its memory is left.
    #[inline]
    pub(crate) fn end(&mut self) -> Room {
        self.passed = None;
        self.future.take().map_or_else(Room::default, |mut future| {
            future.as_mut().clear();
            Room::of(future)
        })
    }
}

impl Future for Scoped {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Reply> {
        let this = &mut *self;
        let Some(future) = &mut this.future else { return Poll::Pending };
        let _entered = Entered::new(&mut this.context);
        match &this.passed {
            None => future.as_mut().poll(cx),
            Some((bytes, passed)) => with_incoming(bytes, passed, || future.as_mut().poll(cx)),
        }
    }
}

/// Lends a context to this thread; takes it back, and puts the one before in its place, when it
/// goes.
struct Entered<'a> {
    home: &'a mut Option<Box<Context>>,
    before: Option<Box<Context>>,
}

impl<'a> Entered<'a> {
    fn new(home: &'a mut Option<Box<Context>>) -> Entered<'a> {
        let before = exchange(home.take());
        Entered { home, before }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        *self.home = exchange(self.before.take());
    }
}

thread_local! {
    static CURRENT: Cell<Option<Box<Context>>> = const { Cell::new(None) };
}

/// Puts a context in place of the current one. A thread that is ending has none.
fn exchange(context: Option<Box<Context>>) -> Option<Box<Context>> {
    let mut context = context;
    let _ = CURRENT.try_with(|current| context = current.replace(context.take()));
    context
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("caller", self.caller())
            .field("call_id", &self.call_id())
            .field("method", &self.call.method.name)
            .field("attempt", &self.call.attempt)
            .field("deadline_left", &self.deadline_left())
            .finish()
    }
}

impl fmt::Debug for Cancellation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancellation").field("is_cancelled", &self.is_cancelled()).finish()
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.node, self.address)?;
        match &self.identity {
            None => Ok(()),
            Some(identity) => write!(f, " as {identity}"),
        }
    }
}

impl fmt::Display for NoContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no remote call is served here: a context is not inherited by `tokio::spawn` nor by \
             other threads; take it in the handler and pass it on with `Context::scope`",
        )
    }
}

impl Error for NoContext {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::Status;
    use crate::id::MethodId;
    use crate::semantics::Semantics;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::task::Waker;
    use tokio::task::yield_now;

    static METHOD: MethodDescriptor = MethodDescriptor {
        name: "deposit",
        id: MethodId(1),
        signature: "",
        docs: "",
        semantics: Semantics::AtMostOnce,
        oneway: false,
        spawn: false,
        timeout: None,
        max_reply: None,
    };

    /// A session that knows one flag for all of its calls.
    #[derive(Default)]
    struct OneFlag(Arc<Flag>);

    impl CancelSource for OneFlag {
        fn subscribe(&self, _seq: u64) -> Arc<Flag> {
            Arc::clone(&self.0)
        }
    }

    fn context(seq: u64, source: &Arc<OneFlag>, deadline: Option<Instant>) -> Context {
        let cancel: Weak<OneFlag> = Arc::downgrade(source);
        let began = Instant::now();
        let session = SessionContext {
            caller: Caller::new(NodeId(uuid::Uuid::nil()), "127.0.0.1:1".into(), None),
            boot: Boot(1),
            session: SessionId(2),
            began,
            cancel,
        };
        let deadline = deadline.map(|deadline| session.moment(deadline));
        let call = CallContext { seq, attempt: 1, method: &METHOD, deadline };
        Context::new(Arc::new(session), call)
    }

    fn current_seq() -> Option<u64> {
        Context::current().ok().map(|context| context.call_id().seq)
    }

    fn poll_once(future: &mut (impl Future + Unpin)) -> bool {
        let mut cx = std::task::Context::from_waker(Waker::noop());
        Pin::new(future).poll(&mut cx).is_ready()
    }

    #[test]
    fn a_handler_sees_its_call_at_each_poll_and_nobody_else_does() {
        let handler: Dispatch = Room::default().put(async {
            assert_eq!(current_seq(), Some(7));
            yield_now().await;
            assert_eq!(current_seq(), Some(7));
            Reply { status: Status::Ok, body: Vec::new(), shared: None, held: None }
        });
        let mut scoped = Scoped::new(context(7, &Arc::default(), None), handler);
        assert!(!poll_once(&mut scoped));
        assert_eq!(current_seq(), None);
        assert!(poll_once(&mut scoped));
        assert_eq!(current_seq(), None);
    }

    #[test]
    fn scopes_nest_and_come_back() {
        let source = Arc::default();
        let inner = context(2, &source, None).scope(async {
            yield_now().await;
            current_seq()
        });
        let mut inner = Box::pin(inner);
        let mut outer = Box::pin(context(1, &source, None).scope(async move {
            assert!(!poll_once(&mut inner));
            assert_eq!(current_seq(), Some(1));
            assert_eq!(inner.await, Some(2));
            assert_eq!(current_seq(), Some(1));
        }));
        assert!(poll_once(&mut outer));
    }

    #[test]
    fn a_panic_in_a_handler_leaves_no_context_behind() {
        let mut scoped =
            Box::pin(context(1, &Arc::default(), None).scope(async { panic!("boom") }));
        catch_unwind(AssertUnwindSafe(|| poll_once(&mut scoped))).expect_err("it panics");
        assert_eq!(current_seq(), None);
    }

    #[tokio::test]
    async fn a_spawned_task_has_a_context_only_by_scope() {
        let context = context(1, &Arc::default(), None);
        let (plain, scoped) = context
            .scope(async {
                let scope =
                    Context::current().expect("in a handler").scope(async { current_seq() });
                (tokio::spawn(async { current_seq() }).await, tokio::spawn(scope).await)
            })
            .await;
        assert_eq!(plain.expect("no panic"), None);
        assert_eq!(scoped.expect("no panic"), Some(1));
    }

    #[test]
    fn the_error_names_the_way_out() {
        let error = Context::current().expect_err("no handler").to_string();
        assert!(error.contains("`tokio::spawn`") && error.contains("`Context::scope`"));
    }

    #[tokio::test]
    async fn a_raised_flag_wakes_those_who_wait_and_those_who_come_later() {
        let source = Arc::<OneFlag>::default();
        let cancellation = context(1, &source, None).cancellation();
        assert!(!cancellation.is_cancelled());
        let waiting = tokio::spawn({
            let cancellation = cancellation.clone();
            async move { cancellation.cancelled().await }
        });
        yield_now().await;
        source.0.raise();
        waiting.await.expect("no panic");
        cancellation.cancelled().await;
        assert!(cancellation.is_cancelled());
    }

    #[tokio::test]
    async fn a_session_that_is_gone_has_cancelled_its_calls() {
        let source = Arc::<OneFlag>::default();
        let context = context(1, &source, None);
        drop(source);
        context.cancellation().cancelled().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_passes_cancels() {
        let source = Arc::default();
        let deadline = Instant::now() + Duration::from_secs(2);
        let context = context(1, &source, Some(deadline));
        let cancellation = context.cancellation();
        assert_eq!(context.deadline_left(), Some(Duration::from_secs(2)));
        assert!(!cancellation.is_cancelled());
        cancellation.cancelled().await;
        assert!(cancellation.is_cancelled());
        assert_eq!(context.deadline_left(), Some(Duration::ZERO));
    }
}
