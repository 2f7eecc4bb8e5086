//! One simulated run of references: objects that travel between a room and its guests, over links that lose, repeat, cut and
//! part, between processes that crash, and an oracle that knows who holds what.
//!
//! Whole nodes in virtual time. Each object notes when it is dropped, and when it is told that no peer holds it; each holder
//! notes what it holds, from before the one moment to behind the other, and each call what it carries until it is finished.
//! So an object that goes too early is seen, and one that stays for ever too (I11). Used by the test
//! `simulation_references`, and with planted bugs by `canaries`.

mod guest;
mod hall;
mod truth;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use farcall::sim::{Failure, Faults, Run, Sim, World};
use farcall::{Limits, Node};

use guest::{Guest, host};
use hall::{Hall, Kept};
pub use hall::{Room, RoomProxy, Token, TokenProxy};
use truth::{Fate, Holder, Shared, Truth, lock};

/// How often what happened, over many runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Tokens.
    pub tokens: u64,
    /// Those that were dropped by their nodes.
    pub dropped: u64,
    /// How often one was told that no peer holds it any more.
    pub told: u64,
    /// Passed, or made and passed.
    pub passed: u64,
    /// Calls back, and calls of what the room made, that were answered.
    pub called: u64,
    /// Tokens that came home.
    pub home: u64,
    /// Calls that were given up or failed.
    pub failed: u64,
    /// Sessions that were lost for sure.
    pub lost: u64,
    /// Guests that crashed.
    pub crashed: u64,
}

impl Tally {
    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Tally) {
        self.tokens += other.tokens;
        self.dropped += other.dropped;
        self.told += other.told;
        self.passed += other.passed;
        self.called += other.called;
        self.home += other.home;
        self.failed += other.failed;
        self.lost += other.lost;
        self.crashed += other.crashed;
    }
}

