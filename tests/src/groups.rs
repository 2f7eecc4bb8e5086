//! One simulated run of a group: members that crash and come back, join and leave, and an oracle that knows what ran.
//!
//! Whole nodes in virtual time. Each execution is noted by its member and the call's own number; each entry that a caller
//! got is held against these notes, at once and again after everything that was late has arrived. Used by the test
//! `simulation_groups`, and with planted bugs by `canaries`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farcall::sim::{Failure, Faults, Run, Sim, World};
use farcall::{
    CallError, Discovery, Execution, Gather, Group as _, GroupCall, Limits, Member, Node, Outcome,
    Replies, Reply, remote,
};
use serde::{Deserialize, Serialize};

/// What the members serve. Each method says who answers, in which life, and whom.
#[remote]
pub trait Desk {
    /// Runs at most once.
    async fn book(&self, id: u64, pause_ms: u64) -> Result<Answer, Full>;

    /// Runs again when it is asked again.
    #[remote(semantics = "at_least_once")]
    async fn look(&self, id: u64, pause_ms: u64) -> Result<Answer, Full>;

    /// Is sent once.
    #[remote(semantics = "maybe")]
    async fn hint(&self, id: u64, pause_ms: u64) -> Result<Answer, Full>;
}

/// Which run of which member answered which call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// The member's number.
    pub desk: u64,
    /// Which of its lives.
    pub life: u64,
    /// The call.
    pub id: u64,
}

/// The desk's own error.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
#[error("the desk is full")]
pub struct Full;

/// How often what happened, over many runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Calls to the group.
    pub calls: u64,
    /// Those whose policy was met.
    pub met: u64,
    /// Those whose policy could not be met any more.
    pub unmet: u64,
    /// Entries with a result.
    pub answers: u64,
    /// Results that did not count: refused by the filter, or from an object that had answered.
    pub refused: u64,
    /// Second answers of one object among them.
    pub aliases: u64,
    /// Entries of members that were not waited for.
    pub silent: u64,
    /// Those that ran all the same.
    pub silent_ran: u64,
    /// Entries of calls that a restart made Unknown.
    pub restarted: u64,
    /// Entries that said NotExecuted.
    pub not_executed: u64,
    /// Members that joined or left.
    pub changes: u64,
    /// Runs whose calls leave in one datagram for all members.
    pub bundled: u64,
    /// Calls that a broadcast is not for.
    pub not_for_broadcast: u64,
}

impl Tally {
    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Tally) {
        self.calls += other.calls;
        self.met += other.met;
        self.unmet += other.unmet;
        self.answers += other.answers;
        self.refused += other.refused;
        self.aliases += other.aliases;
        self.silent += other.silent;
        self.silent_ran += other.silent_ran;
        self.restarted += other.restarted;
        self.not_executed += other.not_executed;
        self.changes += other.changes;
        self.bundled += other.bundled;
        self.not_for_broadcast += other.not_for_broadcast;
    }
}

/// Runs the seed.
///
/// # Errors
/// What was broken.
pub fn run(seed: u64) -> Result<Run<Tally>, Box<Failure>> {
    let lose_one_in = [0, 50, 10][(seed / 3 % 3) as usize];
    let faults = Faults { lose_one_in, ..Faults::rough() };
    Sim::new(seed)
        .faults(faults)
        .replay("cargo test -p farcall-tests --test simulation_groups")
        .try_run(async |world| Scene::new(world).run().await)
}

/// What all tasks of a run share.
#[derive(Clone)]
struct Scene {
    world: World,
    reach: Reach,
    desks: u64,
    crashes: bool,
    changes: bool,
    notes: Arc<Mutex<Notes>>,
}

/// How the members are reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    /// Each by its own address.
    Unicast,
    /// Found at a multicast group, and called by datagrams to it.
    Multicast,
    /// The same with a broadcast address.
    Broadcast,
}

#[derive(Default)]
struct Notes {
    /// How often which desk ran which call. Outlives the desk, as a disk would.
    runs: BTreeMap<(u64, u64), u64>,
    lives: BTreeMap<u64, u64>,
    /// What callers were told of at-most-once calls: looked at again at the end.
    told: Vec<(u64, u64, Execution)>,
    tally: Tally,
}

