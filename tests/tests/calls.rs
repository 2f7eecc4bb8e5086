//! Every way to make a call and to wait for it, over TCP on loopback: what section by section the documentation of
//! `Call`, `Pending` and `Proxy` promises.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farcall::blocking::ShutdownError;
use farcall::{CallError, Execution, Listening, MethodError, Node, Proxy as _, remote};
use farcall_tests::service::{Log, WorkProxy, Worker, order};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// An account, with one method for each thing that a call can be asked to do.
#[remote]
pub trait Account {
    /// Adds `cents` and returns the new balance.
    async fn deposit(&self, cents: u64) -> Result<u64, Frozen>;

    /// The balance in cents.
    #[remote(semantics = "at_least_once")]
    async fn balance(&self) -> u64;

    /// Answers when the account is thawed.
    async fn settled(&self) -> u64;

    /// As `settled`, with a deadline of its own.
    #[remote(timeout = "40ms")]
    async fn settled_soon(&self) -> u64;

    /// Adds `cents`, and nobody is told.
    #[remote(semantics = "maybe", oneway)]
    async fn tip(&self, cents: u64);

    /// The name of the thread that runs it; always in a task of its own.
    #[remote(spawn)]
    async fn audit(&self) -> bool;

    /// The balance of another account.
    async fn balance_of(&self, url: String) -> Result<u64, Frozen>;
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("the account is frozen")]
/// No money moves.
pub struct Frozen;

impl MethodError for Frozen {}

#[derive(Default)]
struct Memory {
    cents: AtomicU64,
    thawed: watch::Sender<bool>,
    asked: Notify,
    tipped: Notify,
}

#[remote]
impl Account for Memory {
    async fn deposit(&self, cents: u64) -> Result<u64, Frozen> {
        if cents == 0 {
            return Err(Frozen);
        }
        Ok(self.cents.fetch_add(cents, Ordering::Relaxed) + cents)
    }

    async fn balance(&self) -> u64 {
        self.cents.load(Ordering::Relaxed)
    }

    async fn settled(&self) -> u64 {
        self.asked.notify_one();
        let _ = self.thawed.subscribe().wait_for(|thawed| *thawed).await;
        self.cents.load(Ordering::Relaxed)
    }

    async fn settled_soon(&self) -> u64 {
        let _ = self.thawed.subscribe().wait_for(|thawed| *thawed).await;
        self.cents.load(Ordering::Relaxed)
    }

    async fn tip(&self, cents: u64) {
        self.cents.fetch_add(cents, Ordering::Relaxed);
        self.tipped.notify_one();
    }

    async fn audit(&self) -> bool {
        tokio::task::try_id().is_some()
    }

    async fn balance_of(&self, url: String) -> Result<u64, CallError<Frozen>> {
        let other: AccountProxy = farcall::connect(url).await?;
        Ok(other.balance().timeout(Duration::from_secs(1)).await?)
    }
}

async fn account() -> (Listening, AccountProxy, Arc<Memory>) {
    let memory = Arc::new(Memory::default());
    let server =
        farcall::serve("tcp://127.0.0.1:0", "alice", memory.clone()).await.expect("a port");
    let alice = farcall::connect(server.url("alice")).await.expect("it is bound");
    (server, alice, memory)
}

fn deadline_passed<T, E>(outcome: Result<T, CallError<E>>) -> Execution {
    match outcome {
        Err(CallError::DeadlineExceeded { execution, .. }) => execution,
        Err(other) => other.execution(),
        Ok(_) => panic!("an answer without anybody having answered"),
    }
}

#[tokio::test]
async fn await_gives_the_result_or_the_methods_own_error() {
    let (_server, alice, _) = account().await;
    assert_eq!(alice.deposit(500).await.expect("it is answered"), 500);
    assert!(matches!(alice.deposit(0).await, Err(CallError::Method(Frozen))));
    assert_eq!(alice.balance().await.expect("it is answered"), 500);
}

#[tokio::test]
async fn calls_are_futures_that_can_be_spawned_and_joined() {
    let (_server, alice, _) = account().await;
    let spawned = tokio::spawn(alice.deposit(1));
    let (one, two) = tokio::join!(alice.deposit(10), alice.deposit(100));
    one.and(two).expect("both are answered");
    spawned.await.expect("no panic").expect("it is answered");
    assert_eq!(alice.balance().await.expect("it is answered"), 111);
}

