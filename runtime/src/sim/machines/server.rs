//! The servers of a run: the driver around the sessions, the handlers, and crash and restart.

use std::collections::HashSet;
use std::sync::Arc;

use super::caller::{Behaviour, INTERFACE, Task};
use super::client::describe;
use super::network::{ASSEMBLY_BYTES, Way};
use super::plan::TTL;
use super::world::{Event, Step, World, violation};
use crate::error::FailureCode;
use crate::id::{Boot, NodeId, Seq, SessionId};
use crate::limits::Limits;
use crate::protocol::assembly::Assembled;
use crate::protocol::packet::Endpoint;
use crate::protocol::server::{Admission, ProcessBudget, ServerSession, Sessions, Target};
use crate::sim::oracle::broken;
use crate::sim::rng::Rng;
use crate::time::Time;
use crate::wire::frame::{
    self, BoundResult, Call, Fragment, Frame, Hello, Kind, ReplyStatus, Verdict, Welcome,
};
use crate::wire::send_buffer::SendBuffer;

/// One server over all its runs.
pub(super) struct Server {
    pub(super) up: bool,
    /// Rises with each restart.
    pub(super) run: u32,
    pub(super) draining: bool,
    pub(super) paused_until: Time,
    pub(super) sessions: Sessions<usize>,
    /// All sessions of this run; an expired one stays for the handlers that still run in it.
    pub(super) cells: Vec<Cell>,
    pub(super) budget: Arc<ProcessBudget>,
    pub(super) endpoint: Endpoint,
    pub(super) crashes: u64,
    pub(super) drains: u64,
}

/// A session and what the driver keeps with it.
pub(super) struct Cell {
    pub(super) session: ServerSession,
    pub(super) live: bool,
    /// The newest link, while it is up.
    pub(super) newest: Option<usize>,
    handles: HashSet<u32>,
    /// The client that HELLO came from.
    pub(super) client: usize,
    /// On the newest link, the highest number that was started.
    pub(super) highest: (usize, Seq),
    /// Those of orderly calls that were started, for their order.
    pub(super) started: HashSet<Seq>,
}

impl Server {
    pub(super) fn new(node: u64, limits: &Arc<Limits>, rng: &mut Rng) -> Server {
        Server {
            up: true,
            run: 0,
            draining: false,
            paused_until: Time::ZERO,
            sessions: Sessions::new(node_id(node), Boot(rng.next())),
            cells: Vec::new(),
            budget: Arc::new(ProcessBudget::default()),
            endpoint: Endpoint::new(limits.clone(), [node, 7]),
            crashes: 0,
            drains: 0,
        }
    }
}

impl World {
    /// The process ends without a word.
    pub(super) fn crash(&mut self, server: usize) {
        let crashed = &mut self.servers[server];
        if !crashed.up {
            return;
        }
        crashed.up = false;
        crashed.run += 1;
        crashed.crashes += 1;
        crashed.cells.clear();
        self.events_counted.crashes += 1;
        self.forget_links(server);
        self.trace.note(self.now, 6, server as u64);
        self.trace.line(self.now, || format!("server {server}: crash"));
        for pipe in 0..self.pipes.len() {
            if self.pipes[pipe].server != server || self.pipes[pipe].served.take().is_none() {
                continue;
            }
            self.pipes[pipe].up.swallowed = true;
            let kept = self.cut_at(pipe, Way::Down);
            self.pipes[pipe].down.close(kept);
            // Now and then nobody is told: the machine is gone, not only the process.
            self.pipes[pipe].down.swallowed |= self.rng.chance(200);
            self.schedule_delivery(pipe, Way::Down);
        }
        let delay = self.rng.spread(1, 2_000_000);
        self.after(delay, Event::Restart { server });
    }

