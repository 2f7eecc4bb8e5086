//! The journal of a node as a client: saves calls, has them carried to their servers, and notes how they ended.
//!
//! What may be sent, and what a server's word means, [`Outbound`] decides; what is saved stands in the store. Here both
//! are kept in step: the store's thread tells when something is durable, and only then it counts.

mod ending;
mod saving;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;

use ending::Ending;

use super::recovery::Listener;
use super::saved::Slot;
use super::{NodeStore, carry, in_store, reason};
use crate::driver::entropy::Entropy;
use crate::driver::link::Link;
use crate::driver::lock;
use crate::error::CallError;
use crate::id::Seq;
use crate::limits::Limits;
use crate::protocol::durable::batch::{Failure, Task};
use crate::protocol::durable::outbound::{Identity, Outbound, Stopped};
use crate::protocol::durable::rows::{Binding, JournalRows as _, Request, Saved};
use crate::semantics::Execution;
use crate::store::{Opened, Sqlite, StoreError};
use crate::ticket::Ended;

/// Opens links to servers: the node.
pub(crate) trait Links: Send + Sync {
    /// The link to the server at an address.
    ///
    /// # Errors
    /// The node is closed, or the text is no address.
    fn link(&self, peer: &str) -> Result<Arc<Link>, CallError>;
}

/// All exactly-once calls that a node makes.
pub(crate) struct Journal {
    pub(super) store: Arc<NodeStore>,
    pub(super) limits: Arc<Limits>,
    pub(super) entropy: Arc<Entropy>,
    /// The store's opening that it is of.
    pub(super) identity: Identity,
    /// Calls below were in the store when this journal began.
    pub(super) first: Seq,
    place: OnceLock<(Handle, Weak<dyn Links>)>,
    pub(super) state: Mutex<State>,
}

pub(super) struct State {
    pub(super) outbound: Outbound,
    /// Unfinished calls.
    pub(super) calls: HashMap<Seq, Call>,
    pub(super) peers: BTreeMap<Arc<str>, Peer>,
    /// Calls whose end is not durable yet.
    ending: HashMap<Seq, Arc<Ending>>,
    /// Finished calls whose results somebody may still take.
    pub(super) held: BTreeSet<Seq>,
    /// Unfinished calls of those below `first`.
    pub(super) earlier: usize,
    pub(super) listeners: Vec<Weak<Listener>>,
    /// How those who wait for a call were told that nothing is sent any more, if so; those who come later are too.
    pub(super) closed: Option<Ended>,
}

/// An unfinished call.
pub(super) struct Call {
    pub(super) peer: Arc<str>,
    /// Read from the store when its turn comes, if it is of an earlier opening.
    pub(super) request: Option<Arc<Request>>,
    slots: Vec<Arc<Slot>>,
}

/// The calls to one server.
#[derive(Default)]
pub(super) struct Peer {
    /// Calls to be carried, in order.
    pub(super) waiting: VecDeque<Seq>,
    /// Calls that are being carried.
    pub(super) carried: usize,
    /// Somebody registers there.
    pub(super) registering: bool,
    /// Somebody will tell the server what it may forget.
    pub(super) forgetting: bool,
    /// Wakes those who wait for a registration, a binding, the program, or the end.
    pub(super) changed: Arc<Notify>,
}

impl Journal {
    /// The journal in a store that was opened.
    pub(crate) fn new(
        store: Arc<NodeStore>,
        limits: Arc<Limits>,
        entropy: Arc<Entropy>,
        opened: Opened,
    ) -> Arc<Journal> {
        let Opened { identity, last_before, lasts, servers, unfinished } = opened;
        let mut state = State {
            outbound: Outbound::new(identity, last_before, servers),
            calls: HashMap::new(),
            peers: BTreeMap::new(),
            ending: HashMap::new(),
            held: BTreeSet::new(),
            earlier: unfinished.len(),
            listeners: Vec::new(),
            closed: None,
        };
        for (seq, peer, binding) in unfinished {
            state.add(seq, Call { peer, request: None, slots: Vec::new() }, binding);
        }
        state.outbound.gave(lasts);
        state.outbound.all_published();
        let (first, place) = (last_before + 1, OnceLock::new());
        let state = Mutex::new(state);
        Arc::new(Journal { store, limits, entropy, identity, first, place, state })
    }

    /// Begins to carry calls, those of earlier openings first.
    pub(crate) fn start(self: &Arc<Journal>, runtime: &Handle, links: Weak<dyn Links>) {
        if self.place.set((runtime.clone(), links)).is_ok() {
            let peers: Vec<_> = lock(&self.state).peers.keys().cloned().collect();
            for peer in peers {
                self.pump(&peer);
            }
        }
    }

    /// A number at random, for a request.
    pub(crate) fn draw(&self) -> u64 {
        self.entropy.next()
    }

    /// Has waiting calls carried, as many at a time as a session takes.
    pub(super) fn pump(self: &Arc<Journal>, peer: &Arc<str>) {
        let mut state = lock(&self.state);
        if state.closed.is_some() || self.place.get().is_none() {
            return;
        }
        let State { peers, calls, .. } = &mut *state;
        let Some(at) = peers.get_mut(peer) else { return };
        let (mut ready, mut unread) = (Vec::new(), Vec::new());
        while at.carried < self.limits.window && unread.len() < READ_AT_ONCE {
            let Some(seq) = at.waiting.pop_front() else { break };
            let Some(call) = calls.get(&seq) else { continue };
            at.carried += 1;
            match &call.request {
                Some(request) => ready.push((seq, request.clone())),
                None => unread.push(seq),
            }
        }
        drop(state);
        for (seq, request) in ready {
            self.spawn(carry::carry(self.clone(), seq, request));
        }
        if !unread.is_empty() {
            self.read(unread, peer.clone());
        }
    }

