//! Every failure that references add, held against their table in `docs/failures.md`: what the caller gets, and whether
//! the method may have run.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farcall::{CallError, Limits, Listening, Node, Proxy as _, remote};
use farcall_tests::datagram_proxy::DatagramProxy;
use farcall_tests::failure_table::Table;
use farcall_tests::link::Link;
use farcall_tests::service::{TRANSPORTS, Transport, eventually, socket_address, within};

/// Is called through references.
#[remote]
pub trait Point {
    /// At once; how often that was.
    async fn touch(&self) -> u64;
    /// Touches it, and waits for ever.
    async fn stay(&self);
    /// Takes another.
    async fn meet(&self, other: PointProxy);
    /// Makes another.
    async fn split(&self) -> PointProxy;
}

/// Another interface with a point's references.
#[remote]
pub trait Line {
    /// Does nothing.
    async fn draw(&self);
}

/// Takes and gives points.
#[remote]
pub trait Plane {
    /// Keeps it.
    async fn keep(&self, point: PointProxy);
    /// One of its own, for each call.
    async fn make(&self) -> PointProxy;
    /// Counts that it was called, and has a line in the eyes of some.
    async fn line(&self, point: PointProxy) -> PointProxy;
}

/// The same plane in the eyes of who confuses points with lines.
mod confused {
    use super::LineProxy as PointProxy;
    use farcall::remote;

    /// As the server's, by its name.
    #[remote]
    pub trait Plane {
        /// The types differ.
        async fn line(&self, point: super::PointProxy) -> PointProxy;
    }

    /// What takes the wrong ones.
    #[remote]
    pub trait Taker {
        /// The types differ.
        async fn take(&self, point: PointProxy);
    }
}

/// The taker that is served.
#[remote]
pub trait Taker {
    /// Takes points.
    async fn take(&self, point: PointProxy);
}

#[derive(Default)]
struct Dot {
    node: Option<Node>,
    touched: AtomicUsize,
}

#[remote]
impl Point for Dot {
    async fn touch(&self) -> u64 {
        self.touched.fetch_add(1, Ordering::SeqCst) as u64 + 1
    }
    async fn stay(&self) {
        self.touched.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }
    async fn meet(&self, other: PointProxy) {
        self.touched.fetch_add(1, Ordering::SeqCst);
        drop(other);
    }
    async fn split(&self) -> PointProxy {
        self.touched.fetch_add(1, Ordering::SeqCst);
        self.node.as_ref().expect("told").export(Dot::default())
    }
}

struct Paper {
    node: Node,
    kept: Mutex<Option<PointProxy>>,
    calls: AtomicUsize,
}

impl Paper {
    fn kept(&self) -> PointProxy {
        self.kept.lock().expect("no panic").clone().expect("it was kept")
    }
}

#[remote]
impl Plane for Paper {
    async fn keep(&self, point: PointProxy) {
        *self.kept.lock().expect("no panic") = Some(point);
    }
    async fn make(&self) -> PointProxy {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.node.export(Dot { node: Some(self.node.clone()), ..Dot::default() })
    }
    async fn line(&self, point: PointProxy) -> PointProxy {
        self.calls.fetch_add(1, Ordering::SeqCst);
        point
    }
}

struct Nothing;

#[remote]
impl Taker for Nothing {
    async fn take(&self, point: PointProxy) {
        drop(point);
    }
}

/// A server that keeps, and a client that passes.
struct Scene {
    server: Listening,
    paper: Arc<Paper>,
    client: Node,
    plane: PlaneProxy,
    dot: Arc<Dot>,
}

fn quick() -> Limits {
    let ten = Duration::from_millis(10);
    Limits {
        reconnect_min: ten,
        reconnect_max: ten,
        ping_interval: Duration::from_millis(150),
        handshake_timeout: Duration::from_secs(1),
        ..Limits::default()
    }
}

async fn serve(transport: Transport, limits: Limits) -> (Listening, Arc<Paper>) {
    let node = Node::builder().limits(limits).build();
    let (kept, calls) = (Mutex::default(), AtomicUsize::new(0));
    let paper = Arc::new(Paper { node: node.clone(), kept, calls });
    node.registry().bind("plane", paper.clone()).expect("a free name");
    node.registry().bind("taker", Nothing).expect("a free name");
    let address = format!("{}://127.0.0.1:0", transport.scheme());
    (node.listen(&*address).await.expect("a free port"), paper)
}

