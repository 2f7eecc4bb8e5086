//! One call before it is sent: what to call, with which options, and every way to begin waiting.
//!
//! A [`Call`] is a builder that is a future. It encodes its arguments when it starts, hands them to
//! the link, and is a [`Pending`] from then on. It knows no sockets and no sessions; the link
//! behind it does. Generated proxies make calls.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::blocking::{block_on, in_async_task};
use crate::descriptor::Descriptor;
#[cfg(feature = "sim")]
use crate::descriptor::MethodDescriptor;
use crate::driver::link::{CallKey, Link, NewCall, StartError, Waiting};
use crate::driver::references::object::Exported;
use crate::error::CallError;
use crate::id::Handle;
use crate::node::Node;
use crate::pending::Pending;
use crate::private::MethodFailure;
use crate::semantics::{Execution, Semantics};
use crate::wire::body::Body;
use crate::wire::payload::{self, Beside, DecodeError};

mod buffer;
mod direct;
mod member;
mod queue;
#[cfg(feature = "sqlite")]
mod saving;
mod unnamed;

pub(crate) use buffer::with_buffer;
pub(crate) use direct::{Answer, Direct};
use queue::{Alarm, Offer, Queued, Request, never_sent};
pub(crate) use unnamed::Hold;
use unnamed::Unnamed;

/// What a proxy calls through: an object behind a link. Cheap to clone.
#[derive(Clone)]
pub struct Remote {
    target: Arc<Target>,
    timeout: Option<Duration>,
}

/// The object itself, shared by all clones of a proxy and by their calls.
pub(crate) struct Target {
    node: Node,
    link: Arc<Link>,
    /// [`UNBOUND`] before an object without a name is first called.
    handle: AtomicU32,
    descriptor: &'static Descriptor,
    object: Arc<str>,
    /// The server's address.
    #[cfg_attr(
        not(feature = "sqlite"),
        allow(dead_code, reason = "exactly-once calls are saved for it")
    )]
    peer: Arc<str>,
    /// It is this node's own.
    is_home: bool,
    /// What holds an object without a name.
    unnamed: Option<Box<Unnamed>>,
    /// Stands for the object where this node passes it on.
    forwarder: Mutex<Weak<Exported>>,
}

/// One call of a remote method: a builder that is a future.
///
/// Nothing happens before it is awaited, started or blocked on. Once it has started, dropping it
/// cancels the call; an exactly-once call goes on. It borrows nothing, so it can be spawned, joined and kept.
///
/// Its answer is the method's result or a [`CallError`], whose
/// [`execution`](CallError::execution) says whether the method ran.
///
/// | | waits for | on a full send buffer |
/// |---|---|---|
/// | `call.await` | the answer | waits |
/// | [`call.blocking()`](Call::blocking) | the answer, parking the thread | waits |
/// | [`call.start().await`](Call::start) | only until the request is in the send buffer | waits |
/// | [`call.try_start()`](Call::try_start) | nothing | [`CallError::BufferFull`] |
///
/// # Panics
/// If it is polled after it has given its answer, or after it panicked. A panic of the arguments'
/// `Serialize` or of the result's `Deserialize` passes through to the caller and harms no other
/// call.
#[must_use = "a call does nothing until it is awaited, started or blocked on"]
pub struct Call<A, T, E = Infallible> {
    /// Until it starts.
    arguments: Option<A>,
    limit: Limit,
    /// Under which an exactly-once call is found again.
    key: Option<Box<str>>,
    /// While it waits for room in the send buffer.
    queued: Option<Box<Queued>>,
    /// What the call becomes, and all that both have; finished for as long as the call has not started.
    pending: Pending<T, E>,
}

/// How long a call may take, as its caller said it.
#[derive(Clone, Copy)]
enum Limit {
    Inherited,
    Timeout(Duration),
    Deadline(Instant),
}

/// How the two kinds of answer are decoded. Plain functions, so that a future needs no bounds on
/// `T` and `E`.
pub(crate) struct Decoders<T, E> {
    pub(crate) result: fn(&[u8]) -> Result<T, DecodeError>,
    pub(crate) error: fn(&[u8]) -> Result<E, Box<str>>,
}

