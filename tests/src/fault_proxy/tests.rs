//! Each fault, seen from plain sockets on both sides of the proxy.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;

/// A proxy in front of a listener that the test answers for.
struct Setup {
    proxy: FaultProxy,
    listener: TcpListener,
}

impl Setup {
    async fn new() -> Setup {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = FaultProxy::start(listener.local_addr().unwrap()).unwrap();
        Setup { proxy, listener }
    }

    /// A new connection through the proxy: the client's end and the server's.
    async fn connect(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.proxy.address()).await.unwrap();
        let (server, _) = self.listener.accept().await.unwrap();
        (client, server)
    }
}

fn frame(kind: FrameKind, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 127, "one byte of length is enough here");
    [&[body.len() as u8 + 1, kind.0 << 3][..], body].concat()
}

async fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    within(stream.read_exact(&mut got)).await.unwrap();
    assert_eq!(got, bytes);
}

/// All that still comes, until the end of the stream or a reset.
async fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    let _ = within(stream.read_to_end(&mut got)).await;
    got
}

/// Whether a new connection is reset, be it before or after the client learns that it stands.
async fn is_reset(proxy: &FaultProxy) -> bool {
    match TcpStream::connect(proxy.address()).await {
        Ok(mut client) => within(client.read(&mut [0])).await.is_err(),
        Err(_) => true,
    }
}

/// Longer than anything here takes, so that a defect fails instead of hanging.
async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("hangs")
}

const CALL: FrameKind = FrameKind::CALL;

