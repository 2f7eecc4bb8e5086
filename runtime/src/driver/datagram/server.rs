//! The task of a socket at which a server listens for datagrams: all its links, from their first to their last.
//!
//! One task, whatever the number of clients: a link has neither a task nor a timer of its own. Handlers are polled in
//! place first, as on a stream; whoever completes a call elsewhere rings the link's bell.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;

use super::Traffic;
use super::agenda::Agenda;
use super::client::CLOSING;
use super::doorbell::Rung;
use super::injected::Injected;
use super::outbox::Outbox;
use super::server_link::{Over, ServerLink};
use crate::driver::busy::{BusyPoll, poll_again};
use crate::driver::lock;
use crate::driver::server::Server;
use crate::driver::serving::{Desk, Kind, Pace, Place, Turn, Wait, welcome};
use crate::driver::timer::Timer;
use crate::protocol::packet::{Arrival, Endpoint, Greeting};
use crate::time::Time;
use crate::transport::{Datagrams, Inbox, Received, Route, dropped_by_kernel};
use crate::wire::datagram::Data;
use crate::wire::frame::CloseCode;
use crate::wire::send_buffer::SendBuffer;

/// Starts the task of a socket, unless the server is ending.
pub(in crate::driver) fn spawn(server: &Arc<Server>, runtime: &Handle, socket: Box<dyn Datagrams>) {
    let Some(task) = server.enter() else { return };
    let _entered = runtime.enter();
    let mut hall = Hall::new(server.clone(), task, socket);
    runtime.spawn(async move { poll_fn(|cx| hall.poll(cx)).await });
}

/// The socket with its links.
struct Hall {
    server: Arc<Server>,
    task: u64,
    socket: Box<dyn Datagrams>,
    endpoint: Endpoint,
    inbox: Inbox,
    /// How many of the inbox are handled, and when the first of them came.
    handled: usize,
    came: Time,
    /// Since when something has been left to receive or to handle.
    busy_since: Time,
    pace: Pace,
    outbox: Outbox,
    /// In the order of their ids, so that a run in the simulator can be repeated.
    links: BTreeMap<u64, Box<ServerLink>>,
    /// Links to be settled, and those that are to be looked at later.
    touched: VecDeque<u64>,
    agenda: Agenda,
    rung: Arc<Rung>,
    /// What came for the links by another way.
    injected: Arc<Injected>,
    timer: Timer,
    busy: BusyPoll,
    /// What was received, lost and rejected, and what of it the server counts already.
    traffic: Traffic,
    counted: Traffic,
    /// Nothing is received before this moment, since the last attempt failed.
    paused: Time,
    /// Since when the server is ending.
    closing: Option<Time>,
    registered: bool,
    /// Dropped last.
    _open: Open,
}

/// A shutdown waits for it: the port is free again when it is gone.
struct Open(Arc<Server>);

impl Hall {
    fn new(server: Arc<Server>, task: u64, socket: Box<dyn Datagrams>) -> Hall {
        server.open_sockets.fetch_add(1, Ordering::AcqRel);
        lock(&server.sockets).numbers.extend(socket.kernel_number());
        let key = [server.entropy.next(), server.entropy.next()];
        let injected = Arc::new(Injected::default());
        lock(&server.injected).push(Arc::downgrade(&injected));
        Hall {
            task,
            socket,
            endpoint: Endpoint::new(server.limits.clone(), key),
            inbox: Inbox::default(),
            handled: 0,
            came: Time::ZERO,
            busy_since: Time::NEVER,
            pace: Pace::default(),
            outbox: Outbox::default(),
            links: BTreeMap::new(),
            touched: VecDeque::new(),
            agenda: Agenda::default(),
            rung: Arc::default(),
            injected,
            timer: Timer::new(server.clock),
            busy: BusyPoll::new(server.limits.busy_poll, server.clock.now()),
            traffic: Traffic::default(),
            counted: Traffic::default(),
            paused: Time::ZERO,
            closing: None,
            registered: false,
            _open: Open(server.clone()),
            server,
        }
    }

