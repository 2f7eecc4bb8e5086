//! A disk that fails: the tests run themselves again in a process that may write no large files.

use std::process::Command;

use super::*;
use crate::protocol::durable::rows::Saved;

/// Names the file for the process that is to fail on it.
const PATH: &str = "FARCALL_TEST_FAILING_STORE";

/// In blocks of 512 bytes: enough for a store with few rows.
const FILE_BLOCKS: u32 = 512;
/// Less than what SQLite keeps in memory: it would be written before the commit.
const TOO_LARGE: usize = 1 << 20;

/// A write beyond the limit is an I/O error, and SQLite meets it when it writes the log: in the commit.
fn with_small_files(test: &str, folder: &Folder) {
    let limited = format!("trap '' XFSZ; ulimit -f {FILE_BLOCKS}; exec \"$0\" \"$@\"");
    let output = Command::new("sh")
        .arg("-c")
        .arg(limited)
        .arg(std::env::current_exe().expect("this program has a path"))
        .args([&format!("store::tests::failing::{test}"), "--exact", "--nocapture"])
        .env(PATH, folder.file())
        .output()
        .expect("there is a shell");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    // A name that no test has is none that failed.
    assert!(said.contains("test result: ok. 1 passed"), "{said}");
}

fn save(store: &SqliteStore, length: usize) -> Outcome<Seq> {
    run(store, move |db| {
        let seq = db.next_seq()?;
        db.put_request(seq, &request("tcp://a:1", &vec![7; length]), None)?;
        Ok(seq)
    })
}

#[test]
fn a_store_whose_commit_may_have_failed_answers_nothing_until_it_is_opened_again() {
    let test = "a_store_whose_commit_may_have_failed_answers_nothing_until_it_is_opened_again";
    let Some(path) = std::env::var_os(PATH) else {
        let folder = Folder::new();
        drop(folder.open());
        with_small_files(test, &folder);
        let unfinished = folder.open().opened().unwrap().unfinished;
        assert_eq!(
            unfinished.len(),
            2,
            "one before the failure, one after the store was opened again"
        );
        return;
    };
    let store = SqliteStore::open(&path).unwrap();
    let first = save(&store, 10).unwrap();

    let held = hold(&store);
    let together = submit(&store, |db| db.put_registration(&registration(1)));
    let (done, spoiled) = mpsc::channel();
    store.submit(Box::new(Task::new(
        |db: &mut Sqlite| {
            db.after_commit(Box::new(|| panic!("nobody knows whether it is committed")));
            let seq = db.next_seq()?;
            db.put_request(seq, &request("tcp://a:1", &vec![7; TOO_LARGE]), None)
        },
        move |result: Outcome<()>| drop(done.send(result)),
    )));
    drop(held);
    assert!(matches!(spoiled.recv().unwrap(), Err(Failure::Unknown(StoreError::Failed { .. }))));
    assert!(matches!(together.recv().unwrap(), Err(Failure::Unknown(_))));

    assert!(matches!(not_committed(save(&store, 1)), StoreError::Poisoned));
    let turn = block_on(store.transaction());
    assert!(matches!(turn, Err(StoreError::Poisoned)), "{turn:?}");
    let (done, later) = mpsc::channel();
    store.submit_later(Box::new(Task::new(
        |_: &mut Sqlite| Ok(()),
        move |result: Outcome<()>| drop(done.send(result)),
    )));
    assert!(matches!(not_committed(later.recv().unwrap()), StoreError::Poisoned));

    // The old handle does not stand in the way.
    let again = SqliteStore::open(&path).unwrap();
    assert_eq!(again.opened().unwrap().last_before, first);
    let saved = run(&again, move |db| db.request(first)).unwrap();
    let saved: Saved = saved.expect("it was committed before");
    assert_eq!(saved.request.arguments, [7; 10]);
    save(&again, 10).unwrap();
}

/// What a program did in its transaction may be there as well.
#[test]
fn a_program_is_told_that_nobody_knows() {
    let Some(path) = std::env::var_os(PATH) else {
        let folder = Folder::new();
        drop(folder.bank());
        return with_small_files("a_program_is_told_that_nobody_knows", &folder);
    };
    let store = SqliteStore::open(&path).unwrap();
    let tx = hold(&store);
    tx.execute("create table note (text)", []).unwrap();
    tx.execute("insert into note values (?1)", ["x".repeat(TOO_LARGE)]).unwrap();
    let committed = block_on(tx.commit());
    assert!(matches!(committed, Err(StoreError::Poisoned)), "{committed:?}");
}
