//! For programs without an async runtime of their own: [`connect`], [`serve`] and [`shutdown`], and
//! how a thread parks for an answer.
//!
//! A blocking node is a thread that owns a runtime. It ends when the last handle of the node is
//! gone; dropping a handle only signals and never joins, so that a handle can be dropped anywhere.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::oneshot;

use crate::address::{Address, IntoUrl, Url};
use crate::dispatch::{Interface, Object};
use crate::error::CallError;
use crate::node::{Listening, Node, Unfinished};
use crate::proxy::Proxy;
use crate::semantics::Execution;
use crate::serve::ServeError;

pub(crate) use crate::driver::park::{block_on, in_async_task};

/// A node that serves on a thread of its own, for a program without an async runtime.
///
/// It serves until this handle and all proxies that were made from its node are dropped.
pub struct Server {
    node: Node,
    listener: Listening,
}

/// Looks an object up and gives a proxy for it, whose calls are made with
/// [`Call::blocking`](crate::Call::blocking).
///
/// The connection is driven by a thread of its own, which ends when the proxy, its clones and their
/// calls are dropped. Further objects of the same server share both:
/// [`Proxy::node(&alice)`](crate::Proxy::node)[`.proxy(url)`](Node::proxy).
///
/// ```no_run
/// # fn example<AccountProxy: farcall::Proxy>() -> Result<(), farcall::CallError> {
/// let alice: AccountProxy = farcall::blocking::connect("tcp://127.0.0.1:7400/alice")?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of [`Node::lookup`], and [`CallError::BlockingInAsync`] inside an async task: use
/// `farcall::connect` there.
pub fn connect<P: Proxy>(url: impl IntoUrl) -> Result<P, CallError> {
    let execution = Execution::NotExecuted;
    if in_async_task() {
        return Err(CallError::BlockingInAsync { execution });
    }
    let url = url.into_url()?;
    let peer = url.to_string().into();
    match on_own_thread(async move |node: Node| node.lookup::<P>(url).await) {
        Ok(result) => result,
        Err(Some(source)) => Err(CallError::Unreachable { peer, source: Arc::new(source) }),
        Err(None) => Err(CallError::Closed { execution }),
    }
}

/// Binds an object to a name and serves it at an address, on a thread of its own.
///
/// ```no_run
/// # use farcall::{Interface, Object, ServeError};
/// # fn example<A: Interface + ?Sized>(memory: impl Object<A>) -> Result<(), ServeError> {
/// let server = farcall::blocking::serve("tcp://127.0.0.1:0", "alice", memory)?;
/// println!("{}", server.url("alice"));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of [`Registry::bind`](crate::Registry::bind) and [`Node::listen`], and
/// [`ServeError::BlockingInAsync`] inside an async task.
pub fn serve<I, O>(url: impl IntoUrl, name: &str, object: O) -> Result<Server, ServeError>
where
    I: ?Sized + Interface,
    O: Object<I>,
{
    if in_async_task() {
        return Err(ServeError::BlockingInAsync);
    }
    let (url, name) = (url.into_url()?, name.to_owned());
    let serving = on_own_thread(async move |node: Node| {
        // Bound before the port is open: no caller comes too early.
        node.registry().bind::<I, O>(&name, object)?;
        let listener = node.listen(url).await?;
        Ok(Server { node, listener })
    });
    serving.unwrap_or_else(|source| Err(ServeError::NoRuntime { source }))
}

/// [`serve`] for an object with several remote interfaces: `serve_as::<dyn Account>(url, "alice",
/// memory)`.
///
/// # Errors
/// Those of [`serve`].
pub fn serve_as<I: ?Sized + Interface>(
    url: impl IntoUrl,
    name: &str,
    object: impl Object<I>,
) -> Result<Server, ServeError> {
    serve::<I, _>(url, name, object)
}

