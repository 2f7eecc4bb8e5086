//! What is true in a run: who holds which token, which of them are gone, and what was told when. The oracle of I11.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farcall::sim::World;
use farcall::{CallError, Unreferenced, remote};

use super::hall::Token;
use super::{Process, Tally};

/// Which guest, and how often its session was lost for sure.
pub(super) type Stamp = (u64, u64);

/// All that is known; shared by all tasks of a run.
pub(super) type Shared = Arc<Mutex<Truth>>;

pub(super) struct Truth {
    pub(super) tokens: BTreeMap<u64, Fate>,
    /// Who holds which token. A stamp says that it came in that session and may go with it.
    holds: BTreeMap<(u64, Holder), Option<Stamp>>,
    /// How often the session of each guest was lost, or may have been.
    lost: BTreeMap<u64, u64>,
    /// Guests whose session will not live, and whose next has not begun.
    between: BTreeSet<u64>,
    /// How often which process was started.
    lives: BTreeMap<Process, u64>,
    /// What went wrong with a token that a call had, and when: the call may have ended at that moment.
    suspects: BTreeMap<(u64, u64), (Duration, String)>,
    /// Counts calls and uses.
    numbers: u64,
    world: World,
    pub(super) broken: Vec<String>,
    pub(super) tally: Tally,
}

/// What became of a token.
#[derive(Clone, Copy)]
pub(super) struct Fate {
    pub(super) owner: (Process, u64),
    pub(super) dropped: bool,
    /// In how many messages it may have left its owner.
    pub(super) left: u64,
    /// One of them arrived for sure.
    pub(super) arrived: bool,
    /// How often its owner was told that no peer holds it any more.
    pub(super) told: u64,
}

/// Something that must not lose its token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Holder {
    /// A call, by its number, of this guest: it is not finished.
    Call(u64, u64),
    /// What a process has put away.
    Kept(Process),
    /// A call of the token that this process makes.
    Used(u64, Process),
}

impl Holder {
    fn is_of(self, process: Process) -> bool {
        match self {
            Holder::Call(_, guest) => Process::Guest(guest) == process,
            Holder::Kept(of) | Holder::Used(_, of) => of == process,
        }
    }
}