/// Runs the seed.
///
/// # Errors
/// What was broken.
pub fn run(seed: u64) -> Result<Run<Tally>, Box<Failure>> {
    let lose_one_in = [0, 50, 10][(seed / 3 % 3) as usize];
    let faults = if seed.is_multiple_of(4) {
        Faults::none()
    } else {
        Faults { lose_one_in, ..Faults::rough() }
    };
    Sim::new(seed)
        .faults(faults)
        .replay("cargo test -p farcall-tests --test simulation_references")
        .try_run(async |world| Scene::new(world).run().await)
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Process {
    Room,
    Guest(u64),
}

/// What all tasks of a run share.
#[derive(Clone)]
struct Scene {
    world: World,
    truth: Shared,
    guests: u64,
    crashes: bool,
    /// How long a session lives without a link.
    ttl: Duration,
    /// Calls that may be in flight: where there are few, what is to be given back waits.
    window: usize,
    /// Longest pause between two steps of a guest.
    pause: Duration,
    /// What the room's present life keeps, and its node.
    room: Arc<Mutex<Kept>>,
    node: Arc<Mutex<Option<Node>>>,
}

impl Scene {
    fn new(world: World) -> Scene {
        // Two guests disturb each other; most that can go wrong goes wrong with one.
        let guests = 1 + u64::from(world.one_in(4));
        let crashes = !world.seed().is_multiple_of(3);
        let ttl = if world.one_in(2) { LONG_TTL } else { SHORT_TTL };
        // What is held for long was asked about before it is given back.
        let pause = Duration::from_millis(if world.one_in(2) { 700 } else { 100 });
        let window =
            if world.one_in(3) { 2 + world.below(2) as usize } else { Limits::default().window };
        let truth = Arc::new(Mutex::new(Truth::new(&world)));
        Scene {
            world,
            truth,
            guests,
            crashes,
            ttl,
            pause,
            window,
            room: Arc::default(),
            node: Arc::default(),
        }
    }

    async fn run(self) -> Tally {
        self.open().await;
        let (steps, troubles) = (8 + self.world.below(10), self.world.below(6));
        let trouble = tokio::spawn(self.clone().make_trouble(troubles));
        let guests: Vec<_> = (0..self.guests)
            .map(|guest| tokio::spawn(Guest::visit(self.clone(), guest, steps)))
            .collect();
        trouble.await.expect("trouble does not panic");
        let mut left = Vec::new();
        for guest in guests {
            left.push(guest.await.expect("a guest does not panic"));
        }
        self.world.settle(RECOVERED).await;
        // Over UDP a client says with its next call which calls it has given up.
        for guest in &left {
            guest.room.forget(u64::MAX).await.expect("a healthy network");
        }
        self.settle(|| self.wrong(false)).await;
        // All is let go.
        self.let_go();
        lock(&self.truth).let_all_go();
        left.iter().for_each(|guest| drop(std::mem::take(&mut *lock(&guest.tokens))));
        let room = lock(&self.node).clone();
        let nodes: Vec<&Node> = left.iter().map(|guest| &guest.node).chain(&room).collect();
        self.settle(|| self.wrong(true).or_else(|| held(&nodes))).await;
        lock(&self.truth).tally
    }

    /// Lets time pass until nothing is wrong any more, or for so long that it never will be right. Some runs take all that
    /// time, so that what goes late is seen as well.
    async fn settle(&self, wrong: impl Fn() -> Option<String>) {
        let most = settled(self.ttl);
        let (all, mut waited) = (self.world.one_in(4), Duration::ZERO);
        while waited < most && (all || wrong().is_some()) {
            self.world.settle(A_MOMENT).await;
            waited += A_MOMENT;
        }
        if let Some(wrong) = wrong() {
            panic!("I11: {wrong}");
        }
    }

    /// What must be gone and is not, or must not be and is; at the end all is, and was told so.
    fn wrong(&self, all: bool) -> Option<String> {
        let truth = lock(&self.truth);
        if !truth.broken.is_empty() {
            return Some(truth.broken.join("; "));
        }
        truth.tokens.iter().find_map(|(number, fate)| {
            let Fate { owner, dropped, left, arrived, told } = *fate;
            let least = u64::from(arrived);
            if !truth.is_alive(owner) {
                None
            } else if dropped {
                let right = (least..=left).contains(&told);
                (!right).then(|| format!("token {number} left {left} times, and was told {told}"))
            } else {
                // What came in a session that was lost meanwhile may have come in the next: it is let go at the end.
                let held = !all && truth.is_held(*number);
                (!held).then(|| format!("token {number} of {owner:?} is held by nobody"))
            }
        })
    }

    async fn open(&self) {
        lock(&self.truth).begin(Process::Room);
        let node = self.world.node("room").limits(limits(self)).start();
        let kept = Kept::default();
        *lock(&self.room) = kept.clone();
        *lock(&self.node) = Some(node.clone());
        let (truth, world) = (self.truth.clone(), self.world.clone());
        let hall = Hall { node: node.clone(), kept, truth, world };
        node.registry().bind("room", hall).expect("a free name");
        node.listen("tcp://room:1").await.expect("a free port");
        node.listen("udp://room:2").await.expect("a free port");
    }

    async fn make_trouble(self, troubles: u64) {
        let world = &self.world;
        for _ in 0..troubles {
            tokio::time::sleep(world.time_up_to(self.pause * 3)).await;
            let guest = world.below(self.guests);
            match world.below(8) {
                0..=2 => drop(world.cut("room", &host(guest))),
                3 => {
                    world.partition("room", &host(guest));
                    tokio::time::sleep(world.time_up_to(Duration::from_millis(400))).await;
                    world.heal();
                }
                4 | 5 if self.ttl > SHORT_TTL || self.crashes && world.one_in(3) => {
                    self.part_for_long(guest).await;
                }
                6 if self.crashes => {
                    {
                        let mut truth = lock(&self.truth);
                        truth.begin(Process::Room);
                        (0..self.guests).for_each(|guest| truth.lose(guest));
                    }
                    world.crash("room");
                    tokio::time::sleep(world.time_up_to(Duration::from_millis(300))).await;
                    self.open().await;
                    let mut truth = lock(&self.truth);
                    (0..self.guests).for_each(|guest| truth.begin_anew(guest));
                }
                _ => {}
            }
        }
        world.set_faults(Faults::none());
        world.heal();
    }

    /// The room lets go what it keeps.
    fn let_go(&self) {
        let kept = std::mem::take(&mut *lock(&lock(&self.room)));
        let mut truth = lock(&self.truth);
        kept.keys().for_each(|number| truth.release(*number, Holder::Kept(Process::Room)));
        drop(truth);
        drop(kept);
    }

    /// Longer than anybody waits for an answer: the session must not go then; or it is gone, as all know; or it may be.
    async fn part_for_long(&self, guest: u64) {
        let world = &self.world;
        let some = world.time_up_to(Duration::from_secs(2));
        world.partition("room", &host(guest));
        if world.one_in(2) {
            self.let_go();
        }
        if self.ttl > SHORT_TTL {
            tokio::time::sleep(SHORT_TTL + some).await;
            world.heal();
            // Two of them would be as long as its lease.
            tokio::time::sleep(RECOVERED).await;
            return;
        }
        lock(&self.truth).lose(guest);
        let longer = if world.one_in(2) { self.ttl * 2 } else { some };
        tokio::time::sleep(self.ttl + longer).await;
        lock(&self.truth).begin_anew(guest);
        world.heal();
    }
}

fn limits(scene: &Scene) -> Limits {
    Limits {
        session_ttl: scene.ttl,
        window: scene.window,
        ping_interval: Duration::from_millis(500),
        reconnect_max: Duration::from_millis(200),
        handshake_timeout: Duration::from_secs(1),
        ..Limits::default()
    }
}

/// What nodes hold, when nobody holds anything.
fn held(nodes: &[&Node]) -> Option<String> {
    let held: Vec<_> = nodes.iter().flat_map(|node| node.references()).collect();
    (!held.is_empty()).then(|| format!("nobody holds {held:?}"))
}

/// How long a session lives without a link; longer than all that happens to links by chance.
const SHORT_TTL: Duration = Duration::from_secs(5);
/// The same, longer than all partitions.
const LONG_TTL: Duration = Duration::from_secs(12);
/// After that, there are links again.
const RECOVERED: Duration = Duration::from_secs(3);
const A_MOMENT: Duration = Duration::from_secs(1);
/// After more than two lives of a session leases have ended, and what was asked was answered.
fn settled(ttl: Duration) -> Duration {
    ttl * 2 + Duration::from_secs(2)
}
