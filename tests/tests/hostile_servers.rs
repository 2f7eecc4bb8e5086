//! Servers that do not speak the protocol, or abuse it: our client's calls end with an error by their deadline, nothing
//! panics, nothing is allocated by what they declare, and calls to other servers go on.
//!
//! A scripted server on a raw socket; it does the same on every connection that the client makes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farcall::{CallError, Execution, Limits, Node};
use farcall_tests::fault_proxy::FrameKind;
use farcall_tests::raw::{self, Raw, first_fragment, frame, varint, with_seq};
use farcall_tests::service::{
    Log, Report, SEMANTICS, Server, WorkProxy, call, order, panics, watch_panics, within, work_at,
};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What a server does on one connection, until it is over.
#[derive(Clone)]
struct Script {
    /// In answer to HELLO, whose body it gets with a number for a session.
    greeting: Greeting,
    /// In answer to each LOOKUP.
    bound: Vec<u8>,
    /// In answer to each CALL.
    answer: Vec<u8>,
}

type Greeting = fn(&[u8], u64) -> Vec<u8>;

impl Script {
    /// A server that does all as it must, and answers calls with this.
    fn answering(answer: Vec<u8>) -> Script {
        Script { greeting: raw::welcome, bound: bound(0, 5), answer }
    }
}

/// BOUND that finds so many methods.
fn bound(handle: u64, methods: u64) -> Vec<u8> {
    let verdicts = vec![0; methods as usize];
    frame(FrameKind::BOUND, 0, &[varint(handle), varint(methods), verdicts].concat())
}

/// A running script, and how many connections it had.
struct Hostile {
    address: SocketAddr,
    connections: Arc<AtomicU64>,
    _task: JoinSet<()>,
}

impl Hostile {
    async fn start(script: Script) -> Hostile {
        watch_panics();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let connections = Arc::<AtomicU64>::default();
        let mut task = JoinSet::new();
        let count = connections.clone();
        task.spawn(async move {
            let mut running = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::Relaxed) + 1;
                let script = script.clone();
                running.spawn(async move { play(Raw::new(stream), &script, number).await });
            }
        });
        Hostile { address, connections, _task: task }
    }

    async fn client(&self) -> Result<WorkProxy, CallError> {
        let short = Duration::from_millis(300);
        let ten = Duration::from_millis(10);
        let limits = Limits {
            default_timeout: Some(short),
            handshake_timeout: short / 3,
            reconnect_min: ten,
            reconnect_max: ten,
            ..Limits::default()
        };
        Node::builder().limits(limits).build().lookup(work_at(self.address)).await
    }
}

async fn play(mut peer: Raw, script: &Script, session: u64) -> Option<()> {
    loop {
        let (kind, _, body) = peer.frame().await.ok()?;
        let reply = match kind {
            FrameKind::HELLO => (script.greeting)(&body, session),
            FrameKind::LOOKUP => script.bound.clone(),
            FrameKind::CALL => script.answer.clone(),
            _ => continue,
        };
        peer.send(&reply).await.ok()?;
    }
}

/// What servers may answer a call with, and may not.
fn bad_answers() -> Vec<(&'static str, Vec<u8>)> {
    let failed = |code| frame(FrameKind::REPLY, 2, &[1, code, b'x']);
    vec![
        ("nothing", vec![]),
        ("noise", (0..200_u8).map(|byte| byte.wrapping_mul(77)).collect()),
        ("a length over the limit", vec![0xff; 16]),
        ("a frame of no length", vec![0; 4]),
        ("a reply to no call", frame(FrameKind::REPLY, 0, &varint(900))),
        ("replies to no calls", frame(FrameKind::REPLY, 0, &varint(1 << 60)).repeat(50)),
        ("an unknown status", frame(FrameKind::REPLY, 6, &[1])),
        ("an unknown code", failed(200)),
        ("a reply that is no answer", frame(FrameKind::REPLY, 0, &[1, 0xff, 0xff, 0xff])),
        ("an empty reply", frame(FrameKind::REPLY, 0, &[1])),
        ("a reply with a tail", frame(FrameKind::REPLY, 0, &[1, 1, 0, 0, 9, 9, 9])),
        ("an error where there is none", frame(FrameKind::REPLY, 1, &[1, 1, 2, 3])),
        ("that the call is finished", with_seq(FrameKind::STALE, 1)),
        ("a frame of clients", raw::call(1, 0, &[])),
        ("a second WELCOME", raw::welcome(&[0; 40], 5)),
        ("an unknown kind", frame(FrameKind(30), 0, &[])),
        ("an endless message", first_fragment(1, u64::MAX >> 8, &[7 << 3; 1000])),
        ("a large message that ends nowhere", first_fragment(1, 10 << 20, &[7 << 3; 1000])),
        ("a middle without its beginning", frame(FrameKind::FRAGMENT, 1, &[1, 1])),
        (
            "fragments that make no reply",
            [first_fragment(1, 12, &[0; 10]), frame(FrameKind::FRAGMENT, 2, &[1, 0, 0])].concat(),
        ),
        ("BOUND of what was not asked for", bound(77, 5)),
        ("BOUND with too few methods", bound(0, 1)),
        ("ranges without end", frame(FrameKind::GOAWAY, 0, &varint(1 << 40))),
        ("GOAWAY that knows of nothing", frame(FrameKind::GOAWAY, 0, &[0])),
        ("the end", frame(FrameKind::CLOSE, 0, &[2, b'x'])),
        ("the end, for no known reason", frame(FrameKind::CLOSE, 0, &[99, 0xff])),
    ]
}

