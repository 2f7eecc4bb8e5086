//! Objects as arguments and results: what is passed, who holds it, and how it is called back, over every transport.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use farcall::{CallError, Limits, Listening, Node, Unreferenced, remote};
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
            Some(counter) => counter.add(by).await,
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
        let both = both(scheme).await;
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
