//! What goes with the last reference: whoever drops it, and whatever the object's `Drop` does, nobody is held up.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farcall::{Limits, Node, remote};
use farcall_tests::fault_proxy::FaultProxy;
use farcall_tests::service::{eventually, socket_address, within};

/// What is passed.
#[remote]
pub trait Point {
    /// Nothing.
    async fn touch(&self);
}

/// Keeps a point for a while.
#[remote]
pub trait Desk {
    /// Keeps it.
    async fn keep(&self, point: PointProxy);
    /// What was kept, and the desk forgets it.
    async fn give_back(&self) -> Option<PointProxy>;
    /// New ones.
    async fn make(&self, count: usize) -> Vec<PointProxy>;
    /// Touches what was kept, in a task that goes on.
    async fn touch_later(&self);
}

struct Here {
    node: Node,
    kept: Mutex<Option<PointProxy>>,
}

/// Asks its node something when it is dropped, which takes the node's locks.
struct Nosy {
    node: Node,
    dropped: Arc<AtomicUsize>,
}

impl Drop for Nosy {
    fn drop(&mut self) {
        let _ = self.node.statistics();
        self.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

#[remote]
impl Point for Nosy {
    async fn touch(&self) {}
}

struct Plain;

#[remote]
impl Point for Plain {
    async fn touch(&self) {}
}

/// Answers when it is told to.
struct Slow(Arc<tokio::sync::Notify>);

#[remote]
impl Point for Slow {
    async fn touch(&self) {
        self.0.notified().await;
    }
}

impl Here {
    fn kept(&self) -> Option<PointProxy> {
        self.kept.lock().expect("no panic").clone()
    }
}

#[remote]
impl Desk for Here {
    async fn keep(&self, point: PointProxy) {
        *self.kept.lock().expect("no panic") = Some(point);
    }
    async fn give_back(&self) -> Option<PointProxy> {
        self.kept.lock().expect("no panic").take()
    }
    async fn make(&self, count: usize) -> Vec<PointProxy> {
        (0..count).map(|_| self.node.export::<dyn Point, _>(Plain)).collect()
    }
    async fn touch_later(&self) {
        let point = self.kept().expect("it was kept");
        let touching = point.touch().start().await.expect("it is sent");
        tokio::spawn(touching);
    }
}

async fn both(limits: Limits) -> (farcall::Listening, Node, DeskProxy) {
    let server = Node::builder().limits(limits.clone()).build();
    let desk = Here { node: server.clone(), kept: Mutex::default() };
    server.registry().bind_as::<dyn Desk>("desk", desk).expect("a free name");
    let server = server.listen("tcp://127.0.0.1:0").await.expect("a free port");
    let client = Node::builder().limits(limits).build();
    let desk = client.lookup(server.url("desk")).await.expect("bound");
    (server, client, desk)
}

/// Found by reading: the last reference to an object was dropped under the link's lock, and an object whose `Drop` asked its
/// node for anything waited for that lock for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_goes_with_an_untaken_answer_may_ask_its_node() {
    let (_server, client, desk) = both(Limits::default()).await;
    let dropped = Arc::new(AtomicUsize::new(0));
    let nosy = Nosy { node: client.clone(), dropped: dropped.clone() };
    desk.keep(client.export::<dyn Point, _>(nosy)).await.expect("kept");
    let answer = desk.give_back().start().await.expect("it is sent");
    // The desk gives it back when it hears that the answer is there: from then on only the answer holds the object.
    eventually("the desk's release", || client.references().is_empty()).await;
    assert_eq!(dropped.load(Ordering::SeqCst), 0);
    let (told, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        drop(answer);
        let _ = told.send(());
    });
    within("the end of the answer", ended).await.expect("the thread ends");
    eventually("the object's end", || dropped.load(Ordering::SeqCst) == 1).await;
}

/// Found by reading: an answer and its references were taken one after the other, and whoever else worked on the link in
/// between dropped the references of a call that was not known any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_keep_their_references_while_others_use_the_link() {
    let (_server, _client, desk) = both(Limits::default()).await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let desk = desk.clone();
        callers.spawn(async move {
            for _ in 0..200 {
                let made = desk.make(2).await.expect("the answer is whole");
                assert_eq!(made.len(), 2);
            }
        });
    }
    while let Some(ended) = within("the answers", callers.join_next()).await {
        ended.expect("no panic");
    }
}

/// Found by reading: objects of a session that nobody resumed were dropped under the lock of all sessions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_goes_with_a_session_may_ask_its_node() {
    let limits = Limits { session_ttl: Duration::from_millis(100), ..Limits::default() };
    let server = Node::builder().limits(limits).build();
    let dropped = Arc::new(AtomicUsize::new(0));
    let nosy = Nosy { node: server.clone(), dropped: dropped.clone() };
    server.registry().bind_as::<dyn Point>("nosy", nosy).expect("a free name");
    let server = server.listen("tcp://127.0.0.1:0").await.expect("a free port");
    let url = server.url("nosy");
    let proxy = FaultProxy::start(socket_address(url.address())).expect("a port");
    let client = Node::builder().build();
    let point: PointProxy =
        client.lookup(format!("tcp://{}/nosy", proxy.address())).await.expect("bound");
    point.touch().await.expect("answered");
    // From here on the session alone holds the object, and nobody comes back for it.
    proxy.refuse();
    proxy.cut_all();
    server.node().registry().unbind("nosy").expect("bound");
    eventually("the object's end", || dropped.load(Ordering::SeqCst) == 1).await;
    assert_eq!(server.node().statistics().kept_sessions, 0);
}

/// Found by reading: a node that shut down waited for calls, and not for those that it made back to its clients.
#[tokio::test]
async fn a_shutdown_waits_for_calls_back() {
    let (server, client, desk) = both(Limits::default()).await;
    let go_on = Arc::new(tokio::sync::Notify::new());
    desk.keep(client.export::<dyn Point, _>(Slow(go_on.clone()))).await.expect("kept");
    desk.touch_later().await.expect("it is called");
    let ended = tokio::spawn(async move { server.shutdown(Duration::from_secs(600)).await });
    eventually("the call back", || client.statistics().running == 1).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!ended.is_finished());
    go_on.notify_one();
    within("the end", ended).await.expect("no panic").expect("nothing is unfinished");
}