#[tokio::test]
async fn a_call_that_is_never_awaited_does_nothing() {
    let (_server, alice, _) = account().await;
    #[allow(unused_must_use, reason = "this is the fact")]
    {
        alice.deposit(7);
    }
    assert_eq!(alice.balance().await.expect("it is answered"), 0);
}

#[test]
fn a_plain_thread_blocks_for_the_answer() {
    let server = farcall::blocking::serve("tcp://127.0.0.1:0", "alice", Memory::default());
    let server = server.expect("a port");
    let alice: AccountProxy = farcall::blocking::connect(server.url("alice")).expect("bound");
    assert_eq!(alice.deposit(500).blocking().expect("it is answered"), 500);
    assert!(matches!(alice.deposit(0).blocking(), Err(CallError::Method(Frozen))));
    let pending = alice.settled().try_start().expect("room");
    assert!(matches!(pending.cancel().wait(), Err(CallError::Cancelled { .. })));
    farcall::blocking::shutdown(alice.node(), Duration::from_secs(5)).expect("nothing is left");
    // The method that was given up still runs there, though its session is closed.
    let left = farcall::blocking::shutdown(server.node(), Duration::from_millis(20));
    let Err(ShutdownError::Unfinished(left)) = left else { panic!("{left:?}") };
    assert_eq!(left.handlers, 1);
}