    pub(super) fn restart(&mut self, server: usize) {
        let boot = Boot(self.rng.next());
        let limits = self.plan.limits.clone();
        let restarted = &mut self.servers[server];
        if restarted.up {
            return;
        }
        restarted.up = true;
        restarted.drains += u64::from(restarted.draining);
        restarted.draining = false;
        restarted.paused_until = Time::ZERO;
        restarted.sessions = Sessions::new(node_id(server as u64), boot);
        restarted.budget = Arc::new(ProcessBudget::default());
        restarted.endpoint = Endpoint::new(limits, [boot.0, 7]);
        self.trace.line(self.now, || format!("server {server}: run {boot}"));
    }

    /// The server begins nothing new, and ends some time later.
    pub(super) fn drain(&mut self, server: usize) {
        let draining = &mut self.servers[server];
        if !draining.up || draining.draining {
            return;
        }
        draining.draining = true;
        draining.drains += 1;
        self.events_counted.drains += 1;
        self.trace.line(self.now, || format!("server {server}: go away"));
        for cell in 0..self.servers[server].cells.len() {
            let cell = &mut self.servers[server].cells[cell];
            let newest = cell.newest;
            let end = newest.and_then(|pipe| self.pipes[pipe].served.as_mut());
            cell.session.drain(end.map(|end| &mut end.out));
            if let Some(pipe) = newest {
                self.settle_server_end(pipe);
            }
        }
        let delay = self.rng.spread(1000, 3_000_000);
        self.after(delay, Event::Crash { server });
    }

    /// Bytes arrive at the server.
    pub(super) fn server_received(&mut self, pipe: usize, bytes: &[u8]) -> Step {
        let Some(end) = &mut self.pipes[pipe].served else { return Ok(()) };
        let mut inbox = std::mem::take(&mut end.inbox);
        inbox.extend_from_slice(bytes);
        let mut start = 0;
        while let Ok(Some((length, used))) = frame::frame_length(&inbox[start..]) {
            let Some(bytes) = inbox.get(start + used..start + used + length) else { break };
            self.link_frame(pipe, bytes)?;
            start += used + length;
        }
        inbox.drain(..start);
        if let Some(end) = &mut self.pipes[pipe].served {
            end.inbox = inbox;
        }
        Ok(())
    }

    /// One frame arrives on a link.
    pub(super) fn link_frame(&mut self, pipe: usize, bytes: &[u8]) -> Step {
        let frame = frame::decode(bytes).map_err(|error| violation("server", &error))?;
        let server = self.pipes[pipe].server;
        self.trace.note(self.now, 7, bytes.len() as u64);
        if self.trace.is_recording() {
            let text = describe(&frame);
            self.trace.line(self.now, || format!("server {server} <- {text} (link {pipe})"));
        }
        let Some(end) = &mut self.pipes[pipe].served else { return Ok(()) };
        match (&frame, end.session) {
            (Frame::Hello(hello), None) => self.hello(pipe, hello),
            (Frame::Ping(nonce), _) => {
                frame::put_nonce(Kind::Pong, *nonce, end.out.small());
                self.settle_server_end(pipe);
                Ok(())
            }
            (Frame::Fragment(fragment), Some((cell, _))) => {
                self.server_fragment(pipe, cell, fragment)
            }
            (Frame::Call(call), Some((cell, _))) if self.is_overtaken() => {
                self.hold_back(server, cell, call.floor, bytes)
            }
            (_, Some((cell, _))) => {
                let newest = self.servers[server].cells[cell].newest;
                self.events_counted.on_old_links += u64::from(newest != Some(pipe));
                self.session_frame(server, cell, Some(pipe), &frame)?;
                let client = self.servers[server].cells[cell].client;
                if matches!(frame, Frame::Call(_) | Frame::Resolve { .. } | Frame::CallAck { .. }) {
                    self.repeat_later(Way::Up, client, bytes);
                }
                Ok(())
            }
            (_, None) => Err(violation("server", &"a frame before HELLO")),
        }
    }

