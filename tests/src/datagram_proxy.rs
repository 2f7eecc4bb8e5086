//! A UDP proxy on loopback that loses, repeats, delays, corrupts and cuts datagrams, between real clients and a real
//! server.
//!
//! To the server it is a NAT: each client has a socket of its own there, which can be exchanged for another one. Each
//! direction has its own faults, drawn for each datagram from a seed, or ordered for the next datagram that carries a
//! certain frame. Its time is real. It knows the first byte of a datagram and where frames begin in it, and nothing else
//! of the protocol. It has a thread and a runtime of its own, which end when it is dropped. Used by the tests over real
//! sockets, by the tour and by the benches.

mod forward;
mod kind;
mod path;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

pub use self::kind::{DatagramKind, frames};
pub(crate) use self::kind::{HEADER, SUM};
use crate::fault_proxy::{Direction, FrameKind};

/// A running proxy. Dropping it closes its sockets; what waits in it vanishes.
pub struct DatagramProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    injections: mpsc::UnboundedSender<Injection>,
    shutdown: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What happens to the datagrams of one direction. Shares are between 0 and 1; the default does nothing.
///
/// The draws of a client's direction depend on the seed, the client's number and its datagrams alone.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct DatagramFaults {
    /// Where the draws begin.
    pub seed: u64,
    /// Share of the datagrams that vanish.
    pub loss: f64,
    /// How many datagrams in a row a loss takes. 1: each one for itself.
    pub burst: u32,
    /// Share of the datagrams that arrive once more, with a delay of its own for the copy.
    pub duplicate: f64,
    /// How often every datagram arrives. 1.
    pub copies: u32,
    /// How long every datagram is under way.
    pub delay: Duration,
    /// What is added to that, drawn evenly below this: datagrams overtake each other.
    pub jitter: Duration,
    /// Bytes per second; what comes faster waits.
    pub rate: Option<u64>,
    /// Bytes that wait for the rate, at most; more vanish.
    pub queue: usize,
    /// Share of the datagrams in which one to five bits are turned over. The checksum of UDP is made anew, so that they
    /// arrive.
    pub corrupt: f64,
    /// Larger datagrams vanish, in bytes of UDP payload.
    pub largest: usize,
    /// Datagrams of garbage that follow each good one: noise, or the good one with a change or without its end.
    pub garbage: u32,
    /// Everything vanishes.
    pub cut: bool,
}

impl Default for DatagramFaults {
    fn default() -> DatagramFaults {
        DatagramFaults {
            seed: 0,
            loss: 0.0,
            burst: 1,
            duplicate: 0.0,
            copies: 1,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            rate: None,
            queue: 256 << 10,
            corrupt: 0.0,
            largest: usize::MAX,
            garbage: 0,
            cut: false,
        }
    }
}

/// What can happen to one datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DatagramFault {
    /// It vanishes.
    Lose,
    /// It arrives twice.
    Repeat,
    /// It arrives so much later, behind those that came after it.
    Delay {
        /// Time until it arrives.
        lasts: Duration,
    },
}

/// What came of one direction and what became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Datagrams that came.
    pub datagrams: u64,
    /// Their bytes, UDP payload only.
    pub bytes: u64,
    /// Datagrams that were sent on, copies among them.
    pub delivered: u64,
    /// Their bytes.
    pub delivered_bytes: u64,
    /// Datagrams that vanished by loss, by order or by a cut.
    pub lost: u64,
    /// Datagrams that vanished because too many waited.
    pub overflowed: u64,
    /// Datagrams that vanished because they were too large.
    pub too_large: u64,
    /// Copies that were made.
    pub repeated: u64,
    /// Datagrams with bits turned over.
    pub corrupted: u64,
    /// Datagrams of garbage.
    pub garbage: u64,
    kinds: [u64; 7],
}

impl Traffic {
    /// How many of the datagrams that came are of this kind.
    #[must_use]
    pub fn of(&self, kind: DatagramKind) -> u64 {
        self.kinds[kind as usize]
    }

    /// The sum of both.
    #[must_use]
    pub fn with(mut self, other: Traffic) -> Traffic {
        self.datagrams += other.datagrams;
        self.bytes += other.bytes;
        self.delivered += other.delivered;
        self.delivered_bytes += other.delivered_bytes;
        self.lost += other.lost;
        self.overflowed += other.overflowed;
        self.too_large += other.too_large;
        self.repeated += other.repeated;
        self.corrupted += other.corrupted;
        self.garbage += other.garbage;
        self.kinds.iter_mut().zip(other.kinds).for_each(|(own, kinds)| *own += kinds);
        self
    }
}

/// What the proxy saw and did since it was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DatagramCounts {
    /// Clients, told apart by their addresses.
    pub clients: u64,
    /// From clients.
    pub to_server: Traffic,
    /// From the server.
    pub to_client: Traffic,
    /// Faults that were ordered and have met their datagram.
    pub sprung: u64,
}

impl DatagramCounts {
    /// One direction of it.
    #[must_use]
    pub fn of(&self, direction: Direction) -> &Traffic {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }

    /// Both directions together.
    #[must_use]
    pub fn both(&self) -> Traffic {
        self.to_server.with(self.to_client)
    }
}

