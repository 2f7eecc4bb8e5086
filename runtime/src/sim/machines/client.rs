//! The clients of a run: the driver around each client's machine, and the callers.

use std::io;
use std::sync::Arc;

use super::caller::{INTERFACE, Made, Past, Patience};
use super::network::{Carrier, End, Pipe, Stream, Way};
use super::world::{Event, Step, World, violation};
use crate::error::CallError;
use crate::protocol::assembly::Assembled;
use crate::protocol::client::{Answered, Client, Health, NewCall, NotStarted};
use crate::semantics::{Execution, Semantics};
use crate::sim::oracle::{Excuses, Told, broken};
use crate::time::Time;
use crate::wire::frame::{self, Frame};

/// One client with its machine.
pub(super) struct ClientEnd {
    pub(super) machine: Client<u32>,
    pub(super) server: usize,
    /// The newest link, unless it is lost.
    pub(super) link: Option<usize>,
    pub(super) end: End,
    pub(super) paused_until: Time,
    /// For when a timer is set.
    pub(super) timer: Time,
    /// Calls that found no room, and what they were told to be woken by.
    pub(super) blocked: Vec<(u32, u64)>,
    /// What had happened when the present session was last heard of.
    pub(super) known: Past,
    /// How often things happened to this client.
    pub(super) cuts: u64,
    pub(super) expiries: u64,
    /// Something was done after which an honest client can be refused as one too many.
    pub(super) burdened: bool,
}

/// What a caller does to its call in mid-flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Take,
    Cancel,
    Drop,
    Detach,
}

impl ClientEnd {
    pub(super) fn new(machine: Client<u32>, server: usize, message: usize) -> ClientEnd {
        ClientEnd {
            machine,
            server,
            link: None,
            end: End::new(message),
            paused_until: Time::ZERO,
            timer: Time::NEVER,
            blocked: Vec::new(),
            known: Past::default(),
            cuts: 0,
            expiries: 0,
            burdened: false,
        }
    }
}

impl World {
    /// Makes a link, or finds that there is no server.
    pub(super) fn connect(&mut self, client: usize) -> Step {
        let server = self.clients[client].server;
        if self.clients[client].link.is_some() {
            return Ok(());
        }
        if self.has_datagrams() {
            return self.connect_datagrams(client);
        }
        if !self.servers[server].up {
            let error = io::Error::from(io::ErrorKind::ConnectionRefused);
            self.clients[client].machine.unreachable(Arc::new(error));
            self.connect_later(client);
            return self.settle_client(client);
        }
        let pipe = self.pipes.len();
        self.pipes.push(Pipe {
            client,
            server,
            up: Stream::new(),
            down: Stream::new(),
            welcomed: Past::default(),
            served: Some(End::new(self.plan.limits.message)),
        });
        let nonce = self.rng.next();
        let end = &mut self.clients[client];
        end.link = Some(pipe);
        end.end = End::new(self.plan.limits.message);
        end.machine.connected(self.now, nonce, &mut end.end.out);
        self.trace.note(self.now, 1, pipe as u64);
        self.trace.line(self.now, || format!("client {client}: link {pipe} to server {server}"));
        self.settle_client(client)
    }

    /// The client finds its link lost, or gives it up.
    pub(super) fn client_lost(&mut self, client: usize, pipe: usize) -> Step {
        if self.clients[client].link != Some(pipe) {
            return Ok(());
        }
        let end = &mut self.clients[client];
        end.link = None;
        end.cuts += 1;
        self.events_counted.cuts += 1;
        let error = Arc::new(io::Error::from(io::ErrorKind::ConnectionReset));
        let accepted = end.end.accepted();
        end.machine.link_lost(self.now, accepted, &end.end.out, &error);
        end.end = End::new(self.plan.limits.message);
        self.trace.note(self.now, 2, pipe as u64);
        let lost = if self.has_datagrams() { 0 } else { self.client_stream_ends(pipe) };
        self.trace
            .line(self.now, || format!("client {client}: link {pipe} lost, {lost} B with it"));
        self.connect_later(client);
        self.settle_client(client)
    }

    /// What its client wrote last may arrive or not; gives how many bytes do not.
    fn client_stream_ends(&mut self, pipe: usize) -> usize {
        let kept = self.cut_at(pipe, Way::Up);
        let lost = self.pipes[pipe].up.bytes.len() - kept;
        self.pipes[pipe].up.close(kept);
        self.pipes[pipe].down.swallowed = true;
        self.schedule_delivery(pipe, Way::Up);
        lost
    }

