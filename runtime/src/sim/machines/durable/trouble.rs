//! What goes wrong: crashes, disks that are full, and what people do to databases behind farcall's back.

use super::Step;
use super::disk::{Disk, Tables};
use super::node::Node;
use super::world::{Event, World, store};

impl World {
    /// The process is gone at once.
    pub(super) fn crash(&mut self, node: usize) {
        if self.nodes[node].life.take().is_some() {
            self.events.crashes += 1;
            self.trace.note(self.now, 8, node as u64);
            self.trace.line(self.now, || format!("node {node} crashes"));
            self.nodes[node].disk.close();
            self.nodes[node].dies_telling = None;
            self.restart_later(node);
        }
    }

    pub(super) fn restart_later(&mut self, node: usize) {
        if !std::mem::replace(&mut self.nodes[node].restarting, true) {
            let at = self.rng.spread(100, 500_000);
            self.after(at, Event::Start { node });
        }
    }

    /// The process will crash: now, in the middle of a batch, or between a commit and what it tells.
    pub(super) fn crash_somehow(&mut self, node: usize) {
        match self.rng.below(3) {
            0 => self.crash(node),
            1 => self.nodes[node].disk.crash_in = Some(self.rng.below(25)),
            _ => self.nodes[node].dies_telling = Some(self.rng.below(4)),
        }
    }

    /// Somebody copies the database, for later.
    pub(super) fn copy(&mut self, node: usize) {
        let image = self.nodes[node].disk.image.clone();
        self.nodes[node].copies.push(image);
    }

    /// Puts an old copy in the place of the database.
    pub(super) fn restore(&mut self, node: usize) {
        let copies = self.nodes[node].copies.len() as u64;
        if copies > 0 {
            let copy = self.nodes[node].copies.swap_remove(self.rng.below(copies) as usize);
            self.oracle.meddled.restored.insert(node);
            self.events.restored += 1;
            self.put(node, copy);
        }
    }

    /// Puts an empty database in the place of the present one.
    pub(super) fn replace(&mut self, node: usize) {
        let fresh = Tables::new(store(self.rng.next()));
        self.oracle.meddled.replaced.insert(node);
        self.events.replaced += 1;
        self.put(node, fresh);
    }

    fn put(&mut self, node: usize, image: Tables) {
        self.crash(node);
        let disk = &mut self.nodes[node].disk;
        self.oracle.turned_back(node, &disk.image, &image);
        self.trace
            .line(self.now, || format!("node {node} gets another database: {:?}", image.store));
        disk.put(image);
        self.restart_later(node);
    }

    /// A client's database is copied while the client is down or up, and both are used.
    pub(super) fn fork(&mut self, node: usize) {
        let image = self.nodes[node].disk.image.clone();
        let (odds, seed) = (self.nodes[node].disk.odds, self.rng.next());
        let twin = self.nodes.len();
        self.oracle.meddled.copied.extend([node, twin]);
        self.events.copied += 1;
        self.nodes.push(Node::new(Disk::new(image, odds, crate::sim::rng::Rng::new(seed))));
        self.trace.line(self.now, || format!("node {twin} is a copy of node {node}"));
        self.restart_later(twin);
        // Both go on: sometimes with the same opening, and with other calls under the same numbers.
        let span = self.plan.duration_us;
        for node in [node, twin] {
            for _ in 0..2 {
                let (call, crash) = (self.rng.below(span), self.rng.below(span));
                self.after(call, Event::Call { node });
                self.after(crash, Event::Crash { node });
            }
        }
        if self.rng.chance(500) {
            self.crash(node);
        }
    }

    /// From here on nothing goes wrong any more.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.trace.line(self.now, || "nothing goes wrong any more".to_owned());
        for node in &mut self.nodes {
            node.disk.odds = super::disk::Odds::default();
            (node.disk.full, node.disk.crash_in, node.dies_telling) = (false, None, None);
        }
    }

    /// Everybody is started again, and what was kept of the traffic arrives once more.
    pub(super) fn start_again(&mut self) -> Step {
        for node in 0..self.nodes.len() {
            self.crash(node);
        }
        self.send_remembered()
    }

    /// Every client tells each server that it knows what may be forgotten.
    pub(super) fn visit(&mut self) -> Step {
        for node in 0..self.nodes.len() {
            let peers: Vec<_> = self.nodes[node].disk.image.servers.keys().cloned().collect();
            for peer in peers {
                self.forget(node, &peer)?;
            }
        }
        Ok(())
    }
}
