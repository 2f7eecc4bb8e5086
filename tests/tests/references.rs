//! Objects as arguments and results: what is passed, who holds it, and how it is called back, over every transport.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use farcall::{CallError, Execution, Limits, Listening, Node, Unreferenced, remote};
use serde::{Deserialize, Serialize};

/// Counts.
#[remote]
pub trait Counter {
    /// One more.
    async fn add(&self, by: u64) -> u64;
}

/// Something else.
#[remote]
pub trait Other {
    /// Does nothing.
    async fn other(&self);
}

/// References in other values.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Shape {
    /// None.
    Plain(u8),
    /// One.
    One {
        /// It.
        first: CounterProxy,
        /// What it is called.
        name: String,
    },
    /// Some.
    Many(Vec<Option<CounterProxy>>),
}

/// The error of a method can carry one too.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Instead(CounterProxy);

/// Takes, keeps and gives counters.
#[remote]
pub trait Shelf {
    /// Calls the counter back, before it answers.
    async fn use_now(&self, counter: CounterProxy, by: u64) -> u64;
    /// Keeps it.
    async fn keep(&self, counter: CounterProxy);
    /// Calls what is kept.
    async fn use_kept(&self, by: u64) -> Result<u64, CallError>;
    /// Forgets what is kept.
    async fn forget(&self);
    /// Gives back what is kept.
    async fn give_back(&self) -> Option<CounterProxy>;
    /// A counter of its own.
    async fn make(&self) -> CounterProxy;
    /// The same.
    async fn make_in(&self, plain: bool) -> Shape;
    /// An error that is one.
    async fn fail(&self) -> Result<u64, Instead>;
    /// Calls all that are in it.
    async fn use_all(&self, shape: Shape) -> u64;
    /// Is called while it calls.
    async fn enter(&self, depth: u64, shelf: ShelfProxy) -> u64;
    /// Takes one of another interface.
    async fn take_other(&self, other: OtherProxy);
    /// Sent and forgotten.
    #[remote(oneway)]
    async fn throw(&self, counter: CounterProxy);
}

#[derive(Default)]
struct Tally {
    count: AtomicUsize,
    unreferenced: AtomicUsize,
    dropped: Arc<AtomicUsize>,
}

#[remote]
impl Counter for Tally {
    async fn add(&self, by: u64) -> u64 {
        self.count.fetch_add(by as usize, Ordering::SeqCst) as u64 + by
    }
}