/// A member's object.
struct Clerk {
    desk: u64,
    life: u64,
    notes: Arc<Mutex<Notes>>,
}

impl Clerk {
    async fn serve(&self, id: u64, pause_ms: u64) -> Result<Answer, Full> {
        *lock(&self.notes).runs.entry((self.desk, id)).or_default() += 1;
        if pause_ms > 0 && (id + self.desk).is_multiple_of(3) {
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
        if is_full(self.desk, id) {
            return Err(Full);
        }
        Ok(Answer { desk: self.desk, life: self.life, id })
    }
}

/// Whether the desk answers the call with its own error.
fn is_full(desk: u64, id: u64) -> bool {
    (id * 7 + desk).is_multiple_of(5)
}

#[remote]
impl Desk for Clerk {
    async fn book(&self, id: u64, pause_ms: u64) -> Result<Answer, Full> {
        self.serve(id, pause_ms).await
    }

    async fn look(&self, id: u64, pause_ms: u64) -> Result<Answer, Full> {
        self.serve(id, pause_ms).await
    }

    async fn hint(&self, id: u64, pause_ms: u64) -> Result<Answer, Full> {
        self.serve(id, pause_ms).await
    }
}

/// One call to the group, as the oracle knows it.
struct Asked {
    id: u64,
    method: Method,
    policy: Policy,
    filtered: bool,
    called: Vec<Member>,
    present: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Method {
    Book,
    Look,
    Hint,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Policy {
    All,
    First,
    Majority,
    Quorum(usize),
    Until,
    Nobody,
}

impl Scene {
    fn new(world: World) -> Scene {
        let (desks, kind) = (3 + world.below(3), world.seed() % 3);
        // A quarter of the runs, and a quarter of these.
        let reach = match (world.seed() % 4, world.seed() / 4 % 4) {
            (3, 3) => Reach::Broadcast,
            (3, _) => Reach::Multicast,
            _ => Reach::Unicast,
        };
        Scene { world, reach, desks, crashes: kind > 0, changes: kind > 1, notes: Arc::default() }
    }

    async fn run(self) -> Tally {
        for desk in 0..self.desks {
            self.start(desk).await;
        }
        let client = self.world.node("client").limits(limits()).start();
        let group = self.group(&client).await;
        // A second way to the first desk.
        if self.world.one_in(2) {
            let other = if self.url(0) == TCP(0) { UDP(0) } else { TCP(0) };
            group.add(&other).expect("a good address");
        }
        let trouble = tokio::spawn(self.clone().make_trouble(group.clone()));
        let callers = (0..CALLERS).map(|caller| {
            let (scene, group) = (self.clone(), group.clone());
            tokio::spawn(async move { scene.make_calls(&group, caller * 100).await })
        });
        let callers: Vec<_> = callers.collect();
        trouble.await.expect("trouble does not panic");
        for caller in callers {
            match tokio::time::timeout(Duration::from_secs(120), caller).await {
                Ok(ended) => ended.expect("a caller holds"),
                Err(_) => panic!("I14: a call to the group does not end on a healthy network"),
            }
        }
        self.world.settle(Duration::from_secs(3)).await;
        self.look_back()
    }

    /// The group: all desks, or those that were found on a network that loses questions and answers.
    async fn group(&self, client: &Node) -> DeskGroup {
        let settings = Discovery { wait: Duration::from_secs(1), ..Discovery::default() };
        let group = match self.reach {
            Reach::Unicast => client.group((0..self.desks).map(|desk| self.url(desk))).await,
            Reach::Multicast => client.multicast_with(format!("{MULTICAST}/desk"), &settings).await,
            Reach::Broadcast => client.broadcast_with(format!("{BROADCAST}/desk"), &settings).await,
        };
        lock(&self.notes).tally.bundled += u64::from(self.reach != Reach::Unicast);
        group.expect("good addresses")
    }

    /// A desk's URL: every other one over UDP; that by which it is found, if it is.
    fn url(&self, desk: u64) -> String {
        match self.reach {
            Reach::Unicast if (desk + self.world.seed()).is_multiple_of(2) => TCP(desk),
            Reach::Unicast => UDP(desk),
            Reach::Multicast | Reach::Broadcast => FOUND(desk),
        }
    }

    async fn start(&self, desk: u64) {
        let life = {
            let mut notes = lock(&self.notes);
            let life = notes.lives.entry(desk).or_default();
            *life += 1;
            *life
        };
        let node = self.world.node(&format!("desk{desk}")).limits(limits()).start();
        let clerk = Clerk { desk, life, notes: self.notes.clone() };
        node.registry().bind("desk", clerk).expect("a free name");
        for at in [format!("tcp://desk{desk}:1"), format!("udp://desk{desk}:2")] {
            node.listen(&at).await.expect("a free port");
        }
        let settings = Discovery::default();
        for at in [MULTICAST, BROADCAST] {
            if self.reach != Reach::Unicast {
                node.announce_with(at, &settings).await.expect("it has not joined before");
            }
        }
    }

    async fn make_trouble(self, group: DeskGroup) {
        let world = &self.world;
        for _ in 0..TROUBLES {
            tokio::time::sleep(world.time_up_to(Duration::from_millis(400))).await;
            let desk = world.below(self.desks);
            let host = format!("desk{desk}");
            let away = world.time_up_to(Duration::from_millis(800));
            match world.below(5) {
                0 => drop(world.cut("client", &host)),
                1 => {
                    world.partition("client", &host);
                    tokio::time::sleep(away).await;
                    world.heal();
                }
                2 if self.changes => {
                    self.change(&group, desk);
                }
                _ if self.crashes => {
                    match world.one_in(3) {
                        true => world.power_off(&host),
                        false => world.crash(&host),
                    }
                    tokio::time::sleep(away / 2).await;
                    self.start(desk).await;
                }
                _ => {}
            }
        }
        world.set_faults(Faults::none());
        world.heal();
    }

    /// A member leaves, or one joins.
    fn change(&self, group: &DeskGroup, desk: u64) {
        let members = group.members();
        let url = self.url(desk);
        match members.iter().find(|member| member.to_string() == url) {
            Some(member) => assert!(group.remove(member), "it was a member"),
            None => drop(group.add(&url).expect("a good address")),
        }
        lock(&self.notes).tally.changes += 1;
    }

    async fn make_calls(&self, group: &DeskGroup, first: u64) {
        for number in 0..CALLS {
            tokio::time::sleep(self.world.time_up_to(Duration::from_millis(200))).await;
            self.make_call(group, first + number).await;
        }
    }

    async fn make_call(&self, group: &DeskGroup, id: u64) {
        let world = &self.world;
        let pause = if world.one_in(2) { world.below(200) } else { 0 };
        let method =
            [Method::Book, Method::Book, Method::Look, Method::Hint][world.below(4) as usize];
        let members = group.members();
        let call = match method {
            Method::Book => group.book(id, pause),
            Method::Look => group.look(id, pause),
            Method::Hint => group.hint(id, pause),
        };
        let long = Duration::from_secs(if method == Method::Hint { 2 } else { 20 });
        let patience =
            if world.one_in(2) { world.time_up_to(Duration::from_millis(600)) } else { long };
        let mut call = call.timeout(patience);
        let mut called = members.clone();
        if world.one_in(3) && !called.is_empty() {
            let excluded = called.remove(world.below(called.len() as u64) as usize);
            call = call.exclude(&excluded);
        }
        let filtered = world.one_in(3);
        if filtered {
            call = call.accept(|_, answer: &Answer| passes(answer));
        }
        if world.one_in(3) {
            call = call.cancel_rest();
        }
        let policy = match world.below(6) {
            0 => Policy::All,
            1 => Policy::First,
            2 => Policy::Majority,
            3 => Policy::Quorum(1 + world.below(called.len() as u64 + 1) as usize),
            4 => Policy::Until,
            _ => Policy::Nobody,
        };
        let asked = Asked { id, method, policy, filtered, called, present: members.len() };
        let gather = policy.of(call, patience);
        let replies = if world.one_in(2) { gather.await } else { streamed(gather).await };
        if self.reach == Reach::Broadcast && method == Method::Book {
            return self.judge_refused(&asked, replies);
        }
        self.judge(&asked, replies);
    }

    /// A broadcast may be repeated by the network: it is for no method that must not run twice.
    fn judge_refused(&self, asked: &Asked, replies: Replies<Answer, Full>) {
        let mut notes = lock(&self.notes);
        notes.tally.calls += 1;
        notes.tally.not_for_broadcast += 1;
        for reply in replies {
            let refused = matches!(reply.result, Err(CallError::NotForBroadcast { .. }));
            // What was to be sent to more members than there are was not begun.
            let silent = matches!(reply.result, Err(CallError::Silent { .. }));
            assert!(refused || silent, "a broadcast carries call {}: {:?}", asked.id, reply.result);
            let told = reply.result.map_or_else(|error| error.execution(), |_| Execution::Executed);
            assert_eq!(told, Execution::NotExecuted, "of what was refused");
            notes.told.push((desk_of(&reply.member), asked.id, told));
        }
    }

    /// I13: holds what the caller got against what ran, as far as that is decided now.
    fn judge(&self, asked: &Asked, replies: Replies<Answer, Full>) {
        let mut notes = lock(&self.notes);
        notes.tally.calls += 1;
        let outcome = replies.outcome().cloned().expect("it is over");
        let entries: Vec<Reply<Answer, Full>> = replies.into_iter().collect();
        let have: BTreeSet<String> = entries.iter().map(|reply| reply.member.to_string()).collect();
        let want: BTreeSet<String> = asked.called.iter().map(Member::to_string).collect();
        assert_eq!(have, want, "I13: call {}: the entries are not those of the members", asked.id);
        assert_eq!(entries.len(), want.len(), "I13: call {}: a member has two entries", asked.id);
        let mut voters = BTreeSet::new();
        for reply in &entries {
            notes.judge_entry(asked, reply, &mut voters);
        }
        let (count, wanted) = (voters.len(), asked.policy.wanted(asked));
        match outcome {
            Outcome::Met => {
                notes.tally.met += 1;
                let enough = wanted.is_none_or(|wanted| count >= wanted);
                assert!(enough, "I13: {:?} is met by {count} executions", asked.policy);
            }
            Outcome::Unmet(unmet) => {
                notes.tally.unmet += 1;
                let wanted = wanted.expect("what asks for nothing is met");
                assert!(count < wanted, "I13: {:?} is not met by {count} answers", asked.policy);
                let hopeless = unmet.accepted + unmet.open < wanted;
                assert!(hopeless, "I13: {:?} gave up too early: {unmet}", asked.policy);
                assert_eq!(unmet.accepted, count, "I13: {unmet}");
            }
            _ => panic!("I13: another outcome"),
        }
    }

    /// After everything that was late: what was said of executions is still true.
    fn look_back(&self) -> Tally {
        let mut notes = lock(&self.notes);
        for (desk, id, execution) in std::mem::take(&mut notes.told) {
            let runs = notes.runs.get(&(desk, id)).copied().unwrap_or(0);
            assert!(runs <= 1, "I1: desk {desk} ran call {id} {runs} times");
            assert!(
                execution != Execution::NotExecuted || runs == 0,
                "I2: call {id} ran at desk {desk} after its caller was told that it never will"
            );
        }
        notes.tally
    }
}

impl Notes {
    fn judge_entry(
        &mut self,
        asked: &Asked,
        reply: &Reply<Answer, Full>,
        voters: &mut BTreeSet<(u64, u64)>,
    ) {
        let (desk, id) = (desk_of(&reply.member), asked.id);
        let runs = self.runs.get(&(desk, id)).copied().unwrap_or(0);
        // Two URLs of one desk are two calls of it.
        let ways = asked.called.iter().filter(|member| desk_of(member) == desk).count();
        if ways == 1 && asked.method == Method::Book {
            let told =
                reply.result.as_ref().map_or_else(CallError::execution, |_| Execution::Executed);
            self.told.push((desk, id, told));
        }
        match &reply.result {
            Ok(answer) => {
                self.tally.answers += 1;
                assert_eq!((answer.desk, answer.id), (desk, id), "I3: another's answer");
                assert!(runs >= 1, "I3: an answer without a run");
                let voted = reply.accepted && voters.insert((answer.desk, answer.life));
                assert_eq!(reply.accepted, voted, "I13: one object has two votes");
                let passed = !asked.filtered || passes(answer);
                assert!(passed || !reply.accepted, "I13: the filter refused what counts");
                self.tally.refused += u64::from(!reply.accepted);
                self.tally.aliases += u64::from(!reply.accepted && passed);
                assert!(
                    reply.accepted || !passed || ways > 1,
                    "I13: an answer that passes does not count"
                );
            }
            Err(error) => {
                assert!(!reply.accepted, "I13: a failure counts: {error}");
                self.judge_error(asked, desk, runs, error);
            }
        }
    }

    fn judge_error(&mut self, asked: &Asked, desk: u64, runs: u64, error: &CallError<Full>) {
        match error {
            CallError::Method(Full) => {
                assert!(is_full(desk, asked.id) && runs >= 1, "I3: an error without a run");
            }
            CallError::Silent { .. } => {
                self.tally.silent += 1;
                self.tally.silent_ran += u64::from(runs > 0);
                let waits = matches!(asked.policy, Policy::All | Policy::Until);
                assert!(!waits, "I13: {:?} did not wait for desk {desk}", asked.policy);
            }
            CallError::ServerRestarted => self.tally.restarted += 1,
            _ => {}
        }
        if error.execution() == Execution::NotExecuted {
            self.tally.not_executed += 1;
        }
    }
}

impl Policy {
    fn of<A: Serialize>(
        self,
        call: GroupCall<A, Answer, Full>,
        patience: Duration,
    ) -> Gather<A, Answer, Full> {
        match self {
            Policy::All => call.all(),
            Policy::First => call.first(),
            Policy::Majority => call.majority(),
            Policy::Quorum(count) => call.quorum(count),
            Policy::Until => call.until(tokio::time::Instant::now() + patience),
            Policy::Nobody => call.none(),
        }
    }

    /// How many different objects must have run it; nothing if it asks for none.
    fn wanted(self, asked: &Asked) -> Option<usize> {
        match self {
            Policy::All => Some(asked.called.len()),
            Policy::First => Some(1),
            Policy::Majority => Some(asked.present / 2 + 1),
            Policy::Quorum(count) => Some(count),
            Policy::Until | Policy::Nobody => None,
        }
    }
}

/// The replies, taken one by one as they come, and put together again.
async fn streamed<A: Serialize>(gather: Gather<A, Answer, Full>) -> Replies<Answer, Full> {
    gather.start().await.finish().await
}

fn passes(answer: &Answer) -> bool {
    !(answer.id + answer.desk).is_multiple_of(4)
}

/// A desk as it answers who seeks: hosts have their numbers in the order in which they were first started.
const FOUND: fn(u64) -> String = |desk| format!("udp://10.0.0.{desk}:2/desk");
const TCP: fn(u64) -> String = |desk| format!("tcp://desk{desk}:1/desk");
const UDP: fn(u64) -> String = |desk| format!("udp://desk{desk}:2/desk");

fn desk_of(member: &Member) -> u64 {
    let url = member.to_string();
    let host = url.split("//").nth(1).and_then(|rest| rest.split(':').next()).unwrap_or_default();
    let digits = host.strip_prefix("desk").or_else(|| host.strip_prefix("10.0.0."));
    digits.and_then(|digits| digits.parse().ok()).expect("the URLs of this scene")
}

/// Limits under which seconds are long.
pub(crate) fn limits() -> Limits {
    let second = Duration::from_secs(1);
    Limits {
        ping_interval: second,
        handshake_timeout: second,
        progress_timeout: second,
        reconnect_max: Duration::from_millis(200),
        session_ttl: Duration::from_secs(20),
        ack_solicit: second,
        ..Limits::default()
    }
}

/// The value, whoever panicked with it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tasks that call at the same time.
const CALLERS: u64 = 2;
/// Where desks are found.
const MULTICAST: &str = "udp://239.255.42.1:7400";
const BROADCAST: &str = "udp://10.255.255.255:7401";
/// Calls of each.
const CALLS: u64 = 3;
/// Things that happen to the members.
const TROUBLES: usize = 4;
