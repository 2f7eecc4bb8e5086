//! I11, held against whole nodes on a simulated network: no object goes while somebody holds it, and none stays for ever.
//!
//! A failing seed prints its transcript and the command that runs it again.

use std::thread;

use farcall::sim::seeds;
use farcall_tests::references::{Tally, run};

#[test]
fn what_is_held_stays_and_all_else_goes_over_ten_thousand_seeds() {
    let mut sum = Tally::default();
    let all = seeds(0..SEEDS);
    let count = all.end - all.start;
    let half = all.start + count / 2;
    let halves = [all.start..half, half..all.end];
    let sums = thread::scope(|scope| {
        let work = halves.map(|seeds| {
            scope.spawn(|| {
                let mut sum = Tally::default();
                for seed in seeds {
                    match run(seed) {
                        Ok(run) => sum.add(&run.value),
                        Err(failure) => panic!("{failure}"),
                    }
                }
                sum
            })
        });
        work.map(|work| work.join())
    });
    for half in sums {
        match half {
            Ok(half) => sum.add(&half),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    println!("{sum:#?}");
    if count < SEEDS {
        return;
    }
    // The runs were not empty: everything that can go wrong did, many times.
    for (what, times, least) in [
        ("tokens", sum.tokens, 4 * SEEDS),
        ("dropped", sum.dropped, 4 * SEEDS),
        ("told", sum.told, 4 * SEEDS),
        ("passed", sum.passed, 4 * SEEDS),
        ("called", sum.called, 3 * SEEDS),
        ("home", sum.home, SEEDS),
        ("failed", sum.failed, SEEDS),
        ("lost sessions", sum.lost, SEEDS / 3),
        ("crashed guests", sum.crashed, SEEDS / 5),
    ] {
        assert!(times >= least, "{what}: {times}, expected {least} at least");
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

/// A seed takes some 4 ms of processor time in a build for tests: these are forty seconds of it, half of that on two cores.
const SEEDS: u64 = 10_000;
const REPEATED: u64 = 40;
