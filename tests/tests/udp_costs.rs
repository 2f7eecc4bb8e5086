//! What calls over UDP cost: datagrams, processor time, memory. One test at a time, in a process of its own.

use std::time::Duration;

use farcall::{Limits, Proxy as _, Semantics};
use farcall_tests::datagram_proxy::{DatagramFaults, DatagramProxy};
use farcall_tests::raw_datagram::{RawUdp, hello};
use farcall_tests::service::{
    How, Log, Order, SEMANTICS, Server, Transport, WorkProxy, call, client, order, within,
};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Held by the test that measures.
static ALONE: Mutex<()> = Mutex::const_new(());

struct Scene {
    server: Server,
    proxy: DatagramProxy,
    work: WorkProxy,
    log: std::sync::Arc<Log>,
}

async fn scene(limits: Limits) -> Scene {
    let log = Log::new();
    let server = Server::start_over(Transport::Udp, limits.clone(), &log).await;
    let proxy = DatagramProxy::start(server.address()).expect("a port");
    let work = client(Transport::Udp.work_at(proxy.address()), limits).await.expect("bound");
    Scene { server, proxy, work, log }
}

/// A machine that is busy elsewhere makes timers fire in between: the best of several runs counts.
#[tokio::test]
async fn calls_back_to_back_cost_two_datagrams_each() {
    let _alone = ALONE.lock().await;
    let scene = scene(Limits::default()).await;
    let mut best = f64::INFINITY;
    for run in 0..10_u64 {
        let before = scene.proxy.counts().both().datagrams;
        for id in 0..CALLS {
            scene.work.at_most_once(order(run * CALLS + id)).await.expect("answered");
        }
        let datagrams = scene.proxy.counts().both().datagrams - before;
        best = best.min(datagrams as f64 / CALLS as f64);
        if best <= 2.05 {
            println!("{best:.3} datagrams a call");
            return;
        }
    }
    panic!("{best} datagrams a call at best");
}

const CALLS: u64 = 500;

#[tokio::test]
async fn an_isolated_call_costs_three_datagrams() {
    let _alone = ALONE.lock().await;
    let scene = scene(Limits::default()).await;
    let mut costs = Vec::new();
    for id in 0..11 {
        let before = settled(&scene.proxy).await;
        scene.work.at_most_once(order(id)).await.expect("answered");
        costs.push(settled(&scene.proxy).await - before);
    }
    costs.sort_unstable();
    assert!(costs[5] <= 3, "{costs:?}");
}

/// The datagrams until nothing came for 150 ms: more than any delay of an acknowledgement.
async fn settled(proxy: &DatagramProxy) -> u64 {
    let mut count = proxy.counts().both().datagrams;
    let quiet = Duration::from_millis(150);
    while let Ok(now) = timeout(quiet, proxy.until(|now| now.both().datagrams > count)).await {
        count = now.both().datagrams;
    }
    count
}

#[tokio::test]
async fn a_slow_handler_causes_no_retransmission() {
    let _alone = ALONE.lock().await;
    let scene = scene(Limits::default()).await;
    let before = settled(&scene.proxy).await;
    let pending = scene.work.at_most_once(order(1).how(How::Hold)).start().await.expect("room");
    scene.log.begun(1).await;
    // Some asking whether the call is known, and no more.
    let most = before + 6;
    let more = scene.proxy.until(|now| now.both().datagrams > most);
    assert!(timeout(Duration::from_millis(1500), more).await.is_err());
    scene.log.open();
    within("an answer", pending).await.expect("answered");
    assert_eq!(scene.log.runs(1), 1);
    assert_eq!(scene.work.node().statistics().resent, 0);
}

#[tokio::test]
async fn a_storm_of_copies_costs_no_more_than_five_times_as_much() {
    let _alone = ALONE.lock().await;
    let mut costs = Vec::new();
    for copies in [1, 5] {
        let scene = scene(Limits::default()).await;
        scene.proxy.set_both(DatagramFaults { copies, ..DatagramFaults::default() });
        let before = processor_ticks();
        let mut callers = JoinSet::new();
        for caller in 0..8 {
            let work = scene.work.clone();
            callers.spawn(async move {
                for number in 0..1000 {
                    work.at_most_once(order(caller * 1000 + number)).await.expect("answered");
                }
            });
        }
        callers.join_all().await;
        costs.push(processor_ticks() - before);
        assert_eq!((scene.log.calls(), scene.log.runs(1)), (8000, 1));
    }
    println!("processor time: {costs:?} ticks");
    // A few ticks are below what the system can measure.
    assert!(costs[1] <= 5 * costs[0] + 20, "{costs:?}");
}

