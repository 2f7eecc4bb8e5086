//! Every schedule of a very small world: one client, one server, two calls, and a few faults.
//!
//! Frames are whole and time stands still; what the driver's timers do is one more thing that may happen next. Each
//! state of the machines is visited once, whatever led to it.

mod checks;

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use crate::id::{Boot, NodeId, Seq, SessionId};
use crate::limits::Limits;
use crate::protocol::client::{Client, ClientConfig, Key, NewCall};
use crate::protocol::server::{Admission, ProcessBudget, ServerSession, Sessions, Target};
use crate::semantics::Semantics;
use crate::sim::oracle::{Broken, Excuses, Oracle, Told, broken};
use crate::time::Time;
use crate::wire::frame::{self, Frame, ReplyStatus};
use crate::wire::send_buffer::{Batch, SendBuffer};

/// How small the world is.
#[derive(Debug, Clone, Copy)]
pub struct Model {
    /// The semantics of the calls.
    pub calls: [Semantics; 2],
    /// Most crashes of the server.
    pub crashes: u8,
    /// Most frames that arrive again.
    pub repeats: u8,
    /// Most links that are cut.
    pub cuts: u8,
    /// Most calls that are cancelled.
    pub cancels: u8,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Explored {
    /// Different states.
    pub states: u64,
    /// Ways from one state to the next.
    pub steps: u64,
    /// States in which nothing but a fault can happen any more.
    pub ends: u64,
    /// A promise that was broken, and what led to it.
    pub broken: Option<(Broken, Vec<String>)>,
}

/// Visits every state that the model can reach; stops at the first broken promise.
#[must_use]
pub fn explore_exhaustively(model: &Model) -> Explored {
    let mut explored = Explored::default();
    let mut seen = HashSet::new();
    let first = Small::new(*model);
    seen.insert(first.fingerprint());
    let mut open = vec![first];
    while let Some(state) = open.pop() {
        explored.states += 1;
        let actions = state.possible();
        if actions.iter().all(Action::is_fault) {
            explored.ends += 1;
            if let Err(broken) = state.check_end() {
                explored.broken = Some((broken, state.lines()));
                return explored;
            }
        }
        for action in actions {
            explored.steps += 1;
            let mut next = state.fork();
            if let Err(broken) = next.act(action) {
                explored.broken = Some((broken, next.lines()));
                return explored;
            }
            if seen.insert(next.fingerprint()) {
                open.push(next);
            }
        }
    }
    explored
}

/// What can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Action {
    Call,
    Connect,
    Up,
    Down,
    /// The next frame of a link that was cut arrives.
    Late,
    /// The rest of such a link does not.
    LateLost,
    Finish(usize),
    Acknowledge,
    ResolveTimeout,
    Cancel(usize),
    Again(usize),
    Cut,
    Crash,
}

impl Action {
    fn is_fault(&self) -> bool {
        matches!(self, Action::Cancel(_) | Action::Again(_) | Action::Cut | Action::Crash)
    }
}

/// A state of the world.
struct Small {
    left: Model,
    client: Client<usize>,
    keys: Vec<Option<Key>>,
    cancelled: Vec<bool>,
    linked: bool,
    link: u64,
    up: VecDeque<Vec<u8>>,
    down: VecDeque<Vec<u8>>,
    /// Frames of links that were cut, with the session that they belong to.
    late: VecDeque<(usize, Vec<u8>)>,
    boot: u64,
    sessions: Sessions<usize>,
    cells: Vec<ServerSession>,
    /// The session of the present link.
    present: Option<usize>,
    running: Vec<(usize, Seq, usize, u32)>,
    /// Frames that arrived, of which the network may keep a copy.
    copies: Vec<(usize, Vec<u8>)>,
    oracle: Oracle,
    told: Vec<Option<Told>>,
    crashed: bool,
    cut: bool,
    path: Option<Arc<Step>>,
}

