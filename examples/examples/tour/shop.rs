//! The interfaces of the tour, and the objects behind them: they note that they began to run.
//!
//! The tour prints the part between the markers as it stands here.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use farcall::{CallError, SqliteStore, remote};
use serde::{Deserialize, Serialize};

// shown: begin
#[remote]
pub trait Shop {
    #[remote(semantics = "maybe")] // sent once: it runs once or never
    async fn visit(&self, call: u64) -> Receipt;
    #[remote(semantics = "at_least_once")] // sent again until answered: runs once or more often
    async fn price(&self, call: u64) -> Receipt;
    #[remote(semantics = "at_most_once")] // sent again until answered, and never run twice
    async fn pay(&self, call: u64) -> Receipt;
    async fn sell(&self, call: u64, buyer: BuyerProxy) -> Receipt; // calls the buyer back
}
#[remote]
pub trait Buyer {
    async fn sign(&self, call: u64) -> Receipt;
}
#[remote(semantics = "exactly_once")] // saved on both sides: its effect is there once
pub trait Depot {
    async fn ship(&self, call: u64) -> Receipt;
}
// shown: end

/// What every method answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Receipt {
    /// The number of the call that was run.
    pub(crate) call: u64,
    /// The process that ran it.
    pub(crate) process: u32,
}

/// The source of the interfaces.
pub(crate) fn source() -> &'static str {
    let begin = "// shown: begin\n";
    let end = "// shown: end\n";
    let text = include_str!("shop.rs");
    let shown = text.split_once(begin).and_then(|(_, behind)| behind.split_once(end));
    shown.map_or(text, |(shown, _)| shown)
}

/// A shop that notes the number of each call in a file before it does anything else.
///
/// Each note is one write to a file that is only appended to: it survives the process, though not
/// the machine.
pub(crate) struct NotingShop {
    notes: File,
}

impl NotingShop {
    pub(crate) fn open(notes: &Path) -> io::Result<NotingShop> {
        let notes = OpenOptions::new().create(true).append(true).open(notes)?;
        Ok(NotingShop { notes })
    }

    /// Notes the call, takes its time, and answers.
    async fn run(&self, call: u64) -> Receipt {
        if let Err(error) = (&self.notes).write_all(format!("{call}\n").as_bytes()) {
            // What cannot be counted must not be answered.
            eprintln!("the server cannot note that call {call} ran: {error}");
            std::process::exit(1);
        }
        let work = Duration::from_millis(call / 16 % SLOWEST_MS);
        if !work.is_zero() {
            tokio::time::sleep(work).await;
        }
        Receipt { call, process: std::process::id() }
    }
}

#[remote]
impl Shop for NotingShop {
    async fn visit(&self, call: u64) -> Receipt {
        self.run(call).await
    }

    async fn price(&self, call: u64) -> Receipt {
        self.run(call).await
    }

    async fn pay(&self, call: u64) -> Receipt {
        self.run(call).await
    }

    async fn sell(&self, call: u64, buyer: BuyerProxy) -> Result<Receipt, CallError> {
        buyer.sign(call).await
    }
}

/// Whoever buys: in the process that says so.
pub(crate) struct Signer;

#[remote]
impl Buyer for Signer {
    async fn sign(&self, call: u64) -> Receipt {
        Receipt { call, process: std::process::id() }
    }
}

/// A depot that notes the number of each call in its database: a row for each time that a call took effect.
pub(crate) struct NotingDepot;

/// Makes the depot's table.
pub(crate) async fn prepare(store: &SqliteStore) -> Result<(), Box<dyn std::error::Error>> {
    let tx = store.transaction().await?;
    tx.execute("create table if not exists shipped (call integer not null)", [])?;
    tx.commit().await?;
    Ok(())
}

#[remote]
impl Depot for NotingDepot {
    async fn ship(&self, call: u64) -> Result<Receipt, CallError> {
        let tx = farcall::sqlite::transaction()?;
        tx.execute("insert into shipped (call) values (?1)", [call.cast_signed()])?;
        Ok(Receipt { call, process: std::process::id() })
    }
}

/// Calls take less than this, by their number, the first ones nothing: so that many are being run
/// when a link is cut.
const SLOWEST_MS: u64 = 16;
