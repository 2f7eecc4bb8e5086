//! A process with a store: what it does when it starts, and one turn of the writer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::Step;
use super::caller::{Active, Exchange};
use super::disk::{Disk, Tables};
use super::method::{Event as Done, Happened};
use super::oracle::Oracle;
use super::plan::server_at;
use super::world::{Event, World};
use crate::id::Seq;
use crate::protocol::durable::batch::{self, After, Work};
use crate::protocol::durable::outbound::Outbound;
use crate::protocol::durable::rows::Outcome;
use crate::wire::durable::Answer;

pub(super) struct Node {
    pub(super) disk: Disk,
    /// The present run of the process, if it runs.
    pub(super) life: Option<Life>,
    pub(super) lives: u32,
    /// Copies of the database that somebody made.
    pub(super) copies: Vec<Tables>,
    /// The process dies after its next commit, when so many have been told.
    pub(super) dies_telling: Option<u64>,
    pub(super) restarting: bool,
}

pub(super) struct Life {
    pub(super) number: u32,
    pub(super) outbound: Outbound,
    queue: VecDeque<Box<dyn Work<Disk>>>,
    /// Work that waits for a commit that somebody else needs.
    later: VecDeque<Box<dyn Work<Disk>>>,
    turning: bool,
    pub(super) happened: Happened,
    pub(super) calls: BTreeMap<Seq, Active>,
    pub(super) exchanges: BTreeMap<u64, Exchange>,
    pub(super) stopped: bool,
}

impl Node {
    pub(super) fn new(disk: Disk) -> Node {
        let (copies, life) = (Vec::new(), None);
        Node { disk, life, lives: 0, copies, dies_telling: None, restarting: false }
    }
}

impl World {
    /// The process starts, and takes up what its journal has.
    pub(super) fn start(&mut self, number: usize) -> Step {
        let node = &mut self.nodes[number];
        node.restarting = false;
        if node.life.is_some() {
            return Ok(());
        }
        let Ok((identity, last_before)) = node.disk.open() else {
            self.restart_later(number);
            return Ok(());
        };
        node.lives += 1;
        let image = node.disk.image.clone();
        let servers = image.servers.values().map(|row| (**row).clone());
        let mut outbound = Outbound::new(identity, last_before, servers);
        outbound.gave(image.lasts.iter().copied());
        for (seq, row) in image.unfinished() {
            outbound.publish(seq, row.binding);
        }
        outbound.all_published();
        node.life = Some(Life {
            number: node.lives,
            outbound,
            queue: VecDeque::new(),
            later: VecDeque::new(),
            turning: false,
            happened: Happened::default(),
            calls: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            stopped: false,
        });
        let life = node.lives;
        self.trace.note(self.now, 1, number as u64);
        self.trace.line(self.now, || format!("node {number} starts as {:?}", identity.epoch));
        self.oracle.committed(number, &image)?;
        for (seq, row) in image.requests.iter() {
            if row.outcome.is_none() {
                self.take_up(number, *seq);
            } else if row.request.key.is_none() {
                let at = self.rng.spread(100, 100_000);
                self.after(at, Event::Recover { node: number, life, seq: *seq });
            }
        }
        Ok(())
    }

    /// A saved call is driven from here on.
    fn take_up(&mut self, node: usize, seq: Seq) {
        let Node { disk, life, .. } = &mut self.nodes[node];
        let (Some(life), Some(row)) = (life, disk.image.requests.get(&seq)) else { return };
        life.calls.insert(seq, Active::of(row));
        let at = self.rng.below(200);
        let life = life.number;
        self.after(at, Event::Progress { node, life, seq });
    }

    pub(super) fn submit(&mut self, node: usize, work: Box<dyn Work<Disk>>) {
        if let Some(life) = &mut self.nodes[node].life {
            life.queue.push_back(work);
            let at = self.rng.below(500);
            self.turn_in(node, at);
        }
    }

    pub(super) fn submit_later(&mut self, node: usize, work: Box<dyn Work<Disk>>) {
        if let Some(life) = &mut self.nodes[node].life {
            life.later.push_back(work);
            let life = life.number;
            self.after(self.plan.settle_us, Event::Turn { node, life, own: false });
        }
    }

    fn turn_in(&mut self, node: usize, at: u64) {
        let Some(life) = &mut self.nodes[node].life else { return };
        if !life.turning {
            life.turning = true;
            let life = life.number;
            self.after(at, Event::Turn { node, life, own: true });
        }
    }

