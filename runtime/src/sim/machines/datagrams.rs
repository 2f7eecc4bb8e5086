//! A network of datagrams: it loses, repeats, delays, changes and forges them, and forgets where clients are.
//!
//! Stands in the place of the streams when [`Config::datagrams`](super::Config::datagrams) says so. Servers, callers
//! and the oracle are the same. What passes the edge of the network is also seen by [`edge`], which holds it against
//! what may be sent to whom.

mod client;
mod edge;
mod forger;
mod server;
mod trouble;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use edge::Edge;
pub(super) use trouble::Trouble;

use super::caller::Past;
use super::client::describe;
use super::network::Way;
use super::plan::TTL_US;
use super::world::{Event, Step, World};
use crate::protocol::packet;
use crate::time::Time;
use crate::wire::datagram::{self, Datagram};
use crate::wire::frame::{self, Frame};

/// What the network knows.
pub(super) struct Network {
    /// Where each client is now; the last one is a stranger, who exists in forged datagrams only.
    addresses: Vec<SocketAddr>,
    /// One side's datagrams of this client are lost until then.
    parted: Vec<(Way, Time)>,
    /// The links of all servers by their ids, and what had happened when HELLO was answered.
    links: BTreeMap<u64, Opened>,
    pub(super) edge: Edge,
    /// Datagrams that an eavesdropper kept.
    kept: Vec<(usize, Vec<u8>)>,
    /// Links that clients made.
    made: usize,
}

/// One link, as its server opened it.
#[derive(Clone, Copy)]
struct Opened {
    pipe: usize,
    past: Past,
}

