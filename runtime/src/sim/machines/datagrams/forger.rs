//! Somebody who sends what he likes from any address, and hears some of what others send.

use std::net::SocketAddr;

use super::super::world::{Event, World};
use super::{Packet, address};
use crate::id::NodeId;
use crate::wire::datagram::{self, Datagram, HELLO_SIZE};
use crate::wire::frame::{self, Hello};

impl World {
    /// Keeps a datagram, now and then.
    pub(super) fn eavesdrop(&mut self, server: usize, bytes: &[u8]) {
        let forges = self.plan.trouble.as_ref().is_some_and(|trouble| trouble.forgeries > 0);
        if !forges || !self.rng.chance(200) {
            return;
        }
        let kept = &mut self.network.kept;
        if kept.len() < KEPT {
            kept.push((server, bytes.to_vec()));
        } else {
            let place = self.rng.below(KEPT as u64) as usize;
            kept[place] = (server, bytes.to_vec());
        }
        // Now and then his copy is there first, as if the sender had another address.
        if self.rng.chance(100) && !self.has_healed() {
            let from = self.false_address();
            self.inject(server, from, bytes.to_vec());
        }
    }

    /// Sends something that nobody should believe.
    pub(super) fn forge(&mut self) {
        if self.has_healed() {
            return;
        }
        self.events_counted.forged += 1;
        let server = self.rng.below(self.servers.len() as u64) as usize;
        let from = self.false_address();
        match self.rng.below(6) {
            0 => {
                let bytes = self.noise();
                self.inject(server, from, bytes);
            }
            1 | 2 => {
                if let Some((server, bytes)) = self.overheard() {
                    self.inject(server, from, bytes);
                }
            }
            3 => {
                for _ in 0..=self.rng.below(20) {
                    let bytes = self.false_hello();
                    self.inject(server, from, bytes);
                }
            }
            4 => {
                let bytes = self.noise();
                self.inject_down(bytes);
            }
            _ => {
                let link = self.known_link();
                let mut bytes = Vec::new();
                datagram::put_unknown(link, &mut bytes);
                self.inject_down(bytes);
            }
        }
    }

    /// The id of a link that he overheard, or a guessed one.
    fn known_link(&mut self) -> u64 {
        let guess = self.rng.next();
        match self.overheard().as_ref().map(|(_, bytes)| datagram::decode(bytes)) {
            Some(Ok(Datagram::Data(data))) => data.id,
            _ => guess,
        }
    }

    fn overheard(&mut self) -> Option<(usize, Vec<u8>)> {
        let place = self.rng.below(self.network.kept.len() as u64) as usize;
        self.network.kept.get(place).cloned()
    }

    /// Nobody's address, or a client's.
    fn false_address(&mut self) -> SocketAddr {
        let place = self.rng.below(2 * self.network.addresses.len() as u64) as usize;
        let own = self.network.addresses.get(place).copied();
        own.unwrap_or_else(|| address(2, place, 0))
    }

    /// Bytes that look like a datagram at first sight, or not at all.
    fn noise(&mut self) -> Vec<u8> {
        let length = self.rng.spread(1, 1500) as usize;
        let mut bytes: Vec<u8> = (0..length).map(|_| self.rng.next() as u8).collect();
        bytes[0] = self.rng.pick(&[0, 1, 2, 3, 4, 0x40, 0x41, 0x43, bytes[0]]);
        if self.rng.chance(500) {
            datagram::seal(0, &mut bytes);
        }
        bytes
    }

    fn false_hello(&mut self) -> Vec<u8> {
        let mut framed = Vec::new();
        let hello = Hello {
            client: NodeId(uuid::Uuid::from_u64_pair(self.rng.next(), 77)),
            nonce: self.rng.next(),
            link: 1,
            max_message: 1 << 20,
            resume: None,
        };
        frame::put_hello(&hello, &mut framed);
        let cookie = self.rng.chance(300).then(|| self.rng.next());
        let mut bytes = Vec::new();
        if let Ok(Some((_, used))) = frame::frame_length(&framed) {
            datagram::put_hello(1200, cookie, &framed[used..], HELLO_SIZE, &mut bytes);
        }
        bytes
    }

    fn inject(&mut self, server: usize, from: SocketAddr, bytes: Vec<u8>) {
        let delay = 1 + self.rng.below(self.plan.latency_us / 2 + 1);
        self.after(delay, Event::Packet(Packet::ToServer { server, from, bytes }));
    }

    fn inject_down(&mut self, bytes: Vec<u8>) {
        let to = self.false_address();
        let delay = 1 + self.rng.below(self.plan.latency_us);
        self.after(delay, Event::Packet(Packet::ToClient { to, bytes }));
    }
}

/// Datagrams that he keeps.
const KEPT: usize = 32;