impl Unreferenced for Tally {
    fn unreferenced(&self) {
        self.unreferenced.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

struct Cupboard {
    node: Node,
    kept: Mutex<Option<CounterProxy>>,
    made: Arc<AtomicUsize>,
}

impl Cupboard {
    fn tally(&self) -> CounterProxy {
        let dropped = self.made.clone();
        self.node.export(Tally { count: 0.into(), unreferenced: 0.into(), dropped })
    }
}

#[remote]
impl Shelf for Cupboard {
    async fn use_now(&self, counter: CounterProxy, by: u64) -> u64 {
        counter.add(by).await.unwrap_or(u64::MAX)
    }
    async fn keep(&self, counter: CounterProxy) {
        *self.kept.lock().expect("no panic") = Some(counter);
    }
    async fn use_kept(&self, by: u64) -> Result<u64, CallError> {
        let kept = self.kept.lock().expect("no panic").clone();
        match kept {
            Some(counter) => counter.add(by).timeout(Duration::from_secs(2)).await,
            None => Ok(0),
        }
    }
    async fn forget(&self) {
        *self.kept.lock().expect("no panic") = None;
    }
    async fn give_back(&self) -> Option<CounterProxy> {
        self.kept.lock().expect("no panic").take()
    }
    async fn make(&self) -> CounterProxy {
        self.tally()
    }
    async fn make_in(&self, plain: bool) -> Shape {
        if plain { Shape::Plain(7) } else { Shape::One { first: self.tally(), name: "one".into() } }
    }
    async fn fail(&self) -> Result<u64, Instead> {
        Err(Instead(self.tally()))
    }
    async fn use_all(&self, shape: Shape) -> u64 {
        match shape {
            Shape::Plain(byte) => u64::from(byte),
            Shape::One { first, .. } => first.add(1).await.unwrap_or(u64::MAX),
            Shape::Many(all) => {
                let mut sum = 0;
                for counter in all.into_iter().flatten() {
                    sum += counter.add(1).await.unwrap_or(1000);
                }
                sum
            }
        }
    }
    async fn enter(&self, depth: u64, shelf: ShelfProxy) -> u64 {
        if depth == 0 {
            return 0;
        }
        let own: ShelfProxy = self.node.export(Cupboard::of(&self.node));
        shelf.enter(depth - 1, own).await.map_or(u64::MAX, |below| below + 1)
    }
    async fn take_other(&self, other: OtherProxy) {
        let _ = other;
    }
    async fn throw(&self, counter: CounterProxy) {
        let _ = counter.add(1).await;
    }
}

impl Cupboard {
    fn of(node: &Node) -> Cupboard {
        Cupboard { node: node.clone(), kept: Mutex::default(), made: Arc::default() }
    }
}

struct Both {
    server: Listening,
    made: Arc<AtomicUsize>,
    client: Node,
    shelf: ShelfProxy,
}

fn limits() -> Limits {
    Limits { ping_interval: Duration::from_millis(200), ..Limits::default() }
}

async fn both_with(scheme: &str, limits: Limits) -> Both {
    let server = Node::builder().limits(limits.clone()).build();
    let shelf = Cupboard::of(&server);
    let made = shelf.made.clone();
    server.registry().bind("shelf", shelf).expect("a free name");
    server.registry().bind("confused", served::Taker).expect("a free name");
    let url = match scheme {
        "mem" => format!("mem://references-{}", uuid()),
        scheme => format!("{scheme}://127.0.0.1:0"),
    };
    let server = server.listen(&*url).await.expect("a free port");
    let client = Node::builder().limits(limits).build();
    let shelf = client.lookup(server.url("shelf")).await.expect("a shelf");
    Both { server, made, client, shelf }
}

async fn both(scheme: &str) -> Both {
    both_with(scheme, limits()).await
}

fn uuid() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::SeqCst)
}

/// Waits until something holds; it does soon, or the test fails.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 10 s: {what}");
}

const SCHEMES: [&str; 3] = ["tcp", "udp", "mem"];

#[tokio::test]
async fn the_server_calls_back_while_the_client_waits() {
    for scheme in SCHEMES {
        let both = both(scheme).await;
        let tally = Arc::new(Tally::default());
        let counter: CounterProxy = both.client.export(tally.clone());
        assert_eq!(both.shelf.use_now(counter.clone(), 5).await.expect(scheme), 5, "{scheme}");
        assert_eq!(both.shelf.use_now(counter, 5).await.expect(scheme), 10, "{scheme}");
        assert_eq!(tally.count.load(Ordering::SeqCst), 10, "{scheme}");
    }
}

#[tokio::test]
async fn a_result_is_called_and_collected_when_its_last_proxy_is_gone() {
    for scheme in SCHEMES {
        let both = both(scheme).await;
        let counter = both.shelf.make().await.expect(scheme);
        let second = counter.clone();
        assert_eq!(counter.add(1).await.expect(scheme), 1, "{scheme}");
        drop(counter);
        assert_eq!(second.add(1).await.expect(scheme), 2, "{scheme}");
        assert_eq!(both.made.load(Ordering::SeqCst), 0, "{scheme}");
        drop(second);
        until(scheme, || both.made.load(Ordering::SeqCst) == 1).await;
        until(scheme, || both.server.node().references().is_empty()).await;
    }
}

#[tokio::test]
async fn a_kept_argument_lives_until_it_is_forgotten() {
    for scheme in SCHEMES {
        let both = both(scheme).await;
        let tally = Arc::new(Tally::default());
        let counter: CounterProxy = both.client.export_watched(tally.clone());
        both.shelf.keep(counter.clone()).await.expect(scheme);
        drop(counter);
        assert_eq!(both.shelf.use_kept(3).await.expect(scheme), 3, "{scheme}");
        assert_eq!(tally.unreferenced.load(Ordering::SeqCst), 0, "{scheme}");
        both.shelf.forget().await.expect(scheme);
        until(scheme, || tally.unreferenced.load(Ordering::SeqCst) == 1).await;
        until(scheme, || Arc::strong_count(&tally) == 1).await;
    }
}

