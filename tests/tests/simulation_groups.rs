//! I13 and the promises of groups, held against whole nodes on a simulated network.
//!
//! A failing seed prints its transcript and the command that runs it again.

use std::thread;

use farcall::sim::{Failure, Run, seeds};
use farcall_tests::groups::{Tally, run};

#[test]
fn what_groups_promise_holds_over_ten_thousand_seeds() {
    let all = seeds(0..SEEDS);
    let alone = all.end - all.start == 1;
    let halves = thread::scope(|scope| {
        let run_half = |half: u64| {
            let mine = all.clone().filter(move |seed| alone || seed % 2 == half);
            move || mine.map(run).collect::<Result<Vec<Run<Tally>>, Box<Failure>>>()
        };
        let halves: Vec<_> =
            (0..if alone { 1 } else { 2 }).map(|half| scope.spawn(run_half(half))).collect();
        halves.into_iter().map(|half| half.join().expect("failures are values")).collect::<Vec<_>>()
    });
    let mut sum = Tally::default();
    for half in halves {
        match half {
            Ok(runs) => runs.iter().for_each(|run| sum.add(&run.value)),
            Err(failure) => panic!("{failure}"),
        }
    }
    println!("{sum:#?}");
    if !alone {
        check(&sum);
    }
}

#[test]
fn a_seed_does_the_same_twice() {
    for seed in 0..REPEATED {
        let both = [(); 2].map(|()| run(seed).expect("it holds"));
        assert_eq!(both[0].trace_hash, both[1].trace_hash, "I16: seed {seed}");
        assert_eq!(both[0].value, both[1].value, "I16: seed {seed}");
    }
}

/// The runs were not empty: everything that can go wrong did, many times.
fn check(sum: &Tally) {
    for (what, count, least) in [
        ("calls", sum.calls, 8 * SEEDS),
        ("met", sum.met, 3 * SEEDS),
        ("unmet", sum.unmet, SEEDS),
        ("answers", sum.answers, 8 * SEEDS),
        ("refused answers", sum.refused, SEEDS / 2),
        ("second votes", sum.aliases, SEEDS / 10),
        ("silent members", sum.silent, SEEDS),
        ("silent members that had run", sum.silent_ran, SEEDS / 10),
        ("restarts in mid-call", sum.restarted, SEEDS / 50),
        ("not executed", sum.not_executed, SEEDS / 10),
        ("members that came or went", sum.changes, SEEDS / 10),
    ] {
        assert!(count >= least, "only {count} {what}, of at least {least}");
    }
}

/// Seeds in every CI run.
const SEEDS: u64 = 10_000;
/// Seeds that are run twice more.
const REPEATED: u64 = 100;