impl Scene {
    async fn new(transport: Transport, limits: Limits) -> Scene {
        let (server, paper) = serve(transport, limits.clone()).await;
        let client = Node::builder().limits(limits).build();
        let plane = client.lookup(server.url("plane")).await.expect("bound");
        Scene { server, paper, client, plane, dot: Arc::default() }
    }

    /// The client's point, as the server has it.
    async fn passed(&self) -> PointProxy {
        self.plane.keep(self.client.export(self.dot.clone())).await.expect("kept");
        self.paper.kept()
    }

    fn touched(&self) -> usize {
        self.dot.touched.load(Ordering::SeqCst)
    }
}

/// Compares with the table.
fn holds(test: &str, error: &CallError) {
    Table::REFERENCES.holds(test, error);
}

#[test]
fn each_row_is_compared_with_by_its_test() {
    let files = [include_str!("references_durable.rs"), include_str!("references_failures.rs")];
    Table::REFERENCES.is_shown_by(&files, 19);
}

#[tokio::test]
async fn the_exporter_had_left_when_it_was_called() {
    for transport in TRANSPORTS {
        let limits = Limits { session_ttl: Duration::from_millis(300), ..quick() };
        let scene = Scene::new(transport, limits).await;
        let point = scene.passed().await;
        scene.client.shutdown(Duration::from_secs(1)).await.ok();
        eventually("it is given up", || scene.server.node().references().is_empty()).await;
        let error = point.touch().await.expect_err("nobody is there");
        holds("the_exporter_had_left_when_it_was_called", &error);
        assert_eq!(scene.touched(), 0);
    }
}

#[tokio::test]
async fn the_exporter_leaves_while_it_is_called() {
    for transport in TRANSPORTS {
        let limits = Limits { session_ttl: Duration::from_millis(300), ..quick() };
        let scene = Scene::new(transport, limits).await;
        let point = scene.passed().await;
        let call = point.stay().start().await.expect("room");
        eventually("it runs", || scene.touched() == 1).await;
        scene.client.shutdown(Duration::ZERO).await.ok();
        let error = within("the end", call).await.expect_err("nobody is there");
        holds("the_exporter_leaves_while_it_is_called", &error);
    }
}

#[tokio::test]
async fn the_exporter_does_not_answer_in_time() {
    for transport in TRANSPORTS {
        let scene = Scene::new(transport, quick()).await;
        let point = scene.passed().await;
        let error = point.stay().timeout(Duration::from_millis(50)).await.expect_err("too slow");
        holds("the_exporter_does_not_answer_in_time", &error);
        assert_eq!(scene.touched(), 1, "and it ran");
    }
}

#[tokio::test]
async fn the_lease_of_a_silent_holder_runs_out() {
    for transport in TRANSPORTS {
        let limits = Limits { session_ttl: Duration::from_millis(300), ..quick() };
        let (server, paper) = serve(transport, limits.clone()).await;
        let address = server.addr().to_string();
        let upstream = address.split("://").nth(1).expect("a place").parse().expect("an address");
        let link = Link::start(transport, upstream).expect("a free port");
        let client = Node::builder().limits(limits).build();
        let url = format!("{}://{}/plane", transport.scheme(), link.address());
        let plane: PlaneProxy = client.lookup(&*url).await.expect("bound");
        let point = plane.make().await.expect("made");
        assert_eq!(point.touch().await.expect("it is held"), 1);
        link.cut_for_good().await;
        eventually("it is given up", || paper.node.references().is_empty()).await;
        link.heal();
        plane.make().await.expect("a session again");
        let error = point.touch().await.expect_err("of the session before");
        holds("the_lease_of_a_silent_holder_runs_out", &error);
    }
}

/// The name by which a client has looked an object up that it was handed, in what it sent.
fn name_of_what_was_handed(datagrams: &[Vec<u8>]) -> String {
    const PREFIX: &[u8] = b"farcall/ref/";
    let sent = datagrams.concat();
    let start = sent.windows(PREFIX.len()).position(|bytes| bytes == PREFIX).expect("a look-up");
    let rest = sent[start + PREFIX.len()..].iter();
    let id = rest.take_while(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase());
    format!("farcall/ref/{}", String::from_utf8_lossy(&id.copied().collect::<Vec<u8>>()))
}

