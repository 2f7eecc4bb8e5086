//! The promises of groups and of mailboxes, I13 among them, held against whole nodes on a simulated network.
//!
//! A failing seed prints its transcript and the command that runs it again.

use std::thread;

use farcall::sim::{Failure, Run, seeds};
use farcall_tests::{groups, mailboxes};

#[test]
fn what_groups_promise_holds_over_ten_thousand_seeds() {
    let mut sum = groups::Tally::default();
    let mut multicasts = 0;
    let alone = every(GROUP_SEEDS, groups::run, |run| {
        sum.add(&run.value);
        multicasts += run.network.multicasts;
    });
    println!("{sum:#?}, {multicasts} datagrams to a group");
    if alone {
        return;
    }
    let seeds = GROUP_SEEDS;
    // The runs were not empty: everything that can go wrong did, many times.
    at_least(&[
        ("calls", sum.calls, 6 * seeds),
        ("met", sum.met, 2 * seeds),
        ("unmet", sum.unmet, seeds),
        ("answers", sum.answers, 8 * seeds),
        ("refused answers", sum.refused, seeds / 2),
        ("second votes", sum.aliases, seeds / 10),
        ("silent members", sum.silent, seeds),
        ("silent members that had run", sum.silent_ran, seeds / 10),
        ("restarts in mid-call", sum.restarted, seeds / 50),
        ("not executed", sum.not_executed, seeds / 10),
        ("members that came or went", sum.changes, seeds / 10),
        ("runs with calls in one datagram", sum.bundled, seeds / 5),
        // Three of each run ask who is there.
        ("datagrams to a group", multicasts, 3 * sum.bundled + seeds / 2),
        ("calls that a broadcast is not for", sum.not_for_broadcast, seeds / 20),
    ]);
}

#[test]
fn what_mailboxes_promise_holds_over_a_thousand_seeds() {
    let mut sum = mailboxes::Tally::default();
    let alone = every(MAILBOX_SEEDS, mailboxes::run, |run| sum.add(&run.value));
    println!("{sum:#?}");
    if alone {
        return;
    }
    let seeds = MAILBOX_SEEDS;
    at_least(&[
        ("messages", sum.messages, 20 * seeds),
        ("received", sum.received, 10 * seeds),
        ("repeated", sum.repeated, seeds / 100),
        ("sent", sum.sent, 4 * seeds),
        ("unknown", sum.unknown, seeds / 100),
        ("lost", sum.lost, seeds / 20),
    ]);
}

#[test]
fn a_seed_does_the_same_twice() {
    for seed in 0..REPEATED {
        let both = [(); 2].map(|()| groups::run(seed).expect("it holds"));
        assert_eq!(both[0].trace_hash, both[1].trace_hash, "I16: seed {seed}");
        assert_eq!(both[0].value, both[1].value, "I16: seed {seed}");
        let both = [(); 2].map(|()| mailboxes::run(seed).expect("it holds"));
        assert_eq!(both[0].trace_hash, both[1].trace_hash, "I16: seed {seed} of mailboxes");
    }
}

/// Runs all seeds on two threads; whether there was but one.
fn every<T: Send>(
    count: u64,
    run: fn(u64) -> Result<Run<T>, Box<Failure>>,
    add: impl FnMut(Run<T>),
) -> bool {
    let all = seeds(0..count);
    let alone = all.end - all.start == 1;
    let halves = thread::scope(|scope| {
        let run_half = |half: u64| {
            let mine = all.clone().filter(move |seed| alone || seed % 2 == half);
            move || mine.map(run).collect::<Result<Vec<_>, _>>()
        };
        let halves: Vec<_> =
            (0..if alone { 1 } else { 2 }).map(|half| scope.spawn(run_half(half))).collect();
        halves.into_iter().map(|half| half.join().expect("failures are values")).collect::<Vec<_>>()
    });
    let runs = halves.into_iter().collect::<Result<Vec<_>, _>>();
    runs.unwrap_or_else(|failure| panic!("{failure}")).into_iter().flatten().for_each(add);
    alone
}

fn at_least(counts: &[(&str, u64, u64)]) {
    for (what, count, least) in counts {
        assert!(count >= least, "only {count} {what}, of at least {least}");
    }
}

/// Seeds in every CI run.
const GROUP_SEEDS: u64 = 10_000;
const MAILBOX_SEEDS: u64 = 1_000;
/// Seeds that are run twice more.
const REPEATED: u64 = 40;
