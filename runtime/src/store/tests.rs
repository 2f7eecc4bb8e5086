//! Tests of the store, on real files: what several of them need. Each file below has one subject.

use std::path::PathBuf;
use std::sync::mpsc;

use uuid::Uuid;

use super::{Sqlite, SqliteStore, StoreError};
use crate::id::{CommitNumber, Epoch, MethodId, RegistrationId, Seq, StoreId};
use crate::limits::Limits;
use crate::protocol::durable::batch::{Failure, Task};
use crate::protocol::durable::rows::{
    AnswerRow, Binding, Database as _, InboxRows as _, JournalRows as _, RegistrationRow, Request,
    ServerRow, Usage,
};
use crate::protocol::finished::Finished;
use crate::sqlite::{self, Transaction};
use crate::wire::durable::Answer;

mod batches;
#[cfg(target_os = "linux")]
mod failing;
mod opening;
mod rows;
mod statements;
mod turns;

/// A folder that is there as long as this lives.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let path = std::env::temp_dir().join(format!("farcall-store-{}", Uuid::new_v4()));
        std::fs::create_dir(&path).expect("the temporary folder can be written");
        Folder(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("bank.db")
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(self.file()).expect("the file is free")
    }

    /// With a table of the program's: `account (name, cents)`, and one with constraints: `transfer`.
    fn bank(&self) -> SqliteStore {
        let store = self.open();
        let made = run(&store, |db| {
            let tables = "
                create table account (name text primary key, cents integer not null);
                insert into account values ('alice', 100), ('bob', 0);
                create table transfer (
                    id integer primary key,
                    name text references account (name) deferrable initially deferred
                );";
            db.statements(tables).map_err(|error| failed(&error))
        });
        made.expect("an empty database takes tables");
        store
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

type Outcome<T> = Result<T, Failure<StoreError>>;

/// Submits work; its outcome can be waited for.
fn submit<T: Send + 'static>(
    store: &SqliteStore,
    run: impl FnMut(&mut Sqlite) -> Result<T, StoreError> + Send + 'static,
) -> mpsc::Receiver<Outcome<T>> {
    let (done, outcome) = mpsc::channel();
    store.submit(Box::new(Task::new(run, move |result| drop(done.send(result)))));
    outcome
}

/// Has work done, and waits for its outcome.
fn run<T: Send + 'static>(
    store: &SqliteStore,
    run: impl FnMut(&mut Sqlite) -> Result<T, StoreError> + Send + 'static,
) -> Outcome<T> {
    submit(store, run).recv().expect("every work has an outcome")
}

/// A handler that does this with its transaction, as a piece of work.
fn handler<T>(
    db: &mut Sqlite,
    run: impl FnOnce(&Transaction) -> Result<T, sqlite::Error>,
) -> Result<T, StoreError> {
    let result = db.lend(|| {
        let tx = sqlite::transaction()?;
        run(&tx)
    });
    result.map_err(|error| failed(&error))
}

/// For errors of the program, which are none of the store's.
fn failed(error: &sqlite::Error) -> StoreError {
    StoreError::Panicked { text: error.to_string().into() }
}

/// Keeps the writer busy until the turn ends, so that what is submitted meanwhile shares a batch.
fn hold(store: &SqliteStore) -> Transaction {
    block_on(store.transaction()).expect("the writer is free")
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime without drivers can be made").block_on(future)
}

fn not_committed<T: std::fmt::Debug>(outcome: Outcome<T>) -> StoreError {
    match outcome {
        Err(Failure::NotCommitted(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn cents(store: &SqliteStore, name: &'static str) -> i64 {
    let read = move |db: &mut Sqlite| {
        let select = "select cents from account where name = ?1";
        handler(db, |tx| tx.query_row(select, [name], |row| row.get(0)))
    };
    run(store, read).expect("the account is there")
}

/// A statement of a handler's that adds a cent.
const DEPOSIT: &str = "update account set cents = cents + 1 where name = ?1";

fn request(peer: &str, arguments: &[u8]) -> Request {
    Request {
        peer: peer.into(),
        object: "ledger".into(),
        interface: "Ledger".into(),
        method: MethodId(7),
        method_name: "transfer".into(),
        arguments: arguments.to_vec(),
        nonce: u64::MAX - 5,
        key: None,
        parent: None,
        wanted: true,
    }
}

fn registration(id: u64) -> RegistrationRow {
    RegistrationRow {
        id: RegistrationId(id),
        client: client(id),
        epoch: Epoch(3),
        opening: u128::MAX - 1,
        finished: Finished::default(),
        max: 0,
    }
}

fn client(number: u64) -> StoreId {
    StoreId(Uuid::from_u128(u128::from(number)))
}

fn answer(body: &[u8]) -> AnswerRow {
    AnswerRow { digest: Some([9; 16]), answer: Answer::Ok, body: body.to_vec() }
}

fn commits(store: &SqliteStore) -> CommitNumber {
    run(store, |db| Ok(db.commits())).expect("a number can be read")
}

/// Some numbers of calls, one of them with all bits.
const SEQS: [Seq; 3] = [1, 1 << 41, u64::MAX - 1];