#[tokio::test]
async fn without_faults_every_byte_passes_and_each_side_closes_for_itself() {
    let setup = Setup::new().await;
    let (mut client, mut server) = setup.connect().await;
    // Not only frames: what is no frame passes as well.
    let mut stream = [frame(FrameKind::HELLO, b"hello"), frame(CALL, &[7; 100])].concat();
    stream.extend_from_slice(&[0xff; 9]);
    stream.extend((0..200_000u32).map(|number| number as u8));
    let sent = async {
        client.write_all(&stream).await.unwrap();
        client.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let (_, read) = within(async { tokio::join!(sent, server.read_to_end(&mut got)) }).await;
    read.unwrap();
    assert!(got == stream);
    server.write_all(b"still here").await.unwrap();
    drop(server);
    assert_eq!(rest(client).await, b"still here");
    let counts = within(setup.proxy.until(|counts| counts.open == 0)).await;
    let seen = Counts { accepted: 1, frames_from_client: 2, ..Counts::default() };
    assert_eq!(counts, seen);
}

#[tokio::test]
async fn cut_all_closes_every_connection_and_later_ones_live() {
    let setup = Setup::new().await;
    let (first, second) = (setup.connect().await, setup.connect().await);
    within(setup.proxy.until(|counts| counts.open == 2)).await;
    setup.proxy.cut_all();
    for end in [first.0, first.1, second.0, second.1] {
        assert_eq!(rest(end).await, b"");
    }
    let (mut client, mut server) = setup.connect().await;
    client.write_all(&frame(CALL, b"x")).await.unwrap();
    expect(&mut server, &frame(CALL, b"x")).await;
    drop((client, server));
    assert_eq!(within(setup.proxy.until(|counts| counts.open == 0)).await.cuts, 2);
}

#[tokio::test]
async fn a_cut_in_a_frame_leaves_exactly_the_bytes_that_were_asked_for() {
    let setup = Setup::new().await;
    let (ping, call) = (frame(FrameKind::PING, &[1; 8]), frame(CALL, &[7; 20]));
    for (bytes, kept) in [(0, 0), (5, 5), (1000, call.len() - 1)] {
        let (mut client, server) = setup.connect().await;
        setup.proxy.on_next(Direction::ToServer, Some(CALL), Fault::CutInFrame { bytes });
        let stream = [&ping[..], &call, &call].concat();
        client.write_all(&stream).await.unwrap();
        assert_eq!(rest(server).await, stream[..ping.len() + kept]);
        assert_eq!(rest(client).await, b"");
    }
    let counts = within(setup.proxy.until(|counts| counts.cuts == 3)).await;
    assert_eq!(counts.cuts_in_frame, 2);
}

#[tokio::test]
async fn a_cut_behind_a_reply_delivers_it_first() {
    let setup = Setup::new().await;
    let (mut client, mut server) = setup.connect().await;
    setup.proxy.on_next(Direction::ToClient, None, Fault::CutBehind);
    client.write_all(&frame(CALL, b"a")).await.unwrap();
    expect(&mut server, &frame(CALL, b"a")).await;
    let reply = frame(FrameKind::REPLY, b"a");
    server.write_all(&[&reply[..], &reply].concat()).await.unwrap();
    assert_eq!(rest(client).await, reply);
    assert_eq!(rest(server).await, b"");
}

#[tokio::test]
async fn a_stall_holds_everything_and_resume_lets_it_go() {
    let setup = Setup::new().await;
    let (mut client, mut server) = setup.connect().await;
    setup.proxy.stall();
    client.write_all(&frame(CALL, b"held")).await.unwrap();
    setup.proxy.resume();
    expect(&mut server, &frame(CALL, b"held")).await;

    setup.proxy.stall();
    client.write_all(&frame(CALL, b"lost")).await.unwrap();
    // Many times what a frame needs on loopback.
    let passes = timeout(Duration::from_millis(50), server.peek(&mut [0])).await;
    assert!(passes.is_err());
    setup.proxy.cut_all();
    assert_eq!(rest(server).await, b"");
    // This connection waits in the backlog until the stall is over.
    let mut late = TcpStream::connect(setup.proxy.address()).await.unwrap();
    late.write_all(&frame(CALL, b"late")).await.unwrap();
    setup.proxy.resume();
    let (mut server, _) = within(setup.listener.accept()).await.unwrap();
    expect(&mut server, &frame(CALL, b"late")).await;
}

#[tokio::test]
async fn half_open_swallows_both_ways_and_hides_even_the_end_of_one_side() {
    let setup = Setup::new().await;
    let (mut client, mut server) = setup.connect().await;
    within(setup.proxy.until(|counts| counts.open == 1)).await;
    setup.proxy.half_open();
    client.write_all(&frame(CALL, b"a")).await.unwrap();
    server.write_all(&frame(FrameKind::PING, &[0; 8])).await.unwrap();
    within(setup.proxy.until(|counts| counts.lost_frames == 2)).await;
    drop(server);
    // A later connection is not touched.
    let (mut other, mut other_server) = setup.connect().await;
    other.write_all(&frame(CALL, b"x")).await.unwrap();
    expect(&mut other_server, &frame(CALL, b"x")).await;
    // Still open for its client, who can write on and reads nothing until the cut.
    client.write_all(&frame(CALL, b"b")).await.unwrap();
    within(setup.proxy.until(|counts| counts.lost_frames == 3)).await;
    assert_eq!(setup.proxy.counts().open, 2);
    setup.proxy.cut_all();
    assert_eq!(rest(client).await, b"");
}

#[tokio::test]
async fn a_loss_swallows_one_direction_and_ends_in_a_cut() {
    let setup = Setup::new().await;
    let (mut client, mut server) = setup.connect().await;
    let lasts = Duration::from_millis(200);
    setup.proxy.on_next(Direction::ToServer, Some(CALL), Fault::Lose { lasts });
    client.write_all(&[frame(CALL, b"a"), frame(CALL, b"b")].concat()).await.unwrap();
    within(setup.proxy.until(|counts| counts.lost_frames == 2)).await;
    let reply = frame(FrameKind::REPLY, b"older");
    server.write_all(&reply).await.unwrap();
    assert_eq!(rest(client).await, reply);
    assert_eq!(rest(server).await, b"");
    assert_eq!(setup.proxy.until(|counts| counts.open == 0).await.cuts, 1);
}

#[tokio::test]
async fn calls_and_replies_are_repeated_and_handshakes_and_fragments_never() {
    let setup = Setup::new().await;
    let (mut client, mut server) = setup.connect().await;
    setup.proxy.on_next(Direction::ToServer, None, Fault::Repeat);
    setup.proxy.on_next(Direction::ToClient, Some(FrameKind::REPLY), Fault::Repeat);
    let head = [frame(FrameKind::HELLO, b"h"), frame(FrameKind::FRAGMENT, b"f")].concat();
    let call = frame(CALL, b"a");
    client.write_all(&[&head[..], &call, &call].concat()).await.unwrap();
    expect(&mut server, &[&head[..], &call, &call, &call].concat()).await;
    let reply = frame(FrameKind::REPLY, b"r");
    server.write_all(&reply).await.unwrap();
    expect(&mut client, &[&reply[..], &reply].concat()).await;
    assert_eq!(setup.proxy.counts().repeated, 2);
}

#[tokio::test]
async fn an_older_call_of_the_same_connection_is_replayed() {
    let setup = Setup::new().await;
    let (mut other, mut other_server) = setup.connect().await;
    other.write_all(&frame(CALL, b"foreign")).await.unwrap();
    expect(&mut other_server, &frame(CALL, b"foreign")).await;

    let (mut client, mut server) = setup.connect().await;
    setup.proxy.on_next(Direction::ToServer, Some(CALL), Fault::Replay);
    let calls = [frame(CALL, b"a"), frame(CALL, b"b"), frame(CALL, b"c")];
    client.write_all(&calls.concat()).await.unwrap();
    let [a, b, c] = &calls;
    expect(&mut server, &[&a[..], b, a, c].concat()).await;
    assert_eq!(setup.proxy.counts().replayed, 1);
}

#[tokio::test]
async fn a_delayed_frame_holds_what_follows_and_arrives() {
    let setup = Setup::new().await;
    let (mut client, mut server) = setup.connect().await;
    let lasts = Duration::from_millis(20);
    setup.proxy.on_next(Direction::ToServer, None, Fault::Delay { lasts });
    let calls = [frame(CALL, b"a"), frame(CALL, b"b")].concat();
    let sent = tokio::time::Instant::now();
    client.write_all(&calls).await.unwrap();
    expect(&mut server, &calls).await;
    assert!(sent.elapsed() >= lasts);
}

#[tokio::test]
async fn refused_connections_are_reset_until_they_are_accepted_again() {
    let setup = Setup::new().await;
    setup.proxy.refuse();
    assert!(is_reset(&setup.proxy).await);
    setup.proxy.accept();
    let (mut client, mut server) = setup.connect().await;
    client.write_all(&frame(CALL, b"x")).await.unwrap();
    expect(&mut server, &frame(CALL, b"x")).await;
    let counts = within(setup.proxy.until(|counts| counts.refused == 1)).await;
    assert_eq!((counts.refused, counts.accepted), (1, 1));
}

#[tokio::test]
async fn new_connections_go_to_the_new_server() {
    let setup = Setup::new().await;
    let (mut client, mut server) = setup.connect().await;
    let next = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    setup.proxy.set_upstream(next.local_addr().unwrap());
    let mut second = TcpStream::connect(setup.proxy.address()).await.unwrap();
    let (mut second_server, _) = within(next.accept()).await.unwrap();
    second.write_all(&frame(CALL, b"new")).await.unwrap();
    expect(&mut second_server, &frame(CALL, b"new")).await;
    client.write_all(&frame(CALL, b"old")).await.unwrap();
    expect(&mut server, &frame(CALL, b"old")).await;
    // A server that is gone shows as a reset.
    drop(next);
    assert!(is_reset(&setup.proxy).await);
    assert_eq!(within(setup.proxy.until(|counts| counts.refused == 1)).await.accepted, 2);
}

#[tokio::test]
async fn dropping_the_proxy_closes_its_connections_and_its_port() {
    let setup = Setup::new().await;
    let (client, server) = setup.connect().await;
    let address = setup.proxy.address();
    drop(setup.proxy);
    assert_eq!(rest(client).await, b"");
    assert_eq!(rest(server).await, b"");
    assert!(TcpStream::connect(address).await.is_err());
}

/// What arrives of 300 numbered calls on one connection.
async fn fate(faults: Faults) -> (Vec<u8>, Counts) {
    let setup = Setup::new().await;
    setup.proxy.set_faults(faults);
    let (mut client, server) = setup.connect().await;
    let calls: Vec<u8> = (0..300u16).flat_map(|seq| frame(CALL, &seq.to_be_bytes())).collect();
    client.write_all(&calls).await.unwrap();
    client.shutdown().await.unwrap();
    let arrived = rest(server).await;
    drop(client);
    (arrived, within(setup.proxy.until(|counts| counts.open == 0)).await)
}

#[tokio::test]
async fn a_seed_decides_what_happens_to_which_frame() {
    let repeats = |seed| Faults {
        seed,
        repeat_one_in: 10,
        delay_one_in: 100,
        delay_at_most: Duration::from_micros(100),
        ..Faults::default()
    };
    let (arrived, counts) = fate(repeats(1)).await;
    assert_eq!(fate(repeats(1)).await, (arrived.clone(), counts));
    assert_ne!(fate(repeats(2)).await.0, arrived);
    assert!(counts.repeated > 0 && counts.replayed > 0 && counts.delayed > 0, "{counts:?}");
    assert_eq!(arrived.len() as u64, (300 + counts.repeated + counts.replayed) * 4);
}

#[tokio::test]
async fn random_cuts_and_losses_end_connections_at_frames_of_their_choice() {
    let (mut cuts, mut in_frame, mut lost, mut ends) = (0, 0, 0, Vec::new());
    for seed in 0..24 {
        let faults = Faults { seed, cut_one_in: 100, lose_one_in: 200, ..Faults::default() };
        let (arrived, counts) = fate(faults).await;
        cuts += counts.cuts;
        in_frame += counts.cuts_in_frame;
        lost += counts.lost_frames;
        ends.push(arrived.len());
    }
    ends.sort_unstable();
    ends.dedup();
    assert!(cuts >= 12 && in_frame >= 3 && lost >= 3 && ends.len() >= 8, "{ends:?}");
}
