//! The sockets of the proxy: one in front, one towards the server for each client, and the datagrams that wait.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{self, Instant};

use super::path::{Departure, Path};
use super::{DatagramCounts, Injection, Shared, Traffic, lock, socket};
use crate::fault_proxy::Direction;

/// Forwards for ever. Ends, with all tasks, when it is dropped.
pub(super) async fn run(
    front: std::net::UdpSocket,
    mut injected: mpsc::UnboundedReceiver<Injection>,
    shared: Arc<Shared>,
) {
    let Ok(front) = UdpSocket::from_std(front) else { return };
    let front = Arc::new(front);
    let mut clients: HashMap<SocketAddr, Client> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; LARGEST];
    loop {
        let (length, from) = tokio::select! {
            received = front.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                // What an earlier datagram met at a port that is closed.
                Err(_) => continue,
            },
            Some(injection) = injected.recv() => {
                for client in clients.values() {
                    let _ = client.injections.send(injection.clone());
                }
                continue;
            }
        };
        if !clients.contains_key(&from) && clients.len() < MAX_CLIENTS {
            let number = clients.len() as u64 + 1;
            let Some(client) = Client::start(number, from, &front, &shared, &mut tasks) else {
                continue;
            };
            clients.insert(from, client);
            shared.counts.send_modify(|counts| counts.clients += 1);
        }
        if let Some(client) = clients.get(&from) {
            let datagram = buffer[..length].to_vec();
            if client.datagrams.try_send(datagram).is_err() {
                shared.counts.send_modify(|counts| counts.to_server.overflowed += 1);
            }
        }
    }
}

/// The way in for what comes from one client.
struct Client {
    datagrams: mpsc::Sender<Vec<u8>>,
    injections: mpsc::UnboundedSender<Injection>,
}

impl Client {
    fn start(
        number: u64,
        address: SocketAddr,
        front: &Arc<UdpSocket>,
        shared: &Arc<Shared>,
        tasks: &mut JoinSet<()>,
    ) -> Option<Client> {
        let first = Arc::new(UdpSocket::from_std(socket().ok()?).ok()?);
        let (place, upstream) = watch::channel(first);
        let (datagrams, up) = mpsc::channel(MAX_WAITING);
        let (answers, down) = mpsc::channel(MAX_WAITING);
        let (injections, injected) = mpsc::unbounded_channel();
        let lane = |direction| Lane {
            direction,
            path: Path::new(number, direction),
            shared: shared.clone(),
            waiting: BinaryHeap::new(),
            order: 0,
        };
        let (front, shared) = (front.clone(), shared.clone());
        let to_server = lane(Direction::ToServer).run(up, {
            let (upstream, shared) = (upstream.clone(), shared.clone());
            async move |bytes: &[u8]| {
                let (socket, server) = (upstream.borrow().clone(), lock(&shared.settings).upstream);
                let _ = socket.send_to(bytes, server).await;
            }
        });
        let to_client = lane(Direction::ToClient).run(down, async move |bytes: &[u8]| {
            let _ = front.send_to(bytes, address).await;
        });
        tasks.spawn(to_server);
        tasks.spawn(to_client);
        tasks.spawn(inject(injected, upstream, shared.clone()));
        tasks.spawn(receive(place, answers, shared));
        Some(Client { datagrams, injections })
    }
}

/// Sends what is injected past all faults.
async fn inject(
    mut injected: mpsc::UnboundedReceiver<Injection>,
    upstream: watch::Receiver<Arc<UdpSocket>>,
    shared: Arc<Shared>,
) {
    while let Some(Injection(datagram)) = injected.recv().await {
        let (socket, server) = (upstream.borrow().clone(), lock(&shared.settings).upstream);
        let _ = socket.send_to(&datagram, server).await;
    }
}

