//! The server's decisions about exactly-once calls, each inside one transaction.
//!
//! Answers one question: may this call run now? A call runs only under a registration that this store made and still
//! holds, of the newest opening of the client's journal, and only if no row answers it and it is not known to be finished.

use serde::{Deserialize, Serialize};

use super::rows::{AnswerRow, Digest, InboxRows, RegistrationRow};
use crate::error::FailureCode;
use crate::id::{CommitNumber, Epoch, RegistrationId, Seq, StoreId};
use crate::limits::Limits;
use crate::protocol::finished::Finished;
use crate::wire::durable::{Answer, Stamp, Word};

/// What a client says when it registers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Register {
    /// The store in which it keeps its journal.
    pub(crate) client: u128,
    /// Its opening of the journal, and what that opening drew at random.
    pub(crate) epoch: u32,
    pub(crate) opening: u128,
    /// The store and the registration that it had at this address, and the highest commit number that it was told.
    pub(crate) known: Option<(u128, u64, CommitNumber)>,
}

/// A registration, as its client hears of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registered {
    pub(crate) store: u128,
    pub(crate) registration: u64,
    /// The highest call of this client that has, or had, an answer.
    pub(crate) max: Seq,
    pub(crate) commits: CommitNumber,
}

/// Why a client is not registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NotRegistered {
    /// Its journal was opened again since, or a copy of it was.
    Fenced,
    /// The registration that it knows was dropped.
    Expired,
    /// The store is older than what it has told the client.
    WentBack,
    /// The client knows another store at this address.
    OtherStore { store: u128 },
    /// As many clients are registered as the limits allow, or the words make no sense.
    Refused { text: String },
}

/// What is to be done about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Run it, and record what it returns, in this transaction.
    Run,
    /// Say this, once the transaction is committed.
    Say(Verdict),
}

/// What is said of a call that does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Answer(AnswerRow),
    Again(Box<str>),
    Stale,
    Fenced,
    Expired,
    WentBack,
    OtherStore(StoreId),
    Different,
}

impl Verdict {
    /// As the client hears it, after the commit of this number.
    pub(crate) fn word(&self, commit: CommitNumber) -> Word<'_> {
        match self {
            Verdict::Answer(row) => Word::Answer { commit, answer: row.answer, body: &row.body },
            Verdict::Again(text) => Word::Again { text },
            Verdict::Stale => Word::Stale,
            Verdict::Fenced => Word::Fenced,
            Verdict::Expired => Word::Expired,
            Verdict::WentBack => Word::WentBack,
            Verdict::OtherStore(store) => Word::OtherStore { store: *store },
            Verdict::Different => Word::Different,
        }
    }
}

/// Registers a client, or finds the registration that it has.
pub(crate) fn register<D: InboxRows>(
    db: &mut D,
    wanted: &Register,
    limits: &Limits,
) -> Result<Result<Registered, NotRegistered>, D::Error> {
    let anew = cfg_canary!("registrations_are_given_anew");
    let client = StoreId(uuid::Uuid::from_u128(wanted.client));
    if wanted.epoch == 0 || wanted.epoch > Epoch::LAST.0 {
        return Ok(Err(NotRegistered::Refused { text: "an epoch out of range".into() }));
    }
    let found = db.registration_of(client)?;
    if let Some((store, registration, seen)) = wanted.known
        && !anew
    {
        if store != db.store().0.as_u128() {
            return Ok(Err(NotRegistered::OtherStore { store: db.store().0.as_u128() }));
        }
        if registration >= db.next_registration()?.0 || seen > db.commits() {
            return Ok(Err(NotRegistered::WentBack));
        }
        if found.as_ref().is_none_or(|row| row.id.0 != registration) {
            return Ok(Err(NotRegistered::Expired));
        }
    }
    let epoch = Epoch(wanted.epoch);
    let row = match found {
        Some(row) if epoch < row.epoch || (epoch == row.epoch && wanted.opening != row.opening) => {
            return Ok(Err(NotRegistered::Fenced));
        }
        Some(row) if epoch == row.epoch => row,
        Some(row) => {
            let row = RegistrationRow { epoch, opening: wanted.opening, ..row };
            db.put_registration(&row)?;
            row
        }
        None if db.registrations()? >= limits.registrations => {
            let text = "as many clients are registered as `Limits::registrations` allows".into();
            return Ok(Err(NotRegistered::Refused { text }));
        }
        None => {
            let (id, opening) = (db.next_registration()?, wanted.opening);
            let finished = Finished::default();
            let row = RegistrationRow { id, client, epoch, opening, finished, max: 0 };
            db.put_registration(&row)?;
            row
        }
    };
    let max = row.max.max(db.answers(row.id)?.1);
    let store = db.store().0.as_u128();
    Ok(Ok(Registered { store, registration: row.id.0, max, commits: db.commits() }))
}

