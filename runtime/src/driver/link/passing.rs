//! What references need of a link: who is at its other side, what its calls hold, and calls back.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::{CallKey, Link, MutexState, State};
use crate::descriptor::Descriptor;
use crate::driver::back::Channel;
use crate::driver::lock;
use crate::driver::references::received::{Pins, Received};
use crate::driver::references::{Home, Partner, Peer};
use crate::driver::serving::{self, Scope};
use crate::error::CallError;
use crate::id::Handle;
use crate::protocol::client::{Arrival, Key};
use crate::time::Time;
use crate::transport::Stream;
use crate::wire::frame::Back;

/// References of the calls of a link.
#[derive(Default)]
pub(super) struct Passing {
    /// Those that left with calls that are not finished.
    pinned: Vec<(Key, Pins)>,
    /// Those that came with answers that nobody has taken yet.
    received: Vec<(Key, Arc<Received>)>,
}

/// What is of no use any more. With it may go the user's objects, and the node: it is dropped when nothing is locked.
#[derive(Default)]
pub(super) struct Finished {
    pins: Vec<Pins>,
    received: Vec<Arc<Received>>,
    home: Option<Arc<dyn Home>>,
}

impl Link {
    /// Says which node the link is of.
    pub(crate) fn belong(self: &Arc<Link>, home: Weak<dyn Home>) {
        let mut state = lock(&self.state);
        state.home = Some((home, Arc::downgrade(self)));
    }

    /// The link is for calls back to this peer.
    pub(crate) fn lead_back(self: &Arc<Link>, home: &Arc<dyn Home>, peer: Partner) {
        let _ = self.partner.set(peer);
        self.is_back.store(true, Ordering::Release);
        self.belong(Arc::downgrade(home));
    }

    /// The link leads to the node that it is of.
    pub(crate) fn lead_home(self: &Arc<Link>, home: Weak<dyn Home>) {
        let _ = self.partner.set(Partner::Local);
        self.belong(home);
    }

    /// Whether the link is of a node to itself.
    pub(super) fn leads_home(&self) -> bool {
        matches!(self.partner.get(), Some(Partner::Local))
    }

    /// Whether calls fail at once when there is no room: who waits may be whom they wait for.
    pub(super) fn is_back(&self) -> bool {
        self.is_back.load(Ordering::Relaxed)
    }

    /// Who is at the other side; nothing when the node has ended.
    pub(crate) fn partner(&self) -> Option<Partner> {
        if let Some(partner) = self.partner.get() {
            return Some(partner.clone());
        }
        let (home, link) = lock(&self.state).home.clone()?;
        // Not under the lock: with the last of the node's handles goes the node, which closes its links.
        let (home, link) = (home.upgrade()?, link.upgrade()?);
        let state = lock(&self.state);
        Some(self.partner_of(&state, &home, &link))
    }

    fn partner_of(&self, state: &State, home: &Arc<dyn Home>, link: &Arc<Link>) -> Partner {
        let partner = self.partner.get_or_init(|| {
            let peer = Peer::dialled(link, home, state.client.peer().into());
            if let Some((_, session)) = state.client.session() {
                peer.in_session(session);
            }
            Partner::Peer(peer)
        });
        partner.clone()
    }

    /// The peer, if references were passed.
    pub(crate) fn peer(&self) -> Option<&Arc<Peer>> {
        match self.partner.get()? {
            Partner::Peer(peer) if !self.is_back() => Some(peer),
            _ => None,
        }
    }

    /// Holds the references of a call until it is finished.
    pub(crate) fn pin(&self, key: CallKey, pins: Pins) {
        let mut state = self.lock();
        state.0.passing.get_or_insert_default().pinned.push((key.0, pins));
        state.leave();
    }

    /// A handle for an object that is called by a reference.
    ///
    /// # Errors
    /// Too many objects are in use.
    pub(crate) fn bind_passed(
        &self,
        object: Arc<str>,
        expected: &'static Descriptor,
    ) -> Result<Handle, CallError> {
        self.update(|_, client, out| client.bind_passed(object, expected, out))
    }

    /// Nobody will call the object of this handle any more.
    pub(crate) fn unbind(&self, handle: Handle) {
        self.update(|_, client, _| client.unbind(handle));
    }