#[tokio::test]
async fn an_object_that_comes_home_is_called_there() {
    for scheme in SCHEMES {
        // What a server held that is gone is free after twice this.
        let limits = Limits { session_ttl: Duration::from_millis(300), ..limits() };
        let both = both_with(scheme, limits).await;
        let tally = Arc::new(Tally::default());
        let counter: CounterProxy = both.client.export(tally.clone());
        both.shelf.keep(counter).await.expect(scheme);
        let home = both.shelf.give_back().await.expect(scheme).expect("it was kept");
        let object = both.client.object_of(&home).expect("it is this node's");
        assert_eq!(object.add(1).await.expect(scheme), 1);
        both.server.shutdown(Duration::ZERO).await.ok();
        assert_eq!(home.add(1).await.expect("no connection is needed"), 2, "{scheme}");
        drop((home, object));
        until(scheme, || Arc::strong_count(&tally) == 1).await;
    }
}

/// Says how it was called.
#[remote]
pub trait Watcher {
    /// Who called, and how much time is left.
    async fn called_by(&self) -> (String, Option<Duration>);
    /// Waits until nobody waits any more, or for ever.
    async fn wait(&self, hears: bool);
    /// Panics.
    async fn fail(&self);
    /// Calls itself so often.
    async fn deeper(&self, depth: u64, itself: WatcherProxy) -> u64;
    /// Gives back a counter that it was given.
    async fn pass(&self, counter: CounterProxy) -> CounterProxy;
    /// Its answer may not be so long.
    #[remote(max_reply = 8)]
    async fn long(&self) -> String;
}

#[derive(Default)]
struct Watching {
    heard: AtomicUsize,
    began: tokio::sync::Notify,
    goes_on: tokio::sync::Notify,
    stack: Mutex<Vec<usize>>,
}

#[inline(never)]
fn place_on_the_stack() -> usize {
    let here = 0_u8;
    std::hint::black_box(&raw const here) as usize
}

#[remote]
impl Watcher for Watching {
    async fn called_by(&self) -> (String, Option<Duration>) {
        let context = farcall::Context::current().expect("a call is served");
        (context.caller().node.to_string(), context.deadline_left())
    }
    async fn wait(&self, hears: bool) {
        let context = farcall::Context::current().expect("a call is served");
        self.began.notify_one();
        if !hears {
            std::future::pending::<()>().await;
        }
        context.cancellation().cancelled().await;
        // It is not stopped by force.
        self.goes_on.notified().await;
        self.heard.fetch_add(1, Ordering::SeqCst);
    }
    async fn fail(&self) {
        panic!("told to");
    }
    async fn deeper(&self, depth: u64, itself: WatcherProxy) -> u64 {
        self.stack.lock().expect("no panic").push(place_on_the_stack());
        if depth == 0 {
            return 0;
        }
        itself.deeper(depth - 1, itself.clone()).await.map_or(u64::MAX, |below| below + 1)
    }
    async fn pass(&self, counter: CounterProxy) -> CounterProxy {
        counter
    }
    async fn long(&self) -> String {
        "longer than that".into()
    }
}