/// What can happen where datagrams travel.
#[derive(Debug)]
pub(super) enum Packet {
    ToServer {
        server: usize,
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    ToClient {
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    /// The client's kernel says that nobody listens at the server.
    Refused {
        to: SocketAddr,
    },
    ClientSends {
        client: usize,
    },
    ServerSends {
        pipe: usize,
    },
    ServerTimer {
        pipe: usize,
    },
    /// The client is seen at another address from now on.
    Rebind {
        client: usize,
    },
    Forge,
}

impl Network {
    pub(super) fn new(clients: usize) -> Network {
        Network {
            addresses: (0..=clients).map(|client| address(1, client, 0)).collect(),
            parted: vec![(Way::Up, Time::ZERO); clients + 1],
            links: BTreeMap::new(),
            edge: Edge::default(),
            kept: Vec::new(),
            made: 0,
        }
    }

    fn client_at(&self, address: SocketAddr) -> Option<usize> {
        self.addresses.iter().position(|&own| own == address)
    }
}

impl World {
    /// Whether this run is one of datagrams.
    pub(super) fn has_datagrams(&self) -> bool {
        self.plan.trouble.is_some()
    }

    /// In whose process it happens.
    pub(super) fn packet_paused_until(&self, packet: &Packet) -> Option<Time> {
        match *packet {
            Packet::ToServer { server, .. } => Some(self.servers[server].paused_until),
            Packet::ToClient { to, .. } | Packet::Refused { to } => {
                let client = self.network.client_at(to)?;
                Some(self.clients[client].paused_until)
            }
            Packet::ClientSends { client } => Some(self.clients[client].paused_until),
            Packet::ServerSends { pipe } | Packet::ServerTimer { pipe } => {
                Some(self.servers[self.pipes[pipe].server].paused_until)
            }
            Packet::Rebind { .. } | Packet::Forge => None,
        }
    }

    pub(super) fn packet(&mut self, packet: Packet) -> Step {
        match packet {
            Packet::ToServer { server, from, bytes } => self.server_datagram(server, from, &bytes),
            Packet::ToClient { to, bytes } => match self.network.client_at(to) {
                Some(client) => self.client_datagram(client, &bytes),
                None => Ok(()),
            },
            Packet::Refused { to } => match self.network.client_at(to) {
                Some(client) => self.client_refused(client),
                None => Ok(()),
            },
            Packet::ClientSends { client } => self.client_sends(client),
            Packet::ServerSends { pipe } => self.server_sends(pipe),
            Packet::ServerTimer { pipe } => self.server_timer(pipe),
            Packet::Rebind { client } => {
                self.rebind(client);
                Ok(())
            }
            Packet::Forge => {
                self.forge();
                Ok(())
            }
        }
    }

    /// Puts into the queue what goes wrong with datagrams.
    pub(super) fn prepare_datagrams(&mut self, clients: u64, within_us: u64) {
        let Some(trouble) = &self.plan.trouble else { return };
        let (rebinds, forgeries) = (trouble.rebinds, trouble.forgeries);
        for _ in 0..rebinds {
            let client = self.rng.below(clients) as usize;
            let at = self.rng.below(within_us);
            self.after(at, Event::Packet(Packet::Rebind { client }));
        }
        for _ in 0..forgeries {
            let at = self.rng.below(within_us);
            self.after(at, Event::Packet(Packet::Forge));
        }
    }

    /// A client sends a datagram.
    fn send_up(&mut self, client: usize, bytes: Vec<u8>) -> Step {
        let (server, from) = (self.clients[client].server, self.network.addresses[client]);
        self.show(|| format!("client {client} -> "), &bytes);
        self.network.edge.leaves_client(self.now, &bytes)?;
        self.eavesdrop(server, &bytes);
        let lost = self.is_lost(client, Way::Up, &bytes);
        self.travel(lost, bytes, |bytes| Packet::ToServer { server, from, bytes });
        Ok(())
    }

    /// A server sends a datagram.
    fn send_down(&mut self, server: usize, to: SocketAddr, bytes: Vec<u8>) -> Step {
        self.show(|| format!("server {server} -> {to} "), &bytes);
        self.network.edge.leaves_server(self.now, server, to, &bytes)?;
        let lost = match self.network.client_at(to) {
            Some(client) => self.is_lost(client, Way::Down, &bytes),
            None => true,
        };
        self.travel(lost, bytes, |bytes| Packet::ToClient { to, bytes });
        Ok(())
    }

    fn is_lost(&mut self, client: usize, way: Way, bytes: &[u8]) -> bool {
        let Some(trouble) = &self.plan.trouble else { return false };
        let elapsed = self.now.since(Time::ZERO).as_micros() as u64;
        if trouble.is_swallowed(bytes.len(), elapsed) {
            self.events_counted.swallowed += 1;
            return true;
        }
        let (parted, until) = self.network.parted[client];
        if parted == way && self.now < until {
            return true;
        }
        let loss = match way {
            Way::Up => trouble.loss_up,
            Way::Down => trouble.loss_down,
        };
        let acks = trouble.acks;
        let lost = !self.has_healed()
            && (self.rng.chance(loss) || is_bare_ack(bytes) && self.rng.chance(acks));
        self.events_counted.lost += u64::from(lost);
        lost
    }

    /// It arrives, once or more often or never, perhaps not as it was sent.
    fn travel(&mut self, lost: bool, bytes: Vec<u8>, packet: impl Fn(Vec<u8>) -> Packet) {
        let Some(trouble) = &self.plan.trouble else { return };
        let (corrupt, truncate) = (trouble.corrupt, trouble.truncate);
        let (duplicates, late) = (trouble.duplicates, trouble.late);
        self.trace.note(self.now, 20, sum_of(&bytes));
        if !self.has_healed() && self.rng.chance(duplicates) {
            let most = if self.rng.chance(late) { 5 * TTL_US } else { 50_000 };
            let delay = self.rng.spread(10, most);
            self.events_counted.duplicates += 1;
            self.after(delay, Event::Packet(packet(bytes.clone())));
        }
        if lost {
            self.trace.line(self.now, || "network: lost".to_owned());
            return;
        }
        let mut bytes = bytes;
        if !self.has_healed() && self.rng.chance(corrupt) {
            self.corrupt(&mut bytes);
        }
        if !self.has_healed() && self.rng.chance(truncate) {
            let kept = self.rng.below(bytes.len() as u64) as usize;
            bytes.truncate(kept);
            self.events_counted.corrupted += 1;
        }
        let delay = self.delay();
        self.after(delay, Event::Packet(packet(bytes)));
    }

    fn delay(&mut self) -> u64 {
        let usual = self.rng.between(self.plan.latency_us / 2, self.plan.latency_us);
        let Some(trouble) = &self.plan.trouble else { return usual };
        let (jitter, jitter_us) = (trouble.jitter, trouble.jitter_us);
        if self.has_healed() {
            return usual;
        }
        if self.rng.chance(self.plan.stalls / 10) {
            return usual + self.rng.spread(1000, TTL_US);
        }
        if self.rng.chance(jitter) { usual + self.rng.spread(1, jitter_us) } else { usual }
    }

    /// Some bits of it change.
    fn corrupt(&mut self, bytes: &mut [u8]) {
        self.events_counted.corrupted += 1;
        for _ in 0..=self.rng.below(4) {
            let bit = self.rng.below(8 * bytes.len() as u64) as usize;
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    /// One way between a client and everybody is closed for a while, or its link is lost to it.
    pub(super) fn part(&mut self, client: usize) -> Step {
        let kind = self.rng.below(3);
        let lasts = Duration::from_micros(self.rng.spread(1000, 2 * TTL_US));
        self.trace.line(self.now, || format!("network: parts client {client} ({kind})"));
        match (kind, self.clients[client].link) {
            (0, _) => self.network.parted[client] = (Way::Up, self.now + lasts),
            (1, _) => self.network.parted[client] = (Way::Down, self.now + lasts),
            (_, Some(link)) => return self.client_lost(client, link),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn heal_network(&mut self) {
        for parted in &mut self.network.parted {
            parted.1 = Time::ZERO;
        }
    }

    fn rebind(&mut self, client: usize) {
        if self.has_healed() {
            return;
        }
        self.events_counted.rebound += 1;
        let number = self.events_counted.rebound as usize;
        self.network.addresses[client] = address(1, client, number);
        self.trace.line(self.now, || format!("network: client {client} has another address"));
    }

    /// A line of the transcript with what a datagram carries.
    fn show(&mut self, who: impl FnOnce() -> String, bytes: &[u8]) {
        if self.trace.is_recording() {
            let text = text(bytes);
            self.trace.line(self.now, || who() + &text);
        }
    }
}

/// Where a client is, after so many changes.
fn address(net: u8, host: usize, changes: usize) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, net, host as u8, 1 + changes as u8), 4000 + changes as u16))
}

/// The sum at its end, as a name for it.
fn sum_of(bytes: &[u8]) -> u64 {
    bytes.last_chunk().map_or(0, |sum| u64::from(u32::from_be_bytes(*sum)))
}

/// The decoded frames of a datagram, if it carries any.
fn frames_of<'a>(data: &datagram::Data<'a>) -> impl Iterator<Item = Frame<'a>> {
    packet::frames(data.frames).flatten().filter_map(|bytes| frame::decode(bytes).ok())
}

fn is_bare_ack(bytes: &[u8]) -> bool {
    match datagram::decode(bytes) {
        Ok(Datagram::Data(data)) => frames_of(&data).all(|frame| matches!(frame, Frame::Ack(_))),
        _ => false,
    }
}

/// A datagram in a line.
fn text(bytes: &[u8]) -> String {
    let size = bytes.len();
    match datagram::decode(bytes) {
        Ok(Datagram::Hello { cookie, .. }) => format!("[{size} B] HELLO, cookie {cookie:x?}"),
        Ok(Datagram::Welcome { link, .. }) => format!("[{size} B] WELCOME, link {link:x}"),
        Ok(Datagram::Data(data)) => {
            let frames: Vec<String> = frames_of(&data).map(|frame| describe(&frame)).collect();
            format!("[{size} B] {}: {}", data.number.0, frames.join("; "))
        }
        Ok(other) => format!("[{size} B] {other:?}"),
        Err(error) => format!("[{size} B] {error}"),
    }
}
