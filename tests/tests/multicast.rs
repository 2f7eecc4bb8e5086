//! Calls to groups that leave in one datagram, on loopback: what each member runs, who is called alone, and what
//! strangers can do with the datagrams that everybody hears.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use farcall::{CallError, Discovery, Execution, Group as _, Limits, Node};
use farcall_tests::service::{Log, Transport, WorkGroup, Worker, eventually, order, within};
use socket2::{Domain, Socket, Type};

fn settings() -> Discovery {
    let interface = Some(Ipv4Addr::LOCALHOST);
    Discovery { interface, wait: Duration::from_millis(600), ..Discovery::default() }
}

/// A multicast group that no other test has.
fn group_address() -> SocketAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
    let port = socket.local_addr().expect("it is bound").port();
    (Ipv4Addr::new(239, 255, 42, 2), port).into()
}

/// Members over UDP, and what they ran.
struct Members {
    at: SocketAddr,
    nodes: Vec<Node>,
    logs: Vec<Arc<Log>>,
    group: WorkGroup,
}

async fn members(count: usize) -> Members {
    let at = group_address();
    let (mut nodes, mut logs) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (node, log) = (Node::builder().build(), Log::new());
        node.registry().bind("work", Worker::new(&log)).expect("a free name");
        node.listen(Transport::Udp.anywhere()).await.expect("a free port");
        node.announce_with(format!("udp://{at}"), &settings()).await.expect("loopback has groups");
        nodes.push(node);
        logs.push(log);
    }
    let node = Node::builder().build();
    let group: WorkGroup =
        node.multicast_with(format!("udp://{at}/work"), &settings()).await.expect("a good address");
    assert_eq!(group.members().len(), count);
    Members { at, nodes, logs, group }
}

/// Hears what is sent to a group, as everybody in the network can.
struct Spy {
    stop: Arc<AtomicBool>,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
    thread: Option<JoinHandle<()>>,
}

impl Spy {
    fn at(group: SocketAddr) -> Spy {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("it is new");
        socket.bind(&group.into()).expect("shared");
        let IpAddr::V4(number) = group.ip() else { panic!("of IPv4") };
        socket.join_multicast_v4(&number, &Ipv4Addr::LOCALHOST).expect("loopback has groups");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time");
        let socket: UdpSocket = socket.into();
        let (stop, heard) =
            (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<Vec<u8>>>>::default());
        let (ends, hears) = (stop.clone(), heard.clone());
        let thread = std::thread::spawn(move || {
            let mut bytes = [0; 65_535];
            while !ends.load(Ordering::Relaxed) {
                let Ok((length, _)) = socket.recv_from(&mut bytes) else { continue };
                hears.lock().unwrap_or_else(PoisonError::into_inner).push(bytes[..length].to_vec());
            }
        });
        Spy { stop, heard, thread: Some(thread) }
    }

    fn bundles(&self) -> Vec<Vec<u8>> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().filter(|datagram| datagram.first() == Some(&7)).cloned().collect()
    }
}

impl Drop for Spy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[tokio::test]
async fn a_call_to_eight_members_is_one_datagram_and_runs_once_at_each() {
    let Members { at, logs, group, nodes: _nodes } = members(8).await;
    let spy = Spy::at(at);
    let padding = vec![7; 600];
    for id in 1..=100 {
        let order = || farcall_tests::service::Order { padding: padding.clone(), ..order(id) };
        let replies = match id % 3 {
            0 => within("all", group.at_least_once(order()).all()).await,
            1 => within("all", group.maybe(order()).all()).await,
            _ => within("all", group.at_most_once(order()).all()).await,
        };
        assert!(replies.is_met(), "call {id}: {replies:?}");
        // At least once is again, where an answer is late.
        let most = if id % 3 == 0 { u32::MAX } else { 1 };
        assert!(logs.iter().all(|log| (1..=most).contains(&log.runs(id))), "call {id}");
    }
    eventually("most calls left in one datagram", || spy.bundles().len() >= 90).await;
}

#[tokio::test]
async fn a_call_that_is_larger_than_a_datagram_is_made_to_each_member_alone() {
    let Members { at, logs, group, nodes: _nodes } = members(3).await;
    let spy = Spy::at(at);
    let large = farcall_tests::service::Order { padding: vec![7; 5000], ..order(1) };
    assert!(within("all", group.at_most_once(large).all()).await.is_met());
    assert!(logs.iter().all(|log| log.runs(1) == 1));
    assert_eq!(spy.bundles().len(), 0);
}

