//! One run: virtual time, the queue of what is to happen, and the phases after the faults have ended.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use super::super::trace::Trace;
use super::disk::{Disk, Tables};
use super::messages::{Ask, Reply, Way};
use super::method::Method;
use super::node::Node;
use super::oracle::Oracle;
use super::plan::Plan;
use super::program::Attempt;
use super::{Counted, Report, Step};
use crate::id::{Seq, StoreId};
use crate::protocol::durable::execute::Execute;
use crate::sim::oracle::{Broken, broken};
use crate::sim::rng::Rng;
use crate::time::Time;

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
    /// Clients, then servers, then copies of clients.
    pub(super) nodes: Vec<Node>,
    pub(super) attempts: Vec<Attempt>,
    pub(super) exchanges: u64,
    /// What somebody keeps of the traffic.
    pub(super) remembered: Vec<Ask>,
    pub(super) oracle: Oracle,
    pub(super) trace: Trace,
    pub(super) events: Counted,
    pub(super) healed: bool,
}

/// What can happen.
pub(super) enum Event {
    Start { node: usize },
    Call { node: usize },
    Deadline { attempt: usize },
    Wait { attempt: usize },
    Cancel { attempt: usize },
    ForgetKey { node: usize },
    Turn { node: usize, life: u32, own: bool },
    Arrive(Ask),
    Answer(Way, Reply),
    Resend { node: usize, life: u32, exchange: u64 },
    Progress { node: usize, life: u32, seq: Seq },
    Settle { node: usize, life: u32, seq: Seq },
    Recover { node: usize, life: u32, seq: Seq },
    Forget { node: usize, life: u32, peer: Arc<str> },
    Accept { node: usize, life: u32, peer: Arc<str> },
    TryAgain { node: usize, life: u32, execute: Box<Execute<Method>> },
    Reopen { node: usize, life: u32 },
    Crash { node: usize },
    Full { node: usize, full: bool },
    Copy { node: usize },
    Restore { node: usize },
    Replace { node: usize },
    Fork { node: usize },
    Purge { node: usize },
    Heal,
}

impl World {
    pub(super) fn new(seed: u64, plan: Plan, record: bool) -> World {
        let mut rng = Rng::new(seed);
        let nodes = (0..plan.clients + plan.servers).map(|_| {
            let tables = Tables::new(store(rng.next()));
            Node::new(Disk::new(tables, plan.disk, Rng::new(rng.next())))
        });
        let nodes = nodes.collect();
        World {
            seed,
            plan,
            now: Time::ZERO,
            rng,
            queue: BinaryHeap::new(),
            scheduled: Vec::new(),
            unused: Vec::new(),
            order: 0,
            nodes,
            attempts: Vec::new(),
            exchanges: 0,
            remembered: Vec::new(),
            oracle: Oracle::default(),
            trace: Trace::new(record),
            events: Counted::default(),
            healed: false,
        }
    }

    /// Runs to the end, unless a promise is broken before.
    pub(super) fn run(&mut self) -> Step {
        self.prepare();
        self.rest()?;
        // What was told holds for ever: over restarts, and whatever arrives again.
        self.start_again()?;
        self.rest()?;
        // The first visit registers, the second tells.
        for _ in 0..2 {
            self.visit()?;
            self.rest()?;
        }
        self.send_remembered()?;
        self.rest()?;
        for node in 0..self.nodes.len() {
            self.check_node(node)?;
        }
        self.oracle.finish()
    }

    /// Lets everything happen that is to happen.
    fn rest(&mut self) -> Step {
        while let Some(Reverse((at, _, slot))) = self.queue.pop() {
            let Some(event) = self.scheduled[slot].take() else { continue };
            self.unused.push(slot);
            self.now = at;
            self.events.steps += 1;
            if self.events.steps > MAX_STEPS {
                return Err(broken("I14", "it never comes to rest"));
            }
            self.happen(event)?;
        }
        Ok(())
    }

    pub(super) fn into_report(mut self, broken: Option<Broken>) -> Report {
        for node in &self.nodes {
            let failed = node.disk.failed;
            self.events.statements += failed.statements;
            self.events.refused += failed.refused;
            self.events.unknown += failed.unknown;
            self.events.shown += failed.shown;
            self.events.ended += failed.ended;
        }
        Report {
            seed: self.seed,
            hash: self.trace.hash(),
            counts: self.oracle.counts,
            events: self.events,
            broken,
            transcript: self.trace.into_lines(),
        }
    }