    /// A piece of a large call; now and then there is no room for it.
    fn server_fragment(&mut self, pipe: usize, cell: usize, fragment: &Fragment<'_>) -> Step {
        let room = !self.rng.chance(self.plan.odd / 4);
        let server = self.pipes[pipe].server;
        let Some(end) = &mut self.pipes[pipe].served else { return Ok(()) };
        let assembled = end.assembly.accept_if(room, self.now, fragment);
        if end.assembly.bytes() > ASSEMBLY_BYTES {
            return Err(broken("I9", "more unfinished bytes than allowed"));
        }
        match assembled {
            Assembled::Unfinished => Ok(()),
            Assembled::Violation(text) => Err(violation("server", &text)),
            Assembled::Whole(message) => {
                self.events_counted.assembled += 1;
                self.link_frame(pipe, &message)
            }
            Assembled::Refused(_) => {
                self.events_counted.refused_pieces += 1;
                let mut nowhere = SendBuffer::default();
                let cell = &mut self.servers[server].cells[cell];
                let out = if cell.newest == Some(pipe) { &mut end.out } else { &mut nowhere };
                let refused =
                    cell.session.refuse(self.now, fragment.seq, FailureCode::Busy, "full", out);
                self.settle_server_end(pipe);
                refused.map_err(|error| violation("server", &error.0))
            }
        }
    }

    fn hello(&mut self, pipe: usize, hello: &Hello) -> Step {
        let Some((cell, welcome)) = self.open(pipe, hello) else { return Ok(()) };
        if let Some(end) = &mut self.pipes[pipe].served {
            end.session = Some((cell, hello.link));
            frame::put_welcome(&welcome, end.out.small());
        }
        self.opened(pipe, cell);
        Ok(())
    }

    /// Finds or makes the session that HELLO asks for, and gives it this link.
    pub(super) fn open(&mut self, pipe: usize, hello: &Hello) -> Option<(usize, Welcome)> {
        let server = self.pipes[pipe].server;
        let client = self.pipes[pipe].client;
        let (limits, datagrams) = (self.plan.limits.clone(), self.has_datagrams());
        let fresh = SessionId(self.rng.next());
        let Server { sessions, cells, budget, .. } = &mut self.servers[server];
        let count = cells.len();
        let welcomed = sessions.welcome(
            hello,
            fresh,
            &limits,
            |&cell| cells[cell].session.client() == hello.client,
            |_| count,
        );
        let welcomed = welcomed.ok()?;
        if welcomed.session == count {
            let (limits, budget) = (limits.clone(), budget.clone());
            let session = ServerSession::new(welcomed.id, hello.client, limits, budget);
            cells.push(Cell {
                session: if datagrams { session.over_datagrams() } else { session },
                live: true,
                newest: None,
                handles: HashSet::new(),
                client,
                highest: (pipe, 0),
                started: HashSet::new(),
            });
        }
        let cell = &mut cells[welcomed.session];
        let finished = hello.resume.as_ref().filter(|_| welcomed.resumed);
        let finished = finished.map(|resume| (resume.floor, &resume.ranges));
        let Ok(known) = cell.session.attach(hello.link, hello.max_message, finished) else {
            // An older link than the one that the session has.
            self.trace.line(self.now, || format!("server {server}: link {pipe} is too old"));
            self.server_lost(pipe);
            return None;
        };
        self.events_counted.resumed += u64::from(welcomed.resumed);
        cell.newest = Some(pipe);
        let welcome =
            sessions.greeting(hello, welcomed.id, welcomed.resumed, known, &self.plan.limits);
        self.pipes[pipe].welcomed = self.past(client);
        Some((welcomed.session, welcome))
    }

    /// WELCOME is written; the rest follows it.
    pub(super) fn opened(&mut self, pipe: usize, cell: usize) {
        let Server { cells, draining, .. } = &mut self.servers[self.pipes[pipe].server];
        let cell = &mut cells[cell];
        if let Some(end) = &mut self.pipes[pipe].served {
            if *draining {
                cell.session.drain(Some(&mut end.out));
            }
            cell.session.flush(&mut end.out);
        }
        self.settle_server_end(pipe);
    }

