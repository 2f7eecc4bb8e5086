//! Seeded runs of the protocol's machines under every fault.

use farcall::sim::machines::{Config, replay, run, run_many};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn twenty_thousand_seeds_break_no_promise() {
    let seeds = number("FARCALL_SEEDS").unwrap_or(20_000);
    let began = std::time::Instant::now();
    let summary = run_many(1..seeds + 1, 2, &Config::default());
    println!(
        "{:?} {:?} {} runs in {:?}",
        summary.counts,
        summary.events,
        summary.runs,
        began.elapsed()
    );
    if let Some(failure) = &summary.failure {
        let text = failure.to_string();
        let lines: Vec<&str> = text.lines().collect();
        panic!("\n{}", lines[lines.len().saturating_sub(120)..].join("\n"));
    }
}

#[test]
fn replay_a_seed() {
    if let Some(seed) = number("FARCALL_SEED") {
        println!("{}", replay(seed, &Config::default()));
    }
}
