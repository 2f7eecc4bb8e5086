//! A session with what the driver keeps beside the machine: objects, the link's send buffer, cancellations.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::task::Waker;

use super::back::{Channel, Pipe};
use super::clock::Clock;
use super::handles::Handles;
use super::lock;
#[cfg(farcall_canary)]
use super::references::received::Pins;
use super::references::{Home, Partner};
use crate::context::{CancelSource, Flag};
use crate::id::{NodeId, Seq, SessionId};
use crate::protocol::seq_map::SeqMap;
use crate::protocol::server::{Outcome, Progress, ServerSession};
use crate::time::Time;
use crate::wire::frame::ReplyStatus;
use crate::wire::send_buffer::SendBuffer;

/// One session, shared by its connection and its running handlers.
pub(super) struct Cell {
    pub(super) id: SessionId,
    pub(super) client: NodeId,
    /// Its links are over datagrams.
    pub(super) datagrams: bool,
    clock: Clock,
    state: Mutex<CellState>,
    /// Who is at the other side, once references were passed.
    partner: OnceLock<Partner>,
    /// The node, for references.
    home: Weak<dyn Home>,
}

pub(super) struct CellState {
    pub(super) session: ServerSession,
    pub(super) handles: Handles,
    /// The newest link, while it is up.
    pub(super) link: Option<LinkOut>,
    /// Flags of running calls that were cancelled, or whose handlers asked.
    cancellations: SeqMap<Arc<Flag>>,
    /// What holds references until their calls are finished, if there is something.
    pub(super) kept: Option<Box<Kept>>,
}

/// References of calls.
#[derive(Default)]
pub(super) struct Kept {
    /// By the numbers of the calls; several of a call that ran again.
    calls: BTreeMap<Seq, Vec<Held>>,
    /// Of calls that are finished, to be dropped under no lock.
    finished: Vec<Held>,
}

/// What holds some of them.
pub(super) type Held = Box<dyn Any + Send>;

/// What goes out on a session's newest link.
pub(super) struct LinkOut {
    pub(super) number: u64,
    pub(super) out: SendBuffer,
    /// The connection's task.
    pub(super) io: Waker,
    /// The task has been woken, or will look again by itself.
    pub(super) scheduled: bool,
    /// The stream of calls back, if there is one.
    pub(super) back: Inside,
}

/// A link's stream of calls back; lost with the link.
#[derive(Default)]
pub(super) struct Inside(pub(super) Option<Arc<Channel>>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.iter().for_each(|channel| channel.lose());
    }
}

impl Cell {
    pub(super) fn new(session: ServerSession, clock: Clock, home: Weak<dyn Home>) -> Cell {
        let (id, client) = (session.id(), session.client());
        let datagrams = session.is_over_datagrams();
        let state = Mutex::new(CellState {
            session,
            handles: Handles::default(),
            link: None,
            cancellations: SeqMap::default(),
            kept: None,
        });
        Cell { id, client, datagrams, clock, state, partner: OnceLock::new(), home }
    }

    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, CellState> {
        lock(&self.state)
    }

    /// A handler's outcome, from a task of its own.
    pub(super) fn complete(
        &self,
        seq: Seq,
        status: ReplyStatus,
        body: &mut impl Outcome,
        oneway: bool,
    ) {
        let now = self.clock.now();
        let mut state = self.lock();
        state.complete(now, seq, status, body, oneway);
        let io = state.schedule();
        drop(state);
        if let Some(io) = io {
            io.wake();
        }
    }

    /// Bytes that a reply may have at most, for both sides.
    #[cfg(feature = "sqlite")]
    pub(super) fn largest_reply(&self) -> usize {
        self.lock().session.largest_reply()
    }

    /// The node, for references.
    pub(super) fn home(&self) -> Option<Arc<dyn Home>> {
        self.home.upgrade()
    }

    /// Who is at the other side, if that was said.
    pub(super) fn partner(&self) -> Option<&Partner> {
        self.partner.get()
    }

    /// Says who is at the other side, or who was said to be.
    pub(super) fn partner_or(&self, partner: impl FnOnce() -> Partner) -> &Partner {
        self.partner.get_or_init(partner)
    }

    /// A new stream of calls back, if a link is up.
    pub(super) fn open_back(&self) -> Option<Pipe> {
        let mut state = self.lock();
        let link = state.link.as_mut()?;
        let number = link.back.0.as_ref().map_or(1, |before| before.number() + 1);
        let (channel, pipe) = Channel::open(number, Some(link.io.clone()));
        link.back = Inside(Some(channel));
        Some(pipe)
    }

