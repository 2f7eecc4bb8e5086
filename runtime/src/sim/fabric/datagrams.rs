//! Datagrams on their way: sockets, and what a bad network does to single messages.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

use super::super::faults::one_in;
use super::super::trace::{Event, digest};
use super::{FIRST_CHOSEN_PORT, HostId, Incarnation, Power, State};
use crate::transport::{BATCH, Inbox};

/// A socket, by the order in which they were bound.
pub(in crate::sim) type SocketId = u64;

/// All sockets of a network, and what is between them.
#[derive(Default)]
pub(super) struct Sockets {
    open: BTreeMap<SocketId, Socket>,
    /// What arrives when, in the order in which it was sent.
    flying: BTreeMap<(Instant, u64), Flying>,
    /// Of sockets and datagrams, how many there were.
    bound: u64,
    sent: u64,
}

struct Socket {
    owner: Incarnation,
    port: u16,
    /// The group whose datagrams it hears, and nothing else.
    group: Option<SocketAddr>,
    /// A client's socket hears nobody else.
    peer: Option<SocketAddr>,
    arrived: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Nobody listens at the peer's address.
    refused: bool,
    reader: Option<Waker>,
}

struct Flying {
    from: SocketAddr,
    to: Place,
    /// Nothing is the word that nobody listens there.
    bytes: Option<Vec<u8>>,
}

/// Where a datagram goes: to a host's address, or to a group's at one of its hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    host: HostId,
    address: SocketAddr,
}

impl Sockets {
    fn at(&self, place: Place) -> Option<SocketId> {
        let mut open = self.open.iter();
        open.find(|(_, socket)| socket.place() == place).map(|(&id, _)| id)
    }

    fn is_free(&self, host: HostId, port: u16) -> bool {
        self.at(Place { host, address: address(host, port) }).is_none()
    }

    /// The hosts at which a group is heard.
    fn members(&self, group: SocketAddr) -> Vec<HostId> {
        let members = self.open.values().filter(|socket| socket.group == Some(group));
        members.map(|socket| socket.owner.host).collect()
    }

    /// The sockets of a host are closed.
    pub(super) fn close_all(&mut self, host: HostId) {
        self.open.retain(|_, socket| socket.owner.host != host);
    }
}

impl Socket {
    fn address(&self) -> SocketAddr {
        address(self.owner.host, self.port)
    }

    fn place(&self) -> Place {
        let host = self.owner.host;
        Place { host, address: self.group.unwrap_or_else(|| self.address()) }
    }
}

impl State {
    /// Binds a port of the node's host, 0 chooses one; a client's socket has a peer, by the name of its host.
    pub(in crate::sim) fn bind(
        &mut self,
        owner: Incarnation,
        port: u16,
        peer: Option<(&str, u16)>,
    ) -> io::Result<(SocketId, u16)> {
        if !self.is_alive(owner) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let mut candidates = if port == 0 { FIRST_CHOSEN_PORT..=u16::MAX } else { port..=port };
        let free = candidates.find(|&port| self.sockets.is_free(owner.host, port));
        let port = free.ok_or_else(|| io::Error::from(io::ErrorKind::AddrInUse))?;
        let peer = peer.map(|(host, port)| address(self.host(host), port));
        Ok((self.open(owner, port, None, peer), port))
    }

    /// Opens a socket that hears a group: one of a host at a time.
    pub(in crate::sim) fn join(
        &mut self,
        owner: Incarnation,
        group: SocketAddr,
    ) -> io::Result<SocketId> {
        if !self.is_alive(owner) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if self.sockets.at(Place { host: owner.host, address: group }).is_some() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        Ok(self.open(owner, group.port(), Some(group), None))
    }

    fn open(
        &mut self,
        owner: Incarnation,
        port: u16,
        group: Option<SocketAddr>,
        peer: Option<SocketAddr>,
    ) -> SocketId {
        self.sockets.bound += 1;
        let id = self.sockets.bound;
        let arrived = VecDeque::new();
        let socket = Socket { owner, port, group, peer, arrived, refused: false, reader: None };
        self.sockets.open.insert(id, socket);
        id
    }

    /// The name of the host whose datagrams come from this address.
    pub(in crate::sim) fn named(&self, ip: IpAddr) -> Option<Arc<str>> {
        self.host_at((ip, 0).into()).map(|host| self.name(host))
    }

    /// Closes a socket. What is on its way to it arrives nowhere, or at who binds the port next.
    pub(in crate::sim) fn unbind(&mut self, id: SocketId) {
        self.sockets.open.remove(&id);
    }

    /// The clients on this host are seen at other ports from now on.
    pub(in crate::sim) fn rebind(&mut self, name: &str) {
        let host = self.host(name);
        let mine =
            |(_, socket): &(&SocketId, &Socket)| socket.owner.host == host && socket.peer.is_some();
        let clients: Vec<SocketId> =
            self.sockets.open.iter().filter(mine).map(|(&id, _)| id).collect();
        for id in clients {
            let mut ports = FIRST_CHOSEN_PORT..=u16::MAX;
            let free =
                ports.find(|&port| port > self.last_rebound && self.sockets.is_free(host, port));
            let (Some(port), Some(socket)) = (free, self.sockets.open.get_mut(&id)) else {
                continue;
            };
            socket.port = port;
            // A port that was left is not taken again soon: what is on its way to it is lost.
            self.last_rebound = port;
            self.counts.rebound += 1;
        }
        self.note(Event::Rebound(self.name(host)));
    }

