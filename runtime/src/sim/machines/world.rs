//! One run: virtual time, the queue of what is to happen, the faults, and the checks at the end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Display;
use std::time::Duration;

use super::caller::Made;
use super::client::{Act, ClientEnd};
use super::network::{Pipe, Way};
use super::plan::{Plan, TTL};
use super::server::Server;
use super::trace::Trace;
use super::{Events, Report};
use crate::id::{NodeId, Seq, SessionId};
use crate::protocol::client::{Client, ClientConfig};
use crate::sim::oracle::{Broken, Oracle, broken};
use crate::sim::rng::Rng;
use crate::time::Time;
use crate::wire::frame::{self, ReplyStatus};

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
    pub(super) calls: Vec<Made>,
    pub(super) oracle: Oracle,
    pub(super) trace: Trace,
    pub(super) events_counted: Events,
    /// From here on nothing goes wrong any more.
    healed: bool,
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
        let servers = (0..plan.servers).map(|n| Server::new(n as u64, &mut rng)).collect();
        let client = |index: usize| {
            let machine = Client::new(ClientConfig {
                node: NodeId(uuid::Uuid::from_u64_pair(seed, index as u64)),
                peer: "simulated".into(),
                limits: plan.limits.clone(),
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
            clients: (0..plan.clients).map(client).collect(),
            servers,
            pipes: Vec::new(),
            calls: Vec::new(),
            oracle: Oracle::default(),
            trace: Trace::new(record),
            events_counted: Events::default(),
            healed: false,
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
            transcript: self.trace.into_lines(),
        }
    }

    /// When the run is over: the faults have ended, and ten lives of a session after.
    fn end(&self) -> Time {
        self.heals_at() + TTL * 10
    }

    fn heals_at(&self) -> Time {
        Time::ZERO + Duration::from_micros(self.plan.duration_us * 2)
    }

    /// Puts into the queue what the plan says.
    fn prepare(&mut self) {
        self.trace.line(Time::ZERO, || format!("{:?}", self.plan));
        let (calls, duration) = (self.plan.calls, self.plan.duration_us);
        for client in 0..self.clients.len() {
            self.bind(client);
            self.at(Time::ZERO, Event::Connect { client });
            for _ in 0..calls {
                self.sometime(duration, |_| Event::Call { client });
            }
        }
        let (clients, servers) = (self.clients.len() as u64, self.servers.len() as u64);
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
        self.trace.line(self.now, || "nothing goes wrong any more".to_owned());
    }

    /// A client's link breaks, in one of the ways in which links break.
    fn cut(&mut self, client: usize) {
        let Some(pipe) = self.clients[client].link else { return };
        let (soon, later) = (self.rng.spread(1, 20_000), self.rng.spread(1000, 2 * TTL_US));
        let kind = self.rng.below(4);
        self.trace.note(self.now, 10, kind);
        self.trace.line(self.now, || format!("network: link {pipe} breaks ({kind})"));
        match kind {
            // Both ends are told.
            0 => {
                let kept = self.cut_at(pipe, Way::Up);
                self.pipes[pipe].up.close(kept);
                self.schedule_delivery(pipe, Way::Up);
                self.after(soon, Event::ClientLost { client, pipe });
            }
            // Nobody is told.
            1 => {
                self.pipes[pipe].up.swallowed = true;
                self.pipes[pipe].down.swallowed = true;
                self.after(later, Event::ServerLost { pipe });
            }
            // The client is told, and its bytes arrive late.
            2 => {
                self.pipes[pipe].up.stalled_until = self.now + Duration::from_micros(later);
                self.after(soon.min(500), Event::ClientLost { client, pipe });
            }
            // What the server sends is lost.
            _ => {
                self.pipes[pipe].down.swallowed = true;
                self.after(soon, Event::ClientLost { client, pipe });
            }
        }
    }

    /// How many bytes of a broken stream still arrive.
    pub(super) fn cut_at(&mut self, pipe: usize, way: Way) -> usize {
        let stream = self.pipes[pipe].stream(way);
        let length = stream.bytes.len();
        if stream.closed || length == 0 {
            return length;
        }
        match self.rng.below(3) {
            0 => 0,
            1 => length,
            _ => self.rng.below(length as u64 + 1) as usize,
        }
    }

    pub(super) fn schedule_delivery(&mut self, pipe: usize, way: Way) {
        let stalled = !self.healed && self.rng.chance(self.plan.stalls);
        let delay = match stalled {
            true => self.rng.spread(self.plan.latency_us, TTL_US),
            false => self.rng.between(self.plan.latency_us / 2, self.plan.latency_us),
        };
        let stream = self.pipes[pipe].stream(way);
        if !stream.scheduled {
            stream.scheduled = true;
            self.after(delay, Event::Deliver { pipe, way });
        }
    }

    /// The writer of a stream hands its kernel what it has.
    fn pump(&mut self, pipe: usize, way: Way) -> Step {
        let most = if self.rng.chance(100) { 1 + self.rng.below(100) as usize } else { usize::MAX };
        let Pipe { client, server, up, down, served, .. } = &mut self.pipes[pipe];
        let server = *server;
        let client = *client;
        let owner = &mut self.clients[client];
        let (end, stream) = match (way, served) {
            (Way::Up, _) if owner.link == Some(pipe) => (&mut owner.end, up),
            (Way::Down, Some(end)) => (end, down),
            _ => return Ok(()),
        };
        end.pump_scheduled = false;
        if stream.closed {
            return Ok(());
        }
        let mut accepted = 0;
        loop {
            if end.batch.is_empty() {
                if end.out.is_empty() {
                    break;
                }
                end.out.fill(&mut end.batch);
                if way == Way::Up {
                    owner.machine.drained(self.now, &mut end.out);
                } else if let Some((cell, link)) = end.session {
                    let session = &mut self.servers[server].cells[cell].session;
                    if session.is_newest(link) {
                        session.flush(&mut end.out);
                    }
                }
            }
            let taken = stream.accept(end, self.plan.kernel, most);
            accepted += taken;
            if taken == 0 || !end.batch.is_empty() {
                break;
            }
        }
        if accepted > 0 {
            self.schedule_delivery(pipe, way);
        }
        match way {
            Way::Up => self.settle_client(client),
            Way::Down => Ok(()),
        }
    }

    /// Some bytes of a stream arrive.
    fn deliver(&mut self, pipe: usize, way: Way) -> Step {
        let pieces = self.rng.chance(300);
        let stream = self.pipes[pipe].stream(way);
        if stream.stalled_until > self.now {
            let until = stream.stalled_until;
            self.at(until, Event::Deliver { pipe, way });
            return Ok(());
        }
        stream.scheduled = false;
        let mut count = stream.bytes.len();
        if pieces && count > 1 {
            count = 1 + self.rng.below(count as u64) as usize;
        }
        let stream = self.pipes[pipe].stream(way);
        let bytes: Vec<u8> = stream.bytes.drain(..count).collect();
        let (swallowed, left, ends) =
            (stream.swallowed, !stream.bytes.is_empty(), stream.closed && stream.bytes.is_empty());
        let client = self.pipes[pipe].client;
        if !swallowed && way == Way::Up {
            self.server_received(pipe, &bytes)?;
        } else if !swallowed {
            self.client_received(client, pipe, &bytes)?;
        }
        if left {
            self.schedule_delivery(pipe, way);
        }
        if ends && !swallowed {
            match way {
                Way::Up => self.server_lost(pipe),
                Way::Down => self.client_lost(client, pipe)?,
            }
        }
        self.pump(pipe, way)
    }

    /// Perhaps the network brings this frame again.
    pub(super) fn repeat_later(&mut self, way: Way, client: usize, bytes: &[u8]) {
        if self.healed || !self.rng.chance(self.plan.duplicates) {
            return;
        }
        let Some((_, session)) = self.clients[client].machine.session() else { return };
        self.again_later(way, client, session, bytes);
    }

    /// The network brings this frame some time later.
    pub(super) fn again_later(
        &mut self,
        way: Way,
        client: usize,
        session: SessionId,
        bytes: &[u8],
    ) {
        let delay = self.rng.spread(10, 5 * TTL_US);
        let bytes = bytes.to_vec();
        self.after(delay, Event::Again { way, client, session, bytes });
    }

    pub(super) fn has_healed(&self) -> bool {
        self.healed
    }

    /// The network brings a frame again, on whatever link its session has now.
    fn again(&mut self, way: Way, client: usize, session: SessionId, bytes: &[u8]) -> Step {
        let end = &self.clients[client];
        let server = end.server;
        self.trace.note(self.now, 11, bytes.len() as u64);
        if way == Way::Down {
            let same = end.machine.session().is_some_and(|(_, id)| id == session);
            if !same || !end.machine.is_welcome() || end.paused_until > self.now {
                return Ok(());
            }
            self.events_counted.duplicates += 1;
            self.trace.line(self.now, || format!("network: again to client {client}"));
            self.client_frame(client, bytes)?;
            return self.settle_client(client);
        }
        let mut cells = self.servers[server].cells.iter();
        let Some(cell) = cells.position(|cell| cell.live && cell.session.id() == session) else {
            return Ok(());
        };
        let Ok(frame) = frame::decode(bytes) else { return Ok(()) };
        self.events_counted.duplicates += 1;
        if self.trace.is_recording() {
            let text = super::client::describe(&frame);
            self.trace.line(self.now, || format!("network: again to server {server}: {text}"));
        }
        self.session_frame(server, cell, None, &frame)
    }
}

/// A peer that is honest broke the protocol, in the other's eyes.
pub(super) fn violation(side: &str, what: &dyn Display) -> Broken {
    broken("honest peers", format!("the {side} says: {what}"))
}

const TTL_US: u64 = TTL.as_micros() as u64;
/// A run has some thousands.
const MAX_STEPS: u64 = 300_000;
