//! One test for each limit that a peer can push against: what a hostile one gets, and that good clients go on.
//!
//! Raw sockets on loopback against servers with small limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use farcall::{CallError, Execution, Interface, Limits, Node, Proxy as _, Semantics};
use farcall_tests::fault_proxy::FrameKind;
use farcall_tests::raw::{self, Raw, frame, varint};
use farcall_tests::service::{
    How, Log, Server, Work, WorkProxy, call, client, eventually, order, panics, within,
};
use tokio::net::TcpSocket;

/// How long it may take until a peer is cut off, at the limits of these tests.
const SOON: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(100);

/// Limits of a client that hears what became of a call after its deadline, however busy the machine is.
fn patient() -> Limits {
    Limits { resolve_wait: Duration::from_secs(10), ..Limits::default() }
}

struct Scene {
    server: Server,
    work: WorkProxy,
    log: Arc<Log>,
}

async fn scene(limits: Limits) -> Scene {
    let log = Log::new();
    let server = Server::start(limits, &log).await;
    let work = client(server.url(), Limits::default()).await.expect("bound");
    Scene { server, work, log }
}

impl Scene {
    /// A peer with a session that has looked up one method.
    async fn peer(&self, method: &str) -> Raw {
        let methods = <dyn Work as Interface>::DESCRIPTOR.methods;
        let found = methods.iter().find(|known| known.name == method).expect("a method of Work");
        Raw::greet_and_look(self.server.address(), found.id.0).await.expect("a session")
    }

    /// Peers that take the places which the good client leaves of four; there is no fifth.
    async fn take_four_places(&self) -> Vec<Raw> {
        let mut peers = Vec::new();
        for _ in 0..3 {
            peers.push(Raw::greet(self.server.address()).await.expect("there is a place"));
        }
        let mut fifth = Raw::connect(self.server.address()).await.expect("a connection");
        assert!(fifth.ends_within(SOON).await);
        peers
    }

