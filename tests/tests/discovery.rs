//! Objects that are found by multicast and broadcast on loopback, and what strangers in the same network can do.
//!
//! A loopback device has no groups of IPv6; the test `group_hosts` has those, on a bridge.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use farcall::{
    CallError, Capacity, Discovery, Found, Group as _, Limits, Listening, Mailbox, Node, NodeId,
    Sender, SenderConfig, remote,
};
use farcall_tests::service::{Transport, within};
use socket2::{Domain, Socket, Type};

/// What is sought.
#[remote(semantics = "at_most_once")]
trait Desk {
    async fn number(&self) -> u64;
}

/// Another interface.
#[remote]
trait Bell {
    async fn ring(&self);
}

struct Clerk(u64);

#[remote]
impl Desk for Clerk {
    async fn number(&self) -> u64 {
        self.0
    }
}

#[remote]
impl Bell for Clerk {
    async fn ring(&self) {}
}

/// Found on loopback within a time that a busy machine keeps to.
fn settings() -> Discovery {
    let interface = Some(Ipv4Addr::LOCALHOST);
    Discovery {
        interface,
        interface_index: 1,
        wait: Duration::from_millis(800),
        ..Discovery::default()
    }
}

/// A port that nobody has, for a group on this host.
fn free_port() -> u16 {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
    socket.local_addr().expect("it is bound").port()
}

/// A multicast group that no other test has.
fn multicast_group() -> String {
    format!("udp://239.255.42.1:{}", free_port())
}

async fn member(number: u64, transport: Transport, group: &str) -> Listening {
    let node = Node::builder().build();
    node.registry().bind_as::<dyn Desk>("desk", Clerk(number)).expect("a free name");
    let here = node.listen(transport.anywhere()).await.expect("a free port");
    node.announce_with(group, &settings()).await.expect("loopback has the group");
    here
}

async fn find(node: &Node, group: &str) -> Vec<Found<DeskProxy>> {
    let mut finding =
        node.discover_with(format!("{group}/desk"), &settings()).expect("a good address");
    let mut found = Vec::new();
    while let Some(one) = within("the end of the wait", finding.next()).await {
        found.push(one);
    }
    found
}

async fn found_and_called(group: &str, members: &[Listening]) {
    let node = Node::builder().build();
    let found = find(&node, group).await;
    let nodes: BTreeSet<NodeId> = found.iter().map(|found| found.node).collect();
    let expected: BTreeSet<NodeId> = members.iter().map(|member| member.node().id()).collect();
    assert_eq!(nodes, expected);
    assert_eq!(found.len(), members.len(), "each once");
    for found in &found {
        let member = members.iter().find(|member| member.node().id() == found.node);
        let member = member.expect("it is one of them");
        assert_eq!(found.boot, member.node().boot());
        assert_eq!(found.urls, [member.url("desk")]);
        found.proxy.number().await.expect("it answers");
    }
    let urls = found.iter().map(|found| found.urls[0].clone());
    let desks: DeskGroup = node.group(urls).await.expect("good addresses");
    let replies = within("all", desks.number().all()).await;
    let numbers: BTreeSet<u64> = replies.accepted().map(|(_, number)| *number).collect();
    assert_eq!(numbers.len(), members.len());
    assert_eq!(desks.members().len(), members.len());
}

