//! What a scenario holds: nodes by name, faults, and the ledger.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinHandle};

use super::fabric::{Fabric, Incarnation};
use super::faults::{Faults, NetworkCounts};
use super::ledger::Ledger;
use super::network::HostNetwork;
use super::oracle::broken;
use super::rng::Rng;
use super::trace::Event;
use crate::driver::lock;
use crate::limits::Limits;
use crate::node::Node;

/// The simulated world of one run. Cheap to clone.
#[derive(Clone)]
pub struct World {
    shared: Arc<Shared>,
}

struct Shared {
    seed: u64,
    fabric: Arc<Fabric>,
    ledger: Ledger,
    rng: Mutex<Rng>,
    running: Mutex<BTreeMap<Arc<str>, Running>>,
}

/// A host with a node.
struct Running {
    node: Node,
    tasks: Vec<AbortHandle>,
}

/// Starts a node on a simulated host.
#[must_use = "no node runs before `start`"]
pub struct HostBuilder {
    world: World,
    name: Arc<str>,
    limits: Limits,
}

impl World {
    pub(super) fn new(seed: u64, faults: Faults) -> World {
        let mut rng = Rng::new(seed);
        let fabric = Arc::new(Fabric::new(rng.next(), faults));
        let ledger = Ledger::new(fabric.clone());
        let (rng, running) = (Mutex::new(rng), Mutex::default());
        World { shared: Arc::new(Shared { seed, fabric, ledger, rng, running }) }
    }

    /// A host of this name, on which [`start`](HostBuilder::start) starts a node: its process. It listens at
    /// `tcp://name:port`, and runs until [`crash`](World::crash), [`power_off`](World::power_off), the next start under
    /// the same name, or the end of the run.
    pub fn node(&self, name: &str) -> HostBuilder {
        HostBuilder { world: self.clone(), name: name.into(), limits: Limits::default() }
    }

    /// Runs a task in the process of a host: it ends, without being polled again, when that crashes. A panic in it
    /// makes the run fail.
    ///
    /// A task that was given to `tokio::spawn` belongs to no host and survives crashes.
    pub fn spawn<F>(&self, name: &str, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let ledger = self.shared.ledger.clone();
        let host = name.to_owned();
        let task = tokio::spawn(async move {
            let _alarm = Alarm { ledger, host };
            future.await
        });
        let mut running = lock(&self.shared.running);
        match running.get_mut(name) {
            Some(running) => {
                running.tasks.retain(|task| !task.is_finished());
                running.tasks.push(task.abort_handle());
            }
            None => task.abort(),
        }
        task
    }

    /// Ends the process of a host at once: handlers and tasks are not polled again, nothing more leaves, and of what is
    /// in flight any first part arrives. The host lives, so that peers see their connections break.
    pub fn crash(&self, name: &str) {
        self.shared.fabric.with(|state| state.crash(name));
        self.end(name);
    }

    /// As [`crash`](World::crash), of the whole host: its peers hear nothing, and learn of it by their probes, or when
    /// the host is there again.
    pub fn power_off(&self, name: &str) {
        self.shared.fabric.with(|state| state.power_off(name));
        self.end(name);
    }

    fn end(&self, name: &str) {
        let Some(ended) = lock(&self.shared.running).remove(name) else { return };
        ended.tasks.iter().for_each(AbortHandle::abort);
        ended.node.kill();
    }

    /// Holds everything between two hosts, both ways (datagrams are lost), until [`heal`](World::heal).
    pub fn partition(&self, a: &str, b: &str) {
        self.partition_one_way(a, b);
        self.partition_one_way(b, a);
    }

    /// Holds everything from one host to another, until [`heal`](World::heal). No new connection is made between them.
    pub fn partition_one_way(&self, from: &str, to: &str) {
        self.shared.fabric.with(|state| state.block(from, to));
    }

    /// Ends all partitions. What was held arrives.
    pub fn heal(&self) {
        self.shared.fabric.with(|state| state.heal());
    }