    /// Puts into the queue what the plan says.
    fn prepare(&mut self) {
        self.trace.line(Time::ZERO, || format!("{:?}", self.plan));
        let (clients, servers) = (self.plan.clients as u64, self.plan.servers as u64);
        let (calls, duration) = (self.plan.calls, self.plan.duration_us);
        for node in 0..self.nodes.len() {
            self.at(Time::ZERO, Event::Start { node });
        }
        for node in 0..self.plan.clients {
            for _ in 0..calls {
                self.sometime(1, duration, |_| Event::Call { node });
            }
            if self.rng.chance(300) {
                self.sometime(1, duration, |_| Event::ForgetKey { node });
            }
        }
        let faults = duration * 2;
        let any = |rng: &mut Rng| rng.below(clients + servers) as usize;
        let server = |rng: &mut Rng| (clients + rng.below(servers)) as usize;
        let client = |rng: &mut Rng| rng.below(clients) as usize;
        self.sometime(self.plan.crashes, faults, |rng| Event::Crash { node: any(rng) });
        for _ in 0..self.plan.full {
            let node = any(&mut self.rng);
            let from = self.rng.below(faults);
            let until = from + self.rng.spread(1_000, 1_000_000);
            self.after(from, Event::Full { node, full: true });
            self.after(until, Event::Full { node, full: false });
        }
        for _ in 0..self.plan.restored {
            let node = any(&mut self.rng);
            self.sometime(2, faults, |_| Event::Copy { node });
            self.sometime(1, faults, |_| Event::Restore { node });
        }
        self.sometime(self.plan.replaced, faults, |rng| Event::Replace { node: server(rng) });
        self.sometime(self.plan.copied, faults, |rng| Event::Fork { node: client(rng) });
        self.sometime(self.plan.purged, faults, |rng| Event::Purge { node: server(rng) });
        self.after(faults, Event::Heal);
    }

    fn sometime(&mut self, times: u64, within_us: u64, event: impl Fn(&mut Rng) -> Event) {
        for _ in 0..times {
            let at = self.rng.below(within_us);
            let event = event(&mut self.rng);
            self.after(at, event);
        }
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

    /// Whether this run of the process still goes on.
    fn lives(&self, node: usize, life: u32) -> bool {
        self.nodes[node].life.as_ref().is_some_and(|alive| alive.number == life)
    }

    /// It happens now.
    fn happen(&mut self, event: Event) -> Step {
        match event {
            Event::Start { node } => return self.start(node),
            Event::Call { node } => self.call(node),
            Event::Deadline { attempt } => self.deadline(attempt),
            Event::Wait { attempt } => self.wait_again(attempt),
            Event::Cancel { attempt } => self.cancel(attempt),
            Event::ForgetKey { node } => self.forget_key(node),
            Event::Arrive(ask) => {
                self.trace.note(self.now, 10, ask.way.exchange);
                self.trace.line(self.now, || format!("{ask:?} arrives"));
                return self.arrive(ask);
            }
            Event::Answer(way, reply) => {
                self.trace.note(self.now, 11, way.exchange);
                self.trace.line(self.now, || format!("{way:?}: {reply:?}"));
                return self.answered(way, reply);
            }
            Event::Turn { node, life, own } if self.lives(node, life) => {
                return self.turn(node, own);
            }
            Event::Resend { node, life, exchange } if self.lives(node, life) => {
                self.resend(node, life, exchange);
            }
            Event::Progress { node, life, seq } if self.lives(node, life) => {
                return self.progress(node, seq);
            }
            Event::Settle { node, life, seq } => self.settle(node, life, seq, false),
            Event::Recover { node, life, seq } if self.lives(node, life) => self.recover(node, seq),
            Event::Forget { node, life, peer } if self.lives(node, life) => {
                return self.forget(node, &peer);
            }
            Event::Accept { node, life, peer } if self.lives(node, life) => {
                self.accept(node, peer);
            }
            Event::TryAgain { node, life, execute } if self.lives(node, life) => {
                self.submit(node, execute);
            }
            Event::Reopen { node, life } if self.lives(node, life) => self.crash(node),
            Event::Heal => self.heal(),
            fault if !self.healed => self.fault(fault),
            _ => {}
        }
        Ok(())
    }

    fn fault(&mut self, event: Event) {
        match event {
            Event::Crash { node } => self.crash_somehow(node),
            Event::Full { node, full } => {
                self.events.full += u64::from(full);
                self.nodes[node].disk.full = full;
            }
            Event::Copy { node } => self.copy(node),
            Event::Restore { node } => self.restore(node),
            Event::Replace { node } => self.replace(node),
            Event::Fork { node } => self.fork(node),
            Event::Purge { node } => self.purge(node),
            _ => {}
        }
    }
}

/// A store's name, drawn.
pub(super) fn store(drawn: u64) -> StoreId {
    StoreId(uuid::Uuid::from_u64_pair(drawn, drawn))
}

/// A run has some hundreds.
const MAX_STEPS: u64 = 100_000;
