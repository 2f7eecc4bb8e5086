//! What the benches share: both ends on one core, bare sockets to compare with, medians of interleaved passes.

pub mod bare;
#[cfg(feature = "durable")]
pub mod bare_sqlite;
pub mod bare_udp;
#[cfg(feature = "durable")]
pub mod durable;
pub mod plot;
pub mod service;

use std::time::{Duration, Instant};

/// Pins the calling thread to one core, the quiet way to measure work per call.
///
/// # Panics
/// If the system has no such core.
pub fn pin(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).expect("the core exists");
}

/// The clock of the benches.
#[allow(clippy::disallowed_methods, reason = "a bench measures real time")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// The middle value.
///
/// # Panics
/// If there are none.
#[must_use]
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Median time of one round trip, over `span`.
pub async fn latency(span: Duration, mut round_trip: impl AsyncFnMut()) -> f64 {
    let mut samples = Vec::with_capacity(1 << 18);
    let end = now() + span;
    let mut before = now();
    while before < end && samples.len() < samples.capacity() {
        round_trip().await;
        let after = now();
        samples.push((after - before).as_nanos() as f64);
        before = after;
    }
    median(&mut samples)
}

/// Starts a thread with a current-thread runtime, pinned; the returned value is what `serve` gives first.
///
/// # Panics
/// If the runtime cannot be made.
pub fn server_thread<T: Send + 'static>(
    core: usize,
    serve: impl AsyncFnOnce() -> T + Send + 'static,
) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        pin(core);
        let runtime = runtime();
        runtime.block_on(async move {
            sender.send(serve().await).expect("the bench waits");
            std::future::pending::<()>().await;
        });
    });
    receiver.recv().expect("the server starts")
}

/// A current-thread runtime.
///
/// # Panics
/// If it cannot be made.
#[must_use]
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