impl Truth {
    pub(super) fn new(world: &World) -> Truth {
        Truth {
            tokens: BTreeMap::new(),
            holds: BTreeMap::new(),
            lost: BTreeMap::new(),
            between: BTreeSet::new(),
            lives: BTreeMap::new(),
            suspects: BTreeMap::new(),
            numbers: 0,
            world: world.clone(),
            broken: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// A number that was not given before.
    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// What comes from this guest now, or to it, comes in this session.
    pub(super) fn stamp(&self, guest: u64) -> Stamp {
        (guest, self.lost.get(&guest).copied().unwrap_or(0))
    }

    /// Whether what came then came in a session that lives.
    pub(super) fn is_current(&self, stamp: Stamp) -> bool {
        self.stamp(stamp.0) == stamp && !self.between.contains(&stamp.0)
    }

    pub(super) fn is_alive(&self, (process, life): (Process, u64)) -> bool {
        self.lives.get(&process) == Some(&life)
    }

    /// Whether the process that it is of still lives. What a process has sent may arrive when it is gone.
    pub(super) fn has_owner(&self, number: u64) -> bool {
        self.tokens.get(&number).is_some_and(|fate| self.is_alive(fate.owner))
    }

    /// Another life of a process begins, and with it nothing of the one before.
    pub(super) fn begin(&mut self, process: Process) {
        *self.lives.entry(process).or_default() += 1;
        self.holds.retain(|(_, holder), _| !holder.is_of(process));
    }

    /// Somebody holds it from now on.
    pub(super) fn hold(&mut self, number: u64, holder: Holder, stamp: Option<Stamp>) {
        let gone = self.tokens.get(&number).is_some_and(|fate| fate.dropped);
        if gone && self.has_owner(number) && stamp.is_none_or(|stamp| self.is_current(stamp)) {
            self.broken.push(format!("token {number} was dropped before {holder:?} got it"));
        }
        self.holds.insert((number, holder), stamp);
        self.world.note(format!("{holder:?} holds token {number} {stamp:?}"));
    }

    pub(super) fn release(&mut self, number: u64, holder: Holder) {
        if self.holds.remove(&(number, holder)).is_some() {
            self.world.note(format!("{holder:?} lets token {number} go"));
        }
    }

    /// In which session somebody got it; nothing if they do not hold it.
    pub(super) fn held(&self, number: u64, holder: Holder) -> Option<Option<Stamp>> {
        self.holds.get(&(number, holder)).copied()
    }

    /// Nobody holds anything.
    pub(super) fn let_all_go(&mut self) {
        self.holds.clear();
    }

    /// Whether anybody holds it, be it in a session that is lost.
    pub(super) fn is_held(&self, number: u64) -> bool {
        self.holds.keys().any(|(of, _)| *of == number)
    }

    fn holds(&self, holder: Holder, stamp: Option<Stamp>) -> bool {
        match (holder, stamp) {
            (_, None) => true,
            // An unfinished call holds its arguments until it is lost.
            (Holder::Call(..), Some(stamp)) => self.stamp(stamp.0) == stamp,
            (_, Some(stamp)) => self.is_current(stamp),
        }
    }

    fn holders(&self, number: u64) -> Vec<Holder> {
        let of =
            self.holds.range((number, Holder::Call(0, 0))..).take_while(|(key, _)| key.0 == number);
        of.filter(|((_, holder), stamp)| self.holds(*holder, **stamp))
            .map(|((_, holder), _)| *holder)
            .collect()
    }

    /// The session of a guest will not live: from now on, what was held through it may go.
    pub(super) fn lose(&mut self, guest: u64) {
        *self.lost.entry(guest).or_default() += 1;
        self.between.insert(guest);
        self.world.note(format!("guest{guest} loses its session"));
        self.tally.lost += 1;
    }

    /// What comes now comes in a session that lives.
    pub(super) fn begin_anew(&mut self, guest: u64) {
        *self.lost.entry(guest).or_default() += 1;
        self.between.remove(&guest);
        self.world.note(format!("guest{guest} begins anew: {:?}", self.stamp(guest)));
    }

    /// A call leaves with it, or an answer.
    pub(super) fn leaves(&mut self, number: u64) {
        if let Some(fate) = self.tokens.get_mut(&number) {
            fate.left += 1;
        }
    }

    /// It came there.
    pub(super) fn arrives(&mut self, number: u64) {
        if let Some(fate) = self.tokens.get_mut(&number) {
            fate.arrived = true;
        }
    }

    /// A call of a guest begins, with a token that stays until it is finished; with `again`, also when its session is lost.
    pub(super) fn begin_call(&mut self, guest: u64, number: u64, again: bool) -> Holder {
        let call = Holder::Call(self.number(), guest);
        let stamp = (!again).then(|| self.stamp(guest));
        self.leaves(number);
        self.hold(number, call, stamp);
        call
    }

    /// It is finished, as its caller was told just now.
    pub(super) fn end_call(&mut self, number: u64, call: Holder) {
        self.release(number, call);
        let Holder::Call(id, _) = call else { return };
        if let Some((when, what)) = self.suspects.remove(&(number, id))
            && when < self.world.elapsed()
        {
            self.broken.push(format!("{what} in the middle of a call"));
        }
    }

    /// What a call of the token says: one that is held must be there.
    pub(super) fn judge(
        &mut self,
        number: u64,
        holder: Holder,
        answer: &Result<u64, CallError>,
    ) -> bool {
        match answer {
            Ok(found) => {
                self.tally.called += 1;
                if *found != number {
                    self.broken.push(format!("token {number} answered as {found}"));
                }
                return true;
            }
            Err(CallError::NoSuchObject(_)) => {
                let holds =
                    self.held(number, holder).is_some_and(|stamp| self.holds(holder, stamp));
                if holds && self.has_owner(number) {
                    self.broken.push(format!("{holder:?} holds token {number}, and it is gone"));
                }
            }
            Err(_) => {}
        }
        self.tally.failed += 1;
        false
    }

    fn dropped(&mut self, number: u64) {
        let holders = self.holders(number);
        let Some(fate) = self.tokens.get_mut(&number) else { return };
        fate.dropped = true;
        self.world.note(format!("token {number} is dropped, held by {holders:?}"));
        let owner = fate.owner;
        if self.is_alive(owner) {
            self.tally.dropped += 1;
            self.blame(number, &holders, "was dropped");
        }
    }

    fn told(&mut self, number: u64) {
        let holders = self.holders(number);
        let Some(fate) = self.tokens.get_mut(&number) else { return };
        fate.told += 1;
        self.world.note(format!("token {number} is told, held by {holders:?}"));
        let owner = fate.owner;
        if self.is_alive(owner) {
            self.tally.told += 1;
            let others: Vec<_> = holders
                .into_iter()
                .filter(|holder| matches!(holder, Holder::Call(..)) || !holder.is_of(owner.0))
                .collect();
            self.blame(number, &others, "was said to be held by nobody");
        }
    }

    /// These hold a token of which something is said that cannot be.
    fn blame(&mut self, number: u64, holders: &[Holder], what: &str) {
        let now = self.world.elapsed();
        for holder in holders {
            let text = format!("token {number} {what}");
            match holder {
                Holder::Call(id, _) => drop(self.suspects.insert((number, *id), (now, text))),
                _ => self.broken.push(format!("{text}, and {holder:?} held it")),
            }
        }
    }
}

/// A token, as its owner has it.
pub(super) struct Coin {
    number: u64,
    truth: Shared,
}

impl Coin {
    pub(super) fn new(process: Process, number: u64, truth: &Shared) -> Arc<Coin> {
        let mut all = lock(truth);
        let life = all.lives.get(&process).copied().unwrap_or(0);
        let owner = (process, life);
        let fate = Fate { owner, dropped: false, left: 0, arrived: false, told: 0 };
        all.tokens.insert(number, fate);
        all.tally.tokens += 1;
        Arc::new(Coin { number, truth: truth.clone() })
    }
}

#[remote]
impl Token for Coin {
    async fn number(&self) -> u64 {
        self.number
    }
}

impl Unreferenced for Coin {
    fn unreferenced(&self) {
        lock(&self.truth).told(self.number);
    }
}

impl Drop for Coin {
    fn drop(&mut self) {
        lock(&self.truth).dropped(self.number);
    }
}

pub(super) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