/// Receives what the server sends to a client, at the client's present place; changes the place when that is ordered.
async fn receive(
    place: watch::Sender<Arc<UdpSocket>>,
    answers: mpsc::Sender<Vec<u8>>,
    shared: Arc<Shared>,
) {
    let mut moves = shared.moves.subscribe();
    // The ports of former places stay taken, so that nobody else hears what the server still sends there.
    let mut former = Vec::new();
    let mut buffer = vec![0; LARGEST];
    loop {
        let socket = place.borrow().clone();
        tokio::select! {
            received = socket.recv_from(&mut buffer) => {
                if let Ok((length, _)) = received
                    && answers.try_send(buffer[..length].to_vec()).is_err()
                {
                    shared.counts.send_modify(|counts| counts.to_client.overflowed += 1);
                }
            }
            Ok(()) = moves.changed() => {
                if let Ok(next) = super::socket().and_then(UdpSocket::from_std)
                    && former.len() < MAX_MOVES
                {
                    former.push(place.send_replace(Arc::new(next)));
                }
            }
        }
    }
}

/// One direction of one client: a loop that decides, keeps what is to wait, and sends.
struct Lane {
    direction: Direction,
    path: Path,
    shared: Arc<Shared>,
    waiting: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    /// Of two that leave at one time, the one that came first is first.
    order: u64,
}

impl Lane {
    async fn run(mut self, mut input: mpsc::Receiver<Vec<u8>>, send: impl AsyncFn(&[u8])) {
        let (mut batch, mut departures) = (Vec::new(), Vec::new());
        loop {
            let next = self.waiting.peek().map(|Reverse((at, ..))| *at);
            let due = time::sleep_until(next.unwrap_or_else(|| Instant::now() + IDLE));
            tokio::select! {
                received = input.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        return;
                    }
                }
                () = due => {}
            }
            self.judge(&mut batch, &mut departures);
            for Departure { at, bytes } in departures.drain(..) {
                self.order += 1;
                self.waiting.push(Reverse((at, self.order, bytes)));
            }
            self.depart(&send).await;
        }
    }

    fn judge(&mut self, batch: &mut Vec<Vec<u8>>, departures: &mut Vec<Departure>) {
        if batch.is_empty() {
            return;
        }
        let (mut traffic, mut sprung) = (Traffic::default(), 0);
        let mut settings = lock(&self.shared.settings);
        let faults = *settings.faults_of(self.direction);
        for datagram in batch.drain(..) {
            if self.direction == Direction::ToServer && settings.recorded.len() < settings.record {
                settings.recorded.push(datagram.clone());
            }
            let ordered = settings.spring(self.direction, &datagram);
            sprung += u64::from(ordered.is_some());
            let now = Instant::now();
            self.path.pass(now, datagram, &faults, ordered, &mut traffic, departures);
        }
        drop(settings);
        self.count(traffic, sprung);
    }

    /// Sends what is due.
    async fn depart(&mut self, send: &impl AsyncFn(&[u8])) {
        let (now, mut traffic) = (Instant::now(), Traffic::default());
        while self.waiting.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            let Some(Reverse((_, _, bytes))) = self.waiting.pop() else { break };
            traffic.delivered += 1;
            traffic.delivered_bytes += bytes.len() as u64;
            send(&bytes).await;
        }
        if traffic.delivered > 0 {
            self.count(traffic, 0);
        }
    }

    fn count(&self, traffic: Traffic, sprung: u64) {
        self.shared.counts.send_modify(|counts: &mut DatagramCounts| {
            match self.direction {
                Direction::ToServer => counts.to_server = counts.to_server.with(traffic),
                Direction::ToClient => counts.to_client = counts.to_client.with(traffic),
            }
            counts.sprung += sprung;
        });
    }
}

/// The largest datagram that there is.
const LARGEST: usize = 65_536;
/// Clients that one proxy serves; it ignores more.
const MAX_CLIENTS: usize = 1024;
/// Datagrams of one client and direction that wait to be looked at; more vanish, and are counted as overflow.
const MAX_WAITING: usize = 16_384;
/// Datagrams that are looked at in one turn.
const BATCH: usize = 64;
/// How often the addresses of a client change; later orders are ignored.
const MAX_MOVES: usize = 1024;
/// A lane without anything to do looks up so often.
const IDLE: time::Duration = time::Duration::from_secs(3600);