#[tokio::test]
async fn a_black_hole_takes_no_memory() {
    let _alone = ALONE.lock().await;
    let scene = scene(Limits::default()).await;
    let cut = DatagramFaults { cut: true, ..DatagramFaults::default() };
    scene.proxy.set_both(cut);
    let work = scene.work.with_timeout(Duration::from_millis(100));
    let mut sizes = Vec::new();
    for round in 0..6_u64 {
        let mut callers = JoinSet::new();
        for id in 0..200 {
            let (work, semantics) = (work.clone(), SEMANTICS[id as usize % 3]);
            let order = Order { padding: vec![1; 20_000], ..order(round * 200 + id) };
            callers.spawn(async move { call(&work, semantics, order).await });
        }
        let outcomes = callers.join_all().await;
        assert!(outcomes.iter().all(Result::is_err));
        sizes.push(resident_kib());
    }
    println!("resident: {sizes:?} KiB");
    // A round carries 4 MB. The first ones fill what is used again.
    assert!(sizes[5] <= sizes[2] + 4096, "{sizes:?}");
    assert_eq!(scene.server.node().statistics().kept_bytes, 0);
}

/// Every HELLO is another client's and comes from one of many ports.
#[tokio::test]
async fn a_hundred_thousand_hellos_take_no_memory_and_disturb_nobody() {
    let _alone = ALONE.lock().await;
    let scene = scene(Limits::default()).await;
    let address = scene.server.address();
    let mut sockets = Vec::new();
    for _ in 0..PORTS {
        sockets.push(RawUdp::new(address).await.expect("a port"));
    }
    let good = tokio::spawn({
        let work = scene.work.clone();
        async move {
            let mut calls = 0_u64;
            loop {
                calls += 1;
                let semantics = [Semantics::AtMostOnce, Semantics::AtLeastOnce][calls as usize % 2];
                call(&work, semantics, order(calls)).await.expect("answered in spite of it");
                if calls > 500 && FLOODED.load(std::sync::atomic::Ordering::Acquire) {
                    return calls;
                }
            }
        }
    });
    let mut sizes = vec![resident_kib()];
    let (mut sent, mut received) = (0, 0);
    for round in 0..HELLOS / PORTS as u64 {
        for (port, socket) in sockets.iter_mut().enumerate() {
            socket.send(&hello(round * PORTS as u64 + port as u64 + 1, None, 1200)).await;
            socket.drain();
        }
        tokio::task::yield_now().await;
        if (round + 1).is_multiple_of(HELLOS / PORTS as u64 / 5) {
            sizes.push(resident_kib());
            let kept = scene.server.node().statistics().kept_sessions;
            assert!(kept <= 1 + Limits::default().unvalidated_links, "{kept} sessions");
        }
    }
    FLOODED.store(true, std::sync::atomic::Ordering::Release);
    let calls = within("the last call", good).await.expect("no panic");
    for socket in &sockets {
        sent += socket.sent;
        received += socket.received;
    }
    println!("{calls} good calls meanwhile; {sent} bytes in, {received} out; {sizes:?} KiB");
    assert!(received <= 3 * sent);
    assert!(sent >= HELLOS * 1200 * 9 / 10);
    assert!(sizes[5] <= sizes[1] + 8192, "{sizes:?}");
    for id in 1..=calls {
        assert!(scene.log.runs(id) >= 1);
    }
}

static FLOODED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
const HELLOS: u64 = 100_000;
const PORTS: usize = 500;

/// Processor time of this process in ticks of the system, as a rule 10 ms each.
fn processor_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux tells it");
    let (_, behind) = stat.rsplit_once(") ").expect("the name is in parentheses");
    behind.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

/// Memory of this process that is in use.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is there");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
