//! A process's presence: its identity, its objects, its listeners and its connections.
//!
//! Everything hangs on a [`Node`], nothing is global: a program may have several, a test one of its own. Proxies and
//! handles of listeners keep their node alive; when the last is gone, its connections end.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::address::{Address, IntoUrl};
use crate::call::Remote;
use crate::context::Flag;
use crate::descriptor::Descriptor;
use crate::dispatch::Interface;
use crate::driver::entropy::Entropy;
use crate::driver::lock;
use crate::driver::server::Server;
use crate::error::CallError;
use crate::id::{Boot, NodeId};
use crate::limits::Limits;
use crate::proxy::Proxy;
use crate::registry::Registry;
use crate::semantics::Execution;
use crate::serve::ServeError;
use crate::transport::{Network, RealNetwork, dropped_by_kernel};

#[cfg(feature = "sqlite")]
mod durable;
mod inside;
mod links;
mod listening;
mod references;
#[cfg(feature = "sqlite")]
use durable::Durable;
#[cfg(feature = "sqlite")]
pub use durable::{Recovered, RecoveredCall};
use links::Links;
pub use listening::{Listening, connect, serve, serve_as};
use references::Own;

/// A process's presence on the network; cheap to clone, all clones are one node.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    id: NodeId,
    limits: Arc<Limits>,
    registry: Registry,
    server: Arc<Server>,
    #[cfg(feature = "sqlite")]
    durable: Option<Durable>,
    network: Arc<dyn Network>,
    entropy: Arc<Entropy>,
    links: Mutex<Links>,
    /// Where it listens.
    listening: Mutex<Vec<Address>>,
    /// Whether the node was shut down.
    closing: Arc<Flag>,
    /// The tokio runtime on which the node was first used; its tasks run there.
    runtime: OnceLock<Handle>,
    own: Own,
    /// Lives as long as the node.
    _kept: Option<Kept>,
}

/// Something that the node keeps alive.
type Kept = Box<dyn std::any::Any + Send + Sync>;

/// Makes a [`Node`].
pub struct NodeBuilder {
    limits: Limits,
    #[cfg(feature = "sqlite")]
    store: Option<crate::store::SqliteStore>,
    network: Arc<dyn Network>,
    entropy: Entropy,
    kept: Option<Kept>,
}

/// What was still unfinished when a shutdown's grace was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the grace was over with {handlers} handlers running and {calls} calls in flight")]
#[non_exhaustive]
pub struct Unfinished {
    /// Handlers of this node that were still running.
    pub handlers: usize,
    /// Calls from this node that were not finished; their callers were told.
    pub calls: usize,
}

/// What a node did and keeps. Numbers since it was built, but for those that say "now".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Statistics {
    /// Calls that were taken from callers.
    pub calls: u64,
    /// Requests that were sent again, on a further connection. What lost datagrams carried is sent again below, and
    /// counted by `datagrams_resent`.
    pub resent: u64,
    /// Connections that were made.
    pub connections: u64,
    /// Servers that this node has a link to now, whether connected or not. Those that no proxy leads to any more are
    /// closed when there are many.
    pub links: usize,
    /// Sessions that servers gave to this node.
    pub sessions: u64,
    /// Handlers that run now.
    pub running: usize,
    /// Sessions that this node keeps for its clients now.
    pub kept_sessions: usize,
    /// Bytes of saved replies and of unfinished messages that this node keeps now.
    pub kept_bytes: usize,
    /// Datagrams that this node sent over `udp://`, repeats and acknowledgements among them.
    pub datagrams_sent: u64,
    /// Datagrams that arrived at this node's sockets.
    pub datagrams_received: u64,
    /// Datagrams of this node that did not arrive, as far as their acknowledgements tell. What was in them was sent
    /// again if it was still wanted, and given up if not.
    pub datagrams_lost: u64,
    /// Datagrams with something that this node had sent before.
    pub datagrams_resent: u64,
    /// Datagrams that were dropped since they were damaged on their way, could not be read, or belonged to no link.
    pub datagrams_rejected: u64,
    /// Datagrams that the kernel dropped since this node did not read fast enough for
    /// [`Limits::receive_buffer`]; nothing where the kernel does not tell.
    pub datagrams_dropped_by_kernel: Option<u64>,
}

