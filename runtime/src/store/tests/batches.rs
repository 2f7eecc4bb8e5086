//! What happens to a batch when one work in it does something wrong.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::sqlite::CallTransaction;

/// Three deposits around this work, all in one batch; the deposits must all be there after it.
fn among_others<T: Send + std::fmt::Debug + 'static>(
    store: &SqliteStore,
    culprit: impl FnMut(&mut Sqlite) -> Result<T, StoreError> + Send + 'static,
) -> Outcome<T> {
    let before = cents(store, "bob");
    let held = hold(store);
    let deposit = || submit(store, |db| handler(db, |tx| tx.execute(DEPOSIT, ["bob"])));
    let first = deposit();
    let culprit = submit(store, culprit);
    let others = [first, deposit(), deposit()];
    drop(held);
    for other in &others {
        assert_eq!(other.recv().expect("it has an outcome").expect("it is good"), 1);
    }
    assert_eq!(cents(store, "bob"), before + 3);
    culprit.recv().expect("it has an outcome")
}

#[test]
fn what_waits_shares_a_commit() {
    let folder = Folder::new();
    let store = folder.open();
    let before = commits(&store);
    let held = hold(&store);
    let saves: Vec<_> = (0..20)
        .map(|_| {
            submit(&store, |db| {
                let seq = db.next_seq()?;
                db.put_request(seq, &request("tcp://a:1", b""), None)?;
                Ok(seq)
            })
        })
        .collect();
    drop(held);
    let seqs: Vec<Seq> = saves.iter().map(|save| save.recv().unwrap().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(commits(&store), before + 1);
}

#[test]
fn a_batch_has_so_many_calls_at_most() {
    let folder = Folder::new();
    let store = folder.open();
    let hour = Duration::from_secs(3600);
    store.configure(&Limits { batch_calls: 4, batch_time: hour, ..Limits::default() });
    let before = commits(&store);
    let held = hold(&store);
    let numbers: Vec<_> = (1..=10)
        .map(|id| {
            submit(&store, move |db| {
                db.put_registration(&registration(id))?;
                Ok(db.commits())
            })
        })
        .collect();
    drop(held);
    let numbers: Vec<u64> = numbers.iter().map(|done| done.recv().unwrap().unwrap()).collect();
    let expected = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2].map(|number| number + before);
    assert_eq!(numbers, expected);
}

#[test]
fn a_batch_whose_time_is_over_starts_nothing_more() {
    let folder = Folder::new();
    let store = folder.open();
    store.configure(&Limits { batch_time: Duration::ZERO, ..Limits::default() });
    let before = commits(&store);
    let held = hold(&store);
    let works: Vec<_> = (1..=3)
        .map(|id| submit(&store, move |db| db.put_registration(&registration(id))))
        .collect();
    drop(held);
    for work in works {
        work.recv().unwrap().unwrap();
    }
    assert_eq!(commits(&store), before + 3);
}

#[test]
fn a_statement_that_fails_harms_nobody() {
    let folder = Folder::new();
    let store = folder.bank();
    let outcome = among_others(&store, |db| {
        handler(db, |tx| tx.execute("insert into account values ('eve', 5)", []))?;
        handler(db, |tx| tx.execute("insert into account values ('bob', 5)", []))
    });
    let error = not_committed(outcome);
    assert!(error.to_string().contains("UNIQUE"), "{error}");
    let eve = run(&store, |db| {
        let count = "select count(*) from account where name = 'eve'";
        handler(db, |tx| tx.query_row(count, [], |row| row.get::<_, i64>(0)))
    });
    assert_eq!(eve.unwrap(), 0);
}

