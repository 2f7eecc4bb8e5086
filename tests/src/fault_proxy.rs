//! A TCP proxy on loopback that loses, repeats, cuts and stalls, between a real client and a real
//! server.
//!
//! It knows where frames begin and of what kind they are, and nothing else of the protocol. Faults
//! are ordered while it runs, or drawn for each frame from a seed. A frame leaves when it is whole;
//! bytes that can be no frame pass as they are. The proxy has a thread and a runtime of its own, so
//! that neither the test's runtime nor a blocked test thread changes what it does; both end when it
//! is dropped. Used by the tests over real sockets and by the tour.

mod connection;
mod frame;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

pub use self::frame::FrameKind;

/// A running proxy. Dropping it closes its port and every connection.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    shutdown: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Which way frames travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

/// What can happen to one frame and its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The first `bytes` bytes of the frame arrive, at most all but one; then both sides are closed.
    CutInFrame {
        /// Bytes that still arrive.
        bytes: usize,
    },
    /// The frame arrives; then both sides are closed.
    CutBehind,
    /// The frame and all that follow in its direction vanish for this long, while the other
    /// direction goes on; then both sides are closed. This is how a loss looks on TCP.
    Lose {
        /// Time from the lost frame to the cut.
        lasts: Duration,
    },
    /// The frame arrives twice. Only CALL, REPLY, PING and PONG are ever repeated.
    Repeat,
    /// The frame arrives, and behind it the oldest CALL that was recorded on the same connection.
    /// Happens only to a CALL that is not the first.
    Replay,
    /// The frame and all that follow in its direction wait for this long.
    Delay {
        /// Time until the frame arrives.
        lasts: Duration,
    },
}

/// Faults drawn for each frame: of so many frames about one. 0 is never.
///
/// The draws of a connection depend on the seed, its number and its frames alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// Where the draws begin.
    pub seed: u64,
    /// Cuts: half of them in the middle of the frame, half of them with a reset.
    pub cut_one_in: u32,
    /// Frames that vanish with all that follow, until the connection is cut.
    pub lose_one_in: u32,
    /// Time from a lost frame to the cut.
    pub loss_lasts: Duration,
    /// Repetitions: half of them of the frame itself, half of them of an older CALL.
    pub repeat_one_in: u32,
    /// Frames that wait.
    pub delay_one_in: u32,
    /// Longest wait of a delayed frame; the waits are spread evenly below it.
    pub delay_at_most: Duration,
}

/// What the proxy saw and did since it was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Connections that were let through.
    pub accepted: u64,
    /// Connections that were refused, or whose server could not be reached.
    pub refused: u64,
    /// Connections that are open now.
    pub open: u64,
    /// Whole frames that came from clients.
    pub frames_from_client: u64,
    /// Whole frames that came from servers.
    pub frames_from_server: u64,
    /// Connections that the proxy cut, for whatever reason.
    pub cuts: u64,
    /// Of those, connections cut in the middle of a frame.
    pub cuts_in_frame: u64,
    /// Whole frames that vanished, by a loss or in a half-open connection.
    pub lost_frames: u64,
    /// Frames that were sent a second time at once.
    pub repeated: u64,
    /// Older CALLs that were sent again.
    pub replayed: u64,
    /// Frames that were delayed.
    pub delayed: u64,
}

