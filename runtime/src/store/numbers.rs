//! What is counted in memory, since counting rows at each call would be slow.
//!
//! Everything here goes back with the transaction or the savepoint in which it changed, but for the numbers of calls:
//! a number that was shown to anybody is never given again.

use std::collections::HashMap;

use crate::id::{CommitNumber, Epoch, RegistrationId, Seq};
use crate::protocol::durable::rows::{Counter, Usage};

/// The counts.
pub(super) struct Numbers {
    seqs: Counter,
    now: Counts,
    at_begin: Counts,
    at_savepoint: Counts,
    /// Of the registrations that were asked for.
    answers: HashMap<RegistrationId, Answers>,
    /// What `answers` held before each change of this transaction, and how many changes are before the savepoint.
    before: Vec<(RegistrationId, Option<Answers>)>,
    savepoint: usize,
}

/// What has a row of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MetaRow {
    pub(super) seq: Seq,
    pub(super) registration: RegistrationId,
    pub(super) commits: CommitNumber,
}

/// The answers of one registration: how many, and the highest number.
pub(super) type Answers = (usize, Seq);

#[derive(Debug, Clone, Copy)]
struct Counts {
    /// Nothing before somebody asks.
    usage: Option<Usage>,
    registration: RegistrationId,
    commits: CommitNumber,
    /// Rows about calls have changed.
    touched: bool,
}

impl Numbers {
    /// The counts of a database that was opened with this row.
    pub(super) fn open(epoch: Epoch, row: MetaRow) -> Numbers {
        let MetaRow { seq, registration, commits } = row;
        let now = Counts { usage: None, registration, commits, touched: false };
        Numbers {
            seqs: Counter::open(epoch, seq),
            now,
            at_begin: now,
            at_savepoint: now,
            answers: HashMap::new(),
            before: Vec::new(),
            savepoint: 0,
        }
    }

    pub(super) fn begin(&mut self) {
        self.at_begin = self.now;
        self.before.clear();
        self.savepoint();
    }

    pub(super) fn savepoint(&mut self) {
        self.at_savepoint = self.now;
        self.savepoint = self.before.len();
    }

    pub(super) fn undo(&mut self) {
        self.now = self.at_savepoint;
        self.go_back(self.savepoint);
    }

    pub(super) fn roll_back(&mut self) {
        self.now = self.at_begin;
        self.go_back(0);
        self.begin();
    }

    /// The row that is to be written before the commit, if it has changed.
    pub(super) fn unwritten(&self) -> Option<MetaRow> {
        let Counts { registration, commits, touched, .. } = self.now;
        let changed = touched || self.seqs.unstored().is_some();
        let commits = commits + u64::from(touched);
        changed.then_some(MetaRow { seq: self.seqs.last(), registration, commits })
    }

    pub(super) fn committed(&mut self) {
        self.seqs.committed();
        self.now.commits += u64::from(self.now.touched);
        self.now.touched = false;
        self.begin();
    }

    /// Rows about calls change in this transaction.
    pub(super) fn touch(&mut self) {
        self.now.touched = true;
    }

    pub(super) fn take_seq(&mut self) -> Seq {
        self.seqs.take()
    }

    pub(super) fn last_seq(&self) -> Seq {
        self.seqs.last()
    }

    pub(super) fn commits(&self) -> CommitNumber {
        self.now.commits
    }

    pub(super) fn next_registration(&self) -> RegistrationId {
        self.now.registration
    }

    /// A registration has this number.
    pub(super) fn registered(&mut self, id: RegistrationId) {
        self.now.registration = self.now.registration.max(RegistrationId(id.0 + 1));
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        self.now.usage
    }

    pub(super) fn set_usage(&mut self, usage: Usage) {
        self.now.usage = Some(usage);
    }

    /// A row of the journal came, and so many bytes.
    pub(super) fn row_added(&mut self, bytes: usize) {
        if let Some(usage) = &mut self.now.usage {
            usage.rows += 1;
            usage.bytes += bytes;
        }
    }

    /// A row of the journal left, and so many bytes.
    pub(super) fn row_removed(&mut self, bytes: usize) {
        if let Some(usage) = &mut self.now.usage {
            usage.rows -= 1;
            usage.bytes -= bytes;
        }
    }

    /// A row of the journal has so many bytes more, in place of others.
    pub(super) fn row_changed(&mut self, before: usize, after: usize) {
        if let Some(usage) = &mut self.now.usage {
            usage.bytes = usage.bytes + after - before;
        }
    }

    pub(super) fn answers(&self, registration: RegistrationId) -> Option<Answers> {
        self.answers.get(&registration).copied()
    }

    /// `None` says that they are to be counted when somebody asks.
    pub(super) fn set_answers(&mut self, registration: RegistrationId, answers: Option<Answers>) {
        let before = match answers {
            Some(answers) => self.answers.insert(registration, answers),
            None => self.answers.remove(&registration),
        };
        self.before.push((registration, before));
    }

    fn go_back(&mut self, changes: usize) {
        for (registration, before) in self.before.drain(changes..).rev() {
            match before {
                Some(answers) => self.answers.insert(registration, answers),
                None => self.answers.remove(&registration),
            };
        }
    }
}