    /// The end of a link that is still to be made.
    pub(super) fn new_end(&self) -> End {
        match self.has_datagrams() {
            true => End::for_datagrams(&self.plan.limits),
            false => End::new(self.plan.limits.message),
        }
    }

    fn connect_later(&mut self, client: usize) {
        let delay = self.rng.spread(10, 500_000);
        self.after(delay, Event::Connect { client });
    }

    /// Bytes arrive at the client.
    pub(super) fn client_received(&mut self, client: usize, pipe: usize, bytes: &[u8]) -> Step {
        if self.clients[client].link != Some(pipe) {
            return Ok(());
        }
        let mut inbox = std::mem::take(&mut self.clients[client].end.inbox);
        inbox.extend_from_slice(bytes);
        let mut start = 0;
        while let Ok(Some((length, used))) = frame::frame_length(&inbox[start..]) {
            let Some(bytes) = inbox.get(start + used..start + used + length) else { break };
            self.client_frame(client, bytes)?;
            start += used + length;
        }
        inbox.drain(..start);
        let end = &mut self.clients[client];
        end.end.inbox = inbox;
        end.machine.after_input(self.now, &mut end.end.out);
        self.settle_client(client)
    }

    /// One frame arrives at the client.
    pub(super) fn client_frame(&mut self, client: usize, bytes: &[u8]) -> Step {
        let frame = frame::decode(bytes).map_err(|error| violation("client", &error))?;
        self.trace.note(self.now, 3, bytes.len() as u64);
        if self.trace.is_recording() {
            let text = describe(&frame);
            self.trace.line(self.now, || format!("client {client} <- {text}"));
        }
        match &frame {
            Frame::Fragment(fragment) => {
                let end = &mut self.clients[client].end;
                match end.assembly.accept(self.now, fragment) {
                    Assembled::Unfinished => Ok(()),
                    Assembled::Refused(_) => Err(violation("client", &"a reply over the limit")),
                    Assembled::Violation(text) => Err(violation("client", &text)),
                    Assembled::Whole(message) => {
                        self.events_counted.assembled += 1;
                        self.client_frame(client, &message)
                    }
                }
            }
            Frame::Reply(reply) => {
                self.events_counted.fenced += u64::from(reply.status == frame::ReplyStatus::Fenced);
                self.client_handles(client, &frame)?;
                self.repeat_later(Way::Down, client, bytes);
                Ok(())
            }
            Frame::Executing { .. } => {
                self.client_handles(client, &frame)?;
                self.repeat_later(Way::Down, client, bytes);
                Ok(())
            }
            Frame::Welcome(_) => {
                self.client_handles(client, &frame)?;
                let end = &mut self.clients[client];
                end.known = end.link.map_or(end.known, |pipe| self.pipes[pipe].welcomed);
                Ok(())
            }
            _ => self.client_handles(client, &frame),
        }
    }

    fn client_handles(&mut self, client: usize, frame: &Frame<'_>) -> Step {
        let end = &mut self.clients[client];
        let handled = end.machine.handle(self.now, frame, &mut end.end.out);
        handled.map_err(|error| violation("client", &error.0))
    }

    /// The client's timer went off.
    pub(super) fn client_timer(&mut self, client: usize) -> Step {
        self.clients[client].timer = Time::NEVER;
        if self.client_timeout(client) > self.now {
            return self.settle_client(client);
        }
        let end = &mut self.clients[client];
        if matches!(end.end.carrier, Carrier::Client(_)) {
            return self.client_datagram_timer(client);
        }
        match (end.machine.handle_timeout(self.now, &mut end.end.out), end.link) {
            (Health::Silent, Some(pipe)) => self.client_lost(client, pipe),
            _ => self.settle_client(client),
        }
    }

    /// Does what the driver does after every use of the machine.
    pub(super) fn settle_client(&mut self, client: usize) -> Step {
        loop {
            let woken = std::mem::take(self.clients[client].machine.woken());
            if woken.is_empty() {
                break;
            }
            for call in woken {
                self.caller_woken(call)?;
            }
        }
        if self.has_datagrams() {
            self.client_sends_soon(client);
        } else if let Some(pipe) = self.clients[client].link {
            let stream = &self.pipes[pipe].up;
            let (room, end) = (stream.has_room(self.plan.kernel), &mut self.clients[client].end);
            if room && !end.is_empty() && !end.pump_scheduled {
                end.pump_scheduled = true;
                let delay = if self.rng.chance(100) { self.rng.below(5000) } else { 0 };
                self.after(delay, Event::Pump { pipe, way: Way::Up });
            }
        }
        // After sending, the time of the next look is another.
        if !self.has_datagrams() {
            self.set_client_timer(client);
        }
        Ok(())
    }

