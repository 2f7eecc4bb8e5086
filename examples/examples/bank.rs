//! A bank and a shop: exactly-once calls between two databases. The program to copy from.
//!
//! The bank keeps its accounts in one SQLite database, the shop its orders in another, and each call moves money once,
//! whatever stops meanwhile. Client and server are in one process here, and a process that ends is a node that is
//! dropped; nothing would change if they were real ones. Each claim that is printed is checked.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use farcall::sqlite::params;
use farcall::{CallError, Execution, Listening, MethodError, Node, SqliteStore, Ticket, remote};

/// What a bank does for its customers.
#[remote(semantics = "exactly_once")]
pub trait Bank {
    /// Opens an account with so many cents in it.
    async fn open(&self, name: &str, cents: u32);

    /// Moves money, and returns what the payer has left.
    async fn transfer(&self, payer: &str, payee: &str, cents: u32) -> Result<i64, BankError>;

    /// What is in an account. Reading twice does no harm: it needs no such promise.
    #[remote(semantics = "at_least_once")]
    async fn balance(&self, name: &str) -> Result<i64, BankError>;
}

/// Why the bank moves no money.
#[derive(Clone, PartialEq, Debug, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum BankError {
    /// There is no such account.
    #[error("nobody is called {0}")]
    NoAccount(String),
    /// The payer has less.
    #[error("{missing} cents are missing")]
    TooLittle {
        /// So much less.
        missing: i64,
    },
}

/// So that `?` passes it on in a handler, as it does with an error of the database.
impl MethodError for BankError {}

/// The bank's object. Its state is in the database alone: what it had in memory would not be undone with a call that is
/// rolled back, and would be gone after a restart.
struct Books {
    store: SqliteStore,
}

const BANK_TABLES: &str = "
    create table if not exists account (name text primary key, cents integer not null);
    create table if not exists movement (
        number integer primary key, payer text not null, payee text not null, cents integer not null
    );
";

#[remote]
impl Bank for Books {
    async fn open(&self, name: &str, cents: u32) -> Result<(), CallError> {
        let tx = farcall::sqlite::transaction()?;
        tx.execute("insert or ignore into account values (?1, ?2)", params![name, cents])?;
        Ok(())
    }

    /// The longer form of the result has room for all that can go wrong:
    ///
    /// - `Ok`: what was written is committed, together with the answer;
    /// - an error of the database, passed on by `?`: all is rolled back, and the call is tried again;
    /// - the bank's own error: all is rolled back as well, and the error is the answer, now and for each repeat.
    ///
    /// A transaction cannot be kept over an `.await`: it goes into a block that ends before, and is asked for again.
    async fn transfer(
        &self,
        payer: &str,
        payee: &str,
        cents: u32,
    ) -> Result<i64, CallError<BankError>> {
        let tx = farcall::sqlite::transaction()?;
        tx.execute(
            "insert into movement (payer, payee, cents) values (?1, ?2, ?3)",
            params![payer, payee, cents],
        )?;
        for (name, change) in [(payer, -i64::from(cents)), (payee, i64::from(cents))] {
            let changed = tx.execute(
                "update account set cents = cents + ?1 where name = ?2",
                params![change, name],
            )?;
            if changed == 0 {
                Err(BankError::NoAccount(name.to_owned()))?;
            }
        }
        let left: i64 =
            tx.query_row("select cents from account where name = ?1", [payer], |row| row.get(0))?;
        if left < 0 {
            Err(BankError::TooLittle { missing: -left })?;
        }
        Ok(left)
    }

    /// A method with another promise has no transaction of its own: it takes a turn at the store, as a program does.
    async fn balance(&self, name: &str) -> Result<i64, CallError<BankError>> {
        let tx = self.store.transaction().await?;
        let cents = tx
            .query_optional("select cents from account where name = ?1", [name], |row| row.get(0));
        cents?.ok_or_else(|| BankError::NoAccount(name.to_owned()).into())
    }
}

/// The bank as a server.
async fn serve(database: &Path, address: &str) -> Result<Listening, Box<dyn Error>> {
    let store = SqliteStore::open(database)?;
    let tx = store.transaction().await?;
    tx.execute_batch(BANK_TABLES)?;
    tx.commit().await?;
    let node = Node::builder().store(store.clone()).build();
    node.registry().bind("bank", Books { store })?;
    Ok(node.listen(address).await?)
}

/// The shop: a client of the bank.
struct Shop {
    node: Node,
    store: SqliteStore,
    bank: BankProxy,
}

