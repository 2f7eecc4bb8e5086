//! References between this node and one peer: what each was handed by the other, over whatever links their session has.
//!
//! The tables are machines of the protocol; here they meet objects, sessions and the lock. Nothing of the user's is
//! dropped under a lock: what nobody holds any more is left for the task that tends the peer.

pub(crate) mod home;
mod networks;
pub(crate) mod object;
pub(crate) mod received;

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::clock::Clock;
use super::connection;
use super::link::Link;
use super::lock;
use super::server::Server;
use super::session::Cell;
use crate::address::Address;
use crate::context::{Context, Flag};
use crate::id::{NodeId, SessionId};
use crate::protocol::client::ClientConfig;
use crate::protocol::references::Record;
use crate::protocol::references::exports::{Exports, TooMany};
use crate::protocol::references::imports::Imports;
use crate::time::Time;
use crate::wire::frame::Ranges;
pub(super) use networks::nobody;
use networks::{Inside, Loop};
use object::{Exported, Objects};

/// The node, for its references.
pub(crate) trait Home: Any + Send + Sync {
    /// The runtime that its tasks run on.
    fn runtime(&self) -> Option<Handle>;
    /// Who it is, for its peers.
    fn id(&self) -> NodeId;
    /// What accepts calls, also those back.
    fn server(&self) -> &Arc<Server>;
    /// Its objects without names.
    fn objects(&self) -> &Objects;
    /// Raised when it ends.
    fn closing(&self) -> Arc<Flag>;
    /// Starts the task that tends a peer.
    fn tend(&self, peer: Arc<Peer>);
    /// The node itself.
    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// Who is at the other side of a session.
#[derive(Clone)]
pub(crate) enum Partner {
    Peer(Arc<Peer>),
    /// This node itself.
    Local,
}

/// Another node, as far as one session goes.
pub(crate) struct Peer {
    home: Weak<dyn Home>,
    way: Way,
    clock: Clock,
    address: Arc<str>,
    /// How long a session lives without a link.
    lease: Duration,
    /// The session in which the peer calls this node.
    serving: Mutex<Weak<Cell>>,
    state: Mutex<State>,
    /// Wakes the task that tends it.
    changed: Notify,
    /// The session has a link again, or is over.
    attached: Arc<Notify>,
}

/// How the peer is called.
enum Way {
    Dialled(Weak<Link>),
    Accepted { cell: Weak<Cell>, link: Mutex<Option<Arc<Link>>> },
}

struct State {
    exports: Exports<Lent>,
    imports: Imports,
    session: Option<SessionId>,
    /// Counts the sessions.
    epoch: u64,
    /// Objects that the peer does not hold any more, to be dropped under no lock.
    dropped: Vec<Lent>,
    held: Vec<Box<dyn Any + Send>>,
    closed: bool,
}

/// An object under the id by which the peer knows it. Passed anew after it was given back, it has another.
struct Lent {
    exported: Arc<Exported>,
    id: u64,
}

impl Peer {
    /// The server at the other end of a link.
    pub(super) fn dialled(link: &Arc<Link>, home: &Arc<dyn Home>, address: Arc<str>) -> Arc<Peer> {
        Peer::new(Way::Dialled(Arc::downgrade(link)), home, address)
    }

    /// The client of a session.
    pub(super) fn accepted(cell: &Arc<Cell>, home: &Arc<dyn Home>, address: Arc<str>) -> Arc<Peer> {
        let way = Way::Accepted { cell: Arc::downgrade(cell), link: Mutex::default() };
        let peer = Peer::new(way, home, address);
        *lock(&peer.serving) = Arc::downgrade(cell);
        peer
    }

    fn new(way: Way, home: &Arc<dyn Home>, address: Arc<str>) -> Arc<Peer> {
        let server = home.server();
        let key = [server.entropy.next(), server.entropy.next()];
        let exports = Exports::new(key, server.limits.exports);
        let state = State {
            exports,
            imports: Imports::new(server.limits.exports),
            session: None,
            epoch: 0,
            dropped: Vec::new(),
            held: Vec::new(),
            closed: false,
        };
        let peer = Arc::new(Peer {
            home: Arc::downgrade(home),
            way,
            clock: server.clock,
            address,
            lease: server.limits.session_ttl,
            serving: Mutex::new(Weak::new()),
            state: Mutex::new(state),
            changed: Notify::new(),
            attached: Arc::default(),
        });
        home.tend(peer.clone());
        peer
    }

    /// Whether this node has opened the connection.
    pub(crate) fn is_dialled(&self) -> bool {
        matches!(self.way, Way::Dialled(_))
    }

    /// Where the peer is.
    pub(crate) fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// The node that has these references.
    pub(crate) fn home(&self) -> Option<Arc<dyn Home>> {
        self.home.upgrade()
    }

