//! One client, one server, and a path between them in virtual time.

use core::net::SocketAddr;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use crate::id::{Boot, NodeId, Seq, SessionId};
use crate::limits::Limits;
use crate::protocol::client::{Client, ClientConfig, Key, NewCall};
use crate::protocol::packet::{Arrival, ClientEnd, Endpoint, ServerEnd, Taken, frames};
use crate::protocol::server::{Admission, ProcessBudget, ServerSession, Target};
use crate::semantics::Semantics;
use crate::time::Time;
use crate::wire::frame::{self, Frame, ReplyStatus, Welcome};
use crate::wire::send_buffer::SendBuffer;

/// What the path does, in datagrams of a thousand.
#[derive(Clone, Default)]
pub(super) struct Faults {
    pub(super) loss: u64,
    pub(super) repeat: u64,
    pub(super) jitter: Duration,
    /// How much longer than half a millisecond each takes.
    pub(super) delay: Duration,
    /// Larger datagrams vanish; none if 0.
    pub(super) largest: usize,
    /// These vanish, as [`World::datagrams`] counts.
    pub(super) vanish: Vec<u64>,
}

pub(super) struct World {
    pub(super) faults: Faults,
    /// How long every call runs.
    pub(super) handler: Duration,
    /// The client neither sends nor receives.
    pub(super) client_is_gone: bool,
    now: Time,
    state: u64,
    client: Client<()>,
    end: ClientEnd,
    out: SendBuffer,
    calls: Vec<Option<Key>>,
    endpoint: Endpoint,
    server: Option<(ServerEnd, u64)>,
    session: ServerSession,
    reply: SendBuffer,
    flying: BinaryHeap<Reverse<Flying>>,
    running: BTreeMap<(Time, Seq), usize>,
    ran: BTreeMap<Seq, usize>,
    semantics: BTreeMap<Seq, Semantics>,
    datagrams: u64,
}

/// A datagram on its way: when it arrives, its order, whether it goes to the server, its bytes.
type Flying = (Time, u64, bool, Vec<u8>);

fn node(n: u64) -> NodeId {
    NodeId(uuid::Uuid::from_u64_pair(1, n))
}

impl World {
    pub(super) fn new(seed: u64, faults: Faults) -> World {
        World::with(seed, faults, Limits::default())
    }

    pub(super) fn with(seed: u64, faults: Faults, limits: Limits) -> World {
        let limits = Arc::new(Limits { default_timeout: None, ..limits });
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
        let session = ServerSession::new(
            SessionId(5),
            node(1),
            limits.clone(),
            Arc::<ProcessBudget>::default(),
        )
        .over_datagrams();
        World {
            faults,
            handler: Duration::ZERO,
            client_is_gone: false,
            now: Time::ZERO,
            state: seed.wrapping_add(1),
            client,
            end,
            out,
            calls: Vec::new(),
            endpoint: Endpoint::new(limits, [1, 2]),
            server: None,
            session,
            reply: SendBuffer::default(),
            flying: BinaryHeap::new(),
            running: BTreeMap::new(),
            ran: BTreeMap::new(),
            semantics: BTreeMap::new(),
            datagrams: 0,
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % below
    }

    pub(super) fn call(&mut self, semantics: Semantics, bytes: usize) {
        let call = NewCall {
            handle: 0,
            method: semantics as u32,
            semantics,
            oneway: false,
            passes: false,
            timeout: None,
            arguments: &vec![7; bytes],
            large: None,
        };
        let key = self.client.start(Some(self.now), &call, &mut self.out).expect("there is room");
        self.calls.push(Some(key));
    }

    /// Runs until every call is answered.
    pub(super) fn answered(&mut self) {
        for _ in 0..MOST_STEPS {
            let mut body = Vec::new();
            for call in &mut self.calls {
                if let Some(key) = *call
                    && let Some(answer) = self.client.take(key, &mut body)
                {
                    answer.expect("an answer");
                    *call = None;
                }
            }
            self.calls.retain(Option::is_some);
            if self.calls.is_empty() {
                return;
            }
            self.step(Time::NEVER);
        }
        panic!("{} calls are never answered, at {:?}", self.calls.len(), self.now);
    }

    /// Lets a while pass in which no call is made.
    pub(super) fn rest(&mut self) {
        self.run_for(Duration::from_secs(12));
    }

    /// Runs for so long.
    pub(super) fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..MOST_STEPS {
            if !self.step(until) {
                self.now = until;
                return;
            }
        }
        panic!("something is due again and again, at {:?}", self.now);
    }

