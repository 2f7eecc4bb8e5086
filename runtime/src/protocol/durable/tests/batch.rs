//! What a batch does with works that fail, that end the transaction, and with commits that do not come to a good end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::super::batch::{After, Failure, Task, Work, run};
use super::super::rows::{Committed, Database};

type Fault = &'static str;

/// A database of numbers, whose commits go as the test says.
#[derive(Default)]
struct Numbers {
    durable: Vec<u32>,
    open: Option<Vec<u32>>,
    savepoint: Option<Vec<u32>>,
    /// What the next commits come to; all further ones succeed.
    fates: VecDeque<Committed<Fault>>,
    /// A commit that fails also ends the transaction.
    ends: bool,
    commits: u32,
}

impl Numbers {
    fn add(&mut self, number: u32) -> Result<(), Fault> {
        self.open.as_mut().ok_or("no transaction")?.push(number);
        Ok(())
    }
}

impl Database for Numbers {
    type Error = Fault;

    fn begin(&mut self) -> Result<(), Fault> {
        assert!(self.open.is_none(), "a transaction in a transaction");
        self.open = Some(self.durable.clone());
        Ok(())
    }

    fn savepoint(&mut self) -> Result<(), Fault> {
        self.savepoint = Some(self.open.clone().ok_or("no transaction")?);
        Ok(())
    }

    fn undo(&mut self) -> Result<(), Fault> {
        let saved = self.savepoint.clone().ok_or("no savepoint")?;
        *self.open.as_mut().ok_or("no transaction")? = saved;
        Ok(())
    }

    fn release(&mut self) -> Result<(), Fault> {
        self.open.as_ref().ok_or("no transaction")?;
        self.savepoint.take().map(drop).ok_or("no savepoint")
    }

    fn commit(&mut self) -> Committed<Fault> {
        self.commits += 1;
        let fate = self.fates.pop_front().unwrap_or(Committed::Yes);
        match fate {
            Committed::Yes => self.durable = self.open.take().expect("a transaction"),
            _ if self.ends => self.open = None,
            _ => {}
        }
        fate
    }

    fn roll_back(&mut self) -> Result<(), Fault> {
        self.open.take().map(drop).ok_or("no transaction")
    }

    fn is_passing(_error: &Self::Error) -> bool {
        false
    }

    fn in_transaction(&self) -> bool {
        self.open.is_some()
    }
}

