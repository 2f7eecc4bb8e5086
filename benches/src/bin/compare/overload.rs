//! Three times as many calls as a server can serve, from callers that do not wait for one another.
//!
//! A call keeps the server's core busy for [`WORK`]. First is looked how many calls a second come back at best within
//! their deadline, then three times as many are made. The client has the other core.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farcall::{Execution, Node, remote};
use farcall_benches::{now, pin, runtime, server_thread};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::cases::Tell;
use crate::options::Options;
use crate::systems::farcall::{AT_MOST_ONCE, AT_MOST_ONCE_UDP};

/// What the handler computes for.
const WORK: Duration = Duration::from_micros(50);
/// When an answer is of no use any more.
const DEADLINE: Duration = Duration::from_millis(100);
const CONNECTIONS: usize = 16;
/// Calls in flight on each connection, of which one is the best.
const DEPTHS: [usize; 3] = [1, 4, 16];
/// How much more is offered than can be served.
const FACTOR: f64 = 3.0;
/// How often calls are made, as many as are due.
const TICK: Duration = Duration::from_millis(1);

/// Work.
#[remote(semantics = "at_most_once")]
pub(crate) trait Mill {
    /// Computes for a while.
    async fn grind(&self) -> u64;
}

struct Wheel;

#[remote]
impl Mill for Wheel {
    async fn grind(&self) -> u64 {
        let began = now();
        let mut turns = 0;
        while began.elapsed() < WORK {
            turns += 1;
        }
        turns
    }
}

/// What became of the calls.
#[derive(Default)]
struct Counts {
    in_time: AtomicU64,
    not_executed: AtomicU64,
    otherwise: AtomicU64,
}

pub(crate) fn measure(_: usize, options: &Options, tell: Tell<'_>) {
    for (name, place) in
        [(AT_MOST_ONCE, "tcp://127.0.0.1:0"), (AT_MOST_ONCE_UDP, "udp://127.0.0.1:0")]
    {
        let results = overloaded(place, options.span * 4);
        for (index, result) in results.into_iter().enumerate() {
            tell(name, index, result);
        }
    }
}

/// What [`Case::values`](crate::cases::Case) names, over one transport.
fn overloaded(place: &'static str, span: Duration) -> [f64; 6] {
    let url = server_thread(1, async move || {
        let server = farcall::serve(place, "mill", Wheel).await;
        let url = server.as_ref().expect("serving").url("mill");
        std::mem::forget(server);
        url
    });
    let results = std::thread::spawn(move || {
        pin(0);
        runtime().block_on(async {
            let mut mills: Vec<MillProxy> = Vec::new();
            for _ in 0..CONNECTIONS {
                let node = Node::builder().build();
                mills.push(node.lookup(&url).await.expect("connected"));
            }
            let mut peak = 0_f64;
            for depth in DEPTHS {
                peak = peak.max(served(&mills, depth, span / 2).await);
            }
            let (goodput, p99, known) = offered(&mills, peak * FACTOR, span).await;
            [peak, peak * FACTOR, goodput, goodput / peak, p99, known]
        })
    });
    results.join().expect("no panic")
}

/// Calls a second that are answered within their deadline, of callers that wait for their answer.
async fn served(mills: &[MillProxy], depth: usize, span: Duration) -> f64 {
    let (began, mut callers) = (now(), JoinSet::new());
    for mill in mills.iter().cycle().take(mills.len() * depth) {
        let mill = mill.clone();
        callers.spawn(async move {
            let mut count = 0_u64;
            while began.elapsed() < span {
                let sent = now();
                let answered = mill.grind().timeout(DEADLINE).await.is_ok();
                count += u64::from(answered && sent.elapsed() <= DEADLINE);
            }
            count
        });
    }
    callers.join_all().await.into_iter().sum::<u64>() as f64 / began.elapsed().as_secs_f64()
}

/// Makes so many calls a second: how many a second are answered within their deadline, the 99th percentile of these in
/// milliseconds, and how much of the rest is known not to have run, in percent.
async fn offered(mills: &[MillProxy], rate: f64, span: Duration) -> (f64, f64, f64) {
    let counts = Arc::new(Counts::default());
    let (began, mut calls, mut made) = (now(), JoinSet::new(), 0);
    // What is answered while the load begins is not counted.
    let begin = DEADLINE * 2;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while began.elapsed() < begin + span {
        ticks.tick().await;
        let due = (began.elapsed().as_secs_f64() * rate) as usize;
        for mill in mills.iter().cycle().skip(made % mills.len()).take(due.saturating_sub(made)) {
            let (mill, counts) = (mill.clone(), counts.clone());
            calls.spawn(async move {
                let sent = now();
                let answer = mill.grind().timeout(DEADLINE).await;
                let (waited, counted) =
                    (sent.elapsed(), (begin..begin + span).contains(&began.elapsed()));
                // A call whose deadline has passed waits a little for word of it, which may be its answer.
                let in_time = answer.is_ok() && waited <= DEADLINE;
                let count = match &answer {
                    Ok(_) if in_time => &counts.in_time,
                    Err(error) if error.execution() == Execution::NotExecuted => {
                        &counts.not_executed
                    }
                    _ => &counts.otherwise,
                };
                count.fetch_add(u64::from(counted), Ordering::Relaxed);
                (counted && in_time).then_some(waited.as_secs_f64() * 1e3)
            });
        }
        made = made.max(due);
    }
    let mut times: Vec<f64> = calls.join_all().await.into_iter().flatten().collect();
    times.sort_by(f64::total_cmp);
    let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or(f64::NAN);
    let [in_time, not_executed, otherwise] =
        [&counts.in_time, &counts.not_executed, &counts.otherwise]
            .map(|count| count.load(Ordering::Relaxed) as f64);
    let known = 100.0 * not_executed / (not_executed + otherwise).max(1.0);
    (in_time / span.as_secs_f64(), p99, known)
}
