//! One run: virtual time, the queue of what is to happen, the faults, and the checks at the end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Display;
use std::time::Duration;

use super::caller::Made;
use super::client::{Act, ClientEnd};
use super::datagrams::{Network, Packet};
use super::network::{Pipe, Way};
use super::plan::{Plan, TTL, TTL_US};
use super::server::Server;
use super::trace::Trace;
use super::{Events, Report};
use crate::id::{NodeId, Seq, SessionId};
use crate::protocol::client::{Client, ClientConfig};
use crate::sim::oracle::{Broken, Oracle, broken};
use crate::sim::rng::Rng;
use crate::time::Time;
use crate::wire::frame::ReplyStatus;

/// Whether the promises still hold.
pub(super) type Step = Result<(), Broken>;

/// All of a run.
pub(super) struct World {
    seed: u64,
    pub(super) plan: Plan,
    pub(super) now: Time,
    pub(super) rng: Rng,
    queue: BinaryHeap<Reverse<(Time, u64, usize)>>,
    /// What is to happen, by the number in `queue`.
    scheduled: Vec<Option<Event>>,
    unused: Vec<usize>,
    order: u64,
    pub(super) clients: Vec<ClientEnd>,
    pub(super) servers: Vec<Server>,
    pub(super) pipes: Vec<Pipe>,
    pub(super) network: Network,
    pub(super) calls: Vec<Made>,
    pub(super) oracle: Oracle,
    pub(super) trace: Trace,
    pub(super) events_counted: Events,
    /// From here on nothing goes wrong any more.
    healed: bool,
    /// When the last call ended for its caller, or all was healed.
    pub(super) rested: Time,
}

/// What can happen.
#[derive(Debug)]
pub(super) enum Event {
    Connect { client: usize },
    Call { client: usize },
    Act { call: u32, act: Act },
    ClientTimer { client: usize },
    ClientLost { client: usize, pipe: usize },
    Pump { pipe: usize, way: Way },
    Deliver { pipe: usize, way: Way },
    Again { way: Way, client: usize, session: SessionId, bytes: Vec<u8> },
    Complete { server: usize, run: u32, cell: usize, seq: Seq, outcome: (ReplyStatus, Vec<u8>) },
    ServerLost { pipe: usize },
    Packet(Packet),
    Sweep { server: usize },
    Cut { client: usize },
    Crash { server: usize },
    Restart { server: usize },
    Drain { server: usize },
    PauseClient { client: usize },
    PauseServer { server: usize },
    Heal,
}

impl World {
    pub(super) fn new(seed: u64, plan: Plan, record: bool) -> World {
        let mut rng = Rng::new(seed);
        let servers =
            (0..plan.servers).map(|n| Server::new(n as u64, &plan.limits, &mut rng)).collect();
        // Forged datagrams are a client's too.
        let strangers = usize::from(plan.trouble.is_some());
        let client = |index: usize| {
            let machine = Client::new(ClientConfig {
                node: node(seed, index),
                peer: "simulated".into(),
                limits: plan.limits.clone(),
                datagrams: plan.trouble.is_some(),
            });
            ClientEnd::new(machine, index % plan.servers, plan.limits.message)
        };
        World {
            seed,
            now: Time::ZERO,
            rng,
            queue: BinaryHeap::new(),
            scheduled: Vec::new(),
            unused: Vec::new(),
            order: 0,
            clients: (0..plan.clients + strangers).map(client).collect(),
            servers,
            pipes: Vec::new(),
            network: Network::new(plan.clients),
            calls: Vec::new(),
            oracle: Oracle::default(),
            trace: Trace::new(record),
            events_counted: Events::default(),
            healed: false,
            rested: Time::ZERO,
            plan,
        }
    }

    /// Runs to the end, unless a promise is broken before.
    pub(super) fn run(&mut self) -> Step {
        self.prepare();
        while let Some(Reverse((at, _, slot))) = self.queue.pop() {
            let Some(event) = self.scheduled[slot].take() else { continue };
            self.unused.push(slot);
            if at > self.end() {
                break;
            }
            self.now = at;
            self.events_counted.steps += 1;
            if self.events_counted.steps > MAX_STEPS {
                return Err(broken("I14", "it never comes to rest"));
            }
            match self.paused_until(&event) {
                Some(until) if until > at => self.at(until, event),
                _ => self.happen(event)?,
            }
        }
        self.check_rest()
    }

    pub(super) fn into_report(mut self, broken: Option<Broken>) -> Report {
        for client in &self.clients {
            self.events_counted.resent += client.machine.statistics().resent;
        }
        Report {
            seed: self.seed,
            hash: self.trace.hash(),
            counts: self.oracle.counts(),
            events: self.events_counted,
            broken,
            datagrams: self.plan.trouble.is_some(),
            transcript: self.trace.into_lines(),
        }
    }

    /// When the run is over: the faults have ended, and ten lives of a session after.
    pub(super) fn end(&self) -> Time {
        self.heals_at() + TTL * 10
    }

    pub(super) fn heals_at(&self) -> Time {
        Time::ZERO + Duration::from_micros(self.plan.duration_us * 2)
    }

