//! A load and what carrying it came to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use farcall_benches::now;

use crate::usage::{Allocations, Usage};

/// What a system is to carry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    /// Calls in flight on each connection.
    pub(crate) depth: usize,
    /// Bytes of an echo; nothing for the call with two numbers and their sum.
    pub(crate) echo: Option<usize>,
    /// Bytes of the messages that flow beside the calls.
    pub(crate) beside: Option<usize>,
    /// How long it runs before anything counts.
    pub(crate) warm: Duration,
    pub(crate) span: Duration,
    /// The server, if it is another process.
    pub(crate) server: Option<u32>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) calls: u64,
    pub(crate) seconds: f64,
    /// Of both sides.
    pub(crate) usage: Usage,
    /// In this process.
    pub(crate) allocations: f64,
    /// How long each call took, in nanoseconds, in order of size; only with one in flight.
    pub(crate) times: Vec<u64>,
}

impl Outcome {
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        let last = self.times.len().saturating_sub(1);
        let at = (self.times.len() as f64 * share) as usize;
        self.times.get(at.min(last)).map_or(f64::NAN, |time| *time as f64)
    }

    pub(crate) fn per_call(&self, total: f64) -> f64 {
        total / self.calls as f64
    }
}

/// A load that comes to fewer calls than this runs longer, but at most by this factor.
const FEWEST: u64 = 64;
const STRETCH: u32 = 10;
/// How often is looked whether there are enough calls.
const TICK: Duration = Duration::from_millis(1);
/// The most samples of one outcome.
const SAMPLES: usize = 1 << 19;

/// Looks at clock and counters when the warm-up ends and when the span does.
pub(crate) struct Meter {
    load: Load,
    began: Instant,
    first: Option<(Instant, u64, Usage, Allocations)>,
    outcome: Outcome,
}

impl Meter {
    pub(crate) fn new(load: Load) -> Meter {
        let outcome = Outcome { times: Vec::with_capacity(SAMPLES), ..Outcome::default() };
        Meter { load, began: now(), first: None, outcome }
    }

    /// Called again and again with the calls done so far; false when it is over.
    pub(crate) fn goes_on(&mut self, done: u64) -> bool {
        self.goes_on_at(now(), done)
    }

    fn goes_on_at(&mut self, now: Instant, done: u64) -> bool {
        let Some((since, before, ..)) = &self.first else {
            if now - self.began >= self.load.warm {
                let usage = Usage::now(self.load.server);
                self.first = Some((now, done, usage, Allocations::begin()));
            }
            return true;
        };
        // What is slow gets more time for a few calls.
        let few = done - before < FEWEST;
        if now - *since < self.load.span * if few { STRETCH } else { 1 } {
            return true;
        }
        let Some((since, before, usage, allocations)) = self.first.take() else { return false };
        // First, as the others allocate.
        self.outcome.allocations = allocations.end();
        self.outcome.usage = Usage::now(self.load.server) - usage;
        self.outcome.calls = done - before;
        self.outcome.seconds = (now - since).as_secs_f64();
        false
    }

    pub(crate) fn finish(mut self) -> Outcome {
        self.outcome.times.sort_unstable();
        self.outcome
    }
}

/// Times one call after the other.
pub(crate) struct Timed {
    meter: Meter,
    done: u64,
    before: Instant,
}

impl Timed {
    pub(crate) fn new(load: Load) -> Timed {
        Timed { meter: Meter::new(load), done: 0, before: now() }
    }

    /// Called before each call.
    pub(crate) fn goes_on(&mut self) -> bool {
        self.meter.goes_on_at(self.before, self.done)
    }

    /// A call has ended.
    pub(crate) fn ended(&mut self) {
        self.done += 1;
        let after = now();
        if self.meter.first.is_some() && self.meter.outcome.times.len() < SAMPLES {
            self.meter.outcome.times.push((after - self.before).as_nanos() as u64);
        }
        self.before = after;
    }

    pub(crate) fn finish(self) -> Outcome {
        self.meter.finish()
    }
}

/// One call after the other, each timed.
pub(crate) async fn one_by_one(load: Load, mut call: impl AsyncFnMut()) -> Outcome {
    let mut calls = Timed::new(load);
    while calls.goes_on() {
        call().await;
        calls.ended();
    }
    calls.finish()
}

/// What workers say of themselves, and when they are to end.
#[derive(Default)]
pub(crate) struct Progress {
    calls: Vec<Arc<AtomicU64>>,
    over: Arc<AtomicBool>,
}

/// One of them. It counts for itself: a counter for all would cost a call what all workers do to it at once.
pub(crate) struct Worker {
    calls: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Worker {
    pub(crate) fn add(&self, calls: u64) {
        // Nobody else writes.
        self.calls.store(self.calls.load(Ordering::Relaxed) + calls, Ordering::Relaxed);
    }

    pub(crate) fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }
}

impl Progress {
    /// One worker more.
    pub(crate) fn worker(&mut self) -> Worker {
        let calls = Arc::default();
        self.calls.push(Arc::clone(&calls));
        Worker { calls, over: self.over.clone() }
    }

    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    fn calls(&self) -> u64 {
        self.calls.iter().map(|calls| calls.load(Ordering::Relaxed)).sum()
    }

    /// Measures while the workers work, and ends them.
    pub(crate) async fn watch(&self, load: Load) -> Outcome {
        let mut meter = Meter::new(load);
        tokio::time::sleep(load.warm).await;
        while meter.goes_on(self.calls()) {
            let passed = meter.first.as_ref().map_or(load.span, |(since, ..)| since.elapsed());
            tokio::time::sleep(load.span.saturating_sub(passed).max(TICK)).await;
        }
        self.end();
        meter.finish()
    }
}