    /// Ready when the server has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !std::mem::replace(&mut self.registered, true) {
            self.server.is_closing(self.task, cx.waker());
        }
        if self.server.dead.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        let mut turn = Turn::new(self.server.clock.now(), self.pace);
        let unread = self.poll_input(cx, &mut turn);
        self.receive_injected(cx, &mut turn);
        let now = turn.now;
        self.pace = turn.pace();
        self.busy_since = if unread { self.busy_since.min(now) } else { Time::NEVER };
        self.look_for_end(cx, now);
        self.rung.take(&mut self.touched, cx.waker());
        while let Some(link) = self.agenda.take_due(now) {
            if let Some(entry) = self.links.get_mut(&link) {
                entry.due = Time::NEVER;
                self.touched.push_back(link);
            }
        }
        self.poll_output(cx, now);
        if unread && self.outbox.has_room() {
            // Nobody else wakes this task for what has arrived already.
            poll_again(cx);
        }
        self.count();
        if self.closing.is_some() && self.links.is_empty() && self.outbox.is_empty() {
            return Poll::Ready(());
        }
        let paused = if self.paused > now { self.paused } else { Time::NEVER };
        let wanted = self.agenda.first().min(paused);
        self.busy.look_again(cx, now);
        if self.timer.poll(cx, now, wanted) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Receives and handles until nothing is left, for one turn at most. Whether something may be left.
    fn poll_input(&mut self, cx: &mut Context<'_>, turn: &mut Turn) -> bool {
        if self.paused > turn.now {
            return false;
        }
        for _ in 0..READS_PER_POLL {
            if !self.handle_inbox(cx, turn) {
                return true;
            }
            if !self.outbox.has_room() {
                // The socket takes nothing: what comes waits with the kernel, or is dropped and counted there.
                return true;
            }
            match self.socket.poll_receive(cx, &mut self.inbox) {
                Poll::Ready(Ok(())) => {
                    self.busy.active(turn.now);
                    self.traffic.received += self.inbox.len() as u64;
                    self.came = turn.now.before(self.inbox.waited());
                }
                Poll::Ready(Err(error)) => {
                    tracing::warn!(%error, "a socket for datagrams could not be read");
                    self.paused = turn.now + ERROR_PAUSE;
                    return false;
                }
                Poll::Pending => return false,
            }
        }
        self.handle_inbox(cx, turn);
        true
    }

    /// Handles what was received; whether all of it, or else the turn is over.
    fn handle_inbox(&mut self, cx: &mut Context<'_>, turn: &mut Turn) -> bool {
        let inbox = std::mem::take(&mut self.inbox);
        let wait = Wait::since(self.came, self.busy_since.min(turn.now));
        let mut over = false;
        while !over && let Some(datagram) = inbox.get(self.handled) {
            self.handled += 1;
            self.receive(cx, wait, turn, &datagram);
            over = turn.has_ended();
        }
        self.inbox = inbox;
        if self.handled == self.inbox.len() {
            self.inbox.clear();
            self.handled = 0;
        }
        !over
    }

    /// Handles what came for the links of this socket in bundles, as if their clients had sent it here.
    fn receive_injected(&mut self, cx: &mut Context<'_>, turn: &mut Turn) {
        for part in self.injected.take(cx.waker()) {
            let mut links = self.links.range(part.link.links());
            let of_client = links.find(|(_, entry)| entry.client() == part.client);
            // Of a link of another socket, or of another member of the group.
            let Some((link, entry)) = of_client else { continue };
            let (from, local) = entry.route();
            let bytes = part.datagram(*link);
            self.traffic.received += 1;
            let received = Received { from, local, bytes: &bytes };
            #[cfg(farcall_canary)]
            crate::canary::set_in_bundle(true);
            self.receive(cx, Wait::none(turn.now), turn, &received);
            #[cfg(farcall_canary)]
            crate::canary::set_in_bundle(false);
        }
    }

    fn receive(
        &mut self,
        cx: &mut Context<'_>,
        wait: Wait,
        turn: &mut Turn,
        received: &Received<'_>,
    ) {
        let now = turn.now;
        let route = Route { peer: Some(received.from), local: received.local };
        let mut arrival = Arrival::Nothing;
        let endpoint = &mut self.endpoint;
        self.outbox.put(|reply| {
            arrival = endpoint.receive(now, received.from, received.bytes, reply);
            Some(route)
        });
        match arrival {
            Arrival::Hello(greeting) => self.greet(now, greeting, route),
            Arrival::Data { link, data } => self.data(cx, wait, turn, received, link, &data),
            Arrival::Answered | Arrival::Nothing => {}
        }
    }

    /// A client opens a link.
    fn greet(&mut self, now: Time, greeting: Greeting, route: Route) {
        let peer: Arc<str> = greeting.from.to_string().into();
        let Hall { server, endpoint, outbox, .. } = self;
        let refuse = |endpoint: &mut Endpoint, outbox: &mut Outbox, code, text: &str| {
            outbox.put(|reply| {
                endpoint.refuse(&greeting, code, text, reply);
                Some(route)
            });
        };
        let Some(mut place) = Place::take(server, &peer) else {
            tracing::warn!(peer = &*peer, "too many connections");
            let text = "the server takes no more connections";
            return refuse(endpoint, outbox, CloseCode::Busy, text);
        };
        place.greeted();
        let id = server.entropy.next();
        let bell = self.rung.bell(id);
        let begin = |welcome| {
            let mut end = None;
            outbox.put(|reply| {
                end = Some(endpoint.welcome(now, &greeting, id, welcome, reply));
                Some(route)
            });
            let room = end.as_ref().map_or(0, |end| end.room());
            (SendBuffer::for_datagrams(room), end)
        };
        match welcome(server, &greeting.hello, Kind::Datagrams, bell, begin) {
            Ok((cell, Some(end))) => {
                let desk = Desk::new(server.clone(), cell, greeting.hello.link, peer);
                let link = ServerLink::new(end, desk, route.local, place);
                self.links.insert(id, Box::new(link));
                self.touch(id);
            }
            Ok((_, None)) => {}
            Err((code, text)) => refuse(&mut self.endpoint, &mut self.outbox, code, text),
        }
    }

    fn data(
        &mut self,
        cx: &mut Context<'_>,
        wait: Wait,
        turn: &mut Turn,
        received: &Received<'_>,
        link: u64,
        data: &Data<'_>,
    ) {
        self.touch(link);
        let Some(entry) = self.links.get_mut(&link) else { return };
        if let Err(over) = entry.receive(cx, wait, turn, received, data) {
            self.finish(turn.now, link, &over);
        }
    }

    /// The link is to be settled.
    fn touch(&mut self, link: u64) {
        if let Some(entry) = self.links.get_mut(&link)
            && !std::mem::replace(&mut entry.touched, true)
        {
            self.touched.push_back(link);
        }
    }

    /// A server that is ending lets go of each link when all that was sent on it has arrived, or after a while.
    fn look_for_end(&mut self, cx: &Context<'_>, now: Time) {
        if self.closing.is_none()
            && self.server.is_draining()
            && self.server.is_closing(self.task, cx.waker())
        {
            self.closing = Some(now);
            let links: Vec<u64> = self.links.keys().copied().collect();
            links.into_iter().for_each(|link| self.touch(link));
        }
    }

    /// Settles links and sends, until nothing may leave or the socket is full.
    fn poll_output(&mut self, cx: &mut Context<'_>, now: Time) {
        loop {
            while self.outbox.has_room()
                && let Some(link) = self.touched.pop_front()
            {
                self.settle(now, link);
            }
            match self.outbox.poll_send(cx, &mut *self.socket) {
                Poll::Ready(Ok(())) if self.touched.is_empty() => return,
                Poll::Ready(Ok(())) => {}
                // As lost as any other.
                Poll::Ready(Err(error)) => tracing::debug!(%error, "a datagram could not be sent"),
                Poll::Pending => return,
            }
        }
    }

    fn settle(&mut self, now: Time, link: u64) {
        let Some(entry) = self.links.get_mut(&link) else { return };
        entry.touched = false;
        let settled = match entry.settle(now, &mut self.outbox) {
            Ok(settled) => settled,
            Err(over) => return self.finish(now, link, &over),
        };
        self.traffic.lost += settled.lost;
        self.traffic.resent += settled.resent;
        let mut wanted = settled.wanted;
        if let Some(since) = self.closing {
            let until = since + CLOSING;
            if settled.idle || until <= now {
                return self.finish(now, link, &Over::Told(CloseCode::Done, String::new()));
            }
            wanted = wanted.min(until);
        }
        self.agenda.note(now, link, &mut entry.due, wanted);
        if settled.more {
            self.touch(link);
        }
    }

    fn finish(&mut self, now: Time, link: u64, over: &Over) {
        let Some(entry) = self.links.remove(&link) else { return };
        match over {
            Over::Silently(what) => tracing::debug!(what, "a link ended"),
            Over::Told(CloseCode::Violation, what) => tracing::debug!(what, "a link ended"),
            _ => {}
        }
        self.agenda.remove(link, entry.due);
        self.endpoint.remove(link);
        entry.finish(now, over, &mut self.outbox);
    }

    /// Tells the server what went through the socket.
    fn count(&mut self) {
        self.traffic.sent = self.outbox.sent();
        self.traffic.rejected = self.endpoint.rejected();
        if self.traffic != self.counted {
            lock(&self.server.sockets).traffic += self.traffic - self.counted;
            self.counted = self.traffic;
        }
    }
}

impl Drop for Hall {
    fn drop(&mut self) {
        self.server.leave(self.task);
        let number = self.socket.kernel_number();
        let dropped = number.and_then(|number| dropped_by_kernel(&[number]));
        let mut sockets = lock(&self.server.sockets);
        sockets.numbers.retain(|&open| Some(open) != number);
        sockets.dropped += dropped.unwrap_or_default();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open_sockets.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Batches that are received before what came of them is sent.
const READS_PER_POLL: usize = 4;
/// Pause after a socket could not be read, since what fails at once fails again at once.
const ERROR_PAUSE: Duration = Duration::from_millis(100);
