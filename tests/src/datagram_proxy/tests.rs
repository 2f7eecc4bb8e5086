//! Each fault, seen from plain sockets on both sides of the proxy.

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

use super::*;
use crate::raw;

/// A proxy in front of a socket that the test answers for.
struct Setup {
    proxy: DatagramProxy,
    server: UdpSocket,
    client: UdpSocket,
}

impl Setup {
    async fn new() -> Setup {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let proxy = DatagramProxy::start(server.local_addr().unwrap()).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(proxy.address()).await.unwrap();
        Setup { proxy, server, client }
    }

    async fn send(&self, bytes: &[u8]) {
        self.client.send(bytes).await.unwrap();
    }

    /// What the server receives next, and from where.
    async fn arrives(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 2000];
        let (length, from) = within(self.server.recv_from(&mut buffer)).await.unwrap();
        (buffer[..length].to_vec(), from)
    }

    /// The server's answer to an address, as the client receives it.
    async fn answer(&self, bytes: &[u8], to: SocketAddr) -> Vec<u8> {
        self.server.send_to(bytes, to).await.unwrap();
        let mut buffer = [0; 2000];
        let length = within(self.client.recv(&mut buffer)).await.unwrap();
        buffer[..length].to_vec()
    }
}

/// Longer than anything here takes, so that a defect fails instead of hanging.
async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("hangs")
}

fn call() -> Vec<u8> {
    [vec![0x40], vec![7; 12], raw::call(1, 0, b"x"), vec![0; 4]].concat()
}

#[tokio::test]
async fn without_faults_datagrams_pass_both_ways_and_are_counted_by_kind() {
    let setup = Setup::new().await;
    for datagram in [vec![0; 1200], vec![4; 13], call()] {
        setup.send(&datagram).await;
        let (bytes, from) = setup.arrives().await;
        assert_eq!(bytes, datagram);
        assert_eq!(setup.answer(&bytes, from).await, datagram);
    }
    let counts = setup.proxy.counts();
    assert_eq!((counts.clients, counts.to_server.datagrams), (1, 3));
    for kind in [DatagramKind::Hello, DatagramKind::Unknown, DatagramKind::Data] {
        assert_eq!(counts.to_client.of(kind), 1, "{kind:?}");
    }
    assert_eq!(counts.both().bytes, 2 * (1200 + 13 + call().len() as u64));
}

#[tokio::test]
async fn clients_are_told_apart_and_get_their_own_answers() {
    let setup = Setup::new().await;
    let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    setup.send(b"one").await;
    let (_, one) = setup.arrives().await;
    other.send_to(b"two", setup.proxy.address()).await.unwrap();
    let (_, two) = setup.arrives().await;
    assert_ne!(one, two);
    setup.server.send_to(b"for two", two).await.unwrap();
    assert_eq!(setup.answer(b"for one", one).await, b"for one");
    let mut buffer = [0; 9];
    assert_eq!(within(other.recv(&mut buffer)).await.unwrap(), 7);
}

#[tokio::test]
async fn a_cut_takes_one_direction_and_leaves_the_other() {
    let setup = Setup::new().await;
    setup.send(b"first").await;
    let (_, from) = setup.arrives().await;
    let cut = DatagramFaults { cut: true, ..DatagramFaults::default() };
    setup.proxy.set_faults(Direction::ToServer, cut);
    setup.send(b"lost").await;
    within(setup.proxy.until(|counts| counts.to_server.lost == 1)).await;
    assert_eq!(setup.answer(b"passes", from).await, b"passes");
    setup.proxy.set_both(DatagramFaults::default());
    setup.send(b"next").await;
    assert_eq!(setup.arrives().await.0, b"next");
}

#[tokio::test]
async fn a_delay_is_real_and_a_delayed_datagram_is_overtaken() {
    let setup = Setup::new().await;
    let lasts = Duration::from_millis(100);
    setup.proxy.on_next(Direction::ToServer, None, DatagramFault::Delay { lasts });
    let sent = Instant::now();
    setup.send(b"slow").await;
    within(setup.proxy.until(|counts| counts.sprung == 1)).await;
    setup.send(b"fast").await;
    assert_eq!(setup.arrives().await.0, b"fast");
    assert_eq!(setup.arrives().await.0, b"slow");
    assert!(sent.elapsed() >= lasts);
}

#[tokio::test]
async fn an_ordered_fault_waits_for_its_frame() {
    let setup = Setup::new().await;
    setup.proxy.on_next(Direction::ToServer, Some(FrameKind::CALL), DatagramFault::Lose);
    setup.proxy.on_next(Direction::ToServer, Some(FrameKind::CALL), DatagramFault::Repeat);
    for datagram in [vec![0; 20], call(), call(), vec![1; 20]] {
        setup.send(&datagram).await;
    }
    for expected in [vec![0; 20], call(), call(), vec![1; 20]] {
        assert_eq!(setup.arrives().await.0, expected);
    }
    let counts = setup.proxy.counts();
    assert_eq!((counts.sprung, counts.to_server.lost, counts.to_server.repeated), (2, 1, 1));
}

#[tokio::test]
async fn changed_addresses_are_seen_by_the_server_and_the_old_ones_are_dead() {
    let setup = Setup::new().await;
    setup.send(b"old").await;
    let (_, old) = setup.arrives().await;
    setup.proxy.change_addresses();
    let (mut bytes, mut new) = (Vec::new(), old);
    // The change and the datagrams come to the proxy on different ways.
    while new == old {
        setup.send(b"new").await;
        (bytes, new) = setup.arrives().await;
    }
    assert_eq!(bytes, b"new");
    setup.server.send_to(b"lost", old).await.unwrap();
    assert_eq!(setup.answer(b"arrives", new).await, b"arrives");
    assert_eq!(setup.proxy.counts().clients, 1);
}

#[tokio::test]
async fn what_was_recorded_can_be_sent_again_from_the_same_address() {
    let setup = Setup::new().await;
    setup.proxy.record(2);
    for datagram in [b"1", b"2", b"3"] {
        setup.send(datagram).await;
    }
    let (_, from) = setup.arrives().await;
    let _ = (setup.arrives().await, setup.arrives().await);
    assert_eq!(setup.proxy.recorded(), [b"1", b"2"]);
    setup.proxy.inject(setup.proxy.recorded().remove(1));
    assert_eq!(setup.arrives().await, (b"2".to_vec(), from));
}

#[tokio::test]
async fn another_server_gets_what_comes_after() {
    let setup = Setup::new().await;
    setup.send(b"1").await;
    setup.arrives().await;
    let next = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    setup.proxy.set_upstream(next.local_addr().unwrap());
    setup.send(b"2").await;
    let mut buffer = [0; 9];
    let (length, from) = within(next.recv_from(&mut buffer)).await.unwrap();
    assert_eq!(&buffer[..length], b"2");
    next.send_to(b"hello", from).await.unwrap();
    assert_eq!(within(setup.client.recv(&mut buffer)).await.unwrap(), 5);
}

#[tokio::test]
async fn a_rate_is_kept() {
    let setup = Setup::new().await;
    let faults = DatagramFaults { rate: Some(100_000), ..DatagramFaults::default() };
    setup.proxy.set_faults(Direction::ToServer, faults);
    let began = Instant::now();
    for _ in 0..20 {
        setup.send(&[9; 1000]).await;
    }
    for _ in 0..20 {
        setup.arrives().await;
    }
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert_eq!(setup.proxy.counts().to_server.overflowed, 0);
}
