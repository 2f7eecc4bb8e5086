//! Runs so many seeds of the simulation and says what came of them: `simulate 2000`, `simulate 2000 datagrams`,
//! `simulate 2000 stores`, `simulate 2000 groups`.
//!
//! The test `canaries` builds it with the planted bugs and runs it once for each.

use farcall::sim::machines::{Config, durable, run_many};
use farcall::sim::oracle::Broken;
use farcall_tests::groups;

fn main() {
    let seeds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(2_000);
    let kind = std::env::args().nth(2).unwrap_or_default();
    if kind == "groups" {
        match simulate_groups(1..seeds + 1) {
            Some((seed, broken)) => println!("seed {seed}: {}", broken.replace('\n', " ")),
            None => println!("all {seeds} kept"),
        }
        return;
    }
    let (runs, broken) = simulate(1..seeds + 1, &kind);
    match broken {
        Some((seed, broken)) => println!("seed {seed}: {broken}"),
        None => println!("all {runs} kept"),
    }
}

/// Groups are simulated with whole nodes: what is broken there is a panic of the scenario.
fn simulate_groups(seeds: std::ops::Range<u64>) -> Option<(u64, String)> {
    // What is to be read is the line that this prints.
    std::panic::set_hook(Box::new(|_| {}));
    let mut seeds = seeds;
    seeds.find_map(|seed| Some((seed, groups::run(seed).err()?.reason)))
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
