//! Seeded runs of exactly-once calls over disks that fail: no seed may break a promise.

use farcall::sim::machines::durable::{Config, Faults, replay, run, run_many};
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
        ("calls that a handler enqueued", counts.chained, 10_000),
        ("effects", counts.effects, 70_000),
        ("results", counts.answers, 70_000),
        ("own errors", counts.errors, 5_000),
        ("calls that never run", counts.not_executed, 10_000),
        ("results under a key", counts.keyed, 10_000),
        ("parked calls", counts.parked, 2_000),
        ("journals that stopped", counts.stopped, 2_000),
        ("lost messages", events.lost, 30_000),
        ("repeated questions", events.repeats, 20_000),
        ("crashes in the middle of a batch", events.mid_batch, 3_000),
        ("crashes between a commit and what it tells", events.before_telling, 3_000),
        ("statements that failed", events.statements, 5_000),
        ("transactions that a statement ended", events.ended, 2_000),
        ("commits that were refused", events.refused, 5_000),
        ("commits of unknown fate", events.unknown, 3_000),
        ("of these, such that showed", events.shown, 1_000),
        ("full disks", events.full, 3_000),
        ("handlers that ran again", events.tried_again, 3_000),
        ("words to a fence", events.fences, 2_000),
        ("cancelled calls", events.cancels, 2_000),
        ("of these, such that were never sent", events.cancelled_unsent, 500),
        ("calls that attached to their key", events.attached, 3_000),
        ("refused keys and full journals", events.not_saved, 300),
        ("callers that got a ticket", events.deferred, 3_000),
        ("results that were taken later", events.recovered, 10_000),
        ("ends that were told around calls without a store", events.held_up, 2_000),
        ("restored databases", events.restored, 2_000),
        ("replaced databases", events.replaced, 2_000),
        ("copied journals", events.copied, 2_000),
        ("purges", events.purges, 2_000),
        ("stores that were accepted", events.accepted, 3_000),
    ] {
        assert!(times >= least, "{what}: {times}, expected {least} at least");
    }
}

#[test]
fn no_fresh_seed_breaks_a_promise() {
    kept(run_many(fresh(), 2, &Config::default()).failure.as_ref());
}

#[test]
fn while_nobody_touches_a_store_nothing_is_parked_and_no_journal_stops() {
    let (restored, replaced, copied, purged) = (false, false, false, false);
    let faults = Faults { restored, replaced, copied, purged, ..Faults::ALL };
    let summary = run_many(1..3_001, 2, &Config { faults, ..Config::default() });
    kept(summary.failure.as_ref());
    assert!(summary.events.unknown > 300 && summary.events.crashes > 3_000, "{summary:?}");
    assert_eq!((summary.counts.parked, summary.counts.stopped), (0, 0));
}

#[test]
fn without_faults_nothing_is_asked_again() {
    let summary = run_many(1..1_001, 2, &Config { faults: Faults::NONE, ..Config::default() });
    kept(summary.failure.as_ref());
    let (counts, events) = (summary.counts, summary.events);
    assert!(counts.answers > 1_000);
    assert_eq!((events.asked_again, events.tried_again, counts.parked), (0, 0, 0));
}

#[test]
fn equal_seeds_give_equal_runs_and_others_do_not() {
    let config = Config::default();
    for seed in 1..201 {
        let (first, second) = (run(seed, &config), replay(seed, &config));
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!((first.counts, first.events), (second.counts, second.events), "seed {seed}");
        assert_ne!(first.hash, run(seed + 1, &config).hash, "seeds {seed} and {}", seed + 1);
    }
}

/// `FARCALL_SEED=7 cargo test -p farcall-tests --test simulation_durable replay -- --nocapture` shows what seed 7 does.
#[test]
fn replay_one_seed() {
    let seed = number("FARCALL_SEED").unwrap_or(1);
    let report = replay(seed, &Config::default());
    println!("{report}");
    assert!(report.transcript.contains("call "));
    assert!(report.broken.is_none());
}