#[tokio::test]
async fn a_member_that_no_bundle_reaches_is_sent_the_call_alone() {
    let Members { group, logs, nodes, at } = members(3).await;
    // Another server, which is no member of the multicast group, and one over TCP.
    let (apart, log) = (Node::builder().build(), Log::new());
    apart.registry().bind("work", Worker::new(&log)).expect("a free name");
    for transport in [Transport::Udp, Transport::Tcp] {
        let here = apart.listen(transport.anywhere()).await.expect("a free port");
        group.add(here.url("work")).expect("a good address");
    }
    assert!(within("the first", group.at_most_once(order(1)).all()).await.require().is_err());
    assert_eq!(log.runs(1), 2, "one object at two addresses: two calls, and one vote");
    let spy = Spy::at(at);
    for id in 2..=20 {
        let replies = within("all", group.at_most_once(order(id)).all()).await;
        assert_eq!(replies.accepted().count(), 4, "{replies:?}");
        assert!(logs.iter().all(|log| log.runs(id) == 1));
        assert_eq!(log.runs(id), 2);
    }
    let most = || spy.bundles().len() >= 15;
    eventually("the others are still called by one datagram", most).await;
    drop(nodes);
}

#[tokio::test]
async fn bundles_that_are_sent_again_or_made_up_run_nothing() {
    let Members { at, group, logs, nodes } = members(3).await;
    let spy = Spy::at(at);
    for id in 1..=10 {
        assert!(within("all", group.maybe(order(id)).all()).await.is_met());
        assert!(within("all", group.at_most_once(order(100 + id)).all()).await.is_met());
    }
    eventually("they were heard", || spy.bundles().len() >= 10).await;
    let recorded = spy.bundles();
    let stranger = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    stranger.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).expect("loopback");
    stranger.set_read_timeout(Some(Duration::from_millis(200))).expect("a time");
    let stranger: UdpSocket = stranger.into();
    let received = || nodes.iter().map(|node| node.statistics().datagrams_received).sum::<u64>();
    let before = received();
    for bundle in recorded.iter().cycle().take(200) {
        stranger.send_to(bundle, at).expect("sent");
        // Of a client that nobody knows, and damaged.
        let mut forged = bundle.clone();
        forged[2] ^= 0xff;
        stranger.send_to(&forged, at).expect("sent");
        let length = forged.len() - 4;
        let sum = crc32c::crc32c(&forged[..length]);
        forged[length..].copy_from_slice(&sum.to_be_bytes());
        stranger.send_to(&forged, at).expect("sent");
    }
    // A socket takes as many of them as there is room for.
    eventually("they came", || received() >= before + 100).await;
    // Nobody answers a stranger.
    let answer = tokio::task::spawn_blocking(move || stranger.recv_from(&mut [0; 2000]).is_ok());
    assert!(!answer.await.expect("no panic"), "an answer to a stranger");
    for id in 1..=10 {
        assert!(logs.iter().all(|log| log.runs(id) == 1 && log.runs(100 + id) == 1), "call {id}");
    }
    assert!(within("all", group.at_most_once(order(500)).all()).await.is_met());
}

#[tokio::test]
async fn a_broadcast_carries_what_may_be_lost_or_repeated_and_refuses_the_rest() {
    let port = group_address().port();
    let mut logs = Vec::new();
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let (node, log) = (Node::builder().build(), Log::new());
        node.registry().bind("work", Worker::new(&log)).expect("a free name");
        node.listen(Transport::Udp.anywhere()).await.expect("a free port");
        let at = format!("udp://127.255.255.255:{port}");
        node.announce(at).await.expect("loopback has a broadcast address");
        nodes.push(node);
        logs.push(log);
    }
    let url = format!("udp://127.255.255.255:{port}/work");
    let node = Node::builder().build();
    let group: WorkGroup = node.broadcast(url).await.expect("a good address");
    assert_eq!(group.members().len(), 2);
    assert!(within("all", group.maybe(order(1)).all()).await.is_met());
    assert!(within("all", group.at_least_once(order(2)).all()).await.is_met());
    let replies = within("the refusal", group.at_most_once(order(3)).all()).await;
    assert_eq!(replies.len(), 2);
    for reply in &replies {
        let error = reply.result.as_ref().expect_err("it promises more");
        assert!(matches!(error, CallError::NotForBroadcast { method: "at_most_once" }), "{error}");
        assert_eq!(error.execution(), Execution::NotExecuted);
    }
    assert!(logs.iter().all(|log| log.runs(1) == 1 && log.runs(2) >= 1 && log.runs(3) == 0));
}

#[tokio::test]
async fn a_group_that_nobody_answers_for_is_empty() {
    let node = Node::builder().limits(Limits::default()).build();
    let url = format!("udp://{}/work", group_address());
    let group: WorkGroup = node.multicast_with(url, &settings()).await.expect("a good address");
    assert!(group.members().is_empty());
    assert!(group.at_most_once(order(1)).majority().await.require().is_err());
}