    /// Another peer is taken after a while.
    async fn has_place(&self) {
        let place = async {
            while Raw::greet(self.server.address()).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        within("a place", place).await;
    }

    /// The good client was never cut off, is answered, and nothing panicked.
    async fn is_well(&self) {
        let answer = call(&self.work, Semantics::AtMostOnce, order(u64::MAX));
        within("an answer", answer).await.expect("answered");
        assert_eq!(self.work.node().statistics().connections, 1);
        assert_eq!(panics(), 0);
    }
}

/// The encoded arguments of a call.
fn arguments(id: u64, how: How) -> Vec<u8> {
    let mut bytes = little(id);
    match how {
        How::Answer => bytes.push(0),
        How::Hold => bytes.push(1),
        How::Large(length) => bytes.extend([vec![5], little(length as u64)].concat()),
        other => panic!("no peer asks for {other:?}"),
    }
    bytes.extend([0, 0]);
    bytes
}

/// A number as arguments contain it: seven bits a byte, the lowest first.
fn little(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A call that says that all below it are finished.
fn settled_call(seq: u64, arguments: &[u8]) -> Vec<u8> {
    let body = [varint(seq), vec![0, 0], arguments.to_vec()].concat();
    frame(FrameKind::CALL, 0, &body)
}

/// Sends until the peer is cut off or takes no more for a while; gives the bytes that it took.
async fn pour(peer: &mut Raw, bytes: &[u8], most: usize) -> usize {
    let mut sent = 0;
    while sent < most {
        match tokio::time::timeout(SHORT, peer.send(bytes)).await {
            Ok(Ok(())) => sent += bytes.len(),
            _ => break,
        }
    }
    sent
}

#[tokio::test]
async fn a_peer_that_never_reads_is_read_no_further_and_cut_off() {
    let patience = Duration::from_secs(1);
    let scene = scene(Limits { progress_timeout: patience, ..Limits::default() }).await;
    let pings = frame(FrameKind::PING, 0, &[0; 8]).repeat(1000);
    let calls: Vec<u8> =
        (1..500).flat_map(|seq| settled_call(seq, &arguments(seq, How::Large(10_000)))).collect();
    for (method, flood) in [("maybe", pings), ("at_least_once", calls)] {
        let mut peer = scene.peer(method).await;
        // What the kernel's buffers hold, and little more; the rest has to wait.
        let sent = pour(&mut peer, &flood, 256 << 20).await;
        assert!(sent < 64 << 20, "{method}: the server took {} MiB", sent >> 20);
        assert!(peer.ends_within(SOON).await, "{method}: it is not cut off");
    }
    scene.is_well().await;
}

#[tokio::test]
async fn a_peer_that_never_acknowledges_is_cut_off_at_the_window() {
    let scene = scene(Limits { window: 16, ..Limits::default() }).await;
    let mut peer = scene.peer("at_most_once").await;
    for seq in 1..=16 {
        peer.send(&raw::call(seq, 0, &arguments(seq, How::Answer))).await.expect("connected");
        within("a reply", peer.frame_of(FrameKind::REPLY)).await.expect("connected");
    }
    peer.send(&raw::call(17, 0, &arguments(17, How::Answer))).await.expect("connected");
    assert!(peer.ends_within(SOON).await);
    assert_eq!(scene.log.runs(17), 0);
    scene.is_well().await;
}

#[tokio::test]
async fn a_peer_that_is_asked_and_never_acknowledges_is_cut_off() {
    let soon = Duration::from_millis(20);
    let scene = scene(Limits { ack_solicit: soon, ..Limits::default() }).await;
    let mut peer = scene.peer("at_most_once").await;
    peer.send(&raw::call(1, 0, &arguments(1, How::Answer))).await.expect("connected");
    within("a reply", peer.frame_of(FrameKind::REPLY)).await.expect("connected");
    within("the question", peer.frame_of(FrameKind::NEED_ACK)).await.expect("connected");
    assert!(peer.ends_within(SOON).await);
    scene.is_well().await;
}

#[tokio::test]
async fn a_peer_that_calls_and_gives_up_runs_no_more_than_its_window() {
    let scene = scene(Limits { window: 16, ..Limits::default() }).await;
    let mut peer = scene.peer("at_most_once").await;
    // Rapid reset: each call is given up as soon as it is sent; what runs goes on running.
    for seq in 1..=5000 {
        let call = settled_call(seq, &arguments(seq, How::Hold));
        let reset = raw::with_seq(FrameKind::RESOLVE, seq);
        if peer.send(&[call, reset].concat()).await.is_err() {
            break;
        }
        if within("an answer", peer.frame()).await.is_err() {
            break;
        }
        assert!(scene.server.node().statistics().running <= 16);
    }
    assert!(scene.log.calls() <= 16, "{} ran", scene.log.calls());
    scene.is_well().await;
    scene.log.open();
    let running = || scene.server.node().statistics().running;
    eventually("the end of what ran", || running() == 0).await;
}

#[tokio::test]
async fn a_flood_of_running_calls_is_refused_at_the_nodes_limit() {
    let scene = scene(Limits { running_calls: 8, ..Limits::default() }).await;
    let mut peer = scene.peer("maybe").await;
    for seq in 1..=200 {
        let call = raw::call(seq, 0, &arguments(seq, How::Hold));
        peer.send(&call).await.expect("connected");
    }
    for _ in 8..200 {
        let (flags, _) = within("a refusal", peer.frame_of(FrameKind::REPLY)).await.expect("one");
        assert_eq!(flags, 2);
    }
    assert_eq!(scene.log.calls(), 8);
    scene.log.open();
    eventually("room", || scene.server.node().statistics().running == 0).await;
    scene.is_well().await;
}

#[tokio::test]
async fn a_message_that_does_not_go_on_is_dropped_with_its_peer() {
    let scene = scene(Limits { progress_timeout: SHORT, ..Limits::default() }).await;
    let kept = || scene.server.node().statistics().kept_bytes;
    for pings in [false, true] {
        let mut peer = scene.peer("maybe").await;
        let first = raw::first_fragment(1, 10 << 20, &[FrameKind::CALL.0 << 3; 60_000]);
        peer.send(&first).await.expect("connected");
        eventually("the fragment", || kept() >= 60_000).await;
        assert!(kept() < 200_000, "nothing by the declared size");
        // Other signs of life are no progress.
        let ended = within("the end", async {
            loop {
                if peer.ends_within(SHORT / 4).await {
                    return true;
                }
                if pings && peer.send(&frame(FrameKind::PING, 0, &[0; 8])).await.is_err() {
                    return true;
                }
            }
        });
        assert!(ended.await);
        eventually("the bytes", || kept() < 1000).await;
    }
    scene.is_well().await;
}

#[tokio::test]
async fn large_messages_together_keep_to_the_sessions_and_the_processs_bytes() {
    let limits = Limits { message: 1 << 20, request_bytes: 1 << 20, ..Limits::default() };
    let process = Limits { process_bytes: 1 << 20, message: 1 << 20, ..Limits::default() };
    for limits in [limits, process] {
        let scene = scene(limits).await;
        let mut peer = scene.peer("maybe").await;
        let kept = || scene.server.node().statistics().kept_bytes;
        for seq in 1..=100 {
            let first = raw::first_fragment(seq, 1 << 20, &[FrameKind::CALL.0 << 3; 60_000]);
            if peer.send(&first).await.is_err() {
                break;
            }
        }
        let ping = frame(FrameKind::PING, 0, &[0; 8]);
        if peer.send(&ping).await.is_ok() {
            // Answered or cut off: all that was sent has been read.
            let _ = within("a pong or the end", peer.frame_of(FrameKind::PONG)).await;
        }
        assert!(kept() <= (1 << 20) + 4096, "{} bytes", kept());
        drop(peer);
        eventually("the bytes", || kept() < 10_000).await;
        scene.is_well().await;
    }
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_at_once_and_places_come_back() {
    let scene = scene(Limits { connections: 4, ..Limits::default() }).await;
    let peers = scene.take_four_places().await;
    scene.is_well().await;
    drop(peers);
    scene.has_place().await;
}

#[tokio::test]
async fn connections_of_one_host_over_its_limit_take_no_places_of_another() {
    let scene = scene(Limits { connections_per_host: 4, ..Limits::default() }).await;
    let peers = scene.take_four_places().await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 2], 0).into()).expect("all of 127.0.0.0/8 is this machine");
    let stream = socket.connect(scene.server.address()).await.expect("a connection");
    let mut other = Raw::new(stream);
    other.send(&raw::hello(1)).await.expect("connected");
    let (kind, ..) = within("an answer", other.frame()).await.expect("another host has places");
    assert_eq!(kind, FrameKind::WELCOME);
    scene.is_well().await;
    drop(peers);
    scene.has_place().await;
}

