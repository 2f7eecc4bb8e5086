//! Knows which calls were made, what took effect in which store, and what was said of them.

use std::collections::{BTreeMap, BTreeSet};

use super::disk::{Born, Effect, Tables};
use super::{Counts, Step};
use crate::id::RegistrationId;
use crate::id::{Seq, StoreId};
use crate::protocol::durable::outbound::{Parked, Stopped};
use crate::protocol::durable::rows::Outcome;
use crate::sim::oracle::broken;
use crate::wire::durable::Answer;

/// The truth about all calls of a run. A call is named by its nonce, a run of a method by the number that it returns.
#[derive(Default)]
pub(super) struct Oracle {
    ghosts: BTreeMap<u64, Ghost>,
    /// The runs whose effect is in a store now, and how many of them each call has.
    runs: BTreeMap<u64, u64>,
    effects: BTreeMap<u64, u32>,
    /// How far the effects of each node were looked at.
    seen: BTreeMap<usize, usize>,
    /// Calls that were enqueued, each with the run that did it.
    enqueued: Vec<(u64, u64)>,
    keys: BTreeMap<(StoreId, u64), Told>,
    /// Keys that were to be forgotten, whether they were or not.
    forgotten: BTreeSet<(StoreId, u64)>,
    pub(super) meddled: Meddled,
    pub(super) counts: Counts,
}

/// What was done to stores behind farcall's back, by node.
#[derive(Default)]
pub(super) struct Meddled {
    pub(super) restored: BTreeSet<usize>,
    pub(super) replaced: BTreeSet<usize>,
    pub(super) copied: BTreeSet<usize>,
    pub(super) purged: bool,
}

#[derive(Debug, Clone)]
struct Ghost {
    home: usize,
    server: usize,
    /// The run whose method enqueued it.
    parent: Option<u64>,
    saved: bool,
    told: Option<Told>,
    /// Its client decided that alone: an old copy of the journal does not know of it, nor can anybody tell.
    alone: bool,
    /// It was parked, or its journal sends nothing any more.
    given_up: bool,
    /// It was to be cancelled: its journal may have let it go without a word.
    cancelled: bool,
}

/// What is known of the end of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Ok(u64),
    Error(u64),
    /// It has no effect and never will.
    Never,
}

impl Told {
    /// What an outcome says; nothing if it says nothing of the effect.
    pub(super) fn of(outcome: &Outcome) -> Option<Told> {
        let run = |body: &[u8]| body.try_into().map_or(0, u64::from_be_bytes);
        match outcome {
            Outcome::Answered { answer: Answer::Ok, body } => Some(Told::Ok(run(body))),
            Outcome::Answered { answer: Answer::MethodError, body } => Some(Told::Error(run(body))),
            Outcome::Answered { answer: Answer::Never(_), .. } | Outcome::Cancelled => {
                Some(Told::Never)
            }
            Outcome::Parked { .. } => None,
        }
    }
}

impl Meddled {
    /// Whether the promises to a client about a server do not hold any more: one of the stores is not what it was.
    fn excuses(&self, node: usize) -> bool {
        self.restored.contains(&node) || self.replaced.contains(&node)
    }

    fn purged_copy(&self, node: usize) -> bool {
        self.purged && self.forked(node)
    }

    fn forked(&self, node: usize) -> bool {
        self.copied.contains(&node) || self.excuses(node)
    }
}

impl Oracle {
    /// A call is about to be saved.
    pub(super) fn called(&mut self, nonce: u64, home: usize, server: usize, parent: Option<u64>) {
        self.counts.calls += 1;
        self.counts.chained += u64::from(parent.is_some());
        let (saved, told, alone, given_up, cancelled) = (false, None, false, false, false);
        let ghost = Ghost { home, server, parent, saved, told, alone, given_up, cancelled };
        self.ghosts.insert(nonce, ghost);
    }

    /// A handler has enqueued it, and may be undone.
    pub(super) fn born(&mut self, born: Born, home: usize, server: usize) {
        self.called(born.nonce, home, server, Some(born.run));
    }

    /// Its row is committed, and that was reported.
    pub(super) fn saved(&mut self, nonce: u64) {
        if let Some(ghost) = self.ghosts.get_mut(&nonce) {
            ghost.saved = true;
        }
    }

    pub(super) fn cancel(&mut self, nonce: u64) {
        if let Some(ghost) = self.ghosts.get_mut(&nonce) {
            ghost.cancelled = true;
        }
    }

