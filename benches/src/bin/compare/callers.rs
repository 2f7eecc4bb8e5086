//! Loads over anything that makes calls.

use std::time::Duration;

use bytes::Bytes;
use farcall_benches::service::EIGHT_BYTES;
use tokio::task::JoinSet;

use crate::load::{Load, Outcome, Progress, Timed, Worker};

/// One connection on which calls are made.
pub(crate) trait Caller: Clone + Send + Sync + 'static {
    /// The sum of two numbers.
    fn add(&self, a: u64, b: u64) -> impl Future<Output = u64> + Send;

    /// Sends bytes, gets them back and gives their number.
    fn echo(&self, bytes: &Bytes) -> impl Future<Output = usize> + Send;
}

/// Longest that calls in flight are waited for when a load has ended, so that they do not fall into the next.
const DRAIN: Duration = Duration::from_secs(5);

/// Carries a load.
pub(crate) async fn run<C: Caller>(clients: Vec<C>, load: Load) -> Outcome {
    let mut ended = Progress::default();
    let mut beside = JoinSet::new();
    if let Some(size) = load.beside {
        spawn(&mut beside, &clients[0], Some(size), ended.worker());
    }
    let outcome = if load.depth == 1 && load.connections == 1 {
        alone(&clients[0], load).await
    } else {
        let mut workers = JoinSet::new();
        let mut progress = Progress::default();
        for client in &clients {
            for _ in 0..load.depth {
                spawn(&mut workers, client, load.echo, progress.worker());
            }
        }
        let outcome = progress.watch(load).await;
        drain(workers).await;
        outcome
    };
    ended.end();
    drain(beside).await;
    outcome
}

/// Calls from a task, as a program that serves others makes them: tokio asks the kernel once more before it goes on with
/// what its `block_on` was given, which costs whoever has a task for the connection a system call.
async fn alone<C: Caller>(client: &C, load: Load) -> Outcome {
    let client = client.clone();
    let calls = tokio::spawn(async move {
        let payload = Bytes::from(vec![7; load.echo.unwrap_or_default()]);
        let mut calls = Timed::new(load);
        while calls.goes_on() {
            one(&client, load.echo, &payload).await;
            calls.ended();
        }
        calls.finish()
    });
    calls.await.expect("no panic")
}

async fn one<C: Caller>(client: &C, echo: Option<usize>, payload: &Bytes) {
    match echo {
        None => assert_eq!(client.add(EIGHT_BYTES, EIGHT_BYTES).await, 2 * EIGHT_BYTES),
        Some(size) => assert_eq!(client.echo(payload).await, size),
    }
}

/// One call after the other until the progress ends.
fn spawn<C: Caller>(set: &mut JoinSet<()>, client: &C, echo: Option<usize>, worker: Worker) {
    let client = client.clone();
    set.spawn(async move {
        let payload = Bytes::from(vec![7; echo.unwrap_or_default()]);
        while worker.goes_on() {
            one(&client, echo, &payload).await;
            worker.add(1);
        }
    });
}

async fn drain(mut workers: JoinSet<()>) {
    let all = async {
        while let Some(worker) = workers.join_next().await {
            worker.expect("no panic");
        }
    };
    let _ = tokio::time::timeout(DRAIN, all).await;
}
