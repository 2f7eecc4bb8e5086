//! A client, a server, and a network whose every frame the test decides on; all that happens becomes a line of text.

use std::fmt::Write;
use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use crate::id::{Boot, NodeId, Seq, SessionId};
use crate::limits::Limits;
use crate::protocol::client::{Answered, Client, ClientConfig, Key, NewCall};
use crate::protocol::server::{Admission, ProcessBudget, ServerSession, Sessions, Target};
use crate::semantics::Semantics;
use crate::time::Time;
use crate::wire::frame::{self, Frame, Hello, ReplyStatus};
use crate::wire::send_buffer::{Batch, SendBuffer};

/// What is called.
#[derive(Clone, Copy)]
pub(super) struct Method {
    pub(super) name: &'static str,
    pub(super) semantics: Semantics,
}

/// What becomes of frames.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Fate {
    Arrive,
    /// With their link.
    Lost,
    /// When the test says so.
    Late,
}

pub(super) struct Conversation {
    now: Time,
    /// Handlers wait for [`Conversation::finish`].
    pub(super) slow: bool,
    client: Client<()>,
    calls: Vec<(Method, Option<Key>)>,
    out: SendBuffer,
    /// Bytes that the kernel accepted on this link.
    accepted: u64,
    links: u64,
    late: Vec<Vec<u8>>,
    sessions: Sessions<usize>,
    boots: u64,
    cells: Vec<ServerSession>,
    present: Option<usize>,
    reply: SendBuffer,
    /// Calls that came, of which run.
    seen: Vec<(u64, Seq)>,
    lines: String,
}

impl Conversation {
    pub(super) fn new() -> Conversation {
        let config = ClientConfig {
            node: node(1),
            peer: "bank".into(),
            limits: Arc::new(Limits::default()),
            datagrams: false,
        };
        Conversation {
            now: Time::ZERO,
            slow: false,
            client: Client::new(config),
            calls: Vec::new(),
            out: SendBuffer::default(),
            accepted: 0,
            links: 0,
            late: Vec::new(),
            sessions: Sessions::new(node(2), Boot(1)),
            boots: 1,
            cells: Vec::new(),
            present: None,
            reply: SendBuffer::default(),
            seen: Vec::new(),
            lines: String::from("\n"),
        }
    }

    /// The lines so far are these.
    #[track_caller]
    pub(super) fn expect(&self, lines: &str) {
        assert!(self.lines == lines, "it went otherwise:\n{}", self.lines);
    }

    /// A new link, over which HELLO and WELCOME arrive.
    pub(super) fn connect(&mut self) {
        self.hello(Fate::Arrive);
        self.down(Fate::Arrive);
    }

    /// A new link, on which HELLO has this fate.
    pub(super) fn hello(&mut self, fate: Fate) {
        self.links += 1;
        self.client.connected(self.now, self.links, &mut self.out);
        self.up(fate);
    }

    pub(super) fn call(&mut self, method: Method) {
        self.start(method, None);
    }

    pub(super) fn call_within(&mut self, method: Method, milliseconds: u64) {
        self.start(method, Some(Duration::from_millis(milliseconds)));
    }

    /// As by a caller who does not look at the clock.
    pub(super) fn call_untimed_within(&mut self, method: Method, milliseconds: u64) {
        self.start_at(None, method, Some(Duration::from_millis(milliseconds)));
    }

    fn start(&mut self, method: Method, timeout: Option<Duration>) {
        self.start_at(Some(self.now), method, timeout);
    }

    fn start_at(&mut self, now: Option<Time>, method: Method, timeout: Option<Duration>) {
        self.line(format!("call {}", method.name));
        let call = NewCall {
            handle: 0,
            method: self.calls.len() as u32,
            semantics: method.semantics,
            oneway: false,
            passes: false,
            timeout,
            arguments: b"5",
            large: None,
        };
        let key = self.client.start(now, &call, &mut self.out).expect("there is room");
        self.calls.push((method, Some(key)));
        self.take_answers();
    }

    /// What the client wrote leaves, and has this fate.
    pub(super) fn up(&mut self, fate: Fate) {
        for bytes in self.written_by_client() {
            self.pass();
            self.line(format!("-> {}{}", describe(&bytes), mark(fate)));
            match fate {
                Fate::Arrive => self.server_handles(&bytes),
                Fate::Late => self.late.push(bytes),
                Fate::Lost => {}
            }
        }
    }

    /// What the server wrote leaves, and has this fate.
    pub(super) fn down(&mut self, fate: Fate) {
        let frames = frames(&mut self.reply);
        self.at_client(frames, fate);
    }

