//! Many pieces of work in one transaction: one commit, and nobody is told before it.
//!
//! Each piece has a savepoint of its own, so that what one does wrong harms no other. If the transaction as a whole
//! cannot be committed, or one piece ended it, the others are run again. If nobody knows whether it was committed, the
//! database is poisoned: nothing of it may be believed until it is opened again.

use std::collections::VecDeque;

use super::rows::{Committed, Database};

/// A piece of work on a database.
pub(crate) trait Work<D: Database>: Send {
    /// Does it, inside the transaction of its batch. May be called again, if the batch had to be rolled back: then
    /// nothing of the time before is in the database.
    ///
    /// # Errors
    /// What it did is undone, and [`failed`](Work::failed) is called.
    fn run(&mut self, db: &mut D) -> Result<(), D::Error>;

    /// The batch is on stable storage: now somebody may be told.
    fn committed(self: Box<Self>, db: &D);

    /// Nothing of it is in the database, or nobody knows.
    fn failed(self: Box<Self>, failure: Failure<D::Error>);
}

/// Why a piece of work came to nothing.
#[derive(Debug, Clone)]
pub(crate) enum Failure<E> {
    /// Nothing of it is in the database, nor ever will be.
    NotCommitted(E),
    /// It may be in the database, and may show when that is opened again.
    Unknown(E),
}

/// Whether the database can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Open,
    Poisoned,
}

/// Work whose outcome is a value, which is told to `done`.
pub(crate) struct Task<Run, Done, T> {
    run: Run,
    done: Done,
    value: Option<T>,
}

impl<Run, Done, T> Task<Run, Done, T> {
    /// Work that `run` does and `done` is told of.
    pub(crate) fn new(run: Run, done: Done) -> Task<Run, Done, T> {
        Task { run, done, value: None }
    }
}

impl<D, Run, Done, T> Work<D> for Task<Run, Done, T>
where
    D: Database,
    Run: FnMut(&mut D) -> Result<T, D::Error> + Send,
    Done: FnOnce(Result<T, Failure<D::Error>>) + Send,
    T: Send,
{
    fn run(&mut self, db: &mut D) -> Result<(), D::Error> {
        self.value = Some((self.run)(db)?);
        Ok(())
    }

    fn committed(self: Box<Self>, _db: &D) {
        if let Some(value) = self.value {
            (self.done)(Ok(value));
        }
    }

    fn failed(self: Box<Self>, failure: Failure<D::Error>) {
        (self.done)(Err(failure));
    }
}

/// Runs work from the front of a queue in one transaction, as long as `may_start` allows it for so many before, and
/// tells what came of it.
pub(crate) fn run<D: Database>(
    db: &mut D,
    queue: &mut VecDeque<Box<dyn Work<D>>>,
    mut may_start: impl FnMut(usize) -> bool,
) -> After {
    let mut source = Source::Queue(queue, &mut may_start);
    // Each round either commits, or gives up at least one piece, or splits a batch for good.
    loop {
        match run_once(db, &mut source) {
            Round::Over => return After::Open,
            Round::Again(works) => source = Source::List(works.into()),
            Round::Alone(works) => return run_alone(db, works),
            Round::Poisoned(_) => return After::Poisoned,
        }
    }
}

/// What one transaction came to.
enum Round<D: Database> {
    Over,
    /// One piece ended the transaction; the others are to be run again.
    Again(Vec<Box<dyn Work<D>>>),
    /// The transaction cannot be committed, because of some of these.
    Alone(Vec<Box<dyn Work<D>>>),
    Poisoned(D::Error),
}

/// Where the next piece of work comes from.
enum Source<'a, D: Database> {
    Queue(&'a mut VecDeque<Box<dyn Work<D>>>, &'a mut dyn FnMut(usize) -> bool),
    List(VecDeque<Box<dyn Work<D>>>),
}

impl<D: Database> Source<'_, D> {
    fn next(&mut self, started: usize) -> Option<Box<dyn Work<D>>> {
        match self {
            Source::Queue(queue, may_start) => {
                if may_start(started) {
                    queue.pop_front()
                } else {
                    None
                }
            }
            Source::List(works) => works.pop_front(),
        }
    }

    /// What a list still has; what a queue has stays there.
    fn rest(&mut self) -> VecDeque<Box<dyn Work<D>>> {
        match self {
            Source::Queue(..) => VecDeque::new(),
            Source::List(works) => std::mem::take(works),
        }
    }
}