    /// Holds something until a call is finished.
    pub(super) fn keep(&self, seq: Seq, held: Held) {
        self.lock().keep(seq, held);
    }

    /// From now on nothing new begins.
    pub(super) fn drain(&self) {
        let mut state = self.lock();
        let CellState { session, link, .. } = &mut *state;
        session.drain(link.as_mut().map(|link| &mut link.out));
        let io = state.schedule();
        drop(state);
        if let Some(io) = io {
            io.wake();
        }
    }

    /// Whether all that was admitted is answered and written.
    pub(super) fn is_drained(&self) -> bool {
        let state = self.lock();
        let written = state.link.as_ref().is_none_or(|link| link.out.is_empty());
        state.session.running() == 0
            && (state.link.is_none() || !state.session.has_waiting_replies())
            && written
    }

    /// The session is over: nothing that was passed in it is held any more, and nobody waits for calls back.
    pub(super) fn over(&self) {
        // A session of calls back is one of several that its peer may have, one after the other.
        if let Some(Partner::Peer(peer)) = self.partner.get()
            && !peer.is_dialled()
        {
            peer.close();
        }
    }

    /// Whether nothing is lost with the session but its name.
    pub(super) fn is_unused(&self) -> bool {
        self.lock().session.is_unused()
    }

    /// Whether the session may be dropped.
    pub(super) fn is_expired(&self, now: Time) -> bool {
        self.lock().session.is_expired(now)
    }
}

impl Drop for Cell {
    /// What the peer held, it holds no more; what is dropped with it is dropped under no lock.
    fn drop(&mut self) {
        let Some(Partner::Peer(peer)) = self.partner.get() else { return };
        let kept = self.state.get_mut().ok().and_then(|state| state.kept.take());
        peer.leave(kept.map(|kept| kept as Held));
        self.over();
    }
}

impl Kept {
    /// Holds something until a call is finished; of one that runs again and again, the latest only.
    pub(super) fn hold(&mut self, seq: Seq, held: Held) {
        let of_call = self.calls.entry(seq).or_default();
        if of_call.len() >= MOST_HELD {
            self.finished.push(of_call.remove(0));
        }
        of_call.push(held);
    }
}

impl CellState {
    /// Holds something until a call is finished.
    pub(super) fn keep(&mut self, seq: Seq, held: Held) {
        let kept = self.kept.get_or_insert_default();
        if self.session.is_finished(seq) {
            kept.finished.push(held);
        } else {
            kept.hold(seq, held);
        }
    }

    /// Whether this call is one more than a correct client has unfinished: references of so many are held already.
    #[inline]
    pub(super) fn is_crowded(&mut self, seq: Seq, window: usize) -> bool {
        self.kept.is_some() && self.holds_too_many(seq, window)
    }

    #[cold]
    fn holds_too_many(&mut self, seq: Seq, window: usize) -> bool {
        let full = |state: &CellState| {
            let calls = state.kept.as_ref().map(|kept| &kept.calls);
            calls.is_some_and(|calls| calls.len() >= window && !calls.contains_key(&seq))
        };
        if full(self) {
            self.part_finished();
        }
        full(self)
    }

    /// The bug that counts the references in answers again when these are sent again.
    #[cfg(farcall_canary)]
    pub(super) fn count_again(&self) {
        let held = self.kept.iter().flat_map(|kept| kept.calls.values().flatten());
        held.filter_map(|held| held.downcast_ref::<Pins>()).for_each(Pins::count_again);
    }

    /// What held references of calls that are finished, to be dropped under no lock.
    #[inline]
    pub(super) fn take_finished(&mut self) -> Option<Vec<Held>> {
        self.kept.is_some().then(|| self.finished_references())
    }

    #[cold]
    fn finished_references(&mut self) -> Vec<Held> {
        self.part_finished();
        let Some(kept) = &mut self.kept else { return Vec::new() };
        let finished = std::mem::take(&mut kept.finished);
        if kept.calls.is_empty() {
            self.kept = None;
        }
        finished
    }