#[tokio::test]
async fn one_session_cannot_call_what_another_was_handed() {
    let (server, _paper) = serve(Transport::Udp, quick()).await;
    let streams = server.node().listen("tcp://127.0.0.1:0").await.expect("a free port");
    let proxy = DatagramProxy::start(socket_address(server.addr())).expect("a free port");
    proxy.record(1000);
    let holder = Node::builder().limits(quick()).build();
    let url = |name: &str| format!("udp://{}/{name}", proxy.address());
    let plane: PlaneProxy = holder.lookup(url("plane")).await.expect("bound");
    let point = plane.make().await.expect("made");
    assert_eq!(point.touch().await.expect("who was handed it can"), 1);
    let name = name_of_what_was_handed(&proxy.recorded());
    let same: PointProxy = holder.lookup(url(&name)).await.expect("its session knows the id");
    assert_eq!(same.touch().await.expect("it is the same"), 2);
    for listening in [&server, &streams] {
        for holds_another in [false, true] {
            let stranger = Node::builder().limits(quick()).build();
            let plane: PlaneProxy = stranger.lookup(listening.url("plane")).await.expect("bound");
            let _another = match holds_another {
                true => Some(plane.make().await.expect("made")),
                false => None,
            };
            let found = stranger.lookup::<PointProxy>(listening.url(&name)).await;
            let error = found.map(drop).expect_err("it was not handed it");
            holds("one_session_cannot_call_what_another_was_handed", &error);
        }
    }
    assert_eq!(point.touch().await.expect("it still can"), 3, "and nobody else did");
}

#[tokio::test]
async fn an_argument_of_another_interface_runs_nothing() {
    for transport in TRANSPORTS {
        let scene = Scene::new(transport, quick()).await;
        let url = scene.server.url("taker");
        let taker: confused::TakerProxy = scene.client.lookup(url).await.expect("bound");
        let line: LineProxy = scene.client.own("line").expect("a runtime");
        let error = taker.take(line).await.expect_err("a point is wanted");
        holds("an_argument_of_another_interface_runs_nothing", &error);
        assert!(error.to_string().contains("Point"), "{error}");
        scene.plane.make().await.expect("the connection lives");
    }
}