#[tokio::test]
async fn silent_peers_take_no_places_of_good_ones_and_not_for_long() {
    let few = Limits { handshakes: 4, handshake_timeout: SHORT, ..Limits::default() };
    let scene = scene(few).await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(Raw::connect(scene.server.address()).await.expect("a connection"));
    }
    // Half a HELLO is as good as none.
    silent[0].send(&raw::hello(1)[..10]).await.expect("connected");
    scene.is_well().await;
    for mut peer in silent {
        assert!(peer.ends_within(SOON).await);
    }
    Raw::greet(scene.server.address()).await.expect("there is a place again");
}

#[tokio::test]
async fn a_flood_of_hellos_ends_at_the_limit_of_sessions_and_passes() {
    let scene = scene(Limits { sessions: 8, ..Limits::default() }).await;
    // With a link each, they stay.
    let mut peers = Vec::new();
    for _ in 0..7 {
        peers.push(scene.peer("maybe").await);
    }
    let refused = Raw::greet(scene.server.address()).await;
    assert!(refused.is_err(), "there is no session left");
    assert_eq!(scene.server.node().statistics().kept_sessions, 8);
    scene.is_well().await;
    // Without a link and a record, they make room for others.
    drop(peers);
    let place = async {
        while Raw::greet(scene.server.address()).await.is_err() {
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    within("a place", place).await;
    scene.is_well().await;
}

#[tokio::test]
async fn handles_and_names_that_nobody_bound_are_bounded() {
    let scene = scene(Limits { handles: 2000, names: 1, ..Limits::default() }).await;
    let mut peer = Raw::greet(scene.server.address()).await.expect("a session");
    let mut refused = 0;
    for handle in 0..2000 {
        let name = format!("nobody-{handle}");
        peer.send(&raw::lookup(handle, &name, &[1])).await.expect("connected");
        let (flags, body) =
            within("an answer", peer.frame_of(FrameKind::BOUND)).await.expect("one");
        let (_, used) = raw::number(&body).expect("a handle");
        // 4 says that the server is at a limit, 1 that there is no such object.
        assert_eq!(flags, 1);
        refused += usize::from(body[used] == 4);
    }
    assert!(refused >= 900, "{refused}");
    let known: Result<WorkProxy, _> = client(scene.server.url(), Limits::default()).await;
    known.expect("what is bound is found");
    peer.send(&raw::lookup(2000, "work", &[1])).await.expect("connected");
    assert!(peer.ends_within(SOON).await, "a handle over the limit");
    scene.is_well().await;
    let narrow = Node::builder().limits(Limits { handles: 1, ..Limits::default() }).build();
    let _first: WorkProxy = narrow.lookup(scene.server.url()).await.expect("bound");
    let second = narrow.lookup::<farcall::RemoteRegistryProxy>(
        scene.server.url().replace("/work", "/farcall/registry"),
    );
    assert!(matches!(second.await, Err(CallError::Busy(_))));
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_given_up() {
    let scene = scene(Limits { ping_interval: SHORT / 4, ..Limits::default() }).await;
    let mut peer = Raw::greet(scene.server.address()).await.expect("a session");
    assert!(peer.ends_within(SOON).await);
    // The good client of these limits has longer intervals; it comes back when it is needed.
    let answer = call(&scene.work, Semantics::AtMostOnce, order(1));
    within("an answer", answer).await.expect("answered");
    assert_eq!(panics(), 0);
}

#[tokio::test]
async fn a_call_that_sets_no_deadline_has_the_nodes() {
    let scene = scene(Limits::default()).await;
    let limits = Limits { default_timeout: Some(SHORT), ..patient() };
    let work = client(scene.server.url(), limits).await.expect("bound");
    let outcome = within("the deadline", work.at_most_once(order(1).how(How::Hold))).await;
    let waited = matches!(outcome, Err(CallError::DeadlineExceeded { started: true, .. }));
    assert!(waited, "{outcome:?}");
}

/// Work that keeps a server busy.
#[farcall::remote(semantics = "at_most_once")]
trait Mill {
    /// Takes a while, in place.
    async fn grind(&self);
}

#[derive(Default)]
struct Wheel(Arc<AtomicUsize>);

#[farcall::remote]
impl Mill for Wheel {
    async fn grind(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        // What a method does that computes.
        let began = tokio::time::Instant::now();
        while began.elapsed() < Duration::from_millis(2) {}
    }
}

#[tokio::test]
async fn calls_that_waited_for_half_of_their_time_never_begin_and_say_so() {
    const CALLS: usize = 200;
    let node = Node::builder().build();
    let turns = Arc::default();
    node.registry().bind("mill", Wheel(Arc::clone(&turns))).expect("a name");
    let server = node.listen("tcp://127.0.0.1:0").await.expect("a port");
    let client = Node::builder().limits(patient()).build();
    let mill: MillProxy = client.lookup(server.url("mill")).await.expect("bound");
    let calls = (0..CALLS).map(|_| mill.grind().timeout(Duration::from_millis(100)));
    let calls: Vec<_> = calls.map(tokio::spawn).collect();
    let (mut begun, mut refused) = (0, 0);
    for call in calls {
        match within("an answer", call).await.expect("no panic") {
            Err(error) if error.execution() == Execution::NotExecuted => refused += 1,
            _ => begun += 1,
        }
    }
    // All of it would take four times as long as there is.
    assert!(refused > 0 && begun > 0, "{refused} refused, {begun} begun");
    assert_eq!(turns.load(Ordering::Relaxed), begun, "what is refused does not run");
}
