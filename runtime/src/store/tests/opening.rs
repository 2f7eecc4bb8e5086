//! Opening, closing and opening again.

use std::process::{Command, Stdio};
use std::sync::Arc;

use rusqlite::{Connection, params};

use super::*;
use crate::store::schema::STEPS;

#[test]
fn everything_is_there_when_a_store_is_opened_again() {
    let folder = Folder::new();
    let store = folder.bank();
    let id = store.id();
    let first = store.opened().expect("the journal can be read");
    assert_eq!((first.identity.client, first.identity.epoch), (id, Epoch(1)));
    assert_eq!(first.last_before, 0);
    let saved = run(&store, |db| {
        let seq = db.next_seq()?;
        db.put_request(seq, &request("tcp://a:1", b"args"), None)?;
        db.put_registration(&registration(1))?;
        db.put_answer(RegistrationId(1), SEQS[2], &answer(b"result"))?;
        handler(db, |tx| tx.execute(DEPOSIT, ["bob"]))?;
        Ok(seq)
    });
    let seq = saved.expect("the disk has room");
    assert_eq!(Epoch::of(seq), Epoch(1));
    let before = commits(&store);
    assert_eq!(before, 1);
    drop(store);

    let store = folder.open();
    assert_eq!(store.id(), id);
    let second = store.opened().expect("the journal can be read");
    assert_eq!(second.identity.epoch, Epoch(2));
    assert_ne!(second.identity.opening, first.identity.opening);
    assert_eq!(second.last_before, seq);
    assert_eq!(second.unfinished, vec![(seq, Arc::from("tcp://a:1"), None)]);
    assert_eq!(cents(&store, "bob"), 1);
    assert_eq!(commits(&store), before);
    let found = run(&store, |db| {
        assert_eq!(db.next_registration()?, RegistrationId(2));
        assert_eq!(db.registration_of(client(1))?, Some(registration(1)));
        assert_eq!(db.usage()?, Usage { rows: 1, bytes: 4 });
        assert_eq!(db.answers(RegistrationId(1))?, (1, SEQS[2]));
        assert!(db.next_seq()? >= Epoch(2).first_seq());
        db.answer(RegistrationId(1), SEQS[2])
    });
    assert_eq!(found.expect("rows can be read"), Some(answer(b"result")));
}

#[test]
fn a_later_node_of_the_process_finds_what_the_first_one_saved() {
    let folder = Folder::new();
    let store = folder.open();
    let first = store.opened().expect("the journal can be read");
    let seq = run(&store, |db| {
        let seq = db.next_seq()?;
        db.put_request(seq, &request("tcp://a:1", b""), None)?;
        Ok(seq)
    });
    let seq = seq.expect("the disk has room");
    let second = store.opened().expect("the journal can be read");
    assert_eq!(second.identity, first.identity);
    assert_eq!(second.last_before, seq);
    assert_eq!(second.unfinished.len(), 1);
}

#[test]
fn a_store_is_opened_once() {
    let folder = Folder::new();
    let store = folder.open();
    let clone = store.clone();
    for _ in 0..2 {
        let second = SqliteStore::open(folder.file());
        assert!(matches!(second, Err(StoreError::Locked { .. })), "{second:?}");
    }
    drop(store);
    let third = SqliteStore::open(folder.file());
    assert!(matches!(third, Err(StoreError::Locked { .. })), "a clone is a handle, too: {third:?}");
    drop(clone);
    folder.open();
}

#[cfg(unix)]
#[test]
fn a_link_to_a_store_is_the_same_store() {
    let folder = Folder::new();
    let link = folder.0.join("link.db");
    let _store = folder.open();
    std::os::unix::fs::symlink(folder.file(), &link).expect("the folder takes links");
    let second = SqliteStore::open(&link);
    assert!(matches!(second, Err(StoreError::Locked { .. })), "{second:?}");
}