    /// Parts what is held for calls that are finished from the rest.
    fn part_finished(&mut self) {
        let Some(kept) = &mut self.kept else { return };
        if !self.session.take_acknowledged() {
            return;
        }
        let Kept { calls, finished } = &mut **kept;
        let session = &self.session;
        let over = calls.extract_if(.., |seq, _| session.is_finished(*seq));
        finished.extend(over.flat_map(|(_, held)| held));
    }

    /// A handler's outcome; the connection's task must look at the send buffer after.
    #[inline]
    pub(super) fn complete(
        &mut self,
        now: Time,
        seq: Seq,
        status: ReplyStatus,
        body: &mut impl Outcome,
        oneway: bool,
    ) {
        if !self.cancellations.is_empty() {
            self.cancellations.remove(seq);
        }
        let out = self.link.as_mut().filter(|_| !oneway).map(|link| &mut link.out);
        self.session.complete(now, seq, status, body, out);
    }

    /// The caller of a running call has given up.
    pub(super) fn cancel(&mut self, seq: Seq) {
        self.cancellations.get_or_default(seq).raise();
    }

    /// The connection's task, if there is something to write and it was not woken yet.
    fn schedule(&mut self) -> Option<Waker> {
        let link = self.link.as_mut()?;
        if link.scheduled || (link.out.is_empty() && !self.session.has_waiting_replies()) {
            return None;
        }
        link.scheduled = true;
        Some(link.io.clone())
    }
}

impl CancelSource for Cell {
    fn session(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self)
    }

    fn subscribe(&self, seq: u64) -> Arc<Flag> {
        let mut state = self.lock();
        match state.session.progress(seq) {
            Progress::Running => state.cancellations.get_or_default(seq).clone(),
            // Nobody is told that a call without a record was given up.
            Progress::Unrecorded => Arc::default(),
            Progress::Over => {
                let flag = Arc::<Flag>::default();
                flag.raise();
                flag
            }
        }
    }
}

/// Arguments and answers of one call whose references are held: so many times no correct client has it run.
const MOST_HELD: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::references::nobody;
    use crate::limits::Limits;
    use crate::protocol::server::ProcessBudget;

    const WINDOW: usize = 4;

    fn cell() -> Cell {
        let (limits, budget) = (Arc::new(Limits::default()), Arc::new(ProcessBudget::default()));
        let client = NodeId(uuid::Uuid::from_u128(2));
        let session = ServerSession::new(SessionId(1), client, limits, budget);
        Cell::new(session, Clock::new(), nobody())
    }

    fn held() -> (Held, Weak<()>) {
        let held = Arc::new(());
        let seen = Arc::downgrade(&held);
        (Box::new(held), seen)
    }

    #[test]
    fn references_are_held_for_as_many_calls_as_a_client_may_have_unfinished() {
        let cell = cell();
        let mut state = cell.lock();
        let mut seen = Vec::new();
        for seq in 1..=WINDOW as u64 {
            assert!(!state.is_crowded(seq, WINDOW));
            let (held, weak) = held();
            state.keep(seq, held);
            seen.push(weak);
        }
        assert!(state.is_crowded(5, WINDOW));
        assert!(!state.is_crowded(4, WINDOW), "it comes again");
        state.session.acknowledge(1, &vec![(2, 3)]).expect("correct");
        assert!(!state.is_crowded(5, WINDOW));
        let finished = state.take_finished().expect("there are some");
        assert_eq!(finished.len(), 1);
        drop(finished);
        let alive: Vec<_> = seen.iter().map(|held| held.strong_count()).collect();
        assert_eq!(alive, [1, 0, 1, 1]);
        // What comes when its call is finished is not held any more.
        state.keep(2, held().0);
        assert_eq!(state.take_finished().map(|finished| finished.len()), Some(1));
        state.session.acknowledge(5, &Vec::new()).expect("correct");
        assert_eq!(state.take_finished().map(|finished| finished.len()), Some(3));
        assert!(state.kept.is_none());
    }

    #[test]
    fn a_call_that_runs_for_ever_anew_holds_its_latest_references() {
        let cell = cell();
        let mut state = cell.lock();
        let seen: Vec<_> = (0..1000)
            .map(|_| {
                let (held, seen) = held();
                state.keep(1, held);
                drop(state.take_finished());
                seen
            })
            .collect();
        let alive = seen.iter().filter(|held| held.strong_count() > 0).count();
        assert_eq!(alive, MOST_HELD);
        assert_eq!(seen.last().map(Weak::strong_count), Some(1));
    }
}
