//! Proves the semantics of a service of one's own: fifty simulated weeks at a bad shop, and no customer pays twice.
//!
//! Each seed is another run of the same scenario, with links that break in the middle of messages and a server that is
//! killed in the middle of calls. Nothing here knows the protocol; the till counts its receipts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farcall::sim::{Faults, Ledger, Sim, World, seeds};
use farcall::{CallError, Execution, remote};

/// Takes money.
#[remote(semantics = "at_most_once")]
pub trait Till {
    /// Takes the price of one receipt.
    async fn pay(&self, receipt: u64) -> u64;

    /// The same under the weaker promise, to see the difference.
    #[remote(semantics = "at_least_once")]
    async fn pay_carelessly(&self, receipt: u64) -> u64;
}

/// The till; what it shares outlives a crash of the server, as a disk would.
#[derive(Clone)]
struct Memory {
    receipts: Arc<Mutex<BTreeMap<u64, u32>>>,
    ledger: Ledger,
}

impl Memory {
    async fn take(&self, receipt: u64) -> u64 {
        self.ledger.ran(receipt);
        *self.receipts.lock().expect("no panic under the lock").entry(receipt).or_default() += 1;
        // A crash may come here: the money is taken, and nobody was told.
        tokio::time::sleep(Duration::from_millis(5)).await;
        receipt
    }
}

#[remote]
impl Till for Memory {
    async fn pay(&self, receipt: u64) -> u64 {
        self.take(receipt).await
    }

    async fn pay_carelessly(&self, receipt: u64) -> u64 {
        self.take(receipt).await
    }
}

/// Starts the server. Called again after a crash, it is a new process on the same host.
async fn open_shop(world: &World, till: &Memory) {
    let shop = world.node("shop").start();
    shop.registry().bind("till", till.clone()).expect("a free name");
    shop.listen("tcp://shop:1").await.expect("a free port");
}

/// One customer's calls: odd receipts with care, even ones without. Gives how the careful ones ended.
async fn buy(world: World, first: u64) -> Vec<(u64, Option<Execution>)> {
    let customer = world.node(&format!("customer{first}")).start();
    let till = loop {
        match customer.lookup::<TillProxy>("tcp://shop:1/till").await {
            Ok(till) => break till,
            Err(CallError::Unreachable { .. }) => tokio::time::sleep(RETRY).await,
            Err(error) => panic!("{error}"),
        }
    };
    let mut ends = Vec::new();
    for receipt in first..first + RECEIPTS {
        tokio::time::sleep(world.time_up_to(Duration::from_millis(100))).await;
        let ledger = world.ledger();
        if receipt % 2 == 0 {
            let paid = ledger.call(receipt, till.pay_carelessly(receipt)).await;
            assert_eq!(paid.expect("it is tried until it is answered"), receipt);
        } else {
            let paid = ledger.call(receipt, till.pay(receipt)).await;
            ends.push((receipt, paid.err().map(|error| error.execution())));
        }
    }
    ends
}

/// A week: two customers, and a server that is killed now and then.
async fn week(world: World) -> (Memory, Vec<(u64, Option<Execution>)>) {
    let till = Memory { receipts: Arc::default(), ledger: world.ledger().clone() };
    open_shop(&world, &till).await;
    let customers = [1000, 2000].map(|first| tokio::spawn(buy(world.clone(), first)));
    for _ in 0..3 {
        tokio::time::sleep(world.time_up_to(Duration::from_secs(1))).await;
        world.crash("shop");
        tokio::time::sleep(world.time_up_to(Duration::from_millis(300))).await;
        open_shop(&world, &till).await;
    }
    let mut ends = Vec::new();
    for customer in customers {
        ends.extend(customer.await.expect("no customer panics"));
    }
    // The faults end, and what is late may still come: then it is final.
    world.settle(Duration::from_secs(60)).await;
    (till, ends)
}

/// How careful payments ended, over all weeks.
#[derive(Default)]
struct Sum {
    weeks: u64,
    answered: u64,
    /// How often the till took the money: never, once, more than once.
    runs: [u64; 3],
    /// Customers who were told that it may have run, and for how many of them it had.
    unknown: u64,
    unknown_ran: u64,
    careless_twice: usize,
}

impl Sum {
    /// What customers were told, against what the till counted.
    fn add(&mut self, seed: u64, till: &Memory, ends: &[(u64, Option<Execution>)]) {
        let receipts = till.receipts.lock().expect("no panic under the lock");
        for (receipt, end) in ends {
            let runs = receipts.get(receipt).copied().unwrap_or(0);
            self.runs[runs.min(2) as usize] += 1;
            match end {
                None => {
                    self.answered += 1;
                    assert_eq!(runs, 1, "seed {seed}: {receipt} was answered");
                }
                Some(Execution::NotExecuted) => {
                    assert_eq!(runs, 0, "seed {seed}: {receipt} ran although it was said not to");
                }
                Some(_) => {
                    self.unknown += 1;
                    self.unknown_ran += u64::from(runs);
                }
            }
        }
        let twice = |(receipt, runs): &(&u64, &u32)| *receipt % 2 == 0 && **runs > 1;
        self.careless_twice += receipts.iter().filter(twice).count();
        self.weeks += 1;
    }

    fn print(&self) {
        let Sum { weeks, answered, runs: [never, once, twice], unknown, unknown_ran, .. } = self;
        let careless = self.careless_twice;
        println!(
            "{weeks:5} {answered:9} {never:6} {once:5} {twice:6} {unknown:8} {unknown_ran:6} {careless:15}"
        );
    }
}

fn main() {
    println!("      at most once                                  at least once");
    println!("weeks  answered  never  once  twice  unknown  (ran)   paid twice");
    let faults = Faults { cut_one_in: 15, ..Faults::rough() };
    let (mut sum, mut torn, mut crashes) = (Sum::default(), 0, 0);
    for seed in seeds(0..WEEKS) {
        let sim = Sim::new(seed).faults(faults.clone()).replay("cargo run --example prove_it");
        let run = sim.run(week);
        let (till, ends) = run.value;
        sum.add(seed, &till, &ends);
        torn += run.network.torn;
        crashes += run.network.crashes;
        if sum.weeks % 10 == 0 {
            sum.print();
        }
    }
    println!("{torn} connections were torn in mid-message, {crashes} servers were killed.");
    assert_eq!(sum.runs[2], 0, "somebody paid twice with care");
    if sum.weeks == WEEKS {
        assert!(sum.careless_twice > 0 && sum.unknown > 0, "too mild a time to prove anything");
        println!("With care nobody paid twice, and nobody was told a lie about it.");
    }
}

/// Runs of the scenario, a seed each.
const WEEKS: u64 = 50;
/// Receipts of one customer.
const RECEIPTS: u64 = 30;
/// Pause of a customer who finds the shop closed.
const RETRY: Duration = Duration::from_millis(50);
