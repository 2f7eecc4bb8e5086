//! The program that the README shows: one interface, a server, a client, and what a failure tells.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farcall::{CallError, Execution, remote};

/// A bank account.
#[remote(semantics = "at_most_once")]
pub trait Account {
    /// Adds `cents` and returns the new balance.
    async fn deposit(&self, cents: u64) -> Result<u64, Frozen>;

    /// The balance in cents. Reading twice does no harm.
    #[remote(semantics = "at_least_once")]
    async fn balance(&self) -> u64;
}

/// No money moves.
#[derive(Debug, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("the account is frozen")]
pub struct Frozen;

#[derive(Default)]
struct Memory {
    cents: AtomicU64,
}

#[remote]
impl Account for Memory {
    async fn deposit(&self, cents: u64) -> Result<u64, Frozen> {
        if cents == 1 {
            return Err(Frozen);
        }
        Ok(self.cents.fetch_add(cents, Ordering::Relaxed) + cents)
    }

    async fn balance(&self) -> u64 {
        self.cents.load(Ordering::Relaxed)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // server
    let server = farcall::serve("tcp://127.0.0.1:0", "alice", Memory::default()).await?;

    // client
    let alice: AccountProxy = farcall::connect(server.url("alice")).await?;
    println!("{}", alice.deposit(500).await?); // non-blocking: an async call
    let pending = alice.deposit(250).start().await?; // non-blocking: sent now, collected later
    println!("{}", pending.await?);
    match alice.deposit(1).timeout(Duration::from_secs(2)).await {
        Ok(balance) => println!("{balance}"),
        Err(CallError::Method(Frozen)) => println!("frozen"),
        Err(error) if error.execution() == Execution::NotExecuted => {
            println!("safe to try again: {error}");
        }
        Err(error) => println!("it may have run: {error}"),
    }
    assert_eq!(alice.balance().await?, 750);
    Ok(())
}