impl Remote {
    /// The object that the session of `link` knows as `handle`.
    pub(crate) fn new(
        node: Node,
        link: Arc<Link>,
        handle: Handle,
        descriptor: &'static Descriptor,
        object: Arc<str>,
        peer: Arc<str>,
    ) -> Remote {
        Remote::of(Target {
            node,
            link,
            handle: AtomicU32::new(handle),
            descriptor,
            object,
            is_home: direct::is_home(&peer),
            peer,
            unnamed: None,
            forwarder: Mutex::default(),
        })
    }

    /// The same object; calls through it have this timeout where they set none of their own.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Remote {
        Remote { target: Arc::clone(&self.target), timeout: Some(timeout) }
    }

    /// The node that calls go out from.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.target.node
    }
}

impl<A, T, E> Call<A, T, E> {
    /// A call of the method at position `method` of the interface's descriptor.
    #[doc(hidden)]
    #[inline(always)]
    pub fn new<Kind>(
        remote: &Remote,
        method: usize,
        arguments: A,
        decode: fn(&[u8]) -> Result<T, DecodeError>,
    ) -> Call<A, T, E>
    where
        E: MethodFailure<Kind>,
    {
        let target = Arc::clone(&remote.target);
        // Generated code passes `Descriptor::position`, evaluated when the interface was compiled.
        let descriptor = &target.descriptor.methods[method];
        let decoders = Decoders { result: decode, error: E::decode };
        Call {
            arguments: Some(arguments),
            limit: remote.timeout.map_or(Limit::Inherited, Limit::Timeout),
            key: None,
            queued: None,
            pending: Pending::unstarted(target, method, descriptor, decoders),
        }
    }

    /// Gives the call this long from its start to its answer; then it ends with [`CallError::DeadlineExceeded`], which says
    /// whether it may have run. Of an exactly-once call only the wait ends, with [`CallError::Deferred`].
    /// [`Duration::MAX`] stands for no deadline.
    ///
    /// Without it, what counts is the proxy's [`with_timeout`](crate::Proxy::with_timeout), else
    /// the method's `#[remote(timeout = "…")]`, else the node's default. It has no effect on a call
    /// that has started.
    pub fn timeout(self, timeout: Duration) -> Call<A, T, E> {
        self.limited(Limit::Timeout(timeout))
    }

    /// Ends the call at this moment, of [`tokio::time::Instant`] or [`std::time::Instant`].
    ///
    /// One deadline can so bound a sequence of calls. It has no effect on a call that has started.
    pub fn deadline(self, deadline: impl Into<Instant>) -> Call<A, T, E> {
        self.limited(Limit::Deadline(deadline.into()))
    }

    /// Gives an exactly-once call a key of the program's own, such as the number of an order.
    ///
    /// The same call under the same key attaches to the saved one, running or finished, in this run of the program or a
    /// later one, and gets the same result. The key is kept until [`Node::forget`]; a call that did not run and never
    /// will frees it. It has no effect on a call that has started.
    pub fn key(mut self, key: impl Into<String>) -> Call<A, T, E> {
        self.key = Some(key.into().into());
        self
    }

    /// What is called, while the call is there to be polled.
    #[cfg(feature = "sim")]
    pub(crate) fn method(&self) -> Option<&'static MethodDescriptor> {
        let unsent = self.arguments.is_some() || self.queued.is_some();
        unsent.then(|| self.pending.method())
    }

    fn limited(mut self, limit: Limit) -> Call<A, T, E> {
        self.limit = limit;
        self
    }

    /// The call's own limit, else the proxy's, else the method's, else the node's. Reads a clock
    /// only for a deadline.
    fn time(&self) -> Option<Duration> {
        let timeout = match self.limit {
            Limit::Timeout(timeout) => Some(timeout),
            Limit::Deadline(deadline) => Some(deadline.saturating_duration_since(Instant::now())),
            Limit::Inherited => {
                let inherited = || self.pending.target().link.default_timeout();
                self.pending.method().timeout.or_else(inherited)
            }
        };
        timeout.filter(|timeout| *timeout != Duration::MAX)
    }

    /// Whether the call is exactly once, and so is saved before it is sent.
    ///
    /// # Errors
    /// It has a key and is not; or it is made inside a transaction, where only what is enqueued is allowed.
    #[inline]
    fn check_durable(&self) -> Result<bool, CallError> {
        #[cfg(feature = "sqlite")]
        if crate::store::in_transaction() {
            return Err(CallError::CallInsideTransaction);
        }
        let method = self.pending.method();
        let exactly_once = method.semantics == Semantics::ExactlyOnce;
        if self.key.is_some() && !exactly_once {
            return Err(CallError::NotDurable { method: method.name });
        }
        if exactly_once {
            self.pending.target().check_named()?;
        }
        Ok(exactly_once)
    }
}

