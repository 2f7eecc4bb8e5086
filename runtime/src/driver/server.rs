//! The server's side of a node: listeners, sessions, and how both end.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::Waker;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::clock::Clock;
use super::datagram::injected::Injected;
use super::datagram::{self, Sockets};
#[cfg(feature = "sqlite")]
use super::durable::NodeStore;
use super::entropy::Entropy;
use super::lock;
use super::references::home::Visits;
use super::references::{Home, Partner, Peer, nobody};
use super::serving;
use super::session::Cell;
use crate::address::Address;
use crate::id::{Boot, NodeId};
use crate::limits::Limits;
use crate::protocol::server::{ProcessBudget, Sessions};
use crate::registry::Registry;
use crate::time::Time;
use crate::transport::{Listener, Network, Side};
use crate::wire::bundle::Part;

/// What all connections that a node accepts have in common.
pub(crate) struct Server {
    pub(super) limits: Arc<Limits>,
    pub(super) registry: Registry,
    #[cfg(feature = "sqlite")]
    pub(super) store: Option<Arc<NodeStore>>,
    pub(super) entropy: Arc<Entropy>,
    pub(super) clock: Clock,
    pub(super) budget: Arc<ProcessBudget>,
    pub(super) sessions: Mutex<Sessions<Arc<Cell>>>,
    pub(super) boot: Boot,
    /// Calls that the node makes of its own objects, without sessions.
    pub(super) visits: Visits,
    /// The node, for references.
    home: OnceLock<Weak<dyn Home>>,
    /// Sessions are looked at now and then.
    swept: AtomicBool,
    /// For calls back.
    back_limits: OnceLock<Arc<Limits>>,
    /// Connections, and those of them whose handshake is not finished.
    pub(super) connections: AtomicUsize,
    pub(super) handshakes: AtomicUsize,
    /// Connections by host.
    pub(super) hosts: Mutex<BTreeMap<Box<str>, usize>>,
    pub(super) draining: AtomicBool,
    /// The process is dead, as far as anybody can see: nothing runs any further.
    pub(super) dead: AtomicBool,
    /// When sessions were last dropped under pressure.
    relieved: Mutex<Option<Time>>,
    /// Tasks to be woken when the server ends.
    tasks: Mutex<Tasks>,
    /// Handlers with tasks of their own, which end with a simulated crash.
    #[cfg(feature = "sim")]
    handlers: Mutex<Vec<tokio::task::AbortHandle>>,
    /// Sockets for datagrams that the server listens at.
    pub(super) sockets: Mutex<Sockets>,
    pub(super) open_sockets: AtomicUsize,
    /// Where what came for the links of these sockets by another way is put.
    pub(super) injected: Mutex<Vec<Weak<Injected>>>,
    /// Tells listeners to stop, and who waits for the end to look again.
    pub(super) changed: Notify,
}

/// The tasks of connections, by number, and whether they are to end.
#[derive(Default)]
struct Tasks {
    next: u64,
    wakers: BTreeMap<u64, Option<Waker>>,
    closing: bool,
}

/// Sessions that are over. With them may go objects, whose `Drop` is the user's code, and may panic: they are dropped under
/// no lock.
#[derive(Default)]
pub(super) struct Expired(Vec<Arc<Cell>>);