    /// Whether no session was there for so long that its server cannot hold anything any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        let lease = self.limits.session_ttl.saturating_mul(2);
        let now = self.clock.now();
        let state = lock(&self.state);
        !state.client.is_welcome() && state.lost.is_some_and(|lost| lost + lease <= now)
    }
}

impl MutexState<'_> {
    /// Hands on what came for others, and gives up what finished calls held.
    #[cold]
    pub(super) fn pass_on(&mut self) -> Finished {
        let mut finished = Finished::default();
        let state = &mut *self.0;
        let arrivals = state.client.take_arrivals();
        if !arrivals.is_empty() {
            let home = state.home.as_ref();
            let ends = home.and_then(|(home, link)| Some((home.upgrade()?, link.upgrade()?)));
            if let Some((home, link)) = ends {
                arrivals.into_iter().for_each(|arrival| arrive(state, &home, &link, arrival));
                finished.home = Some(home);
            }
        }
        let State { client, passing: Some(passing), .. } = state else { return finished };
        let Passing { pinned, received } = &mut **passing;
        let mut index = 0;
        while index < pinned.len() {
            if client.is_unfinished(pinned[index].0) && !cfg_canary!("pins_end_when_the_call_left")
            {
                index += 1;
            } else {
                finished.pins.push(pinned.swap_remove(index).1);
            }
        }
        let unknown = received.extract_if(.., |(key, _)| !client.is_known_call(*key));
        finished.received.extend(unknown.map(|(_, received)| received));
        finished
    }

    /// What is of no use any more, to be dropped under no lock.
    #[inline]
    pub(super) fn take_finished(&mut self) -> Option<Finished> {
        if self.0.passing.is_none() && !self.0.client.has_arrivals() {
            return None;
        }
        Some(self.pass_on())
    }
}

fn arrive(state: &mut State, home: &Arc<dyn Home>, link: &Arc<Link>, arrival: Arrival) {
    match arrival {
        Arrival::References { key, entries } => {
            let partner = link.partner_of(state, home, link);
            // The machine has looked whether it can be read.
            if let Ok(received) = Received::new(home.clone(), &partner, &entries) {
                let passing = state.passing.get_or_insert_default();
                passing.received.push((key, Arc::new(received)));
            }
        }
        Arrival::Back { stream, offset, read, end, bytes } => {
            if state.back.as_ref().is_none_or(|back| back.number() < stream) {
                open_back(state, home, link, stream);
            }
            let back = Back { stream, offset, read, end, bytes: &bytes };
            if let Some(channel) = &state.back
                && let Err(violation) = channel.receive(&back)
            {
                tracing::debug!(reason = violation.0, "a stream of calls back has ended");
                channel.lose();
            }
        }
        Arrival::Session(session) => {
            state.lost = None;
            if let Some(peer) = link.peer() {
                peer.in_session(session);
            }
        }
    }
}

/// The server calls back: it is served as any client is.
fn open_back(state: &mut State, home: &Arc<dyn Home>, link: &Arc<Link>, number: u64) {
    let (channel, pipe) = Channel::open(number, state.io.clone());
    if let Some(before) = state.back.replace(channel) {
        before.lose();
    }
    let Partner::Peer(peer) = link.partner_of(state, home, link) else { return };
    let Some(runtime) = home.runtime() else { return };
    let server = home.server();
    server.sweep(&runtime);
    let _entered = runtime.enter();
    let stream = Stream::Other(Box::new(pipe));
    serving::spawn_in(server, stream, peer.address().clone(), Scope::Back(peer.clone()));
}

impl State {
    /// The references that came with an answer; to be taken under the lock under which the answer is, since those of a call
    /// that nobody knows are dropped.
    #[inline]
    pub(super) fn take_received(&mut self, key: CallKey) -> Option<Arc<Received>> {
        let received = &mut self.passing.as_mut()?.received;
        let index = received.iter().position(|(of, _)| *of == key.0)?;
        Some(received.swap_remove(index).1)
    }

    /// The link is lost, and with it the stream of calls back.
    pub(in crate::driver) fn lose_back(&mut self, now: Time) {
        self.lost.get_or_insert(now);
        self.back.take().iter().for_each(|back| back.lose());
    }

    /// Writes what may leave of calls back.
    #[inline]
    pub(in crate::driver) fn transmit_back(&mut self, cx: &std::task::Context<'_>, most: usize) {
        if let Some(back) = &self.back {
            back.set_link(cx.waker());
            back.transmit(&mut self.out, most);
        }
    }
}
