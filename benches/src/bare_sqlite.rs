//! A bare loop of the statements that an exactly-once call costs, on two databases with the tables of farcall: the limit
//! that such calls are compared with.
//!
//! A client's transaction saves requests and settles those that were saved in the one before; a server's looks each up,
//! writes what the method writes, and records the answer. Statements are prepared once.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use farcall::SqliteStore;
use farcall::sqlite::rusqlite::{Connection, OptionalExtension as _, params};

use crate::now;

/// The two databases, each with a thread of its own, as they are in two programs: a file system may sync at another pace
/// when one thread does all of it. The threads take turns; what is measured is what each needs, without the turns.
#[derive(Debug)]
pub struct Bare {
    client: Worker,
    server: Worker,
}

/// One of the threads; it takes orders of so many calls.
#[derive(Debug)]
struct Worker {
    orders: Sender<usize>,
    took: Receiver<Duration>,
}

/// The client's database.
struct Client {
    database: Connection,
    /// Calls that were saved, and that were settled.
    saved: i64,
    settled: i64,
    /// Commits of the server that are known.
    commits: i64,
}

/// The server's database.
struct Server {
    database: Connection,
    executed: i64,
}

/// Answers pile up to so many before they are forgotten.
const FORGOTTEN_AT_ONCE: i64 = 64;

impl Bare {
    /// Makes them in a folder.
    ///
    /// # Panics
    /// If that is not possible.
    #[must_use]
    pub fn new(folder: &Path) -> Bare {
        let mut client = Client::new(&folder.join("bare-client.db"));
        let mut server = Server::new(&folder.join("bare-server.db"));
        Bare {
            client: Worker::start(move |calls| client.save(calls)),
            server: Worker::start(move |calls| server.execute(calls)),
        }
    }

    /// One transaction of the client: saves so many calls, and settles those that were saved before. How long it took.
    #[must_use]
    pub fn save(&mut self, calls: usize) -> Duration {
        self.client.run(calls)
    }

    /// One transaction of the server: executes so many calls. How long it took.
    #[must_use]
    pub fn execute(&mut self, calls: usize) -> Duration {
        self.server.run(calls)
    }
}

impl Worker {
    fn start(mut run: impl FnMut(usize) + Send + 'static) -> Worker {
        let (orders, ordered) = channel();
        let (done, took) = channel();
        std::thread::spawn(move || {
            for calls in ordered {
                let start = now();
                run(calls);
                if done.send(start.elapsed()).is_err() {
                    return;
                }
            }
        });
        Worker { orders, took }
    }

    fn run(&self, calls: usize) -> Duration {
        self.orders.send(calls).expect("it waits for orders");
        self.took.recv().expect("the database works")
    }
}

impl Client {
    fn new(path: &Path) -> Client {
        let database = open(path);
        let known =
            "insert into farcall_server (peer, store, registration, seen) values (?1, ?2, 1, 0)";
        database.execute(known, params![PEER, [7_u8; 16]]).expect("a row");
        Client { database, saved: 0, settled: 0, commits: 0 }
    }

    fn save(&mut self, calls: usize) {
        let before = self.saved;
        run(&self.database, "begin immediate");
        for _ in 0..calls {
            self.saved += 1;
            run(&self.database, "savepoint c");
            select_server(&self.database);
            let insert = "insert into main.farcall_request (seq, peer, object, interface, method, method_name,
                 arguments, nonce, key, key_digest, parent_registration, parent_seq, wanted, store, registration)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";
            let (arguments, none) = ([9_u8; 9], None::<i64>);
            let nonce = self.saved.wrapping_mul(0x1234_5678_9abc);
            let row = params![
                self.saved,
                PEER,
                "notes",
                "bench/Notes",
                77,
                "note",
                arguments,
                nonce,
                none,
                none,
                none,
                none,
                true,
                [7_u8; 16],
                1
            ];
            self.database.prepare_cached(insert).expect("sql").execute(row).expect("saved");
            run(&self.database, "release c");
        }
        while self.settled < before {
            self.settled += 1;
            run(&self.database, "savepoint c");
            let seen = select_server(&self.database);
            if seen < self.commits {
                let put = "insert into main.farcall_server (peer, store, registration, seen) values (?1, ?2, ?3, ?4)
                     on conflict (peer) do update set store = ?2, registration = ?3, seen = ?4";
                let row = params![PEER, [7_u8; 16], 1, self.commits];
                self.database.prepare_cached(put).expect("sql").execute(row).expect("seen");
            }
            let select =
                "select seq, peer, object, interface, method, method_name, arguments, nonce, key,
                 parent_registration, parent_seq, wanted, store, registration, outcome, code, body
                 from main.farcall_request where seq = ?1";
            let mut select = self.database.prepare_cached(select).expect("sql");
            let row = |row: &farcall::sqlite::Row<'_>| row.get::<_, Vec<u8>>(6);
            select.query_row([self.settled], row).expect("saved before");
            let delete = "delete from main.farcall_request where seq = ?1
                 returning length(arguments) + coalesce(length(body), 0)";
            let mut delete = self.database.prepare_cached(delete).expect("sql");
            delete.query_row([self.settled], |row| row.get::<_, i64>(0)).expect("deleted");
            run(&self.database, "release c");
        }
        count(&self.database, self.saved);
        run(&self.database, "commit");
        self.commits += 1;
    }
}