impl Server {
    /// A server that listens nowhere yet.
    pub(crate) fn new(
        node: NodeId,
        limits: Arc<Limits>,
        registry: Registry,
        #[cfg(feature = "sqlite")] store: Option<Arc<NodeStore>>,
        entropy: Arc<Entropy>,
    ) -> Arc<Server> {
        let boot = Boot(entropy.next());
        Arc::new(Server {
            limits,
            registry,
            #[cfg(feature = "sqlite")]
            store,
            entropy,
            clock: Clock::new(),
            budget: Arc::default(),
            sessions: Mutex::new(Sessions::new(node, boot)),
            boot,
            visits: Visits::default(),
            home: OnceLock::new(),
            swept: AtomicBool::new(false),
            back_limits: OnceLock::new(),
            connections: AtomicUsize::new(0),
            handshakes: AtomicUsize::new(0),
            hosts: Mutex::default(),
            draining: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            relieved: Mutex::default(),
            tasks: Mutex::default(),
            #[cfg(feature = "sim")]
            handlers: Mutex::default(),
            sockets: Mutex::default(),
            open_sockets: AtomicUsize::new(0),
            injected: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Listens at an address; returns the one that was bound.
    pub(crate) async fn listen(
        self: &Arc<Server>,
        runtime: &Handle,
        network: &dyn Network,
        address: &Address,
    ) -> io::Result<Address> {
        let bound = if let Address::Udp(_) = address {
            let socket = network.datagrams(address, Side::Server, &self.limits).await?;
            let bound = socket.address();
            datagram::server::spawn(self, runtime, socket);
            bound
        } else {
            let listener = network.listen(address).await?;
            let bound = listener.address();
            runtime.spawn(accept(Arc::downgrade(self), listener));
            bound
        };
        self.sweep(runtime);
        Ok(bound)
    }

    /// Who the references are of that cross its connections.
    pub(crate) fn set_home(&self, home: Weak<dyn Home>) {
        let _ = self.home.set(home);
    }

    /// The limits of calls back: their window is their own.
    pub(super) fn back_limits(&self) -> Arc<Limits> {
        let limits = self.back_limits.get_or_init(|| {
            let window = self.limits.window.min(BACK_WINDOW);
            Arc::new(Limits { window, ..(*self.limits).clone() })
        });
        limits.clone()
    }

    /// As [`home`](Self::home), for who is kept by it.
    pub(super) fn weak_home(&self) -> Weak<dyn Home> {
        self.home.get().cloned().unwrap_or_else(nobody)
    }

    /// The node, for references.
    pub(super) fn home(&self) -> Option<Arc<dyn Home>> {
        self.home.get()?.upgrade()
    }

    /// Looks after sessions that expire from now on.
    pub(super) fn sweep(self: &Arc<Server>, runtime: &Handle) {
        if !self.swept.swap(true, Ordering::AcqRel) {
            runtime.spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// References between this node and its clients, one peer a session.
    pub(crate) fn peers(&self) -> Vec<Arc<Peer>> {
        let sessions = lock(&self.sessions);
        let peers = sessions.iter().filter_map(|cell| match cell.partner() {
            Some(Partner::Peer(peer)) => Some(peer.clone()),
            _ => None,
        });
        peers.collect()
    }

    /// Datagrams of links that came in a bundle: each is for the socket that has the link, if one does.
    pub(crate) fn inject(&self, parts: &[Part]) {
        let mut injected = lock(&self.injected);
        injected.retain(|socket| socket.strong_count() > 0);
        let sockets: Vec<_> = injected.iter().filter_map(Weak::upgrade).collect();
        drop(injected);
        sockets.iter().for_each(|socket| socket.add(parts));
    }

    /// Begins nothing new, lets what runs end and be answered, and calls back as well, for at most `grace`; then ends every
    /// connection. Returns how many handlers were still running, and how many calls back.
    pub(crate) async fn shutdown(&self, grace: Duration) -> (usize, usize) {
        self.draining.store(true, Ordering::Release);
        self.changed.notify_waiters();
        let sessions: Vec<_> = lock(&self.sessions).iter().cloned().collect();
        sessions.iter().for_each(|session| session.drain());
        let drained = async {
            // Handlers may outlive their sessions: a client that closes leaves its oneway calls behind.
            while self.running() > 0
                || !sessions.iter().all(|session| session.is_drained())
                || !self.peers().iter().all(|peer| peer.is_idle())
            {
                // Polled, since it happens once in a server's life, and what ends a call need not know of it.
                tokio::time::sleep(DRAIN_POLL).await;
            }
        };
        let _ = tokio::time::timeout(grace, drained).await;
        let running = self.running();
        let calls_back = self.peers().iter().map(|peer| peer.in_flight()).sum();
        self.close();
        let closed = async {
            // A socket for datagrams closes after its links, and its port is free again only then.
            let open = |counter: &AtomicUsize| counter.load(Ordering::Acquire) > 0;
            while open(&self.connections) || open(&self.open_sockets) {
                tokio::time::sleep(DRAIN_POLL).await;
            }
        };
        let _ = tokio::time::timeout(grace.max(LEAST_CLOSING), closed).await;
        (running, calls_back)
    }

    /// Makes room for a new session: those go that have neither a link nor a record. Looks once a second at most, since
    /// a look takes longer than the HELLO that asks for it.
    pub(super) fn relieve(&self, sessions: &mut Sessions<Arc<Cell>>) -> Expired {
        let now = self.clock.now();
        let mut last = lock(&self.relieved);
        if last.is_some_and(|last| now < last + RELIEF_PAUSE) {
            return Expired::default();
        }
        *last = Some(now);
        Expired(sessions.expire(|session| session.is_unused()))
    }

    /// Ends every connection after what is to be sent.
    pub(crate) fn close(&self) {
        self.draining.store(true, Ordering::Release);
        self.changed.notify_waiters();
        self.peers().iter().for_each(|peer| peer.close());
        let wakers: Vec<Waker> = {
            let mut tasks = lock(&self.tasks);
            tasks.closing = true;
            tasks.wakers.values_mut().filter_map(Option::take).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ends everything at once, as a crash would: nothing more is sent, no handler goes on.
    #[cfg_attr(not(feature = "sim"), allow(dead_code, reason = "only the simulator kills"))]
    pub(crate) fn kill(&self) {
        self.dead.store(true, Ordering::Release);
        #[cfg(feature = "sim")]
        lock(&self.handlers).drain(..).for_each(|handler| handler.abort());
        self.peers().iter().for_each(|peer| peer.kill());
        self.close();
    }

    /// Whether the process is dead; a constant where nothing can kill it.
    #[inline]
    pub(crate) fn is_dead(&self) -> bool {
        cfg!(feature = "sim") && self.dead.load(Ordering::Acquire)
    }

    /// Remembers a handler's task, so that a crash can end it, where there are simulated crashes.
    #[cfg(feature = "sim")]
    pub(super) fn watch(&self, handler: &tokio::task::JoinHandle<()>) {
        if self.entropy.is_seeded() {
            let mut handlers = lock(&self.handlers);
            handlers.retain(|handler| !handler.is_finished());
            handlers.push(handler.abort_handle());
        }
    }

    /// This run of the server.
    pub(crate) fn boot(&self) -> Boot {
        self.boot
    }

    /// Handlers that run.
    pub(crate) fn running(&self) -> usize {
        self.budget.running() + self.visits.running()
    }

    /// Calls that the node has made of its own objects, without sessions.
    pub(crate) fn visits(&self) -> u64 {
        self.visits.begun()
    }

    /// Whether nothing new begins any more.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Bytes that a message may have.
    pub(crate) fn message_limit(&self) -> usize {
        self.limits.message
    }

    /// Lets go on what its caller has left, until it ends or the process is dead.
    pub(crate) fn go_on(&self, runtime: &Handle, left: impl Future<Output = ()> + Send + 'static) {
        let spawned = runtime.spawn(left);
        #[cfg(feature = "sim")]
        self.watch(&spawned);
        drop(spawned);
    }

    /// Sessions, and bytes that are kept for them.
    pub(crate) fn kept(&self) -> (usize, usize) {
        (lock(&self.sessions).len(), self.budget.bytes())
    }

    /// What the sockets for datagrams did.
    pub(crate) fn sockets(&self) -> Sockets {
        lock(&self.sockets).clone()
    }

    /// Counts a task of a connection in; `None` if the server is ending.
    pub(super) fn enter(&self) -> Option<u64> {
        let mut tasks = lock(&self.tasks);
        if tasks.closing {
            return None;
        }
        tasks.next += 1;
        let number = tasks.next;
        tasks.wakers.insert(number, None);
        Some(number)
    }

    /// Whether the server is ending; if not, wakes this task when it does.
    pub(super) fn is_closing(&self, task: u64, waker: &Waker) -> bool {
        let mut tasks = lock(&self.tasks);
        if !tasks.closing {
            tasks.wakers.insert(task, Some(waker.clone()));
        }
        tasks.closing
    }

    /// Counts a task of a connection out.
    pub(super) fn leave(&self, task: u64) {
        lock(&self.tasks).wakers.remove(&task);
    }
}

/// Accepts until the server ends. An error concerns one connection, or a shortage that passes: never the loop.
async fn accept(server: Weak<Server>, mut listener: Box<dyn Listener>) {
    loop {
        let Some(alive) = server.upgrade() else { return };
        let changed = alive.changed.notified();
        if alive.is_draining() {
            return;
        }
        let accepted = {
            let mut changed = std::pin::pin!(changed);
            let mut accepting = listener.accept();
            std::future::poll_fn(|cx| {
                if changed.as_mut().poll(cx).is_ready() {
                    return std::task::Poll::Ready(None);
                }
                accepting.as_mut().poll(cx).map(Some)
            })
            .await
        };
        match accepted {
            None => {}
            Some(Ok((stream, peer))) => serving::spawn(&alive, stream, peer),
            Some(Err(error)) => {
                tracing::warn!(%error, "a connection could not be accepted");
                drop(alive);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Drops the sessions of clients that have been silent for too long.
async fn sweep(server: Weak<Server>) {
    loop {
        let Some(alive) = server.upgrade() else { return };
        let pause = (alive.limits.session_ttl / SWEEPS_PER_TTL).max(LEAST_SWEEP);
        if alive.is_draining() {
            return;
        }
        drop(alive);
        tokio::time::sleep(pause).await;
        let Some(alive) = server.upgrade() else { return };
        let now = alive.clock.now();
        let expired = lock(&alive.sessions).expire(|session| session.is_expired(now));
        drop(Expired(expired));
    }
}

impl Drop for Expired {
    fn drop(&mut self) {
        for session in self.0.drain(..) {
            let dropped = catch_unwind(AssertUnwindSafe(|| {
                session.over();
                drop(session);
            }));
            if dropped.is_err() {
                tracing::error!("an object panicked when it was dropped with a session");
            }
        }
    }
}

/// Calls back in flight or unacknowledged, in one session.
const BACK_WINDOW: usize = 256;
/// Pause after an accept failed, since what fails at once (no descriptors) fails again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often a shutdown looks whether all is done.
const DRAIN_POLL: Duration = Duration::from_millis(2);
/// Time that connections have for their last bytes, even without grace.
const LEAST_CLOSING: Duration = Duration::from_millis(200);
/// Least time between two looks for sessions that can go.
const RELIEF_PAUSE: Duration = Duration::from_secs(1);
const SWEEPS_PER_TTL: u32 = 8;
const LEAST_SWEEP: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