#[tokio::test]
async fn members_of_a_multicast_group_are_found_and_called() {
    let group = multicast_group();
    let mut members = Vec::new();
    for number in 0..4 {
        let transport = [Transport::Tcp, Transport::Udp][number as usize % 2];
        members.push(member(number, transport, &group).await);
    }
    // One with another interface under the name, one without the name, one in another group.
    let bell = Node::builder().build();
    bell.registry().bind_as::<dyn Bell>("desk", Clerk(9)).expect("a free name");
    bell.listen("tcp://127.0.0.1:0").await.expect("a free port");
    bell.announce_with(&group, &settings()).await.expect("loopback has the group");
    let bare = Node::builder().build();
    bare.listen("tcp://127.0.0.1:0").await.expect("a free port");
    bare.announce_with(&group, &settings()).await.expect("loopback has the group");
    let elsewhere = member(9, Transport::Tcp, &multicast_group()).await;

    found_and_called(&group, &members).await;
    // Who was shut down is not found any more; who is bound later is.
    let gone = members.remove(0);
    gone.shutdown(Duration::from_secs(1)).await.expect("nothing runs");
    bare.registry().bind_as::<dyn Desk>("desk", Clerk(7)).expect("a free name");
    let nodes: BTreeSet<NodeId> =
        find(elsewhere.node(), &group).await.into_iter().map(|found| found.node).collect();
    assert!(nodes.contains(&bare.id()) && !nodes.contains(&gone.node().id()), "{nodes:?}");
}

#[tokio::test]
async fn a_sender_reaches_the_mailboxes_that_are_found_at_a_multicast_group() {
    let group = multicast_group();
    let mut inboxes = Vec::new();
    for transport in [Transport::Tcp, Transport::Udp, Transport::Udp] {
        let node = Node::builder().build();
        let inbox: Mailbox<u64> = node.mailbox("orders", Capacity::Bounded(4)).expect("free");
        node.listen(transport.anywhere()).await.expect("a free port");
        node.announce_with(&group, &settings()).await.expect("loopback has the group");
        inboxes.push(inbox);
    }
    // The name with another object behind it.
    let _other = member(1, Transport::Tcp, &group).await;
    let node = Node::builder().build();
    let url = format!("{group}/orders");
    let config = SenderConfig::default();
    let sender: Sender<u64> =
        node.found_sender(&url, &settings(), config).await.expect("a good address");
    assert_eq!(sender.mailboxes().len(), inboxes.len());
    for number in 1..=20 {
        sender.post(&number).await.expect("nothing is lost");
        for inbox in &inboxes {
            assert_eq!(within("it", inbox.receive()).await, Ok(number));
        }
    }
    sender.flush().await.expect("nothing is lost");
}

#[tokio::test]
async fn members_at_a_broadcast_address_are_found_and_called() {
    let group = format!("udp://127.255.255.255:{}", free_port());
    let members =
        [member(0, Transport::Tcp, &group).await, member(1, Transport::Udp, &group).await];
    found_and_called(&group, &members).await;
}

#[tokio::test]
async fn what_is_no_address_of_a_group_is_a_clear_error() {
    let node = Node::builder().build();
    for url in
        ["tcp://239.255.42.1:7400/desk", "udp://localhost:7400/desk", "udp://239.255.42.1:7400"]
    {
        let error = node.discover_with::<DeskProxy>(url, &settings()).expect_err("it is none");
        assert!(matches!(error, CallError::BadAddress(_)), "{url}: {error}");
    }
    assert!(node.announce_with("tcp://239.255.42.1:7400", &settings()).await.is_err());
}

/// A socket that hears the questions of a group, as everybody in the network can.
fn eavesdropper(group: SocketAddr) -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("it is new");
    socket.bind(&group.into()).expect("shared");
    let IpAddr::V4(number) = group.ip() else { panic!("of IPv4") };
    socket.join_multicast_v4(&number, &Ipv4Addr::LOCALHOST).expect("loopback has the group");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a time");
    socket.into()
}

fn group_of(url: &str) -> SocketAddr {
    url.trim_start_matches("udp://").parse().expect("a number")
}

/// The answer of a member at a port, as docs/protocol.md has it.
fn here(nonce: u64, node: u128, port: u16) -> Vec<u8> {
    let mut bytes = vec![6];
    bytes.extend_from_slice(&nonce.to_be_bytes());
    bytes.extend_from_slice(&node.to_be_bytes());
    bytes.extend_from_slice(&7_u64.to_be_bytes());
    bytes.extend_from_slice(&[1, 0]);
    bytes.extend_from_slice(&port.to_be_bytes());
    sealed(bytes)
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&sum.to_be_bytes());
    bytes
}