impl Server {
    fn new(path: &Path) -> Server {
        let database = open(path);
        database
            .execute(
                "insert into farcall_registration (id, client, epoch, opening, floor, max)
                 values (1, ?1, 1, ?1, 0, 0)",
                [[7_u8; 16]],
            )
            .expect("a row");
        database.execute("create table note (number integer primary key)", []).expect("a table");
        Server { database, executed: 0 }
    }

    fn execute(&mut self, calls: usize) {
        let db = &self.database;
        run(db, "begin immediate");
        for _ in 0..calls {
            self.executed += 1;
            run(db, "savepoint c");
            let registration = "select id, client, epoch, opening, floor, max from main.farcall_registration where id = ?1";
            let mut registration = db.prepare_cached(registration).expect("sql");
            registration.query_row([1], |row| row.get::<_, i64>(0)).expect("registered");
            if self.executed % FORGOTTEN_AT_ONCE == 0 {
                self.forget();
            }
            let answer = "select digest, answer, code, body from main.farcall_inbox where registration = ?1 and seq = ?2";
            let mut answer = db.prepare_cached(answer).expect("sql");
            let found = answer.query_row([1, self.executed], |row| row.get::<_, i64>(1)).optional();
            assert_eq!(found.expect("it can be read"), None);
            let note = "insert into note (number) values (?1)";
            db.prepare_cached(note).expect("sql").execute([self.executed]).expect("noted");
            let put =
                "insert into main.farcall_inbox (registration, seq, digest, answer, code, body)
                 values (?1, ?2, ?3, ?4, ?5, ?6)";
            let row = params![1, self.executed, [7_u8; 16], 0, None::<i64>, [9_u8; 9]];
            db.prepare_cached(put).expect("sql").execute(row).expect("recorded");
            run(db, "release c");
        }
        count(db, 0);
        run(db, "commit");
    }

    /// The floor comes up to the last call, as with one call at a time.
    fn forget(&self) {
        let (db, below) = (&self.database, [1, self.executed]);
        let highest =
            "select max(seq) from main.farcall_inbox where registration = ?1 and seq < ?2";
        let mut highest = db.prepare_cached(highest).expect("sql");
        let highest: Option<i64> = highest.query_row(below, |row| row.get(0)).expect("rows");
        let delete = "delete from main.farcall_inbox where registration = ?1 and seq < ?2";
        db.prepare_cached(delete).expect("sql").execute(below).expect("deleted");
        let put = "insert into main.farcall_registration (id, client, epoch, opening, floor, max)
             values (?1, ?2, ?3, ?4, ?5, ?6)
             on conflict (id) do update set client = ?2, epoch = ?3, opening = ?4, floor = ?5, max = ?6";
        let row = params![1, [7_u8; 16], 1, [7_u8; 16], self.executed, highest];
        db.prepare_cached(put).expect("sql").execute(row).expect("raised");
    }
}

/// Where the server is.
const PEER: &str = "tcp://127.0.0.1:65535";

fn open(path: &Path) -> Connection {
    drop(SqliteStore::open(path).expect("it makes the tables"));
    let connection = Connection::open(path).expect("a database");
    let mode: String =
        connection.query_row("pragma journal_mode = wal", [], |row| row.get(0)).expect("wal");
    assert_eq!(mode, "wal");
    connection.execute_batch("pragma synchronous = full").expect("full");
    connection.set_prepared_statement_cache_capacity(64);
    connection
}

fn run(connection: &Connection, sql: &str) {
    connection.prepare_cached(sql).expect("sql").execute([]).expect("it works");
}

fn select_server(connection: &Connection) -> i64 {
    let select = "select peer, store, registration, seen from main.farcall_server where peer = ?1";
    let mut select = connection.prepare_cached(select).expect("sql");
    select.query_row([PEER], |row| row.get(3)).expect("known")
}

fn count(connection: &Connection, seq: i64) {
    let update = "update main.farcall_meta set seq = ?1, registration = 2, commits = commits + 1";
    connection.prepare_cached(update).expect("sql").execute([seq]).expect("counted");
}
