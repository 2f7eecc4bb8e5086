//! A simulated disk with a database on it: tables in memory, a durable image of them, transactions with one savepoint.
//!
//! Tables are shared until they are written to, so that a savepoint, an image and an old copy cost nothing. As with
//! SQLite, what is written while no transaction is open is durable at once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::id::{CommitNumber, Epoch, RegistrationId, Seq, StoreId};
use crate::protocol::durable::outbound::Identity;
use crate::protocol::durable::rows::{
    AnswerRow, Binding, Committed, Counter, Database, Outcome, RegistrationRow, Request, ServerRow,
};
use crate::sim::rng::Rng;
use crate::wire::durable::Stamp;

pub(super) type Table<K, V> = Arc<BTreeMap<K, Arc<V>>>;

/// All that a database holds.
#[derive(Debug, Clone)]
pub(super) struct Tables {
    pub(super) store: StoreId,
    epoch: Epoch,
    opening: u128,
    /// The last number that a call got, and that of each opening that gave some.
    counter: Seq,
    pub(super) lasts: Arc<Vec<Seq>>,
    pub(super) next_registration: u64,
    pub(super) commits: CommitNumber,
    pub(super) requests: Table<Seq, RequestRow>,
    pub(super) servers: Table<Arc<str>, ServerRow>,
    pub(super) registrations: Table<RegistrationId, RegistrationRow>,
    pub(super) answers: Table<(RegistrationId, Seq), AnswerRow>,
    /// What methods wrote, in the order of their runs.
    pub(super) effects: Arc<Vec<Effect>>,
    /// Something is wrong that is looked at when the transaction commits.
    pub(super) violated: bool,
}

#[derive(Debug, Clone)]
pub(super) struct RequestRow {
    pub(super) request: Request,
    pub(super) binding: Option<Binding>,
    pub(super) outcome: Option<Outcome>,
}

/// What a run of a method wrote, and under which circumstances it ran.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effect {
    /// Names the run; no other has it.
    pub(super) run: u64,
    pub(super) stamp: Stamp,
    /// The store of the client that sent it; of the client that its registration belongs to, with its epoch.
    pub(super) sender: StoreId,
    pub(super) client: StoreId,
    pub(super) epoch: Epoch,
    /// The commits of its store before.
    pub(super) commits: CommitNumber,
    /// The call that it enqueued.
    pub(super) enqueued: Option<u64>,
}

/// Why the database did not do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Io,
    Full,
    Constraint,
    /// There is no transaction or no savepoint.
    Outside,
    Poisoned,
    /// The process is gone.
    Crashed,
    /// The program takes its transaction back.
    Program,
    /// The journal takes no more.
    Journal,
}

/// How often things go wrong, of a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Odds {
    pub(super) statement: u64,
    pub(super) refused: u64,
    pub(super) unknown: u64,
}

/// How often they did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Failed {
    pub(super) statements: u64,
    pub(super) refused: u64,
    pub(super) unknown: u64,
    pub(super) shown: u64,
    pub(super) ended: u64,
}

pub(super) struct Disk {
    /// What is on stable storage.
    pub(super) image: Tables,
    /// A commit of unknown fate, if it shows when the database is opened again.
    hidden: Option<Tables>,
    transaction: Option<Transaction>,
    counter: Counter,
    pub(super) poisoned: bool,
    pub(super) crashed: bool,
    /// The process crashes after so many operations.
    pub(super) crash_in: Option<u64>,
    pub(super) full: bool,
    pub(super) odds: Odds,
    pub(super) failed: Failed,
    pub(super) rng: Rng,
    /// Requests that became durable and are not published yet, in their order, as they were bound when they were saved.
    pub(super) fresh: Vec<(Seq, Option<Binding>)>,
    /// Answers that were forgotten, durably.
    pub(super) dropped: Vec<(RegistrationId, Seq)>,
    /// Calls that handlers enqueued, committed or not, each with its run.
    pub(super) born: Vec<Born>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Born {
    pub(super) nonce: u64,
    pub(super) run: u64,
    pub(super) peer: u64,
}

#[derive(Debug)]
struct Transaction {
    draft: Draft,
    savepoint: Option<Draft>,
}

#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) tables: Tables,
    pub(super) fresh: Vec<(Seq, Option<Binding>)>,
    pub(super) dropped: Vec<(RegistrationId, Seq)>,
    /// Something about calls to this store was written.
    pub(super) counts: bool,
}