#[tokio::test]
async fn spawn_blocking_may_block_and_a_task_is_told_that_it_may_not() {
    let (_server, alice, _) = account().await;
    let clone = alice.clone();
    let blocked = tokio::task::spawn_blocking(move || clone.deposit(5).blocking()).await;
    assert_eq!(blocked.expect("no panic").expect("it is answered"), 5);
    let refused = alice.deposit(6).blocking();
    let Err(error @ CallError::BlockingInAsync { .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(error.execution(), Execution::NotExecuted);
    assert!(error.to_string().contains(".await"));
    let connected = farcall::blocking::connect::<AccountProxy>("tcp://127.0.0.1:1/alice");
    assert!(matches!(connected, Err(CallError::BlockingInAsync { .. })));
    let mut pending = alice.settled().start().await.expect("room");
    let waited = pending.wait_for(Duration::from_secs(1));
    assert!(matches!(waited, Some(Err(CallError::BlockingInAsync { .. }))));
    assert!(matches!(pending.wait(), Err(CallError::BlockingInAsync { .. })));
    assert_eq!(alice.balance().await.expect("it is answered"), 5);
}

#[tokio::test]
async fn a_started_call_is_collected_later() {
    let (_server, alice, memory) = account().await;
    let mut pending = alice.settled().start().await.expect("room");
    memory.asked.notified().await;
    assert!(pending.try_take().is_none());
    let waited = tokio::task::spawn_blocking(move || {
        let nothing = pending.wait_for(Duration::from_millis(5)).is_none();
        (nothing, pending)
    });
    let (nothing, pending) = waited.await.expect("no panic");
    assert!(nothing);
    memory.thawed.send_replace(true);
    let waited = tokio::task::spawn_blocking(move || pending.wait()).await;
    assert_eq!(waited.expect("no panic").expect("it is answered"), 0);
    let mut pending = alice.deposit(3).try_start().expect("room");
    assert_eq!((&mut pending).await.expect("it is answered"), 3);
    assert!(pending.try_take().is_none(), "an answer is taken once");
}

#[tokio::test]
async fn a_detached_call_runs_and_a_shutdown_waits_for_it() {
    let (server, alice, memory) = account().await;
    alice.deposit(9).start().await.expect("room").detach();
    alice.tip(1).await.expect("it left");
    alice.node().shutdown(Duration::from_secs(5)).await.expect("all has left");
    memory.tipped.notified().await;
    let other: AccountProxy = farcall::connect(server.url("alice")).await.expect("it is bound");
    assert_eq!(other.balance().await.expect("it is answered"), 10);
    let after = alice.deposit(1).await;
    assert!(matches!(after, Err(CallError::Closed { execution: Execution::NotExecuted })));
}

#[tokio::test]
async fn deadlines_count_from_the_narrowest_that_was_set() {
    let (_server, alice, memory) = account().await;
    let began = Instant::now();
    let short = Duration::from_millis(40);
    let long = Duration::from_secs(60);
    // The call's own, over the proxy's.
    let patient = alice.with_timeout(long);
    assert_eq!(deadline_passed(patient.settled().timeout(short).await), Execution::Unknown);
    // The call's own, as a moment.
    let outcome = patient.settled().deadline(Instant::now() + short).await;
    assert_eq!(deadline_passed(outcome), Execution::Unknown);
    // The proxy's, over the method's.
    assert_eq!(deadline_passed(alice.with_timeout(short).settled().await), Execution::Unknown);
    // The method's, over the node's.
    assert_eq!(deadline_passed(alice.settled_soon().await), Execution::Unknown);
    assert!(began.elapsed() < Duration::from_secs(20));
    // Over the method's again: it is answered when the account thaws, far behind 40 ms.
    let waiting = patient.settled_soon().start().await.expect("room");
    assert!(tokio::time::timeout(2 * short, alice.settled()).await.is_err());
    memory.thawed.send_replace(true);
    waiting.await.expect("it is answered");
}

#[tokio::test]
async fn a_deadline_that_has_passed_sends_nothing() {
    let (_server, alice, _) = account().await;
    let outcome = alice.deposit(1).timeout(Duration::ZERO).await;
    assert_eq!(deadline_passed(outcome), Execution::NotExecuted);
    let outcome = alice.deposit(1).deadline(Instant::now()).await;
    assert_eq!(deadline_passed(outcome), Execution::NotExecuted);
    assert_eq!(alice.balance().await.expect("it is answered"), 0);
}

#[tokio::test]
async fn several_objects_share_one_port_and_one_connection() {
    let node = Node::builder().build();
    node.registry().bind("alice", Memory::default()).expect("free");
    node.registry().bind("bob", Memory::default()).expect("free");
    let server = node.listen("tcp://127.0.0.1:0").await.expect("a port");
    let client = Node::builder().build();
    let alice: AccountProxy = client.lookup(server.url("alice")).await.expect("bound");
    let bob: AccountProxy = client.lookup(server.url("bob")).await.expect("bound");
    alice.deposit(1).await.expect("it is answered");
    bob.deposit(2).await.expect("it is answered");
    assert_eq!(alice.balance().await.expect("it is answered"), 1);
    assert_eq!(bob.balance().await.expect("it is answered"), 2);
    assert_eq!(client.statistics().connections, 1);
}

#[tokio::test]
async fn a_method_with_spawn_and_a_oneway_method_run() {
    let (_server, alice, memory) = account().await;
    assert!(alice.audit().await.expect("it is answered"));
    alice.tip(4).await.expect("it left");
    memory.tipped.notified().await;
    assert_eq!(alice.balance().await.expect("it is answered"), 4);
    assert!(alice.tip(1).try_start().expect("room").try_take().is_some());
}

/// A test double: a plain implementation of the trait.
struct Rich;

#[remote]
impl Account for Rich {
    async fn deposit(&self, _cents: u64) -> Result<u64, Frozen> {
        Ok(u64::MAX)
    }
    async fn balance(&self) -> u64 {
        u64::MAX
    }
    async fn settled(&self) -> u64 {
        u64::MAX
    }
    async fn settled_soon(&self) -> u64 {
        u64::MAX
    }
    async fn tip(&self, _cents: u64) {}
    async fn audit(&self) -> bool {
        true
    }
    async fn balance_of(&self, _url: String) -> Result<u64, Frozen> {
        Err(Frozen)
    }
}

#[tokio::test]
async fn a_local_object_a_proxy_and_a_double_are_one_type() {
    let (_server, alice, memory) = account().await;
    let accounts: [Arc<dyn Account>; 3] = [memory, Arc::new(alice), Arc::new(Rich)];
    let mut balances = Vec::new();
    for account in &accounts {
        account.deposit(2).await.expect("it is answered");
        balances.push(account.balance().await.expect("it is answered"));
    }
    assert_eq!(balances, [2, 4, u64::MAX]);
}

/// Passes calls on; what a program writes to serve a proxy under a name of its own.
struct Forwarder(AccountProxy);

#[remote]
impl Account for Forwarder {
    async fn deposit(&self, cents: u64) -> Result<u64, CallError<Frozen>> {
        self.0.deposit(cents).await
    }
    async fn balance(&self) -> Result<u64, CallError> {
        self.0.balance().await
    }
    async fn settled(&self) -> Result<u64, CallError> {
        self.0.settled().await
    }
    async fn settled_soon(&self) -> Result<u64, CallError> {
        self.0.settled_soon().await
    }
    async fn tip(&self, cents: u64) -> Result<(), CallError> {
        self.0.tip(cents).await
    }
    async fn audit(&self) -> Result<bool, CallError> {
        self.0.audit().await
    }
    async fn balance_of(&self, url: String) -> Result<u64, CallError<Frozen>> {
        self.0.balance_of(url).await
    }
}

#[tokio::test]
async fn calls_can_be_forwarded_and_own_errors_pass() {
    let (_server, alice, _) = account().await;
    let front = farcall::serve("tcp://127.0.0.1:0", "front", Forwarder(alice)).await;
    let front = front.expect("a port");
    let through: AccountProxy = farcall::connect(front.url("front")).await.expect("bound");
    assert_eq!(through.deposit(3).await.expect("it is answered"), 3);
    assert!(matches!(through.deposit(0).await, Err(CallError::Method(Frozen))));
}

#[tokio::test]
async fn a_proxy_can_be_bound_as_an_object() {
    let (_server, alice, _) = account().await;
    let front = farcall::serve("tcp://127.0.0.1:0", "front", alice).await.expect("a port");
    let through: AccountProxy = farcall::connect(front.url("front")).await.expect("bound");
    assert_eq!(through.deposit(3).await.expect("it is answered"), 3);
    assert!(matches!(through.deposit(0).await, Err(CallError::Method(Frozen))));
}

#[tokio::test]
async fn a_nested_call_that_fails_is_seen_as_a_failure_within() {
    let (server, alice, _) = account().await;
    assert_eq!(alice.deposit(8).await.expect("it is answered"), 8);
    let url = server.url("alice").to_string();
    assert_eq!(alice.balance_of(url).await.expect("it is answered"), 8);
    // Not as its own "no such object", which would say that the outer method never ran.
    let outcome = alice.balance_of(server.url("nobody").to_string()).await;
    let Err(error @ CallError::FailedWithin { .. }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(error.execution(), Execution::Executed);
    assert!(error.to_string().contains("nobody"), "{error}");
}

#[tokio::test]
async fn dropping_a_started_call_cancels_it_and_frees_its_place() {
    let limits = farcall::Limits { window: 1, ..farcall::Limits::default() };
    let (server, _, memory) = account().await;
    let node = Node::builder().limits(limits).build();
    let alice: AccountProxy = node.lookup(server.url("alice")).await.expect("bound");
    for _ in 0..20 {
        let pending = alice.settled().start().await.expect("room");
        memory.asked.notified().await;
        drop(pending);
    }
    assert_eq!(alice.deposit(1).await.expect("its place is free"), 1);
}

#[tokio::test]
async fn connections_that_look_again_before_they_sleep_answer_over_both_transports() {
    let limits =
        || farcall::Limits { busy_poll: Duration::from_millis(2), ..farcall::Limits::default() };
    let (_server, _, memory) = account().await;
    let node = Node::builder().limits(limits()).build();
    node.registry().bind("alice", memory).expect("the name is free");
    for address in ["tcp://127.0.0.1:0", "udp://127.0.0.1:0"] {
        let listening = node.listen(address).await.expect("a port");
        let caller = Node::builder().limits(limits()).build();
        let alice: AccountProxy = caller.lookup(listening.url("alice")).await.expect("bound");
        for _ in 0..100 {
            alice.deposit(1).await.expect("answered");
        }
        caller.shutdown(Duration::from_secs(5)).await.expect("nothing is under way");
    }
}

/// Found by reading: a call at home that was awaited ran before one without an answer that was made earlier.
#[tokio::test]
async fn at_home_an_awaited_call_is_behind_a_oneway_call() {
    let (node, log) = (Node::builder().build(), Log::new());
    node.registry().bind("work", Worker::new(&log)).expect("a free name");
    let work: WorkProxy = node.own("work").expect("a runtime");
    // The node's link to itself is up from here on.
    let first = work.at_most_once(order(1)).start().await.expect("it is sent");
    first.await.expect("answered");
    for id in 2..5 {
        work.note(id).await.expect("it is sent");
        work.at_most_once(order(10 + id)).await.expect("answered");
        assert_eq!(log.runs(id), 1, "the one that was made before");
    }
}