    /// What the server wrote arrives, the last first, as it may in datagrams.
    pub(super) fn down_backwards(&mut self) {
        let mut frames = frames(&mut self.reply);
        frames.reverse();
        self.at_client(frames, Fate::Arrive);
    }

    fn at_client(&mut self, frames: Vec<(Vec<u8>, usize)>, fate: Fate) {
        for (bytes, _) in frames {
            self.pass();
            self.line(format!("<- {}{}", describe(&bytes), mark(fate)));
            if fate == Fate::Arrive {
                let frame = frame::decode(&bytes).expect("the server wrote it");
                self.client.handle(self.now, &frame, &mut self.out).expect("it is honest");
                self.client.after_input(self.now, &mut self.out);
            }
        }
        self.take_answers();
    }

    /// Frames that were late arrive now.
    pub(super) fn late_arrives(&mut self) {
        for bytes in std::mem::take(&mut self.late) {
            self.pass();
            self.line(format!("late -> {}", describe(&bytes)));
            self.server_handles(&bytes);
        }
    }

    pub(super) fn lose_link(&mut self) {
        self.line("link lost");
        if let Some(cell) = self.present.take() {
            let link = self.links;
            self.cells[cell].detach(self.now, link);
        }
        let error = Arc::new(Error::from(ErrorKind::ConnectionReset));
        self.client.link_lost(self.now, self.accepted, &self.out, &error);
        self.out = SendBuffer::default();
        self.reply = SendBuffer::default();
        self.accepted = 0;
        self.take_answers();
    }

    /// The server's process ends, and another begins.
    pub(super) fn restart(&mut self) {
        self.line("server: restarts");
        self.boots += 1;
        self.sessions = Sessions::new(node(2), Boot(self.boots));
        self.cells.clear();
        self.present = None;
        self.lose_link();
    }

    /// The server shuts down in good order.
    pub(super) fn go_away(&mut self) {
        let cell = self.present.expect("a link is up");
        self.cells[cell].drain(Some(&mut self.reply));
    }

    /// The handler of a call returns.
    pub(super) fn finish(&mut self, seq: Seq) {
        let cell = self.cells.len() - 1;
        self.line(format!("server: end {seq}"));
        let out = self.present.map(|_| &mut self.reply);
        let (now, mut body) = (self.now, b"5".to_vec());
        self.cells[cell].complete(now, seq, ReplyStatus::Ok, &mut body, out);
    }

    /// The caller drops its call.
    pub(super) fn abandon(&mut self, name: &str) {
        self.line(format!("drop {name}"));
        let key = self.calls.iter_mut().find(|(method, _)| method.name == name);
        let key = key.and_then(|(_, key)| key.take()).expect("it was called");
        self.client.abandon(self.now, key, &mut self.out);
    }

    /// Time passes, and the client's timers go off.
    pub(super) fn wait(&mut self, milliseconds: u64) {
        self.now = self.now + Duration::from_millis(milliseconds);
        self.client.handle_timeout(self.now, &mut self.out);
        self.take_answers();
    }

    fn server_handles(&mut self, bytes: &[u8]) {
        let frame = frame::decode(bytes).expect("the client wrote it");
        if let Frame::Hello(hello) = &frame {
            return self.welcome(hello);
        }
        let Some(cell) = self.cells.len().checked_sub(1) else { return };
        let session = &mut self.cells[cell];
        match frame {
            Frame::Call(call) => {
                let semantics = self.calls[call.method as usize].0.semantics;
                let target = Target::Method { semantics, oneway: false, max_reply: None };
                let before = self.reply.pending();
                let admitted = session.admit(self.now, &call, target, &mut self.reply);
                let first = !self.seen.contains(&(self.boots, call.seq));
                if admitted.expect("it is honest") == Admission::Run {
                    self.line(format!("server: run {}", call.seq));
                    if !self.slow {
                        self.finish_quietly(cell, call.seq);
                    }
                } else if self.reply.pending() > before {
                    let what = if first { "with a refusal" } else { "from cache" };
                    self.line(format!("server: answer {} {what}", call.seq));
                } else {
                    self.line(format!("server: {} runs already", call.seq));
                }
                self.seen.push((self.boots, call.seq));
            }
            Frame::Resolve { seq } => {
                self.seen.push((self.boots, seq));
                session.resolve(self.now, seq, &mut self.reply).expect("it is honest");
            }
            Frame::CallAck { floor, ranges } => {
                session.acknowledge(floor, &ranges).expect("it is honest");
                let (saved, _) = session.saved();
                self.line(format!("server: keeps {saved}"));
            }
            _ => {}
        }
    }