const SHOP_TABLES: &str = "
    create table if not exists purchase (number integer primary key, buyer text not null, cents integer not null);
";

impl Shop {
    /// The bank need not be there: calls are saved, and made when it is. Those that an earlier run has left unfinished go
    /// on by themselves.
    async fn open(database: &Path, bank: &str) -> Result<Shop, Box<dyn Error>> {
        let store = SqliteStore::open(database)?;
        let tx = store.transaction().await?;
        tx.execute_batch(SHOP_TABLES)?;
        tx.commit().await?;
        let node = Node::builder().store(store.clone()).build();
        let bank = node.proxy(bank)?;
        Ok(Shop { node, store, bank })
    }

    /// Notes a purchase and has it paid, both or neither: the row and the call are saved in one transaction.
    async fn sell(&self, number: u32, buyer: &str, cents: u32) -> Result<Ticket, Box<dyn Error>> {
        let tx = self.store.transaction().await?;
        let row = params![number, buyer, cents];
        tx.execute("insert into purchase (number, buyer, cents) values (?1, ?2, ?3)", row)?;
        let payment = self.bank.transfer(buyer, "shop", cents).key(format!("order-{number}"));
        let ticket = payment.enqueue(&tx)?;
        tx.commit().await?;
        // From here on the money will move, even if this process ends now. The ticket is there to wait for that.
        Ok(ticket)
    }

