//! The driver around a client's end of a link of datagrams.

use std::io;
use std::sync::Arc;

use super::super::network::{Carrier, End};
use super::super::world::{Event, Step, World, violation};
use super::Packet;
use crate::protocol::packet::{ClientEnd, Ended};
use crate::time::Time;
use crate::wire::datagram::{self, Datagram};

impl World {
    /// Opens a link.
    pub(in super::super) fn connect_datagrams(&mut self, client: usize) -> Step {
        self.network.made += 1;
        let (link, nonce) = (self.network.made, self.rng.next());
        let limits = self.plan.limits.clone();
        let mut out = self.new_end();
        let end = &mut self.clients[client];
        end.link = Some(link);
        end.machine.connected(self.now, nonce, &mut out.out);
        let packets = ClientEnd::new(self.now, limits, nonce, &mut out.out);
        end.end = End { carrier: Carrier::Client(Box::new(packets)), ..out };
        self.trace.note(self.now, 1, link as u64);
        self.trace.line(self.now, || format!("client {client}: link {link}"));
        self.settle_client(client)
    }

    pub(super) fn client_datagram(&mut self, client: usize, bytes: &[u8]) -> Step {
        self.trace.note(self.now, 21, super::sum_of(bytes));
        self.show(|| format!("client {client} <- "), bytes);
        let opened = match datagram::decode(bytes) {
            Ok(Datagram::Welcome { link, .. }) => self.network.links.get(&link).copied(),
            _ => None,
        };
        let end = &mut self.clients[client];
        let Carrier::Client(packets) = &mut end.end.carrier else { return Ok(()) };
        let welcome = end.machine.is_welcome();
        let ended = packets.receive(self.now, bytes, &mut end.machine, &mut end.end.out);
        if ended.is_ok() {
            packets.after_input(self.now, &mut end.machine, &mut end.end.out);
        }
        if let Some(opened) = opened.filter(|_| !welcome && end.machine.is_welcome()) {
            end.known = opened.past;
        }
        self.client_ended(client, ended)
    }

    /// The link has ended, if it has.
    fn client_ended(&mut self, client: usize, ended: Result<(), Ended>) -> Step {
        match ended {
            Ok(()) => self.settle_client(client),
            Err(Ended::Violation(text)) => Err(violation("client", &text)),
            Err(Ended::Malformed(error)) => Err(violation("client", &error)),
            Err(Ended::Closed { .. } | Ended::Silent | Ended::Stalled | Ended::Unknown) => {
                self.lose_client_link(client)
            }
        }
    }

    /// Nobody listens where the server was.
    pub(super) fn client_refused(&mut self, client: usize) -> Step {
        self.lose_client_link(client)
    }

    fn lose_client_link(&mut self, client: usize) -> Step {
        let end = &mut self.clients[client];
        let Some(link) = end.link else { return Ok(()) };
        if !end.machine.is_welcome() {
            let error = io::Error::from(io::ErrorKind::ConnectionRefused);
            end.machine.unreachable(Arc::new(error));
        }
        self.client_lost(client, link)
    }

    /// When the driver is to look at the client again.
    pub(in super::super) fn client_timeout(&self, client: usize) -> Time {
        let end = &self.clients[client];
        match &end.end.carrier {
            Carrier::Client(packets) => packets.next_timeout(&end.machine),
            _ => end.machine.next_timeout(),
        }
    }

    /// The timer of a link of datagrams went off.
    pub(in super::super) fn client_datagram_timer(&mut self, client: usize) -> Step {
        let end = &mut self.clients[client];
        let Carrier::Client(packets) = &mut end.end.carrier else { return Ok(()) };
        let ended = packets.handle_timeout(self.now, &mut end.machine, &mut end.end.out);
        self.client_ended(client, ended)
    }

    /// Has the client send what it may send now, soon.
    pub(in super::super) fn client_sends_soon(&mut self, client: usize) {
        let end = &mut self.clients[client].end;
        if matches!(end.carrier, Carrier::Client(_)) && !end.pump_scheduled {
            end.pump_scheduled = true;
            let delay = if self.rng.chance(100) { self.rng.below(5000) } else { 0 };
            self.after(delay, Event::Packet(Packet::ClientSends { client }));
        }
    }

    pub(super) fn client_sends(&mut self, client: usize) -> Step {
        self.clients[client].end.pump_scheduled = false;
        let mut bytes = Vec::new();
        for _ in 0..MOST_AT_ONCE {
            let end = &mut self.clients[client];
            let Carrier::Client(packets) = &mut end.end.carrier else { return Ok(()) };
            bytes.clear();
            if !packets.transmit(self.now, &mut end.machine, &mut end.end.out, &mut bytes) {
                break;
            }
            self.send_up(client, bytes.clone())?;
        }
        if self.clients[client].machine.woken().is_empty() {
            self.set_client_timer(client);
            return Ok(());
        }
        self.settle_client(client)
    }
}

/// Datagrams that leave in one go; the rest follows at once.
pub(super) const MOST_AT_ONCE: usize = 10_000;
