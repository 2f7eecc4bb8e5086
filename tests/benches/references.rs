//! What references cost: a call through one beside a call by name, and how many are exported, passed and given back a second.
//!
//! `cargo bench -p farcall-tests --bench references`. The two calls take turns in one run, so that both see the same machine.

use std::time::{Duration, Instant};

use farcall::{Node, remote};

/// What is called.
#[remote]
pub trait Point {
    /// The next number.
    async fn next(&self, number: u64) -> u64;
}

/// Gives and takes points.
#[remote]
pub trait Desk {
    /// One without a name.
    async fn point(&self) -> PointProxy;
    /// Takes some.
    async fn take(&self, points: Vec<PointProxy>) -> u64;
    /// Calls back.
    async fn back(&self, point: PointProxy, times: u64) -> u64;
}

struct Here;

#[remote]
impl Point for Here {
    async fn next(&self, number: u64) -> u64 {
        number + 1
    }
}

struct Table(Node);

#[remote]
impl Desk for Table {
    async fn point(&self) -> PointProxy {
        self.0.export(Here)
    }
    async fn take(&self, points: Vec<PointProxy>) -> u64 {
        points.len() as u64
    }
    async fn back(&self, point: PointProxy, times: u64) -> u64 {
        let mut number = 0;
        for _ in 0..times {
            number = point.next(number).await.unwrap_or(0);
        }
        number
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Node::builder().build();
    server.registry().bind("desk", Table(server.clone()))?;
    server.registry().bind("point", Here)?;
    let here = server.listen("tcp://127.0.0.1:0").await?;
    let client = Node::builder().build();
    let desk: DeskProxy = client.lookup(here.url("desk")).await?;
    let named: PointProxy = client.lookup(here.url("point")).await?;
    let passed = desk.point().await?;
    let (mut by_name, mut by_reference) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..ROUNDS {
        by_name += calls(&named).await?;
        by_reference += calls(&passed).await?;
    }
    let each = |time: Duration| time.as_nanos() as f64 / f64::from(ROUNDS * CALLS) / 1000.0;
    println!("a call by name               {:8.2} us", each(by_name));
    println!("a call through a reference   {:8.2} us", each(by_reference));
    let began = now();
    desk.back(client.export(Here), u64::from(CALLS)).await?;
    println!(
        "a call back                  {:8.2} us",
        began.elapsed().as_micros() as f64 / f64::from(CALLS)
    );
    let began = now();
    for _ in 0..BATCHES {
        let points = (0..BATCH).map(|_| client.export(Here)).collect();
        desk.take(points).await?;
    }
    // What this node holds itself is among its references too, and stays.
    while client.references().iter().any(|reference| reference.exported.is_some()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let second = f64::from(BATCHES * BATCH) / began.elapsed().as_secs_f64();
    println!("exported, passed, given back {second:8.0} a second");
    Ok(())
}

async fn calls(point: &PointProxy) -> Result<Duration, farcall::CallError> {
    let began = now();
    for number in 0..u64::from(CALLS) {
        point.next(number).await?;
    }
    Ok(began.elapsed())
}

const ROUNDS: u32 = 20;
const CALLS: u32 = 1000;
const BATCHES: u32 = 1000;
const BATCH: u32 = 100;

#[allow(clippy::disallowed_methods, reason = "a bench measures real time")]
fn now() -> Instant {
    Instant::now()
}