/// Calls under each semantics, of a client of its own, to a server that gives this answer.
async fn bear(what: &'static str, answer: Vec<u8>) {
    let hostile = Hostile::start(Script::answering(answer)).await;
    let work = hostile.client().await.expect("it plays its part until then");
    for semantics in SEMANTICS {
        let began = Instant::now();
        let outcome = within("an answer", call(&work, semantics, order(1))).await;
        assert!(began.elapsed() < Duration::from_secs(3), "{what}: {:?}", began.elapsed());
        let report = Report::of(&outcome);
        // What was sent may have run, whatever such a server says; with GOAWAY alone it may deny it.
        let may_deny = report == Report::NotExecuted && what.contains("GOAWAY");
        let honest = matches!(report, Report::Unknown | Report::Executed);
        assert!(honest || may_deny, "{what}, {semantics}: {outcome:?}");
    }
}

#[tokio::test]
async fn whatever_a_server_answers_calls_end_by_their_deadline() {
    let log = Log::new();
    let good = Server::start(Limits::default(), &log).await;
    let other: WorkProxy = farcall::connect(good.url()).await.expect("bound");
    let mut cases: JoinSet<()> =
        bad_answers().into_iter().map(|(what, answer)| bear(what, answer)).collect();
    while let Some(case) = within("the end of a case", cases.join_next()).await {
        case.expect("no panic");
        within("an answer", other.at_most_once(order(2))).await.expect("others go on");
    }
    assert_eq!(panics(), 0);
}

#[tokio::test]
async fn a_server_without_a_proper_welcome_gets_no_call() {
    let greetings: [(&str, Greeting); 7] = [
        ("silence", |_, _| vec![]),
        ("noise", |_, _| b"HTTP/1.1 400 Bad Request\r\n\r\n".repeat(9)),
        ("a wrong nonce", |hello, session| {
            let mut other = hello.to_vec();
            other[25] ^= 1;
            raw::welcome(&other, session)
        }),
        ("a resumed session that was never asked for", |hello, session| {
            let mut bytes = raw::welcome(hello, session);
            bytes[1] |= 1;
            bytes
        }),
        ("no window at all", |hello, session| {
            let mut bytes = raw::welcome(hello, session);
            let window = 2 + 8 + 16 + 8 + 8;
            bytes.splice(window..window + 2, [0]);
            bytes[0] -= 1;
            bytes
        }),
        ("a reply first", |_, _| frame(FrameKind::REPLY, 0, &[1])),
        ("the end", |_, _| frame(FrameKind::CLOSE, 0, &[3, b'b', b'y', b'e'])),
    ];
    for (what, greeting) in greetings {
        let hostile = Hostile::start(Script { greeting, ..Script::answering(vec![]) }).await;
        let outcome = within("an error", hostile.client()).await;
        let error = outcome.err().unwrap_or_else(|| panic!("{what} is a welcome"));
        assert_eq!(error.execution(), Execution::NotExecuted, "{what}: {error:?}");
    }
    assert_eq!(panics(), 0);
}

#[tokio::test]
async fn a_server_that_breaks_off_is_not_hammered() {
    let hostile = Hostile::start(Script::answering(vec![0; 4])).await;
    let work = hostile.client().await.expect("bound");
    let _ = within("an answer", work.at_most_once(order(1))).await;
    // 300 ms with pauses of up to 10 ms, drawn at random.
    let connections = hostile.connections.load(Ordering::Relaxed);
    assert!((1..500).contains(&connections), "{connections}");
}

#[tokio::test]
async fn a_server_that_says_a_call_is_finished_has_broken_the_protocol() {
    let hostile = Hostile::start(Script::answering(with_seq(FrameKind::STALE, 1))).await;
    for semantics in SEMANTICS {
        let work = hostile.client().await.expect("bound");
        let outcome = within("an answer", call(&work, semantics, order(1))).await;
        let Err(error @ CallError::Protocol { .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(error.execution(), Execution::Unknown);
    }
}

#[tokio::test]
async fn repeated_replies_to_finished_calls_are_nothing_new() {
    // Answers call 1 again with each further answer.
    let answer = |seq| frame(FrameKind::REPLY, 0, &[varint(seq), vec![1, 0, 0]].concat());
    let hostile = Hostile::start(Script::answering([answer(1), answer(2)].concat())).await;
    let work = hostile.client().await.expect("bound");
    let first = work.at_most_once(order(1)).start().await.expect("room");
    let second = work.at_most_once(order(2)).start().await.expect("room");
    assert_eq!(within("an answer", first).await.expect("answered").id, 1);
    within("an answer", second).await.expect("answered");
    assert_eq!(hostile.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_server_that_asks_and_never_reads_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let asking = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("the client comes");
        let mut peer = Raw::new(stream);
        let (_, _, hello) = peer.frame().await.expect("HELLO");
        peer.send(&raw::welcome(&hello, 5)).await.expect("connected");
        peer.send(&bound(0, 5)).await.expect("connected");
        let pings = frame(FrameKind::PING, 0, &[0; 8]).repeat(10_000);
        let mut sent = 0_usize;
        while sent < 512 << 20 && peer.send(&pings).await.is_ok() {
            sent += pings.len();
        }
        sent
    });
    let work: WorkProxy = farcall::connect(work_at(address)).await.expect("bound");
    let sent = within("the end", asking).await.expect("no panic");
    assert!(sent < 64 << 20, "the client took {} MiB of questions", sent >> 20);
    drop(work);
}
