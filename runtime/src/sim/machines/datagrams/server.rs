//! The driver around a server's socket and its ends of links.

use std::net::SocketAddr;

use super::super::caller::Task;
use super::super::network::{Carrier, End, Pipe, Stream};
use super::super::world::{Event, Step, World, violation};
use super::client::MOST_AT_ONCE;
use super::{Opened, Packet};
use crate::error::FailureCode;
use crate::protocol::packet::{self, Arrival, Ended, Greeting, Taken};
use crate::sim::oracle::broken;
use crate::time::Time;
use crate::wire::datagram::Data;
use crate::wire::send_buffer::SendBuffer;

impl World {
    pub(super) fn server_datagram(
        &mut self,
        server: usize,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Step {
        self.trace.note(self.now, 22, super::sum_of(bytes));
        let refuses = self.plan.trouble.as_ref().is_some_and(|trouble| trouble.refuses);
        if !self.servers[server].up {
            if refuses && !bytes.is_empty() {
                let delay = self.plan.latency_us;
                self.after(delay, Event::Packet(Packet::Refused { to: from }));
            }
            return Ok(());
        }
        self.show(|| format!("server {server} <- {from} "), bytes);
        self.network.edge.reaches_server(server, from, bytes);
        let mut reply = Vec::new();
        let endpoint = &mut self.servers[server].endpoint;
        match endpoint.receive(self.now, from, bytes, &mut reply) {
            Arrival::Hello(greeting) => self.greeted(server, greeting),
            Arrival::Data { link, data } => self.server_data(link, from, &data, bytes.len()),
            Arrival::Answered => {
                let hint = reply.first() == Some(&UNKNOWN);
                if hint && reply.len() >= bytes.len() {
                    return Err(broken("I12", "a hint that is not smaller than its trigger"));
                }
                self.send_down(server, from, reply)
            }
            Arrival::Nothing => Ok(()),
        }
    }

    /// A client opens a link.
    fn greeted(&mut self, server: usize, greeting: Greeting) -> Step {
        let node = greeting.hello.client;
        let stranger = self.clients.len() - 1;
        let client = (0..stranger).find(|&index| self.node(index) == node).unwrap_or(stranger);
        let pipe = self.pipes.len();
        self.pipes.push(Pipe {
            client,
            server,
            up: Stream::new(),
            down: Stream::new(),
            welcomed: Default::default(),
            served: None,
        });
        let Some((cell, welcome)) = self.open(pipe, &greeting.hello) else { return Ok(()) };
        self.end_replaced(server, cell);
        let (link, number, from) = (self.rng.next(), greeting.hello.link, greeting.from);
        let most = self.plan.limits.unvalidated_links;
        self.network.edge.opens(server, link, from, greeting.validated, most)?;
        let mut reply = Vec::new();
        let endpoint = &mut self.servers[server].endpoint;
        let packets = endpoint.welcome(self.now, &greeting, link, welcome, &mut reply);
        let past = self.pipes[pipe].welcomed;
        self.network.links.insert(link, Opened { pipe, past });
        let out = SendBuffer::for_datagrams(packets.room());
        let carrier = Carrier::Server { link, end: Box::new(packets) };
        let end = End { out, carrier, session: Some((cell, number)), ..self.new_end() };
        self.pipes[pipe].served = Some(end);
        self.opened(pipe, cell);
        self.send_down(server, from, reply)
    }

    /// The links that a session had before are over.
    fn end_replaced(&mut self, server: usize, cell: usize) {
        for pipe in &mut self.pipes {
            let session = pipe.served.as_ref().and_then(|end| end.session);
            if pipe.server == server && session.is_some_and(|(of, _)| of == cell) {
                let Some(End { carrier: Carrier::Server { link, .. }, .. }) = pipe.served.take()
                else {
                    continue;
                };
                self.servers[server].endpoint.remove(link);
                self.network.edge.closes(server, link);
            }
        }
    }

    /// A datagram of a link.
    fn server_data(&mut self, link: u64, from: SocketAddr, data: &Data<'_>, size: usize) -> Step {
        let Some(&Opened { pipe, .. }) = self.network.links.get(&link) else {
            return Err(broken("honest peers", "data of a link that was never opened"));
        };
        let server = self.pipes[pipe].server;
        let Some(end) = &mut self.pipes[pipe].served else { return Ok(()) };
        let Carrier::Server { end: packets, .. } = &mut end.carrier else { return Ok(()) };
        if !packets.accept(self.now, from, data, size) {
            self.events_counted.repeats += 1;
            return Ok(());
        }
        for frame in packet::frames(data.frames) {
            let frame = frame.map_err(|error| violation("server", &error))?;
            let room = !self.rng.chance(self.plan.odd / 4);
            let Some(end) = &mut self.pipes[pipe].served else { return Ok(()) };
            let (Carrier::Server { end: packets, .. }, Some((cell, _))) =
                (&mut end.carrier, end.session)
            else {
                return Ok(());
            };
            let session = &mut self.servers[server].cells[cell].session;
            match packets.handle(self.now, frame, session, room) {
                Ok(Taken::Frame) => self.link_frame(pipe, frame)?,
                Ok(Taken::Message(message)) => {
                    self.events_counted.assembled += 1;
                    self.link_frame(pipe, &message)?;
                }
                Ok(Taken::Refused { seq, .. }) => {
                    self.events_counted.refused_pieces += 1;
                    let refused =
                        session.refuse(self.now, seq, FailureCode::Busy, "full", &mut end.out);
                    refused.map_err(|error| violation("server", &error.0))?;
                }
                Ok(_) => {}
                Err(ended) => return self.server_ended(pipe, ended),
            }
            self.check_assembly(pipe)?;
        }
        if let Some(End { carrier: Carrier::Server { end, .. }, .. }) = &mut self.pipes[pipe].served
        {
            end.datagram_handled();
            end.after_input();
        }
        self.settle_server_end(pipe);
        Ok(())
    }

    /// I9: what is unfinished of large messages stays in its bounds.
    fn check_assembly(&self, pipe: usize) -> Step {
        if let Some(End { carrier: Carrier::Server { end, .. }, .. }) = &self.pipes[pipe].served
            && end.assembling() > 2 * self.plan.limits.request_bytes.max(self.plan.limits.message)
        {
            return Err(broken("I9", format!("{} bytes of pieces", end.assembling())));
        }
        Ok(())
    }

    fn server_ended(&mut self, pipe: usize, ended: Ended) -> Step {
        match ended {
            Ended::Violation(text) => Err(violation("server", &text)),
            Ended::Malformed(error) => Err(violation("server", &error)),
            Ended::Closed { .. } | Ended::Silent | Ended::Stalled | Ended::Unknown => {
                self.server_lost(pipe);
                Ok(())
            }
        }
    }

    /// Has the server send what it may send now, soon.
    pub(in super::super) fn server_sends_soon(&mut self, pipe: usize) {
        let Some(end) = &mut self.pipes[pipe].served else { return };
        if !end.pump_scheduled {
            end.pump_scheduled = true;
            let delay = if self.rng.chance(100) { self.rng.below(5000) } else { 0 };
            self.after(delay, Event::Packet(Packet::ServerSends { pipe }));
        }
    }

    pub(super) fn server_sends(&mut self, pipe: usize) -> Step {
        let server = self.pipes[pipe].server;
        let mut bytes = Vec::new();
        for _ in 0..MOST_AT_ONCE {
            let Some(end) = &mut self.pipes[pipe].served else { return Ok(()) };
            end.pump_scheduled = false;
            let (Carrier::Server { end: packets, .. }, Some((cell, link))) =
                (&mut end.carrier, end.session)
            else {
                return Ok(());
            };
            let session = &mut self.servers[server].cells[cell].session;
            if session.is_newest(link) {
                session.flush(&mut end.out);
            }
            bytes.clear();
            let Some(to) = packets.transmit(self.now, session, &mut end.out, &mut bytes) else {
                break;
            };
            self.send_down(server, to, bytes.clone())?;
        }
        self.set_server_timer(pipe);
        Ok(())
    }

    fn set_server_timer(&mut self, pipe: usize) {
        let Some(end) = &mut self.pipes[pipe].served else { return };
        let Carrier::Server { end: packets, .. } = &end.carrier else { return };
        let next = packets.next_timeout();
        if next < end.timer {
            end.timer = next;
            self.at(next.max(self.now), Event::Packet(Packet::ServerTimer { pipe }));
        }
    }

    pub(super) fn server_timer(&mut self, pipe: usize) -> Step {
        let Some(end) = &mut self.pipes[pipe].served else { return Ok(()) };
        end.timer = Time::NEVER;
        let Carrier::Server { end: packets, .. } = &mut end.carrier else { return Ok(()) };
        if packets.next_timeout() <= self.now {
            match packets.handle_timeout(self.now) {
                Ok(()) => {}
                Err(ended) => return self.server_ended(pipe, ended),
            }
        }
        self.server_sends(pipe)
    }

    /// A server's process has ended.
    pub(in super::super) fn forget_links(&mut self, server: usize) {
        self.network.edge.forget(server);
    }

    /// A link is over at its server.
    pub(in super::super) fn remove_link(&mut self, server: usize, end: &End) {
        if let Carrier::Server { link, .. } = end.carrier {
            self.servers[server].endpoint.remove(link);
            self.network.edge.closes(server, link);
        }
    }

    /// A method has started.
    pub(in super::super) fn check_copies(&self, task: &Task, run: u32) -> Step {
        self.network.edge.starts(task, run)
    }
}

/// First byte of a hint.
const UNKNOWN: u8 = 0x04;