impl Node {
    /// A builder with the default limits.
    #[must_use]
    pub fn builder() -> NodeBuilder {
        NodeBuilder {
            limits: Limits::default(),
            #[cfg(feature = "sqlite")]
            store: None,
            network: Arc::new(RealNetwork),
            entropy: Entropy::System,
            kept: None,
        }
    }

    /// Who this node is, for its peers.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.inner.id
    }

    /// This run of the node as a server.
    #[must_use]
    pub fn boot(&self) -> Boot {
        self.inner.server.boot()
    }

    /// The objects of this node, by name.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    /// Accepts calls at an address: `tcp://127.0.0.1:0`, `udp://127.0.0.1:0`, `mem://name`. A port 0 is chosen by the system; the handle
    /// tells which. Must be called inside a tokio runtime, which then runs the handlers.
    ///
    /// # Errors
    /// [`ServeError::Address`] if the address cannot be used, [`ServeError::Listen`] if it is taken or
    /// not this machine's, [`ServeError::NoRuntime`] outside a runtime.
    pub async fn listen(&self, url: impl IntoUrl) -> Result<Listening, ServeError> {
        let url = url.into_url()?;
        let runtime = self.runtime().ok_or(ServeError::NoRuntime { source: None })?;
        let Inner { server, network, .. } = &*self.inner;
        let address =
            server.listen(runtime, &**network, url.address()).await.map_err(|source| {
                let address = url.address().to_string().into();
                ServeError::Listen { address, source }
            })?;
        lock(&self.inner.listening).push(address.clone());
        Ok(Listening { node: self.clone(), address })
    }

    /// A proxy of the object that `url` names. Connects if this node has no connection there yet, and
    /// asks the server for the object, for at most [`Limits::default_timeout`]. Must be called inside
    /// a tokio runtime, which then runs the connection.
    ///
    /// The proxy stays valid when the connection breaks, and when the server is restarted. A method
    /// that the server lacks fails when it is called.
    ///
    /// # Errors
    /// No method runs here, so no error leaves a doubt.
    /// - [`CallError::BadAddress`] if the URL cannot be read or names no object;
    /// - [`CallError::Unreachable`] if no connection can be made: nobody waits for the next attempt;
    /// - [`CallError::NoSuchObject`] if nothing is bound to the name, or another interface;
    /// - [`CallError::Busy`] if too many objects of that server are in use;
    /// - [`CallError::NoStore`] or [`CallError::Store`] if it has exactly-once methods, and there is no store to use;
    /// - [`CallError::DeadlineExceeded`] if the server does not answer in time;
    /// - [`CallError::Closed`] if this node was shut down, or there is no runtime.
    pub async fn lookup<P: Proxy>(&self, url: impl IntoUrl) -> Result<P, CallError> {
        let url = url.into_url().map_err(CallError::BadAddress)?;
        let object = url.require_object().map_err(CallError::BadAddress)?;
        let descriptor = <P::Interface as Interface>::DESCRIPTOR;
        self.check_store(descriptor)?;
        let link = self.link(url.address())?;
        let binding = link.bind(&object, descriptor);
        let handle = match self.inner.limits.default_timeout {
            None => binding.await?,
            Some(timeout) => match tokio::time::timeout(timeout, binding).await {
                Ok(handle) => handle?,
                Err(_) => {
                    let execution = Execution::NotExecuted;
                    let (waited, started) = (timeout, false);
                    return Err(CallError::DeadlineExceeded { waited, execution, started });
                }
            },
        };
        let peer = url.address().to_string().into();
        Ok(P::from_remote(Remote::new(self.clone(), link, handle, descriptor, object, peer)))
    }

    /// A proxy of the object that `url` names, without asking the server, which need not be there. Exactly-once calls
    /// are saved, and sent when it is; others wait for it until their deadlines.
    ///
    /// # Errors
    /// No method runs here. [`CallError::BadAddress`] if the URL cannot be read or names no object, [`CallError::NoStore`] or
    /// [`CallError::Store`] if it has exactly-once methods and there is no store to use, [`CallError::Busy`] if too many
    /// objects of that server are in use, [`CallError::Closed`] if this node was shut down, or there is no runtime.
    pub fn proxy<P: Proxy>(&self, url: impl IntoUrl) -> Result<P, CallError> {
        let url = url.into_url().map_err(CallError::BadAddress)?;
        let object = url.require_object().map_err(CallError::BadAddress)?;
        let descriptor = <P::Interface as Interface>::DESCRIPTOR;
        self.check_store(descriptor)?;
        let link = self.link(url.address())?;
        let handle = link.handle(&object, descriptor)?;
        let peer = url.address().to_string().into();
        Ok(P::from_remote(Remote::new(self.clone(), link, handle, descriptor, object, peer)))
    }

    /// Exactly-once calls need a store.
    fn check_store(&self, descriptor: &'static Descriptor) -> Result<(), CallError> {
        if !descriptor.is_exactly_once() {
            return Ok(());
        }
        #[cfg(feature = "sqlite")]
        return self.journal().map(drop);
        #[cfg(not(feature = "sqlite"))]
        Err(CallError::NoStore)
    }

    /// Ends the node in good order: nothing new begins, what runs is answered, calls back as well, detached and oneway
    /// calls leave; after `grace`, or earlier when all is done, every connection is closed. Calls that come meanwhile are
    /// refused as not executed.
    ///
    /// # Errors
    /// [`Unfinished`] if the grace was over before all was done.
    pub async fn shutdown(&self, grace: Duration) -> Result<(), Unfinished> {
        let links = lock(&self.inner.links).all();
        let leaving = async {
            let idle = async {
                for link in &links {
                    link.idle().await;
                }
            };
            let _ = tokio::time::timeout(grace, idle).await;
        };
        let serving = self.inner.server.shutdown(grace);
        let ((handlers, calls_back), ()) = both(serving, leaving).await;
        let calls = calls_back + links.iter().map(|link| link.in_flight()).sum::<usize>();
        #[cfg(feature = "sqlite")]
        self.flush_journal().await;
        self.inner.close();
        for link in &links {
            let _ = tokio::time::timeout(CLOSING, link.closed()).await;
        }
        if handlers == 0 && calls == 0 { Ok(()) } else { Err(Unfinished { handlers, calls }) }
    }

    /// What this node did and keeps.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let (kept_sessions, kept_bytes) = self.inner.server.kept();
        let running = self.inner.server.running();
        let mut all = Statistics { running, kept_sessions, kept_bytes, ..Statistics::default() };
        all.calls = self.inner.server.visits();
        let mut sockets = self.inner.server.sockets();
        lock(&self.inner.links).count(&mut all, &mut sockets);
        all.datagrams_sent = sockets.traffic.sent;
        all.datagrams_received = sockets.traffic.received;
        all.datagrams_lost = sockets.traffic.lost;
        all.datagrams_resent = sockets.traffic.resent;
        all.datagrams_rejected = sockets.traffic.rejected;
        let dropped = dropped_by_kernel(&sockets.numbers);
        all.datagrams_dropped_by_kernel = dropped.map(|open| open + sockets.dropped);
        all
    }

    /// Ends the node as a crash would.
    #[cfg(feature = "sim")]
    pub(crate) fn kill(&self) {
        self.inner.server.kill();
        lock(&self.inner.links).all().iter().for_each(|link| link.kill());
        self.inner.close();
    }

    /// The runtime that the node's tasks run on, once it was used on one.
    pub(crate) fn runtime(&self) -> Option<&Handle> {
        let runtime = self.inner.runtime()?;
        #[cfg(feature = "sqlite")]
        self.start_journal(runtime);
        Some(runtime)
    }
}