impl Tables {
    pub(super) fn new(store: StoreId) -> Tables {
        Tables {
            store,
            epoch: Epoch(0),
            opening: 0,
            counter: 0,
            lasts: Arc::default(),
            next_registration: 1,
            commits: 0,
            requests: Arc::default(),
            servers: Arc::default(),
            registrations: Arc::default(),
            answers: Arc::default(),
            effects: Arc::default(),
            violated: false,
        }
    }

    /// Whether a call of this journal has, or had, this number.
    pub(super) fn has_given(&self, number: Seq) -> bool {
        let mut lasts = self.lasts.iter().chain([&self.counter]);
        number == 0 || lasts.any(|last| Epoch::of(*last) == Epoch::of(number) && number <= *last)
    }
}

impl Disk {
    pub(super) fn new(image: Tables, odds: Odds, rng: Rng) -> Disk {
        Disk {
            image,
            hidden: None,
            transaction: None,
            counter: Counter::open(Epoch(1), 0),
            poisoned: false,
            crashed: false,
            crash_in: None,
            full: false,
            odds,
            failed: Failed::default(),
            rng,
            fresh: Vec::new(),
            dropped: Vec::new(),
            born: Vec::new(),
        }
    }

    /// Opens the database: what of an unknown commit is there shows now. Says which opening it is, and the last number
    /// that was given before.
    pub(super) fn open(&mut self) -> Result<(Identity, Seq), Fault> {
        self.close();
        (self.poisoned, self.crashed, self.crash_in) = (false, false, None);
        if let Some(hidden) = self.hidden.take() {
            self.failed.shown += 1;
            self.image = hidden;
        }
        if self.rng.chance(self.odds.unknown) {
            return Err(Fault::Io);
        }
        let last = self.image.counter;
        if last > 0 && self.image.lasts.last() != Some(&last) {
            Arc::make_mut(&mut self.image.lasts).push(last);
        }
        self.image.epoch = Epoch(self.image.epoch.0 + 1);
        self.image.opening = u128::from(self.rng.next());
        self.counter = Counter::open(self.image.epoch, last);
        let Tables { store: client, epoch, opening, .. } = self.image;
        Ok((Identity { client, epoch, opening }, last))
    }

    /// The process is gone, with all that was not committed.
    pub(super) fn close(&mut self) {
        self.transaction = None;
        self.fresh.clear();
        self.dropped.clear();
    }

    /// Another database is put in the place of this one.
    pub(super) fn put(&mut self, image: Tables) {
        self.close();
        (self.hidden, self.image) = (None, image);
    }

    /// A statement of the user has ended the transaction, as INSERT OR ROLLBACK does.
    pub(super) fn end_transaction(&mut self) {
        self.failed.ended += 1;
        self.transaction = None;
    }

    pub(super) fn is_open(&self) -> bool {
        self.transaction.is_some()
    }

    pub(super) fn next_number(&mut self) -> Seq {
        self.counter.take()
    }

    /// What a statement reads.
    pub(super) fn read(&mut self) -> Result<&Tables, Fault> {
        self.touch()?;
        Ok(self.transaction.as_ref().map_or(&self.image, |open| &open.draft.tables))
    }

    /// What a statement writes; outside of a transaction that is durable at once.
    pub(super) fn write<R>(&mut self, write: impl FnOnce(&mut Draft) -> R) -> Result<R, Fault> {
        self.touch()?;
        if self.full && self.rng.chance(300) {
            return Err(Fault::Full);
        }
        if let Some(open) = &mut self.transaction {
            return Ok(write(&mut open.draft));
        }
        let mut draft = Draft::of(&self.image);
        let result = write(&mut draft);
        self.image = draft.tables;
        Ok(result)
    }