#[cfg(unix)]
#[test]
fn a_link_to_a_store_that_is_made_through_it_is_the_same_store() {
    let folder = Folder::new();
    let (link, further) = (folder.0.join("link.db"), folder.0.join("further.db"));
    std::os::unix::fs::symlink("link.db", &further).expect("the folder takes links");
    std::os::unix::fs::symlink(folder.file(), &link).expect("the folder takes links");
    let _store = SqliteStore::open(&further).expect("nobody has it");
    for path in [&further, &link, &folder.file()] {
        let second = SqliteStore::open(path);
        assert!(matches!(second, Err(StoreError::Locked { .. })), "{second:?}");
    }
}

/// The other process is this test, started once more.
#[test]
fn a_store_that_another_process_has_open_is_locked() {
    const PATH: &str = "FARCALL_TEST_STORE";
    if let Some(path) = std::env::var_os(PATH) {
        let _store = SqliteStore::open(path).expect("the file is free");
        println!("open");
        let _ = std::io::stdin().read_line(&mut String::new());
        return;
    }
    let folder = Folder::new();
    let name = "store::tests::opening::a_store_that_another_process_has_open_is_locked";
    let mut other = Command::new(std::env::current_exe().expect("this program has a path"))
        .args([name, "--exact", "--nocapture"])
        .env(PATH, folder.file())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program can be started again");
    let output = std::io::BufReader::new(other.stdout.take().expect("it is piped"));
    let mut lines = std::io::BufRead::lines(output).map(|line| line.expect("it writes text"));
    assert!(lines.by_ref().any(|line| line.ends_with("open")));
    let second = SqliteStore::open(folder.file());
    assert!(matches!(second, Err(StoreError::Locked { .. })), "{second:?}");
    // Killed, it leaves neither a lock nor a broken file.
    other.kill().expect("it can be killed");
    other.wait().expect("it can be waited for");
    assert_eq!(folder.open().opened().expect("it can be read").identity.epoch, Epoch(2));
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let folder = Folder::new();
    drop(folder.open());
    let bare = Connection::open(folder.file()).expect("it is a database");
    bare.execute("update farcall_meta set version = 99", []).expect("nobody else has it");
    drop(bare);
    let opened = SqliteStore::open(folder.file());
    let Err(StoreError::NewerSchema { found: 99, known }) = opened else { panic!("{opened:?}") };
    assert_eq!(known as usize, STEPS.len());
    let bare = Connection::open(folder.file()).expect("it is a database");
    let epoch = bare.query_row("select epoch from farcall_meta", [], |row| row.get::<_, i64>(0));
    assert_eq!(epoch, Ok(1));
}

#[test]
fn an_older_schema_is_brought_up_to_date() {
    let folder = Folder::new();
    let id = folder.open().id();
    let steps = [STEPS, &["alter table main.farcall_meta add column color text default 'red'"]];
    let store =
        SqliteStore::open_with(&folder.file(), &steps.concat()).expect("one step is missing");
    assert_eq!(store.id(), id);
    let found = run(&store, |db| {
        let select = "select version, color from farcall_meta";
        let bare = db.get().guarded.bare();
        Ok(bare.query_row(select, [], |row| Ok((row.get::<_, usize>(0)?, row.get(1)?)))?)
    });
    assert_eq!(found.expect("both are there"), (STEPS.len() + 1, "red".to_owned()));
    drop(store);
    assert!(matches!(SqliteStore::open(folder.file()), Err(StoreError::NewerSchema { .. })));
}

#[test]
fn a_file_of_the_first_schema_keeps_its_registrations() {
    let folder = Folder::new();
    drop(SqliteStore::open_with(&folder.file(), &STEPS[..1]).expect("the folder can be written"));
    let bare = Connection::open(folder.file()).expect("it is a database");
    let (client, opening) = (client(1), u128::MAX - 1);
    let columns = params![client.0.as_bytes(), opening.to_be_bytes(), i64::MIN + 1, i64::MIN];
    let insert = "insert into farcall_registration values (1, ?1, 3, ?2, ?3, ?4)";
    bare.execute(insert, columns).expect("nobody else has it");
    drop(bare);
    let found = run(&folder.open(), |db| db.registration(RegistrationId(1)));
    assert_eq!(found.expect("it can be read"), Some(registration(1)));
}

