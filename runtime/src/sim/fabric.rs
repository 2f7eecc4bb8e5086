//! The wires of a simulated network: hosts, listeners, connections, and what breaks them.
//!
//! All of it is one state behind one lock, changed by the streams, by the scenario and by chance. Whoever must be woken
//! is woken after the lock is free, in an order that the run's seed determines.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::time::Instant;

use super::faults::{Faults, NetworkCounts, one_in};
use super::pipe::{Ending, Found, Pipe};
use super::rng::Rng;
use super::trace::{Event, Trace, digest};
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
    made: u64,
    /// Directions in which nothing arrives.
    blocked: BTreeSet<(HostId, HostId)>,
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
            made: 0,
            blocked: BTreeSet::new(),
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

/// Reading and writing.
impl State {
    /// Reads what has arrived; with the moment at which more will have, when there is nothing.
    pub(super) fn poll_read(
        &mut self,
        end: EndId,
        cx: &Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<io::Result<()>, Instant>> {
        let Some(connection) = self.connections.get_mut(&end.connection) else {
            return Poll::Pending;
        };
        let [writer, reader] = [1 - end.side, end.side];
        let way = (connection.ends[writer].home.host, connection.ends[reader].home.host);
        let pipe = &mut connection.pipes[writer];
        if connection.ends[reader].gone || self.blocked.contains(&way) {
            pipe.sleep_reader(cx);
            return Poll::Pending;
        }
        match pipe.read(self.now, into) {
            Found::Bytes(bytes) => {
                pipe.wake_writer(&mut self.woken);
                self.note(Event::Received { connection: end.connection, bytes });
                Poll::Ready(Ok(Ok(())))
            }
            Found::End(Ending::Finished) => Poll::Ready(Ok(Ok(()))),
            Found::End(Ending::Reset) => {
                Poll::Ready(Ok(Err(io::ErrorKind::ConnectionReset.into())))
            }
            Found::Later(moment) => {
                pipe.sleep_reader(cx);
                Poll::Ready(Err(moment))
            }
            Found::Nothing => {
                pipe.sleep_reader(cx);
                Poll::Pending
            }
        }
    }

    /// Takes bytes on their way, as many as there is room for and chance allows.
    pub(super) fn poll_write(
        &mut self,
        end: EndId,
        cx: &Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let aborted = || Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        let Some(connection) = self.connections.get_mut(&end.connection) else { return aborted() };
        let (mine, other) = (end.side, 1 - end.side);
        if connection.ends[mine].gone || connection.pipes[mine].ending() == Some(Ending::Finished) {
            return aborted();
        }
        let [from, to] = [mine, other].map(|side| connection.ends[side].home);
        let told = !self.blocked.contains(&(to.host, from.host));
        if told && connection.pipes[other].is_reset(self.now) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let room = connection.pipes[mine].room();
        if room == 0 {
            connection.pipes[mine].sleep_writer(cx);
            return Poll::Pending;
        }
        let mut count = bytes.len().min(room);
        if one_in(&mut self.rng, PARTIAL_ONE_IN) {
            count = 1 + usize::try_from(self.rng.below(count as u64)).unwrap_or(0);
        }
        self.send(end, from, to, &bytes[..count]);
        if one_in(&mut self.rng, self.faults.cut_one_in) {
            self.cut(end.connection);
        } else if one_in(&mut self.rng, self.faults.half_open_one_in) {
            let side = usize::try_from(self.rng.below(2)).unwrap_or(0);
            self.half_open(end.connection, side);
        } else if self.hosts[to.host].power != Power::Off && !self.is_there(end) {
            self.answer_with_reset(end);
        }
        Poll::Ready(Ok(count))
    }

    fn send(&mut self, end: EndId, from: Incarnation, to: Incarnation, bytes: &[u8]) {
        let (from, to) = (self.name(from.host), self.name(to.host));
        let (connection, digest) = (end.connection, digest(bytes));
        self.note(Event::Sent { connection, from, to, bytes: bytes.len(), digest });
        self.counts.writes += 1;
        self.counts.bytes += bytes.len() as u64;
        // In two pieces now and then, so that readers see parts of frames.
        let split = if one_in(&mut self.rng, SPLIT_ONE_IN) {
            usize::try_from(self.rng.below(bytes.len() as u64)).unwrap_or(0)
        } else {
            0
        };
        for piece in [&bytes[..split], &bytes[split..]] {
            let stall = self.faults.draw_stall(&mut self.rng);
            self.counts.stalls += u64::from(!stall.is_zero());
            let arrives = self.now + self.faults.draw_delay(&mut self.rng) + stall;
            if let Some(connection) = self.connections.get_mut(&end.connection)
                && !piece.is_empty()
            {
                connection.pipes[end.side].push(piece, arrives);
                connection.pipes[end.side].wake_reader(&mut self.woken);
            }
        }
    }

    /// Whether somebody still holds the other side.
    fn is_there(&self, end: EndId) -> bool {
        self.connections.get(&end.connection).is_some_and(|it| !it.ends[1 - end.side].gone)
    }

    /// The other host knows nothing of this connection any more and says so.
    fn answer_with_reset(&mut self, end: EndId) {
        let (delay, _) = self.begin_connect();
        let Some(connection) = self.connections.get_mut(&end.connection) else { return };
        let pipe = &mut connection.pipes[1 - end.side];
        if pipe.ending() != Some(Ending::Reset) {
            pipe.reset(self.now + delay, &mut self.rng);
            pipe.wake_reader(&mut self.woken);
        }
    }

    /// Breaks a connection for both sides.
    fn cut(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let mut torn = false;
        for pipe in &mut connection.pipes {
            let at = self.now + self.faults.draw_delay(&mut self.rng);
            torn |= pipe.reset(at, &mut self.rng);
            pipe.wake_reader(&mut self.woken);
            pipe.wake_writer(&mut self.woken);
        }
        self.counts.cuts += 1;
        self.counts.torn += u64::from(torn);
        self.note(Event::Cut { connection: number });
    }

    /// Breaks a connection; only one side is told.
    fn half_open(&mut self, number: u64, told: usize) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let at = self.now + self.faults.draw_delay(&mut self.rng);
        connection.pipes[1 - told].reset(at, &mut self.rng);
        connection.pipes[told].vanish(&mut self.rng);
        connection.pipes[1 - told].wake_reader(&mut self.woken);
        let notices = connection.ends[told].home.host;
        self.counts.half_open += 1;
        self.note(Event::HalfOpened { connection: number, notices: self.name(notices) });
    }