    /// One frame of a session, from one of its links, or repeated by the network.
    pub(super) fn session_frame(
        &mut self,
        server: usize,
        cell: usize,
        pipe: Option<usize>,
        frame: &Frame<'_>,
    ) -> Step {
        let mut nowhere = SendBuffer::default();
        let heard = self.is_heard(server, cell, pipe);
        let Cell { session, newest, handles, .. } = &mut self.servers[server].cells[cell];
        let newest = *newest;
        let end = newest.and_then(|pipe| self.pipes[pipe].served.as_mut());
        let out = end.filter(|_| heard).map_or(&mut nowhere, |end| &mut end.out);
        let outcome = match frame {
            Frame::Call(call) => return self.server_call(server, cell, pipe, call),
            Frame::CallAck { floor, ranges } => session.acknowledge(*floor, ranges),
            Frame::Resolve { seq } => session.resolve(self.now, *seq, out).map(|_| ()),
            Frame::Lookup(lookup) => {
                handles.insert(lookup.handle);
                let verdicts = vec![Verdict::Callable; INTERFACE.methods.len()];
                let result = BoundResult::Object { verdicts, methods: "" };
                frame::put_bound(lookup.handle, &result, out.small());
                Ok(())
            }
            Frame::Pong(_) => Ok(()),
            _ => return Err(violation("server", &"a frame that clients do not send")),
        };
        if let Some(pipe) = newest {
            self.settle_server_end(pipe);
        }
        self.check_memory(server, cell)?;
        outcome.map_err(|error| violation("server", &error.0))
    }

    /// Whether what is answered at once reaches the client: it may be lost for what an older link brings.
    fn is_heard(&mut self, server: usize, cell: usize, pipe: Option<usize>) -> bool {
        let newest = self.servers[server].cells[cell].newest;
        pipe.is_none() || newest == pipe || self.rng.chance(500)
    }

    fn server_call(
        &mut self,
        server: usize,
        cell: usize,
        pipe: Option<usize>,
        call: &Call<'_>,
    ) -> Step {
        let Some(task) = Task::from_arguments(call.method, call.arguments) else {
            return Err(broken("I3", "arguments arrive otherwise than they were sent"));
        };
        let mut nowhere = SendBuffer::default();
        let heard = self.is_heard(server, cell, pipe);
        let Cell { session, newest, handles, .. } = &mut self.servers[server].cells[cell];
        let newest = *newest;
        let end = newest.and_then(|pipe| self.pipes[pipe].served.as_mut());
        let out = end.filter(|_| heard).map_or(&mut nowhere, |end| &mut end.out);
        let target = if !handles.contains(&call.handle) {
            Target::Refused { code: FailureCode::NoSuchObject, text: "no such object" }
        } else if task.behaviour == Behaviour::Refusable && self.rng.chance(700) {
            Target::Refused { code: FailureCode::BadArguments, text: "not now" }
        } else {
            Target::Method { semantics: task.semantics, oneway: task.oneway, max_reply: None }
        };
        let admitted = session.admit(self.now, call, target, out);
        let admitted = admitted.map_err(|error| violation("server", &error.0))?;
        if admitted == Admission::Run {
            self.server_runs(server, cell, pipe, call.seq, task)?;
        } else {
            self.events_counted.recognised += 1;
            self.trace.line(self.now, || {
                format!("server {server}: call {} #{} is not run", task.call, call.seq)
            });
        }
        if let Some(pipe) = newest {
            self.settle_server_end(pipe);
        }
        self.check_memory(server, cell)
    }