#[tokio::test]
async fn a_call_at_home_needs_no_link_and_is_a_call_like_others() {
    let node = Node::builder().build();
    let object = Arc::new(Watching::default());
    node.registry().bind("named", object.clone()).expect("a free name");
    let named: WatcherProxy = node.own("named").expect("a runtime");
    for home in [node.export(object.clone()), named] {
        let (caller, left) = home.called_by().timeout(Duration::from_secs(9)).await.expect("home");
        assert_eq!(caller, node.id().to_string());
        assert!(left.is_some_and(|left| left <= Duration::from_secs(9)), "{left:?}");
        let tally: CounterProxy = node.export(Tally::default());
        let back = home.pass(tally.clone()).await.expect("it is passed");
        assert_eq!(back.add(2).await.expect("the same"), 2);
        assert_eq!(tally.add(2).await.expect("the same"), 4);
        let error = home.fail().await.expect_err("it panics");
        assert!(matches!(error, CallError::Panicked { .. }), "{error:?}");
        let error = home.long().await.expect_err("its answer is too long");
        assert_eq!(error.execution(), Execution::Executed, "{error:?}");
    }
    let statistics = node.statistics();
    assert_eq!((statistics.connections, statistics.running), (0, 0));
    assert_eq!(statistics.calls, 12);
    // Deeper than a stack should be, the rest goes over the link of the node to itself.
    let home: WatcherProxy = node.export(object.clone());
    let mut stacks = [10, 200].map(|depth| (depth, 0));
    for (depth, stack) in &mut stacks {
        object.stack.lock().expect("no panic").clear();
        assert_eq!(home.deeper(*depth, home.clone()).await.expect("home"), *depth);
        let places = object.stack.lock().expect("no panic");
        *stack = places.iter().max().unwrap_or(&0) - places.iter().min().unwrap_or(&0);
    }
    assert!(stacks[1].1 < 3 * stacks[0].1, "as deep as sixteen at most: {stacks:?}");
    node.registry().unbind("named").expect("bound");
    let named: WatcherProxy = node.own("named").expect("a runtime");
    let error = named.fail().await.expect_err("nothing is bound");
    assert!(matches!(error, CallError::NoSuchObject(_)), "{error:?}");
}