/// Each piece in a transaction of its own.
fn run_alone<D: Database>(db: &mut D, works: Vec<Box<dyn Work<D>>>) -> After {
    let mut works = VecDeque::from(works);
    while let Some(work) = works.pop_front() {
        let mut alone = Source::List(VecDeque::from([work]));
        if let Round::Poisoned(error) = run_once(db, &mut alone) {
            // Of these nothing was ever committed.
            fail_all(works, &Failure::NotCommitted(error));
            return After::Poisoned;
        }
    }
    After::Open
}

fn run_once<D: Database>(db: &mut D, source: &mut Source<'_, D>) -> Round<D> {
    let Some(mut work) = source.next(0) else { return Round::Over };
    if let Err(error) = db.begin() {
        work.failed(Failure::NotCommitted(error.clone()));
        fail_all(source.rest(), &Failure::NotCommitted(error));
        return Round::Over;
    }
    let mut done = Vec::new();
    loop {
        match run_one(db, &mut *work) {
            One::Done => done.push(work),
            One::Undone(error) => work.failed(Failure::NotCommitted(error)),
            One::Ended(error) => {
                // It took the work of the others with it, and whatever it did itself.
                work.failed(Failure::NotCommitted(error));
                done.extend(source.rest());
                return Round::Again(done);
            }
            One::Broken(error) => {
                done.push(work);
                done.extend(source.rest());
                return abandon(db, done, error);
            }
        }
        match source.next(done.len()) {
            Some(next) => work = next,
            None => break,
        }
    }
    if cfg_canary!("answers_are_told_before_the_commit") {
        done.drain(..).for_each(|work| work.committed(db));
    }
    match db.commit() {
        Committed::Yes => {
            for work in done {
                work.committed(db);
            }
            Round::Over
        }
        Committed::No(error) if done.len() > 1 => match take_back(db) {
            Ok(()) => Round::Alone(done),
            Err(_) => poison(done, error),
        },
        Committed::No(error) => abandon(db, done, error),
        Committed::Unknown(error) if cfg_canary!("unknown_commits_count_as_none") => {
            abandon(db, done, error)
        }
        Committed::Unknown(error) => poison(done, error),
    }
}

/// What one piece of work came to, in its savepoint.
enum One<E> {
    Done,
    Undone(E),
    /// The transaction is over, and was taken back.
    Ended(E),
    /// The database does not do what it is told.
    Broken(E),
}

fn run_one<D: Database>(db: &mut D, work: &mut dyn Work<D>) -> One<D::Error> {
    if let Err(error) = db.savepoint() {
        return One::Broken(error);
    }
    let result = work.run(db);
    match result {
        _ if !db.in_transaction() => match result {
            Err(error) => One::Ended(error),
            // Whoever ends a transaction is told so by the statement that did.
            Ok(()) => match db.release() {
                Err(error) => One::Ended(error),
                Ok(()) => One::Done,
            },
        },
        Ok(()) => match db.release() {
            Ok(()) => One::Done,
            Err(error) => One::Broken(error),
        },
        Err(error) => match db.undo().and_then(|()| db.release()) {
            Ok(()) => One::Undone(error),
            Err(error) => One::Broken(error),
        },
    }
}

/// Takes the transaction back, and says so.
fn abandon<D: Database>(db: &mut D, works: Vec<Box<dyn Work<D>>>, error: D::Error) -> Round<D> {
    if let Err(error) = take_back(db) {
        return poison(works, error);
    }
    fail_all(works, &Failure::NotCommitted(error));
    Round::Over
}

/// Rolls back, unless the database has done that by itself.
fn take_back<D: Database>(db: &mut D) -> Result<(), D::Error> {
    if db.in_transaction() { db.roll_back() } else { Ok(()) }
}

fn poison<D: Database>(works: Vec<Box<dyn Work<D>>>, error: D::Error) -> Round<D> {
    fail_all(works, &Failure::Unknown(error.clone()));
    Round::Poisoned(error)
}

fn fail_all<D: Database>(
    works: impl IntoIterator<Item = Box<dyn Work<D>>>,
    failure: &Failure<D::Error>,
) {
    for work in works {
        work.failed(failure.clone());
    }
}
