//! One simulated run of references: objects that travel between a room and its guests, over links that lose, repeat, cut and
//! part, between processes that crash, and an oracle that knows who holds what.
//!
//! Whole nodes in virtual time. Each object notes when it is dropped; each holder notes what it holds, from before the one
//! moment to behind the other, so that an object that goes too early is seen, and one that stays for ever too (I11). Used by
//! the test `simulation_references`, and with planted bugs by `canaries`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farcall::sim::{Failure, Faults, Run, Sim, World};
use farcall::{CallError, Limits, Node, remote};

/// What is passed.
#[remote]
pub trait Token {
    /// Its number.
    async fn number(&self) -> u64;
}

/// What guests call. `stamp` is the caller's word for the session that it is in.
#[remote]
pub trait Room {
    /// Keeps a token.
    async fn keep(&self, stamp: Stamp, number: u64, token: TokenProxy);
    /// Keeps it, and may do so twice.
    #[remote(semantics = "at_least_once")]
    async fn keep_again(&self, stamp: Stamp, number: u64, token: TokenProxy);
    /// Calls it, and keeps nothing.
    #[remote(semantics = "maybe")]
    async fn show(&self, stamp: Stamp, number: u64, token: TokenProxy) -> bool;
    /// Calls a token that it keeps; nothing if it keeps none of this number.
    async fn call_kept(&self, number: u64) -> Option<bool>;
    /// Keeps it no more.
    async fn forget(&self, number: u64);
    /// Gives back what it keeps.
    #[remote(semantics = "at_least_once")]
    async fn give_back(&self, number: u64) -> Option<TokenProxy>;
    /// A token of the room's own.
    async fn make(&self, stamp: Stamp, number: u64) -> TokenProxy;
    /// The same, and may make two.
    #[remote(semantics = "at_least_once")]
    async fn make_again(&self, stamp: Stamp, number: u64) -> TokenProxy;
}

/// Which guest, and how often its session was lost for sure.
pub type Stamp = (u64, u64);

/// How often what happened, over many runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Tokens.
    pub tokens: u64,
    /// Those that were dropped by their nodes.
    pub dropped: u64,
    /// Passed and kept, or made and kept.
    pub kept: u64,
    /// Calls back, and calls of what the room made, that were answered.
    pub called: u64,
    /// Tokens that came home.
    pub home: u64,
    /// Calls that were given up or failed.
    pub failed: u64,
    /// Sessions that were lost for sure.
    pub lost: u64,
}