    /// The caller of the latest call wants no answer any more.
    pub(super) fn abandon(&mut self) {
        let key = self.calls.pop().flatten().expect("a call that is not answered");
        self.client.abandon(self.now, key, &mut self.out);
    }

    /// The next thing that happens, if it does until then.
    fn step(&mut self, until: Time) -> bool {
        self.pump();
        let flying = self.flying.peek().map_or(Time::NEVER, |Reverse(next)| next.0);
        let running = self.running.keys().next().map_or(Time::NEVER, |&(at, _)| at);
        let server = self.server.as_ref().map_or(Time::NEVER, |(end, _)| end.next_timeout());
        let client = match self.client_is_gone {
            true => Time::NEVER,
            false => self.end.next_timeout(&self.client),
        };
        let asks = self.session.next_timeout();
        let next = flying.min(running).min(server).min(client).min(asks);
        if next > until || next == Time::NEVER {
            return false;
        }
        self.now = self.now.max(next);
        let now = self.now;
        if running <= now {
            let ((_, seq), bytes) = self.running.pop_first().expect("it is there");
            self.session.complete(
                now,
                seq,
                ReplyStatus::Ok,
                &mut vec![9; bytes],
                Some(&mut self.reply),
            );
        } else if flying <= now {
            let Some(Reverse((_, _, up, bytes))) = self.flying.pop() else { return true };
            if up { self.at_server(&bytes) } else { self.at_client(&bytes) }
        } else if client <= now {
            let alive = self.end.handle_timeout(now, &mut self.client, &mut self.out);
            assert_eq!(alive, Ok(()), "at {now:?}, {:?}", self.end.statistics());
        } else if asks <= now {
            self.session.handle_timeout(now, &mut self.reply).expect("a patient server");
        } else if let Some((end, _)) = &mut self.server {
            end.handle_timeout(now).expect("the link lives");
        }
        true
    }

    fn pump(&mut self) {
        let mut sent = Vec::new();
        while !self.client_is_gone {
            let mut bytes = Vec::new();
            if !self.end.transmit(self.now, &mut self.client, &mut self.out, &mut bytes) {
                break;
            }
            sent.push((true, bytes));
        }
        if let Some((end, _)) = &mut self.server {
            loop {
                let mut bytes = Vec::new();
                if end.transmit(self.now, &mut self.session, &mut self.reply, &mut bytes).is_none()
                {
                    break;
                }
                sent.push((false, bytes));
            }
        }
        for (up, bytes) in sent {
            self.send(up, bytes);
        }
    }

    fn send(&mut self, up: bool, bytes: Vec<u8>) {
        self.datagrams += 1;
        let too_large = self.faults.largest > 0 && bytes.len() > self.faults.largest;
        if too_large || self.faults.vanish.contains(&self.datagrams) {
            return;
        }
        let copies = 1 + u64::from(self.draw(1000) < self.faults.repeat);
        for _ in 0..copies {
            if self.draw(1000) < self.faults.loss {
                continue;
            }
            let jitter = self.draw(self.faults.jitter.as_micros() as u64 + 1);
            let at = self.now + self.faults.delay + Duration::from_micros(500 + jitter);
            let order = self.datagrams;
            self.flying.push(Reverse((at, order, up, bytes.clone())));
        }
    }

