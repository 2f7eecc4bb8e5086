//! A virtual network with seeded faults, virtual time, and an oracle that knows what really ran.
//!
//! Nodes, drivers and machines are the real ones; the network and the clock are not. A scenario starts nodes by name,
//! makes calls, cuts connections, parts hosts and crashes them. Time passes only when nothing else can happen, so that
//! minutes of timeouts take milliseconds. Everything is drawn from one seed: a run that fails is run again by its seed
//! and does the same, event by event.
//!
//! Nodes listen at `tcp://host:port` or `udp://host:port`, with the names of hosts. [`Faults`] says what the network does
//! to the streams of the one and to the datagrams of the other. The nodes have no store: an object with exactly-once
//! methods cannot be bound at them.
//!
//! A [`Ledger`] holds what handlers and callers say against the promises of [`Semantics`](crate::Semantics): no run
//! twice under at-most-once, no run at all after "not executed", no answer without a run, no failure without a cause.
//! That is checked while a run goes on and once more after it.
//!
//! [`machines`] is for farcall's own tests: it drives the machines of the protocol alone, thousands of runs a second,
//! under the same [`oracle`].
//!
//! ```
//! use std::time::Duration;
//!
//! use farcall::remote;
//! use farcall::sim::{Faults, Ledger, Sim};
//!
//! #[remote(semantics = "at_most_once")]
//! trait Till {
//!     async fn pay(&self, receipt: u64) -> u64;
//! }
//!
//! struct Memory(Ledger);
//!
//! #[remote]
//! impl Till for Memory {
//!     async fn pay(&self, receipt: u64) -> u64 {
//!         self.0.ran(receipt); // the ledger complains about a second run
//!         receipt
//!     }
//! }
//!
//! for seed in farcall::sim::seeds(0..5) {
//!     let faults = Faults { cut_one_in: 10, ..Faults::rough() };
//!     let run = Sim::new(seed).faults(faults).run(async |world| {
//!         let ledger = world.ledger();
//!         let shop = world.node("shop").start();
//!         shop.registry().bind("till", Memory(ledger.clone())).unwrap();
//!         shop.listen("tcp://shop:1").await.unwrap();
//!
//!         let customer = world.node("customer").start();
//!         let till: TillProxy = loop {
//!             // A lookup fails at once when its connection cannot be made.
//!             if let Ok(till) = customer.lookup("tcp://shop:1/till").await {
//!                 break till;
//!             }
//!         };
//!         for receipt in 0..20 {
//!             // Cuts alone lose no call: it is asked for again, and answered from the saved reply.
//!             assert_eq!(ledger.call(receipt, till.pay(receipt)).await.unwrap(), receipt);
//!         }
//!         world.settle(Duration::from_secs(60)).await;
//!     });
//!     assert_eq!(run.calls.answers, 20);
//! }
//! ```
//!
//! # What to keep in mind
//!
//! One thread runs everything, and the order is that of tokio's current-thread runtime. A scenario is repeatable if it
//! draws from [`World::below`] and its relatives only, keeps its order (no iteration over a `HashMap`, no
//! `tokio::select!` or `tokio::join!` without `biased`), and waits in tokio's time; threads and `spawn_blocking` are
//! outside of it. A crash drops handlers and the tasks of [`World::spawn`] where they stand: their destructors still
//! run, and what they shared with others through an `Arc` is what a disk would have kept.

mod fabric;
mod faults;
mod ledger;
pub mod machines;
mod network;
pub mod oracle;
mod pipe;
mod rng;
mod run;
#[cfg(test)]
mod tests;
mod trace;
#[cfg(test)]
mod turns;
mod world;

pub use faults::{Faults, NetworkCounts};
pub use ledger::Ledger;
pub use run::{Failure, Run, Sim, seeds};
pub use world::{HostBuilder, World};
