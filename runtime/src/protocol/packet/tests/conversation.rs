//! Conversations over datagrams, compared as text: what is lost, what is sent again, and what a slow handler costs.

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use crate::id::{Boot, NodeId, Seq, SessionId};
use crate::limits::Limits;
use crate::protocol::client::{Client, ClientConfig, Key, NewCall};
use crate::protocol::packet::{Arrival, ClientEnd, Endpoint, ServerEnd, Taken, frames};
use crate::protocol::server::{Admission, ProcessBudget, ServerSession, Target};
use crate::semantics::Semantics;
use crate::time::Time;
use crate::wire::datagram::{Datagram, decode};
use crate::wire::frame::{self, Frame, ReplyStatus, Welcome};
use crate::wire::send_buffer::SendBuffer;

/// A client and a server, a millisecond apart.
struct Talk {
    now: Time,
    handler: Duration,
    semantics: Semantics,
    client: Client<()>,
    end: ClientEnd,
    out: SendBuffer,
    call: Option<Key>,
    endpoint: Endpoint,
    server: Option<ServerEnd>,
    session: ServerSession,
    reply: SendBuffer,
    /// What arrives when: upwards or not.
    flying: BTreeMap<(Time, usize), (bool, Vec<u8>)>,
    running: Option<(Time, Seq)>,
    sent: usize,
    /// The next datagram that holds such a frame is lost.
    loses: Option<&'static str>,
    lines: String,
}

impl Talk {
    /// With a link that is at rest.
    fn new(semantics: Semantics) -> Talk {
        let limits = Arc::new(Limits::default());
        let node = |n| NodeId(uuid::Uuid::from_u64_pair(0, n));
        let config = ClientConfig {
            node: node(1),
            peer: "bank".into(),
            limits: limits.clone(),
            datagrams: true,
        };
        let mut client = Client::new(config);
        let mut out = SendBuffer::for_datagrams(ClientEnd::room(&limits));
        client.connected(Time::ZERO, 7, &mut out);
        let end = ClientEnd::new(Time::ZERO, limits.clone(), 7, &mut out);
        let budget = Arc::<ProcessBudget>::default();
        let session = ServerSession::new(SessionId(5), node(1), limits.clone(), budget);
        let mut talk = Talk {
            now: Time::ZERO,
            handler: Duration::ZERO,
            semantics,
            client,
            end,
            out,
            call: None,
            endpoint: Endpoint::new(limits, [1, 2]),
            server: None,
            session: session.over_datagrams(),
            reply: SendBuffer::default(),
            flying: BTreeMap::new(),
            running: None,
            sent: 0,
            loses: None,
            lines: String::new(),
        };
        talk.wait(100);
        talk.lines = String::from("\n");
        talk
    }

    #[track_caller]
    fn expect(&self, lines: &str) {
        assert!(self.lines == lines, "it went otherwise:\n{}", self.lines);
    }

    fn call(&mut self) {
        self.call_with(b"5");
    }

    fn call_with(&mut self, arguments: &[u8]) {
        self.line("call");
        let call = NewCall {
            handle: 0,
            method: 0,
            semantics: self.semantics,
            oneway: false,
            passes: false,
            timeout: Some(Duration::from_secs(1)),
            arguments,
            large: None,
        };
        let key = self.client.start(Some(self.now), &call, &mut self.out).expect("there is room");
        self.call = Some(key);
    }

    fn wait(&mut self, milliseconds: u64) {
        let until = self.now + Duration::from_millis(milliseconds);
        loop {
            self.pump();
            self.take_answer();
            let flying = self.flying.keys().next().map_or(Time::NEVER, |&(at, _)| at);
            let running = self.running.map_or(Time::NEVER, |(at, _)| at);
            let server = self.server.as_ref().map_or(Time::NEVER, ServerEnd::next_timeout);
            let client = self.end.next_timeout(&self.client);
            let next = flying.min(running).min(server).min(client);
            if next > until {
                self.now = until;
                return;
            }
            self.now = self.now.max(next);
            if flying <= self.now
                && let Some((_, (up, bytes))) = self.flying.pop_first()
            {
                if up { self.at_server(&bytes) } else { self.at_client(&bytes) }
            } else if running <= self.now
                && let Some((_, seq)) = self.running.take()
            {
                self.line("server: end");
                let out = Some(&mut self.reply);
                self.session.complete(self.now, seq, ReplyStatus::Ok, &mut b"5".to_vec(), out);
            } else if client <= self.now {
                let (client, out) = (&mut self.client, &mut self.out);
                self.end.handle_timeout(self.now, client, out).expect("the link lives");
            } else if let Some(end) = &mut self.server {
                end.handle_timeout(self.now).expect("the link lives");
            }
        }
    }

