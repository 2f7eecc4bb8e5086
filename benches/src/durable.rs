//! A service whose method is exactly once, its server in a thread, and what its databases say of it.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farcall::sqlite::rusqlite::{Connection, OpenFlags};
use farcall::{CallError, Node, SqliteStore, remote};

use crate::{median, now, runtime};

/// Writes numbers down, as little as a method can do.
#[remote(semantics = "exactly_once")]
pub trait Notes {
    /// Writes one row.
    async fn note(&self, number: u64) -> u64;
}

/// The object; counts what it executes.
#[derive(Debug, Clone, Default)]
pub struct Book(pub Arc<AtomicU64>);

#[remote]
impl Notes for Book {
    async fn note(&self, number: u64) -> Result<u64, CallError> {
        let tx = farcall::sqlite::transaction()?;
        tx.execute("insert into note (number) values (?1)", [number.cast_signed()])?;
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(number)
    }
}

/// Starts a server with its database in this file, in a thread of its own that ends with the process. Returns the URL.
///
/// # Panics
/// If it cannot be started.
#[must_use]
pub fn serve(path: &Path, address: &'static str, book: Book) -> String {
    let (sender, receiver) = std::sync::mpsc::channel();
    let path = path.to_owned();
    std::thread::spawn(move || {
        runtime().block_on(async move {
            let store = SqliteStore::open(path).expect("a store");
            let tx = store.transaction().await.expect("the writer is free");
            tx.execute("create table if not exists note (number integer primary key)", [])
                .expect("a table");
            tx.commit().await.expect("committed");
            let node = Node::builder().store(store).build();
            node.registry().bind("notes", book).expect("the name is free");
            let listening = node.listen(address).await.expect("the port is free");
            sender.send(listening.url("notes").to_string()).expect("the bench waits");
            std::future::pending::<()>().await;
        });
    });
    receiver.recv().expect("the server starts")
}

/// How many transactions about calls a store has committed.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn commits(path: &Path) -> u64 {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let commits = "select commits from farcall_meta";
    let commits = database.expect("a store").query_row(commits, [], |row| row.get::<_, i64>(0));
    commits.expect("a store") as u64
}

/// Median nanoseconds of a page that is appended and synced, as SQLite does it.
///
/// # Panics
/// If the file cannot be written.
#[must_use]
pub fn sync_time(folder: &Path, span: Duration) -> f64 {
    let path = folder.join("sync");
    let mut file = File::create(&path).expect("a file");
    let (end, mut samples) = (now() + span, Vec::new());
    while now() < end {
        let before = now();
        file.write_all(&[7; 4096]).expect("written");
        file.sync_all().expect("synced");
        samples.push((now() - before).as_nanos() as f64);
    }
    std::fs::remove_file(path).expect("it is there");
    median(&mut samples)
}

/// Memory that the process holds, in KiB.
///
/// # Panics
/// If the system does not say.
#[must_use]
pub fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// An empty folder for databases, removed at the end.
#[derive(Debug)]
pub struct Folder(pub PathBuf);

impl Folder {
    /// Makes it.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn new(within: &Path) -> Folder {
        let path = within.join(format!("farcall-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
