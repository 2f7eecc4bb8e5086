//! A server's socket under attack: spoofed sources, guessed ids, lies about what was received, and floods.
//!
//! Each test is a row of the table of attacks in the protocol's page, as far as it concerns datagrams. What a peer can
//! push against in a session is tested there, what it can do with pieces alone in `pieces/tests.rs`.

use core::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::id::{Boot, NodeId, Seq, SessionId};
use crate::limits::Limits;
use crate::protocol::client::{Client, ClientConfig, NewCall};
use crate::protocol::packet::{Arrival, ClientEnd, Ended, Endpoint, ServerEnd, Taken, frames};
use crate::protocol::server::{Admission, ProcessBudget, ServerSession, Target};
use crate::semantics::Semantics;
use crate::time::Time;
use crate::wire::datagram::{
    Datagram, SMALLEST_HELLO, Truncated, begin_data, decode, put_hello, put_refused, put_unknown,
    put_welcome, seal,
};
use crate::wire::frame::{
    self, Call, Frame, Hello, Kind, PieceHead, ReplyStatus, Welcome, put_ack, put_nonce,
    put_piece_head,
};
use crate::wire::send_buffer::SendBuffer;

/// A server with one session, and what it sent.
struct Server {
    now: Time,
    limits: Arc<Limits>,
    endpoint: Endpoint,
    session: ServerSession,
    /// The newest link.
    end: Option<ServerEnd>,
    out: SendBuffer,
    opened: u64,
    sent: Vec<(SocketAddr, Vec<u8>)>,
    /// Calls that run.
    running: Vec<Seq>,
}

fn host(number: u32) -> SocketAddr {
    (number.to_be_bytes(), 4000).into()
}

const GOOD: u32 = 0x0a00_0001;
const EVIL: u32 = 0x0a00_0666;

impl Server {
    fn new(limits: Limits) -> Server {
        let limits = Arc::new(limits);
        let (client, budget) = (NodeId(uuid::Uuid::from_u128(1)), Arc::<ProcessBudget>::default());
        let session = ServerSession::new(SessionId(5), client, limits.clone(), budget);
        Server {
            now: Time::ZERO,
            endpoint: Endpoint::new(limits.clone(), [3, 4]),
            limits,
            session: session.over_datagrams(),
            end: None,
            out: SendBuffer::default(),
            opened: 0,
            sent: Vec::new(),
            running: Vec::new(),
        }
    }

    /// One with a link of a good client, which has said something on it.
    fn with_link(limits: Limits) -> Server {
        let mut server = Server::new(limits);
        server.receive(host(GOOD), &hello(1, None, 1200)).expect("a good client");
        server.data(host(GOOD), 0, |into| put_nonce(Kind::Ping, 0, into)).expect("a good client");
        server.sent.clear();
        server
    }

    fn receive(&mut self, from: SocketAddr, datagram: &[u8]) -> Result<Vec<Seq>, Ended> {
        let (mut reply, mut refused) = (Vec::new(), Vec::new());
        match self.endpoint.receive(self.now, from, datagram, &mut reply) {
            Arrival::Hello(greeting) => {
                self.opened += 1;
                let _ = self.session.attach(self.opened, greeting.hello.max_message, None);
                let welcome = Welcome {
                    nonce: greeting.hello.nonce,
                    server: NodeId(uuid::Uuid::from_u128(2)),
                    boot: Boot(3),
                    session: SessionId(5),
                    resumed: false,
                    window: self.limits.window as u64,
                    request_bytes: self.limits.request_bytes as u64,
                    reply_bytes: self.limits.reply_bytes as u64,
                    max_message: self.limits.message as u64,
                    known: Vec::new(),
                };
                let (now, link) = (self.now, self.opened);
                let end = self.endpoint.welcome(now, &greeting, link, welcome, &mut reply);
                self.out = SendBuffer::for_datagrams(end.room());
                self.end = Some(end);
            }
            Arrival::Data { data, .. } => {
                let Some(end) = &mut self.end else { return Ok(refused) };
                if !end.accept(self.now, from, &data, datagram.len()) {
                    return Ok(refused);
                }
                for frame in frames(data.frames) {
                    let frame = frame?;
                    match end.handle(self.now, frame, &mut self.session, true)? {
                        Taken::Frame => match frame::decode(frame)? {
                            Frame::Call(call) => {
                                let target = Target::Method {
                                    semantics: Semantics::AtMostOnce,
                                    oneway: false,
                                    max_reply: None,
                                };
                                let out = &mut self.out;
                                if self.session.admit(self.now, &call, target, out)?
                                    == Admission::Run
                                {
                                    self.running.push(call.seq);
                                }
                            }
                            Frame::Resolve { seq } => {
                                self.session.resolve(self.now, seq, &mut self.out)?;
                            }
                            other => panic!("{other:?}"),
                        },
                        Taken::Refused { seq, .. } => refused.push(seq),
                        _ => {}
                    }
                }
                end.datagram_handled();
                end.after_input();
            }
            Arrival::Answered | Arrival::Nothing => {}
        }
        if !reply.is_empty() {
            self.sent.push((from, reply));
        }
        self.pump();
        Ok(refused)
    }

