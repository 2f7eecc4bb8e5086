//! Seeded runs of the protocol's machines: clients and servers over byte streams that stall, break and bring old bytes
//! late, or over datagrams that are lost, repeated, changed and forged; with crashes, pauses, expiry and duplicates.
//!
//! One run takes well under a millisecond: no socket, task or clock is involved, the machines are called as the driver
//! calls them. What happens in a run, and how bad its network is, is drawn from its seed; a failing run is repeated
//! with its transcript by [`replay`].

mod caller;
mod checks;
mod client;
mod datagrams;
#[cfg(feature = "sqlite")]
pub mod durable;
mod model;
mod network;
mod plan;
mod server;
mod streams;
mod trace;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::oracle::{Broken, Counts, broken};
pub use model::{Explored, Model, explore_exhaustively};
use plan::Plan;
use world::World;

/// How large runs are, and what is allowed to go wrong in them.
#[derive(Debug, Clone)]
pub struct Config {
    /// Most clients of a run.
    pub clients: u64,
    /// Most servers of a run.
    pub servers: u64,
    /// Most calls of a client.
    pub calls: u64,
    /// What may go wrong.
    pub faults: Faults,
    /// Links are datagrams, not streams.
    pub datagrams: bool,
}

/// What may go wrong in a run. Each seed draws some of what is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// Links break, and half-open ones swallow what is written to them.
    pub cuts: bool,
    /// Bytes arrive seconds late.
    pub stalls: bool,
    /// Frames arrive again, on a later link too.
    pub duplicates: bool,
    /// Single calls are overtaken by all that was sent after them, as no single stream does it.
    pub overtaking: bool,
    /// Servers crash and are started again.
    pub crashes: bool,
    /// Processes stand still for longer than sessions live.
    pub pauses: bool,
    /// Servers shut down in good order.
    pub drains: bool,
    /// Callers set deadlines, cancel and drop calls.
    pub give_ups: bool,
    /// Of datagrams: some are lost, on one way or both; bare acknowledgements too.
    pub loss: bool,
    /// Of datagrams: some arrive changed or cut off.
    pub corruption: bool,
    /// Of datagrams: those over a size vanish, for a while or for good.
    pub holes: bool,
    /// Of datagrams: clients change their addresses.
    pub rebinding: bool,
    /// Of datagrams: some are sent by others, from addresses that are not theirs.
    pub forgery: bool,
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
    /// What happened to the network and the machines.
    pub events: Events,
    /// The promise that was broken, if one was.
    pub broken: Option<Broken>,
    /// Whether links were datagrams.
    pub datagrams: bool,
    /// What happened, line by line, if it was asked for.
    pub transcript: String,
}

/// How often things happened to network and machines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Events {
    /// Steps of the simulation.
    pub steps: u64,
    /// Links that were lost.
    pub cuts: u64,
    /// Crashes of servers.
    pub crashes: u64,
    /// Frames that arrived again.
    pub duplicates: u64,
    /// Calls that were encoded again.
    pub resent: u64,
    /// Calls that a server found to be repeats.
    pub recognised: u64,
    /// Sessions that expired.
    pub expired: u64,
    /// Sessions that were taken up again.
    pub resumed: u64,
    /// Calls of which RESOLVE made sure that they never run.
    pub fenced: u64,
    /// Frames that arrived on a link that a newer one had replaced.
    pub on_old_links: u64,
    /// Messages that travelled in fragments and arrived.
    pub assembled: u64,
    /// Messages that were refused at their first fragment.
    pub refused_pieces: u64,
    /// Orderly shutdowns.
    pub drains: u64,
    /// Datagrams that were lost.
    pub lost: u64,
    /// Datagrams that were too large for the path.
    pub swallowed: u64,
    /// Datagrams that arrived changed or cut off.
    pub corrupted: u64,
    /// Datagrams of a link that a server had before.
    pub repeats: u64,
    /// Changes of a client's address.
    pub rebound: u64,
    /// Datagrams that somebody else sent.
    pub forged: u64,
}

/// Many runs together.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// How many there were.
    pub runs: u64,
    /// What happened to calls.
    pub counts: Counts,
    /// What happened to the network and the machines.
    pub events: Events,
    /// The lowest failing seed's report, with its transcript.
    pub failure: Option<Report>,
}

impl Default for Config {
    fn default() -> Config {
        Config { clients: 3, servers: 2, calls: 24, faults: Faults::ALL, datagrams: false }
    }
}

impl Faults {
    /// Everything may go wrong.
    pub const ALL: Faults = Faults {
        cuts: true,
        stalls: true,
        duplicates: true,
        overtaking: true,
        crashes: true,
        pauses: true,
        drains: true,
        give_ups: true,
        loss: true,
        corruption: true,
        holes: true,
        rebinding: true,
        forgery: true,
    };
    /// Nothing goes wrong.
    pub const NONE: Faults = Faults {
        cuts: false,
        stalls: false,
        duplicates: false,
        overtaking: false,
        crashes: false,
        pauses: false,
        drains: false,
        give_ups: false,
        loss: false,
        corruption: false,
        holes: false,
        rebinding: false,
        forgery: false,
    };
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
    let plan = Plan::draw(seed, config);
    let mut world = World::new(seed, plan, record);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    let broken = match outcome {
        Ok(outcome) => outcome.err(),
        Err(panic) => Some(broken("panic", panic_text(&*panic))),
    };
    world.into_report(broken)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default()
}

impl Summary {
    fn add(&mut self, report: Report) {
        self.runs += 1;
        self.counts.add(&report.counts);
        self.events.add(&report.events);
        let earlier = self.failure.as_ref().is_none_or(|failure| report.seed < failure.seed);
        if report.broken.is_some() && earlier {
            self.failure = Some(report);
        }
    }

    fn join(&mut self, other: Summary) {
        self.runs += other.runs;
        self.counts.add(&other.counts);
        self.events.add(&other.events);
        if let Some(failure) = other.failure
            && self.failure.as_ref().is_none_or(|own| failure.seed < own.seed)
        {
            self.failure = Some(failure);
        }
    }
}

impl Events {
    fn add(&mut self, other: &Events) {
        self.steps += other.steps;
        self.cuts += other.cuts;
        self.crashes += other.crashes;
        self.duplicates += other.duplicates;
        self.resent += other.resent;
        self.recognised += other.recognised;
        self.expired += other.expired;
        self.resumed += other.resumed;
        self.fenced += other.fenced;
        self.on_old_links += other.on_old_links;
        self.assembled += other.assembled;
        self.refused_pieces += other.refused_pieces;
        self.drains += other.drains;
        self.lost += other.lost;
        self.swallowed += other.swallowed;
        self.corrupted += other.corrupted;
        self.repeats += other.repeats;
        self.rebound += other.rebound;
        self.forged += other.forged;
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.transcript)?;
        match &self.broken {
            Some(broken) => {
                writeln!(f, "seed {}: {broken}", self.seed)?;
                let test = if self.datagrams { "simulation_datagrams" } else { "simulation" };
                let command = format!("cargo test -p farcall-tests --test {test} replay");
                write!(f, "replay: FARCALL_SEED={} {command} -- --nocapture", self.seed)
            }
            None => write!(f, "seed {}: every promise was kept", self.seed),
        }
    }
}
