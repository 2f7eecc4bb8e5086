//! The owner of a durable mailbox in a process of its own, to be killed: `mailbox_owner DATABASE ADDRESS`.
//!
//! Takes each message in the transaction in which it notes it in a table. Prints the mailbox's URL when it listens, and
//! goes on until its standard input ends, so that it never outlives the test that started it.

use std::error::Error;
use std::time::Duration;

use farcall::sqlite::params;
use farcall::{DurableMailbox, Node, SqliteStore};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [database, address] = &arguments[..] else { return Err("DATABASE ADDRESS".into()) };
    let store = SqliteStore::open(database)?;
    let tx = store.transaction().await?;
    tx.execute_batch("create table if not exists got (place integer primary key, number integer)")?;
    tx.commit().await?;
    let node = Node::builder().store(store.clone()).build();
    let inbox: DurableMailbox<i64> = node.durable_mailbox("orders", 8)?;
    println!("{}", node.listen(address).await?.url("orders"));
    let ended =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    tokio::select! {
        failed = receive(&store, &inbox) => failed,
        ended = ended => Ok(ended.map(drop)?),
    }
}

async fn receive(store: &SqliteStore, inbox: &DurableMailbox<i64>) -> Result<(), Box<dyn Error>> {
    loop {
        inbox.arrived().await?;
        let tx = store.transaction().await?;
        let Some(number) = inbox.take(&tx)? else { continue };
        tx.execute("insert into got (number) values (?1)", params![number])?;
        // Some are in the middle of it when the process is killed.
        tokio::time::sleep(Duration::from_millis(1)).await;
        tx.commit().await?;
    }
}