impl FaultProxy {
    /// Starts a proxy on a free loopback port; it forwards to `upstream`, without any fault yet.
    ///
    /// # Errors
    /// No port or no thread could be had.
    pub fn start(upstream: SocketAddr) -> io::Result<FaultProxy> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::new(Shared::new(upstream));
        let (shutdown, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("fault-proxy".into()).spawn({
            let shared = Arc::clone(&shared);
            move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = accept_all(listener, shared) => {}
                        _ = stopped => {}
                    }
                });
            }
        })?;
        Ok(FaultProxy { address, shared, shutdown: Some(shutdown), thread: Some(thread) })
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends the connections that are accepted from now on to another server.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        lock(&self.shared.settings).upstream = upstream;
    }

    /// Closes both sides of every connection now.
    pub fn cut_all(&self) {
        self.order(|orders| orders.cuts += 1);
    }

    /// Forwards nothing and accepts nothing until [`resume`](FaultProxy::resume); all connections
    /// stay open, and what is sent meanwhile waits in the sockets. A frame that is being written
    /// while this is called may still arrive.
    pub fn stall(&self) {
        self.order(|orders| orders.stalled = true);
    }

    /// Ends a stall.
    pub fn resume(&self) {
        self.order(|orders| orders.stalled = false);
    }

    /// Swallows what the present connections send from now on, both ways, and keeps their sides
    /// open even when one of them closes its own. Later connections are let through.
    pub fn half_open(&self) {
        self.order(|orders| orders.half_opens += 1);
    }

    /// Resets new connections as soon as they are made, until [`accept`](FaultProxy::accept).
    pub fn refuse(&self) {
        self.order(|orders| orders.refusing = true);
    }

    /// Lets new connections through again.
    pub fn accept(&self) {
        self.order(|orders| orders.refusing = false);
    }

    /// Does this once, to the next frame of that direction and kind (any kind for `None`) on any
    /// connection. Several of them wait side by side; a frame meets the oldest that fits.
    pub fn on_next(&self, direction: Direction, kind: Option<FrameKind>, fault: Fault) {
        lock(&self.shared.settings).traps.push(Trap { direction, kind, fault });
    }

    /// Draws faults for each frame from now on; `Faults::default()` ends that.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.shared.settings).faults = faults;
    }

    /// What happened until now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *self.shared.counts.borrow()
    }

    /// Waits until the counts fulfil the condition, and gives them. The caller sets the time limit.
    ///
    /// # Panics
    /// Never: the counts live as long as the proxy.
    pub async fn until(&self, mut condition: impl FnMut(&Counts) -> bool) -> Counts {
        let mut counts = self.shared.counts.subscribe();
        *counts.wait_for(|now| condition(now)).await.expect("the counts live as long as the proxy")
    }

    fn order(&self, change: impl FnOnce(&mut Orders)) {
        self.shared.orders.send_modify(change);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        drop(self.shutdown.take());
        if let Some(thread) = self.thread.take() {
            // It ends at its next turn: no task of its runtime blocks.
            let _ = thread.join();
        }
    }
}

/// What the handle, the acceptor and the connections have in common.
struct Shared {
    settings: Mutex<Settings>,
    orders: watch::Sender<Orders>,
    counts: watch::Sender<Counts>,
}

struct Settings {
    upstream: SocketAddr,
    traps: Vec<Trap>,
    faults: Faults,
}

/// Orders that running connections follow at once. The numbers only rise; a connection compares
/// them with those at its birth.
#[derive(Clone, Copy, Default)]
struct Orders {
    stalled: bool,
    refusing: bool,
    cuts: u64,
    half_opens: u64,
}

/// A fault that waits for its frame.
struct Trap {
    direction: Direction,
    kind: Option<FrameKind>,
    fault: Fault,
}

impl Shared {
    fn new(upstream: SocketAddr) -> Shared {
        Shared {
            settings: Mutex::new(Settings { upstream, traps: vec![], faults: Faults::default() }),
            orders: watch::Sender::default(),
            counts: watch::Sender::default(),
        }
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(change);
    }
}

/// Accepts connections for ever. Ends, with all of them, when it is dropped.
async fn accept_all(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let mut connections = JoinSet::new();
    let mut orders = shared.orders.subscribe();
    let mut number = 0;
    loop {
        let accepted = tokio::select! {
            accepted = accept_one(&listener, &mut orders) => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok(client) = accepted else {
            // Out of descriptors, most likely: wait for some to be closed instead of spinning.
            tokio::time::sleep(ACCEPT_BACKOFF).await;
            continue;
        };
        let born = *orders.borrow_and_update();
        if born.refusing {
            let _ = client.set_zero_linger();
            shared.count(|counts| counts.refused += 1);
            continue;
        }
        number += 1;
        let shared = Arc::clone(&shared);
        connections.spawn(async move { connection::run(client, number, born, &shared).await });
    }
}

async fn accept_one(
    listener: &TcpListener,
    orders: &mut watch::Receiver<Orders>,
) -> io::Result<tokio::net::TcpStream> {
    while orders.wait_for(|orders| !orders.stalled).await.is_err() {}
    listener.accept().await.map(|(client, _)| client)
}

/// A panic of a test thread must not hide its own message behind a poisoned lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Pause after a failed accept.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(10);