    fn finish_quietly(&mut self, cell: usize, seq: Seq) {
        let out = self.present.map(|_| &mut self.reply);
        let (now, mut body) = (self.now, b"5".to_vec());
        self.cells[cell].complete(now, seq, ReplyStatus::Ok, &mut body, out);
    }

    fn welcome(&mut self, hello: &Hello) {
        let limits = Arc::new(Limits::default());
        let count = self.cells.len();
        let fresh = SessionId(self.boots * 10 + count as u64);
        let welcomed = self.sessions.welcome(hello, fresh, &limits, |_| true, |_| count);
        let welcomed = welcomed.unwrap_or_else(|_| panic!("there is room for a session"));
        if welcomed.session == count {
            let budget = Arc::new(ProcessBudget::default());
            self.cells.push(ServerSession::new(welcomed.id, node(1), limits.clone(), budget));
        }
        let finished = hello.resume.as_ref().filter(|_| welcomed.resumed);
        let finished = finished.map(|resume| (resume.floor, &resume.ranges));
        let session = &mut self.cells[welcomed.session];
        let Ok(known) = session.attach(hello.link, hello.max_message, finished) else {
            return self.line("server: the link is too old");
        };
        self.present = Some(welcomed.session);
        let (id, resumed) = (welcomed.id, welcomed.resumed);
        let welcome = self.sessions.greeting(hello, id, resumed, known, &limits);
        frame::put_welcome(&welcome, self.reply.small());
        session.flush(&mut self.reply);
    }

    fn take_answers(&mut self) {
        for index in 0..self.calls.len() {
            let (method, Some(key)) = self.calls[index] else { continue };
            let mut body = Vec::new();
            let Some(answer) = self.client.take(key, &mut body) else { continue };
            self.calls[index].1 = None;
            let text = match answer {
                Ok(Answered::Ok) => "ok".to_owned(),
                Ok(Answered::MethodError) => "the method's error".to_owned(),
                Err(error) => error.to_string(),
            };
            self.line(format!("done {}: {text}", method.name));
        }
    }

    fn written_by_client(&mut self) -> Vec<Vec<u8>> {
        let written = frames(&mut self.out);
        self.accepted += written.iter().map(|(_, size)| *size as u64).sum::<u64>();
        written.into_iter().map(|(bytes, _)| bytes).collect()
    }

    /// A frame takes a millisecond.
    fn pass(&mut self) {
        self.now = self.now + Duration::from_millis(1);
    }

    fn line(&mut self, text: impl AsRef<str>) {
        let time = format!("{}ms", self.now.as_nanos() / 1_000_000);
        let _ = writeln!(self.lines, "{time:>6}  {}", text.as_ref());
    }
}

/// Whole frames without their lengths, and how many bytes each took on the wire.
fn frames(out: &mut SendBuffer) -> Vec<(Vec<u8>, usize)> {
    let mut batch = Batch::default();
    out.fill(&mut batch);
    let bytes = batch.single().expect("no message is large");
    let (mut frames, mut start) = (Vec::new(), 0);
    while let Ok(Some((length, used))) = frame::frame_length(&bytes[start..]) {
        frames.push((bytes[start + used..start + used + length].to_vec(), used + length));
        start += used + length;
    }
    frames
}

fn describe(bytes: &[u8]) -> String {
    match frame::decode(bytes).expect("an honest side wrote it") {
        Frame::Hello(Hello { resume: None, .. }) => "hello".to_owned(),
        Frame::Hello(Hello { resume: Some(resume), .. }) => {
            format!("hello again, finished below {}", resume.floor)
        }
        Frame::Welcome(welcome) if welcome.resumed => {
            format!("welcome back, known {:?}", welcome.known)
        }
        Frame::Welcome(_) => "welcome".to_owned(),
        Frame::Call(call) if call.attempt > 1 => {
            format!("call {}, attempt {}", call.seq, call.attempt)
        }
        Frame::Call(call) => format!("call {}", call.seq),
        Frame::Reply(reply) => match reply.status {
            ReplyStatus::Ok => format!("reply {}", reply.seq),
            status => format!("reply {}: {status:?}", reply.seq),
        },
        Frame::Resolve { seq } => format!("resolve {seq}"),
        Frame::Executing { seq } => format!("executing {seq}"),
        Frame::CallAck { floor, ranges } if ranges.is_empty() => format!("finished below {floor}"),
        Frame::GoAway { known } => format!("go away, known {known:?}"),
        other => format!("{other:?}"),
    }
}

fn mark(fate: Fate) -> &'static str {
    match fate {
        Fate::Arrive => "",
        Fate::Lost => "    lost",
        Fate::Late => "    late",
    }
}

fn node(number: u64) -> NodeId {
    NodeId(uuid::Uuid::from_u64_pair(0, number))
}
