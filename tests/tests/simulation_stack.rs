//! The promises, held against whole nodes on a simulated network: real drivers, virtual time, seeded faults.
//!
//! A failing seed prints its transcript and the command that runs it again.

use std::panic;
use std::sync::Once;
use std::thread;

use farcall::sim::oracle::Counts;
use farcall::sim::{Failure, Faults, NetworkCounts, Run, Sim, seeds};

use scenario::{Link, Mode, Tally};

#[path = "simulation_stack/scenario.rs"]
mod scenario;
#[path = "simulation_stack/service.rs"]
mod service;

/// What many runs saw.
#[derive(Default)]
struct Sum {
    runs: u64,
    calls: Counts,
    network: NetworkCounts,
    tally: Tally,
}

#[test]
fn promises_hold_over_a_thousand_seeds() {
    let (sum, alone) = sum(SEEDS, run);
    if !alone {
        sum.check();
    }
}

#[test]
fn promises_hold_over_datagrams() {
    let (sum, alone) = sum(UDP_SEEDS, run_over_udp);
    if !alone {
        sum.check_datagrams();
    }
}

/// All runs together, and whether there was but one.
fn sum(count: u64, run: fn(u64) -> Result<Run<Tally>, Box<Failure>>) -> (Sum, bool) {
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
    let mut sum = Sum::default();
    for half in halves {
        match half {
            Ok(runs) => runs.into_iter().for_each(|run| sum.add(run)),
            Err(failure) => panic!("{failure}"),
        }
    }
    sum.print();
    (sum, alone)
}

#[test]
fn a_seed_does_the_same_twice() {
    for seed in 0..REPEATED {
        let (once, twice) = (run(seed).expect("it holds"), run(seed).expect("it holds"));
        assert_eq!(once.events, twice.events, "I16: seed {seed}");
        assert_eq!(once.trace_hash, twice.trace_hash, "I16: seed {seed}");
        let both = [(); 2].map(|()| run_over_udp(seed).expect("it holds"));
        assert_eq!(both[0].trace_hash, both[1].trace_hash, "I16: seed {seed} over datagrams");
    }
}

fn run(seed: u64) -> Result<Run<Tally>, Box<Failure>> {
    hide_planned_panics();
    let mode = Mode::of(seed);
    Sim::new(seed)
        .faults(mode.faults(seed))
        .replay("cargo test -p farcall-tests --test simulation_stack promises_hold")
        .try_run(async |world| scenario::run(world, mode, Link::Tcp).await)
}

fn run_over_udp(seed: u64) -> Result<Run<Tally>, Box<Failure>> {
    hide_planned_panics();
    let mode = Mode::of(seed);
    let largest_datagram = if seed.is_multiple_of(5) { 800 } else { 0 };
    let lose_one_in = [0, 100, 10, 4][(seed / 4 % 4) as usize];
    Sim::new(seed)
        .faults(Faults { lose_one_in, largest_datagram, ..mode.faults(seed) })
        .replay("cargo test -p farcall-tests --test simulation_stack promises_hold_over_datagrams")
        .try_run(async |world| scenario::run(world, mode, Link::Udp).await)
}

impl Sum {
    fn add(&mut self, run: Run<Tally>) {
        self.runs += 1;
        self.calls.add(&run.calls);
        self.network.add(&run.network);
        for (kind, count) in run.value {
            *self.tally.entry(kind).or_default() += count;
        }
    }

    fn print(&self) {
        println!("{} runs\n{:#?}\n{:#?}\n{:#?}", self.runs, self.calls, self.network, self.tally);
    }

    fn check_datagrams(&self) {
        for (kind, least) in [("ok", 20_000), ("method error", 500), ("panicked", 500)] {
            let count = self.tally.get(kind).copied().unwrap_or(0);
            assert!(count >= least, "only {count} calls ended as `{kind}`");
        }
        let network = &self.network;
        for (what, count, least) in [
            ("datagrams", network.datagrams, 100_000),
            ("lost", network.lost, 10_000),
            ("repeated", network.repeated, 5_000),
            ("corrupted", network.corrupted, 1_000),
            ("other addresses", network.rebound, 200),
            ("crashes", network.crashes, 1_000),
        ] {
            assert!(count >= least, "only {count} {what}");
        }
        assert_eq!(self.tally.get("other"), None, "an error that no fault explains");
    }

    /// The runs were not empty: everything that can go wrong did, many times.
    fn check(&self) {
        for (kind, least) in [
            ("ok", 50_000),
            ("method error", 1000),
            ("panicked", 1000),
            ("deadline exceeded", 1000),
            ("dropped", 500),
            ("server restarted", 100),
            ("session expired", 10),
            ("shutting down", 10),
            ("link", 100),
        ] {
            let count = self.tally.get(kind).copied().unwrap_or(0);
            assert!(count >= least, "only {count} calls ended as `{kind}`");
        }
        let (calls, network) = (&self.calls, &self.network);
        for (what, count, least) in [
            ("not executed", calls.not_executed, 500),
            ("executed", calls.executed, 1000),
            ("unknown", calls.unknown, 500),
            ("unknown that ran", calls.unknown_ran, 100),
            ("repeated under at-least-once", calls.repeated, 500),
            ("cuts", network.cuts, 2000),
            ("torn frames", network.torn, 1000),
            ("half-open connections", network.half_open, 200),
            ("stalls", network.stalls, 2000),
            ("crashes", network.crashes, 4000),
        ] {
            assert!(count >= least, "only {count} {what}");
        }
        assert_eq!(self.tally.get("other"), None, "an error that no fault explains");
    }
}

/// The service's own panics are many, and their traces slow.
fn hide_planned_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if info.payload_as_str() != Some(service::PLANNED) {
                usual(info);
            }
        }));
    });
}

/// Seeds that are run twice more.
const REPEATED: u64 = 40;
/// Runs in every CI run, over streams and over datagrams.
const UDP_SEEDS: u64 = 400;
const SEEDS: u64 = 1000;