impl Inner {
    fn runtime(&self) -> Option<&Handle> {
        if let Some(runtime) = self.runtime.get() {
            return Some(runtime);
        }
        let current = Handle::try_current().ok()?;
        Some(self.runtime.get_or_init(|| current))
    }

    fn close(&self) {
        let links = lock(&self.links).close();
        self.closing.raise();
        #[cfg(feature = "sqlite")]
        self.close_journal();
        links.iter().for_each(|link| link.close());
        self.server.close();
    }
}

impl Drop for Inner {
    /// Only signals: the tasks end by themselves.
    fn drop(&mut self) {
        self.close();
    }
}

impl NodeBuilder {
    /// Sets the node's limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> NodeBuilder {
        self.limits = limits;
        self
    }

    /// Keeps something alive as long as the node.
    pub(crate) fn keep(mut self, kept: impl std::any::Any + Send + Sync) -> NodeBuilder {
        self.kept = Some(Box::new(kept));
        self
    }

    /// Sets network and randomness, for the simulator.
    #[cfg(feature = "sim")]
    pub(crate) fn simulated(mut self, network: Arc<dyn Network>, seed: u64) -> NodeBuilder {
        self.network = network;
        self.entropy = Entropy::seeded(seed);
        self
    }

    /// The node. It does nothing before it listens or looks something up.
    #[must_use]
    pub fn build(self) -> Node {
        let entropy = Arc::new(self.entropy);
        let id = uuid::Builder::from_random_bytes(
            (u128::from(entropy.next()) << 64 | u128::from(entropy.next())).to_be_bytes(),
        );
        let id = NodeId(id.into_uuid());
        let limits = Arc::new(self.limits.usable());
        #[cfg(feature = "sqlite")]
        let durable = self.store.map(|store| Durable::new(store, &limits, &entropy));
        #[cfg(feature = "sqlite")]
        let has_store = durable.is_some();
        #[cfg(not(feature = "sqlite"))]
        let has_store = false;
        let registry = Registry::new(limits.names, has_store);
        let server = Server::new(
            id,
            limits.clone(),
            registry.clone(),
            #[cfg(feature = "sqlite")]
            durable.as_ref().map(Durable::store),
            entropy.clone(),
        );
        let links = Mutex::default();
        let network = self.network;
        let (runtime, closing) = (OnceLock::new(), Arc::<Flag>::default());
        let _kept = self.kept;
        let inner = Arc::new_cyclic(|this| Inner {
            id,
            limits,
            registry,
            server,
            #[cfg(feature = "sqlite")]
            durable,
            network,
            entropy,
            links,
            listening: Mutex::default(),
            closing,
            runtime,
            own: Own::new(this),
            _kept,
        });
        let node = Node { inner };
        node.open_references();
        #[cfg(feature = "sqlite")]
        node.open_journal();
        node
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("id", &self.inner.id).finish_non_exhaustive()
    }
}

impl fmt::Debug for NodeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeBuilder").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Both futures to their ends, side by side.
async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (std::pin::pin!(a), std::pin::pin!(b));
    let (mut a_done, mut b_done) = (None, None);
    std::future::poll_fn(move |cx| {
        if a_done.is_none()
            && let std::task::Poll::Ready(output) = a.as_mut().poll(cx)
        {
            a_done = Some(output);
        }
        if b_done.is_none()
            && let std::task::Poll::Ready(output) = b.as_mut().poll(cx)
        {
            b_done = Some(output);
        }
        match (a_done.take(), b_done.take()) {
            (Some(a), Some(b)) => std::task::Poll::Ready((a, b)),
            (a, b) => {
                (a_done, b_done) = (a, b);
                std::task::Poll::Pending
            }
        }
    })
    .await
}

/// How long a link may take until its last bytes are written, or its last datagrams have arrived.
const CLOSING: Duration = Duration::from_millis(1200);