/// INSERT OR ROLLBACK takes the whole transaction back, and what follows would commit by itself.
#[test]
fn a_statement_that_ends_the_transaction_harms_nobody() {
    let folder = Folder::new();
    let store = folder.bank();
    let outcome = among_others(&store, |db| {
        let result = db.lend(|| {
            let tx = sqlite::transaction()?;
            tx.execute(DEPOSIT, ["alice"])?;
            let ended = tx.execute("insert or rollback into account values ('bob', 5)", []);
            assert!(ended.is_err());
            // A handler that does not care.
            tx.execute(DEPOSIT, ["alice"])
        });
        assert!(matches!(result, Err(sqlite::Error::TransactionEnded)), "{result:?}");
        assert!(!db.in_transaction());
        // Nor does the one who ran it.
        assert!(matches!(db.put_registration(&registration(1)), Err(StoreError::RolledBack)));
        Ok(())
    });
    assert!(matches!(not_committed(outcome), StoreError::RolledBack));
    assert_eq!(cents(&store, "alice"), 100);
    assert_eq!(run(&store, |db| db.registrations()).unwrap(), 0);
}

#[test]
fn a_trigger_that_rolls_back_harms_nobody() {
    let folder = Folder::new();
    let store = folder.bank();
    let trigger =
        "create trigger strict before delete on account begin select raise(rollback, 'never'); end";
    run(&store, move |db| handler(db, |tx| tx.execute(trigger, []))).unwrap();
    let outcome =
        among_others(&store, |db| handler(db, |tx| tx.execute("delete from account", [])));
    assert!(not_committed(outcome).to_string().contains("never"));
}

#[test]
fn a_constraint_that_fails_at_the_commit_harms_nobody() {
    let folder = Folder::new();
    let store = folder.bank();
    let outcome = among_others(&store, |db| {
        handler(db, |tx| tx.execute("insert into transfer (name) values ('nobody')", []))
    });
    let error = not_committed(outcome);
    assert!(matches!(error, StoreError::Constraint { .. }), "{error:?}");
}

#[test]
fn a_work_that_panics_harms_nobody() {
    let folder = Folder::new();
    let store = folder.bank();
    let outcome = among_others(&store, |db| {
        db.lend(|| -> Result<(), StoreError> {
            sqlite::transaction().unwrap().execute(DEPOSIT, ["alice"]).unwrap();
            panic!("a test of {}", 42)
        })
    });
    let error = not_committed(outcome);
    assert!(matches!(&error, StoreError::Panicked { text } if &**text == "a test of 42"));
    assert_eq!(cents(&store, "alice"), 100);
}

#[test]
fn a_handle_that_a_handler_leaks_harms_nobody() {
    thread_local! {
        static LEAKED: std::cell::RefCell<Vec<CallTransaction>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    let folder = Folder::new();
    let store = folder.bank();
    let outcome = among_others(&store, |db| {
        db.lend(|| LEAKED.with_borrow_mut(|leaked| leaked.push(sqlite::transaction().unwrap())));
        Ok(())
    });
    outcome.unwrap();
    let outcome = among_others(&store, |_| {
        let mut results = LEAKED.with_borrow_mut(std::mem::take).into_iter();
        Ok(results.all(|tx| tx.execute(DEPOSIT, ["bob"]).is_err()))
    });
    assert!(outcome.unwrap());
}

#[test]
fn a_disk_that_is_full_refuses_what_is_too_large_and_takes_the_rest() {
    let folder = Folder::new();
    let store = folder.bank();
    let limit = run(&store, |db| {
        let bare = db.get().guarded.bare();
        let pages: i64 = bare.query_row("pragma page_count", [], |row| row.get(0))?;
        let limit = pages + 4;
        Ok(bare.query_row(&format!("pragma max_page_count = {limit}"), [], |row| {
            row.get::<_, i64>(0)
        })?)
    });
    assert!(limit.unwrap() > 0);
    let outcome = among_others(&store, |db| {
        let seq = db.next_seq()?;
        db.put_request(seq, &request("tcp://a:1", &[1; 1 << 20]), None)
    });
    assert!(matches!(not_committed(outcome), StoreError::Full));
    run(&store, |db| {
        assert_eq!(db.usage()?, Usage::default());
        let seq = db.next_seq()?;
        db.put_request(seq, &request("tcp://a:1", &[1; 100]), None)
    })
    .expect("there is room for this");
}

#[test]
fn what_is_to_follow_the_commit_follows_what_was_committed() {
    let folder = Folder::new();
    let store = folder.bank();
    let told = Arc::new(Mutex::new(Vec::new()));
    let held = hold(&store);
    let work = |name: &'static str, good: bool| {
        let (told, then) = (told.clone(), told.clone());
        let run = move |db: &mut Sqlite| {
            let then = then.clone();
            db.after_commit(Box::new(move || then.lock().unwrap().push(("after", name))));
            if good { Ok(()) } else { Err(StoreError::Closed) }
        };
        let done = move |result: Outcome<()>| {
            let what = if result.is_ok() { "committed" } else { "failed" };
            told.lock().unwrap().push((what, name));
        };
        store.submit(Box::new(Task::new(run, done)));
    };
    work("a", true);
    work("b", false);
    // Ends the transaction, so that the others run again.
    let ended = submit(&store, |db| {
        db.after_commit(Box::new(|| panic!("it is undone")));
        handler(db, |tx| tx.execute("insert or rollback into account values ('bob', 5)", []))
    });
    work("c", true);
    drop(held);
    assert!(ended.recv().unwrap().is_err());
    drop(store);
    let told = told.lock().unwrap();
    assert_eq!(
        *told,
        [("failed", "b"), ("committed", "a"), ("after", "a"), ("committed", "c"), ("after", "c"),]
    );
}

