//! What a method that computes does to the small calls of its connection, polled in place and spawned.
//!
//! The server has a runtime of two threads; the client is not pinned either, as three have work.

use std::time::Duration;

use farcall::remote;
use farcall_benches::{now, runtime};

use crate::cases::Tell;
use crate::options::Options;

/// For how long the method computes.
const SPAN: Duration = Duration::from_millis(2);
/// Between two of its calls, so that a core is left to the small calls.
const PAUSE: Duration = Duration::from_millis(2);

/// Work beside small calls.
#[remote(semantics = "at_most_once")]
pub(crate) trait Abacus {
    /// Computes, in the connection's task.
    async fn in_place(&self);
    /// Computes, in a task of its own.
    #[remote(spawn)]
    async fn spawned(&self);
    /// Takes no time.
    async fn small(&self, a: u64) -> u64;
    /// The same, in a task of its own.
    #[remote(spawn)]
    async fn small_spawned(&self, a: u64) -> u64;
}

struct Beads;

fn compute() {
    let began = now();
    while began.elapsed() < SPAN {
        std::hint::spin_loop();
    }
}

#[remote]
impl Abacus for Beads {
    async fn in_place(&self) {
        compute();
    }
    async fn spawned(&self) {
        compute();
    }
    async fn small(&self, a: u64) -> u64 {
        a
    }
    async fn small_spawned(&self, a: u64) -> u64 {
        a
    }
}

/// What stands beside the small calls.
#[derive(Clone, Copy, PartialEq)]
enum Beside {
    Nothing,
    InPlace,
    Spawned,
}

const ROWS: [(&str, Beside, bool); 4] = [
    ("nothing beside", Beside::Nothing, false),
    ("nothing beside, small calls are spawned", Beside::Nothing, true),
    ("computed in place", Beside::InPlace, false),
    ("computed with `#[remote(spawn)]`", Beside::Spawned, false),
];

pub(crate) fn measure(_: usize, options: &Options, tell: Tell<'_>) {
    let server = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let server = server.expect("a runtime");
    let serving = server.block_on(farcall::serve("tcp://127.0.0.1:0", "abacus", Beads));
    let serving = serving.expect("serving");
    runtime().block_on(async {
        let abacus: AbacusProxy = farcall::connect(serving.url("abacus")).await.expect("connected");
        for (row, beside, small_spawned) in ROWS {
            let mut times = times(&abacus, beside, small_spawned, options.span * 2).await;
            times.sort_by(f64::total_cmp);
            let at = |share: f64| times[(times.len() as f64 * share) as usize];
            tell(row, 0, at(0.5));
            tell(row, 1, at(0.99));
            tell(row, 2, times.len() as f64 / (options.span * 2).as_secs_f64());
        }
    });
    drop(serving);
    server.shutdown_background();
}

/// How long small calls take, one after the other, in microseconds.
async fn times(
    abacus: &AbacusProxy,
    beside: Beside,
    small_spawned: bool,
    span: Duration,
) -> Vec<f64> {
    let began = now();
    let computing = abacus.clone();
    let computing = tokio::spawn(async move {
        while beside != Beside::Nothing && began.elapsed() < span {
            let done = match beside {
                Beside::InPlace => computing.in_place().timeout(DEADLINE).await,
                _ => computing.spawned().timeout(DEADLINE).await,
            };
            done.expect("answered");
            tokio::time::sleep(PAUSE).await;
        }
    });
    let (mut times, mut sent) = (Vec::new(), began);
    while began.elapsed() < span {
        if small_spawned {
            abacus.small_spawned(1).await.expect("answered");
        } else {
            abacus.small(1).await.expect("answered");
        }
        let answered = now();
        times.push((answered - sent).as_secs_f64() * 1e6);
        sent = answered;
    }
    computing.await.expect("no panic");
    times
}

/// Long enough for a machine with other work.
const DEADLINE: Duration = Duration::from_secs(10);
