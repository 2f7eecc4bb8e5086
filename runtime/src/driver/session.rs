//! A session with what the driver keeps beside the machine: objects, the link's send buffer, cancellations.

use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

use super::clock::Clock;
use super::handles::Handles;
use super::lock;
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
}

pub(super) struct CellState {
    pub(super) session: ServerSession,
    pub(super) handles: Handles,
    /// The newest link, while it is up.
    pub(super) link: Option<LinkOut>,
    /// Flags of running calls that were cancelled, or whose handlers asked.
    cancellations: SeqMap<Arc<Flag>>,
}

/// What goes out on a session's newest link.
pub(super) struct LinkOut {
    pub(super) number: u64,
    pub(super) out: SendBuffer,
    /// The connection's task.
    pub(super) io: Waker,
    /// The task has been woken, or will look again by itself.
    pub(super) scheduled: bool,
}

impl Cell {
    pub(super) fn new(session: ServerSession, clock: Clock) -> Cell {
        let (id, client) = (session.id(), session.client());
        let datagrams = session.is_over_datagrams();
        let state = Mutex::new(CellState {
            session,
            handles: Handles::default(),
            link: None,
            cancellations: SeqMap::default(),
        });
        Cell { id, client, datagrams, clock, state }
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

    /// Whether nothing is lost with the session but its name.
    pub(super) fn is_unused(&self) -> bool {
        self.lock().session.is_unused()
    }

    /// Whether the session may be dropped.
    pub(super) fn is_expired(&self, now: Time) -> bool {
        self.lock().session.is_expired(now)
    }
}

impl CellState {
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