/// Ends a node from a thread that is not async: what is under way ends, at most within `grace`; see
/// [`Node::shutdown`].
///
/// Detached and oneway calls need it before a program ends.
///
/// # Errors
/// [`ShutdownError`]: inside an async task nothing is shut down; else what was not finished within the grace.
pub fn shutdown(node: &Node, grace: Duration) -> Result<(), ShutdownError> {
    if in_async_task() {
        return Err(ShutdownError::BlockingInAsync);
    }
    let ending = node.clone();
    // On the node's runtime: its timers and sockets work nowhere else.
    let Some(runtime) = node.runtime() else { return Ok(()) };
    let ended = runtime.spawn(async move { ending.shutdown(grace).await });
    // A runtime that has ended, or that nobody drives, has nothing left to finish.
    match block_on(ended, Some(grace.saturating_add(SHUTDOWN_MARGIN))) {
        Some(Ok(Err(unfinished))) => Err(ShutdownError::Unfinished(unfinished)),
        _ => Ok(()),
    }
}

/// Why [`shutdown`] did not end a node in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// It was used inside an async task, where it would stop the runtime; use [`Node::shutdown`]. Nothing was shut down.
    #[error("blocking inside an async task would stop the runtime; use `Node::shutdown`")]
    BlockingInAsync,
    /// The grace was over before all was done.
    #[error("the node was ended with work unfinished")]
    Unfinished(#[source] Unfinished),
}

impl Server {
    /// The URL of the object of that name, for those who connect.
    #[must_use]
    pub fn url(&self, name: &str) -> Url {
        self.listener.url(name)
    }

    /// The address that the node listens on, with the port that it was given if port 0 was asked
    /// for.
    #[must_use]
    pub fn addr(&self) -> &Address {
        self.listener.addr()
    }

    /// The node, to bind further objects or to [`shutdown`].
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addr", self.addr()).finish_non_exhaustive()
    }
}

/// Starts a thread with a runtime and a node, does the work there and gives what came out, while
/// the thread goes on until the node's last handle is dropped. An error says that there is no such
/// thread, and why if the system said it.
fn on_own_thread<W, T>(work: W) -> Result<T, Option<io::Error>>
where
    W: AsyncFnOnce(Node) -> T + Send + 'static,
    T: Send + 'static,
{
    let (sender, receiver) = mpsc::sync_channel(1);
    let body = move || {
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(sender.send(Err(Some(error)))),
        };
        runtime.block_on(async move {
            // Nothing is sent here: the node holds the sender, and the end of the one is the end of
            // the other.
            let (kept, gone) = oneshot::channel::<Infallible>();
            let node = Node::builder().keep(kept).build();
            let result = work(node).await;
            // If the asking thread is gone, so is the last handle.
            drop(sender.send(Ok(result)));
            let _ = gone.await;
        });
        // Handlers may have left blocking work behind; nobody waits for it.
        runtime.shutdown_background();
    };
    thread::Builder::new().name("farcall".to_owned()).spawn(body).map_err(Some)?;
    // No answer without an error: the work panicked.
    receiver.recv().unwrap_or(Err(None))
}

/// How much longer than the grace of a shutdown its caller waits for a runtime that may have
/// stopped.
const SHUTDOWN_MARGIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    #[test]
    fn the_thread_of_a_node_ends_with_its_last_handle() {
        let (sender, ended) = mpsc::channel::<Infallible>();
        let node = on_own_thread(async move |node: Node| {
            // Dropped with the thread's runtime.
            tokio::spawn(async move {
                pending::<()>().await;
                drop(sender)
            });
            node
        });
        let node = node.expect("a thread");
        assert_eq!(ended.try_recv(), Err(mpsc::TryRecvError::Empty));
        let clone = node.clone();
        drop(node);
        assert_eq!(ended.try_recv(), Err(mpsc::TryRecvError::Empty));
        drop(clone);
        assert_eq!(ended.recv(), Err(mpsc::RecvError));
    }

    #[test]
    fn work_that_panics_is_an_error_and_no_hang() {
        let result = on_own_thread(async |_: Node| panic!("boom"));
        assert!(matches!(result, Err::<(), _>(None)));
    }

    #[tokio::test]
    async fn a_task_is_told_to_use_the_async_form() {
        let node = Node::builder().build();
        let error = shutdown(&node, Duration::ZERO).expect_err("inside a task");
        assert_eq!(error, ShutdownError::BlockingInAsync);
    }
}
