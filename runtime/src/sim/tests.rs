//! What the simulated network does to bytes, and what a crash leaves of a node.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::fabric::Fabric;
use super::network::HostNetwork;
use super::{Faults, Sim, World};
use crate::transport::{Inbox, Listener, Network, Stream};
use crate::{Address, Interface, Node};

/// Two streams of one connection, from `a` to `b`.
async fn pair(fabric: &Arc<Fabric>) -> (Stream, Stream) {
    let (a, address, mut listener) = hosts(fabric).await;
    let here = a.connect(&address).await.expect("somebody listens");
    let (there, _) = listener.accept().await.expect("a connection");
    (here, there)
}

/// Two hosts, of which `b` listens.
async fn hosts(fabric: &Arc<Fabric>) -> (HostNetwork, Address, Box<dyn Listener>) {
    let network = |name: &str| {
        let place = fabric.with(|state| state.start(name));
        HostNetwork::new(fabric.clone(), place, name.into())
    };
    let (a, b) = (network("a"), network("b"));
    let address = "tcp://b:1".parse::<crate::Url>().map(|url| url.address().clone());
    let address = address.expect("an address");
    let listener = b.listen(&address).await.expect("a free port");
    (a, address, listener)
}

fn fabric(seed: u64) -> Arc<Fabric> {
    Arc::new(Fabric::new(seed, Faults::none()))
}

#[tokio::test(start_paused = true)]
async fn bytes_arrive_in_order_and_in_time() {
    let fabric = fabric(1);
    let (mut here, mut there) = pair(&fabric).await;
    let begun = fabric.elapsed();
    let sent: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
    let copy = sent.clone();
    tokio::spawn(async move {
        here.write_all(&copy).await.expect("no cut");
        here.shutdown().await.expect("no cut");
        let mut end = Vec::new();
        here.read_to_end(&mut end).await
    });
    let mut read = Vec::new();
    there.read_to_end(&mut read).await.expect("no cut");
    assert!(read == sent);
    assert!(fabric.elapsed() - begun >= Duration::from_millis(4), "64 KiB a millisecond");
}

