//! What references cost: a call through one beside a call by name, and how many are exported, passed and given back a second.
//!
//! `cargo bench -p farcall-tests --bench references`. The calls take turns in one run, so that all see the same machine. With
//! `-- --million` a million objects are exported, passed and given back, and the memory is read after each tenth.

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
    if std::env::args().any(|argument| argument == "--million") {
        return million(&client, &desk).await;
    }
    let home: PointProxy = client.export(Here);
    let (mut by_name, mut by_reference) = (Duration::ZERO, Duration::ZERO);
    let mut at_home = Duration::ZERO;
    for _ in 0..ROUNDS {
        by_name += calls(&named).await?;
        by_reference += calls(&passed).await?;
        at_home += calls(&home).await?;
    }
    let each = |time: Duration| time.as_nanos() as f64 / f64::from(ROUNDS * CALLS) / 1000.0;
    println!("a call by name               {:8.2} us", each(by_name));
    println!("a call through a reference   {:8.2} us", each(by_reference));
    println!("a call at home               {:8.2} us", each(at_home));
    let began = now();
    desk.back(client.export(Here), u64::from(CALLS)).await?;
    println!(
        "a call back                  {:8.2} us",
        began.elapsed().as_micros() as f64 / f64::from(CALLS)
    );
    let began = now();
    pass(&client, &desk).await?;
    let second = f64::from(BATCHES * BATCH) / began.elapsed().as_secs_f64();
    println!("exported, passed, given back {second:8.0} a second");
    Ok(())
}

/// Exports and passes many objects, and waits until all are given back.
async fn pass(client: &Node, desk: &DeskProxy) -> Result<(), farcall::CallError> {
    for _ in 0..BATCHES {
        let points = (0..BATCH).map(|_| client.export(Here)).collect();
        desk.take(points).await?;
    }
    // What this node holds itself is among its references too, and stays.
    while client.references().iter().any(|reference| reference.exported.is_some()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// A million of them, and the memory after each tenth.
async fn million(client: &Node, desk: &DeskProxy) -> Result<(), Box<dyn std::error::Error>> {
    let began = now();
    for tenth in 1..=10 {
        pass(client, desk).await?;
        let kib = resident()?;
        println!("{:9} objects, {kib:7} KiB resident", tenth * BATCHES * BATCH);
    }
    println!("in {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// Memory of this process, as Linux tells it.
fn resident() -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?;
    Ok(kib.parse()?)
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