    pub(super) fn set_client_timer(&mut self, client: usize) {
        let next = self.client_timeout(client);
        if next < self.clients[client].timer {
            self.clients[client].timer = next;
            self.at(next.max(self.now), Event::ClientTimer { client });
        }
    }

    /// A caller makes its call.
    pub(super) fn make_call(&mut self, client: usize) -> Step {
        let call = self.calls.len() as u32;
        let mut made = Made::draw(call, client, &self.plan, &mut self.rng);
        // A crash or an expiry before is news to a client that has not heard of it.
        let Past { crashes, expiries, drains, .. } = self.clients[client].known;
        made.before = Past { crashes, expiries, drains, ..self.past(client) };
        made.began = self.now;
        let task = made.task;
        self.oracle.call(task.semantics, task.oneway);
        self.calls.push(made);
        self.trace.note(self.now, 4, u64::from(call));
        self.trace.line(self.now, || {
            let patience = self.calls[call as usize].patience;
            format!("client {client}: call {call} {task:?} {patience:?}")
        });
        self.start_call(call, None)?;
        self.settle_client(client)
    }

    fn start_call(&mut self, call: u32, mut woken: Option<u64>) -> Step {
        let made = &self.calls[call as usize];
        let client = made.client;
        let arguments = made.task.to_arguments();
        let new = NewCall {
            handle: 0,
            method: made.task.method(),
            semantics: made.task.semantics,
            oneway: made.task.oneway,
            passes: false,
            timeout: made.timeout,
            arguments: &arguments,
            large: None,
        };
        let end = &mut self.clients[client];
        // What still runs after its caller has gone, or runs again, takes room at the server.
        let runs_again = made.task.semantics != Semantics::AtMostOnce
            && (self.plan.duplicates > 0 || self.plan.cuts > 0);
        end.burdened |= self.plan.trouble.is_some()
            && (runs_again || made.task.semantics != Semantics::AtMostOnce || self.plan.large > 0);
        end.burdened |=
            made.task.oneway || made.task.is_large() || made.timeout.is_some() || runs_again;
        for _ in 0..3 {
            match end.machine.start(Some(self.now), &new, &mut end.end.out) {
                Ok(key) => {
                    self.calls[call as usize].key = Some(key);
                    return self.call_started(call);
                }
                Err(NotStarted::Failed(error)) => return self.told_error(call, &error),
                Err(NotStarted::Full) => {
                    if let Some(number) =
                        end.machine.block(new.arguments.len(), &end.end.out, woken, call)
                    {
                        end.blocked.push((call, number));
                        return Ok(());
                    }
                    woken = None;
                }
            }
        }
        Err(broken("I14", format!("call {call} finds no room, and need not wait for any")))
    }

    fn call_started(&mut self, call: u32) -> Step {
        let act = |act| Event::Act { call, act };
        match self.calls[call as usize].patience {
            Patience::Prompt => return self.take_answer(call),
            Patience::Late(delay) => self.after(delay, act(Act::Take)),
            Patience::Cancels(delay) => {
                self.after(delay, act(Act::Cancel));
                return self.take_answer(call);
            }
            Patience::Drops(delay) => {
                self.after(delay, act(Act::Drop));
                return self.take_answer(call);
            }
            Patience::Detaches => return self.act(call, Act::Detach),
        }
        Ok(())
    }

    fn caller_woken(&mut self, call: u32) -> Step {
        if self.calls[call as usize].key.is_some() {
            return self.take_answer(call);
        }
        let client = self.calls[call as usize].client;
        let blocked = &mut self.clients[client].blocked;
        let place = blocked.iter().position(|&(waiting, _)| waiting == call);
        let number = place.map(|place| blocked.swap_remove(place).1);
        if self.calls[call as usize].ended { Ok(()) } else { self.start_call(call, number) }
    }

    /// The caller does something.
    pub(super) fn act(&mut self, call: u32, act: Act) -> Step {
        let made = &mut self.calls[call as usize];
        let (client, Some(key)) = (made.client, made.key) else { return Ok(()) };
        if made.ended {
            return Ok(());
        }
        self.trace.line(self.now, || format!("client {client}: {act:?} call {call}"));
        let end = &mut self.clients[client];
        match act {
            Act::Take => return self.take_answer(call).and_then(|()| self.settle_client(client)),
            Act::Cancel => {
                made.given_up = true;
                end.burdened = true;
                end.machine.cancel(self.now, key, &mut end.end.out);
            }
            Act::Drop => {
                made.ended = true;
                end.burdened = true;
                end.machine.abandon(self.now, key, &mut end.end.out);
            }
            Act::Detach => {
                made.ended = true;
                end.machine.detach(key);
            }
        }
        if act != Act::Cancel {
            self.oracle.let_go(call as usize);
        }
        self.settle_client(client)
    }