    /// Puts into the queue what the plan says.
    fn prepare(&mut self) {
        self.trace.line(Time::ZERO, || format!("{:?}", self.plan));
        let (calls, duration) = (self.plan.calls, self.plan.duration_us);
        for client in 0..self.plan.clients {
            self.bind(client);
            self.at(Time::ZERO, Event::Connect { client });
            for _ in 0..calls {
                self.sometime(duration, |_| Event::Call { client });
            }
        }
        let (clients, servers) = (self.plan.clients as u64, self.servers.len() as u64);
        for server in 0..self.servers.len() {
            self.at(Time::ZERO, Event::Sweep { server });
        }
        let faults = duration * 2;
        let some_client = |rng: &mut Rng| rng.below(clients) as usize;
        let some_server = |rng: &mut Rng| rng.below(servers) as usize;
        for _ in 0..self.plan.cuts {
            self.sometime(faults, |rng| Event::Cut { client: some_client(rng) });
        }
        for _ in 0..self.plan.crashes {
            self.sometime(faults, |rng| Event::Crash { server: some_server(rng) });
        }
        for _ in 0..self.plan.drains {
            self.sometime(faults, |rng| Event::Drain { server: some_server(rng) });
        }
        for _ in 0..self.plan.pauses {
            self.sometime(faults, |rng| match rng.chance(500) {
                true => Event::PauseClient { client: some_client(rng) },
                false => Event::PauseServer { server: some_server(rng) },
            });
        }
        self.prepare_datagrams(clients, faults);
        self.at(self.heals_at(), Event::Heal);
    }

    fn sometime(&mut self, within_us: u64, event: impl FnOnce(&mut Rng) -> Event) {
        let at = self.rng.below(within_us);
        let event = event(&mut self.rng);
        self.after(at, event);
    }

    pub(super) fn at(&mut self, at: Time, event: Event) {
        self.order += 1;
        let slot = self.unused.pop().unwrap_or_else(|| {
            self.scheduled.push(None);
            self.scheduled.len() - 1
        });
        self.scheduled[slot] = Some(event);
        self.queue.push(Reverse((at, self.order, slot)));
    }

    pub(super) fn after(&mut self, delay_us: u64, event: Event) {
        self.at(self.now + Duration::from_micros(delay_us), event);
    }

    /// Until when the process that this happens in stands still.
    fn paused_until(&self, event: &Event) -> Option<Time> {
        let client = |client: usize| Some(self.clients[client].paused_until);
        let server = |server: usize| Some(self.servers[server].paused_until);
        match *event {
            Event::Connect { client: number }
            | Event::Call { client: number }
            | Event::ClientTimer { client: number }
            | Event::ClientLost { client: number, .. } => client(number),
            Event::Act { call, .. } => client(self.calls[call as usize].client),
            Event::Pump { pipe, way: Way::Up } | Event::Deliver { pipe, way: Way::Down } => {
                client(self.pipes[pipe].client)
            }
            Event::Pump { pipe, way: Way::Down } | Event::Deliver { pipe, way: Way::Up } => {
                server(self.pipes[pipe].server)
            }
            Event::ServerLost { pipe } => server(self.pipes[pipe].server),
            Event::Packet(ref packet) => self.packet_paused_until(packet),
            Event::Complete { server: number, .. }
            | Event::Sweep { server: number }
            | Event::Drain { server: number } => server(number),
            _ => None,
        }
    }

    /// It happens now.
    pub(super) fn happen(&mut self, event: Event) -> Step {
        match event {
            Event::Connect { client } => self.connect(client),
            Event::Call { client } => self.make_call(client),
            Event::Act { call, act } => self.act(call, act),
            Event::ClientTimer { client } => self.client_timer(client),
            Event::ClientLost { client, pipe } => self.client_lost(client, pipe),
            Event::Pump { pipe, way } => self.pump(pipe, way),
            Event::Deliver { pipe, way } => self.deliver(pipe, way),
            Event::Again { way, client, session, bytes } => {
                self.again(way, client, session, &bytes)
            }
            Event::Complete { server, run, cell, seq, outcome } => {
                if self.servers[server].run == run {
                    self.complete(server, cell, seq, outcome)
                } else {
                    Ok(())
                }
            }
            Event::ServerLost { pipe } => {
                self.server_lost(pipe);
                Ok(())
            }
            Event::Sweep { server } => self.sweep(server),
            Event::Packet(packet) => self.packet(packet),
            Event::Cut { client } if self.has_datagrams() => match self.healed {
                true => Ok(()),
                false => self.part(client),
            },
            fault => {
                self.fault(fault);
                Ok(())
            }
        }
    }

    fn fault(&mut self, event: Event) {
        let late = self.now + Duration::from_micros(self.rng.spread(1000, 3 * TTL_US));
        match event {
            Event::Restart { server } => self.restart(server),
            Event::Heal => self.heal(),
            // The end of a drain comes after the healing too.
            Event::Crash { server } if !self.healed || self.servers[server].draining => {
                self.crash(server);
            }
            Event::Cut { client } if !self.healed => self.cut(client),
            Event::Drain { server } if !self.healed => self.drain(server),
            Event::PauseClient { client } if !self.healed => {
                self.clients[client].paused_until = late;
                self.trace.line(self.now, || format!("client {client}: stands still"));
            }
            Event::PauseServer { server } if !self.healed => {
                self.servers[server].paused_until = late;
                self.trace.line(self.now, || format!("server {server}: stands still"));
            }
            _ => {}
        }
    }

    fn heal(&mut self) {
        self.healed = true;
        self.heal_network();
        self.rested = self.now;
        self.trace.line(self.now, || "nothing goes wrong any more".to_owned());
    }

    /// A client's name.
    pub(super) fn node(&self, client: usize) -> NodeId {
        node(self.seed, client)
    }

    pub(super) fn has_healed(&self) -> bool {
        self.healed
    }
}

/// A peer that is honest broke the protocol, in the other's eyes.
pub(super) fn violation(side: &str, what: &dyn Display) -> Broken {
    broken("honest peers", format!("the {side} says: {what}"))
}

fn node(seed: u64, client: usize) -> NodeId {
    NodeId(uuid::Uuid::from_u64_pair(seed, client as u64))
}

/// A run has some thousands.
const MAX_STEPS: u64 = 300_000;