/// Decides about a call before anything of it runs.
pub(crate) fn admit<D: InboxRows>(
    db: &mut D,
    stamp: &Stamp,
    digest: &Digest,
    limits: &Limits,
) -> Result<Admission, D::Error> {
    let mut row = match known(db, stamp)? {
        Ok(row) => row,
        Err(verdict) => return Ok(Admission::Say(verdict)),
    };
    let (mut answers, _) = db.answers(row.id)?;
    if stamp.floor > row.finished.floor() && answers >= FORGOTTEN_AT_ONCE.min(limits.inbox_rows) {
        row = finish(db, row, stamp.floor, &[])?;
        answers = db.answers(row.id)?.0;
    }
    if row.finished.contains(stamp.seq) {
        return Ok(Admission::Say(Verdict::Stale));
    }
    if cfg_canary!("answers_are_kept_for_a_while") && stamp.seq > KEPT_BY_A_CANARY {
        db.drop_answers(row.id, 0, stamp.seq - KEPT_BY_A_CANARY)?;
    }
    if let Some(answer) = db.answer(row.id, stamp.seq)? {
        let same = answer.digest.is_none_or(|answered| answered == *digest)
            || cfg_canary!("requests_are_not_compared");
        return Ok(Admission::Say(if same { Verdict::Answer(answer) } else { Verdict::Different }));
    }
    // The client's lowest unfinished calls are taken in beyond: what it tells waits for them, and all others for that.
    let lowest = stamp.seq <= stamp.floor.max(row.finished.end())
        && !cfg_canary!("a_full_inbox_refuses_every_call");
    if answers >= limits.inbox_rows && !lowest {
        let text = "too many answers are not acknowledged: raise `Limits::inbox_rows`".into();
        return Ok(Admission::Say(Verdict::Again(text)));
    }
    Ok(Admission::Run)
}

/// Makes sure that a call never runs, unless it has run: then its answer is said. The digest is that of the request, so
/// that a copy of a journal is not told what became of another call under the same number.
pub(crate) fn fence<D: InboxRows>(
    db: &mut D,
    stamp: &Stamp,
    digest: &Digest,
    code: FailureCode,
    text: &str,
    limits: &Limits,
) -> Result<Verdict, D::Error> {
    match admit(db, stamp, digest, limits)? {
        Admission::Say(verdict) => Ok(verdict),
        Admission::Run => {
            let (answer, body) = (Answer::Never(code), text.as_bytes().to_vec());
            let row = AnswerRow { digest: Some(*digest), answer, body };
            if !cfg_canary!("fences_are_not_recorded") {
                db.put_answer(stamp.registration, stamp.seq, &row)?;
            }
            Ok(Verdict::Answer(row))
        }
    }
}

/// Forgets what the client says is finished, below the stamp's floor and in these ranges above it; returns what is wrong
/// with the stamp, if something is.
pub(crate) fn forget<D: InboxRows>(
    db: &mut D,
    stamp: &Stamp,
    above: &[(Seq, Seq)],
) -> Result<Option<Verdict>, D::Error> {
    match known(db, stamp)? {
        Err(verdict) => Ok(Some(verdict)),
        Ok(row) => {
            finish(db, row, stamp.floor, above)?;
            Ok(None)
        }
    }
}

/// The registration of a stamp, if it is one under which calls may run here.
fn known<D: InboxRows>(
    db: &mut D,
    stamp: &Stamp,
) -> Result<Result<RegistrationRow, Verdict>, D::Error> {
    if stamp.store != db.store() && !cfg_canary!("stores_are_not_compared") {
        return Ok(Err(Verdict::OtherStore(db.store())));
    }
    let row = db.registration(stamp.registration)?;
    if stamp.seen > db.commits() && !cfg_canary!("old_copies_are_believed") {
        return Ok(Err(Verdict::WentBack));
    }
    let Some(row) = row else {
        let next: RegistrationId = db.next_registration()?;
        let expired = stamp.registration < next;
        return Ok(Err(if expired { Verdict::Expired } else { Verdict::WentBack }));
    };
    if !cfg_canary!("epochs_are_ignored") {
        if stamp.epoch < row.epoch {
            return Ok(Err(Verdict::Fenced));
        }
        // A client registers each opening before it sends anything: this store has forgotten that.
        if stamp.epoch > row.epoch {
            return Ok(Err(Verdict::WentBack));
        }
    }
    Ok(Ok(row))
}

/// Notes which calls are finished, and drops their answers. In one transaction: calls whose answers were gone without that
/// would run again.
fn finish<D: InboxRows>(
    db: &mut D,
    row: RegistrationRow,
    floor: Seq,
    above: &[(Seq, Seq)],
) -> Result<RegistrationRow, D::Error> {
    let mut finished = row.finished.clone();
    finished.raise(floor);
    finished.insert_ranges(above);
    // No honest client makes that many: what it tells later has the gaps of before, or fewer of them.
    if !finished.take_grown() || finished.gaps() > MOST_RANGES {
        return Ok(row);
    }
    let mut max = row.max;
    let all = [(0, finished.floor())].into_iter().chain(finished.ranges());
    for (start, end) in all.filter(|(start, end)| !row.finished.covers(*start, *end)) {
        max = max.max(db.drop_answers(row.id, start, end)?.unwrap_or(0));
    }
    if cfg_canary!("answers_leave_before_the_floor_is_stored") {
        return Ok(row);
    }
    let finished = if cfg_canary!("only_floors_are_stored") {
        Finished::of(finished.floor(), &[])
    } else {
        finished
    };
    let row = RegistrationRow { finished, max, ..row };
    db.put_registration(&row)?;
    Ok(row)
}

/// A call raises the stored floor only when so many answers have piled up: it is cheaper for many at once.
const FORGOTTEN_AT_ONCE: usize = 64;
/// How many ranges of finished calls a client tells, and a server keeps of it: each ends at a call that the client has not
/// bound to a store yet.
pub(crate) const MOST_RANGES: usize = 1_024;
/// Numbers that a planted bug remembers, as others remember minutes.
const KEPT_BY_A_CANARY: Seq = 4;