    fn at_client(&mut self, bytes: &[u8]) {
        if self.client_is_gone {
            return;
        }
        let (now, client, out) = (self.now, &mut self.client, &mut self.out);
        self.end.receive(now, bytes, client, out).expect("the link lives");
        self.end.after_input(now, client, out);
    }

    fn at_server(&mut self, bytes: &[u8]) {
        let from: SocketAddr = ([10, 0, 0, 1], 1000).into();
        let mut answer = Vec::new();
        match self.endpoint.receive(self.now, from, bytes, &mut answer) {
            Arrival::Hello(greeting) => {
                self.session.attach(1, greeting.hello.max_message, None).expect("a first link");
                let limits = Limits::default();
                let welcome = Welcome {
                    nonce: 7,
                    server: node(2),
                    boot: Boot(3),
                    session: SessionId(5),
                    resumed: false,
                    window: limits.window as u64,
                    request_bytes: limits.request_bytes as u64,
                    reply_bytes: limits.reply_bytes as u64,
                    max_message: limits.message as u64,
                    known: Vec::new(),
                };
                let end = self.endpoint.welcome(self.now, &greeting, 99, welcome, &mut answer);
                self.reply = SendBuffer::for_datagrams(end.room());
                self.server = Some((end, 99));
            }
            Arrival::Data { link, data } => {
                let Some((end, _)) = self.server.as_mut().filter(|(_, id)| *id == link) else {
                    return;
                };
                if end.accept(self.now, from, &data, bytes.len()) {
                    let mut messages = Vec::new();
                    for frame in frames(data.frames) {
                        let frame = frame.expect("a frame");
                        match end
                            .handle(self.now, frame, &mut self.session, true)
                            .expect("a good peer")
                        {
                            Taken::Frame => messages.push(frame.to_vec()),
                            Taken::Message(message) => messages.push(message),
                            Taken::Here => {}
                            other => panic!("{other:?}"),
                        }
                    }
                    end.datagram_handled();
                    messages.iter().for_each(|message| self.frame_at_server(message));
                }
                if let Some((end, _)) = &mut self.server {
                    end.after_input();
                }
            }
            Arrival::Answered | Arrival::Nothing => {}
        }
        if !answer.is_empty() {
            self.send(false, answer);
        }
    }

    fn frame_at_server(&mut self, frame: &[u8]) {
        match frame::decode(frame).expect("a frame") {
            Frame::Call(call) => {
                let semantics = ALL[call.method as usize];
                let target = Target::Method { semantics, oneway: false, max_reply: None };
                let admission = self.session.admit(self.now, &call, target, &mut self.reply);
                if admission.expect("a good client") == Admission::Run {
                    *self.ran.entry(call.seq).or_default() += 1;
                    self.semantics.insert(call.seq, semantics);
                    self.running.insert((self.now + self.handler, call.seq), call.arguments.len());
                }
            }
            Frame::CallAck { floor, ranges } => {
                self.session.acknowledge(floor, &ranges).expect("a good client");
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn datagrams(&self) -> u64 {
        self.datagrams
    }

    /// Datagrams that carried something again.
    pub(super) fn resent(&self) -> u64 {
        self.end.statistics().resent
            + self.server.as_ref().map_or(0, |(end, _)| end.statistics().resent)
    }

    /// Handlers that were begun.
    pub(super) fn runs(&self) -> usize {
        self.ran.values().sum()
    }

    /// Calls that ran again although their semantics forbids it.
    pub(super) fn twice(&self) -> usize {
        let forbidden = |seq: &Seq| self.semantics.get(seq) != Some(&Semantics::AtLeastOnce);
        self.ran.iter().filter(|(seq, runs)| **runs > 1 && forbidden(seq)).count()
    }

    /// Answers that the server keeps.
    pub(super) fn records(&self) -> usize {
        self.session.saved().0
    }
}

const ALL: [Semantics; 3] = super::ALL;
const MOST_STEPS: usize = 2_000_000;
