//! What a client may send of its saved calls, and what a server's word means for them.
//!
//! Three rules are kept here. A call is sent only to the store that it is bound to, and is bound durably before it is
//! first sent. What a store is told to be finished has no call whose end is not durable, and that may still be sent there.
//! What cannot be asked about is parked: it is never sent again by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::inbox::{MOST_RANGES, NotRegistered, Register, Registered};
pub(crate) use super::parked::{Parked, Stopped};
use super::rows::{Binding, Outcome, ServerRow};
use crate::error::FailureCode;
use crate::id::{CommitNumber, Epoch, RegistrationId, Seq, StoreId};
use crate::wire::durable::{Stamp, Word};
use crate::wire::frame::Ranges;

/// All unfinished calls of a journal, and the servers they are for.
#[derive(Debug, Clone)]
pub(crate) struct Outbound {
    identity: Identity,
    /// The highest number that the journal had given when it was opened, and that of each opening before, if known.
    last_before: Seq,
    lasts: Vec<Seq>,
    /// All numbers below were published or never will be.
    published: Seq,
    /// Unfinished calls that are not bound yet, and those of each binding.
    unbound: BTreeSet<Seq>,
    bound: BTreeMap<Binding, BTreeSet<Seq>>,
    /// Calls that were bound before they were published.
    early: BTreeMap<Seq, Binding>,
    peers: BTreeMap<Arc<str>, Peer>,
    /// Why nothing is sent any more, if so.
    stopped: Option<Stopped>,
}

/// Which journal this is, and which opening of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) client: StoreId,
    pub(crate) epoch: Epoch,
    /// Drawn at random for this opening.
    pub(crate) opening: u128,
}

/// The server at one address.
#[derive(Debug, Clone, Default)]
struct Peer {
    /// The registration there that the journal has.
    known: Option<ServerRow>,
    /// That registration was confirmed for this opening of the journal.
    ready: bool,
    parked: Option<Parked>,
}

/// Whether a call may be sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sending {
    /// With this stamp.
    Send(Stamp),
    /// The client has to register first.
    Register(Register),
    /// Its binding to the store is to be made durable first: [`adopt`](super::journal::adopt).
    Bind(ServerRow),
    /// Not before the program accepts the store that is there.
    Wait(Parked),
    /// Never.
    Park(Parked),
    Stop(Stopped),
    /// It is finished.
    Over,
}

/// What a server's word means for a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// It is finished.
    Finished(Outcome),
    /// Ask again after a while.
    Again,
    /// It may have run, and is not sent again.
    Park(Parked),
    Stop(Stopped),
}

/// What an answer to [`Register`] means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Registration {
    /// To be made durable with [`adopt`](super::journal::adopt); then [`adopted`](Outbound::adopted) is to be called.
    Adopt(ServerRow),
    /// Try again after a while.
    Again(String),
    /// What that means for each call, [`sending`](Outbound::sending) says when it is asked again: calls that were never
    /// sent wait, or are registered anew.
    Park(Parked),
    Stop(Stopped),
}

impl Outbound {
    /// The calls of a journal that was opened with so many numbers given, and knows these servers.
    pub(crate) fn new(
        identity: Identity,
        last_before: Seq,
        servers: impl IntoIterator<Item = ServerRow>,
    ) -> Outbound {
        let known = |row: ServerRow| {
            (row.peer.clone(), Peer { known: Some(row), ready: false, parked: None })
        };
        Outbound {
            identity,
            last_before,
            lasts: Vec::new(),
            published: 1,
            unbound: BTreeSet::new(),
            bound: BTreeMap::new(),
            early: BTreeMap::new(),
            peers: servers.into_iter().map(known).collect(),
            stopped: None,
        }
    }

    /// The last number of each opening of this journal that has given any. Numbers leave gaps between openings: without
    /// these, an old copy is known by what it has not given only until it is opened a second time.
    pub(crate) fn gave(&mut self, lasts: impl IntoIterator<Item = Seq>) {
        self.lasts.extend(lasts);
    }

    /// All calls that earlier openings have left are published.
    pub(crate) fn all_published(&mut self) {
        self.published = self.published.max(self.last_before + 1);
    }