impl<A: Serialize, T, E> Call<A, T, E> {
    /// Makes the call and waits for the answer, parking the thread.
    ///
    /// For threads without an async runtime, and for `tokio::task::spawn_blocking`. An async task
    /// is recognised by tokio's cooperative budget, so a task inside `tokio::task::unconstrained`
    /// and one of another runtime are not; there the whole runtime may stand still until the
    /// deadline.
    ///
    /// # Errors
    /// Those of the call, and [`CallError::BlockingInAsync`] inside an async task, where nothing is
    /// sent.
    pub fn blocking(mut self) -> Result<T, CallError<E>> {
        if in_async_task() {
            return Err(CallError::BlockingInAsync { execution: Execution::NotExecuted });
        }
        let timeout = match &self.queued {
            Some(queued) => queued.remaining(),
            None if self.arguments.is_some() => self.time(),
            // The answer's own deadline is the business of `park`.
            None => None,
        };
        let started = poll_fn(|cx| self.poll_started(cx, Alarm::Caller));
        match block_on(started, timeout) {
            Some(started) => {
                started?;
                self.pending.park()
            }
            None => Err(never_sent(timeout.unwrap_or_default()).widen()),
        }
    }

    /// Makes the call and returns as soon as the request is in the send buffer; waits while that is
    /// full. An exactly-once call is on stable storage then.
    ///
    /// # Errors
    /// Those of a call that could not be sent: nothing ran. Of an exactly-once call also [`CallError::Deferred`] if nobody
    /// knows whether it was saved: it goes on if it shows when the store is opened again.
    pub async fn start(mut self) -> Result<Pending<T, E>, CallError<E>> {
        poll_fn(|cx| self.poll_started(cx, Alarm::Timer)).await?;
        let pending = self.pending;
        poll_fn(|cx| pending.poll_saved(cx)).await.map_err(CallError::widen)?;
        Ok(pending)
    }

    /// Makes the call without waiting for anything.
    ///
    /// # Errors
    /// [`CallError::BufferFull`] if the send buffer is full, and those of a call that could not be
    /// sent. Nothing ran.
    pub fn try_start(mut self) -> Result<Pending<T, E>, CallError<E>> {
        if self.arguments.is_some() {
            self.begin(None)?;
        }
        match self.queued {
            Some(_) => Err(CallError::BufferFull),
            None if self.pending.is_finished() => finished_before(),
            None => Ok(self.pending),
        }
    }

    /// Polls until the request is in the send buffer.
    fn poll_started(
        &mut self,
        cx: &mut Context<'_>,
        alarm: Alarm,
    ) -> Poll<Result<(), CallError<E>>> {
        if self.arguments.is_some() {
            self.begin(None)?;
        }
        if let Some(queued) = &mut self.queued {
            let offered = ready!(queued.poll_offer(&self.pending, cx, alarm));
            self.queued = None;
            let (key, left) = offered.map_err(CallError::widen)?;
            self.pending.started(key, left);
        }
        if self.pending.is_finished() { finished_before() } else { Poll::Ready(Ok(())) }
    }