    /// One operation: it may be the one that fails, or the last of its process.
    fn touch(&mut self) -> Result<(), Fault> {
        if self.crashed {
            return Err(Fault::Crashed);
        }
        if let Some(left) = &mut self.crash_in {
            if *left == 0 {
                (self.crashed, self.transaction) = (true, None);
                return Err(Fault::Crashed);
            }
            *left -= 1;
        }
        if self.odds.statement > 0 && self.rng.chance(self.odds.statement) {
            self.failed.statements += 1;
            if self.rng.chance(250) {
                self.end_transaction();
            }
            return Err(Fault::Io);
        }
        Ok(())
    }

    /// What a commit of this comes to, if it does not come to a good end.
    fn fate(&mut self, draft: &Draft) -> Option<Committed<Fault>> {
        let unknown = |disk: &mut Disk, fault| {
            disk.failed.unknown += 1;
            disk.poisoned = true;
            if !draft.tables.violated && disk.rng.chance(500) {
                disk.hidden = Some(draft.tables.clone());
            }
            Some(Committed::Unknown(fault))
        };
        if self.crashed || self.crash_in == Some(0) {
            self.crashed = true;
            return unknown(self, Fault::Crashed);
        }
        if draft.tables.violated {
            return Some(Committed::No(Fault::Constraint));
        }
        if self.full && self.rng.chance(500) {
            return Some(Committed::No(Fault::Full));
        }
        if self.rng.chance(self.odds.refused) {
            return Some(Committed::No(Fault::Io));
        }
        if self.rng.chance(self.odds.unknown) {
            return unknown(self, Fault::Io);
        }
        None
    }
}

impl Draft {
    fn of(image: &Tables) -> Draft {
        let (fresh, dropped) = Default::default();
        Draft { tables: image.clone(), fresh, dropped, counts: false }
    }
}

impl Database for Disk {
    type Error = Fault;

    fn begin(&mut self) -> Result<(), Fault> {
        self.transaction = None;
        if self.poisoned {
            return Err(Fault::Poisoned);
        }
        self.touch()?;
        self.transaction = Some(Transaction { draft: Draft::of(&self.image), savepoint: None });
        Ok(())
    }

    fn savepoint(&mut self) -> Result<(), Fault> {
        self.touch()?;
        let open = self.transaction.as_mut().ok_or(Fault::Outside)?;
        open.savepoint = Some(open.draft.clone());
        Ok(())
    }

    fn undo(&mut self) -> Result<(), Fault> {
        self.touch()?;
        let open = self.transaction.as_mut().ok_or(Fault::Outside)?;
        open.draft = open.savepoint.clone().ok_or(Fault::Outside)?;
        Ok(())
    }

    fn release(&mut self) -> Result<(), Fault> {
        self.touch()?;
        let open = self.transaction.as_mut().ok_or(Fault::Outside)?;
        open.savepoint.take().map(|_| ()).ok_or(Fault::Outside)
    }

    fn commit(&mut self) -> Committed<Fault> {
        let Some(mut open) = self.transaction.take() else {
            return Committed::No(Fault::Outside);
        };
        let tables = &mut open.draft.tables;
        if let Some(last) = self.counter.unstored() {
            tables.counter = last;
        }
        tables.commits += u64::from(open.draft.counts);
        match self.fate(&open.draft) {
            None => {
                self.counter.committed();
                self.image = open.draft.tables;
                self.fresh.append(&mut open.draft.fresh);
                self.dropped.append(&mut open.draft.dropped);
                Committed::Yes
            }
            Some(Committed::No(fault)) => {
                self.failed.refused += 1;
                // Some failures leave the transaction open, others do not.
                open.draft.tables.commits = self.image.commits;
                self.transaction = (fault == Fault::Constraint).then_some(open);
                Committed::No(fault)
            }
            Some(fate) => fate,
        }
    }

    fn roll_back(&mut self) -> Result<(), Fault> {
        self.touch()?;
        self.transaction.take().map(|_| ()).ok_or(Fault::Outside)
    }

    fn is_passing(error: &Self::Error) -> bool {
        matches!(error, Fault::Full)
    }

    fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
