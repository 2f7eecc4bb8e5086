//! Seeded runs of exactly-once calls: clients with a journal, servers with an inbox, disks that fail, and a network that
//! loses, repeats and holds up.
//!
//! Batches, journals, inboxes and what the client decides are the real machines; the database is a simulated one, the
//! network a queue. The oracle looks into the durable images: what took effect is what is there.

mod caller;
mod disk;
mod messages;
mod method;
mod node;
mod oracle;
mod plan;
mod program;
mod rows;
mod server;
#[cfg(test)]
mod tests;
mod trouble;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::super::oracle::{Broken, broken};
use super::panic_text;
use plan::Plan;
use world::World;

/// Whether the promises still hold.
type Step = Result<(), Broken>;

/// How large runs are, and what is allowed to go wrong in them.
#[derive(Debug, Clone)]
pub struct Config {
    /// Most clients of a run.
    pub clients: u64,
    /// Most servers of a run; each may be a client of those behind it.
    pub servers: u64,
    /// Most calls of a client.
    pub calls: u64,
    /// What may go wrong.
    pub faults: Faults,
}

/// What may go wrong in a run. Each seed draws some of what is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// Messages are lost.
    pub loss: bool,
    /// Messages arrive again, some seconds later.
    pub repeats: bool,
    /// Messages arrive seconds late.
    pub delays: bool,
    /// Sessions refuse calls.
    pub refusals: bool,
    /// Processes crash, at every step, and are started again.
    pub crashes: bool,
    /// Statements fail, and some end their transaction.
    pub statements: bool,
    /// Commits fail, known or unknown.
    pub commits: bool,
    /// Disks are full for a while.
    pub full: bool,
    /// Methods panic, end their transaction, or leave it so that it cannot be committed.
    pub methods: bool,
    /// Servers are to be found at one of their addresses only in the end.
    pub absent: bool,
    /// Callers stop waiting, and cancel.
    pub give_ups: bool,
    /// An old copy of a database is put in its place.
    pub restored: bool,
    /// A server gets an empty database.
    pub replaced: bool,
    /// A client's database is copied, and both are used.
    pub copied: bool,
    /// Servers drop clients of which they keep no answers.
    pub purged: bool,
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The run's seed.
    pub seed: u64,
    /// Hash over everything that happened: equal for equal seeds.
    pub hash: u64,
    /// What happened to calls.
    pub counts: Counts,
    /// What happened to network, processes and disks.
    pub events: Counted,
    /// The promise that was broken, if one was.
    pub broken: Option<Broken>,
    /// What happened, line by line, if it was asked for.
    pub transcript: String,
}

/// Makes a struct of counters that can be added up.
macro_rules! counters {
    ($(#[$about:meta])* $name:ident { $($(#[$field_about:meta])* $field:ident,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_about])* pub $field: u64,)*
        }

        impl $name {
            fn add(&mut self, other: &$name) {
                $(self.$field += other.$field;)*
            }
        }
    };
}

counters! {
    /// How often things happened to calls.
    Counts {
        /// Calls that were to be saved.
        calls,
        /// Of these, such that a handler enqueued; it may have been undone.
        chained,
        /// Effects in the stores of servers.
        effects,
        /// Calls that ended with a result.
        answers,
        /// Calls that ended with their method's own error.
        errors,
        /// Calls that are known not to have run and never to run.
        not_executed,
        /// Results that were told to a call with a key.
        keyed,
        /// Calls that were parked.
        parked,
        /// Journals that stopped sending.
        stopped,
    }
}

