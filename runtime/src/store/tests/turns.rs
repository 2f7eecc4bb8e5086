//! Transactions of the program.

use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use super::*;
use crate::sqlite::Error;

#[test]
fn a_transaction_that_is_committed_is_there_after_it() {
    let folder = Folder::new();
    let store = folder.bank();
    let tx = hold(&store);
    tx.execute(DEPOSIT, ["bob"]).unwrap();
    block_on(tx.commit()).unwrap();
    assert_eq!(cents(&store, "bob"), 1);
    assert_eq!(commits(&store), 0, "nothing about calls has changed");
    drop(store);
    assert_eq!(cents(&folder.open(), "bob"), 1);
}

#[test]
fn a_transaction_that_is_dropped_or_rolled_back_was_never_there() {
    let folder = Folder::new();
    let store = folder.bank();
    let tx = hold(&store);
    tx.execute(DEPOSIT, ["bob"]).unwrap();
    drop(tx);
    let tx = hold(&store);
    tx.execute(DEPOSIT, ["bob"]).unwrap();
    tx.roll_back();
    assert_eq!(cents(&store, "bob"), 0);
}

#[test]
fn a_transaction_is_rolled_back_after_its_time() {
    let folder = Folder::new();
    let store = folder.bank();
    let limit = Duration::from_millis(20);
    store.configure(&Limits { handler_timeout: limit, ..Limits::default() });
    let tx = hold(&store);
    tx.execute(DEPOSIT, ["bob"]).unwrap();
    // This waits for the writer, which waits for the transaction.
    assert_eq!(cents(&store, "bob"), 0);
    assert!(matches!(tx.execute(DEPOSIT, ["bob"]), Err(Error::TransactionEnded)));
    let committed = block_on(tx.commit());
    assert!(matches!(committed, Err(StoreError::TimedOut { .. })), "{committed:?}");
    assert_eq!(cents(&store, "bob"), 0);
}

#[test]
fn a_statement_that_runs_at_the_deadline_is_waited_for() {
    let folder = Folder::new();
    let store = folder.bank();
    store.configure(&Limits { handler_timeout: Duration::from_millis(5), ..Limits::default() });
    let tx = hold(&store);
    let other = submit(&store, |db| handler(db, |tx| tx.execute(DEPOSIT, ["bob"])));
    let counted =
        "with recursive n (x) as (select 1 union all select x + 1 from n where x < 300000)
                   select count(*) from n";
    let early = tx.query_row(counted, [], |row| {
        let rows: i64 = row.get(0)?;
        Ok((rows, other.try_recv().is_err()))
    });
    assert_eq!(early.unwrap(), (300_000, true), "nobody had the database meanwhile");
    other.recv().unwrap().unwrap();
    assert!(matches!(block_on(tx.commit()), Err(StoreError::TimedOut { .. })));
}

#[test]
fn a_transaction_whose_statement_ended_it_is_rolled_back() {
    let folder = Folder::new();
    let store = folder.bank();
    let tx = hold(&store);
    tx.execute(DEPOSIT, ["bob"]).unwrap();
    assert!(tx.execute("insert or rollback into account values ('bob', 5)", []).is_err());
    assert!(matches!(tx.execute(DEPOSIT, ["bob"]), Err(Error::TransactionEnded)));
    let committed = block_on(tx.commit());
    assert!(matches!(committed, Err(StoreError::RolledBack)), "{committed:?}");
    assert_eq!(cents(&store, "bob"), 0);
}

#[test]
fn a_commit_that_breaks_a_constraint_says_so() {
    let folder = Folder::new();
    let store = folder.bank();
    let tx = hold(&store);
    tx.execute("insert into transfer (name) values ('nobody')", []).unwrap();
    let committed = block_on(tx.commit());
    assert!(matches!(committed, Err(StoreError::Constraint { .. })), "{committed:?}");
    assert_eq!(cents(&store, "bob"), 0);
}

#[test]
fn a_commit_that_nobody_waits_for_is_done() {
    let folder = Folder::new();
    let store = folder.bank();
    let tx = hold(&store);
    tx.execute(DEPOSIT, ["bob"]).unwrap();
    drop(tx.commit());
    assert_eq!(cents(&store, "bob"), 1);
}

#[test]
fn a_turn_that_nobody_waits_for_any_more_is_passed_over() {
    let folder = Folder::new();
    let store = folder.bank();
    let held = hold(&store);
    block_on(async {
        let mut second = std::pin::pin!(store.transaction());
        let first_poll = std::future::poll_fn(|cx| {
            std::task::Poll::Ready(second.as_mut().poll(cx).is_pending())
        });
        assert!(first_poll.await);
    });
    drop(held);
    assert_eq!(cents(&store, "bob"), 0);
}

