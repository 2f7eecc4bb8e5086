//! Runs so many seeds of the simulation and says what came of them: `simulate 2000`, `simulate 2000 datagrams`,
//! `simulate 2000 stores`, `simulate 2000 groups`, `simulate 2000 mailboxes`, `simulate 2000 references`.
//!
//! The test `canaries` builds it with the planted bugs and runs it once for each.

use farcall::sim::machines::{Config, durable, run_many};
use farcall::sim::oracle::Broken;
use farcall_tests::{groups, mailboxes, references};

fn main() {
    let seeds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(2_000);
    let kind = std::env::args().nth(2).unwrap_or_default();
    if let "groups" | "mailboxes" | "references" = &*kind {
        match simulate_nodes(1..seeds + 1, &kind) {
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

/// Groups and mailboxes are simulated with whole nodes: what is broken there is a panic of the scenario.
fn simulate_nodes(mut seeds: std::ops::Range<u64>, kind: &str) -> Option<(u64, String)> {
    // What is to be read is the line that this prints.
    std::panic::set_hook(Box::new(|_| {}));
    seeds.find_map(|seed| {
        let failure = match kind {
            "groups" => groups::run(seed).err(),
            "references" => references::run(seed).err(),
            _ => mailboxes::run(seed).err(),
        };
        Some((seed, failure?.reason))
    })
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
