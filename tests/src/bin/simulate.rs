//! Runs so many seeds of the simulation and says what came of them: `simulate 2000`, `simulate 2000 datagrams`.
//!
//! The test `canaries` builds it with the planted bugs and runs it once for each.

use farcall::sim::machines::{Config, run_many};

fn main() {
    let seeds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(2_000);
    let datagrams = std::env::args().nth(2).is_some_and(|kind| kind == "datagrams");
    let summary = run_many(1..seeds + 1, 2, &Config { datagrams, ..Config::default() });
    match summary.failure.and_then(|failure| Some((failure.seed, failure.broken?))) {
        Some((seed, broken)) => println!("seed {seed}: {broken}"),
        None => println!("all {} kept", summary.runs),
    }
}