    async fn purchases(&self) -> Result<Vec<u32>, Box<dyn Error>> {
        let tx = self.store.transaction().await?;
        Ok(tx.query_map("select number from purchase order by number", [], |row| row.get(0))?)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = Folder::new()?;
    let (bank_file, shop_file) = (folder.path.join("bank.db"), folder.path.join("shop.db"));

    let bank = serve(&bank_file, "tcp://127.0.0.1:0").await?;
    // Keys belong to an address, so a bank that is started again has to be where it was.
    let (address, url) = (bank.addr().to_string(), bank.url("bank").to_string());
    let shop = Shop::open(&shop_file, &url).await?;
    shop.bank.open("alice", 10_000).await?;
    shop.bank.open("shop", 0).await?;

    keys(&shop).await?;
    errors_of_its_own(&shop).await?;
    outbox(&shop).await?;

    println!("\nThe bank is not there");
    end(bank).await?;
    let ticket = deferred(&shop).await?;
    let bank = serve(&bank_file, &address).await?;
    let left: Result<i64, CallError<BankError>> = ticket.wait().await;
    assert_eq!(left?, 300);
    println!("  it is back:                  the ticket's call has moved the money");

    println!("\nBoth end, and the shop is back first");
    end(bank).await?;
    leave_unfinished(shop).await?;
    let shop = Shop::open(&shop_file, &url).await?;
    assert_eq!(shop.node.unfinished(), 2);
    println!("  unfinished:                  2 calls, which go on");
    let bank = serve(&bank_file, &address).await?;
    after_a_restart(&shop).await?;

    println!("\nThe books");
    let (alice, till) = (shop.bank.balance("alice").await?, shop.bank.balance("shop").await?);
    assert_eq!((alice, till), (180, 9_820));
    println!("  alice has {alice} cents and the shop {till}: together what alice began with");
    shop.node.shutdown(PATIENCE).await?;
    end(bank).await?;
    Ok(())
}

/// A key names a call, such as a payment by the number of its order: it can be made again by whoever does not know
/// whether it was.
async fn keys(shop: &Shop) -> Result<(), Box<dyn Error>> {
    println!("A call under a key");
    let left = shop.bank.transfer("alice", "shop", 2_500).key("order-42").await?;
    assert_eq!(left, 7_500);
    println!("  order-42:                    alice has {left} cents left");

    let left = shop.bank.transfer("alice", "shop", 2_500).key("order-42").await?;
    assert_eq!((left, shop.bank.balance("alice").await?), (7_500, 7_500));
    println!("  order-42 again:              {left} cents, the same answer: nothing moved");

    let other = shop.bank.transfer("alice", "shop", 9_900).key("order-42").await;
    let other = other.expect_err("it is another call");
    assert!(matches!(other, CallError::KeyConflict { .. }));
    assert_eq!(other.execution(), Execution::NotExecuted);
    println!("  order-42 with another sum:   {other}");

    // A key is kept, with its answer, until the program has no more use for it.
    assert!(shop.node.forget("order-42").await?);
    println!("  forget:                      the key is free");
    Ok(())
}

/// What the method wrote is undone, and its error is the answer: also that is said once and for all.
async fn errors_of_its_own(shop: &Shop) -> Result<(), Box<dyn Error>> {
    println!("\nAn error of the bank's own");
    let refused = shop.bank.transfer("alice", "shop", 8_000).key("order-43").await;
    let Err(CallError::Method(reason)) = refused else { return Err("it is too much".into()) };
    assert_eq!(reason, BankError::TooLittle { missing: 500 });
    println!("  order-43:                    {reason}");
    assert_eq!(shop.bank.balance("alice").await?, 7_500);
    println!("  what the method wrote:       undone, alice has 7500 cents as before");

    shop.bank.transfer("shop", "alice", 1_000).key("refund-43").await?;
    let again = shop.bank.transfer("alice", "shop", 8_000).key("order-43").await;
    assert!(matches!(again, Err(CallError::Method(again)) if again == reason));
    println!("  order-43, with enough money: {reason}: the answer stays");
    assert!(shop.node.forget("order-43").await?);
    let left = shop.bank.transfer("alice", "shop", 8_000).key("order-43").await?;
    assert_eq!(left, 500);
    println!("  order-43, forgotten before:  a new call; alice has {left} cents left");
    Ok(())
}

/// An outbox: what the shop notes and what it asks of the bank is saved in one transaction.
async fn outbox(shop: &Shop) -> Result<(), Box<dyn Error>> {
    println!("\nA row and a call in one transaction");
    let ticket = shop.sell(44, "alice", 100).await?;
    let left: Result<i64, CallError<BankError>> = ticket.wait().await;
    assert_eq!(left?, 400);
    println!("  order 44:                    in the shop's database, and paid");

    let tx = shop.store.transaction().await?;
    let row = params![45, "alice", 100];
    tx.execute("insert into purchase (number, buyer, cents) values (?1, ?2, ?3)", row)?;
    shop.bank.transfer("alice", "shop", 100).key("order-45").enqueue(&tx)?;
    tx.roll_back();
    assert_eq!(shop.purchases().await?, [44]);
    assert!(!shop.node.forget("order-45").await?, "there is no such call");
    println!("  order 45:                    rolled back, neither noted nor paid");
    Ok(())
}

/// A timeout ends the wait, not the call. Its error has a ticket to wait with again.
async fn deferred(shop: &Shop) -> Result<Ticket, Box<dyn Error>> {
    let call = shop.bank.transfer("alice", "shop", 100).key("order-46");
    match call.timeout(Duration::from_millis(50)).await {
        Err(CallError::Deferred { ticket, waited }) => {
            println!(
                "  order-46:                    no answer in {waited:?}; saved, and tried again"
            );
            Ok(ticket)
        }
        other => Err(format!("it cannot have an answer: {other:?}").into()),
    }
}

/// The shop ends with two calls under way.
async fn leave_unfinished(shop: Shop) -> Result<(), Box<dyn Error>> {
    // `start` returns when the call is saved.
    shop.bank.transfer("alice", "shop", 70).key("order-47").start().await?.detach();
    shop.bank.transfer("alice", "shop", 50).start().await?.detach();
    println!("  two calls:                   saved, not answered");
    Ok(())
}

/// What the shop does each time it starts.
async fn after_a_restart(shop: &Shop) -> Result<(), Box<dyn Error>> {
    // It makes calls whose answers it needs again, under their keys: they attach to those that are saved.
    let left = shop.bank.transfer("alice", "shop", 70).key("order-47").await?;
    println!("  order-47 again:              paid once; alice had {left} cents then");

    // All others it finds here as they end, and drops what it has seen.
    let mut recovered = shop.node.recovered()?;
    let mut without_key = 0;
    while let Some(call) = recovered.next().await? {
        let result: Result<i64, CallError<BankError>> = call.decode();
        let left = result?;
        if call.key().is_none() {
            without_key += 1;
            println!(
                "  recovered, without a key:    {} of alice, {left} cents left",
                call.method()
            );
        }
        call.forget().await?;
    }
    assert_eq!(without_key, 1);
    Ok(())
}

/// Ends a bank: what has begun is answered, and the database is closed.
async fn end(bank: Listening) -> Result<(), Box<dyn Error>> {
    bank.node().shutdown(PATIENCE).await?;
    Ok(())
}

/// A folder for both databases, removed at the end.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new() -> io::Result<Folder> {
        let path = std::env::temp_dir().join(format!("farcall-bank-{}", std::process::id()));
        if path.exists() {
            // Of a process that was killed: its id is ours now.
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir(&path)?;
        Ok(Folder { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// How long nodes wait for what they still have to do when they end.
const PATIENCE: Duration = Duration::from_secs(5);