/// What led here.
struct Step {
    action: Action,
    before: Option<Arc<Step>>,
}

impl Small {
    fn new(model: Model) -> Small {
        let config = ClientConfig {
            node: node(1),
            peer: "model".into(),
            limits: limits(),
            datagrams: false,
        };
        Small {
            left: model,
            client: Client::new(config),
            keys: Vec::new(),
            cancelled: Vec::new(),
            linked: false,
            link: 0,
            up: VecDeque::new(),
            down: VecDeque::new(),
            late: VecDeque::new(),
            boot: 1,
            sessions: Sessions::new(node(2), Boot(1)),
            cells: Vec::new(),
            present: None,
            running: Vec::new(),
            copies: Vec::new(),
            oracle: Oracle::default(),
            told: Vec::new(),
            crashed: false,
            cut: false,
            path: None,
        }
    }

    fn fork(&self) -> Small {
        Small {
            left: self.left,
            client: self.client.clone(),
            keys: self.keys.clone(),
            cancelled: self.cancelled.clone(),
            linked: self.linked,
            link: self.link,
            up: self.up.clone(),
            down: self.down.clone(),
            late: self.late.clone(),
            boot: self.boot,
            sessions: self.sessions.clone(),
            cells: self.cells.iter().map(ServerSession::clone).collect(),
            present: self.present,
            running: self.running.clone(),
            copies: self.copies.clone(),
            oracle: self.oracle.clone(),
            told: self.told.clone(),
            crashed: self.crashed,
            cut: self.cut,
            path: self.path.clone(),
        }
    }