    /// Receives what has arrived; with the moment at which more will have, when there is nothing.
    pub(in crate::sim) fn poll_receive(
        &mut self,
        id: SocketId,
        cx: &Context<'_>,
        inbox: &mut Inbox,
    ) -> Poll<Result<io::Result<()>, Instant>> {
        self.land();
        let Some(socket) = self.sockets.open.get_mut(&id) else { return Poll::Pending };
        if std::mem::take(&mut socket.refused) {
            return Poll::Ready(Ok(Err(io::ErrorKind::ConnectionRefused.into())));
        }
        if socket.arrived.is_empty() {
            socket.reader = Some(cx.waker().clone());
            let place = socket.place();
            let mut flying = self.sockets.flying.iter();
            let next = flying.find(|(_, datagram)| datagram.to == place);
            return next.map_or(Poll::Pending, |(&(moment, _), _)| Poll::Ready(Err(moment)));
        }
        while inbox.len() < BATCH
            && let Some((from, bytes)) = socket.arrived.pop_front()
        {
            inbox.push(from, &bytes);
        }
        Poll::Ready(Ok(Ok(())))
    }

    /// Takes datagrams on their way.
    pub(in crate::sim) fn poll_send(
        &mut self,
        id: SocketId,
        to: Option<SocketAddr>,
        bytes: &[u8],
        segment: usize,
    ) -> Poll<io::Result<usize>> {
        let Some(socket) = self.sockets.open.get(&id) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        };
        let from = socket.address();
        let Some(to) = to.or(socket.peer) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        for datagram in bytes.chunks(segment.max(1)) {
            match self.host_at(to) {
                Some(host) => self.throw(from, Place { host, address: to }, datagram),
                // Each member gets a copy, or none, by itself.
                None => {
                    let members = self.sockets.members(to);
                    self.counts.multicasts += u64::from(!members.is_empty());
                    for host in members {
                        self.throw(from, Place { host, address: to }, datagram);
                    }
                }
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    /// One datagram leaves, or the copy of one for a member of a group.
    fn throw(&mut self, from: SocketAddr, to: Place, bytes: &[u8]) {
        let Some(here) = self.host_at(from) else { return };
        let there = to.host;
        self.counts.datagrams += 1;
        let names = (self.name(here), self.name(there));
        let largest = self.faults.largest_datagram;
        let blocked = self.is_blocked(here, there);
        let lost = blocked
            || largest > 0 && bytes.len() > largest
            || one_in(&mut self.rng, self.faults.lose_one_in);
        self.note(Event::Thrown {
            from: names.0,
            to: names.1,
            bytes: bytes.len(),
            digest: digest(bytes),
            lost,
        });
        if one_in(&mut self.rng, self.faults.repeat_one_in) && !blocked {
            self.counts.repeated += 1;
            // Long after, now and then: another run of the server may have the port then.
            let times = if one_in(&mut self.rng, 4) { 200 } else { 2 };
            let delay = self.faults.draw_delay(&mut self.rng) * times;
            self.fly(self.now + delay, Flying { from, to, bytes: Some(bytes.to_vec()) });
        }
        if lost {
            self.counts.lost += 1;
            return;
        }
        let delay = self.faults.draw_delay(&mut self.rng) + self.faults.draw_stall(&mut self.rng);
        if self.sockets.at(to).is_none() {
            let refuses = self.hosts[there].power != Power::Off && !self.is_blocked(there, here);
            if refuses {
                let back = self.faults.draw_delay(&mut self.rng);
                let asker = Place { host: here, address: from };
                let refusal = Flying { from: to.address, to: asker, bytes: None };
                self.fly(self.now + delay + back, refusal);
            }
            return;
        }
        let mut bytes = bytes.to_vec();
        if one_in(&mut self.rng, self.faults.corrupt_one_in) && !bytes.is_empty() {
            self.counts.corrupted += 1;
            let bit = self.rng.below(8 * bytes.len() as u64);
            bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        }
        self.fly(self.now + delay, Flying { from, to, bytes: Some(bytes) });
    }

    fn fly(&mut self, arrives: Instant, datagram: Flying) {
        let reader = self.sockets.at(datagram.to);
        self.sockets.sent += 1;
        self.sockets.flying.insert((arrives, self.sockets.sent), datagram);
        // Whoever waits there learns of the moment.
        if let Some(socket) = reader.and_then(|id| self.sockets.open.get_mut(&id)) {
            self.woken.extend(socket.reader.take());
        }
    }

    /// What is due arrives.
    fn land(&mut self) {
        while let Some(next) = self.sockets.flying.first_entry()
            && next.key().0 <= self.now
        {
            let Flying { from, to, bytes } = next.remove();
            let Some(id) = self.sockets.at(to) else { continue };
            if self.host_at(from).is_some_and(|here| self.is_blocked(here, to.host)) {
                self.counts.lost += 1;
                continue;
            }
            let Some(socket) = self.sockets.open.get_mut(&id) else { continue };
            if socket.peer.is_some_and(|peer| peer != from) {
                continue;
            }
            match bytes {
                Some(bytes) => socket.arrived.push_back((from, bytes)),
                None => socket.refused = true,
            }
            self.woken.extend(socket.reader.take());
        }
    }

    fn host_at(&self, address: SocketAddr) -> Option<HostId> {
        let SocketAddr::V4(address) = address else { return None };
        let [_, _, high, low] = address.ip().octets();
        Some(usize::from(high) << 8 | usize::from(low)).filter(|&host| host < self.hosts.len())
    }
}

/// Hosts have their numbers for addresses.
fn address(host: HostId, port: u16) -> SocketAddr {
    let [high, low] = (host as u16).to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(10, 0, high, low), port))
}