    /// A datagram of link 1.
    fn data(
        &mut self,
        from: SocketAddr,
        number: u64,
        put: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Vec<Seq>, Ended> {
        let mut bytes = Vec::new();
        begin_data(1, Truncated::of(number), &mut bytes);
        put(&mut bytes);
        seal(0, &mut bytes);
        self.receive(from, &bytes)
    }

    fn pump(&mut self) {
        let Some(end) = &mut self.end else { return };
        let mut bytes = Vec::new();
        while let Some(to) = end.transmit(self.now, &mut self.session, &mut self.out, &mut bytes) {
            self.sent.push((to, std::mem::take(&mut bytes)));
        }
    }

    /// Time passes; whether the link still lives.
    fn wait(&mut self, time: Duration) -> bool {
        let until = self.now + time;
        while let Some(end) = &mut self.end
            && end.next_timeout() <= until
        {
            self.now = self.now.max(end.next_timeout());
            if end.handle_timeout(self.now).is_err() {
                return false;
            }
            self.pump();
        }
        self.now = until;
        true
    }

    fn bytes_to(&self, to: SocketAddr) -> usize {
        self.sent.iter().filter(|(address, _)| *address == to).map(|(_, bytes)| bytes.len()).sum()
    }

    /// A call runs and is answered with so many bytes.
    fn answers(&mut self, number: u64, seq: Seq, size: usize) {
        let call = Call {
            seq,
            floor: 1,
            handle: 0,
            method: 0,
            deadline_ms: None,
            attempt: 1,
            passes: false,
            arguments: b"",
        };
        self.data(host(GOOD), number, |into| frame::put_call(&call, into)).expect("a good client");
        let mut body = vec![7; size];
        let out = Some(&mut self.out);
        self.session.complete(self.now, seq, ReplyStatus::Ok, &mut body, out);
        self.pump();
    }
}

fn hello(nonce: u64, cookie: Option<u64>, size: usize) -> Vec<u8> {
    let client = NodeId(uuid::Uuid::from_u128(u128::from(nonce)));
    let hello = Hello { client, nonce, link: nonce, max_message: 1 << 20, resume: None };
    let (mut framed, mut bytes) = (Vec::new(), Vec::new());
    frame::put_hello(&hello, &mut framed);
    put_hello(1200, cookie, &framed[1..], size, &mut bytes);
    bytes
}

#[test]
fn a_flood_of_spoofed_hellos_takes_no_state_and_is_not_amplified() {
    let limits = Limits { unvalidated_links: 8, ..Limits::default() };
    let mut server = Server::new(limits);
    let size = SMALLEST_HELLO;
    for number in 0..20_000 {
        let from = host(number);
        server.receive(from, &hello(u64::from(number), None, size)).expect("no link");
        let sent = server.sent.pop().expect("an answer");
        assert_eq!(sent.0, from);
        assert!(sent.1.len() <= size / 3, "{} B", sent.1.len());
        assert!(server.sent.is_empty());
    }
    assert_eq!((server.endpoint.links(), server.opened), (8, 8));
}

#[test]
fn a_cookie_is_good_for_its_address_and_for_a_while() {
    let mut server = Server::new(Limits { unvalidated_links: 0, ..Limits::default() });
    server.receive(host(GOOD), &hello(1, None, 1200)).expect("no link");
    let (_, retry) = server.sent.pop().expect("RETRY");
    let Ok(Datagram::Retry { nonce: 1, cookie }) = decode(&retry) else { panic!("{retry:?}") };
    for (from, nonce, guess) in [(EVIL, 1, cookie), (GOOD, 2, cookie), (GOOD, 1, cookie ^ 1)] {
        server.receive(host(from), &hello(nonce, Some(guess), 1200)).expect("no link");
        assert_eq!(server.endpoint.links(), 0);
    }
    server.now = server.now + Duration::from_secs(21);
    server.receive(host(GOOD), &hello(1, Some(cookie), 1200)).expect("no link");
    assert_eq!(server.endpoint.links(), 0, "it is too old");
    let (_, retry) = server.sent.pop().expect("RETRY");
    let Ok(Datagram::Retry { cookie, .. }) = decode(&retry) else { panic!("{retry:?}") };
    server.receive(host(GOOD), &hello(1, Some(cookie), 1200)).expect("no link");
    assert_eq!(server.endpoint.links(), 1);
}

#[test]
fn a_hello_that_is_not_filled_up_is_not_answered() {
    let mut server = Server::new(Limits::default());
    server.receive(host(EVIL), &hello(1, None, SMALLEST_HELLO - 1)).expect("no link");
    assert!(server.sent.is_empty() && server.endpoint.links() == 0);
}

#[test]
fn a_hello_repeated_from_elsewhere_gets_nothing() {
    let mut server = Server::with_link(Limits::default());
    server.receive(host(EVIL), &hello(1, None, 1200)).expect("no link");
    assert!(server.sent.is_empty());
    server.receive(host(GOOD), &hello(1, None, 1200)).expect("the same link");
    assert!(matches!(decode(&server.sent[0].1), Ok(Datagram::Welcome { link: 1, .. })));
    assert_eq!(server.opened, 1);
}

#[test]
fn guessed_link_ids_get_few_hints_smaller_than_the_guesses() {
    let mut server = Server::with_link(Limits::default());
    for guess in 0..10_000 {
        let mut bytes = Vec::new();
        begin_data(1000 + guess, Truncated::of(0), &mut bytes);
        seal(0, &mut bytes);
        server.receive(host(EVIL), &bytes).expect("no link");
        assert!(server.sent.last().is_none_or(|(_, hint)| hint.len() < bytes.len()));
    }
    assert!(server.sent.len() <= 256, "{} hints at once", server.sent.len());
}

#[test]
fn who_acknowledges_what_was_not_sent_loses_the_link() {
    for ranges in [vec![(0, 1000)], vec![(u64::MAX - 1, u64::MAX)], vec![(7, 8), (0, 1)]] {
        let mut server = Server::with_link(Limits::default());
        let lie = server.data(host(GOOD), 1, |into| put_ack(0, &ranges, into));
        assert!(matches!(lie, Err(Ended::Violation(_))), "{ranges:?}: {lie:?}");
    }
}

#[test]
fn who_acknowledges_blindly_is_caught_by_a_number_left_out() {
    let mut server = Server::with_link(Limits::default());
    let mut caught = false;
    for number in 1..10_000 {
        // Each PING is acknowledged by one datagram of the server, and the liar acknowledges all there may be.
        let all = [(0, number + 1)];
        let lie = server.data(host(GOOD), number, |into| {
            put_ack(0, &all, into);
            put_nonce(Kind::Ping, number, into);
        });
        caught |= matches!(lie, Err(Ended::Violation(_)));
        if caught {
            break;
        }
    }
    assert!(caught);
}

#[test]
fn an_acknowledgement_of_many_ranges_is_not_read() {
    let mut server = Server::with_link(Limits::default());
    let ranges: Vec<(u64, u64)> = (0..100).rev().map(|n| (2 * n, 2 * n + 1)).collect();
    let bomb = server.data(host(GOOD), 1, |into| put_ack(0, &ranges, into));
    assert!(matches!(bomb, Err(Ended::Malformed(_))), "{bomb:?}");
}

#[test]
fn a_huge_acknowledgement_delay_changes_nothing() {
    let mut server = Server::with_link(Limits::default());
    for number in 1..200 {
        server.answers(number * 2, number, 10);
        server.now = server.now + Duration::from_millis(1);
        let newest = server.sent.iter().rev().find_map(|(_, bytes)| match decode(bytes) {
            Ok(Datagram::Data(data)) => Some(u64::from(data.number.0)),
            _ => None,
        });
        let newest = newest.expect("it answered");
        let acked = [(newest, newest + 1)];
        let huge = server.data(host(GOOD), number * 2 + 1, |into| put_ack(1 << 50, &acked, into));
        assert!(huge.is_ok(), "{huge:?}");
    }
    server.sent.clear();
    server.answers(1000, 200, 10);
    assert!(server.wait(Duration::from_millis(200)));
    assert!(server.sent.len() > 1, "what is lost is sent again soon");
}

#[test]
fn a_client_that_never_acknowledges_gets_little_and_then_nothing() {
    let mut server = Server::with_link(Limits::default());
    server.answers(1, 1, 900_000);
    assert!(server.wait(Duration::from_secs(50)));
    let sent = server.bytes_to(host(GOOD));
    assert!(sent < 100_000, "{sent} B");
    server.sent.clear();
    // Its link would end soon, were it not heard of once more.
    server.data(host(GOOD), 2, |_| {}).expect("an empty datagram");
    assert!(server.wait(Duration::from_secs(50)));
    let sent = server.bytes_to(host(GOOD));
    assert!(sent < 100_000, "{sent} B");
    assert!(!server.wait(Duration::from_secs(60)), "a silent client's link ends");
}

#[test]
fn another_address_gets_three_bytes_for_each_and_no_answers() {
    let mut server = Server::with_link(Limits::default());
    server.answers(1, 1, 10);
    server.sent.clear();
    server.data(host(EVIL), 2, |into| put_nonce(Kind::Ping, 1, into)).expect("a good frame");
    server.wait(Duration::from_secs(5));
    assert!(server.bytes_to(host(EVIL)) <= 3 * 26, "{} B", server.bytes_to(host(EVIL)));
    let challenges: Vec<_> = server.sent.iter().filter(|(to, _)| *to == host(EVIL)).collect();
    assert!(!challenges.is_empty());
    for (_, bytes) in challenges {
        let Ok(Datagram::Data(data)) = decode(bytes) else { panic!("{bytes:?}") };
        let mut kinds = frames(data.frames).map(|frame| frame::decode(frame.expect("a frame")));
        assert!(kinds.all(|frame| matches!(frame, Ok(Frame::PathChallenge(_)))));
    }
    // Who guesses the nonce has a chance of one in 2^64.
    server.data(host(EVIL), 3, |into| put_nonce(Kind::PathResponse, 5, into)).expect("a frame");
    assert_eq!(server.end.as_ref().map(ServerEnd::address), Some(host(GOOD)));
}

#[test]
fn what_is_asked_in_floods_is_answered_in_fewer_bytes() {
    for kind in [Kind::Ping, Kind::PathChallenge] {
        let mut server = Server::with_link(Limits::default());
        let mut received = 0;
        for number in 1..5_000_u64 {
            let asks = |into: &mut Vec<u8>| (0..40).for_each(|n| put_nonce(kind, n, into));
            received += 17 + 40 * 10;
            server.data(host(GOOD), number, asks).expect("no crime");
        }
        let sent = server.bytes_to(host(GOOD));
        assert!(sent <= received * 3 / 2, "{kind:?}: {sent} B for {received} B");
        assert!(server.end.as_ref().is_some_and(|end| end.assembling() == 0));
    }
}

#[test]
fn resolving_calls_that_never_were_ends_at_the_window() {
    let mut server = Server::with_link(Limits { window: 16, ..Limits::default() });
    let ended = (1..1000).find_map(|seq| {
        server.data(host(GOOD), seq, |into| frame::put_seq(Kind::Resolve, seq, into)).err()
    });
    assert!(matches!(ended, Some(Ended::Violation(_))), "{ended:?}");
    assert!(server.session.saved().0 <= 16);
}

#[test]
fn pieces_take_memory_as_they_come_and_not_as_they_promise() {
    let mut server = Server::with_link(Limits::default());
    let piece = |message: u64, offset: u64, total: u64, size: usize| {
        move |into: &mut Vec<u8>| {
            let head = PieceHead { message, seq: message + 1, offset, total, once: false };
            put_piece_head(&head, size, into);
            into.resize(into.len() + size, 7);
        }
    };
    let refused = server.data(host(GOOD), 1, piece(0, 0, 1 << 60, 100));
    assert_eq!(refused.expect("refused, once"), [1]);
    assert_eq!(server.data(host(GOOD), 2, piece(0, 100, 1 << 60, 100)).expect("dropped"), []);
    for message in 1..100 {
        let (number, total) = (message + 2, 1 << 20);
        server.data(host(GOOD), number, piece(message, total - 100, total, 100)).expect("a piece");
    }
    assert_eq!(server.end.as_ref().map(ServerEnd::assembling), Some(99 * 100));
    let tiny = server.data(host(GOOD), 200, piece(200, 0, 1000, 63));
    assert!(matches!(tiny, Err(Ended::Violation(_))), "{tiny:?}");
    // What stands still does not stay.
    let mut server = Server::with_link(Limits::default());
    server.data(host(GOOD), 1, piece(0, 500, 1000, 100)).expect("a piece");
    assert!(!server.wait(Limits::default().progress_timeout + Duration::from_secs(1)));
}

#[test]
fn what_a_stranger_says_to_a_client_ends_no_call() {
    let limits = Arc::new(Limits::default());
    let config = ClientConfig {
        node: NodeId(uuid::Uuid::from_u128(1)),
        peer: "bank".into(),
        limits: limits.clone(),
        datagrams: true,
    };
    let mut client = Client::<()>::new(config);
    let mut out = SendBuffer::for_datagrams(ClientEnd::room(&limits));
    client.connected(Time::ZERO, 7, &mut out);
    let mut end = ClientEnd::new(Time::ZERO, limits, 7, &mut out);
    let call = NewCall {
        handle: 0,
        method: 0,
        semantics: Semantics::AtMostOnce,
        oneway: false,
        passes: false,
        timeout: None,
        arguments: b"",
        large: None,
    };
    client.start(Some(Time::ZERO), &call, &mut out).expect("there is room");
    let mut hear = |put: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        put(&mut bytes);
        end.receive(Time::ZERO, &bytes, &mut client, &mut out)
    };
    let welcome = Welcome {
        nonce: 7,
        server: NodeId(uuid::Uuid::from_u128(2)),
        boot: Boot(3),
        session: SessionId(5),
        resumed: false,
        window: 10,
        request_bytes: 1 << 20,
        reply_bytes: 1 << 20,
        max_message: 1 << 20,
        known: Vec::new(),
    };
    let mut framed = Vec::new();
    frame::put_welcome(&welcome, &mut framed);
    // Without the nonce of HELLO nothing is believed.
    assert_eq!(hear(&|into| put_welcome(8, 99, 1200, 10_000, &framed[1..], into)), Ok(()));
    assert_eq!(hear(&|into| put_refused(8, &[], into)), Ok(()));
    assert_eq!(hear(&|into| put_unknown(99, into)), Ok(()));
    assert_eq!(hear(&|into| put_welcome(7, 99, 1200, 10_000, &framed[1..], into)), Ok(()));
    assert_eq!(hear(&|into| put_welcome(7, 98, 1200, 10_000, &framed[1..], into)), Ok(()));
    assert_eq!(hear(&|into| put_unknown(98, into)), Ok(()));
    // The right id: a new link is made, and asks for the same session.
    assert_eq!(hear(&|into| put_unknown(99, into)), Err(Ended::Unknown));
    let error = Arc::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    client.link_lost(Time::ZERO, out.taken_position(), &out, &error);
    assert!(!client.is_idle() && client.woken().is_empty());
}