#[test]
fn what_can_wait_rides_with_what_cannot() {
    let folder = Folder::new();
    let store = folder.open();
    let hour = Duration::from_secs(3600);
    store.configure(&Limits { settle_delay: hour, ..Limits::default() });
    let (done, later) = mpsc::channel();
    store.submit_later(Box::new(Task::new(
        |db: &mut Sqlite| db.put_registration(&registration(1)),
        move |result: Outcome<()>| drop(done.send(result)),
    )));
    assert!(matches!(later.try_recv(), Err(mpsc::TryRecvError::Empty)));
    run(&store, |db| db.put_registration(&registration(2))).unwrap();
    later.recv().unwrap().unwrap();
    assert_eq!(commits(&store), 1);
}

#[test]
fn what_can_wait_waits_no_longer_than_its_delay() {
    let folder = Folder::new();
    let store = folder.open();
    store.configure(&Limits { settle_delay: Duration::from_millis(1), ..Limits::default() });
    for id in 1..=3 {
        let (done, later) = mpsc::channel();
        store.submit_later(Box::new(Task::new(
            move |db: &mut Sqlite| db.put_registration(&registration(id)),
            move |result: Outcome<()>| drop(done.send(result)),
        )));
        later.recv().expect("nothing else needs a commit").unwrap();
    }
}

#[test]
fn a_full_queue_is_busy_but_for_what_can_wait() {
    let folder = Folder::new();
    let store = folder.bank();
    let most = 65_536;
    let held = hold(&store);
    for _ in 0..most {
        store.submit(Box::new(Task::new(|_: &mut Sqlite| Ok(()), |_: Outcome<()>| {})));
    }
    let refused = run(&store, |_| Ok(()));
    assert!(matches!(not_committed(refused), StoreError::Busy { .. }));
    let turn = block_on(store.transaction());
    assert!(matches!(turn, Err(StoreError::Busy { .. })), "{turn:?}");
    let (done, later) = mpsc::channel();
    store.submit_later(Box::new(Task::new(
        |_: &mut Sqlite| Ok(()),
        move |result: Outcome<()>| drop(done.send(result)),
    )));
    drop(held);
    later.recv().unwrap().unwrap();
}

#[test]
fn a_database_that_another_connection_holds_is_busy_until_it_lets_go() {
    let folder = Folder::new();
    let store = folder.bank();
    let impatient = |db: &mut Sqlite| Ok(db.get().guarded.bare().busy_timeout(Duration::ZERO)?);
    run(&store, impatient).unwrap();
    let other = rusqlite::Connection::open(folder.file()).unwrap();
    other.execute_batch("begin immediate").unwrap();
    let refused = run(&store, |db| db.put_registration(&registration(1)));
    assert!(matches!(not_committed(refused), StoreError::Busy { .. }));
    let turn = block_on(store.transaction());
    assert!(matches!(turn, Err(StoreError::Busy { .. })), "{turn:?}");
    other.execute_batch("commit").unwrap();
    run(&store, |db| db.put_registration(&registration(1))).unwrap();
    assert_eq!(commits(&store), 1);
}