    /// Reads requests of earlier openings, and has them carried.
    fn read(self: &Arc<Journal>, seqs: Vec<Seq>, peer: Arc<str>) {
        let (journal, wanted) = (self.clone(), seqs.clone());
        let run = move |db: &mut Sqlite| db.requests(&wanted);
        let done = move |found: Result<Vec<Saved>, _>| {
            let found = match found {
                Ok(found) => found,
                Err(failure) => return journal.unread(seqs, &peer, &failure),
            };
            let read = found.len();
            for saved in found {
                let request = Arc::new(saved.request);
                if let Some(call) = lock(&journal.state).calls.get_mut(&saved.seq) {
                    call.request = Some(request.clone());
                }
                journal.spawn(carry::carry(journal.clone(), saved.seq, request));
            }
            if let Some(at) = lock(&journal.state).peers.get_mut(&peer) {
                at.carried -= seqs.len() - read;
            }
            journal.pump(&peer);
        };
        self.store.submit_later(Box::new(Task::new(run, done)));
    }

    /// Calls that could not be read are read again after a while.
    fn unread(self: &Arc<Journal>, seqs: Vec<Seq>, peer: &Arc<str>, failure: &Failure<StoreError>) {
        tracing::warn!(reason = reason(failure), "saved calls could not be read yet");
        if let Some(at) = lock(&self.state).peers.get_mut(peer) {
            at.carried -= seqs.len();
            seqs.into_iter().rev().for_each(|seq| at.waiting.push_front(seq));
        }
        if !self.store.is_stopped() {
            let (journal, peer) = (self.clone(), peer.clone());
            self.spawn(async move {
                tokio::time::sleep(READ_AGAIN).await;
                journal.pump(&peer);
            });
        }
    }

    /// The link to a server.
    pub(super) fn link(&self, peer: &str) -> Result<Arc<Link>, CallError> {
        let links = self.place.get().and_then(|(_, links)| links.upgrade());
        let closed = CallError::Closed { execution: Execution::NotExecuted };
        links.ok_or(closed)?.link(peer)
    }

    /// The program takes the store of a server as it is now: what was known of it is forgotten, first on the disk.
    pub(crate) async fn accept(&self, peer: &str) -> Result<(), CallError> {
        let address: Arc<str> = peer.into();
        let forgotten = in_store(&self.store, move |db| db.remove_server(&address)).await;
        forgotten.map_err(|failure| CallError::Store { reason: reason(&failure).into() })?;
        let mut state = lock(&self.state);
        state.outbound.accept(peer);
        if let Some(at) = state.peers.get(peer) {
            at.changed.notify_waiters();
        }
        Ok(())
    }

    /// Nothing of this journal is sent any more: its calls belong to somebody else.
    pub(super) fn stop(&self, stopped: Stopped) {
        let reason: Box<str> = stopped.to_string().into();
        self.end_all(&Ended::Failed(CallError::Fenced { reason }));
    }

    /// The node ends; its calls go on when the store is opened again.
    pub(crate) fn close(&self) {
        self.end_all(&closed());
    }

    /// Nothing can be done about a call before the store is opened again: those who wait for it are told so.
    pub(super) fn interrupt(&self, seq: Seq) {
        let mut state = lock(&self.state);
        let slots = state.calls.get_mut(&seq).map(|call| std::mem::take(&mut call.slots));
        drop(state);
        slots.iter().flatten().for_each(|slot| slot.end(closed()));
    }

    fn end_all(&self, end: &Ended) {
        let mut state = lock(&self.state);
        state.closed.get_or_insert_with(|| end.clone());
        let slots: Vec<_> =
            state.calls.values_mut().flat_map(|call| call.slots.drain(..)).collect();
        for peer in state.peers.values() {
            peer.changed.notify_waiters();
        }
        for listener in state.listeners.drain(..).filter_map(|listener| listener.upgrade()) {
            listener.end();
        }
        drop(state);
        slots.iter().for_each(|slot| slot.end(end.clone()));
    }

    /// Waits until what was noted so far is durable.
    pub(crate) async fn flush(&self) {
        let _ = in_store(&self.store, |_| Ok(())).await;
    }

    /// Calls that are not finished.
    pub(crate) fn unfinished(&self) -> usize {
        lock(&self.state).calls.len()
    }

    /// Runs a task on the node's runtime, if it has one yet.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some((runtime, _)) = self.place.get() {
            drop(runtime.spawn(task));
        }
    }
}

impl State {
    /// A call is there to be carried. Who waits for it is told at once if none is any more.
    fn add(&mut self, seq: Seq, call: Call, binding: Option<Binding>) {
        self.outbound.publish(seq, binding);
        self.peers.entry(call.peer.clone()).or_default().waiting.push_back(seq);
        if let Some(closed) = &self.closed {
            call.slots.iter().for_each(|slot| slot.end(closed.clone()));
        }
        self.calls.insert(seq, call);
    }
}

fn closed() -> Ended {
    Ended::Failed(CallError::Closed { execution: Execution::Unknown })
}

/// Requests that are read from the store at a time.
const READ_AT_ONCE: usize = 256;
/// How long calls that could not be read wait to be read again.
const READ_AGAIN: Duration = Duration::from_secs(1);