    /// The caller takes its answer, or leaves word to be woken.
    fn take_answer(&mut self, call: u32) -> Step {
        let made = &mut self.calls[call as usize];
        let Some(key) = made.key.filter(|_| !made.ended) else { return Ok(()) };
        let mut body = Vec::new();
        let machine = &mut self.clients[made.client].machine;
        let Some(answer) = machine.take_or_wait(key, &mut body, &mut None, |_| Some(call)) else {
            return Ok(());
        };
        let error = match answer {
            Err(error) => return self.told_error(call, &error),
            Ok(_) if made.task.oneway => return self.told(call, Told::HandedOver, false),
            Ok(answered) => answered == Answered::MethodError,
        };
        match made.task.run_of(error, &body) {
            Some(run) => self.told(call, Told::Answer { run: Some(run) }, false),
            None => Err(broken("I3", format!("call {call} has an answer that is not its own"))),
        }
    }

    fn told_error(&mut self, call: u32, error: &CallError) -> Step {
        let made = &self.calls[call as usize];
        let burdened = self.clients[made.client].burdened;
        let refusal = made.task.asked_for(error) || matches!(error, CallError::Busy(_)) && burdened;
        self.trace.line(self.now, || format!("client: call {call} failed: {error}"));
        if let CallError::DeadlineExceeded { started: true, .. } = error
            && self.oracle.starts(call as usize) == 0
        {
            return Err(broken("I3", format!("call {call} is said to have begun, and has not")));
        }
        if error.execution() == Execution::Executed && !made.task.asked_for(error) {
            return Err(broken("I4", format!("call {call} failed without cause: {error}")));
        }
        self.told(call, Told::Failed(error.execution()), refusal)
    }

    fn told(&mut self, call: u32, told: Told, refusal: bool) -> Step {
        let made = &self.calls[call as usize];
        let server = self.clients[made.client].server;
        let (past, before) = (self.past(made.client), made.before);
        let late = made.timeout.is_some_and(|timeout| made.began + timeout <= self.now);
        let excuses = Excuses {
            crash: past.crashes > before.crashes,
            expiry: past.expiries > before.expiries,
            given_up: made.given_up || late,
            cut: past.cuts > before.cuts,
            drain: past.drains > before.drains || self.servers[server].draining,
            refusal,
        };
        let client = made.client;
        self.calls[call as usize].ended = true;
        self.rested = self.rested.max(self.now);
        self.trace.note(self.now, 5, u64::from(call));
        self.trace.line(self.now, || format!("client {client}: done call {call}: {told:?}"));
        self.oracle.told(call as usize, told, excuses)
    }

    /// What happened so far to a client and its server.
    pub(super) fn past(&self, client: usize) -> Past {
        let end = &self.clients[client];
        let server = &self.servers[end.server];
        Past {
            crashes: server.crashes,
            expiries: end.expiries,
            cuts: end.cuts,
            drains: server.drains,
        }
    }

    /// Looks up the object whose methods are called.
    pub(super) fn bind(&mut self, client: usize) {
        let end = &mut self.clients[client];
        // The first of at most a thousand handles.
        let _ = end.machine.bind(&"object".into(), &INTERFACE, &mut end.end.out);
    }
}

/// A frame in a few words.
pub(super) fn describe(frame: &Frame<'_>) -> String {
    match frame {
        Frame::Call(call) => {
            format!("call #{} attempt {} floor {}", call.seq, call.attempt, call.floor)
        }
        Frame::Reply(reply) => format!("reply #{} {:?}", reply.seq, reply.status),
        Frame::Fragment(fragment) => format!("fragment #{} {:?}", fragment.seq, fragment.part),
        Frame::Hello(hello) => format!("hello link {} resume {:?}", hello.link, hello.resume),
        Frame::Welcome(welcome) => {
            let (boot, session, resumed) = (welcome.boot, welcome.session, welcome.resumed);
            format!("welcome {boot}/{session} resumed {resumed} known {:?}", welcome.known)
        }
        Frame::Piece(piece) => {
            let (start, end) = (piece.offset, piece.offset + piece.bytes.len() as u64);
            format!("piece #{} {start}..{end} of {}", piece.seq, piece.total)
        }
        Frame::Ack(ack) => {
            format!("ack {:?} {} us", ack.ranges().collect::<Vec<_>>(), ack.delay_us)
        }
        other => format!("{other:?}"),
    }
}
