//! One simulated run of a mailbox: senders over links that break, an owner that crashes, and an oracle that knows what
//! was received.
//!
//! Whole nodes in virtual time. Each message is unique; what each `send` was told, and the order in which a sender's
//! messages arrived, is held against what the owner received. Used by the test `simulation_groups`, and with planted bugs
//! by `canaries`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farcall::sim::{Failure, Faults, Run, Sim, World};
use farcall::{Capacity, Execution, Mailbox, Node, Semantics, SendError, Sender, SenderConfig};

use crate::groups::{limits, lock};

/// A message: who sent it, and which of the sender's it is.
type Message = (u64, u64);

/// How often what happened, over many runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Messages that were sent or posted.
    pub messages: u64,
    /// Messages that were received.
    pub received: u64,
    /// Messages that were received again, under at-least-once.
    pub repeated: u64,
    /// Sends that returned when their message had been received.
    pub sent: u64,
    /// Sends that were told that their message was not received.
    pub not_executed: u64,
    /// Sends of which nobody knows.
    pub unknown: u64,
    /// Posted messages of which the sender was told that they may be lost.
    pub lost: u64,
}

impl Tally {
    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Tally) {
        self.messages += other.messages;
        self.received += other.received;
        self.repeated += other.repeated;
        self.sent += other.sent;
        self.not_executed += other.not_executed;
        self.unknown += other.unknown;
        self.lost += other.lost;
    }
}

/// Runs the seed.
///
/// # Errors
/// What was broken.
pub fn run(seed: u64) -> Result<Run<Tally>, Box<Failure>> {
    let lose_one_in = [0, 50, 10][(seed / 8 % 3) as usize];
    Sim::new(seed)
        .faults(Faults { lose_one_in, ..Faults::rough() })
        .replay("cargo test -p farcall-tests --test simulation_groups")
        .try_run(async |world| Scene::new(world).run().await)
}

/// What all tasks of a run share.
#[derive(Clone)]
struct Scene {
    world: World,
    semantics: Semantics,
    capacity: Capacity,
    crashes: bool,
    notes: Arc<Mutex<Notes>>,
}

#[derive(Default)]
struct Notes {
    /// In order of arrival, over all lives of the owner.
    received: Vec<Message>,
    told: Vec<(Message, Execution)>,
    tally: Tally,
}

impl Scene {
    fn new(world: World) -> Scene {
        let seed = world.seed();
        let semantics = match seed % 4 {
            0 => Semantics::AtLeastOnce,
            1 => Semantics::Maybe,
            _ => Semantics::AtMostOnce,
        };
        let capacity = match world.below(3) {
            0 => Capacity::Rendezvous,
            places => Capacity::Bounded(places as usize * 3 - 2),
        };
        let crashes = seed / 4 % 2 == 1;
        Scene { world, semantics, capacity, crashes, notes: Arc::default() }
    }

    async fn run(self) -> Tally {
        self.start_owner().await;
        let senders = (0..SENDERS).map(|sender| {
            let node = self.world.node(&format!("sender{sender}")).limits(limits()).start();
            tokio::spawn(self.clone().send_all(node, sender))
        });
        let senders: Vec<_> = senders.collect();
        self.make_trouble().await;
        for sender in senders {
            match tokio::time::timeout(Duration::from_secs(120), sender).await {
                Ok(ended) => ended.expect("a sender holds"),
                Err(_) => panic!("I14: a sender does not end on a healthy network"),
            }
        }
        self.world.settle(Duration::from_secs(5)).await;
        self.judge()
    }

    async fn start_owner(&self) {
        let node = self.world.node("owner").limits(limits()).start();
        let inbox = node.mailbox("box", self.capacity).expect("a free name");
        for at in ["tcp://owner:1", "udp://owner:2"] {
            node.listen(at).await.expect("a free port");
        }
        let scene = self.clone();
        self.world.spawn("owner", async move { scene.receive(&inbox).await });
    }

    async fn receive(&self, inbox: &Mailbox<Message>) {
        while let Ok(message) = inbox.receive().await {
            lock(&self.notes).received.push(message);
            let most = match self.capacity {
                Capacity::Bounded(places) => places,
                Capacity::Rendezvous => 1,
            };
            assert!(inbox.len() <= most, "I9: {} messages in {}", inbox.len(), self.capacity);
            // Longer than any call waits at a mailbox, now and then.
            let longest = if self.world.one_in(12) { 5000 } else { 100 };
            if self.world.one_in(3) {
                tokio::time::sleep(self.world.time_up_to(Duration::from_millis(longest))).await;
            }
        }
    }