    /// The calls to the peer; nothing when the session is over.
    pub(crate) fn link(&self) -> Option<Arc<Link>> {
        let (cell, place) = match &self.way {
            Way::Dialled(link) => return link.upgrade(),
            Way::Accepted { cell, link } => (cell, link),
        };
        if let Some(link) = &*lock(place) {
            return Some(link.clone());
        }
        // Not under the lock: with the last of the session or of the node goes the peer, which takes its link from there.
        let (session, home) = (cell.upgrade()?, self.home()?);
        let mut place = lock(place);
        if let Some(link) = &*place {
            return Some(link.clone());
        }
        if self.lock().closed {
            return None;
        }
        let runtime = home.runtime()?;
        let server = home.server();
        let peer = session.partner()?.clone();
        let config = ClientConfig {
            node: home.id(),
            peer: format!("the client at {}", self.address).into(),
            limits: server.back_limits(),
            datagrams: false,
        };
        let inside = Inside { cell: cell.clone(), attached: self.attached.clone() };
        let address = Address::Memory("farcall/back".into());
        let link =
            connection::open(&runtime, Arc::new(inside), server.entropy.clone(), address, config);
        link.lead_back(&home, peer);
        *place = Some(link.clone());
        Some(link)
    }

    /// One more record with an object is made.
    ///
    /// # Errors
    /// [`TooMany`], also when the session is over; nothing was changed.
    pub(crate) fn pass(&self, exported: &Arc<Exported>) -> Result<Record, TooMany> {
        let mut state = self.lock();
        if state.closed {
            return Err(TooMany);
        }
        state.exports.pass(exported.key, |id| {
            exported.hold();
            Lent { exported: exported.clone(), id }
        })
    }

    /// Records are finished here.
    pub(super) fn ended(&self, records: &[Record]) {
        let now = self.clock.now();
        let mut state = self.lock();
        for record in records {
            let object = state.exports.ended(now, *record);
            state.dropped.extend(object);
        }
        drop(state);
        self.changed.notify_one();
    }

    #[cfg(farcall_canary)]
    fn count_again(&self, records: &[Record]) {
        let mut state = self.lock();
        records.iter().for_each(|record| state.exports.count_again(*record));
    }

    /// The peer gives records back.
    pub(crate) fn released(&self, releases: Vec<(u64, Ranges)>) {
        let mut state = self.lock();
        for (id, marks) in releases {
            let object = state.exports.release(id, &marks);
            state.dropped.extend(object);
        }
        let dropped = !state.dropped.is_empty();
        drop(state);
        if dropped {
            self.changed.notify_one();
        }
    }

    /// Which of these records are not held here, and never will be.
    pub(crate) fn settle(&self, records: Vec<Record>) -> Vec<Record> {
        let mut state = self.lock();
        records.into_iter().filter(|record| !state.imports.settle(*record)).collect()
    }

    /// The object that the peer knows by this id.
    pub(crate) fn exported(&self, id: u64) -> Option<Arc<Exported>> {
        self.lock().exports.get(id).map(|lent| lent.exported.clone())
    }

    /// A record came; nothing for one that must not come any more, else in which session it did.
    fn receive(&self, record: Record) -> Option<u64> {
        let mut state = self.lock();
        if state.closed || !state.imports.receive(record) {
            return None;
        }
        Some(state.epoch)
    }

