//! The parts of a call, each on its own: encoding, the reply cache, the store.
//!
//! `cargo bench -p farcall-benches --features pieces --bench pieces [-- codec]`
//!
//! Calls go over `mem://`, so that there is no socket in what is measured. What the reply cache costs is the difference of
//! at-most-once and maybe; what the store costs is the difference of exactly-once and at-most-once.

use std::hint::black_box;
use std::path::PathBuf;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use farcall::__private::{Arguments, answer, decode};
use farcall::{CallError, Node, SqliteStore, remote};
use farcall_benches::service::{Adder, CalculatorProxy, EIGHT_BYTES};
use tokio::runtime::Runtime;

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    group.bench_function("encode two numbers", |bench| {
        bench.iter(|| {
            let numbers = black_box((EIGHT_BYTES, EIGHT_BYTES));
            answer(Ok::<_, CallError>(numbers), Arguments::of(&[0; 32]))
        });
    });
    let numbers = answer(Ok::<_, CallError>((EIGHT_BYTES, EIGHT_BYTES)), Arguments::of(&[])).body;
    group.bench_function("decode two numbers", |bench| {
        bench.iter(|| decode::<(u64, u64)>(black_box(&numbers)));
    });
    let text = "a line of some length, as names and messages are ".repeat(20);
    let encoded = answer(Ok::<_, CallError>(text.clone()), Arguments::of(&[])).body;
    group.throughput(Throughput::Bytes(encoded.len() as u64));
    group.bench_function("encode a kilobyte of text", |bench| {
        bench.iter(|| answer(Ok::<_, CallError>(black_box(&text)), Arguments::of(&[0; 1100])));
    });
    group.bench_function("decode a kilobyte of text", |bench| {
        bench.iter(|| decode::<String>(black_box(&encoded)));
    });
    group.finish();
}

fn reply_cache(criterion: &mut Criterion) {
    let runtime = runtime();
    let (_node, proxy) = runtime.block_on(async {
        let node = Node::builder().build();
        node.registry().bind("calculator", Adder).expect("a free name");
        let here = node.listen("mem://pieces").await.expect("a free name");
        let proxy: CalculatorProxy =
            farcall::connect(here.url("calculator")).await.expect("connected");
        ((node, here), proxy)
    });
    let mut group = criterion.benchmark_group("reply cache");
    group.bench_function("maybe", |bench| {
        bench.to_async(&runtime).iter(|| async { proxy.add_maybe(1, EIGHT_BYTES).await });
    });
    group.bench_function("at least once", |bench| {
        bench.to_async(&runtime).iter(|| async { proxy.add_again(1, EIGHT_BYTES).await });
    });
    group.bench_function("at most once", |bench| {
        bench.to_async(&runtime).iter(|| async { proxy.add(1, EIGHT_BYTES).await });
    });
    group.finish();
}

/// A sum that is made in a transaction on each side.
#[remote(semantics = "exactly_once")]
trait Ledger {
    async fn add(&self, a: u64, b: u64) -> u64;
}

struct Book;

#[remote]
impl Ledger for Book {
    async fn add(&self, a: u64, b: u64) -> u64 {
        a.wrapping_add(b)
    }
}

fn store(criterion: &mut Criterion) {
    let (runtime, folder) = (runtime(), Folder::new());
    let (_node, client, proxy) = runtime.block_on(async {
        let node = Node::builder().store(folder.store("server")).build();
        node.registry().bind("ledger", Book).expect("a free name");
        let here = node.listen("mem://pieces-store").await.expect("a free name");
        let store = folder.store("client");
        let client = Node::builder().store(store.clone()).build();
        let proxy: LedgerProxy = client.lookup(here.url("ledger")).await.expect("connected");
        ((node, here, client), store, proxy)
    });
    let mut group = criterion.benchmark_group("store");
    group.bench_function("empty transaction", |bench| {
        bench.to_async(&runtime).iter(|| async {
            client.transaction().await.expect("a turn").commit().await.expect("committed");
        });
    });
    group.bench_function("exactly once", |bench| {
        bench.to_async(&runtime).iter(|| async { proxy.add(1, EIGHT_BYTES).await });
    });
    group.bench_function("exactly once, 64 together", |bench| {
        bench.to_async(&runtime).iter(|| async {
            let mut started = Vec::with_capacity(64);
            for number in 0..64 {
                started.push(proxy.add(number, EIGHT_BYTES).start().await.expect("started"));
            }
            for pending in started {
                pending.await.expect("answered");
            }
        });
    });
    group.finish();
}

fn runtime() -> Runtime {
    farcall_benches::runtime()
}

/// A folder that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let folder = std::env::temp_dir().join(format!("farcall-pieces-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        Folder(folder)
    }

    fn store(&self, name: &str) -> SqliteStore {
        SqliteStore::open(self.0.join(name)).expect("a store")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

criterion_group!(pieces, codec, reply_cache, store);
criterion_main!(pieces);