    /// The writer has finished.
    pub(super) fn finish(&mut self, end: EndId) {
        let at = self.now + self.faults.draw_delay(&mut self.rng);
        if let Some(connection) = self.connections.get_mut(&end.connection) {
            connection.pipes[end.side].finish(at);
            connection.pipes[end.side].wake_reader(&mut self.woken);
        }
    }

    /// A side is dropped. As in TCP, what it had sent may be lost if it leaves bytes unread.
    pub(super) fn drop_end(&mut self, end: EndId) {
        let at = self.now + self.faults.draw_delay(&mut self.rng);
        let Some(connection) = self.connections.get_mut(&end.connection) else { return };
        let (mine, other) = (end.side, 1 - end.side);
        if connection.ends[mine].gone {
            return self.forget_ended();
        }
        connection.ends[mine].gone = true;
        if connection.pipes[other].has_unread(self.now) {
            connection.pipes[mine].reset(at, &mut self.rng);
        } else {
            connection.pipes[mine].finish(at);
        }
        connection.pipes[other].abandon();
        connection.pipes[other].wake_writer(&mut self.woken);
        connection.pipes[mine].wake_reader(&mut self.woken);
        let by = connection.ends[mine].home.host;
        self.note(Event::Closed { connection: end.connection, by: self.name(by) });
        self.forget_ended();
    }

    fn forget_ended(&mut self) {
        self.connections.retain(|_, connection| !connection.ends.iter().all(|end| end.gone));
    }
}

/// Of so many writes one is taken in part only.
const PARTIAL_ONE_IN: u32 = 16;
/// Of so many writes one arrives in two pieces.
const SPLIT_ONE_IN: u32 = 8;
const FIRST_CHOSEN_PORT: u16 = 49_152;