    fn take_answer(&mut self) {
        let Some(key) = self.call else { return };
        let Some(answer) = self.client.take(key, &mut Vec::new()) else { return };
        self.call = None;
        self.line(&match answer {
            Ok(_) => "done: ok".to_owned(),
            Err(error) => format!("done: {error}"),
        });
    }

    fn pump(&mut self) {
        let mut bytes = Vec::new();
        while self.end.transmit(self.now, &mut self.client, &mut self.out, &mut bytes) {
            self.send(true, std::mem::take(&mut bytes));
        }
        while let Some(end) = &mut self.server
            && end.transmit(self.now, &mut self.session, &mut self.reply, &mut bytes).is_some()
        {
            self.send(false, std::mem::take(&mut bytes));
        }
    }

    fn send(&mut self, up: bool, bytes: Vec<u8>) {
        let text = describe(&bytes);
        let lost = self.loses.take_if(|frame| text.contains(*frame)).is_some();
        self.line(&format!(
            "{} {text}{}",
            if up { "->" } else { "<-" },
            if lost { "    lost" } else { "" }
        ));
        self.sent += 1;
        if !lost {
            let arrives = self.now + Duration::from_millis(1);
            self.flying.insert((arrives, self.sent), (up, bytes));
        }
    }

    fn at_client(&mut self, bytes: &[u8]) {
        let (client, out) = (&mut self.client, &mut self.out);
        self.end.receive(self.now, bytes, client, out).expect("the link lives");
        self.end.after_input(self.now, client, out);
    }

    fn at_server(&mut self, bytes: &[u8]) {
        let from: SocketAddr = ([10, 0, 0, 1], 1000).into();
        let mut answer = Vec::new();
        match self.endpoint.receive(self.now, from, bytes, &mut answer) {
            Arrival::Hello(greeting) => {
                self.session.attach(1, greeting.hello.max_message, None).expect("a first link");
                let welcome = Welcome {
                    nonce: 7,
                    server: NodeId(uuid::Uuid::from_u64_pair(0, 2)),
                    boot: Boot(3),
                    session: SessionId(5),
                    resumed: false,
                    window: 1024,
                    request_bytes: 1 << 20,
                    reply_bytes: 1 << 20,
                    max_message: 1 << 20,
                    known: Vec::new(),
                };
                let end = self.endpoint.welcome(self.now, &greeting, 99, welcome, &mut answer);
                self.reply = SendBuffer::for_datagrams(end.room());
                self.server = Some(end);
            }
            Arrival::Data { data, .. } => {
                let Some(end) = &mut self.server else { return };
                if !end.accept(self.now, from, &data, bytes.len()) {
                    return;
                }
                let mut arrived = Vec::new();
                for frame in frames(data.frames) {
                    let frame = frame.expect("a frame");
                    let taken = end.handle(self.now, frame, &mut self.session, true);
                    if let Taken::Frame = taken.expect("a good client") {
                        arrived.push(frame::decode(frame).expect("a frame"));
                    }
                }
                end.datagram_handled();
                end.after_input();
                arrived.iter().for_each(|frame| self.handle(frame));
            }
            Arrival::Answered | Arrival::Nothing => {}
        }
        if !answer.is_empty() {
            self.send(false, answer);
        }
    }

    fn handle(&mut self, frame: &Frame<'_>) {
        let Frame::Call(call) = frame else { return };
        let target = Target::Method { semantics: self.semantics, oneway: false, max_reply: None };
        let admission = self.session.admit(self.now, call, target, &mut self.reply);
        if admission.expect("a good client") == Admission::Run {
            self.line("server: run");
            self.running = Some((self.now + self.handler, call.seq));
        } else {
            self.line("server: it has come before");
        }
    }

    fn line(&mut self, text: &str) {
        let time = format!("{}ms", self.now.as_nanos() / 1_000_000 % 100_000);
        let _ = writeln!(self.lines, "{time:>7}  {text}");
    }
}

/// The frames of a datagram, in a word each.
fn describe(bytes: &[u8]) -> String {
    let Ok(Datagram::Data(data)) = decode(bytes) else { return "handshake".to_owned() };
    let words = frames(data.frames).map(|frame| {
        match frame::decode(frame.expect("a frame")).expect("an honest side wrote it") {
            Frame::Ack(_) => "ack".to_owned(),
            Frame::Call(call) => format!("call {}", call.seq),
            Frame::Reply(reply) => format!("reply {}", reply.seq),
            Frame::Ping(_) => "ping".to_owned(),
            Frame::Resolve { seq } => format!("resolve {seq}"),
            other => format!("{other:?}"),
        }
    });
    words.collect::<Vec<_>>().join(", ")
}