impl DatagramProxy {
    /// Starts a proxy on a free loopback port; it forwards to `upstream`, without any fault yet.
    ///
    /// # Errors
    /// No port or no thread could be had.
    pub fn start(upstream: SocketAddr) -> io::Result<DatagramProxy> {
        let front = socket()?;
        let address = front.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::new(Shared::new(upstream));
        let (shutdown, stopped) = oneshot::channel();
        let (injections, injected) = mpsc::unbounded_channel();
        let thread = thread::Builder::new().name("datagram-proxy".into()).spawn({
            let shared = Arc::clone(&shared);
            move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = forward::run(front, injected, shared) => {}
                        _ = stopped => {}
                    }
                });
            }
        })?;
        let (shutdown, thread) = (Some(shutdown), Some(thread));
        Ok(DatagramProxy { address, shared, injections, shutdown, thread })
    }

    /// Where clients send to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends what comes from now on to another server.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        lock(&self.shared.settings).upstream = upstream;
    }

    /// Draws these faults for each datagram of a direction from now on; the default ends that. What is under way already
    /// arrives as it was to arrive.
    pub fn set_faults(&self, direction: Direction, faults: DatagramFaults) {
        *lock(&self.shared.settings).faults_of(direction) = faults;
    }

    /// As [`set_faults`](DatagramProxy::set_faults), for both directions.
    pub fn set_both(&self, faults: DatagramFaults) {
        for direction in [Direction::ToServer, Direction::ToClient] {
            self.set_faults(direction, faults);
        }
    }

    /// Does this once, to the next datagram of that direction that carries such a frame (any datagram for `None`).
    /// Several of them wait side by side; a datagram meets the oldest that fits.
    pub fn on_next(&self, direction: Direction, kind: Option<FrameKind>, fault: DatagramFault) {
        lock(&self.shared.settings).traps.push(Trap { direction, kind, fault });
    }

    /// Gives every client another address towards the server, as a NAT does that was restarted. What the server sends to
    /// the old ones vanishes.
    pub fn change_addresses(&self) {
        self.shared.moves.send_modify(|moves| *moves += 1);
    }

    /// Begins to record what comes from clients, at most so many datagrams.
    pub fn record(&self, most: usize) {
        lock(&self.shared.settings).record = most;
    }

    /// What was recorded, in order.
    #[must_use]
    pub fn recorded(&self) -> Vec<Vec<u8>> {
        lock(&self.shared.settings).recorded.clone()
    }

    /// Sends a datagram to the server as if every client had sent it, without any fault.
    pub fn inject(&self, datagram: Vec<u8>) {
        // The proxy's thread lives as long as this handle.
        let _ = self.injections.send(Injection(datagram));
    }

    /// What happened until now.
    #[must_use]
    pub fn counts(&self) -> DatagramCounts {
        *self.shared.counts.borrow()
    }

    /// Waits until the counts fulfil the condition, and gives them. The caller sets the time limit.
    ///
    /// # Panics
    /// Never: the counts live as long as the proxy.
    pub async fn until(
        &self,
        mut condition: impl FnMut(&DatagramCounts) -> bool,
    ) -> DatagramCounts {
        let mut counts = self.shared.counts.subscribe();
        *counts.wait_for(|now| condition(now)).await.expect("the counts live as long as the proxy")
    }
}

impl Drop for DatagramProxy {
    fn drop(&mut self) {
        drop(self.shutdown.take());
        if let Some(thread) = self.thread.take() {
            // It ends at its next turn: no task of its runtime blocks.
            let _ = thread.join();
        }
    }
}

/// What the handle and the tasks have in common.
struct Shared {
    settings: Mutex<Settings>,
    counts: watch::Sender<DatagramCounts>,
    /// How often all addresses were changed.
    moves: watch::Sender<u64>,
}

struct Settings {
    upstream: SocketAddr,
    to_server: DatagramFaults,
    to_client: DatagramFaults,
    traps: Vec<Trap>,
    record: usize,
    recorded: Vec<Vec<u8>>,
}

/// A fault that waits for its datagram.
struct Trap {
    direction: Direction,
    kind: Option<FrameKind>,
    fault: DatagramFault,
}

/// A datagram for the server, from every client.
#[derive(Clone)]
struct Injection(Vec<u8>);

impl Shared {
    fn new(upstream: SocketAddr) -> Shared {
        let faults = DatagramFaults::default();
        let settings = Settings {
            upstream,
            to_server: faults,
            to_client: faults,
            traps: Vec::new(),
            record: 0,
            recorded: Vec::new(),
        };
        Shared {
            settings: Mutex::new(settings),
            counts: watch::Sender::default(),
            moves: watch::Sender::default(),
        }
    }
}

impl Settings {
    fn faults_of(&mut self, direction: Direction) -> &mut DatagramFaults {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }

    /// The oldest ordered fault that fits the datagram.
    fn spring(&mut self, direction: Direction, datagram: &[u8]) -> Option<DatagramFault> {
        let fits = |trap: &Trap| {
            trap.direction == direction
                && trap.kind.is_none_or(|kind| frames(datagram).contains(&kind))
        };
        let position = self.traps.iter().position(fits)?;
        Some(self.traps.remove(position).fault)
    }
}

/// A socket on a free loopback port that holds as much as the system lets it.
fn socket() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let options = socket2::SockRef::from(&socket);
    options.set_recv_buffer_size(SOCKET_BUFFER)?;
    options.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A panic of a test thread must not hide its own message behind a poisoned lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What each socket asks of the system: the proxy itself should lose nothing.
const SOCKET_BUFFER: usize = 4 << 20;
