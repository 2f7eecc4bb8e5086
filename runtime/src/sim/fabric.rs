//! The wires of a simulated network: hosts, listeners, connections, and what breaks them.
//!
//! All of it is one state behind one lock, changed by the streams, by the scenario and by chance. Whoever must be woken
//! is woken after the lock is free, in an order that the run's seed determines.

mod datagrams;
mod traffic;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

pub(super) use datagrams::SocketId;
use datagrams::Sockets;

use super::faults::{Faults, NetworkCounts, one_in};
use super::pipe::Pipe;
use super::rng::Rng;
use super::trace::{Event, Trace};
use crate::driver::lock;

/// A host, by the order in which names were first used.
pub(super) type HostId = usize;

/// One run of the node on a host. After a crash the same host has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Incarnation {
    pub(super) host: HostId,
    number: u64,
}

/// A side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EndId {
    pub(super) connection: u64,
    /// 0 for the side that connected, 1 for the other.
    side: usize,
}

/// The network of one run.
pub(super) struct Fabric {
    state: Mutex<State>,
    start: Instant,
}

pub(super) struct State {
    now: Instant,
    start: Instant,
    rng: Rng,
    faults: Faults,
    hosts: Vec<Host>,
    listeners: BTreeMap<(HostId, u16), Port>,
    connections: BTreeMap<u64, Connection>,
    sockets: Sockets,
    /// The last port that a client was moved to.
    last_rebound: u16,
    made: u64,
    /// Directions in which nothing arrives.
    blocked: BTreeSet<(HostId, HostId)>,
    /// Connections whose last bytes arrive together with the first of the next one.
    late: Vec<Late>,
    /// Who wants to connect and cannot for now.
    connecting: Vec<Waker>,
    woken: Vec<Waker>,
    counts: NetworkCounts,
    trace: Trace,
}

struct Host {
    name: Arc<str>,
    number: u64,
    power: Power,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    /// A node runs.
    On,
    /// No node runs; the host answers that nobody listens.
    Crashed,
    /// The host answers nothing.
    Off,
}

struct Port {
    owner: Incarnation,
    backlog: VecDeque<u64>,
    acceptor: Option<Waker>,
}

struct Connection {
    ends: [End; 2],
    /// What each side writes.
    pipes: [Pipe; 2],
}

/// Bytes of a lost connection that are still on their way.
struct Late {
    connection: u64,
    way: [HostId; 2],
    /// Whether they are read before the first bytes of the next connection.
    first: bool,
}

struct End {
    home: Incarnation,
    /// Nobody holds it any more.
    gone: bool,
}

impl Fabric {
    pub(super) fn new(seed: u64, faults: Faults) -> Fabric {
        let start = Instant::now();
        let state = State {
            now: start,
            start,
            rng: Rng::new(seed),
            faults,
            hosts: Vec::new(),
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            sockets: Sockets::default(),
            last_rebound: 0,
            made: 0,
            blocked: BTreeSet::new(),
            late: Vec::new(),
            connecting: Vec::new(),
            woken: Vec::new(),
            counts: NetworkCounts::default(),
            trace: Trace::new(),
        };
        Fabric { state: Mutex::new(state), start }
    }

    /// Works on the state, then wakes whom it concerns.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let mut state = lock(&self.state);
        state.now = Instant::now();
        let result = work(&mut state);
        let woken = std::mem::take(&mut state.woken);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        result
    }

    /// Virtual time since the run began.
    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Notes an event of the scenario.
    pub(super) fn note(&self, event: Event) {
        self.with(|state| state.note(event));
    }
}

/// Hosts and the scenario's faults.
impl State {
    /// A node starts on the host of this name.
    pub(super) fn start(&mut self, name: &str) -> Incarnation {
        let host = self.host(name);
        let entry = &mut self.hosts[host];
        entry.number += 1;
        entry.power = Power::On;
        let started = Incarnation { host, number: entry.number };
        self.counts.starts += 1;
        self.note(Event::Started(self.name(host)));
        self.woken.append(&mut self.connecting);
        started
    }

    /// The node on this host ends at once. What was in flight arrives in part; the host closes its connections.
    pub(super) fn crash(&mut self, name: &str) {
        let host = self.host(name);
        self.note(Event::Crashed(self.name(host)));
        self.end_node(host, Power::Crashed);
    }

    /// The host ends at once, and its peers hear nothing.
    pub(super) fn power_off(&mut self, name: &str) {
        let host = self.host(name);
        self.note(Event::PoweredOff(self.name(host)));
        self.end_node(host, Power::Off);
    }

    fn end_node(&mut self, host: HostId, power: Power) {
        self.counts.crashes += 1;
        self.hosts[host].power = power;
        self.hosts[host].number += 1;
        self.listeners.retain(|(at, _), _| *at != host);
        self.sockets.close_all(host);
        let tells = self.now + self.faults.draw_delay(&mut self.rng);
        let State { connections, rng, woken, .. } = self;
        for connection in connections.values_mut() {
            for side in 0..2 {
                if connection.ends[side].home.host != host || connection.ends[side].gone {
                    continue;
                }
                connection.ends[side].gone = true;
                connection.pipes[1 - side].abandon();
                if power == Power::Crashed {
                    connection.pipes[side].reset(tells, rng);
                } else {
                    connection.pipes[side].vanish(rng);
                }
                connection.pipes[side].wake_reader(woken);
                connection.pipes[1 - side].wake_writer(woken);
            }
        }
        self.forget_ended();
    }

    /// Nothing that `from` sends arrives at `to`, until the network is healed.
    pub(super) fn block(&mut self, from: &str, to: &str) {
        let pair = (self.host(from), self.host(to));
        self.blocked.insert(pair);
        self.note(Event::Blocked { from: self.name(pair.0), to: self.name(pair.1) });
    }