impl Tally {
    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Tally) {
        self.tokens += other.tokens;
        self.dropped += other.dropped;
        self.kept += other.kept;
        self.called += other.called;
        self.home += other.home;
        self.failed += other.failed;
        self.lost += other.lost;
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

/// What is true.
#[derive(Default)]
struct Truth {
    tokens: BTreeMap<u64, Fate>,
    /// Who holds which token, and in which session it came.
    holds: BTreeMap<(u64, Holder), Stamp>,
    /// How often the session of each guest was lost.
    lost: BTreeMap<u64, u64>,
    /// Guests whose session will not live, and whose next has not begun. A repeat of a lost datagram crosses a partition, so
    /// that something may still come in the session that dies.
    between: BTreeSet<u64>,
    /// How often which process was started.
    lives: BTreeMap<Process, u64>,
    /// Tokens that went while a call had them, and when: a call may have ended at that moment.
    suspects: BTreeMap<(u64, u64), Duration>,
    /// Virtual time.
    clock: Option<World>,
    broken: Vec<String>,
    tally: Tally,
}

struct Fate {
    owner: (Process, u64),
    dropped: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Process {
    Room,
    Guest(u64),
}

/// Something that must not lose its token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Holder {
    /// A call of this guest that is not finished.
    Call(u64),
    Kept(Process),
}

type Shared = Arc<Mutex<Truth>>;

impl Truth {
    fn stamp(&self, guest: u64) -> Stamp {
        (guest, self.lost.get(&guest).copied().unwrap_or(0))
    }

    /// Whether what came then came in a session that lives.
    fn is_current(&self, stamp: Stamp) -> bool {
        self.stamp(stamp.0) == stamp && !self.between.contains(&stamp.0)
    }

    fn is_alive(&self, (process, life): (Process, u64)) -> bool {
        self.lives.get(&process) == Some(&life)
    }

    /// Somebody holds it from now on.
    fn hold(&mut self, number: u64, holder: Holder, stamp: Stamp) {
        let dropped =
            self.tokens.get(&number).is_some_and(|fate| fate.dropped && self.is_alive(fate.owner));
        if dropped && self.is_current(stamp) {
            self.broken.push(format!("I11: token {number} was dropped before {holder:?} got it"));
        }
        self.holds.insert((number, holder), stamp);
    }

    fn release(&mut self, number: u64, holder: Holder) {
        self.holds.remove(&(number, holder));
    }

    fn holders(&self, number: u64) -> Vec<Holder> {
        let holds = |holder: Holder, stamp: Stamp| match holder {
            // An unfinished call holds its arguments, whether or not the session lives.
            Holder::Call(_) => self.stamp(stamp.0) == stamp,
            Holder::Kept(_) => self.is_current(stamp),
        };
        let of = self.holds.iter().filter(|((of, _), _)| *of == number);
        of.filter(|((_, holder), stamp)| holds(*holder, **stamp)).map(|((_, of), _)| *of).collect()
    }

    /// The session of a guest will not live: from now on, what was held through it may go.
    fn lose(&mut self, guest: u64) {
        *self.lost.entry(guest).or_default() += 1;
        self.between.insert(guest);
        self.tally.lost += 1;
    }

    /// It is gone, as all know.
    fn begin_anew(&mut self, guest: u64) {
        *self.lost.entry(guest).or_default() += 1;
        self.between.remove(&guest);
    }

    fn dropped(&mut self, number: u64) {
        let holders = self.holders(number);
        let Some(fate) = self.tokens.get_mut(&number) else { return };
        fate.dropped = true;
        let owner = fate.owner;
        if self.is_alive(owner) {
            self.tally.dropped += 1;
            let now = self.clock.as_ref().map_or(Duration::ZERO, World::elapsed);
            for holder in &holders {
                if let Holder::Call(guest) = holder {
                    self.suspects.insert((number, *guest), now);
                }
            }
            if holders.iter().any(|holder| matches!(holder, Holder::Kept(_))) {
                self.broken
                    .push(format!("I11: token {number} was dropped, and {holders:?} held it"));
            }
        }
    }
}

/// A token, as its owner has it.
struct Coin {
    number: u64,
    truth: Shared,
}

impl Coin {
    fn new(process: Process, number: u64, truth: &Shared) -> Coin {
        let mut all = lock(truth);
        let life = all.lives.get(&process).copied().unwrap_or(0);
        all.tokens.insert(number, Fate { owner: (process, life), dropped: false });
        all.tally.tokens += 1;
        Coin { number, truth: truth.clone() }
    }
}

#[remote]
impl Token for Coin {
    async fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Coin {
    fn drop(&mut self) {
        lock(&self.truth).dropped(self.number);
    }
}

/// The room's object.
struct Hall {
    node: Node,
    kept: Kept,
    truth: Shared,
    made: Arc<Mutex<u64>>,
}

impl Hall {
    fn put(&self, stamp: Stamp, number: u64, token: TokenProxy) {
        lock(&self.truth).hold(number, Holder::Kept(Process::Room), stamp);
        let before = lock(&self.kept).insert(number, token);
        drop(before);
    }

    fn mint(&self, number: u64) -> TokenProxy {
        let mut made = lock(&self.made);
        *made += 1;
        self.node.export(Coin::new(Process::Room, number + *made * 1_000_000, &self.truth))
    }
}

#[remote]
impl Room for Hall {
    async fn keep(&self, stamp: Stamp, number: u64, token: TokenProxy) {
        self.put(stamp, number, token);
    }
    async fn keep_again(&self, stamp: Stamp, number: u64, token: TokenProxy) {
        self.put(stamp, number, token);
    }
    async fn show(&self, _stamp: Stamp, number: u64, token: TokenProxy) -> bool {
        token.number().timeout(Duration::from_secs(1)).await.is_ok_and(|found| found == number)
    }
    async fn call_kept(&self, number: u64) -> Option<bool> {
        let token = lock(&self.kept).get(&number).cloned()?;
        let stamp = lock(&self.truth).holds.get(&(number, Holder::Kept(Process::Room))).copied()?;
        judge(&self.truth, number, stamp, token.number().timeout(Duration::from_secs(2)).await)
    }
    async fn forget(&self, number: u64) {
        lock(&self.truth).release(number, Holder::Kept(Process::Room));
        let token = lock(&self.kept).remove(&number);
        drop(token);
    }
    async fn give_back(&self, number: u64) -> Option<TokenProxy> {
        lock(&self.kept).get(&number).cloned()
    }
    async fn make(&self, _stamp: Stamp, number: u64) -> TokenProxy {
        self.mint(number)
    }
    async fn make_again(&self, _stamp: Stamp, number: u64) -> TokenProxy {
        self.mint(number)
    }
}

/// Whether a held token answered; one that is held must be there.
fn judge(
    truth: &Shared,
    number: u64,
    stamp: Stamp,
    answer: Result<u64, CallError>,
) -> Option<bool> {
    let mut truth = lock(truth);
    match answer {
        Ok(found) => {
            truth.tally.called += 1;
            if found % 1_000_000 != number % 1_000_000 {
                truth.broken.push(format!("token {number} answered as {found}"));
            }
            Some(true)
        }
        Err(CallError::NoSuchObject(_)) if truth.is_current(stamp) => {
            truth.broken.push(format!("I11: token {number} is held, and gone"));
            Some(false)
        }
        Err(_) => {
            truth.tally.failed += 1;
            Some(false)
        }
    }
}

/// What a room keeps.
type Kept = Arc<Mutex<BTreeMap<u64, TokenProxy>>>;

/// What all tasks of a run share.
#[derive(Clone)]
struct Scene {
    world: World,
    truth: Shared,
    guests: u64,
    crashes: bool,
    made: Arc<Mutex<u64>>,
    room: Arc<Mutex<Kept>>,
    /// The node of the room's present life.
    node: Arc<Mutex<Option<Node>>>,
}

impl Scene {
    fn new(world: World) -> Scene {
        let (guests, crashes) = (1 + world.below(2), !world.seed().is_multiple_of(3));
        let (truth, made, room) = (Shared::default(), Arc::default(), Arc::default());
        lock(&truth).clock = Some(world.clone());
        Scene { world, truth, guests, crashes, made, room, node: Arc::default() }
    }

    async fn run(self) -> Tally {
        self.open().await;
        let trouble = tokio::spawn(self.clone().make_trouble());
        let guests: Vec<_> =
            (0..self.guests).map(|guest| tokio::spawn(self.clone().visit(guest))).collect();
        trouble.await.expect("trouble does not panic");
        let mut left = Vec::new();
        for guest in guests {
            left.push(guest.await.expect("a guest does not panic"));
        }
        self.world.settle(SETTLED).await;
        // Over UDP a client says with its next call which calls it has given up.
        for guest in &left {
            guest.room.forget(u64::MAX).await.expect("a healthy network");
        }
        self.world.settle(SETTLED).await;
        self.check(false);
        // All is let go.
        let kept = std::mem::take(&mut *lock(&lock(&self.room)));
        lock(&self.truth).holds.clear();
        drop(kept);
        left.iter_mut().for_each(|guest| guest.tokens.clear());
        self.world.settle(SETTLED).await;
        self.check(true);
        let room = lock(&self.node).clone();
        for node in left.iter().map(|guest| &guest.node).chain(&room) {
            assert_eq!(node.references(), [], "I11: nobody holds anything");
        }
        lock(&self.truth).tally
    }

    /// What must be gone is gone, and nothing else.
    fn check(&self, all: bool) {
        let truth = lock(&self.truth);
        assert_eq!(truth.broken, Vec::<String>::new());
        for (number, fate) in &truth.tokens {
            // What came in a session that was lost meanwhile may have come in the next: it is let go below.
            let held = truth.holds.keys().any(|(of, _)| of == number);
            if truth.is_alive(fate.owner) && !fate.dropped && (all || !held) {
                let held = lock(&self.node).as_ref().map(Node::references);
                panic!("I11: token {number} of {:?} is held by nobody: {held:?}", fate.owner);
            }
        }
    }

    async fn open(&self) {
        lock(&self.truth).lives.entry(Process::Room).and_modify(|life| *life += 1).or_insert(1);
        let node = self.world.node("room").limits(limits()).start();
        let kept = Arc::new(Mutex::default());
        *lock(&self.room) = kept.clone();
        *lock(&self.node) = Some(node.clone());
        let (truth, made) = (self.truth.clone(), self.made.clone());
        let hall = Hall { node: node.clone(), kept, truth, made };
        node.registry().bind("room", hall).expect("a free name");
        node.listen("tcp://room:1").await.expect("a free port");
        node.listen("udp://room:2").await.expect("a free port");
    }

    async fn make_trouble(self) {
        let world = &self.world;
        for _ in 0..TROUBLES {
            tokio::time::sleep(world.time_up_to(Duration::from_millis(700))).await;
            let guest = world.below(self.guests);
            let host = format!("guest{guest}");
            match world.below(5) {
                0 | 1 => drop(world.cut("room", &host)),
                2 => {
                    world.partition("room", &host);
                    tokio::time::sleep(world.time_up_to(Duration::from_millis(400))).await;
                    world.heal();
                }
                3 if self.crashes && world.one_in(2) => {
                    // Long enough for the session to be gone, as all know.
                    world.partition("room", &host);
                    lock(&self.truth).lose(guest);
                    tokio::time::sleep(TTL * 3).await;
                    lock(&self.truth).begin_anew(guest);
                    world.heal();
                }
                4 if self.crashes => {
                    {
                        let mut truth = lock(&self.truth);
                        *truth.lives.entry(Process::Room).or_default() += 1;
                        (0..self.guests).for_each(|guest| truth.lose(guest));
                        truth.holds.retain(|(_, holder), _| *holder != Holder::Kept(Process::Room));
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

    async fn visit(self, guest: u64) -> Guest {
        lock(&self.truth).lives.insert(Process::Guest(guest), 1);
        let node = self.world.node(&format!("guest{guest}")).limits(limits()).start();
        let url = if (guest + self.world.seed()).is_multiple_of(2) {
            "tcp://room:1/room"
        } else {
            "udp://room:2/room"
        };
        let room: RoomProxy = node.proxy(url).expect("a good address");
        let mut guest = Guest { number: guest, node, room, tokens: BTreeMap::new(), scene: self };
        for step in 0..STEPS {
            tokio::time::sleep(guest.scene.world.time_up_to(Duration::from_millis(250))).await;
            guest.step(step).await;
        }
        guest
    }
}

/// A process that visits the room.
struct Guest {
    number: u64,
    node: Node,
    room: RoomProxy,
    /// Tokens that it has, with the session in which they came if they are the room's.
    tokens: BTreeMap<u64, (TokenProxy, Option<Stamp>)>,
    scene: Scene,
}

impl Guest {
    fn process(&self) -> Process {
        Process::Guest(self.number)
    }

    async fn step(&mut self, step: u64) {
        let world = self.scene.world.clone();
        let patience = if world.one_in(3) {
            world.time_up_to(Duration::from_millis(60)) + Duration::from_millis(1)
        } else {
            Duration::from_secs(20)
        };
        let new = self.number * 1000 + step;
        let known = self.tokens.keys().copied().nth(world.below(self.tokens.len() as u64) as usize);
        match (world.below(8), known) {
            (0, _) | (1, None) => self.pass_new(new, patience).await,
            (1, Some(known)) => self.pass(known, patience).await,
            (2 | 3, _) => self.get(new, patience).await,
            (4, Some(known)) => self.call(known).await,
            (5, Some(known)) => self.let_go(known),
            (6, _) => self.forget(step, patience).await,
            _ => self.look(step, patience).await,
        }
    }

    /// Passes a token that nobody has but the call.
    async fn pass_new(&mut self, number: u64, patience: Duration) {
        let coin = Coin::new(self.process(), number, &self.scene.truth);
        let token: TokenProxy = self.node.export(coin);
        if self.scene.world.one_in(2) {
            lock(&self.scene.truth).hold(number, Holder::Kept(self.process()), (self.number, 0));
            self.tokens.insert(number, (token.clone(), None));
            let stamp = (u64::MAX, 0);
            lock(&self.scene.truth).holds.insert((number, Holder::Kept(self.process())), stamp);
        }
        self.hand_over(number, token, patience).await;
    }

    async fn pass(&mut self, number: u64, patience: Duration) {
        let (token, came) = self.tokens[&number].clone();
        // What is the room's own is called there and no more.
        if came.is_none() {
            self.hand_over(number, token, patience).await;
        }
    }

    async fn hand_over(&self, number: u64, token: TokenProxy, patience: Duration) {
        let truth = &self.scene.truth;
        let stamp = lock(truth).stamp(self.number);
        // As long as the call is not finished; it is when the session is lost, before its caller looks.
        lock(truth).holds.insert((number, Holder::Call(self.number)), stamp);
        let outcome = match self.scene.world.below(4) {
            0 | 1 => self.room.keep(stamp, number, token).timeout(patience).await.is_ok(),
            2 => self.room.keep_again(stamp, number, token).timeout(patience).await.is_ok(),
            _ => {
                let shown = self
                    .room
                    .show(stamp, number, token)
                    .timeout(patience.min(Duration::from_secs(2)))
                    .await;
                let current = lock(truth).is_current(stamp);
                if let (Ok(false), true) = (&shown, current) {
                    // The call back may have failed on its way.
                    lock(truth).tally.failed += 1;
                }
                false
            }
        };
        let mut truth = lock(truth);
        truth.release(number, Holder::Call(self.number));
        let now = self.scene.world.elapsed();
        if truth.suspects.remove(&(number, self.number)).is_some_and(|gone| gone < now) {
            truth.broken.push(format!("I11: token {number} was dropped in the middle of a call"));
        }
        truth.tally.kept += u64::from(outcome);
    }

    /// Gets a token of the room's.
    async fn get(&mut self, number: u64, patience: Duration) {
        let stamp = lock(&self.scene.truth).stamp(self.number);
        let made = match self.scene.world.one_in(2) {
            true => self.room.make(stamp, number).timeout(patience).await,
            false => self.room.make_again(stamp, number).timeout(patience).await,
        };
        let Ok(token) = made else { return };
        let Ok(named) = token.number().timeout(Duration::from_secs(20)).await else { return };
        let mut truth = lock(&self.scene.truth);
        truth.hold(named, Holder::Kept(self.process()), stamp);
        truth.tally.kept += 1;
        drop(truth);
        self.tokens.insert(named, (token, Some(stamp)));
    }

    async fn call(&self, number: u64) {
        let (token, came) = self.tokens[&number].clone();
        let stamp = came.unwrap_or((u64::MAX, 0));
        judge(
            &self.scene.truth,
            number,
            stamp,
            token.number().timeout(Duration::from_secs(5)).await,
        );
    }

    fn let_go(&mut self, number: u64) {
        lock(&self.scene.truth).release(number, Holder::Kept(self.process()));
        self.tokens.remove(&number);
    }

    async fn forget(&self, step: u64, patience: Duration) {
        let number = self.number * 1000 + self.scene.world.below(step + 1);
        let _ = self.room.forget(number).timeout(patience).await;
    }

    /// Has the room call a token, or give it back.
    async fn look(&mut self, step: u64, patience: Duration) {
        let number = self.number * 1000 + self.scene.world.below(step + 1);
        if self.scene.world.one_in(2) {
            let _ = self.room.call_kept(number).timeout(patience).await;
            return;
        }
        let Ok(Some(token)) = self.room.give_back(number).timeout(patience).await else { return };
        if self.node.object_of(&token).is_some() {
            lock(&self.scene.truth).tally.home += 1;
            let found = token.number().await.expect("it is at home");
            assert_eq!(found, number);
        }
    }
}

fn limits() -> Limits {
    Limits {
        session_ttl: TTL,
        ping_interval: Duration::from_millis(500),
        reconnect_max: Duration::from_millis(200),
        handshake_timeout: Duration::from_secs(1),
        ..Limits::default()
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

const STEPS: u64 = 14;
const TROUBLES: u64 = 5;
/// How long a session lives without a link; longer than all that happens to links by chance.
const TTL: Duration = Duration::from_secs(5);
/// After that, leases have ended, and what was asked was answered.
const SETTLED: Duration = Duration::from_secs(12);