    async fn make_trouble(&self) {
        let world = &self.world;
        for _ in 0..TROUBLES {
            tokio::time::sleep(world.time_up_to(Duration::from_millis(500))).await;
            let host = format!("sender{}", world.below(SENDERS));
            match world.below(4) {
                0 => drop(world.cut(&host, "owner")),
                1 => {
                    world.partition(&host, "owner");
                    tokio::time::sleep(world.time_up_to(Duration::from_millis(700))).await;
                    world.heal();
                }
                _ if self.crashes => {
                    world.crash("owner");
                    tokio::time::sleep(world.time_up_to(Duration::from_millis(300))).await;
                    self.start_owner().await;
                }
                _ => {}
            }
        }
        world.set_faults(Faults::none());
        world.heal();
    }

    async fn send_all(self, node: Node, sender: u64) {
        let url = if self.world.one_in(2) { "tcp://owner:1/box" } else { "udp://owner:2/box" };
        let timeout = Duration::from_secs(if self.semantics == Semantics::Maybe { 3 } else { 20 });
        let config = SenderConfig { semantics: self.semantics, buffer: 3, timeout };
        let mailbox: Sender<Message> =
            node.group_sender([url], config).await.expect("a good address");
        for number in 0..MESSAGES {
            let message = (sender, number);
            lock(&self.notes).tally.messages += 1;
            if self.world.one_in(3) {
                let result = mailbox.send(&message).await;
                self.told(message, result);
            } else {
                let result = mailbox.post(&message).await;
                self.posted(&result);
            }
            if self.world.one_in(4) {
                tokio::time::sleep(self.world.time_up_to(Duration::from_millis(200))).await;
            }
        }
        let result = mailbox.flush().await;
        self.posted(&result);
    }

    fn told(&self, message: Message, result: Result<(), SendError>) {
        let mut notes = lock(&self.notes);
        let execution = match &result {
            Ok(()) => Execution::Executed,
            Err(error) => error.execution(),
        };
        match (&result, execution) {
            (Ok(()), _) => notes.tally.sent += 1,
            (_, Execution::NotExecuted) => notes.tally.not_executed += 1,
            _ => notes.tally.unknown += 1,
        }
        let excused = self.crashes || self.semantics == Semantics::Maybe;
        assert!(result.is_ok() || excused, "I4: {message:?} failed without cause: {result:?}");
        notes.told.push((message, execution));
    }

    fn posted(&self, result: &Result<(), SendError>) {
        match result {
            Ok(()) => {}
            Err(SendError::Lost { messages, first }) => {
                let excused = self.crashes || self.semantics == Semantics::Maybe;
                assert!(excused, "I4: {messages} were lost without cause: {first:?}");
                lock(&self.notes).tally.lost += messages;
            }
            Err(error) => panic!("a post says only what was lost: {error:?}"),
        }
    }

    /// After everything that was late.
    fn judge(&self) -> Tally {
        let mut notes = lock(&self.notes);
        let received = std::mem::take(&mut notes.received);
        let mut times = BTreeMap::<Message, u64>::new();
        let mut last = BTreeMap::<u64, u64>::new();
        for message in &received {
            let again = times.entry(*message).or_default();
            *again += 1;
            if *again > 1 {
                notes.tally.repeated += 1;
                assert_eq!(self.semantics, Semantics::AtLeastOnce, "I1: {message:?} came twice");
                continue;
            }
            let (sender, number) = *message;
            let before = last.insert(sender, number);
            assert!(before < Some(number), "order: {message:?} came after {before:?}");
        }
        for (message, execution) in std::mem::take(&mut notes.told) {
            let times = times.get(&message).copied().unwrap_or(0);
            match execution {
                Execution::Executed => assert!(times > 0, "I3: {message:?} was not received"),
                Execution::NotExecuted => assert_eq!(times, 0, "I2: {message:?} was received"),
                Execution::Unknown => {}
            }
        }
        notes.tally.received += times.len() as u64;
        if !self.crashes && self.semantics != Semantics::Maybe {
            assert_eq!(times.len() as u64, SENDERS * MESSAGES, "I4: not all were received");
        }
        notes.tally
    }
}

/// Nodes that send.
const SENDERS: u64 = 2;
/// Messages of each.
const MESSAGES: u64 = 10;
/// Things that happen to the links and to the owner.
const TROUBLES: usize = 4;