    /// Everything that is held arrives.
    pub(super) fn heal(&mut self) {
        self.blocked.clear();
        self.note(Event::Healed);
        let State { connections, woken, connecting, .. } = self;
        for pipe in connections.values_mut().flat_map(|connection| &mut connection.pipes) {
            pipe.wake_reader(woken);
            pipe.wake_writer(woken);
        }
        woken.append(connecting);
    }

    /// Cuts all connections between two hosts; says how many.
    pub(super) fn cut_between(&mut self, a: &str, b: &str) -> usize {
        let (a, b) = (self.host(a), self.host(b));
        let between = |connection: &Connection| {
            let hosts = [connection.ends[0].home.host, connection.ends[1].home.host];
            hosts == [a, b] || hosts == [b, a]
        };
        let all = self.connections.iter().filter(|(_, connection)| between(connection));
        let numbers: Vec<u64> = all.map(|(number, _)| *number).collect();
        numbers.iter().for_each(|number| self.cut(*number));
        numbers.len()
    }

    pub(super) fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    pub(super) fn counts(&self) -> NetworkCounts {
        self.counts
    }

    pub(super) fn trace(&self) -> &Trace {
        &self.trace
    }

    pub(super) fn name(&self, host: HostId) -> Arc<str> {
        self.hosts[host].name.clone()
    }

    fn host(&mut self, name: &str) -> HostId {
        if let Some(found) = self.hosts.iter().position(|host| &*host.name == name) {
            return found;
        }
        self.hosts.push(Host { name: name.into(), number: 0, power: Power::Crashed });
        self.hosts.len() - 1
    }

    fn is_alive(&self, node: Incarnation) -> bool {
        self.hosts[node.host].number == node.number
    }

    pub(super) fn note(&mut self, event: Event) {
        self.trace.add(self.now.duration_since(self.start), event);
    }
}

/// Listening and connecting.
impl State {
    /// Opens a port of the node's host; 0 chooses one.
    pub(super) fn listen(&mut self, owner: Incarnation, port: u16) -> io::Result<u16> {
        if !self.is_alive(owner) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let mut candidates = if port == 0 { FIRST_CHOSEN_PORT..=u16::MAX } else { port..=port };
        let free = candidates.find(|port| !self.listeners.contains_key(&(owner.host, *port)));
        let port = free.ok_or_else(|| io::Error::from(io::ErrorKind::AddrInUse))?;
        let listener = Port { owner, backlog: VecDeque::new(), acceptor: None };
        self.listeners.insert((owner.host, port), listener);
        Ok(port)
    }

    /// Closes a port; who waits to be accepted is refused.
    pub(super) fn close_port(&mut self, owner: Incarnation, port: u16) {
        let mine = self.listeners.get(&(owner.host, port)).is_some_and(|open| open.owner == owner);
        if mine && let Some(closed) = self.listeners.remove(&(owner.host, port)) {
            for connection in closed.backlog {
                self.drop_end(EndId { connection, side: 1 });
            }
        }
    }

    /// The next connection to a port, with the name of the host that it comes from.
    pub(super) fn poll_accept(
        &mut self,
        owner: Incarnation,
        port: u16,
        cx: &Context<'_>,
    ) -> Poll<(EndId, Arc<str>)> {
        let Some(open) = self.listeners.get_mut(&(owner.host, port)) else { return Poll::Pending };
        if open.owner != owner {
            return Poll::Pending;
        }
        match open.backlog.pop_front() {
            Some(connection) => {
                let from = self.connections.get(&connection).map(|it| it.ends[0].home.host);
                let name = from.map_or_else(|| "".into(), |host| self.name(host));
                Poll::Ready((EndId { connection, side: 1 }, name))
            }
            None => {
                open.acceptor = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// How long an attempt to connect takes, and whether chance refuses it.
    pub(super) fn begin_connect(&mut self) -> (Duration, bool) {
        let there = self.faults.draw_delay(&mut self.rng);
        let back = self.faults.draw_delay(&mut self.rng);
        (there + back, one_in(&mut self.rng, self.faults.refuse_one_in))
    }

    /// Makes a connection; pending while the way is blocked or the other host is off.
    pub(super) fn poll_connect(
        &mut self,
        from: Incarnation,
        to: &str,
        port: u16,
        refused: bool,
        cx: &Context<'_>,
    ) -> Poll<io::Result<EndId>> {
        let host = self.host(to);
        let blocked = self.is_blocked(from.host, host) || self.is_blocked(host, from.host);
        if blocked || self.hosts[host].power == Power::Off || !self.is_alive(from) {
            self.connecting.push(cx.waker().clone());
            return Poll::Pending;
        }
        let Some(open) = self.listeners.get_mut(&(host, port)).filter(|_| !refused) else {
            self.counts.refused += 1;
            self.note(Event::Refused { from: self.name(from.host), to: to.into() });
            let error = io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens there");
            return Poll::Ready(Err(error));
        };
        self.made += 1;
        let number = self.made;
        open.backlog.push_back(number);
        self.woken.extend(open.acceptor.take());
        let ends = [from, open.owner].map(|home| End { home, gone: false });
        let pipes = [Pipe::new(self.now), Pipe::new(self.now)];
        self.connections.insert(number, Connection { ends, pipes });
        self.counts.connections += 1;
        let (from, to) = (self.name(from.host), self.name(host));
        self.note(Event::Connected { connection: number, from, to });
        Poll::Ready(Ok(EndId { connection: number, side: 0 }))
    }

    fn is_blocked(&self, from: HostId, to: HostId) -> bool {
        self.blocked.contains(&(from, to))
    }
}

/// The first of the ports that are chosen where none is named.
const FIRST_CHOSEN_PORT: u16 = 49_152;
