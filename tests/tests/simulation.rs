//! Seeded runs of the protocol's machines under every fault: no seed may break a promise.

use farcall::Semantics;
use farcall::sim::machines::{
    Config, Faults, Model, Report, explore_exhaustively, replay, run, run_many,
};
use farcall_tests::seeds::{fresh, kept, number};

/// Seeds of each test run; `FARCALL_SEEDS` asks for another number.
const SEEDS: u64 = 20_000;

#[test]
fn no_seed_breaks_a_promise_and_all_that_may_happen_does() {
    let seeds = number("FARCALL_SEEDS").unwrap_or(SEEDS);
    let summary = run_many(1..seeds + 1, 2, &Config::default());
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
        ("lost links", events.cuts, 10_000),
        ("crashes", events.crashes, 5_000),
        ("repeated frames", events.duplicates, 5_000),
        ("calls sent again", events.resent, 1_000),
        ("repeats that were recognised", events.recognised, 3_000),
        ("sessions taken up again", events.resumed, 5_000),
        ("expired sessions", events.expired, 500),
        ("calls fenced by RESOLVE", events.fenced, 200),
        ("frames on links that were replaced", events.on_old_links, 200),
        ("messages in fragments", events.assembled, 5_000),
        ("messages refused at their first fragment", events.refused_pieces, 200),
        ("orderly shutdowns", events.drains, 3_000),
    ] {
        assert!(times >= least, "{what}: {times}, expected {least} at least");
    }
}

#[test]
fn no_fresh_seed_breaks_a_promise() {
    kept(run_many(fresh(), 2, &Config::default()).failure.as_ref());
}

#[test]
fn without_crash_expiry_and_deadline_every_call_ends_as_its_method_does() {
    let faults = Faults { cuts: true, stalls: true, duplicates: true, ..Faults::NONE };
    let summary = run_many(1..2_001, 2, &Config { faults, ..Config::default() });
    kept(summary.failure.as_ref());
    // What is unknown was sent under maybe; the oracle looks at each call.
    assert!(summary.events.cuts > 1_000 && summary.counts.unknown > 0, "{summary:?}");
    let nothing = Config { faults: Faults::NONE, ..Config::default() };
    let summary = run_many(1..1_001, 2, &nothing);
    kept(summary.failure.as_ref());
    assert_eq!((summary.counts.unknown, summary.events.resent), (0, 0));
}

#[test]
fn equal_seeds_give_equal_runs_and_others_do_not() {
    let config = Config::default();
    let same = |one: &Report, other: &Report| one.hash == other.hash;
    for seed in 1..201 {
        let (first, second) = (run(seed, &config), replay(seed, &config));
        assert!(same(&first, &second), "seed {seed}");
        assert_eq!((first.counts, first.events), (second.counts, second.events), "seed {seed}");
        assert!(!same(&first, &run(seed + 1, &config)), "seeds {seed} and {}", seed + 1);
    }
}

/// `FARCALL_SEED=7 cargo test -p farcall-tests --test simulation replay -- --nocapture` shows what seed 7 does.
#[test]
fn replay_one_seed() {
    let seed = number("FARCALL_SEED").unwrap_or(1);
    let report = replay(seed, &Config::default());
    println!("{report}");
    assert!(report.transcript.contains("call 0"));
    assert!(report.broken.is_none());
}

/// Visits all states, and says how many there are.
fn explore(model: Model) -> u64 {
    let explored = explore_exhaustively(&model);
    println!("{model:?}: {} states, {} steps", explored.states, explored.steps);
    if let Some((broken, path)) = explored.broken {
        panic!("{model:?}: {broken}\n{}", path.join("\n"));
    }
    assert!(explored.ends > 100);
    explored.states
}

const MIXES: [[Semantics; 2]; 3] = [
    [Semantics::AtMostOnce, Semantics::AtMostOnce],
    [Semantics::AtMostOnce, Semantics::AtLeastOnce],
    [Semantics::Maybe, Semantics::AtMostOnce],
];

#[test]
fn two_calls_two_crashes_and_three_repeats_keep_every_promise_on_every_schedule() {
    let mut states = 0;
    for calls in MIXES {
        states += explore(Model { calls, crashes: 2, repeats: 3, cuts: 0, cancels: 0 });
    }
    let calls = MIXES[0];
    states += explore(Model { calls, crashes: 1, repeats: 2, cuts: 0, cancels: 1 });
    assert!(states > 70_000, "{states}");
}

#[test]
fn two_calls_and_a_cut_keep_every_promise_on_every_schedule() {
    let mut states = 0;
    for calls in MIXES {
        states += explore(Model { calls, crashes: 1, repeats: 1, cuts: 1, cancels: 0 });
    }
    let calls = MIXES[0];
    states += explore(Model { calls, crashes: 0, repeats: 1, cuts: 1, cancels: 1 });
    assert!(states > 100_000, "{states}");
}