    /// A saved call is durable. Calls are published in the order of their numbers: a floor may be told at once that
    /// passes each number that was not.
    pub(crate) fn publish(&mut self, seq: Seq, binding: Option<Binding>) {
        self.published = self.published.max(seq + 1);
        let early = self.early.remove(&seq);
        match binding.or(early) {
            None => self.unbound.insert(seq),
            Some(binding) => self.bound.entry(binding).or_default().insert(seq),
        };
    }

    /// Why calls to a server are not taken, if so.
    pub(crate) fn refused(&self, peer: &str) -> Result<(), Refused> {
        if let Some(stopped) = self.stopped {
            return Err(Refused::Stopped(stopped));
        }
        match self.peers.get(peer).and_then(|peer| peer.parked) {
            None => Ok(()),
            Some(parked) => Err(Refused::Parked(parked)),
        }
    }

    /// Whether a call to the server at `peer` may be sent.
    pub(crate) fn sending(&mut self, seq: Seq, peer: &Arc<str>, nonce: u64) -> Sending {
        let bound = self.binding_of(seq);
        if bound.is_none() && !self.unbound.contains(&seq) {
            return Sending::Over;
        }
        if let Some(stopped) = self.stopped {
            return Sending::Stop(stopped);
        }
        let identity = self.identity;
        let at = self.peers.entry(peer.clone()).or_default();
        match (at.parked, bound) {
            (Some(parked), None) => return Sending::Wait(parked),
            (Some(parked), Some(_)) => return Sending::Park(parked),
            (None, _) => {}
        }
        let Some(known) = at.known.as_ref().filter(|_| at.ready) else {
            return Sending::Register(register(identity, at.known.as_ref()));
        };
        let unbound = bound.is_none() && cfg_canary!("calls_are_sent_before_they_are_bound");
        let bound = if unbound { Some(known.binding) } else { bound };
        let Some(bound) = bound else { return Sending::Bind(known.clone()) };
        let Binding { store, registration } = known.binding;
        if bound.store != store {
            return Sending::Park(Parked::OtherStore { before: bound.store, now: store });
        }
        if bound.registration != registration {
            return Sending::Park(Parked::Expired);
        }
        let (epoch, seen, floor) = (identity.epoch, known.seen, self.floor(bound).min(seq));
        Sending::Send(Stamp { store, registration, epoch, seq, floor, seen, nonce })
    }

    /// What a server says to a registration means.
    pub(crate) fn on_registered(
        &mut self,
        peer: &Arc<str>,
        answer: Result<Registered, NotRegistered>,
    ) -> Registration {
        let at = self.peers.entry(peer.clone()).or_default();
        let registered = match answer {
            Ok(registered) => registered,
            Err(NotRegistered::Refused { text }) => return Registration::Again(text),
            Err(NotRegistered::Fenced) => {
                self.stopped = Some(Stopped::Fenced);
                return Registration::Stop(Stopped::Fenced);
            }
            // Nothing of this client is there any more: it begins anew, and what may have run is parked.
            Err(NotRegistered::Expired) => {
                at.known = None;
                return Registration::Park(Parked::Expired);
            }
            Err(NotRegistered::WentBack) => {
                at.parked = Some(Parked::WentBack);
                return Registration::Park(Parked::WentBack);
            }
            Err(NotRegistered::OtherStore { store }) => return other_store(at, store_id(store)),
        };
        // It was asked before the journal knew of any store here, and answered by one that came later.
        let store = store_id(registered.store);
        if at.known.as_ref().is_some_and(|known| known.binding.store != store) {
            return other_store(at, store);
        }
        let seen = at.known.as_ref().map_or(0, |known| known.seen).max(registered.commits);
        if !self.has_given(registered.max) {
            self.stopped = Some(Stopped::WentBack);
            return Registration::Stop(Stopped::WentBack);
        }
        let registration = RegistrationId(registered.registration);
        let row = ServerRow { peer: peer.clone(), binding: Binding { store, registration }, seen };
        if cfg_canary!("calls_are_sent_before_they_are_bound")
            && let Some(at) = self.peers.get_mut(peer)
        {
            (at.known, at.ready) = (Some(row.clone()), true);
        }
        Registration::Adopt(row)
    }