    fn unhold(&self, id: u64, epoch: u64) {
        let mut state = self.lock();
        if state.epoch != epoch || !state.imports.unhold(id) {
            return;
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Whether what came in this session can still be called.
    pub(crate) fn is_valid(&self, import: &received::Import) -> bool {
        let state = self.lock();
        !state.closed && import.is_of(state.epoch)
    }

    /// What is to be given back, at most so much at a time.
    pub(crate) fn releases(&self, most: usize) -> (u64, Vec<(u64, Ranges)>) {
        let mut state = self.lock();
        (state.epoch, state.imports.releases(most))
    }

    /// The peer could not be told.
    pub(crate) fn put_back(&self, epoch: u64, releases: Vec<(u64, Ranges)>) {
        let mut state = self.lock();
        if state.epoch == epoch {
            state.imports.put_back(releases);
        }
    }

    /// Records that the peer is to be asked about.
    pub(crate) fn doubts(&self, most: usize) -> Vec<Record> {
        let now = self.clock.now();
        self.lock().exports.doubts(now, most)
    }

    /// The peer could not be asked.
    pub(crate) fn doubt_again(&self, records: &[Record]) {
        let now = self.clock.now();
        self.lock().exports.doubt_again(now, records);
    }

    /// A server that was not heard of for longer than it may hold anything holds nothing.
    pub(crate) fn check_lease(&self) {
        if let Way::Dialled(link) = &self.way
            && self.lock().exports.len() > 0
            && link.upgrade().is_some_and(|link| link.is_abandoned())
        {
            self.lease_is_over();
        }
    }

    /// How long the task that tends it may sleep.
    pub(crate) fn patience(&self) -> Duration {
        let now = self.clock.now();
        let state = self.lock();
        let next = state.exports.next_doubt();
        let lease = match (&self.way, state.exports.len()) {
            (Way::Accepted { .. }, _) | (_, 0) => LONGEST_PAUSE,
            _ => self.lease / LOOKS_PER_LEASE,
        };
        let doubt = if next == Time::NEVER { LONGEST_PAUSE } else { next.since(now) };
        doubt.min(lease).max(SHORTEST_PAUSE)
    }

    /// Waits until there may be something to do.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What the peer does not hold any more, to be dropped where the user's code may run; nothing when the peer is gone and
    /// all was dropped.
    pub(crate) fn collect(&self) -> bool {
        let (dropped, held, closed) = {
            let mut state = self.lock();
            (std::mem::take(&mut state.dropped), std::mem::take(&mut state.held), state.closed)
        };
        drop(held);
        let cell = lock(&self.serving).upgrade();
        for Lent { exported, id } in dropped {
            exported.unhold(cell.as_ref(), id);
        }
        !closed
    }

    /// The session that the link has now: if it is another than before, nothing of that one is held any more.
    pub(super) fn in_session(&self, session: SessionId) {
        let mut state = self.lock();
        let before = state.session.replace(session);
        if before.is_some_and(|before| before != session) {
            state.reset();
            drop(state);
            self.changed.notify_one();
        }
    }

    /// The peer was not heard of for longer than it may hold anything. What is held here of its objects is its own business:
    /// if the session goes on after all, it is given back as ever.
    pub(super) fn lease_is_over(&self) {
        let mut state = self.lock();
        let objects = state.exports.reset();
        state.dropped.extend(objects);
    }

    /// The session is over.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.epoch += 1;
        state.imports.reset();
        let objects = if cfg_canary!("references_outlive_their_session") {
            Vec::new()
        } else {
            state.exports.clear()
        };
        state.dropped.extend(objects);
        drop(state);
        if let Way::Accepted { link, .. } = &self.way {
            let link = lock(link).take();
            link.into_iter().for_each(|link| link.close());
        }
        self.changed.notify_one();
        self.attached.notify_waiters();
    }

    /// Leaves what the calls of a session hold to be dropped where the user's code may run.
    pub(super) fn leave(&self, held: Option<Box<dyn Any + Send>>) {
        self.lock().held.extend(held);
        self.changed.notify_one();
    }

    /// Whether no call back is in flight, nor to be sent.
    pub(super) fn is_idle(&self) -> bool {
        self.back().is_none_or(|link| link.is_idle())
    }

    /// Calls back that are not finished.
    pub(super) fn in_flight(&self) -> usize {
        self.back().map_or(0, |link| link.in_flight())
    }

    /// The link for calls back, if there is one.
    fn back(&self) -> Option<Arc<Link>> {
        match &self.way {
            Way::Accepted { link, .. } => lock(link).clone(),
            Way::Dialled(_) => None,
        }
    }

    /// As [`close`](Self::close), by a crash.
    pub(super) fn kill(&self) {
        if let Way::Accepted { link, .. } = &self.way {
            lock(link).iter().for_each(|link| link.kill());
        }
        self.close();
    }

    /// The session has a link again.
    pub(super) fn attached(&self) {
        self.attached.notify_waiters();
    }

    /// The session in which the peer calls.
    pub(super) fn serve(&self, cell: &Arc<Cell>) {
        *lock(&self.serving) = Arc::downgrade(cell);
    }

    /// The objects that the peer holds, with how many records of each; and how many of its objects are held here.
    pub(crate) fn held(&self) -> (Vec<(Arc<Exported>, u64)>, usize) {
        let state = self.lock();
        let lent = state.exports.iter();
        let exported = lent.map(|(lent, open)| (lent.exported.clone(), open)).collect();
        (exported, state.imports.len())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn reset(&mut self) {
        self.epoch += 1;
        self.imports.reset();
        let objects = self.exports.reset();
        self.dropped.extend(objects);
    }
}

/// The other side of the session in which a handler runs.
pub(crate) fn partner_of(context: &Context) -> Option<(Arc<dyn Home>, Partner)> {
    let cell = match context.session()?.downcast::<Cell>() {
        Ok(cell) => cell,
        Err(other) => return Some(other.downcast::<home::Visit>().ok()?.partner()),
    };
    let home = cell.home()?;
    let partner = cell.partner_or(|| {
        Partner::Peer(Peer::accepted(&cell, &home, context.caller().address.clone()))
    });
    Some((home, partner.clone()))
}

/// A link of a node to itself.
pub(crate) fn open_home(home: &Arc<dyn Home>, runtime: &Handle) -> Arc<Link> {
    let server = home.server();
    let address = Address::Memory(HOME.into());
    let config = ClientConfig {
        node: home.id(),
        peer: HOME.into(),
        limits: server.limits.clone(),
        datagrams: false,
    };
    let network = Loop { server: Arc::downgrade(server) };
    let link =
        connection::open(runtime, Arc::new(network), server.entropy.clone(), address, config);
    link.lead_home(Arc::downgrade(home));
    link
}

/// What a node is called by itself.
pub(crate) const HOME: &str = "farcall/self";
/// Pauses between two looks at what is to be asked.
/// Looks in a lease for whether it is over.
const LOOKS_PER_LEASE: u32 = 4;
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