#[test]
fn an_isolated_call_takes_three_datagrams() {
    let mut talk = Talk::new(Semantics::AtMostOnce);
    talk.call();
    talk.wait(500);
    talk.expect(
        "
  100ms  call
  100ms  -> call 1
  101ms  server: run
  101ms  server: end
  101ms  <- ack, reply 1
  102ms  done: ok
  107ms  -> ack
",
    );
}

#[test]
fn a_lost_request_is_sent_again_by_the_channel() {
    let mut talk = Talk::new(Semantics::AtMostOnce);
    talk.loses = Some("call");
    talk.call();
    talk.wait(500);
    talk.expect(
        "
  100ms  call
  100ms  -> call 1    lost
  115ms  -> call 1
  116ms  server: run
  116ms  <- ack
  116ms  server: end
  116ms  <- reply 1
  117ms  done: ok
  122ms  -> ack
",
    );
}

#[test]
fn a_lost_reply_is_sent_again_and_the_repeat_of_its_request_does_not_run() {
    let mut talk = Talk::new(Semantics::AtMostOnce);
    talk.loses = Some("reply");
    talk.call();
    talk.wait(500);
    talk.expect(
        "
  100ms  call
  100ms  -> call 1
  101ms  server: run
  101ms  server: end
  101ms  <- ack, reply 1    lost
  115ms  -> call 1
  116ms  server: it has come before
  117ms  <- ack, reply 1
  118ms  -> ack
  118ms  done: ok
",
    );
}

#[test]
fn a_slow_handler_costs_an_acknowledgement_and_no_second_copy() {
    let mut talk = Talk::new(Semantics::AtMostOnce);
    talk.handler = Duration::from_millis(300);
    talk.call();
    talk.wait(500);
    talk.expect(
        "
  100ms  call
  100ms  -> call 1
  101ms  server: run
  106ms  <- ack
  401ms  server: end
  401ms  <- reply 1
  402ms  done: ok
  407ms  -> ack
",
    );
}

#[test]
fn a_lost_call_under_maybe_ends_at_its_deadline() {
    let mut talk = Talk::new(Semantics::Maybe);
    talk.loses = Some("call");
    talk.call();
    talk.wait(1500);
    talk.expect(
        "
  100ms  call
  100ms  -> call 1    lost
  115ms  -> ping
  116ms  <- ack
 1100ms  done: no answer within 1s; it may have run
",
    );
}

/// A call whose only datagram is late, and whose frame is to be sent again where datagrams have become smaller.
fn late_and_again() -> (Talk, Key) {
    let mut talk = Talk::new(Semantics::AtMostOnce);
    talk.call_with(&[7; 900]);
    talk.pump();
    let (_, (_, bytes)) = talk.flying.pop_first().expect("it left");
    let Ok(Datagram::Data(data)) = decode(&bytes) else { panic!("no DATA") };
    let call = frames(data.frames).map(|frame| frame.expect("a frame"));
    let call = call.filter(|frame| frame::decode_call(frame).is_some()).last().expect("a call");
    talk.out.set_room(500);
    talk.out.push_again(call);
    let key = talk.call.take().expect("it was called");
    (talk, key)
}

#[test]
fn a_call_that_left_whole_and_waits_in_pieces_is_asked_about() {
    let (mut talk, key) = late_and_again();
    talk.client.cancel(talk.now, key, &mut talk.out);
    assert!(talk.client.take(key, &mut Vec::new()).is_none(), "it may run");
    talk.pump();
    talk.expect(
        "
  100ms  call
  100ms  -> call 1
  100ms  -> resolve 1
",
    );
}

#[test]
fn a_call_that_left_whole_and_waits_in_pieces_may_have_run_when_the_link_is_lost() {
    let (mut talk, key) = late_and_again();
    let error = Arc::new(std::io::ErrorKind::ConnectionReset.into());
    let left = talk.out.taken_position();
    talk.client.link_lost(talk.now, left, &talk.out, &error);
    talk.client.handle_timeout(talk.now + Duration::from_secs(1), &mut talk.out);
    let answer = talk.client.take(key, &mut Vec::new()).expect("its time is over");
    let told = answer.expect_err("no answer came").to_string();
    assert_eq!(told, "no answer within 1s; it may have run");
}