    /// It is not to be expected that it ends.
    pub(super) fn given_up(&mut self, nonce: u64) {
        if let Some(ghost) = self.ghosts.get_mut(&nonce) {
            ghost.given_up = true;
        }
    }

    /// A call is known to have ended so. `here` says that the client decided that alone.
    pub(super) fn told(&mut self, nonce: u64, told: Told, here: bool) -> Step {
        let Some(ghost) = self.ghosts.get_mut(&nonce) else {
            return Err(broken("I6", format!("call {nonce:x} was never made and ended")));
        };
        let excused = self.meddled.excuses(ghost.server) || self.meddled.purged_copy(ghost.home);
        if excused || ((here || ghost.alone) && self.meddled.forked(ghost.home)) {
            ghost.told = None;
            ghost.given_up = true;
            return Ok(());
        }
        match ghost.told {
            None => {
                (ghost.told, ghost.alone) = (Some(told), here);
                match told {
                    Told::Ok(_) => self.counts.answers += 1,
                    Told::Error(_) => self.counts.errors += 1,
                    Told::Never => self.counts.not_executed += 1,
                }
            }
            Some(before) if before != told => {
                let what = format!("call {nonce:x} ended as {before:?} and as {told:?}");
                return Err(broken("I6", what));
            }
            Some(_) => {}
        }
        let effects = self.effects.get(&nonce).copied().unwrap_or(0);
        match told {
            Told::Ok(run) if self.runs.get(&run) != Some(&nonce) => {
                Err(broken("I6", format!("call {nonce:x} has the answer of a run without effect")))
            }
            Told::Error(_) if effects > 0 => {
                Err(broken("I6", format!("call {nonce:x} failed by its own error with an effect")))
            }
            Told::Never if effects > 0 => Err(broken(
                "I2",
                format!("call {nonce:x} took effect, and is told that it did not"),
            )),
            _ => Ok(()),
        }
    }

    /// What a key's call ended as: the same for ever, until it is forgotten.
    pub(super) fn keyed(&mut self, home: usize, store: StoreId, key: u64, told: Told) -> Step {
        let excused = self.meddled.forked(home) || self.meddled.any_server();
        if told == Told::Never || excused || self.forgotten.contains(&(store, key)) {
            return Ok(());
        }
        self.counts.keyed += 1;
        let before = *self.keys.entry((store, key)).or_insert(told);
        if before == told {
            return Ok(());
        }
        Err(broken("I6", format!("key {key} of node {home} gives {before:?} and {told:?}")))
    }

    pub(super) fn forgot_key(&mut self, store: StoreId, key: u64) {
        self.forgotten.insert((store, key));
    }

    /// A node has committed, or was opened again: this is durable there.
    pub(super) fn committed(&mut self, node: usize, image: &Tables) -> Step {
        let seen = self.seen.entry(node).or_default();
        let from = std::mem::replace(seen, image.effects.len());
        for effect in image.effects.iter().skip(from) {
            self.counts.effects += 1;
            self.took_effect(effect, image)?;
        }
        Ok(())
    }

    fn took_effect(&mut self, effect: &Effect, image: &Tables) -> Step {
        let (nonce, stamp) = (effect.stamp.nonce, &effect.stamp);
        let Some(ghost) = self.ghosts.get(&nonce) else {
            return Err(broken("I6", format!("call {nonce:x} was never made and took effect")));
        };
        self.runs.insert(effect.run, nonce);
        self.enqueued.extend(effect.enqueued.map(|enqueued| (effect.run, enqueued)));
        let times = self.effects.entry(nonce).or_default();
        *times += 1;
        // A copy from before the first registration registers anew where the other's was dropped, or where the server's
        // store was turned back and has given its number to somebody else.
        let turned_back = self.meddled.restored.contains(&ghost.server);
        let anew =
            self.meddled.purged_copy(ghost.home) || turned_back && self.meddled.forked(ghost.home);
        if *times > 1 && !anew {
            return Err(broken("I6", format!("call {nonce:x} took effect {times} times")));
        }
        let excused = anew
            || self.meddled.excuses(ghost.server)
            || ghost.alone && self.meddled.forked(ghost.home);
        if matches!(ghost.told, Some(Told::Never | Told::Error(_))) && !excused {
            let what = format!("call {nonce:x} took effect after it ended as {:?}", ghost.told);
            return Err(broken("I2", what));
        }
        if stamp.store != image.store {
            return Err(broken("I8", format!("call {nonce:x} took effect in another store")));
        }
        if stamp.epoch != effect.epoch {
            let (old, new) = (stamp.epoch, effect.epoch);
            return Err(broken("I8", format!("call {nonce:x} ran under {old:?} after {new:?}")));
        }
        if stamp.seen > effect.commits {
            return Err(broken("I8", format!("call {nonce:x} ran in an old copy of its store")));
        }
        if effect.sender != effect.client && self.meddled.restored.is_empty() {
            return Err(broken("I8", format!("call {nonce:x} ran under another's registration")));
        }
        if let Some(parent) = ghost.parent
            && !self.runs.contains_key(&parent)
            && !self.meddled.any_server()
        {
            let what = format!("call {nonce:x} was enqueued by a run without effect");
            return Err(broken("I6", what));
        }
        Ok(())
    }