#[test]
fn a_step_that_fails_leaves_the_file_as_it_was() {
    let folder = Folder::new();
    drop(folder.open());
    let steps = [STEPS, &["create table main.farcall_new (x); select nonsense"]].concat();
    assert!(SqliteStore::open_with(&folder.file(), &steps).is_err());
    let store = folder.open();
    assert_eq!(store.opened().expect("it can be read").identity.epoch, Epoch(2));
    assert!(SqliteStore::open_with(&folder.0.join("fresh.db"), &steps).is_err());
    SqliteStore::open(folder.0.join("fresh.db")).expect("nothing was made of it");
}

#[test]
fn a_file_that_is_something_else_is_refused() {
    let folder = Folder::new();
    std::fs::write(folder.file(), [b'x'; 8192]).expect("the folder can be written");
    let opened = SqliteStore::open(folder.file());
    assert!(matches!(opened, Err(StoreError::NotAStore { .. })), "{opened:?}");
    let nowhere = SqliteStore::open(folder.0.join("no such folder").join("bank.db"));
    assert!(matches!(nowhere, Err(StoreError::Io { .. })), "{nowhere:?}");
}

#[test]
fn a_program_has_its_tables_in_the_same_file_before_and_after() {
    let folder = Folder::new();
    let bare = Connection::open(folder.file()).expect("the folder can be written");
    bare.execute_batch("create table mine (x); insert into mine values (1)").expect("it is new");
    drop(bare);
    let store = folder.open();
    let bare = Connection::open(folder.file()).expect("it is a database");
    let mode = bare.query_row("pragma journal_mode", [], |row| row.get::<_, String>(0));
    assert_eq!(mode.as_deref(), Ok("wal"));
    bare.execute("insert into mine values (2)", []).expect("the store holds no lock while idle");
    let sum = run(&store, |db| {
        handler(db, |tx| tx.query_row("select sum(x) from mine", [], |row| row.get::<_, i64>(0)))
    });
    assert_eq!(sum.expect("the table is there"), 3);
}

#[test]
fn every_commit_waits_for_the_disk() {
    let folder = Folder::new();
    let read = run(&folder.open(), |db| {
        let bare = db.get().guarded.bare();
        Ok(bare.query_row("pragma synchronous", [], |row| row.get::<_, i64>(0))?)
    });
    assert_eq!(read.expect("it can be read"), 2);
}

#[test]
fn a_store_that_was_opened_as_often_as_it_can_be_says_so() {
    let folder = Folder::new();
    drop(folder.open());
    let bare = Connection::open(folder.file()).expect("it is a database");
    let last = Epoch::LAST.0;
    bare.execute("update farcall_meta set epoch = ?1 - 1", [last]).expect("nobody else has it");
    drop(bare);
    let seq = run(&folder.open(), |db| db.next_seq()).expect("it is the last time");
    assert_eq!(Epoch::of(seq), Epoch::LAST);
    assert!(matches!(SqliteStore::open(folder.file()), Err(StoreError::Exhausted)));
}

#[test]
fn what_waits_when_the_last_handle_goes_is_done_first() {
    let folder = Folder::new();
    let store = folder.bank();
    let held = hold(&store);
    let deposits: Vec<_> = (0..3)
        .map(|_| submit(&store, |db| handler(db, |tx| tx.execute(DEPOSIT, ["bob"]))))
        .collect();
    let (done, later) = mpsc::channel();
    store.submit_later(Box::new(Task::new(
        |db: &mut Sqlite| handler(db, |tx| tx.execute(DEPOSIT, ["bob"])),
        move |result: Outcome<usize>| drop(done.send(result)),
    )));
    drop(store);
    drop(held);
    for deposit in deposits.iter().chain([&later]) {
        assert_eq!(deposit.recv().expect("it has an outcome").expect("it is done"), 1);
    }
    assert_eq!(cents(&folder.open(), "bob"), 4);
}