#[test]
fn turns_and_works_come_in_their_order_and_turns_share_no_commit() {
    let folder = Folder::new();
    let store = folder.bank();
    let held = hold(&store);
    let order = Arc::new(Mutex::new(Vec::new()));
    let work = |name: &'static str| {
        let order = order.clone();
        submit(&store, move |db| {
            order.lock().unwrap().push(name);
            db.put_registration(&registration(db.commits() + 1))
        })
    };
    block_on(async {
        let first = work("first");
        let mut turn = std::pin::pin!(store.transaction());
        let pending =
            std::future::poll_fn(|cx| std::task::Poll::Ready(turn.as_mut().poll(cx).is_pending()));
        assert!(pending.await);
        let last = work("last");
        drop(held);
        let tx = turn.await.unwrap();
        first.try_recv().expect("it is committed, the turn is not").unwrap();
        order.lock().unwrap().push("turn");
        tx.execute(DEPOSIT, ["bob"]).unwrap();
        tx.commit().await.unwrap();
        last.recv().unwrap().unwrap();
    });
    assert_eq!(*order.lock().unwrap(), ["first", "turn", "last"]);
    assert_eq!(commits(&store), 2);
}

#[test]
fn a_handler_has_no_transaction_but_its_own() {
    let folder = Folder::new();
    let store = folder.bank();
    let same = store.clone();
    let results = run(&store, move |db| {
        handler(db, |tx| {
            tx.execute(DEPOSIT, ["bob"])?;
            let another = block_on(same.transaction()).map(|_| ());
            let opened = same.opened().map(|_| ());
            tx.execute(DEPOSIT, ["bob"])?;
            Ok([another, opened])
        })
    });
    for result in results.unwrap() {
        assert!(matches!(result, Err(StoreError::InsideCall)), "{result:?}");
    }
    assert_eq!(cents(&store, "bob"), 2);
}

#[test]
fn calls_that_are_saved_in_a_turn_are_committed_with_it() {
    let folder = Folder::new();
    let store = folder.bank();
    let (told, after) = mpsc::channel();
    for (number, keep) in [(1, true), (2, false)] {
        let told = told.clone();
        let tx = hold(&store);
        tx.execute(DEPOSIT, ["bob"]).unwrap();
        let saved = tx.with(|db| {
            db.after_commit(Box::new(move || told.send(number).expect("it is received")));
            let seq = db.next_seq()?;
            db.put_request(seq, &request("tcp://a:1", b""), None)
        });
        saved.unwrap().unwrap();
        if keep {
            block_on(tx.commit()).unwrap();
        }
    }
    assert_eq!(cents(&store, "bob"), 1);
    assert_eq!(run(&store, |db| Ok(db.usage()?.rows)).unwrap(), 1);
    drop((store, told));
    assert_eq!(after.iter().collect::<Vec<_>>(), [1]);
}

#[test]
fn a_transaction_is_the_last_handle_of_its_store() {
    let folder = Folder::new();
    let store = folder.bank();
    let tx = hold(&store);
    drop(store);
    tx.execute(DEPOSIT, ["bob"]).unwrap();
    block_on(tx.commit()).unwrap();
    assert_eq!(cents(&folder.open(), "bob"), 1);
}

#[test]
fn a_task_that_moves_from_thread_to_thread_can_have_a_transaction() {
    fn movable<F: Future + Send>(task: F) -> F {
        task
    }
    let folder = Folder::new();
    let store = folder.bank();
    let task = movable(async {
        let tx = store.transaction().await?;
        if tx.execute(DEPOSIT, ["bob"]).is_err() {
            return Ok(());
        }
        tx.commit().await
    });
    block_on(task).unwrap();
    assert_eq!(cents(&store, "bob"), 1);
}

#[test]
fn turns_and_what_is_due_go_one_after_the_other() {
    let folder = Folder::new();
    let store = folder.bank();
    let limits = Limits { settle_delay: Duration::ZERO, batch_calls: 1, ..Limits::default() };
    store.configure(&limits);
    let first = hold(&store);
    let (done, due) = std::sync::mpsc::channel();
    for _ in 0..3 {
        let done = done.clone();
        let tell = move |_| done.send(()).expect("the test hears it");
        let work = Task::new(|_: &mut Sqlite| Ok(()), tell);
        store.submit_later(Box::new(work));
    }
    block_on(async {
        let mut turns = [Box::pin(store.transaction()), Box::pin(store.transaction())];
        for turn in &mut turns {
            let waits = std::future::poll_fn(|cx| Poll::Ready(turn.as_mut().poll(cx).is_pending()));
            assert!(waits.await, "the first has the database");
        }
        drop(first);
        for turn in turns {
            let tx = turn.await.unwrap();
            assert_eq!(due.try_iter().count(), 1, "one was due before this turn, the others wait");
            drop(tx);
        }
    });
    due.recv().unwrap();
}

#[test]
fn limits_without_an_end_are_no_limits() {
    let folder = Folder::new();
    let store = folder.bank();
    let (settle_delay, batch_time, handler_timeout) = (Duration::MAX, Duration::MAX, Duration::MAX);
    store.configure(&Limits { settle_delay, batch_time, handler_timeout, ..Limits::default() });
    let (done, due) = std::sync::mpsc::channel();
    let tell = move |_| done.send(()).expect("the test hears it");
    store.submit_later(Box::new(Task::new(|_: &mut Sqlite| Ok(()), tell)));
    let tx = hold(&store);
    tx.execute(DEPOSIT, ["bob"]).unwrap();
    block_on(tx.commit()).unwrap();
    assert_eq!(cents(&store, "bob"), 1);
    due.recv().unwrap();
}