#[tokio::test]
async fn forged_answers_without_the_nonce_are_not_believed_and_repeats_count_once() {
    let group = multicast_group();
    let real = member(1, Transport::Tcp, &group).await;
    let spy = eavesdropper(group_of(&group));
    let forger = tokio::task::spawn_blocking(move || {
        let mut question = [0; 2000];
        let (length, asker) = spy.recv_from(&mut question).expect("somebody asks");
        assert_eq!(length, 548);
        let nonce = u64::from_be_bytes(question[1..9].try_into().expect("eight bytes"));
        let liar = UdpSocket::bind("127.0.0.1:0").expect("a port");
        for wrong in 1..200 {
            liar.send_to(&here(nonce ^ wrong, wrong.into(), 1), asker).expect("sent");
        }
        // Who hears the question can answer it; a session shows then that nobody is there.
        for _ in 0..5 {
            liar.send_to(&here(nonce, 5, 1), asker).expect("sent");
        }
        // No way, and garbage.
        let mut garbage = here(nonce, 6, 1);
        garbage[20] ^= 1;
        liar.send_to(&garbage, asker).expect("sent");
    });
    let node = Node::builder().build();
    let found = find(&node, &group).await;
    forger.await.expect("the forger ends");
    let nodes: Vec<NodeId> = found.iter().map(|found| found.node).collect();
    assert!(nodes.contains(&real.node().id()));
    assert_eq!(nodes.len(), 2, "{nodes:?}");
}

#[tokio::test]
async fn a_storm_of_answers_fills_no_more_than_a_group() {
    let group = multicast_group();
    let spy = eavesdropper(group_of(&group));
    let storm = tokio::task::spawn_blocking(move || {
        let mut question = [0; 2000];
        let (_, asker) = spy.recv_from(&mut question).expect("somebody asks");
        let nonce = u64::from_be_bytes(question[1..9].try_into().expect("eight bytes"));
        let liar = UdpSocket::bind("127.0.0.1:0").expect("a port");
        for node in 0..5000_u128 {
            // The socket that asks is gone when there are enough.
            let _ = liar.send_to(&here(nonce, node, 1), asker);
        }
    });
    let node = Node::builder().limits(Limits { members: 20, ..Limits::default() }).build();
    let found = find(&node, &group).await;
    storm.await.expect("the storm ends");
    assert_eq!(found.len(), 20);
}

#[tokio::test]
async fn many_questions_get_few_answers_none_of_which_is_larger() {
    let group = multicast_group();
    let _member = member(1, Transport::Tcp, &group).await;
    let asker = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    asker.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).expect("loopback");
    asker.set_read_timeout(Some(Duration::from_millis(700))).expect("a time");
    let asker: UdpSocket = asker.into();
    let mut question = vec![5];
    question.extend_from_slice(&9_u64.to_be_bytes());
    question.push(0);
    question.extend_from_slice(b"\x04desk\x04Desk");
    let short = sealed(question.clone());
    question.resize(544, 0);
    let question = sealed(question);
    let answers = tokio::task::spawn_blocking(move || {
        let group = group_of(&group);
        // A question that is smaller than its answer may be is not answered.
        asker.send_to(&short, group).expect("sent");
        for _ in 0..2000 {
            asker.send_to(&question, group).expect("sent");
        }
        let mut answers = 0;
        let mut bytes = [0; 2000];
        while let Ok((length, _)) = asker.recv_from(&mut bytes) {
            assert!(length <= 548, "{length} bytes");
            answers += 1;
        }
        answers
    });
    let answers = answers.await.expect("the asker ends");
    assert!((1..1000).contains(&answers), "{answers} answers to 2,000 questions");
}
