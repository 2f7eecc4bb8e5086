//! What the servers' method does, inside the transaction of its call, and what works on a database tell their node.

use std::sync::{Arc, Mutex, PoisonError};

use super::disk::{Born, Disk, Effect, Fault};
use super::messages::{Reply, Way};
use super::plan::{METHOD, address};
use crate::error::FailureCode;
use crate::id::{CommitNumber, Seq, StoreId};
use crate::limits::Limits;
use crate::protocol::durable::batch::Failure;
use crate::protocol::durable::execute::{Execute, Handler, Ran};
use crate::protocol::durable::inbox::Verdict;
use crate::protocol::durable::journal::{self, Kept, Saving};
use crate::protocol::durable::rows::{InboxRows, Request, Saved, ServerRow};
use crate::wire::durable::Stamp;

/// What happened to works of a node, in order; the writer's callbacks put it in.
#[derive(Clone, Default)]
pub(super) struct Happened(Arc<Mutex<Vec<Event>>>);

/// What a work came to.
pub(super) type Came<T> = Result<T, Failure<Fault>>;

/// What somebody is told after a commit, or after its failure.
pub(super) enum Event {
    Say(Way, Reply),
    TryAgain(Box<Execute<Method>>, u32),
    Saved(usize, Came<Saving>),
    Adopted(Seq, ServerRow, Came<Vec<Seq>>),
    Settled(Seq, Came<()>),
    Cancelled(Seq, Came<Result<(), Kept>>),
    Recovered(Seq, Came<Option<Saved>>),
    Accepted(Arc<str>, Came<()>),
}

impl Happened {
    pub(super) fn add(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    pub(super) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How methods behave, of a thousand runs, and where they may enqueue calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manners {
    /// Own errors.
    pub(super) errors: u64,
    /// Everything worse.
    pub(super) odd: u64,
    pub(super) chains: u64,
    /// The first server that this one may call, of so many.
    pub(super) next: u64,
    pub(super) servers: u64,
}

/// One call that arrived.
pub(super) struct Method {
    pub(super) stamp: Stamp,
    pub(super) sender: StoreId,
    pub(super) way: Way,
    pub(super) manners: Manners,
    pub(super) limits: Arc<Limits>,
    pub(super) happened: Happened,
}

impl Method {
    /// Writes the effect, and perhaps a call to a further server.
    fn write(&self, db: &mut Disk, run: u64) -> Result<(), Fault> {
        let (stamp, manners) = (self.stamp, self.manners);
        let registration = db.registration(stamp.registration)?;
        let (client, epoch) =
            registration.map_or((self.sender, stamp.epoch), |row| (row.client, row.epoch));
        let enqueued = if manners.next < manners.servers && db.rng.chance(manners.chains) {
            Some(self.enqueue(db, run)?)
        } else {
            None
        };
        let (commits, sender) = (db.commits(), self.sender);
        let effect = Effect { run, stamp, sender, client, epoch, commits, enqueued };
        db.write(|draft| Arc::make_mut(&mut draft.tables.effects).push(effect))
    }

    fn enqueue(&self, db: &mut Disk, run: u64) -> Result<u64, Fault> {
        let peer = db.rng.between(self.manners.next, self.manners.servers - 1);
        let nonce = db.rng.next();
        let parent = Some((self.stamp.registration, self.stamp.seq));
        let request = request(address(peer), nonce, vec![0], None, parent);
        db.born.push(Born { nonce, run, peer });
        match journal::save(db, &request, &self.limits)? {
            Saving::New { .. } => Ok(nonce),
            _ => Err(Fault::Journal),
        }
    }
}

/// A call to the method of the server at an address.
pub(super) fn request(
    peer: Arc<str>,
    nonce: u64,
    arguments: Vec<u8>,
    key: Option<Box<str>>,
    parent: Option<(crate::id::RegistrationId, Seq)>,
) -> Request {
    let wanted = parent.is_none();
    let object: Arc<str> = "object".into();
    let (interface, method_name) = (object.clone(), object.clone());
    Request {
        peer,
        object,
        interface,
        method: METHOD,
        method_name,
        arguments,
        nonce,
        key,
        parent,
        wanted,
    }
}

impl Handler<Disk> for Method {
    fn run(&mut self, db: &mut Disk) -> Ran {
        let run = db.rng.next();
        let body = run.to_be_bytes().to_vec();
        let odd = db.rng.chance(self.manners.odd);
        let failed = |code, text: &str| Ran::Failed { code, text: text.into() };
        if odd && db.rng.chance(150) {
            return failed(FailureCode::Panicked, "before it wrote");
        }
        if let Err(fault) = self.write(db, run) {
            let swallowed = !db.is_open() && db.rng.chance(500);
            let text = fault.to_string();
            return if swallowed { Ran::Ok(body) } else { failed(FailureCode::RolledBack, &text) };
        }
        if odd {
            return match db.rng.below(5) {
                0 => failed(FailureCode::Panicked, "after it wrote"),
                1 => Ran::Refused { code: FailureCode::ReplyTooLarge, text: "too large".into() },
                2 => {
                    db.end_transaction();
                    Ran::Ok(body)
                }
                3 => {
                    db.end_transaction();
                    failed(FailureCode::RolledBack, "ended by a statement")
                }
                // A deferred constraint.
                _ => match db.write(|draft| draft.tables.violated = true) {
                    Ok(()) => Ran::Ok(body),
                    Err(fault) => failed(FailureCode::RolledBack, &fault.to_string()),
                },
            };
        }
        if db.rng.chance(self.manners.errors) { Ran::MethodError(body) } else { Ran::Ok(body) }
    }

    fn say(self, verdict: Verdict, commits: CommitNumber) {
        let mut word = Vec::new();
        verdict.word(commits).put(&mut word);
        self.happened.add(Event::Say(self.way, Reply::Word(word)));
    }

    fn try_again(execute: Execute<Method>, failures: u32) {
        let happened = execute.handler().happened.clone();
        happened.add(Event::TryAgain(Box::new(execute), failures));
    }
}