    /// A registration is durable in the journal, and with it the binding of these calls.
    pub(crate) fn adopted(&mut self, row: ServerRow, bound: &[Seq]) {
        let binding = row.binding;
        let at = self.peers.entry(row.peer.clone()).or_default();
        // More may have been told while this became durable.
        let told = at.known.as_ref().filter(|known| known.binding.store == binding.store);
        let seen = told.map_or(0, |known| known.seen).max(row.seen);
        at.known = Some(ServerRow { seen, ..row });
        at.ready = true;
        for seq in bound {
            if self.unbound.remove(seq) {
                self.bound.entry(binding).or_default().insert(*seq);
            } else if *seq >= self.published {
                self.early.insert(*seq, binding);
            }
        }
    }

    /// What a server's word about a call means.
    pub(crate) fn on_word(&mut self, peer: &Arc<str>, sent: &Stamp, word: &Word<'_>) -> Meaning {
        let at = self.peers.entry(peer.clone()).or_default();
        let asked = Binding { store: sent.store, registration: sent.registration };
        // A word about what was sent under an earlier binding says nothing of the present one.
        let present = at.known.as_ref().is_some_and(|known| known.binding == asked);
        let whole = |at: &mut Peer, parked| {
            if present {
                at.ready = false;
                at.parked = Some(parked);
            }
            Meaning::Park(parked)
        };
        match *word {
            Word::Answer { commit, answer, body } => {
                if let Some(known) =
                    at.known.as_mut().filter(|known| known.binding.store == sent.store)
                {
                    known.seen = known.seen.max(commit);
                }
                Meaning::Finished(Outcome::Answered { answer, body: body.to_vec() })
            }
            Word::Again { .. } => Meaning::Again,
            Word::Stale => Meaning::Park(Parked::Stale),
            Word::Different => Meaning::Park(Parked::Different),
            Word::Fenced => {
                self.stopped = Some(Stopped::Fenced);
                Meaning::Stop(Stopped::Fenced)
            }
            Word::Expired => {
                if present {
                    (at.known, at.ready) = (None, false);
                }
                Meaning::Park(Parked::Expired)
            }
            Word::WentBack => whole(at, Parked::WentBack),
            Word::OtherStore { store } => {
                whole(at, Parked::OtherStore { before: sent.store, now: store })
            }
        }
    }

    /// The end of a call is durable: the floor may pass it.
    pub(crate) fn settled(&mut self, seq: Seq) {
        if !self.unbound.remove(&seq)
            && let Some(binding) = self.binding_of(seq)
            && let Some(bound) = self.bound.get_mut(&binding)
        {
            bound.remove(&seq);
            if bound.is_empty() {
                self.bound.remove(&binding);
            }
        }
    }

    /// A call has ended, and a planted bug takes that for durable.
    pub(crate) fn finished(&mut self, seq: Seq) {
        if cfg_canary!("floors_pass_what_is_not_durable") {
            self.settled(seq);
        }
    }

    /// The program takes the store at an address as it is now: the client registers there anew.
    pub(crate) fn accept(&mut self, peer: &str) {
        self.peers.remove(peer);
    }

    /// What a server may forget: all below the floor of a stamp without a call, and these ranges above it. Nothing if the
    /// client is not registered there.
    pub(crate) fn forgetting(&self, peer: &str) -> Option<(Stamp, Ranges)> {
        let at = self.peers.get(peer).filter(|at| at.ready)?;
        let ServerRow { binding, seen, .. } = *at.known.as_ref()?;
        let Binding { store, registration } = binding;
        let floor = self.floor(binding);
        let epoch = self.identity.epoch;
        let stamp = Stamp { store, registration, epoch, seq: floor, floor, seen, nonce: 0 };
        Some((stamp, self.above(floor, binding)))
    }

    /// Whether calls of which no floor tells are finished at a server, for it waits for one that is bound to no store yet.
    pub(crate) fn is_held_up(&self, peer: &str) -> bool {
        let known = self.peers.get(peer).and_then(|at| at.known.as_ref());
        let end = known.map(|known| self.lowest_bound(known.binding));
        let unbound = self.unbound.first();
        end.zip(unbound).is_some_and(|(end, unbound)| unbound + 1 < end)
    }