#[tokio::test]
async fn a_result_of_another_interface_has_run() {
    for transport in TRANSPORTS {
        let scene = Scene::new(transport, quick()).await;
        let url = scene.server.url("plane");
        let plane: confused::PlaneProxy = scene.client.lookup(url).await.expect("bound");
        let point: PointProxy = scene.client.export(Dot::default());
        let error = plane.line(point).await.expect_err("a line is wanted");
        holds("a_result_of_another_interface_has_run", &error);
        assert_eq!(scene.paper.calls.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn more_arguments_than_a_peer_may_hold_are_not_sent() {
    for transport in TRANSPORTS {
        let scene = Scene::new(transport, Limits { exports: 1, ..quick() }).await;
        let point = scene.passed().await;
        let second: PointProxy = scene.client.export(Dot::default());
        let error = scene.plane.line(second).await.expect_err("one too many");
        holds("more_arguments_than_a_peer_may_hold_are_not_sent", &error);
        assert_eq!(scene.paper.calls.load(Ordering::SeqCst), 0);
        assert_eq!(point.touch().await.expect("the first is held"), 1);
    }
}

#[tokio::test]
async fn more_results_than_a_peer_may_hold_have_run() {
    for transport in TRANSPORTS {
        let scene = Scene::new(transport, Limits { exports: 1, ..quick() }).await;
        let first = scene.plane.make().await.expect("room");
        let error = scene.plane.make().await.expect_err("one too many");
        holds("more_results_than_a_peer_may_hold_have_run", &error);
        assert_eq!(scene.paper.calls.load(Ordering::SeqCst), 2);
        assert_eq!(first.touch().await.expect("the first is held"), 1);
    }
}

#[tokio::test]
async fn calls_back_beyond_their_window_are_not_sent() {
    for transport in TRANSPORTS {
        let scene = Scene::new(transport, Limits { window: 2, ..quick() }).await;
        let point = scene.passed().await;
        let waiting = [point.stay().start().await, point.stay().start().await];
        eventually("both run", || scene.touched() == 2).await;
        let error = point.touch().await.expect_err("the window is full");
        holds("calls_back_beyond_their_window_are_not_sent", &error);
        drop(waiting);
        assert_eq!(scene.touched(), 2);
    }
}

/// A server whose points a node in between hands on to another server.
struct Chain {
    owner: Listening,
    paper: Arc<Paper>,
    middle: Node,
    made: PointProxy,
    keeper: Scene,
}

impl Chain {
    async fn new(transport: Transport) -> Chain {
        let limits = Limits { session_ttl: Duration::from_millis(300), ..quick() };
        let (owner, paper) = serve(Transport::Tcp, limits.clone()).await;
        let keeper = Scene::new(transport, limits).await;
        let middle = keeper.client.clone();
        let plane: PlaneProxy = middle.lookup(owner.url("plane")).await.expect("bound");
        let made = plane.make().await.expect("made");
        keeper.plane.keep(made.clone()).await.expect("handed on");
        Chain { owner, paper, middle, made, keeper }
    }

    fn handed_on(&self) -> PointProxy {
        self.keeper.paper.kept()
    }
}

#[tokio::test]
async fn the_giver_had_left_when_a_third_called() {
    for transport in TRANSPORTS {
        let chain = Chain::new(transport).await;
        let point = chain.handed_on();
        assert_eq!(point.touch().await.expect("through the giver"), 1);
        chain.middle.shutdown(Duration::from_secs(1)).await.ok();
        let keeper = chain.keeper.server.node();
        eventually("the giver is given up", || keeper.references().is_empty()).await;
        let error = point.touch().await.expect_err("the giver is gone");
        holds("the_giver_had_left_when_a_third_called", &error);
        assert!(chain.made.touch().await.is_err(), "its node was shut down");
    }
}

#[tokio::test]
async fn the_giver_leaves_while_a_third_calls() {
    for transport in TRANSPORTS {
        let chain = Chain::new(transport).await;
        let running = chain.owner.node().statistics().running;
        let call = chain.handed_on().stay().start().await.expect("room");
        let owner = chain.owner.node();
        eventually("it runs", || owner.statistics().running > running).await;
        chain.middle.shutdown(Duration::ZERO).await.ok();
        let error = within("the end", call).await.expect_err("the giver is gone");
        holds("the_giver_leaves_while_a_third_calls", &error);
    }
}

#[tokio::test]
async fn the_owner_behind_the_giver_had_left() {
    for transport in TRANSPORTS {
        let chain = Chain::new(transport).await;
        chain.owner.shutdown(Duration::from_secs(1)).await.ok();
        let point = chain.handed_on().with_timeout(Duration::from_millis(400));
        let error = within("the end", point.touch()).await.expect_err("the owner is gone");
        holds("the_owner_behind_the_giver_had_left", &error);
        assert!(error.to_string().contains("behind the node"), "{error}");
        drop(chain.paper);
    }
}

#[tokio::test]
async fn the_owner_behind_the_giver_leaves_while_it_is_called() {
    for transport in TRANSPORTS {
        let chain = Chain::new(transport).await;
        let point = chain.handed_on().with_timeout(Duration::from_secs(2));
        let call = point.stay().start().await.expect("room");
        let owner = chain.owner.node();
        eventually("it runs", || owner.statistics().running > 0).await;
        chain.owner.shutdown(Duration::ZERO).await.ok();
        let error = within("the end", call).await.expect_err("the owner is gone");
        holds("the_owner_behind_the_giver_leaves_while_it_is_called", &error);
        assert!(format!("{error:?}").contains("behind the node"), "{error:?}");
    }
}

#[tokio::test]
async fn an_argument_for_a_third_is_not_passed_on() {
    for transport in TRANSPORTS {
        let chain = Chain::new(transport).await;
        let own: PointProxy = chain.keeper.server.node().export(Dot::default());
        let error = chain.handed_on().meet(own).await.expect_err("it would go through the giver");
        holds("an_argument_for_a_third_is_not_passed_on", &error);
        assert_eq!(chain.made.touch().await.expect("it is there"), 1, "and was not touched before");
    }
}

#[tokio::test]
async fn a_result_of_a_third_is_not_passed_on() {
    for transport in TRANSPORTS {
        let chain = Chain::new(transport).await;
        let error = chain.handed_on().split().await.map(drop).expect_err("through the giver");
        holds("a_result_of_a_third_is_not_passed_on", &error);
        assert_eq!(chain.made.touch().await.expect("it is there"), 2, "and was touched before");
    }
}

#[tokio::test]
async fn no_third_node_is_ever_dialled() {
    for transport in TRANSPORTS {
        let chain = Chain::new(transport).await;
        assert_eq!(chain.handed_on().touch().await.expect("through the giver"), 1);
        let keeper = chain.keeper.server.node().statistics();
        assert_eq!(keeper.connections, 0, "it is called, and calls back");
        let owner = chain.owner.node().statistics();
        // A node that exports has a session with itself.
        let own = owner.connections as usize;
        assert_eq!(owner.kept_sessions - own, 1, "the giver's alone");
    }
}