    /// I7: what is forgotten lies below the floor that is stored.
    pub(super) fn dropped(image: &Tables, dropped: &[(RegistrationId, Seq)]) -> Step {
        for (registration, seq) in dropped {
            let row = image.registrations.get(registration);
            if row.is_some_and(|row| !row.finished.contains(*seq)) {
                return Err(broken("I7", format!("an answer to {seq:x} is gone above the floor")));
            }
        }
        Ok(())
    }

    /// The store of a node is not what it was.
    pub(super) fn turned_back(&mut self, node: usize, before: &Tables, after: &Tables) {
        let of = |tables: &Tables| -> BTreeMap<u64, u64> {
            tables.effects.iter().map(|effect| (effect.run, effect.stamp.nonce)).collect()
        };
        for (run, nonce) in of(before) {
            if self.runs.remove(&run).is_some() {
                self.effects.entry(nonce).and_modify(|times| *times -= 1);
            }
        }
        for (run, nonce) in of(after) {
            self.runs.insert(run, nonce);
            *self.effects.entry(nonce).or_default() += 1;
        }
        self.seen.insert(node, after.effects.len());
    }

    /// I4: a call is parked for a cause.
    pub(super) fn parked(&mut self, nonce: u64, why: Parked) -> Step {
        self.counts.parked += 1;
        self.given_up(nonce);
        let meddled = &self.meddled;
        let caused = match why {
            Parked::OtherStore { .. } => !meddled.replaced.is_empty(),
            Parked::WentBack => !meddled.restored.is_empty() || !meddled.replaced.is_empty(),
            Parked::Expired => meddled.purged || meddled.any(),
            Parked::Stale | Parked::Different => {
                !meddled.copied.is_empty() || !meddled.restored.is_empty()
            }
        };
        match caused {
            true => Ok(()),
            false => Err(broken("I4", format!("call {nonce:x} is parked without cause: {why}"))),
        }
    }

    pub(super) fn stopped(&mut self, node: usize, why: Stopped) -> Step {
        self.counts.stopped += 1;
        let meddled = &self.meddled;
        if meddled.copied.is_empty() && meddled.restored.is_empty() {
            return Err(broken("I4", format!("node {node} stops without cause: {why}")));
        }
        Ok(())
    }

    /// I6: each call that was saved has ended, unless something was done to a store.
    pub(super) fn finish(&self) -> Step {
        if !self.meddled.any() && !self.meddled.purged {
            for (run, nonce) in &self.enqueued {
                let ended = self.ghosts.get(nonce).is_some_and(|ghost| ghost.told.is_some());
                if self.runs.contains_key(run) && !ended {
                    return Err(broken("I6", format!("call {nonce:x} was enqueued, never ended")));
                }
            }
        }
        for (nonce, ghost) in &self.ghosts {
            let excused = ghost.given_up
                || self.meddled.forked(ghost.home)
                || self.meddled.excuses(ghost.server);
            if ghost.saved && ghost.told.is_none() && !excused && !ghost.cancelled {
                return Err(broken("I6", format!("call {nonce:x} was saved and never ended")));
            }
            let expected = matches!(ghost.told, Some(Told::Ok(_)));
            let effects = self.effects.get(nonce).copied().unwrap_or(0);
            if ghost.told.is_some() && !excused && effects != u32::from(expected) {
                let what = format!("call {nonce:x} ended as {:?}, effects: {effects}", ghost.told);
                return Err(broken("I6", what));
            }
        }
        Ok(())
    }
}

impl Meddled {
    fn any_server(&self) -> bool {
        !self.restored.is_empty() || !self.replaced.is_empty()
    }

    fn any(&self) -> bool {
        self.any_server() || !self.copied.is_empty()
    }
}