    fn fingerprint(&self) -> (u64, u64) {
        let cells = self.cells.iter().map(ServerSession::fingerprint);
        let machines = (self.client.fingerprint(), cells.collect::<Vec<_>>());
        let starts = (0..self.told.len()).map(|call| self.oracle.starts(call));
        let calls = (starts.collect::<Vec<_>>(), format!("{:?}", self.told), &self.cancelled);
        let Model { crashes, repeats, cuts, cancels, .. } = self.left;
        let left = (crashes, repeats, cuts, cancels, self.crashed, self.cut);
        let network = (&self.up, &self.down, &self.late, &self.copies, self.linked, self.present);
        let hash = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            (salt, &machines, &calls, left, network, &self.running).hash(&mut hasher);
            hasher.finish()
        };
        (hash(0), hash(1))
    }

    fn lines(&self) -> Vec<String> {
        let (mut lines, mut step) = (Vec::new(), self.path.as_ref());
        while let Some(here) = step {
            lines.push(format!("{:?}", here.action));
            step = here.before.as_ref();
        }
        lines.reverse();
        lines
    }

    fn possible(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut add = |possible: bool, action| {
            if possible {
                actions.push(action);
            }
        };
        add(self.told.len() < 2, Action::Call);
        add(!self.linked, Action::Connect);
        add(!self.up.is_empty(), Action::Up);
        add(!self.down.is_empty(), Action::Down);
        add(!self.late.is_empty(), Action::Late);
        add(!self.late.is_empty(), Action::LateLost);
        add(self.linked && self.client.owes_acknowledgement(), Action::Acknowledge);
        add(self.client.is_resolving(), Action::ResolveTimeout);
        for place in 0..self.running.len() {
            add(true, Action::Finish(place));
        }
        for call in 0..self.told.len() {
            let may = self.left.cancels > 0 && self.told[call].is_none() && !self.cancelled[call];
            add(may, Action::Cancel(call));
        }
        for copy in 0..self.copies.len() {
            add(self.left.repeats > 0, Action::Again(copy));
        }
        add(self.left.cuts > 0 && self.linked, Action::Cut);
        add(self.left.crashes > 0, Action::Crash);
        actions
    }

    fn act(&mut self, action: Action) -> Result<(), Broken> {
        self.path = Some(Arc::new(Step { action, before: self.path.take() }));
        let mut out = SendBuffer::default();
        match action {
            Action::Call => self.call(&mut out)?,
            Action::Connect => {
                self.linked = true;
                self.link += 1;
                self.client.connected(NOW, self.link, &mut out);
            }
            Action::Up => {
                let frame = self.up.pop_front().unwrap_or_default();
                self.arrives(&frame)?;
            }
            Action::Down => {
                let bytes = self.down.pop_front().unwrap_or_default();
                self.client_handles(&bytes, &mut out)?;
            }
            Action::Late => {
                let (cell, frame) = self.late.pop_front().unwrap_or_default();
                self.session_handles(cell, &frame, true)?;
            }
            Action::LateLost => self.late.clear(),
            Action::Finish(place) => self.finish(place),
            Action::Acknowledge => {
                self.client.handle_timeout(NOW + ACK, &mut out);
            }
            Action::ResolveTimeout => {
                self.client.handle_timeout(NOW + RESOLVE, &mut out);
            }
            Action::Cancel(call) => {
                self.left.cancels -= 1;
                self.cancelled[call] = true;
                if let Some(key) = self.keys[call] {
                    self.client.cancel(NOW, key, &mut out);
                }
            }
            Action::Again(copy) => {
                self.left.repeats -= 1;
                let (cell, frame) = self.copies[copy].clone();
                self.session_handles(cell, &frame, false)?;
            }
            Action::Cut => {
                self.left.cuts -= 1;
                self.cut = true;
                let old = self.present.take();
                if let Some(cell) = old {
                    self.late = self.up.drain(..).map(|frame| (cell, frame)).collect();
                    self.cells[cell].detach(NOW, self.link);
                }
                self.lose_link();
            }
            Action::Crash => {
                self.left.crashes -= 1;
                self.crashed = true;
                self.boot += 1;
                self.sessions = Sessions::new(node(2), Boot(self.boot));
                self.cells.clear();
                self.running.clear();
                self.copies.clear();
                self.late.clear();
                self.present = None;
                if self.linked {
                    self.lose_link();
                }
            }
        }
        for frame in frames(&mut out) {
            self.up.push_back(frame);
        }
        self.take_answers()
    }

    fn call(&mut self, out: &mut SendBuffer) -> Result<(), Broken> {
        let number = self.told.len();
        let semantics = self.left.calls[number];
        self.oracle.call(semantics, false);
        self.told.push(None);
        self.cancelled.push(false);
        let new = NewCall {
            handle: 0,
            method: number as u32,
            semantics,
            oneway: false,
            passes: false,
            timeout: None,
            arguments: &[],
            large: None,
        };
        match self.client.start(Some(NOW), &new, out) {
            Ok(key) => self.keys.push(Some(key)),
            Err(_) => return Err(broken("I14", format!("call {number} is not taken"))),
        }
        Ok(())
    }

    fn lose_link(&mut self) {
        self.linked = false;
        self.up.clear();
        self.down.clear();
        let error = Arc::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        // All that was encoded was accepted: the worse case.
        self.client.link_lost(NOW, u64::MAX, &SendBuffer::default(), &error);
    }

    fn client_handles(&mut self, bytes: &[u8], out: &mut SendBuffer) -> Result<(), Broken> {
        let frame =
            frame::decode(bytes).map_err(|error| super::world::violation("client", &error))?;
        let handled = self.client.handle(NOW, &frame, out);
        handled.map_err(|error| super::world::violation("client", &error.0))?;
        self.client.after_input(NOW, out);
        Ok(())
    }

    /// A frame arrives on the present link.
    fn arrives(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let Ok(Frame::Hello(hello)) = frame::decode(bytes) else {
            return match self.present {
                Some(cell) => self.session_handles(cell, bytes, true),
                None => Err(broken("honest peers", "a frame before HELLO")),
            };
        };
        let limits = limits();
        let fresh = SessionId(self.boot * 100 + self.cells.len() as u64);
        let count = self.cells.len();
        let Ok(welcomed) = self.sessions.welcome(&hello, fresh, &limits, |_| true, |_| count)
        else {
            return Ok(());
        };
        if welcomed.session == count {
            let budget = Arc::new(ProcessBudget::default());
            self.cells.push(ServerSession::new(welcomed.id, node(1), limits.clone(), budget));
        }
        let finished = hello.resume.as_ref().filter(|_| welcomed.resumed);
        let finished = finished.map(|resume| (resume.floor, &resume.ranges));
        let session = &mut self.cells[welcomed.session];
        let known = session.attach(hello.link, hello.max_message, finished);
        let known = known.map_err(|error| super::world::violation("server", &error.0))?;
        let greeting =
            self.sessions.greeting(&hello, welcomed.id, welcomed.resumed, known, &limits);
        let mut out = SendBuffer::default();
        frame::put_welcome(&greeting, out.small());
        session.flush(&mut out);
        self.present = Some(welcomed.session);
        self.down.extend(frames(&mut out));
        Ok(())
    }

    /// A frame of a session arrives, on whatever link.
    fn session_handles(&mut self, cell: usize, bytes: &[u8], first: bool) -> Result<(), Broken> {
        let violation =
            |error: crate::protocol::client::Violation| super::world::violation("server", &error.0);
        let frame =
            frame::decode(bytes).map_err(|error| super::world::violation("server", &error))?;
        let mut out = SendBuffer::default();
        let session = &mut self.cells[cell];
        match &frame {
            Frame::Call(call) => {
                let semantics = self.left.calls[call.method as usize];
                let target = Target::Method { semantics, oneway: false, max_reply: None };
                if session.admit(NOW, call, target, &mut out).map_err(violation)? == Admission::Run
                {
                    let number = call.method as usize;
                    let run = self.oracle.start(number)?;
                    self.running.push((cell, call.seq, number, run));
                }
            }
            Frame::CallAck { floor, ranges } => {
                session.acknowledge(*floor, ranges).map_err(violation)?;
            }
            Frame::Resolve { seq } => {
                session.resolve(NOW, *seq, &mut out).map_err(violation)?;
            }
            _ => {}
        }
        let repeatable = matches!(frame, Frame::Call(_) | Frame::Resolve { .. });
        let copy = (cell, bytes.to_vec());
        if first && repeatable && self.left.repeats > 0 && !self.copies.contains(&copy) {
            self.copies.push(copy);
        }
        if self.present == Some(cell) {
            self.down.extend(frames(&mut out));
        }
        Ok(())
    }

    fn finish(&mut self, place: usize) {
        let (cell, seq, number, run) = self.running.remove(place);
        let mut out = SendBuffer::default();
        let mut body = vec![number as u8, run as u8];
        let heard = (self.present == Some(cell)).then_some(&mut out);
        self.cells[cell].complete(NOW, seq, ReplyStatus::Ok, &mut body, heard);
        self.down.extend(frames(&mut out));
    }
}

/// What was written, as frames without their lengths.
fn frames(out: &mut SendBuffer) -> Vec<Vec<u8>> {
    let mut batch = Batch::default();
    out.fill(&mut batch);
    let bytes = batch.single().unwrap_or_default();
    let (mut frames, mut start) = (Vec::new(), 0);
    while let Ok(Some((length, used))) = frame::frame_length(&bytes[start..]) {
        start += used;
        frames.push(bytes[start..start + length].to_vec());
        start += length;
    }
    frames
}

fn limits() -> Arc<Limits> {
    Arc::new(Limits {
        ack_delay: ACK,
        resolve_wait: RESOLVE,
        default_timeout: None,
        ..Limits::default()
    })
}

fn node(number: u64) -> NodeId {
    NodeId(uuid::Uuid::from_u64_pair(0, number))
}

const NOW: Time = Time::ZERO;
const ACK: Duration = Duration::from_millis(1);
const RESOLVE: Duration = Duration::from_millis(2);
