//! Peers that abuse UDP: forged senders, floods, garbage, replays, a receive buffer that overflows.
//!
//! Raw sockets on loopback. What a flood costs in memory is in `udp_costs.rs`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use farcall::{CallError, Limits, Proxy as _, Semantics};
use farcall_tests::datagram_proxy::{DatagramFault, DatagramFaults, DatagramKind, DatagramProxy};
use farcall_tests::fault_proxy::{Direction, FrameKind};
use farcall_tests::random::Random;
use farcall_tests::raw;
use farcall_tests::raw_datagram::{RawUdp, body_of, data, hello, opened, sealed};
use farcall_tests::service::{
    Answer, How, Log, SEMANTICS, Server, Summary, Transport, WorkProxy, Worker, call, client,
    eventually, order, panics, within,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// Limits under which a link comes back soon.
fn quick() -> Limits {
    let (two, ten) = (Duration::from_millis(2), Duration::from_millis(10));
    Limits { reconnect_min: two, reconnect_max: ten, ..Limits::default() }
}

/// Where nothing more is expected: longer than the first retransmissions of a server take.
const QUIET: Duration = Duration::from_millis(800);

struct Scene {
    server: Server,
    proxy: DatagramProxy,
    work: WorkProxy,
    log: Arc<Log>,
}

async fn scene() -> Scene {
    scene_with(quick()).await
}

async fn scene_with(limits: Limits) -> Scene {
    let log = Log::new();
    let server = Server::start_over(Transport::Udp, limits, &log).await;
    let proxy = DatagramProxy::start(server.address()).expect("a port");
    let url = Transport::Udp.work_at(proxy.address());
    let work = client(url, quick()).await.expect("bound");
    Scene { server, proxy, work: work.with_timeout(Duration::from_secs(20)), log }
}

/// Calls of each semantics, some of them large. Those that are sent again must be answered, and most of the others.
async fn load(scene: &Scene, first: u64, calls: u64) {
    let mut callers = JoinSet::new();
    let mut outcomes: [Vec<_>; 3] = Default::default();
    for id in first..first + calls {
        let which = id as usize % 3;
        let work = scene.work.clone();
        let mut order = order(id);
        if id % 20 == 0 {
            order.padding = vec![1; 5000];
        }
        if id % 20 == 1 {
            order.how = How::Large(5000);
        }
        callers.spawn(async move { (which, id, call(&work, SEMANTICS[which], order).await) });
        if callers.len() >= 16 {
            let (which, id, outcome) = callers.join_next().await.expect("one").expect("no panic");
            outcomes[which].push((id, outcome));
        }
    }
    for (which, id, outcome) in callers.join_all().await {
        outcomes[which].push((id, outcome));
    }
    for (semantics, outcomes) in SEMANTICS.into_iter().zip(&outcomes) {
        let summary = Summary::of(semantics, outcomes, &scene.log);
        let least = match semantics {
            // Nobody sends such a call again that the kernel dropped.
            Semantics::Maybe => summary.calls / 2,
            _ => summary.calls,
        };
        assert!(summary.ok >= least, "{semantics}: {summary:?}: {}", errors(outcomes));
    }
    let answered: usize = outcomes.iter().map(Vec::len).sum();
    assert_eq!(answered as u64, calls, "an outcome for each");
}

/// What the calls that failed say.
fn errors(outcomes: &[(u64, Result<Answer, CallError>)]) -> String {
    let errors = outcomes.iter().filter_map(|(id, outcome)| Some((id, outcome.as_ref().err()?)));
    errors.map(|(id, error)| format!("\n{id}: {error}")).collect()
}

/// How often every call ran.
fn runs(scene: &Scene, calls: u64) -> HashMap<u64, u32> {
    (0..calls).map(|id| (id, scene.log.runs(id))).collect()
}

#[tokio::test]
async fn an_address_that_never_answers_gets_no_more_than_three_times_its_bytes() {
    for unvalidated_links in [64, 0] {
        let scene = scene_with(Limits { unvalidated_links, ..quick() }).await;
        for (client, size) in [(1, 1200), (2, 548), (3, 100), (4, 0), (5, 9000)] {
            let mut forged = RawUdp::new(scene.server.address()).await.expect("a port");
            forged.send(&hello(client, None, size)).await;
            while forged.receive(QUIET).await.is_some() {}
            let (sent, received) = (forged.sent, forged.received);
            assert!(received <= 3 * sent, "{received} bytes for {sent}");
            assert!(size < 1200 || received > 0, "an honest HELLO is answered");
        }
    }
}

#[tokio::test]
async fn a_repeated_hello_is_answered_within_the_same_bound() {
    let scene = scene().await;
    let mut forged = RawUdp::new(scene.server.address()).await.expect("a port");
    for _ in 0..50 {
        forged.send(&hello(7, None, 1200)).await;
    }
    while forged.receive(QUIET).await.is_some() {}
    assert!(forged.received <= 3 * forged.sent);
    let kept = scene.server.node().statistics().kept_sessions;
    assert!(kept <= 2, "one client and its repeats: {kept} sessions");
}

#[tokio::test]
async fn under_load_nothing_is_kept_before_the_cookie_came_back() {
    let few = Limits { unvalidated_links: 4, ..quick() };
    let scene = scene_with(few).await;
    let before = scene.server.node().statistics().kept_sessions;
    let mut retries = 0;
    let mut sockets = Vec::new();
    for client in 1..=1000 {
        let mut forged = RawUdp::new(scene.server.address()).await.expect("a port");
        forged.send(&hello(client, None, 1200)).await;
        sockets.push(forged);
    }
    for forged in &mut sockets {
        // What the kernel dropped is not answered.
        let Some(answer) = forged.receive(QUIET).await else { continue };
        let is_retry = DatagramKind::of(&answer) == DatagramKind::Retry;
        retries += u64::from(is_retry);
        assert!(!is_retry || answer.len() < 100);
    }
    assert!(retries >= 500, "{retries} of 1000 were asked for a cookie");
    let kept = scene.server.node().statistics().kept_sessions - before;
    assert!(kept <= 4, "{kept} sessions of clients that never answered");
    // Who does answer is served, now as before.
    let mut honest = RawUdp::new(scene.server.address()).await.expect("a port");
    honest.greet(5000).await.expect("welcome");
    load(&scene, 0, 50).await;
}

#[tokio::test]
async fn a_cookie_is_good_for_its_own_address_and_nonce_only() {
    let scene = scene_with(Limits { unvalidated_links: 0, ..quick() }).await;
    let mut first = RawUdp::new(scene.server.address()).await.expect("a port");
    first.send(&hello(1, None, 1200)).await;
    let retry = first.receive(Duration::from_secs(5)).await.expect("an answer");
    assert_eq!(DatagramKind::of(&retry), DatagramKind::Retry);
    let cookie = u64::from_be_bytes(retry[9..17].try_into().expect("eight bytes"));
    let mut second = RawUdp::new(scene.server.address()).await.expect("a port");
    for (from_first, client, cookie, expected) in [
        (false, 1, cookie, DatagramKind::Retry),
        (true, 2, cookie, DatagramKind::Retry),
        (true, 1, cookie ^ 1, DatagramKind::Retry),
        (true, 1, cookie, DatagramKind::Welcome),
    ] {
        let socket = if from_first { &mut first } else { &mut second };
        socket.send(&hello(client, Some(cookie), 1200)).await;
        let answer = socket.receive(Duration::from_secs(5)).await.expect("an answer");
        assert_eq!(DatagramKind::of(&answer), expected, "client {client}, cookie {cookie}");
    }
}

#[tokio::test]
async fn a_link_that_nobody_knows_is_told_so_in_fewer_bytes() {
    let scene = scene().await;
    let mut stranger = RawUdp::new(scene.server.address()).await.expect("a port");
    for body in [raw::frame(FrameKind::PING, 0, &[0; 8]), raw::call(1, 0, &[1; 500]), Vec::new()] {
        let datagram = data(0x0123_4567_89ab_cdef, 0, &body);
        stranger.send(&datagram).await;
        if let Some(answer) = stranger.receive(QUIET).await {
            assert_eq!(DatagramKind::of(&answer), DatagramKind::Unknown);
            assert!(answer.len() < datagram.len());
        }
    }
    assert_eq!(scene.log.calls(), 0);
}

#[tokio::test]
async fn ten_times_as_much_garbage_as_good_traffic_ends_nothing() {
    let scene = scene().await;
    scene.proxy.set_both(DatagramFaults { seed: 3, garbage: 10, ..DatagramFaults::default() });
    load(&scene, 0, 600).await;
    for length in [1000, 100_000] {
        let sent = vec![9; length];
        assert!(within("the echo", scene.work.echo(&sent)).await.expect("answered") == sent);
    }
    let statistics = scene.work.node().statistics();
    assert_eq!((statistics.connections, statistics.sessions), (1, 1), "no link was lost");
    let nodes = [scene.server.node().statistics(), statistics];
    let corrupt: u64 = nodes.iter().map(|node| node.datagrams_rejected).sum();
    assert!(corrupt >= 1000, "{corrupt} were counted");
    assert_eq!(panics(), 0);
}

/// Garbage with a right sum reaches the decoders.
#[tokio::test]
async fn garbage_with_a_right_sum_harms_nobody() {
    let scene = scene().await;
    let mut attacker = RawUdp::new(scene.server.address()).await.expect("a port");
    let link = attacker.greet(1).await.expect("welcome");
    let mut random = Random::new(8);
    let good = load(&scene, 0, 300);
    let bad = async {
        for number in 0..5000_u32 {
            let length = 1 + random.below(300);
            let mut noise = random.bytes(length);
            let datagram = match number % 5 {
                0 => sealed(noise),
                1 => {
                    noise[0] = (random.below(5)) as u8;
                    sealed(noise)
                }
                2 => data(random.draw(), number, &noise),
                3 => data(link, number, &noise),
                _ => data(link, number, &raw::frame(FrameKind(16 + number as u8 % 8), 0, &noise)),
            };
            attacker.send(&datagram).await;
            attacker.drain();
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(good, bad);
    assert_eq!(scene.work.node().statistics().connections, 1);
    assert_eq!(panics(), 0);
    let mut next = RawUdp::new(scene.server.address()).await.expect("a port");
    next.greet(2).await.expect("the server lives on");
}

/// Records a run of all semantics; what was sent to the server.
async fn recorded(scene: &Scene) -> Vec<Vec<u8>> {
    scene.proxy.record(100_000);
    load(scene, 0, CALLS).await;
    let recorded = scene.proxy.recorded();
    scene.proxy.record(0);
    // Calls in flight share datagrams.
    assert!(recorded.len() >= 100, "{} datagrams", recorded.len());
    recorded
}

const CALLS: u64 = 600;

/// Sends them from the client's own address, and waits until all of it was looked at.
async fn replay(scene: &Scene, datagrams: &[Vec<u8>], next: u64) {
    for (position, datagram) in datagrams.iter().enumerate() {
        scene.proxy.inject(datagram.clone());
        if position % 32 == 31 {
            // The socket of the server holds so many.
            let probe = scene.work.at_least_once(order(next + position as u64));
            within("an answer", probe).await.expect("answered");
        }
    }
    within("an answer", scene.work.at_most_once(order(next + 900_000))).await.expect("answered");
}

#[tokio::test]
async fn replayed_datagrams_execute_nothing_in_any_order_nor_after_a_restart() {
    let mut scene = scene().await;
    let mut datagrams = recorded(&scene).await;
    let before = runs(&scene, CALLS);
    let ran = before.values().filter(|runs| **runs > 0).count() as u64;
    assert!(ran >= CALLS * 5 / 6, "{ran} of {CALLS} ran: there is nothing to repeat");
    replay(&scene, &datagrams, 1_000_000).await;
    assert!(runs(&scene, CALLS) == before, "in order");
    Random::new(4).shuffle(&mut datagrams);
    replay(&scene, &datagrams, 2_000_000).await;
    assert!(runs(&scene, CALLS) == before, "shuffled");
    let next = Server::start_over(Transport::Udp, quick(), &scene.log).await;
    scene.proxy.set_upstream(next.address());
    std::mem::replace(&mut scene.server, next).crash();
    within("an answer", scene.work.at_least_once(order(3_000_000))).await.expect("answered");
    replay(&scene, &datagrams, 4_000_000).await;
    assert!(runs(&scene, CALLS) == before, "after a restart");
    assert_eq!(scene.work.node().statistics().sessions, 2);
}

/// The first copy of the request is late; what comes in its place is refused.
#[tokio::test]
async fn a_call_that_was_refused_never_runs_even_if_an_earlier_copy_comes_late() {
    for semantics in [Semantics::AtLeastOnce, Semantics::AtMostOnce] {
        let scene = scene().await;
        let (began, lasts) = (Instant::now(), Duration::from_millis(400));
        let late = DatagramFault::Delay { lasts };
        scene.proxy.on_next(Direction::ToServer, Some(FrameKind::CALL), late);
        let registry = scene.server.node().registry();
        registry.unbind("work").expect("it is bound");
        let outcome = within("an answer", call(&scene.work, semantics, order(1))).await;
        registry.bind("work", Worker::new(&scene.log)).expect("the name is free");
        let mut id = 10;
        while began.elapsed() < lasts * 2 {
            id += 1;
            within("an answer", scene.work.at_most_once(order(id))).await.expect("answered");
        }
        let _ = Summary::of(semantics, &[(1, outcome)], &scene.log);
    }
}

/// The attacker has a datagram that the server never got, and sends it from another address.
#[tokio::test]
async fn a_stolen_datagram_moves_no_link_and_earns_little() {
    let scene = scene().await;
    load(&scene, 0, 20).await;
    scene.proxy.record(1000);
    let cut = DatagramFaults { cut: true, ..DatagramFaults::default() };
    scene.proxy.set_faults(Direction::ToServer, cut);
    let pending = scene.work.at_most_once(order(100)).start().await.expect("room");
    within("the loss", scene.proxy.until(|counts| counts.to_server.lost >= 2)).await;
    let mut thief = RawUdp::new(scene.server.address()).await.expect("a port");
    for stolen in scene.proxy.recorded() {
        thief.send(&stolen).await;
    }
    while thief.receive(QUIET).await.is_some() {}
    assert!(thief.received <= 3 * thief.sent, "{} bytes for {}", thief.received, thief.sent);
    scene.proxy.set_both(DatagramFaults::default());
    assert_eq!(within("an answer", pending).await.expect("answered").id, 100);
    load(&scene, 200, 100).await;
    assert_eq!(scene.log.runs(100), 1);
    assert_eq!(scene.work.node().statistics().connections, 1);
}

#[tokio::test]
async fn another_client_s_link_cannot_be_used_for_its_calls() {
    let scene = scene().await;
    let mut honest = RawUdp::new(scene.server.address()).await.expect("a port");
    let link = honest.greet(1).await.expect("welcome");
    // A link's id is 64 random bits: guesses near it find nothing.
    let mut thief = RawUdp::new(scene.server.address()).await.expect("a port");
    for guess in [link ^ 1, link.wrapping_add(1), 0, u64::MAX] {
        thief.send(&data(guess, 0, &raw::call(1, 0, &[0; 8]))).await;
        if let Some(answer) = thief.receive(QUIET).await {
            assert_eq!(DatagramKind::of(&answer), DatagramKind::Unknown);
        }
    }
    assert_eq!(scene.log.calls(), 0);
}

#[tokio::test]
async fn a_client_by_hand_is_answered_as_any_other() {
    let scene = scene().await;
    let mut hand = RawUdp::new(scene.server.address()).await.expect("a port");
    let link = hand.greet(1).await.expect("welcome");
    hand.send(&data(link, 0, &raw::lookup(0, "work", &[1]))).await;
    let bound = async {
        loop {
            let datagram = hand.receive(Duration::from_secs(10)).await.expect("an answer");
            let Some((nonce, frames)) = opened(&datagram) else { continue };
            if body_of(FrameKind::BOUND, frames).is_some() {
                return nonce;
            }
        }
    };
    assert_ne!(within("the object", bound).await, link, "the server sends the client's nonce");
}

#[tokio::test]
async fn what_the_kernel_drops_is_counted() {
    let scene = scene_with(Limits { receive_buffer: 4096, ..quick() }).await;
    let mut flood = RawUdp::new(scene.server.address()).await.expect("a port");
    let counted = || scene.server.node().statistics().datagrams_dropped_by_kernel;
    if !cfg!(target_os = "linux") {
        assert_eq!(counted(), None, "only Linux tells it");
        return;
    }
    let dropped = || counted().expect("Linux tells it");
    assert_eq!(dropped(), 0);
    for _ in 0..20_000 {
        flood.send(&[0xff; 1200]).await;
    }
    eventually("the count", || dropped() > 0).await;
    within("an answer", scene.work.at_least_once(order(1))).await.expect("answered");
    // A table that changes while it is read may lack a row; nothing is counted that the kernel does not tell.
    let is_right = || {
        let counted = dropped();
        let truth = kernel_drops(scene.server.address().port());
        assert!(truth.is_none_or(|truth| counted <= truth), "{counted}, {truth:?}");
        truth == Some(counted)
    };
    eventually("the kernel's own count", is_right).await;
}

/// What Linux says of the UDP socket of this port.
fn kernel_drops(port: u16) -> Option<u64> {
    let table = std::fs::read_to_string("/proc/net/udp").ok()?;
    let local = format!(":{port:04X} ");
    let line = table.lines().find(|line| {
        line.split_once(": ")
            .is_some_and(|(_, rest)| rest.starts_with("0100007F") && rest[8..].starts_with(&local))
    })?;
    line.split_whitespace().last()?.parse().ok()
}

#[tokio::test]
async fn small_calls_of_good_clients_go_on_while_pieces_without_end_arrive() {
    let scene = scene().await;
    let mut attacker = RawUdp::new(scene.server.address()).await.expect("a port");
    let link = attacker.greet(1).await.expect("welcome");
    let bad = async {
        for number in 0..20_000_u64 {
            // A new message each time, or one byte at every second place.
            let message = if number % 2 == 0 { number } else { 1 };
            let head = [message, 1 + message, number * 128, 1 << 20].map(raw::varint).concat();
            let piece = raw::frame(FrameKind::PIECE, 0, &[head, vec![1; 64]].concat());
            attacker.send(&data(link, number as u32, &piece)).await;
            attacker.drain();
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(load(&scene, 0, 300), bad);
    let kept = scene.server.node().statistics().kept_bytes;
    assert!(kept <= 8 << 20, "{kept} bytes");
    assert_eq!(panics(), 0);
    assert!(timeout(QUIET, scene.work.at_most_once(order(9999))).await.is_ok_and(|it| it.is_ok()));
}
