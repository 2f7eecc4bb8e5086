//! One run of a scenario, from its seed to its verdict.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::faults::{Faults, NetworkCounts};
use super::oracle::Counts;
use super::world::World;

/// A simulation: a seed, and what goes wrong by itself. [`run`](Sim::run) runs a scenario in it.
#[derive(Debug, Clone)]
pub struct Sim {
    seed: u64,
    faults: Faults,
    longest: Duration,
    replay: Option<String>,
}

/// A run that broke nothing.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Run<T> {
    /// What the scenario returned.
    pub value: T,
    /// The seed.
    pub seed: u64,
    /// A hash over everything that happened: the same for every run of the same program with the same seed.
    pub trace_hash: u64,
    /// How many events that hash covers.
    pub events: u64,
    /// Virtual time that passed.
    pub elapsed: Duration,
    /// The calls that the ledger knows, and how they ended.
    pub calls: Counts,
    /// What happened on the network.
    pub network: NetworkCounts,
}

/// A run that broke a promise or an assertion. Its text has the transcript and the command that replays it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What was broken.
    pub reason: String,
    /// The last events, a line each.
    pub transcript: String,
    /// How to see it again.
    pub replay: String,
}

impl Sim {
    /// A simulation without faults of its own: what goes wrong is what the scenario does.
    #[must_use]
    pub fn new(seed: u64) -> Sim {
        Sim { seed, faults: Faults::none(), longest: LONGEST_RUN, replay: None }
    }

    /// Sets what goes wrong by itself.
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Sim {
        self.faults = faults;
        self
    }

    /// Sets the virtual time after which a run that has not ended fails. An hour.
    #[must_use]
    pub fn longest(mut self, longest: Duration) -> Sim {
        self.longest = longest;
        self
    }

    /// Sets the command that a failure names, without the environment variable: `cargo test --test account`.
    #[must_use]
    pub fn replay(mut self, command: impl Into<String>) -> Sim {
        self.replay = Some(command.into());
        self
    }

    /// Runs a scenario to its end.
    ///
    /// # Panics
    /// If a promise was broken, or the scenario or a task of a host panicked, with the transcript and the command that
    /// replays it. Inside another tokio runtime.
    pub fn run<T>(self, scenario: impl AsyncFnOnce(World) -> T) -> Run<T> {
        match self.try_run(scenario) {
            Ok(run) => run,
            Err(failure) => panic!("{failure}"),
        }
    }

    /// As [`run`](Sim::run), for a caller that deals with failures itself.
    ///
    /// # Errors
    /// [`Failure`] where `run` panics.
    pub fn try_run<T>(
        self,
        scenario: impl AsyncFnOnce(World) -> T,
    ) -> Result<Run<T>, Box<Failure>> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = match builder.enable_time().start_paused(true).build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let reason = format!("no tokio runtime could be made: {error}");
                return Err(self.failure(reason, String::new()));
            }
        };
        let entered = runtime.enter();
        let world = World::new(self.seed, self.faults.clone());
        drop(entered);
        let ended = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async {
                let scenario = scenario(world.clone());
                tokio::time::timeout(self.longest, scenario).await
            })
        }));
        let entered = runtime.enter();
        let trace_hash = world.trace_hash();
        let (events, network) = (world.events(), world.network());
        let (elapsed, calls) = (world.elapsed(), world.ledger().counts());
        let broken: Vec<String> = world.ledger().broken().iter().map(ToString::to_string).collect();
        // Thousands of lines, which a run that broke nothing needs not.
        let kept = matches!(ended, Ok(Ok(_))) && broken.is_empty();
        let transcript = if kept { String::new() } else { world.transcript() };
        world.clear();
        drop(entered);
        drop(runtime);
        let value = match ended {
            Err(panic) => {
                let mut reasons = broken;
                reasons.push(format!("the scenario panicked: {}", message(&*panic)));
                return Err(self.failure(reasons.join("\n"), transcript));
            }
            Ok(Err(_elapsed)) => {
                let reason = format!("it did not end within {:?} of virtual time", self.longest);
                return Err(self.failure(reason, transcript));
            }
            Ok(Ok(value)) => value,
        };
        if !broken.is_empty() {
            return Err(self.failure(broken.join("\n"), transcript));
        }
        let seed = self.seed;
        Ok(Run { value, seed, trace_hash, events, elapsed, calls, network })
    }

    fn failure(&self, reason: String, transcript: String) -> Box<Failure> {
        let seed = self.seed;
        let command = self.replay.clone().unwrap_or_else(|| {
            // The test harness names its threads after its tests.
            match std::thread::current().name() {
                Some(name) if name != "main" => format!("cargo test {name}"),
                _ => "cargo test".to_owned(),
            }
        });
        let replay = format!("{SEED_VARIABLE}={seed} {command}");
        Box::new(Failure { seed, reason, transcript, replay })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { seed, reason, transcript, replay } = self;
        write!(f, "seed {seed}:\n{transcript}\nseed {seed}: {reason}\nreplay: {replay}")
    }
}

impl std::error::Error for Failure {}

/// The seeds to run: these, or the one that the environment variable `FARCALL_SEED` names, as a failure's command does.
#[must_use]
pub fn seeds(all: Range<u64>) -> Range<u64> {
    match std::env::var(SEED_VARIABLE).ok().and_then(|text| text.trim().parse().ok()) {
        Some(seed) if seed < u64::MAX => seed..seed + 1,
        _ => all,
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

const SEED_VARIABLE: &str = "FARCALL_SEED";
/// Virtual time of a run; nothing that a scenario waits for takes so long, and pings alone would go on for ever.
const LONGEST_RUN: Duration = Duration::from_secs(3600);
