//! Seeded runs of the protocol's machines over datagrams that are lost, repeated, held up, changed and forged: no seed
//! may break a promise.

use farcall::sim::machines::{Config, Faults, replay, run, run_many};
use farcall_tests::seeds::{fresh, kept, number};

/// Seeds of each test run; `FARCALL_SEEDS` asks for another number.
const SEEDS: u64 = 20_000;

fn datagrams(faults: Faults) -> Config {
    Config { faults, datagrams: true, ..Config::default() }
}

#[test]
fn no_seed_breaks_a_promise_and_all_that_may_happen_does() {
    let seeds = number("FARCALL_SEEDS").unwrap_or(SEEDS);
    let summary = run_many(1..seeds + 1, 2, &datagrams(Faults::ALL));
    println!("{:?}\n{:?}", summary.counts, summary.events);
    kept(summary.failure.as_ref());
    if seeds < SEEDS {
        return;
    }
    let (counts, events) = (summary.counts, summary.events);
    for (what, times, least) in [
        ("calls", counts.calls, 100_000),
        ("answers", counts.answers, 50_000),
        ("at-least-once calls that ran again", counts.repeated, 500),
        ("failures of unknown execution", counts.unknown, 5_000),
        ("of these, such that ran", counts.unknown_ran, 1_000),
        ("failures without execution", counts.not_executed, 5_000),
        ("lost links", events.cuts, 5_000),
        ("crashes", events.crashes, 5_000),
        ("lost datagrams", events.lost, 50_000),
        ("datagrams too large for the path", events.swallowed, 10_000),
        ("repeated datagrams", events.duplicates, 50_000),
        ("changed datagrams", events.corrupted, 10_000),
        ("repeats that were recognised", events.repeats, 10_000),
        ("changes of address", events.rebound, 5_000),
        ("forged datagrams", events.forged, 50_000),
        ("sessions taken up again", events.resumed, 2_000),
        ("expired sessions", events.expired, 500),
        ("messages in pieces", events.assembled, 3_000),
        ("messages refused at a piece", events.refused_pieces, 100),
        ("orderly shutdowns", events.drains, 3_000),
    ] {
        assert!(times >= least, "{what}: {times}, expected {least} at least");
    }
}

#[test]
fn no_fresh_seed_breaks_a_promise() {
    kept(run_many(fresh(), 2, &datagrams(Faults::ALL)).failure.as_ref());
}

#[test]
fn without_crash_expiry_and_deadline_every_call_ends_as_its_method_does() {
    let faults = Faults {
        stalls: true,
        duplicates: true,
        loss: true,
        corruption: true,
        holes: true,
        rebinding: true,
        forgery: true,
        ..Faults::NONE
    };
    let summary = run_many(1..2_001, 2, &datagrams(faults));
    kept(summary.failure.as_ref());
    // What is unknown was sent under maybe; the oracle looks at each call.
    assert!(summary.events.lost > 5_000 && summary.counts.unknown > 0, "{summary:?}");
    let summary = run_many(1..1_001, 2, &datagrams(Faults::NONE));
    kept(summary.failure.as_ref());
    let (counts, events) = (summary.counts, summary.events);
    assert_eq!((counts.unknown, events.resent, events.cuts), (0, 0, 0));
}

#[test]
fn equal_seeds_give_equal_runs_and_others_do_not() {
    let config = datagrams(Faults::ALL);
    for seed in 1..201 {
        let (first, second) = (run(seed, &config), replay(seed, &config));
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!((first.counts, first.events), (second.counts, second.events), "seed {seed}");
        assert_ne!(first.hash, run(seed + 1, &config).hash, "seeds {seed} and {}", seed + 1);
    }
}

/// `FARCALL_SEED=7 cargo test -p farcall-tests --test simulation_datagrams replay -- --nocapture` shows what seed 7 does.
#[test]
fn replay_one_seed() {
    let seed = number("FARCALL_SEED").unwrap_or(1);
    let report = replay(seed, &datagrams(Faults::ALL));
    println!("{report}");
    assert!(report.transcript.contains("call 0"));
    assert!(report.broken.is_none());
}
