//! Runs so many seeds of the simulation and says what came of them: `simulate 2000`, `simulate 2000 datagrams`,
//! `simulate 2000 stores`.
//!
//! The test `canaries` builds it with the planted bugs and runs it once for each.

use farcall::sim::machines::{Config, durable, run_many};
use farcall::sim::oracle::Broken;

fn main() {
    let seeds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(2_000);
    let kind = std::env::args().nth(2).unwrap_or_default();
    let (runs, broken) = simulate(1..seeds + 1, &kind);
    match broken {
        Some((seed, broken)) => println!("seed {seed}: {broken}"),
        None => println!("all {runs} kept"),
    }
}

fn simulate(seeds: std::ops::Range<u64>, kind: &str) -> (u64, Option<(u64, Broken)>) {
    if kind == "stores" {
        let summary = durable::run_many(seeds, 2, &durable::Config::default());
        let failure = summary.failure.and_then(|failure| Some((failure.seed, failure.broken?)));
        return (summary.runs, failure);
    }
    let config = Config { datagrams: kind == "datagrams", ..Config::default() };
    let summary = run_many(seeds, 2, &config);
    (summary.runs, summary.failure.and_then(|failure| Some((failure.seed, failure.broken?))))
}
