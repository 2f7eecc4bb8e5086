//! A million objects are exported, passed and given back, and no memory stays with them.
//!
//! A process of its own, since what is measured is its memory.

use farcall::{Node, remote};

/// What is passed.
#[remote]
pub trait Point {
    /// Nothing.
    async fn touch(&self);
}

/// Takes points.
#[remote]
pub trait Desk {
    /// How many they were.
    async fn take(&self, points: Vec<PointProxy>) -> u64;
}

struct Here;

#[remote]
impl Point for Here {
    async fn touch(&self) {}
}

#[remote]
impl Desk for Here {
    async fn take(&self, points: Vec<PointProxy>) -> u64 {
        points.len() as u64
    }
}

#[tokio::test]
async fn a_million_objects_that_are_given_back_leave_memory_flat() {
    let server = Node::builder().build();
    server.registry().bind_as::<dyn Desk>("desk", Here).expect("a free name");
    let server = server.listen("tcp://127.0.0.1:0").await.expect("a free port");
    let client = Node::builder().build();
    let desk: DeskProxy = client.lookup(server.url("desk")).await.expect("bound");
    let mut after_warm_up = None;
    for tenth in 1..=10 {
        for _ in 0..100 {
            let points = (0..1000).map(|_| client.export::<dyn Point, _>(Here)).collect();
            assert_eq!(desk.take(points).await.expect("taken"), 1000);
        }
        while !client.references().is_empty() {
            tokio::task::yield_now().await;
        }
        let Some(kib) = resident_kib() else { continue };
        let first = *after_warm_up.get_or_insert(kib);
        assert!(
            kib <= first + MOST_MORE_KIB,
            "{kib} KiB after {tenth} tenths, and {first} after one"
        );
    }
}

/// Memory of this process, where the system tells it.
fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A byte that stays of each object would be nearly as much.
const MOST_MORE_KIB: u64 = 900;