    /// Breaks all connections between two hosts; of the bytes in flight any first part arrives. Gives their number.
    pub fn cut(&self, a: &str, b: &str) -> usize {
        self.shared.fabric.with(|state| state.cut_between(a, b))
    }

    /// The clients on this host are seen at other addresses from now on, as behind a router that has forgotten them.
    /// Concerns `udp://` only; what is on its way to the old addresses is lost.
    pub fn rebind(&self, host: &str) {
        self.shared.fabric.with(|state| state.rebind(host));
    }

    /// What goes wrong by itself from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.fabric.with(|state| state.set_faults(faults));
    }

    /// Ends all faults, lets so much time pass, so that what is late can show itself, and checks that every call that
    /// the [`ledger`](World::ledger) knows has ended. Crashed nodes are for the scenario to start before.
    pub async fn settle(&self, time: Duration) {
        self.set_faults(Faults::none());
        self.heal();
        tokio::time::sleep(time).await;
        self.shared.ledger.finish();
    }

    /// Knows what ran and what callers were told, and judges it.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// Writes a line into the transcript.
    pub fn note(&self, text: impl Into<String>) {
        self.shared.fabric.note(Event::Note(text.into()));
    }

    /// The seed of the run.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.shared.seed
    }

    /// A number below `bound`, drawn from the seed; 0 if that is 0.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        lock(&self.shared.rng).below(bound)
    }

    /// True once in so many times, drawn from the seed; never for 0.
    #[must_use]
    pub fn one_in(&self, times: u64) -> bool {
        times > 0 && self.below(times) == 0
    }

    /// A time up to `longest`, in whole milliseconds, drawn from the seed.
    #[must_use]
    pub fn time_up_to(&self, longest: Duration) -> Duration {
        let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX - 1);
        Duration::from_millis(self.below(longest + 1))
    }

    /// Virtual time since the run began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.shared.fabric.elapsed()
    }

    /// What happened on the network so far.
    #[must_use]
    pub fn network(&self) -> NetworkCounts {
        self.shared.fabric.with(|state| state.counts())
    }

    /// A hash over everything that happened so far: the same for every run of the same program with the same seed.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.shared.fabric.with(|state| state.trace().hash())
    }

    /// The last events so far, a line each.
    #[must_use]
    pub fn transcript(&self) -> String {
        self.shared.fabric.with(|state| state.trace().transcript())
    }

    pub(super) fn events(&self) -> u64 {
        self.shared.fabric.with(|state| state.trace().events())
    }

    /// Lets go of all nodes, at the end of a run.
    pub(super) fn clear(&self) {
        let running = std::mem::take(&mut *lock(&self.shared.running));
        running.into_values().for_each(|running| running.node.kill());
    }
}

impl HostBuilder {
    /// Sets the node's limits.
    pub fn limits(mut self, limits: Limits) -> HostBuilder {
        self.limits = limits;
        self
    }

    /// Starts the node. A node that runs under this name crashes first.
    #[must_use]
    pub fn start(self) -> Node {
        let HostBuilder { world, name, mut limits } = self;
        // Virtual time passes only while nobody looks.
        limits.busy_poll = Duration::ZERO;
        if lock(&world.shared.running).contains_key(&name) {
            world.crash(&name);
        }
        let Shared { fabric, rng, running, .. } = &*world.shared;
        let place: Incarnation = fabric.with(|state| state.start(&name));
        let network = Arc::new(HostNetwork::new(fabric.clone(), place, name.clone()));
        let seed = lock(rng).next();
        let node = Node::builder().limits(limits).simulated(network, seed).build();
        lock(running).insert(name, Running { node: node.clone(), tasks: Vec::new() });
        node
    }
}

/// Tells when a task of a host panics.
struct Alarm {
    ledger: Ledger,
    host: String,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.ledger.complain(broken("task", format!("a task of `{}` panicked", self.host)));
        }
    }
}
