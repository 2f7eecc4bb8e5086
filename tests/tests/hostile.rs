//! Peers that do not speak the protocol, or abuse it: an error for them, no panic, nothing allocated by what they
//! declare, and good clients that notice nothing.
//!
//! Raw sockets on loopback. What each limit does is in `limits.rs`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use farcall::{Limits, Proxy as _, Semantics};
use farcall_tests::fault_proxy::FrameKind;
use farcall_tests::random::Random;
use farcall_tests::raw::{self, Raw, frame, varint};
use farcall_tests::service::{
    Log, SEMANTICS, Server, Summary, WorkProxy, call, client, order, panics, within,
};
use tokio::task::JoinSet;

/// How long a peer may be kept that broke the protocol.
const SOON: Duration = Duration::from_secs(10);

async fn scene() -> (Server, WorkProxy, Arc<Log>) {
    let log = Log::new();
    // What is no HELLO yet, or no whole frame, may still become one: for so long.
    let short = Duration::from_millis(300);
    let limits = Limits { handshake_timeout: short, progress_timeout: short, ..Limits::default() };
    let server = Server::start(limits, &log).await;
    let work = client(server.url(), Limits::default()).await.expect("bound");
    (server, work, log)
}

/// Frames that no server accepts from a client with a session, each with the reason.
fn bad_frames() -> Vec<(&'static str, Vec<u8>)> {
    let oversized = [varint(1 << 40), vec![FrameKind::CALL.0 << 3; 64]].concat();
    let many = [varint(1), varint(u64::MAX >> 8), vec![1; 64]].concat();
    let methods = [&varint(0)[..], &varint(1), b"w", &varint(1), b"W", &varint(1 << 30)].concat();
    vec![
        ("a length over the limit", oversized),
        ("no length at all", vec![0; 16]),
        ("a length that is not the shortest", vec![0x80, 0x01, 0x30]),
        ("an unknown kind", frame(FrameKind(29), 0, &[1, 2, 3])),
        ("an unknown flag", frame(FrameKind::PING, 5, &[0; 8])),
        ("a frame shorter than its content", frame(FrameKind::PING, 0, &[0; 7])),
        ("a frame longer than its content", frame(FrameKind::PING, 0, &[0; 9])),
        ("a second HELLO", raw::hello(2)),
        ("a frame of servers", frame(FrameKind::REPLY, 0, &[1])),
        ("WELCOME", raw::welcome(&[0; 40], 1)),
        ("NEED_ACK", frame(FrameKind::NEED_ACK, 0, &[])),
        ("ACK of datagrams", frame(FrameKind(16), 0, &[0, 0, 0, 0])),
        ("PIECE", frame(FrameKind(17), 0, &[[0, 1, 0, 80].as_slice(), &[0x30; 64]].concat())),
        ("PIECE of nothing more", frame(FrameKind(17), 1, &[0, 1])),
        ("PATH_CHALLENGE", frame(FrameKind(18), 0, &[0; 8])),
        ("PATH_RESPONSE", frame(FrameKind(19), 0, &[0; 8])),
        ("a call number of zero", frame(FrameKind::CALL, 0, &[0, 0, 0])),
        ("a floor above the call", frame(FrameKind::CALL, 1, &[1, 9, 0, 0])),
        ("a call number far ahead", raw::call(u64::MAX >> 8, 0, &[])),
        (
            "an acknowledgement far ahead",
            frame(FrameKind::CALL_ACK, 0, &[varint(1 << 50), vec![0]].concat()),
        ),
        ("ranges without end", frame(FrameKind::CALL_ACK, 0, &many)),
        ("a fence far ahead", raw::with_seq(FrameKind::RESOLVE, 1 << 60)),
        ("a fence of nothing", raw::with_seq(FrameKind::RESOLVE, 0)),
        ("methods without end", frame(FrameKind::LOOKUP, 0, &methods)),
        ("a handle far beyond", raw::lookup(u64::from(u32::MAX), "work", &[1])),
        ("a name that is no text", frame(FrameKind::LOOKUP, 0, &[0, 2, 0xff, 0xfe, 1, b'W', 0])),
        ("a middle without its beginning", frame(FrameKind::FRAGMENT, 1, &[1, 1, 2, 3])),
        ("an end without its beginning", frame(FrameKind::FRAGMENT, 2, &[1, 1, 2, 3])),
        ("a fragment of nothing", frame(FrameKind::FRAGMENT, 0, &[1, 100])),
        ("a message in one fragment", raw::first_fragment(1, 3, &[1, 2, 3])),
        (
            "a message that begins twice",
            [raw::first_fragment(1, 900, &[1; 100]), raw::first_fragment(1, 900, &[1; 100])]
                .concat(),
        ),
        (
            "fragments that do not add up",
            [raw::first_fragment(1, 900, &[1; 100]), frame(FrameKind::FRAGMENT, 2, &[1, 1])]
                .concat(),
        ),
        (
            "fragments that make no call",
            [raw::first_fragment(1, 102, &[0x20; 100]), frame(FrameKind::FRAGMENT, 2, &[1, 0, 0])]
                .concat(),
        ),
    ]
}