    fn server_runs(
        &mut self,
        server: usize,
        cell: usize,
        pipe: Option<usize>,
        seq: Seq,
        task: Task,
    ) -> Step {
        let run = self.oracle.start(task.call as usize)?;
        self.trace.note(self.now, 8, u64::from(task.call));
        self.trace.line(self.now, || format!("server {server}: run {run} of call {}", task.call));
        self.check_order(server, cell, pipe, seq, &task)?;
        self.check_copies(&task, run)?;
        let event = Event::Complete {
            server,
            run: self.servers[server].run,
            cell,
            seq,
            outcome: task.outcome(run),
        };
        if task.handler_us > 0 {
            self.after(u64::from(task.handler_us), event);
            return Ok(());
        }
        self.happen(event)
    }

    /// A handler is done.
    pub(super) fn complete(
        &mut self,
        server: usize,
        cell: usize,
        seq: Seq,
        (status, mut body): (ReplyStatus, Vec<u8>),
    ) -> Step {
        self.trace.note(self.now, 9, seq);
        let Cell { session, newest, .. } = &mut self.servers[server].cells[cell];
        let newest = *newest;
        let end = newest.and_then(|pipe| self.pipes[pipe].served.as_mut());
        session.complete(self.now, seq, status, &mut body, end.map(|end| &mut end.out));
        if let Some(pipe) = newest {
            self.settle_server_end(pipe);
        }
        self.check_memory(server, cell)
    }

    /// The server finds a link lost.
    pub(super) fn server_lost(&mut self, pipe: usize) {
        let server = self.pipes[pipe].server;
        let Some(end) = self.pipes[pipe].served.take() else { return };
        self.remove_link(server, &end);
        self.pipes[pipe].up.swallowed = true;
        let kept = self.cut_at(pipe, Way::Down);
        self.pipes[pipe].down.close(kept);
        self.schedule_delivery(pipe, Way::Down);
        self.trace.line(self.now, || format!("server {server}: link {pipe} ends"));
        if let Some((cell, link)) = end.session {
            let cell = &mut self.servers[server].cells[cell];
            cell.session.detach(self.now, link);
            if cell.newest == Some(pipe) {
                cell.newest = None;
            }
        }
    }

    /// What a server does every now and then: asks for acknowledgements, drops sessions.
    pub(super) fn sweep(&mut self, server: usize) -> Step {
        self.after(TTL.as_micros() as u64 / 5, Event::Sweep { server });
        if !self.servers[server].up {
            return Ok(());
        }
        for cell in 0..self.servers[server].cells.len() {
            let cell = &mut self.servers[server].cells[cell];
            let Some(pipe) = cell.newest.filter(|_| cell.live) else { continue };
            if let Some(end) = &mut self.pipes[pipe].served {
                let asked = cell.session.handle_timeout(self.now, &mut end.out);
                asked.map_err(|error| violation("server", &error.0))?;
            }
            self.settle_server_end(pipe);
        }
        let now = self.now;
        let Server { sessions, cells, .. } = &mut self.servers[server];
        sessions.expire(|&cell| {
            let cell = &mut cells[cell];
            cell.live = !cell.session.is_expired(now);
            if !cell.live {
                let client = &mut self.clients[cell.client];
                // A late copy of a HELLO makes sessions of which the client never hears.
                let own = client.machine.session().is_some_and(|(_, id)| id == cell.session.id());
                client.expiries += u64::from(own);
                self.events_counted.expired += 1;
            }
            !cell.live
        });
        Ok(())
    }

    /// Does what the driver does after every use of a session's link.
    pub(super) fn settle_server_end(&mut self, pipe: usize) {
        if self.has_datagrams() {
            return self.server_sends_soon(pipe);
        }
        let room = self.pipes[pipe].down.has_room(self.plan.kernel);
        let Some(end) = &mut self.pipes[pipe].served else { return };
        if room && !end.is_empty() && !end.pump_scheduled {
            end.pump_scheduled = true;
            let delay = if self.rng.chance(100) { self.rng.below(5000) } else { 0 };
            self.after(delay, Event::Pump { pipe, way: Way::Down });
        }
    }
}

fn node_id(number: u64) -> NodeId {
    NodeId(uuid::Uuid::from_u64_pair(0xfa2c_a115, number))
}