#[tokio::test]
async fn who_gives_a_call_at_home_up_stops_nothing_by_force() {
    let node = Node::builder().build();
    let object = Arc::new(Watching::default());
    let home: WatcherProxy = node.export(object.clone());
    let heard = |times| {
        object.goes_on.notify_one();
        let object = object.clone();
        move || object.heard.load(Ordering::SeqCst) == times
    };
    let error = home.wait(true).timeout(Duration::from_millis(20)).await.expect_err("too slow");
    let CallError::DeadlineExceeded { started: true, execution, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(execution, Execution::Unknown);
    until("it heard of the deadline", heard(1)).await;
    object.began.notified().await;
    tokio::select! {
        biased;
        ended = home.wait(true) => panic!("{ended:?}"),
        () = object.began.notified() => {}
    }
    until("it heard that nobody waits", heard(2)).await;
    let (ended, ()) = tokio::join!(home.wait(false), async {
        object.began.notified().await;
        node.shutdown(Duration::from_millis(20)).await.expect_err("it goes on");
    });
    let error = ended.expect_err("the node was shut down");
    assert!(matches!(error, CallError::Closed { execution: Execution::Unknown }), "{error:?}");
    let error = home.fail().await.expect_err("nothing begins any more");
    assert_eq!(error.execution(), Execution::NotExecuted, "{error:?}");
}

#[tokio::test]
async fn references_travel_in_structs_vectors_enums_and_errors() {
    let both = both("tcp").await;
    let counter: CounterProxy = both.client.export(Tally::default());
    let one = Shape::One { first: counter.clone(), name: "x".into() };
    assert_eq!(both.shelf.use_all(one).await.expect("it is called"), 1);
    let many = Shape::Many(vec![Some(counter.clone()), None, Some(counter.clone())]);
    assert_eq!(both.shelf.use_all(many).await.expect("both are called"), 5);
    assert_eq!(both.shelf.use_all(Shape::Plain(9)).await.expect("none is called"), 9);
    assert!(matches!(both.shelf.make_in(true).await, Ok(Shape::Plain(7))));
    let Ok(Shape::One { first, name }) = both.shelf.make_in(false).await else { panic!("one") };
    assert_eq!((first.add(4).await.expect("it is called"), &*name), (4, "one"));
    let Err(CallError::Method(Instead(instead))) = both.shelf.fail().await else { panic!("error") };
    assert_eq!(instead.add(2).await.expect("it is called"), 2);
}

#[tokio::test]
async fn calls_enter_each_other_across_a_connection() {
    for scheme in SCHEMES {
        let both = both(scheme).await;
        let own: ShelfProxy = both.client.export(Cupboard::of(&both.client));
        assert_eq!(both.shelf.enter(8, own).await.expect(scheme), 8, "{scheme}");
    }
}

#[tokio::test]
async fn a_reference_to_another_interface_fails_its_call_alone() {
    for scheme in SCHEMES {
        let both = both(scheme).await;
        let counter: CounterProxy = both.client.export(Tally::default());
        // The same bytes, with another type on this side.
        let shelf: ConfusedProxy = farcall::Proxy::node(&both.shelf)
            .lookup(both.server.url("confused"))
            .await
            .expect(scheme);
        let error = shelf.take_other(counter.clone()).await.expect_err("another interface");
        assert!(matches!(error, CallError::BadArguments(_)), "{error}");
        assert!(error.to_string().contains("Other"), "{error}");
        assert_eq!(error.execution(), Execution::NotExecuted);
        assert_eq!(both.shelf.use_now(counter, 1).await.expect("the connection lives"), 1);
    }
}

/// What the client of the test above believes the server to be.
mod confused {
    use super::CounterProxy;
    use farcall::remote;

    /// As the server's, by its name.
    #[remote]
    pub trait Confused {
        /// The server has another type of that name.
        async fn take_other(&self, other: CounterProxy);
    }
}
use confused::ConfusedProxy;

mod served {
    use super::OtherProxy as CounterProxy;
    use farcall::remote;

    /// What is served.
    #[remote]
    pub trait Confused {
        /// It takes something else under that name.
        async fn take_other(&self, other: CounterProxy);
    }

    /// Takes nothing.
    pub(crate) struct Taker;

    #[remote]
    impl Confused for Taker {
        async fn take_other(&self, other: CounterProxy) {
            let _ = other;
        }
    }
}

#[tokio::test]
async fn a_third_node_is_called_through_the_one_in_between() {
    let owner = both("tcp").await;
    let keeper = both("udp").await;
    // The client of the first is the client of the second, by a node of its own.
    let middle = &keeper.client;
    let shelf: ShelfProxy = middle.lookup(owner.server.url("shelf")).await.expect("a shelf");
    let made = shelf.make().await.expect("a counter of the first server");
    keeper.shelf.keep(made.clone()).await.expect("it is passed on");
    assert_eq!(keeper.shelf.use_kept(2).await.expect("through the node in between"), 2);
    drop(made);
    assert_eq!(keeper.shelf.use_kept(2).await.expect("it is held still"), 4);
    owner.server.shutdown(Duration::ZERO).await.ok();
    let error = keeper.shelf.use_kept(1).await.expect_err("its node is gone");
    assert!(error.to_string().contains("behind the node"), "{error}");
    keeper.shelf.forget().await.expect("it is forgotten");
    until("the third node's reference is gone", || middle.references().is_empty()).await;
}

#[tokio::test]
async fn a_reference_to_a_name_survives_the_server() {
    let first = Node::builder().build();
    first.registry().bind("shelf", Named(first.clone())).expect("a free name");
    first.registry().bind("counter", Tally::default()).expect("a free name");
    let here = first.listen("tcp://127.0.0.1:0").await.expect("a free port");
    let client = Node::builder().build();
    let shelf: GiverProxy = client.lookup(here.url("shelf")).await.expect("a shelf");
    let counter = shelf.named().await.expect("a reference");
    assert_eq!(counter.add(3).await.expect("the first run"), 3);
    let address = here.addr().to_string();
    first.shutdown(Duration::from_secs(1)).await.ok();
    let second = Node::builder().build();
    second.registry().bind("counter", Tally::default()).expect("a free name");
    second.listen(&*address).await.expect("the same port");
    assert_eq!(counter.add(4).await.expect("the second run"), 4);
}

/// Gives what has a name.
#[remote]
pub trait Giver {
    /// A counter with a name.
    async fn named(&self) -> CounterProxy;
}

struct Named(Node);

#[remote]
impl Giver for Named {
    async fn named(&self) -> CounterProxy {
        self.0.own("counter").expect("a proxy of its own")
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_collected_and_its_objects_are_gone() {
    let limits = Limits { session_ttl: Duration::from_millis(300), ..limits() };
    let both = both_with("tcp", limits).await;
    let tally = Arc::new(Tally::default());
    both.shelf.keep(both.client.export_watched(tally.clone())).await.expect("it is kept");
    let made = both.shelf.make().await.expect("a counter");
    both.client.shutdown(Duration::from_secs(1)).await.ok();
    until("the client's references are gone", || both.server.node().references().is_empty()).await;
    until("the counter is dropped", || both.made.load(Ordering::SeqCst) == 1).await;
    let other = Node::builder().build();
    let shelf: ShelfProxy = other.lookup(both.server.url("shelf")).await.expect("it lives");
    shelf.use_kept(1).await.expect_err("the client is gone");
    assert!(made.add(1).await.is_err(), "its node was shut down");
    until("the client's object is free", || tally.unreferenced.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn a_call_that_is_given_up_leaves_nothing_held() {
    for scheme in SCHEMES {
        let both = both(scheme).await;
        let tally = Arc::new(Tally::default());
        for _ in 0..20 {
            let counter: CounterProxy = both.client.export(tally.clone());
            let call = both.shelf.use_now(counter, 1).start().await.expect("it is sent");
            drop(call);
            drop(both.shelf.make().start().await.expect("it is sent"));
        }
        both.shelf.forget().await.expect("a call that says what is finished");
        until(scheme, || {
            both.client.references().is_empty() && both.server.node().references().is_empty()
        })
        .await;
        until(scheme, || Arc::strong_count(&tally) == 1).await;
    }
}

#[tokio::test]
async fn six_calls_through_a_reference_begin_in_order() {
    let both = both("tcp").await;
    let counter = both.shelf.make().await.expect("a counter");
    let mut calls = Vec::new();
    for _ in 0..6 {
        calls.push(counter.add(1).start().await.expect("it is sent"));
    }
    let mut seen = Vec::new();
    for call in calls {
        seen.push(call.await.expect("it is answered"));
    }
    assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
    // At home too, where a call that is awaited needs no link and one that is started does.
    let home: CounterProxy = both.client.export(Tally::default());
    let mut seen = Vec::new();
    for _ in 0..3 {
        let started = home.add(1).start().await.expect("it is sent");
        let awaited = home.add(1).await.expect("it is behind the other");
        seen.extend([started.await.expect("it is answered"), awaited]);
    }
    assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn an_object_is_kept_called_back_and_returned() {
    for scheme in SCHEMES {
        let both = both(scheme).await;
        let tally = Arc::new(Tally::default());
        both.shelf.keep(both.client.export_watched(tally.clone())).await.expect(scheme);
        assert_eq!(both.shelf.use_kept(2).await.expect(scheme), 2, "{scheme}");
        let back = both.shelf.give_back().await.expect(scheme).expect("it was kept");
        assert!(both.client.object_of(&back).is_some(), "{scheme}");
        assert_eq!(back.add(3).await.expect(scheme), 5, "{scheme}");
        until(scheme, || tally.unreferenced.load(Ordering::SeqCst) == 1).await;
        assert!(both.client.references().is_empty(), "{scheme}");
        drop(back);
        until(scheme, || Arc::strong_count(&tally) == 1).await;
    }
}

#[tokio::test]
async fn a_call_that_is_cancelled_when_its_answer_is_there_releases_what_came() {
    for scheme in SCHEMES {
        let both = both(scheme).await;
        let mut answered = 0;
        for turns in 0..30 {
            let call = both.shelf.make().start().await.expect("it is sent");
            // Before it left, while it crosses, and when the answer is there.
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            let ended = call.cancel().await;
            answered += usize::from(ended.is_ok());
            assert!(
                ended.is_ok() || matches!(ended, Err(CallError::Cancelled { .. })),
                "{scheme}: {ended:?}"
            );
        }
        assert!(answered > 0, "{scheme}: none came that far");
        until(scheme, || both.server.node().references().is_empty()).await;
        until(scheme, || both.made.load(Ordering::SeqCst) >= answered).await;
    }
}

#[tokio::test]
async fn as_many_objects_are_passed_to_a_peer_as_the_limit_says() {
    let both = both_with("tcp", Limits { exports: 3, ..limits() }).await;
    let all: Vec<CounterProxy> = (0..4).map(|_| both.client.export(Tally::default())).collect();
    let three = all[..3].iter().cloned().map(Some).collect();
    assert_eq!(both.shelf.use_all(Shape::Many(three)).await.expect("three are allowed"), 3);
    let four = all.into_iter().map(Some).collect();
    let error = both.shelf.use_all(Shape::Many(four)).await.expect_err("one too many");
    assert!(matches!(error, CallError::NotEncoded { .. }), "{error}");
}