/// What was told of each work, in order: its number, and what came of it.
type Told = Arc<Mutex<Vec<(u32, &'static str)>>>;

/// A work that adds a number, then does `and`.
fn work(
    number: u32,
    told: &Told,
    mut and: impl FnMut(&mut Numbers) -> Result<(), Fault> + Send + 'static,
) -> Box<dyn Work<Numbers>> {
    let told = told.clone();
    let run = move |db: &mut Numbers| {
        db.add(number)?;
        and(db)
    };
    Box::new(Task::new(run, move |came: Result<(), Failure<Fault>>| {
        let text = match came {
            Ok(()) => "committed",
            Err(Failure::NotCommitted(_)) => "not committed",
            Err(Failure::Unknown(_)) => "unknown",
        };
        told.lock().expect("no test panics with it").push((number, text));
    }))
}

fn good(number: u32, told: &Told) -> Box<dyn Work<Numbers>> {
    work(number, told, |_| Ok(()))
}

fn all(told: &Told) -> Vec<(u32, &'static str)> {
    told.lock().expect("no test panics with it").clone()
}

/// As INSERT OR ROLLBACK does; says what came of it or hides it.
fn end(db: &mut Numbers, hidden: bool) -> Result<(), Fault> {
    db.open = None;
    if hidden { Ok(()) } else { Err("ended") }
}

#[test]
fn a_batch_has_one_commit_and_takes_as_much_as_it_may() {
    let (mut db, told) = (Numbers::default(), Told::default());
    let mut queue = (1..6).map(|number| good(number, &told)).collect();
    assert_eq!(run(&mut db, &mut queue, |started| started < 3), After::Open);
    assert_eq!((db.commits, queue.len(), &*db.durable), (1, 2, &[1, 2, 3][..]));
    assert_eq!(all(&told), [(1, "committed"), (2, "committed"), (3, "committed")]);
}

#[test]
fn a_work_that_fails_harms_no_other_of_its_batch() {
    let (mut db, told) = (Numbers::default(), Told::default());
    let bad = work(2, &told, |_| Err("no"));
    let mut queue = VecDeque::from([good(1, &told), bad, good(3, &told)]);
    assert_eq!(run(&mut db, &mut queue, |_| true), After::Open);
    assert_eq!((db.commits, &*db.durable), (1, &[1, 3][..]));
    assert_eq!(all(&told), [(2, "not committed"), (1, "committed"), (3, "committed")]);
}

#[test]
fn a_work_that_ends_the_transaction_is_left_out_and_the_others_run_again() {
    for hidden in [false, true] {
        let (mut db, told) = (Numbers::default(), Told::default());
        let bad = work(2, &told, move |db| end(db, hidden));
        let mut queue = VecDeque::from([good(1, &told), bad, good(3, &told)]);
        assert_eq!(run(&mut db, &mut queue, |_| true), After::Open);
        // The third was not begun: it is in the queue, for the next batch.
        assert_eq!((&*db.durable, queue.len()), (&[1][..], 1), "hidden: {hidden}");
        assert_eq!(run(&mut db, &mut queue, |_| true), After::Open);
        assert_eq!(&*db.durable, [1, 3]);
        assert_eq!(all(&told), [(2, "not committed"), (1, "committed"), (3, "committed")]);
    }
}

#[test]
fn works_that_cannot_be_committed_together_are_committed_alone() {
    for ends in [false, true] {
        let (mut db, told) = (Numbers { ends, ..Numbers::default() }, Told::default());
        // All together, and then the second by itself.
        db.fates = [Committed::No("all"), Committed::Yes, Committed::No("2")].into();
        let mut queue = (1..4).map(|number| good(number, &told)).collect();
        assert_eq!(run(&mut db, &mut queue, |_| true), After::Open);
        assert_eq!((db.commits, &*db.durable), (4, &[1, 3][..]), "ends: {ends}");
        assert_eq!(all(&told), [(1, "committed"), (2, "not committed"), (3, "committed")]);
    }
}

#[test]
fn after_a_commit_of_unknown_fate_nothing_is_said_to_be_so_or_not() {
    let (mut db, told) = (Numbers::default(), Told::default());
    db.fates = [Committed::Unknown("disk")].into();
    let mut queue = (1..3).map(|number| good(number, &told)).collect();
    assert_eq!(run(&mut db, &mut queue, |_| true), After::Poisoned);
    assert_eq!(all(&told), [(1, "unknown"), (2, "unknown")]);
}

#[test]
fn what_waits_behind_a_poisoned_commit_was_never_committed() {
    let (mut db, told) = (Numbers::default(), Told::default());
    db.fates = [Committed::No("all"), Committed::Unknown("disk")].into();
    let mut queue = (1..4).map(|number| good(number, &told)).collect();
    assert_eq!(run(&mut db, &mut queue, |_| true), After::Poisoned);
    assert_eq!(all(&told), [(1, "unknown"), (2, "not committed"), (3, "not committed")]);
}

#[test]
fn a_batch_of_works_that_all_end_the_transaction_comes_to_an_end() {
    let (mut db, told) = (Numbers::default(), Told::default());
    let mut queue: VecDeque<_> = (1..20).map(|n| work(n, &told, |db| end(db, true))).collect();
    while !queue.is_empty() {
        assert_eq!(run(&mut db, &mut queue, |_| true), After::Open);
    }
    assert_eq!((all(&told).len(), db.durable.len()), (19, 0));
}
