//! The server of a bank in a process of its own, to be killed: `bank_server RUN DATABASE LOG ADDRESS...`.
//!
//! Each execution appends the transfer's key to the file LOG before it does anything else. Prints its URLs when it
//! listens, and serves until its standard input ends, so that it never outlives the test that started it.

use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use farcall::sqlite::{self, params};
use farcall::{CallError, Node, SqliteStore, StoreError, remote};
use farcall_tests::bank::{ACCOUNTS, Bank, CENTS, Declined, Receipt, Transfer};

/// Of some handlers, before they write.
const PAUSE: Duration = Duration::from_millis(2);

struct Counter {
    run: u64,
    log: File,
}

#[remote]
impl Bank for Counter {
    async fn transfer(&self, order: &Transfer) -> Result<Receipt, CallError<Declined>> {
        let Transfer { key, from, to, cents } = order;
        let (from, to, run) = (from.cast_signed(), to.cast_signed(), self.run);
        // One write to a file that is open for appending: whole or not at all.
        (&self.log).write_all(format!("{key}\n").as_bytes()).map_err(failed)?;
        if key.ends_with('7') {
            // Some are in the middle of it when the process is killed.
            tokio::time::sleep(PAUSE).await;
        }
        let tx = sqlite::transaction()?;
        // What is declined is written first, and has to be undone.
        tx.execute("insert into ledger (key) values (?1)", [key])?;
        let number = tx.last_insert_rowid()?;
        let take = "update account set cents = cents - ?2 where id = ?1 returning cents";
        let left: i64 = tx.query_row(take, params![from, cents], |row| row.get(0))?;
        if left < 0 {
            return Err(CallError::Method(Declined { there: left + cents, run }));
        }
        tx.execute("update account set cents = cents + ?2 where id = ?1", params![to, cents])?;
        Ok(Receipt { number, left, run })
    }

    async fn run(&self) -> u64 {
        self.run
    }
}

fn failed(error: std::io::Error) -> CallError<Declined> {
    CallError::FailedWithin { reason: error.to_string().into() }
}

/// The accounts and the ledger, made at once or not at all.
async fn prepare(store: &SqliteStore) -> Result<(), Box<dyn std::error::Error>> {
    let tx = store.transaction().await?;
    tx.execute("create table if not exists ledger (number integer primary key, key text)", [])?;
    tx.execute(
        "create table if not exists account (id integer primary key, cents integer not null)",
        [],
    )?;
    for account in 0..ACCOUNTS.cast_signed() {
        tx.execute("insert or ignore into account values (?1, ?2)", params![account, CENTS])?;
    }
    tx.commit().await.map_err(StoreError::into)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [run, database, log, addresses @ ..] = &arguments[..] else {
        return Err("bank_server RUN DATABASE LOG ADDRESS...".into());
    };
    // A test that has died has closed it, whatever else is waited for.
    let ended = std::thread::spawn(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    let log = File::options().create(true).append(true).open(log)?;
    let store = SqliteStore::open(database)?;
    prepare(&store).await?;
    let node = Node::builder().store(store).build();
    node.registry().bind("bank", Counter { run: run.parse()?, log })?;
    for address in addresses {
        println!("{}", node.listen(address.as_str()).await?.url("bank"));
    }
    tokio::task::spawn_blocking(|| ended.join()).await?.map_err(|_| "the thread failed")??;
    Ok(())
}