    /// Encodes the arguments and offers the request to the link: the call is started or queued afterwards, or finished
    /// with an error or a panic of the user's `Serialize`. Whether the link wakes `waiter` when there is an answer.
    fn begin(&mut self, waiter: Option<&Waker>) -> Result<bool, CallError<E>> {
        let Some(arguments) = self.arguments.take() else { finished_before() };
        let timeout = self.time();
        if timeout == Some(Duration::ZERO) {
            return Err(never_sent(Duration::ZERO).widen());
        }
        self.pending.listen();
        if self.check_durable().map_err(CallError::widen)? {
            #[cfg(feature = "sqlite")]
            self.save(&arguments, timeout)?;
            return Ok(false);
        }
        if waiter.is_some() && self.begin_direct(&arguments, timeout)? {
            return Ok(false);
        }
        let Call { pending, queued, .. } = self;
        // Nothing comes back from a one-way call.
        let waiter = waiter.filter(|_| !pending.method().oneway);
        with_buffer(|buffer| {
            let Beside { shared, passed } = pending.encode(&arguments, buffer)?;
            let pins = pending.target().seal(&passed, buffer).map_err(CallError::widen)?;
            let large = Body::if_large(buffer, shared);
            let passes = pins.is_some();
            let offer = Offer { arguments: buffer, large: large.as_deref(), passes };
            match pending.offer(offer, timeout, None, waiter) {
                Ok(key) => {
                    if let Some(pins) = pins {
                        pending.target().link.pin(key, *pins);
                    }
                    pending.started(key, timeout);
                    Ok(waiter.is_some())
                }
                Err(StartError::Failed(error)) => Err(error.widen()),
                Err(StartError::Full) => {
                    let target = Arc::clone(pending.target());
                    let request = Request::new(buffer, large, pins);
                    *queued = Some(Box::new(Queued::new(target, request, timeout)));
                    Ok(false)
                }
            }
        })
    }
}

impl<A: Serialize, T, E> Future for Call<A, T, E> {
    type Output = Result<T, CallError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.arguments.is_some() && this.begin(Some(cx.waker()))? {
            // The link was told whom to wake when it took the call; its lock is not taken again for that.
            return Poll::Pending;
        }
        ready!(this.poll_started(cx, Alarm::Timer))?;
        Pin::new(&mut this.pending).poll(cx)
    }
}

/// Nothing in a call is pinned: the arguments are only read.
impl<A, T, E> Unpin for Call<A, T, E> {}

impl<T, E> Pending<T, E> {
    /// Makes a span for this call if anybody listens.
    #[inline]
    fn listen(&mut self) {
        // Else tracing's feature `log`, which some crate may switch on, has the fields gathered for nobody.
        if tracing::level_filters::LevelFilter::current() < tracing::Level::DEBUG {
            return;
        }
        let span = tracing::debug_span!(
            "call",
            object = &*self.target().object,
            method = self.method().name,
            semantics = %self.method().semantics,
            id = tracing::field::Empty,
            attempt = tracing::field::Empty,
        );
        if !span.is_disabled() {
            self.set_span(span);
        }
    }

    #[inline(always)]
    fn encode<A: Serialize>(
        &self,
        arguments: &A,
        buffer: &mut Vec<u8>,
    ) -> Result<Beside, CallError<E>> {
        let _entered = self.span().map(tracing::Span::enter);
        payload::encode_shared(arguments, buffer)
            .map_err(|error| CallError::NotEncoded { reason: error.to_string().into() })
    }

    /// Offers the request to the link.
    fn offer(
        &self,
        offer: Offer<'_>,
        timeout: Option<Duration>,
        waiting: Option<&mut Waiting>,
        waiter: Option<&Waker>,
    ) -> Result<CallKey, StartError> {
        let (target, method) = (self.target(), self.method());
        let request = NewCall {
            handle: target.handle().map_err(StartError::Failed)?,
            method: self.position(),
            semantics: method.semantics,
            oneway: method.oneway,
            passes: offer.passes,
            timeout,
            arguments: offer.arguments,
            large: offer.large,
        };
        target.link.try_start(&request, waiting, waiter)
    }
}

impl<T, E> Clone for Decoders<T, E> {
    fn clone(&self) -> Decoders<T, E> {
        *self
    }
}

impl<T, E> Copy for Decoders<T, E> {}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("object", &self.target.object)
            .field("interface", &self.target.descriptor.name)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl<A, T, E> fmt::Debug for Call<A, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match (&self.arguments, &self.queued) {
            (Some(_), _) => "unstarted",
            (None, Some(_)) => "waiting for room",
            (None, None) => return self.pending.fmt(f),
        };
        f.debug_struct("Call")
            .field("object", &self.pending.target().object)
            .field("method", &self.pending.method().name)
            .field("stage", &stage)
            .finish_non_exhaustive()
    }
}

fn finished_before() -> ! {
    panic!("a call was polled after it had finished")
}