    /// The writer runs one batch, and everybody is told.
    pub(super) fn turn(&mut self, number: usize, own: bool) -> Step {
        let (batch, clients, servers) = (self.plan.batch, self.plan.clients, self.plan.servers);
        let node = &mut self.nodes[number];
        let Some(life) = &mut node.life else { return Ok(()) };
        if own {
            life.turning = false;
        }
        life.queue.append(&mut life.later);
        if life.queue.is_empty() {
            return Ok(());
        }
        let commits = node.disk.image.commits;
        let after = batch::run(&mut node.disk, &mut life.queue, |started| started < batch);
        let left = !life.queue.is_empty();
        let mut happened = life.happened.take();
        self.trace.note(self.now, 2 + (happened.len() as u64) * 16, node.disk.image.commits);
        for born in node.disk.born.drain(..) {
            self.oracle.born(born, number, clients + born.peer as usize % servers);
        }
        if node.disk.crashed {
            self.events.mid_batch += 1;
            self.crash(number);
            return Ok(());
        }
        self.events.commits += node.disk.image.commits - commits;
        self.oracle.committed(number, &node.disk.image)?;
        let dropped = std::mem::take(&mut node.disk.dropped);
        Oracle::dropped(&node.disk.image, &dropped)?;
        let dies = node.dies_telling.take();
        if let Some(told) = dies {
            happened.truncate(told as usize);
        }
        // Whoever is told first may hear of an adoption before the calls that it bound are published.
        let (first, rest): (Vec<_>, Vec<_>) = happened
            .into_iter()
            .partition(|event| self.plan.adopts_first && matches!(event, Done::Adopted(..)));
        for event in first {
            self.done(number, event)?;
        }
        if dies != Some(0) {
            self.publish(number);
        }
        for event in rest {
            self.done(number, event)?;
        }
        if dies.is_some() {
            self.events.before_telling += 1;
            self.crash(number);
        } else if after == After::Poisoned {
            let at = self.rng.spread(100, 200_000);
            let life = self.nodes[number].lives;
            self.after(at, Event::Reopen { node: number, life });
        }
        if left {
            self.turn_in(number, 100);
        }
        Ok(())
    }

    /// Saved calls are durable: in the order of their numbers.
    fn publish(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let fresh = std::mem::take(&mut node.disk.fresh);
        for (seq, binding) in fresh {
            let node = &mut self.nodes[number];
            let Some(life) = &mut node.life else { return };
            let row = node.disk.image.requests.get(&seq);
            life.outbound.publish(seq, binding);
            match row.filter(|row| row.outcome.is_none()) {
                Some(row) => {
                    self.oracle.saved(row.request.nonce);
                    let at = server_at(&row.request.peer) as u64;
                    self.trace.note(self.now, 3, at);
                    self.take_up(number, seq);
                }
                None => life.outbound.settled(seq),
            }
        }
    }

    /// What a work of this node came to.
    fn done(&mut self, node: usize, event: Done) -> Step {
        let life = self.nodes[node].lives;
        match event {
            Done::Say(way, reply) => {
                self.answer(way, reply);
                Ok(())
            }
            Done::TryAgain(execute, failures) => {
                self.events.tried_again += 1;
                let at = self.rng.spread(100, 10_000 * u64::from(failures.max(1)));
                self.after(at, Event::TryAgain { node, life, execute });
                Ok(())
            }
            Done::Saved(attempt, came) => self.saved(node, attempt, came),
            Done::Adopted(seq, row, came) => {
                self.adopted(node, seq, row, came);
                Ok(())
            }
            Done::Settled(seq, came) => {
                self.settled(node, seq, &came);
                Ok(())
            }
            Done::Cancelled(seq, came) => self.cancelled(node, seq, came),
            Done::Recovered(seq, came) => self.recovered(node, seq, came),
            Done::Accepted(peer, came) => {
                self.accepted(node, &peer, came.is_ok());
                Ok(())
            }
        }
    }

    /// I6 and the memory: nothing unfinished is left, and nothing that nobody asked to keep.
    pub(super) fn check_node(&self, number: usize) -> Step {
        let node = &self.nodes[number];
        let broken = |what: String| Err(crate::sim::oracle::broken("I14", what));
        let Some(life) = &node.life else { return broken(format!("node {number} is down")) };
        if life.stopped {
            return Ok(());
        }
        let image = &node.disk.image;
        if let Some((seq, row)) = image.unfinished().next() {
            return broken(format!("node {number} still has {seq:x}: {row:?}"));
        }
        if life.outbound.unfinished() > 0 || !life.calls.is_empty() {
            return broken(format!("node {number} still counts calls as unfinished"));
        }
        let untaken = image.requests.values().find(|row| row.request.key.is_none());
        if let Some(row) = untaken {
            return broken(format!("node {number} keeps a result that was taken: {row:?}"));
        }
        if self.plan.is_honest() && !image.answers.is_empty() {
            return broken(format!("node {number} keeps answers: {:?}", image.answers));
        }
        Ok(())
    }
}

/// Whether a call that nobody waits for leaves the journal by itself.
pub(super) fn leaves(outcome: &Outcome, wanted: bool) -> bool {
    !wanted && matches!(outcome, Outcome::Answered { answer: Answer::Ok, .. })
}

/// Nodes by the address at which they listen.
pub(super) fn listener(world: &World, peer: &Arc<str>) -> Option<usize> {
    let (at, servers) = (server_at(peer), world.plan.servers);
    (world.healed || !world.plan.absent || at < servers * 2)
        .then_some(world.plan.clients + at % servers)
}