counters! {
    /// How often things happened to network, processes and disks.
    Counted {
        /// Steps of the simulation.
        steps,
        /// Messages that were lost.
        lost,
        /// Questions that arrived again.
        repeats,
        /// Questions that were asked again.
        asked_again,
        /// Crashes of processes.
        crashes,
        /// Of these, in the middle of a batch, and between a commit and what it tells.
        mid_batch,
        /// See `mid_batch`.
        before_telling,
        /// Commits of something about calls to a store.
        commits,
        /// Statements that failed.
        statements,
        /// Commits that are known not to be there.
        refused,
        /// Commits of which nobody knows.
        unknown,
        /// Of these, such that showed when the database was opened again.
        shown,
        /// Transactions that a statement ended.
        ended,
        /// Disks that were full for a while.
        full,
        /// Handlers that were run again by their server.
        tried_again,
        /// Words that came back to a fence.
        fences,
        /// Calls that were to be cancelled.
        cancels,
        /// Of these, such that were never sent.
        cancelled_unsent,
        /// Calls that found their key in use.
        attached,
        /// Calls that were refused for their key or a full journal.
        not_saved,
        /// Calls whose callers were told to wait for a ticket.
        deferred,
        /// Results that were taken later.
        recovered,
        /// Databases that were replaced by an old copy, or by an empty one.
        restored,
        /// See `restored`.
        replaced,
        /// What was finished was told around calls that were bound to no store.
        held_up,
        /// Journals that were copied.
        copied,
        /// Attempts to drop a registration.
        purges,
        /// Stores that a program accepted in place of the one before.
        accepted,
    }
}

/// Many runs together.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// How many there were.
    pub runs: u64,
    /// What happened to calls.
    pub counts: Counts,
    /// What happened to network, processes and disks.
    pub events: Counted,
    /// The lowest failing seed's report, with its transcript.
    pub failure: Option<Report>,
}

impl Default for Config {
    fn default() -> Config {
        Config { clients: 3, servers: 3, calls: 10, faults: Faults::ALL }
    }
}

impl Faults {
    /// Everything may go wrong.
    pub const ALL: Faults = Faults::all(true);
    /// Nothing goes wrong.
    pub const NONE: Faults = Faults::all(false);

    const fn all(on: bool) -> Faults {
        Faults {
            loss: on,
            repeats: on,
            delays: on,
            refusals: on,
            crashes: on,
            statements: on,
            commits: on,
            full: on,
            methods: on,
            absent: on,
            give_ups: on,
            restored: on,
            replaced: on,
            copied: on,
            purged: on,
        }
    }
}

/// One run.
#[must_use]
pub fn run(seed: u64, config: &Config) -> Report {
    run_recorded(seed, config, false)
}

/// One run with its transcript.
#[must_use]
pub fn replay(seed: u64, config: &Config) -> Report {
    run_recorded(seed, config, true)
}

/// The runs of all these seeds, on so many threads; stops early when one fails.
#[must_use]
pub fn run_many(seeds: std::ops::Range<u64>, threads: usize, config: &Config) -> Summary {
    let (next, failed) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let summary = Mutex::new(Summary::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let mut own = Summary::default();
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let report = run(seed, config);
                    failed.fetch_or(report.broken.is_some(), Ordering::Relaxed);
                    own.add(report);
                }
                summary.lock().unwrap_or_else(PoisonError::into_inner).join(own);
            });
        }
    });
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(failure) = &mut summary.failure {
        *failure = replay(failure.seed, config);
    }
    summary
}

fn run_recorded(seed: u64, config: &Config, record: bool) -> Report {
    let mut world = World::new(seed, Plan::draw(seed, config), record);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    let broken = match outcome {
        Ok(outcome) => outcome.err(),
        Err(panic) => Some(broken("panic", panic_text(&*panic))),
    };
    world.into_report(broken)
}

impl Summary {
    fn add(&mut self, report: Report) {
        self.runs += 1;
        self.counts.add(&report.counts);
        self.events.add(&report.events);
        self.fail(report.broken.is_some().then_some(report));
    }

    fn join(&mut self, other: Summary) {
        self.runs += other.runs;
        self.counts.add(&other.counts);
        self.events.add(&other.events);
        self.fail(other.failure);
    }

    /// Keeps the failure of the lowest seed.
    fn fail(&mut self, failure: Option<Report>) {
        let lowest = self.failure.as_ref().map_or(u64::MAX, |failure| failure.seed);
        if failure.as_ref().is_some_and(|failure| failure.seed < lowest) {
            self.failure = failure;
        }
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.transcript)?;
        match &self.broken {
            Some(broken) => {
                writeln!(f, "seed {}: {broken}", self.seed)?;
                let command = "cargo test -p farcall-tests --test simulation_durable replay";
                write!(f, "replay: FARCALL_SEED={} {command} -- --nocapture", self.seed)
            }
            None => write!(f, "seed {}: every promise was kept", self.seed),
        }
    }
}
