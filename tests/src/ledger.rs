//! A service with exactly-once methods: a ledger in an SQLite database, whose handlers can be told to fail.
//!
//! What took effect is read from the server's database, past farcall: it is the truth that callers' results are held
//! against.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use farcall::sqlite::rusqlite::{Connection, OpenFlags};
use farcall::{CallError, Limits, Listening, Node, SqliteStore, remote};
use serde::{Deserialize, Serialize};

/// Writes down numbers, each in a row of its own.
#[remote(semantics = "exactly_once")]
pub trait Ledger {
    /// Writes a number down, after or before which it does what the order says.
    async fn note(&self, number: u64, how: How) -> Result<u64, Refused>;

    /// How many numbers there are.
    #[remote(semantics = "at_least_once")]
    async fn count(&self) -> u64;
}

/// What the method does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum How {
    /// Answers with how many numbers there are now.
    Well,
    /// Writes, and returns its own error.
    Refuse,
    /// Writes, and panics.
    Panic,
    /// Writes, and runs a statement that fails, so many times.
    Fail(u32),
    /// Writes, and waits for so many milliseconds.
    Wait(u64),
    /// Writes, and tries to commit.
    Commit,
    /// Ends the transaction by a conflict.
    Conflict,
    /// Calls a method of its own object from inside.
    CallBack,
    /// Breaks a constraint that is checked at the commit.
    BreakLater,
    /// Writes, and passes the number on to the next ledger, in the same transaction.
    PassOn,
}

/// The method's own error.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
#[error("the ledger takes no {0}")]
pub struct Refused(pub u64);

impl farcall::MethodError for Refused {}

/// The ledger's object.
#[derive(Default)]
pub struct Book {
    /// How often a handler began.
    pub runs: AtomicU64,
    /// How often one failed on purpose.
    failures: AtomicU32,
    /// The object itself, as a client sees it, and the ledger behind it.
    pub itself: std::sync::OnceLock<LedgerProxy>,
    /// Where `PassOn` passes on to.
    pub next: std::sync::OnceLock<LedgerProxy>,
}

#[remote]
impl Ledger for Arc<Book> {
    async fn note(&self, number: u64, how: How) -> Result<u64, CallError<Refused>> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        {
            let tx = farcall::sqlite::transaction()?;
            tx.execute("insert into note (number) values (?1)", [number as i64])?;
        }
        match how {
            How::Well => {}
            How::Refuse => return Err(CallError::Method(Refused(number))),
            How::Panic => panic!("told to"),
            How::Fail(times) => {
                if self.failures.fetch_add(1, Ordering::SeqCst) < times {
                    farcall::sqlite::transaction()?
                        .execute("insert into nowhere values (1)", [])?;
                }
            }
            How::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            How::Commit => {
                farcall::sqlite::transaction()?.execute("commit", [])?;
            }
            How::Conflict => {
                farcall::sqlite::transaction()?.execute(
                    "insert or rollback into note (number) values (?1)",
                    [number as i64],
                )?;
            }
            How::CallBack => {
                let itself = self.itself.get().expect("set by the test");
                itself.count().await?;
            }
            How::BreakLater => {
                farcall::sqlite::transaction()?
                    .execute("insert into dependent (number) values (?1)", [-(number as i64)])?;
            }
            How::PassOn => {
                let tx = farcall::sqlite::transaction()?;
                let next = self.next.get().expect("set by the test");
                next.note(number, How::Well).enqueue(&tx)?;
            }
        }
        let tx = farcall::sqlite::transaction()?;
        Ok(tx.query_row("select count(*) from note", [], |row| row.get::<_, i64>(0))? as u64)
    }

    async fn count(&self) -> u64 {
        self.runs.load(Ordering::SeqCst)
    }
}

/// A folder of its own, removed at the end.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// An empty folder.
    pub fn new(name: &str) -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("farcall-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).expect("a folder for temporary files");
        Folder(path)
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Makes the ledger's tables.
pub async fn prepare(store: &SqliteStore) {
    let tx = store.transaction().await.expect("the writer is free");
    tx.execute("create table if not exists note (number integer primary key)", []).expect("made");
    tx.execute(
        "create table if not exists dependent (number integer references note deferrable initially deferred)",
        [],
    )
    .expect("made");
    tx.commit().await.expect("committed");
}

/// A server of a ledger, with its store in a file.
pub struct Server {
    /// The object.
    pub book: Arc<Book>,
    /// Its node.
    pub node: Node,
    listening: Listening,
    path: PathBuf,
}

impl Server {
    /// Serves the ledger of this file.
    pub async fn start(path: &Path, address: &str) -> Server {
        Server::start_with(path, address, Limits::default()).await
    }

    /// Serves the ledger of this file within limits.
    pub async fn start_with(path: &Path, address: &str, limits: Limits) -> Server {
        let store = SqliteStore::open(path).expect("the store opens");
        prepare(&store).await;
        let node = Node::builder().store(store).limits(limits).build();
        let book = Arc::<Book>::default();
        node.registry().bind("ledger", book.clone()).expect("the name is free");
        let listening = node.listen(address).await.expect("the port is free");
        Server { book, node, listening, path: path.to_owned() }
    }

    /// Where the ledger is.
    pub fn url(&self) -> String {
        self.listening.url("ledger").to_string()
    }

    /// The address that it listens at.
    pub fn address(&self) -> String {
        self.listening.addr().to_string()
    }

    /// Where its database is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The numbers in the ledger's database.
    pub fn notes(&self) -> Vec<u64> {
        notes(&self.path)
    }

    /// Ends the node in good order, and lets go of the store.
    pub async fn stop(self) {
        let _ = self.node.shutdown(Duration::from_secs(5)).await;
    }
}

/// The numbers in a ledger's database, read past farcall.
pub fn notes(path: &Path) -> Vec<u64> {
    read(path, "select number from note order by number")
}

/// How many rows a table of farcall's has.
pub fn rows(path: &Path, table: &str) -> u64 {
    read(path, &format!("select count(*) from {table}"))[0]
}

/// Numbers that a statement finds, on a connection of its own.
pub fn read(path: &Path, statement: &str) -> Vec<u64> {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let database = database.expect("it is a database");
    let mut statement = database.prepare(statement).expect("the table is there");
    let rows = statement.query_map([], |row| row.get::<_, i64>(0)).expect("it can be read");
    rows.map(|number| number.expect("a number") as u64).collect()
}

/// A node with its journal in a file.
pub fn client(path: &Path) -> Node {
    client_with(path, Limits::default())
}

/// A node with its journal in a file, within limits.
pub fn client_with(path: &Path, limits: Limits) -> Node {
    let store = SqliteStore::open(path).expect("the store opens");
    Node::builder().store(store).limits(limits).build()
}