#[tokio::test(start_paused = true)]
async fn a_cut_delivers_any_first_part_and_then_an_error() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let fabric = fabric(seed);
        let (mut here, mut there) = pair(&fabric).await;
        here.write_all(&[1, 2, 3, 4]).await.expect("no cut yet");
        assert_eq!(fabric.with(|state| state.cut_between("a", "b")), 1);
        let mut read = Vec::new();
        there.read_to_end(&mut read).await.expect_err("cut");
        assert!([1, 2, 3, 4].starts_with(&read));
        lengths.insert(read.len());
        assert!(here.read_u8().await.is_err());
        assert!(here.write_u8(1).await.is_err());
    }
    assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_partition_holds_bytes_until_it_is_healed() {
    let fabric = fabric(1);
    let (mut here, mut there) = pair(&fabric).await;
    fabric.with(|state| state.block("a", "b"));
    here.write_u8(1).await.expect("room");
    there.write_u8(2).await.expect("room");
    assert_eq!(here.read_u8().await.expect("this way is open"), 2);
    let minute = Duration::from_secs(60);
    assert!(tokio::time::timeout(minute, there.read_u8()).await.is_err());
    fabric.with(|state| state.heal());
    assert_eq!(there.read_u8().await.expect("healed"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_partition_loses_datagrams_on_their_way_and_their_repeats() {
    let fabric = Fabric::new(1, Faults { repeat_one_in: 1, ..Faults::none() });
    let [a, b] = ["a", "b"].map(|name| fabric.with(|state| state.start(name)));
    let bind = |host, port, peer| fabric.with(|state| state.bind(host, port, peer));
    let (there, _) = bind(b, 1, None).expect("a free port");
    let (here, _) = bind(a, 0, Some(("b", 1))).expect("a free port");
    let send = || fabric.with(|state| drop(state.poll_send(here, None, b"any", 3)));
    let arrived = async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (cx, mut inbox) = (Context::from_waker(Waker::noop()), Inbox::default());
        fabric.with(|state| drop(state.poll_receive(there, &cx, &mut inbox)));
        inbox.len()
    };
    send();
    fabric.with(|state| state.block("a", "b"));
    send();
    assert_eq!(arrived().await, 0);
    fabric.with(|state| state.heal());
    assert_eq!(arrived().await, 0, "it is lost, not held");
    fabric.with(|state| state.block("a", "b"));
    send();
    fabric.with(|state| state.heal());
    assert_eq!(arrived().await, 0, "its repeat is lost as well");
    send();
    assert_eq!(arrived().await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_host_without_power_is_silent_until_it_is_back() {
    let fabric = fabric(1);
    let (mut here, _there) = pair(&fabric).await;
    fabric.with(|state| state.power_off("b"));
    here.write_u8(1).await.expect("nobody knows yet");
    assert!(tokio::time::timeout(Duration::from_secs(60), here.read_u8()).await.is_err());
    fabric.with(|state| state.start("b"));
    here.write_u8(1).await.expect("nobody knows yet");
    assert!(here.read_u8().await.is_err());
}

/// A request that was sent again on a new connection, while its first copy was still on its way, met no server that had
/// not seen the first: what a lost connection had in flight must be able to arrive beside the next one's first bytes.
#[tokio::test(start_paused = true)]
async fn bytes_of_a_lost_connection_arrive_with_the_next() {
    let mut late = 0;
    for seed in 0..40 {
        let fabric = fabric(seed);
        let (a, address, mut listener) = hosts(&fabric).await;
        let mut lost = a.connect(&address).await.expect("somebody listens");
        let (mut old, _) = listener.accept().await.expect("a connection");
        let half_open = Faults { half_open_one_in: 1, ..Faults::none() };
        fabric.with(|state| state.set_faults(half_open));
        lost.write_u8(1).await.expect("told later");
        fabric.with(|state| state.set_faults(Faults::none()));
        let second = Duration::from_secs(1);
        if tokio::time::timeout(second, old.read_u8()).await.is_ok() {
            // It arrived at once, or it was the other side that was told.
            continue;
        }
        let mut next = a.connect(&address).await.expect("somebody listens");
        let (mut new, _) = listener.accept().await.expect("a connection");
        next.write_u8(2).await.expect("no cut");
        assert_eq!(new.read_u8().await.expect("no cut"), 2);
        late +=
            u64::from(tokio::time::timeout(second, old.read_u8()).await.is_ok_and(|it| it.is_ok()));
    }
    assert!(late > 3, "only {late} of 40");
}

#[crate::remote(semantics = "at_most_once", crate = crate)]
trait Steps {
    async fn step(&self, pause: Duration) -> u64;
}

/// Counts how often its handlers went on, and how many of their futures are alive.
#[derive(Clone)]
struct Counting {
    world: World,
    steps: Arc<AtomicUsize>,
    alive: Arc<()>,
}

#[crate::remote(crate = crate)]
impl Steps for Counting {
    async fn step(&self, pause: Duration) -> u64 {
        let _alive = self.alive.clone();
        self.steps.fetch_add(1, Ordering::Relaxed);
        if pause.is_zero() {
            self.world.crash("server");
        }
        tokio::time::sleep(pause + Duration::from_millis(1)).await;
        self.steps.fetch_add(1000, Ordering::Relaxed);
        1
    }
}

async fn steps(world: &World) -> (Node, Counting, StepsProxy) {
    let alive = Arc::default();
    let counting = Counting { world: world.clone(), steps: Arc::default(), alive };
    let server = world.node("server").start();
    server.registry().bind("steps", counting.clone()).expect("a free name");
    server.listen("tcp://server:1").await.expect("a free port");
    let client = world.node("client").start();
    let proxy = client.lookup("tcp://server:1/steps").await.expect("it is there");
    (server, counting, proxy)
}

#[test]
fn a_crash_ends_handlers_where_they_stand() {
    Sim::new(1).run(async |world| {
        let (_server, counting, proxy) = steps(&world).await;
        let call = proxy.step(Duration::from_secs(1)).start().await.expect("room");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(Arc::strong_count(&counting.alive), 3);
        world.crash("server");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(counting.steps.load(Ordering::Relaxed), 1);
        assert!(Arc::strong_count(&counting.alive) <= 2, "its future was dropped");
        drop(call);
    });
}

#[test]
fn a_handler_that_brings_the_crash_is_the_last_that_runs() {
    Sim::new(1).run(async |world| {
        let (_server, counting, proxy) = steps(&world).await;
        let calls: Vec<_> = (0..10).map(|_| proxy.step(Duration::ZERO).try_start()).collect();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(counting.steps.load(Ordering::Relaxed), 1);
        drop(calls);
    });
}

#[test]
fn a_task_of_a_host_ends_with_it() {
    Sim::new(1).run(async |world| {
        let _node = world.node("client").start();
        let task = world.spawn("client", std::future::pending::<()>());
        world.crash("client");
        assert!(task.await.is_err_and(|error| error.is_cancelled()));
    });
}

#[test]
fn a_run_that_never_ends_fails_with_its_seed() {
    let sim = Sim::new(7).longest(Duration::from_secs(60)).replay("cargo test x");
    let failure = sim.try_run(async |_| std::future::pending::<()>().await).expect_err("endless");
    assert!(failure.reason.contains("60s"), "{}", failure.reason);
    assert_eq!(failure.replay, "FARCALL_SEED=7 cargo test x");
}

#[test]
fn a_panic_and_a_broken_promise_fail_a_run() {
    let failure = Sim::new(1).try_run(async |_| panic!("boom")).expect_err("a panic");
    assert!(failure.reason.contains("boom"));
    let failure = Sim::new(1).try_run(async |world| {
        let _node = world.node("client").start();
        let _ = world.spawn("client", async { panic!("boom") }).await;
    });
    assert!(failure.expect_err("a panic").reason.contains("a task of `client` panicked"));
    let failure = Sim::new(1).try_run(async |world| world.ledger().ran(3));
    let failure = failure.expect_err("nobody called");
    assert!(failure.reason.contains("never called") && failure.transcript.contains("call 0x3"));
}

/// A server that was away for an hour was asked for thousands of times: only connections that failed after they had been
/// made lengthened the pause.
#[test]
fn the_pause_between_attempts_to_connect_grows() {
    let run = Sim::new(1).run(async |world| {
        let (_server, _, proxy) = steps(&world).await;
        world.crash("server");
        let call = proxy.step(Duration::ZERO).timeout(Duration::MAX).start().await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        drop(call);
    });
    assert!((100..=400).contains(&run.network.refused), "{:?}", run.network);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let hash = |seed| {
        let run = Sim::new(seed).faults(Faults::rough()).run(async |world| {
            let (_server, _, proxy) = steps(&world).await;
            for _ in 0..20 {
                let _ = proxy.step(Duration::from_millis(3)).await;
            }
        });
        (run.trace_hash, run.events, run.elapsed)
    };
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
    let _ = <dyn Steps as Interface>::DESCRIPTOR;
}
