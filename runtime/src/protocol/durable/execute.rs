//! One exactly-once call on the server: its handler runs inside the transaction that records its answer.

use std::sync::Arc;

use super::batch::{Failure, Work};
use super::inbox::{self, Admission, Verdict};
use super::rows::{AnswerRow, Database, Digest, InboxRows};
use crate::error::FailureCode;
use crate::id::CommitNumber;
use crate::limits::Limits;
use crate::wire::durable::{Answer, Stamp};

/// The method of a call, and the way back to its caller.
pub(crate) trait Handler<D: Database>: Sized + Send {
    /// Runs the method to its end, in the open transaction.
    fn run(&mut self, db: &mut D) -> Ran;

    /// Tells the caller. `commits` is the number of the commit that this is told after.
    fn say(self, verdict: Verdict, commits: CommitNumber);

    /// Hands the call in again, after a while that grows with the number of its failures.
    fn try_again(execute: Execute<Self>, failures: u32);
}

/// How a handler ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ran {
    /// It returned a result; what it wrote stays.
    Ok(Vec<u8>),
    /// It returned its own error: what it wrote is undone, and the error is the answer.
    MethodError(Vec<u8>),
    /// It cannot end well, however often it is tried: what it wrote is undone, and it is fenced.
    Refused { code: FailureCode, text: String },
    /// It panicked, took too long, or the database failed: what it wrote is undone, and it is tried again some times
    /// before it is fenced.
    Failed { code: FailureCode, text: String },
}

/// The call as a piece of work.
pub(crate) struct Execute<H> {
    stamp: Stamp,
    digest: Digest,
    limits: Arc<Limits>,
    handler: H,
    /// How often it failed before, and how it did the last time.
    failures: u32,
    failure: Option<(FailureCode, String)>,
    /// What this run decided.
    decided: Option<Decided>,
}

enum Decided {
    Say(Verdict),
    TryAgain(FailureCode, String),
    /// A planted bug: the effect is committed, the answer is to follow.
    #[cfg(farcall_canary)]
    AnswerLater(AnswerRow),
}

impl<H> Execute<H> {
    /// A call with this stamp, of arguments with this digest.
    pub(crate) fn new(stamp: Stamp, digest: Digest, limits: Arc<Limits>, handler: H) -> Execute<H> {
        let (failures, failure, decided) = (0, None, None);
        Execute { stamp, digest, limits, handler, failures, failure, decided }
    }

    /// What it runs.
    pub(crate) fn handler(&self) -> &H {
        &self.handler
    }

    fn decide<D: InboxRows>(&mut self, db: &mut D) -> Result<Decided, D::Error>
    where
        H: Handler<D>,
    {
        #[cfg(farcall_canary)]
        if let Some(Decided::AnswerLater(row)) = self.decided.take() {
            db.put_answer(self.stamp.registration, self.stamp.seq, &row)?;
            return Ok(Decided::Say(Verdict::Answer(row)));
        }
        match inbox::admit(db, &self.stamp, &self.digest, &self.limits)? {
            Admission::Say(verdict) => return Ok(Decided::Say(verdict)),
            Admission::Run => {}
        }
        if self.failures >= self.limits.handler_attempts
            && let Some((code, text)) = self.failure.clone()
        {
            return self.record(db, Answer::Never(code), text.into_bytes());
        }
        let ran = self.handler.run(db);
        if !db.in_transaction() && !cfg_canary!("ended_transactions_are_not_noticed") {
            // One of its statements ended the transaction, whatever it says now: an answer would be written outside of
            // one. There is no savepoint any more, and that is the error.
            db.undo()?;
        }
        match ran {
            Ran::Ok(body) => self.record(db, Answer::Ok, body),
            Ran::MethodError(body) => {
                if !cfg_canary!("own_errors_keep_their_effects") {
                    db.undo()?;
                }
                self.record(db, Answer::MethodError, body)
            }
            Ran::Refused { code, text } => {
                db.undo()?;
                self.record(db, Answer::Never(code), text.into_bytes())
            }
            Ran::Failed { code, text } if self.failures + 1 >= self.limits.handler_attempts => {
                db.undo()?;
                self.record(db, Answer::Never(code), text.into_bytes())
            }
            Ran::Failed { code, text } => {
                db.undo()?;
                Ok(Decided::TryAgain(code, text))
            }
        }
    }

    fn record<D: InboxRows>(
        &self,
        db: &mut D,
        answer: Answer,
        body: Vec<u8>,
    ) -> Result<Decided, D::Error> {
        let row = AnswerRow { digest: Some(self.digest), answer, body };
        #[cfg(farcall_canary)]
        if cfg_canary!("answers_have_a_transaction_of_their_own") {
            return Ok(Decided::AnswerLater(row));
        }
        db.put_answer(self.stamp.registration, self.stamp.seq, &row)?;
        Ok(Decided::Say(Verdict::Answer(row)))
    }
}

impl<D: InboxRows, H: Handler<D>> Work<D> for Execute<H> {
    fn run(&mut self, db: &mut D) -> Result<(), D::Error> {
        let decided = self.decide(db);
        if let Err(error) = &decided {
            self.failure = Some((FailureCode::RolledBack, error.to_string()));
        }
        self.decided = Some(decided?);
        Ok(())
    }

    fn committed(mut self: Box<Self>, db: &D) {
        match self.decided.take() {
            Some(Decided::Say(verdict)) => self.handler.say(verdict, db.commits()),
            Some(Decided::TryAgain(code, text)) => (*self).try_again(code, text),
            #[cfg(farcall_canary)]
            Some(Decided::AnswerLater(row)) => {
                self.decided = Some(Decided::AnswerLater(row));
                let failures = self.failures;
                H::try_again(*self, failures);
            }
            None => {}
        }
    }

    fn failed(self: Box<Self>, failure: Failure<D::Error>) {
        let ran = self.decided.is_some() || self.failure.is_some();
        match failure {
            // It is not its handler's fault: the call is not fenced for it.
            Failure::NotCommitted(error) if ran && D::is_passing(&error) => {
                let failures = self.failures.max(1);
                H::try_again(*self, failures);
            }
            // Its own writes may be what cannot be committed; if it was to be fenced, nothing more can be done here.
            Failure::NotCommitted(error) if ran && self.failures < self.limits.handler_attempts => {
                (*self).try_again(FailureCode::RolledBack, error.to_string());
            }
            Failure::NotCommitted(error) | Failure::Unknown(error) => {
                let text = format!("the server's store failed: {error}").into();
                self.handler.say(Verdict::Again(text), 0);
            }
        }
    }
}

impl<H> Execute<H> {
    fn try_again<D: InboxRows>(mut self, code: FailureCode, text: String)
    where
        H: Handler<D>,
    {
        self.failures += 1;
        self.failure = Some((code, text));
        let failures = self.failures;
        H::try_again(self, failures);
    }
}