/// Beginnings of a connection that no server answers with a session.
fn bad_beginnings() -> Vec<(&'static str, Vec<u8>)> {
    let body = |magic, version| raw::hello_body(magic, version, 1);
    vec![
        ("another protocol", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("TLS", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
        ("another magic", frame(FrameKind::HELLO, 0, &body(*b"carf", 1))),
        ("an older version", frame(FrameKind::HELLO, 0, &body(*b"farc", 0))),
        ("a newer version", frame(FrameKind::HELLO, 0, &body(*b"farc", 200))),
        ("a call before HELLO", raw::call(1, 0, &[])),
        ("a ping before HELLO", frame(FrameKind::PING, 0, &[0; 8])),
        ("a fragment before HELLO", raw::first_fragment(1, 1 << 40, &[0; 64])),
        ("a length over the limit", vec![0xff; 32]),
        ("a truncated HELLO", frame(FrameKind::HELLO, 0, &body(*b"farc", 1)[..20])),
        ("a HELLO with a tail", {
            frame(FrameKind::HELLO, 0, &[body(*b"farc", 1), vec![0; 9]].concat())
        }),
        ("flags", frame(FrameKind::HELLO, 6, &body(*b"farc", 1))),
    ]
}

#[tokio::test]
async fn whoever_breaks_the_protocol_is_cut_off_and_nobody_else() {
    let (server, work, log) = scene().await;
    for (what, bytes) in bad_frames() {
        let mut peer = Raw::greet(server.address()).await.expect("a session");
        peer.send(&bytes).await.expect("it is connected");
        assert!(peer.ends_within(SOON).await, "{what} is tolerated");
    }
    for (what, bytes) in bad_beginnings() {
        let mut peer = Raw::connect(server.address()).await.expect("a connection");
        peer.send(&bytes).await.expect("it is connected");
        assert!(peer.ends_within(SOON).await, "{what} is tolerated");
    }
    within("an answer", work.at_most_once(order(1))).await.expect("answered");
    assert_eq!(log.calls(), 1);
    assert_eq!(work.node().statistics().connections, 1);
    assert_eq!(panics(), 0);
}

#[tokio::test]
async fn another_version_is_told_so() {
    let (server, ..) = scene().await;
    let mut peer = Raw::connect(server.address()).await.expect("a connection");
    let hello = frame(FrameKind::HELLO, 0, &raw::hello_body(*b"farc", 200, 1));
    peer.send(&hello).await.expect("it is connected");
    let (kind, _, body) = within("the end", peer.frame()).await.expect("a frame");
    assert_eq!(kind, FrameKind::CLOSE);
    assert!(String::from_utf8_lossy(&body[1..]).contains("version 200"));
}

#[tokio::test]
async fn wrong_handles_and_ordinals_run_nothing_and_end_only_that_call() {
    let (server, _, log) = scene().await;
    let mut peer = Raw::greet_and_look(server.address(), 0xdead_beef).await.expect("a session");
    // An ordinal of a method that the server lacks, one that was never named, a handle that was not looked up.
    peer.send(&raw::call(1, 0, &[])).await.expect("connected");
    peer.send(&raw::call(2, 77, &[])).await.expect("connected");
    let other = frame(FrameKind::CALL, 1, &[varint(3), varint(2), varint(4000), vec![0]].concat());
    peer.send(&other).await.expect("connected");
    for seq in 1..=3 {
        let (flags, body) =
            within("a refusal", peer.frame_of(FrameKind::REPLY)).await.expect("one");
        assert_eq!((flags, u64::from(body[0])), (2, seq), "a failure");
        assert!(body[1] < 16, "a code that says that nothing ran");
    }
    assert_eq!(log.calls(), 0);
}

#[tokio::test]
async fn a_session_of_another_is_not_given_away() {
    let (server, work, _) = scene().await;
    let greet = async |hello: Vec<u8>| {
        let mut peer = Raw::connect(server.address()).await.expect("a connection");
        peer.send(&hello).await.expect("connected");
        let (kind, flags, welcome) = within("an answer", peer.frame()).await.expect("a frame");
        assert_eq!(kind, FrameKind::WELCOME);
        (peer, flags, raw::session_of(&welcome).to_vec())
    };
    // Each HELLO is of a later link than the one before, as it must be to take a session over.
    let (mut owner, _, session) = greet(raw::hello(1)).await;
    let (_thief, resumed, other) = greet(raw::resuming(raw::CLIENT + 1, 2, &session)).await;
    assert_eq!(resumed, 0, "the id is right, the client is another");
    assert_ne!(other, session);
    owner.send(&frame(FrameKind::PING, 0, &[0; 8])).await.expect("connected");
    within("a pong", owner.frame_of(FrameKind::PONG)).await.expect("the owner was not cut off");
    let (_owner, resumed, same) = greet(raw::resuming(raw::CLIENT, 3, &session)).await;
    assert_eq!((resumed, same), (1, session), "its own client goes on with it");
    work.at_most_once(order(2)).await.expect("answered");
    assert_eq!(work.node().statistics().connections, 1);
}

/// One hostile connection: a bad beginning, a bad frame in a session, or noise.
async fn attack(address: SocketAddr, number: u64) {
    let mut random = Random::new(number);
    let Ok(mut peer) = Raw::connect(address).await else { return };
    let (beginnings, frames) = (bad_beginnings(), bad_frames());
    let pick = random.draw() as usize;
    // What the server does to it is its own affair: it may be cut off in the middle of a write.
    let _ = match number % 4 {
        0 => peer.send(&beginnings[pick % beginnings.len()].1).await,
        1 => {
            let length = 1 + random.draw() % 300;
            peer.send(&random.bytes(length)).await
        }
        2 => {
            let _ = peer.send(&raw::hello(1)).await;
            let length = 1 + random.draw() % 300;
            peer.send(&random.bytes(length)).await
        }
        _ => {
            let _ = peer.send(&raw::hello(1)).await;
            let bad = &frames[pick % frames.len()].1;
            let cut = 1 + random.draw() as usize % bad.len();
            peer.send(&bad[..cut]).await
        }
    };
}

/// Calls of each good caller at least: how many there are during the attack is the machine's affair.
const CALLS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_hostile_connections_leave_good_clients_alone() {
    let (server, work, log) = scene().await;
    let ended = Arc::new(AtomicBool::new(false));
    let mut good = JoinSet::new();
    for caller in 0..6 {
        let (work, ended) = (work.clone(), ended.clone());
        good.spawn(async move {
            let semantics = SEMANTICS[caller as usize % 3];
            let (mut outcomes, mut id) = (Vec::new(), caller);
            while !ended.load(Ordering::Acquire) || outcomes.len() < CALLS {
                outcomes.push((id, call(&work, semantics, order(id)).await));
                id += 6;
            }
            (semantics, outcomes)
        });
    }
    let address = server.address();
    let mut hostile = JoinSet::new();
    for number in 0..10_000 {
        if hostile.len() >= 64 {
            hostile.join_next().await;
        }
        hostile.spawn(attack(address, number));
    }
    hostile.join_all().await;
    ended.store(true, Ordering::Release);
    for (semantics, outcomes) in within("the answers", good.join_all()).await {
        let summary = Summary::of(semantics, &outcomes, &log);
        assert_eq!(summary.ok, summary.calls, "{summary:?}");
        assert_eq!(summary.repeated, 0);
    }
    assert_eq!(work.node().statistics().connections, 1, "it was never cut");
    let fresh = client(server.url(), Limits::default()).await.expect("new ones are welcome");
    call(&fresh, Semantics::AtMostOnce, order(u64::MAX)).await.expect("answered");
    assert_eq!(panics(), 0);
}