    /// What registers a client where it has nothing to send, so that it may tell its floor; nothing if it is registered,
    /// never was, or may not.
    #[cfg_attr(not(feature = "sim"), allow(dead_code, reason = "only the simulation asks"))]
    pub(crate) fn registering(&self, peer: &str) -> Option<Register> {
        let at = self.peers.get(peer).filter(|at| !at.ready && at.parked.is_none())?;
        let known = at.known.as_ref().filter(|_| self.stopped.is_none())?;
        Some(register(self.identity, Some(known)))
    }

    /// The highest commit number that was told at an address.
    #[cfg_attr(not(feature = "sim"), allow(dead_code, reason = "only the simulation asks"))]
    pub(crate) fn seen(&self, peer: &str) -> CommitNumber {
        let known = self.peers.get(peer).and_then(|at| at.known.as_ref());
        known.map_or(0, |known| known.seen)
    }

    /// How many calls are not finished.
    #[cfg_attr(not(feature = "sim"), allow(dead_code, reason = "only the simulation asks"))]
    pub(crate) fn unfinished(&self) -> usize {
        self.unbound.len() + self.bound.values().map(BTreeSet::len).sum::<usize>()
    }

    /// Whether this journal can have made a call of this number.
    fn has_given(&self, number: Seq) -> bool {
        let epoch = Epoch::of(number);
        if cfg_canary!("old_journals_are_believed") {
            return true;
        }
        if number == 0 || epoch == self.identity.epoch {
            return number < self.published;
        }
        let before = if self.lasts.is_empty() { &[self.last_before] } else { &*self.lasts };
        let known =
            |last: &Seq| number <= *last && (self.lasts.is_empty() || Epoch::of(*last) == epoch);
        before.iter().any(known)
    }

    /// All calls below are finished, durably, or are none of this binding.
    fn floor(&self, binding: Binding) -> Seq {
        let lowest = self.lowest_bound(binding);
        self.unbound.first().map_or(lowest, |unbound| lowest.min(*unbound))
    }

    /// All calls below are so too, but for those that are bound to no store yet.
    fn lowest_bound(&self, binding: Binding) -> Seq {
        let bound = self.bound.get(&binding).and_then(BTreeSet::first);
        bound.copied().unwrap_or(self.published)
    }

    /// What is finished above the floor, from the lowest number on: the ranges between calls that are bound to no store yet.
    fn above(&self, floor: Seq, binding: Binding) -> Ranges {
        let end = self.lowest_bound(binding);
        let mut unbound = self.unbound.range(floor..end.max(floor));
        if cfg_canary!("unbound_calls_count_as_finished") {
            return Ranges::from([(floor, end)]);
        }
        let (mut ranges, mut start) = (Ranges::new(), floor);
        while start < end && ranges.len() < MOST_RANGES {
            let next = unbound.next().copied().unwrap_or(end);
            if start < next {
                ranges.push((start, next));
            }
            start = next + 1;
        }
        ranges
    }

    fn binding_of(&self, seq: Seq) -> Option<Binding> {
        self.bound.iter().find(|(_, calls)| calls.contains(&seq)).map(|(binding, _)| *binding)
    }
}

/// Why no call is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Stopped(Stopped),
    Parked(Parked),
}

/// There is another store than the journal knows, unless that is old news.
fn other_store(at: &mut Peer, now: StoreId) -> Registration {
    let before = at.known.as_ref().map_or(now, |known| known.binding.store);
    if before == now {
        return Registration::Again("the server had another store a moment ago".into());
    }
    let parked = Parked::OtherStore { before, now };
    at.ready = false;
    at.parked = Some(parked);
    Registration::Park(parked)
}

fn register(identity: Identity, known: Option<&ServerRow>) -> Register {
    Register {
        client: identity.client.0.as_u128(),
        epoch: identity.epoch.0,
        opening: identity.opening,
        known: known
            .map(|row| (row.binding.store.0.as_u128(), row.binding.registration.0, row.seen)),
    }
}

fn store_id(number: u128) -> StoreId {
    StoreId(Uuid::from_u128(number))
}

/// The code that a fence gets when the server refused a call before it looked at its number.
pub(crate) fn fence_code(code: FailureCode) -> Option<FailureCode> {
    match code {
        FailureCode::NoSuchMethod | FailureCode::BadArguments | FailureCode::TooLarge => Some(code),
        _ => None,
    }
}
