//! Exactly-once calls beside bare SQLite transactions of the same statements on the same file system: latency at depth 1,
//! throughput with 256 in flight, recovery of 100,000 saved calls, and the memory that a million calls leave behind.
//! Passes are interleaved, medians are printed.
//!
//! `cargo bench -p farcall-benches --bench durable [-- --passes 7] [-- --ms 1000] [-- --folder /where] [-- --million]`

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use farcall::{Node, SqliteStore};
use farcall_benches::bare_sqlite::Bare;
use farcall_benches::durable::{Book, Folder, NotesProxy, commits, resident, serve, sync_time};
use farcall_benches::{latency, median, now, runtime};

/// Calls that wait when a client recovers.
const SAVED: u64 = 100_000;
/// How many are enqueued in one transaction.
const AT_ONCE: u64 = 1_000;
const MANY: usize = 256;
const MILLION: u64 = 1_000_000;

/// Numbers that were not noted before.
static NEXT: AtomicU64 = AtomicU64::new(1 << 50);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let flag = |name: &str| arguments.iter().position(|argument| argument == name);
    let value = |name: &str| flag(name).and_then(|at| arguments.get(at + 1));
    let passes = value("--passes").and_then(|text| text.parse().ok()).unwrap_or(5);
    let millis = value("--ms").and_then(|text| text.parse().ok()).unwrap_or(1_000);
    let within = value("--folder").map_or(env!("CARGO_TARGET_TMPDIR"), |folder| folder);
    let folder = Folder::new(&PathBuf::from(within));
    let span = Duration::from_millis(millis);
    println!("sync of a page: {:.0} ns", sync_time(&folder.0, span));
    if flag("--million").is_some() {
        runtime().block_on(million(&folder.0));
        return;
    }
    runtime().block_on(calls(&folder.0, passes, span));
    runtime().block_on(recovery(&folder.0));
}

async fn client(path: &Path, url: &str) -> NotesProxy {
    let store = SqliteStore::open(path).expect("a store");
    let node = Node::builder().store(store).build();
    let notes = node.lookup(url).await.expect("connected");
    // It lives as long as the process.
    std::mem::forget(node);
    notes
}

async fn calls(folder: &Path, passes: usize, span: Duration) {
    let (client_file, server_file) = (folder.join("client.db"), folder.join("server.db"));
    let url = serve(&server_file, "tcp://127.0.0.1:0", Book::default());
    let notes = client(&client_file, &url).await;
    let mut bare = Bare::new(folder);
    let (mut two, mut one, mut many, mut batches) = (vec![], vec![], vec![], vec![]);
    let mut sizes = (0.0, 0.0);
    for _ in 0..passes {
        two.push(two_commits(&mut bare, span));
        one.push(latency(span, async || note(&notes).await).await);
        let before = (commits(&client_file), commits(&server_file));
        let (called, rate) = in_flight(&notes, MANY, span).await;
        let after = (commits(&client_file), commits(&server_file));
        many.push(rate);
        let size = |before, after| (called as f64 / (after - before) as f64).max(1.0);
        sizes = (size(before.0, after.0), size(before.1, after.1));
        batches.push(same_batches(&mut bare, sizes, span));
    }
    let [two, one, many, batches] = [two, one, many, batches].map(|mut values| median(&mut values));
    let single = 1e9 / one;
    println!("{:<52}{:>14}{:>10}", "", "median", "ratio");
    println!("{:<52}{two:>14.0}{:>10.2}", "two bare commits, ns", 1.0);
    println!("{:<52}{one:>14.0}{:>10.2}", "a call, ns", one / two);
    println!("{:<52}{single:>14.0}{:>10.2}", "one call at a time, /s", 1.0);
    println!("{:<52}{many:>14.0}{:>10.2}", "256 in flight, /s", many / single);
    println!("{:<52}{batches:>14.0}{:>10.2}", "bare loop, the same batches, /s", 1.0);
    println!("{:<52}{many:>14.0}{:>10.2}", "256 in flight, /s", many / batches);
    println!("calls for each commit: {:.1} at the client, {:.1} at the server", sizes.0, sizes.1);
}

/// Median nanoseconds of a transaction on each side.
fn two_commits(bare: &mut Bare, span: Duration) -> f64 {
    let (end, mut samples) = (now() + span, Vec::new());
    while now() < end {
        samples.push((bare.save(1) + bare.execute(1)).as_nanos() as f64);
    }
    median(&mut samples)
}

async fn note(notes: &NotesProxy) {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    assert_eq!(notes.note(number).await.expect("noted"), number);
}

/// Calls that were made, and calls per second.
async fn in_flight(notes: &NotesProxy, depth: usize, span: Duration) -> (u64, f64) {
    let start = now();
    let calls = many(notes, depth, move || start.elapsed() < span).await;
    (calls, calls as f64 / start.elapsed().as_secs_f64())
}

async fn many(
    notes: &NotesProxy,
    depth: usize,
    goes_on: impl Fn() -> bool + Clone + Send + 'static,
) -> u64 {
    let tasks: Vec<_> = (0..depth)
        .map(|_| {
            let (notes, goes_on) = (notes.clone(), goes_on.clone());
            tokio::spawn(async move {
                let mut count = 0_u64;
                while goes_on() {
                    note(&notes).await;
                    count += 1;
                }
                count
            })
        })
        .collect();
    let mut calls = 0;
    for task in tasks {
        calls += task.await.expect("no panic");
    }
    calls
}

/// Calls per second of a loop that saves and executes in batches of these sizes.
fn same_batches(bare: &mut Bare, (saved, executed): (f64, f64), span: Duration) -> f64 {
    let (mut to_save, mut to_execute) = (0.0, 0.0);
    let (mut took, mut calls) = (Duration::ZERO, 0);
    while took < span {
        // So many on the average.
        to_save += saved;
        took += bare.save(to_save as usize);
        calls += to_save as u64;
        to_save -= to_save.floor();
        // As many transactions of the server as that is worth.
        to_execute += saved;
        while to_execute >= executed {
            took += bare.execute(executed as usize);
            to_execute -= executed.floor();
        }
    }
    calls as f64 / took.as_secs_f64()
}

async fn recovery(folder: &Path) {
    let (client_file, server_file) = (folder.join("recovering.db"), folder.join("recovered.db"));
    // The port of a server that is not there yet.
    let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let address: &str = format!("tcp://{}", address.expect("a port")).leak();
    let store = SqliteStore::open(&client_file).expect("a store");
    let node = Node::builder().store(store.clone()).build();
    let notes: NotesProxy = node.proxy(format!("{address}/notes")).expect("an address");
    for batch in 0..SAVED / AT_ONCE {
        let tx = store.transaction().await.expect("the writer is free");
        for number in 0..AT_ONCE {
            notes.note(batch * AT_ONCE + number).enqueue(&tx).expect("saved");
        }
        tx.commit().await.expect("committed");
    }
    node.shutdown(Duration::ZERO).await.expect_err("much is unfinished");
    drop((notes, node, store));
    let book = Book::default();
    let _ = serve(&server_file, address, book.clone());
    let start = now();
    let store = SqliteStore::open(&client_file).expect("a store");
    let opened = start.elapsed();
    let node = Node::builder().store(store).build();
    let read = start.elapsed();
    assert_eq!(node.unfinished() as u64, SAVED);
    let first = until(start, || book.0.load(Ordering::Relaxed) > 0).await;
    let all = until(start, || node.unfinished() == 0).await;
    assert_eq!(book.0.load(Ordering::Relaxed), SAVED);
    println!(
        "{SAVED} saved calls: open after {opened:.0?}, all known after {read:.0?}, the first is executed after \
         {first:.0?}, all are finished after {all:.0?}"
    );
}

/// How long it took from `start` until this is so.
async fn until(start: Instant, condition: impl Fn() -> bool) -> Duration {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    start.elapsed()
}

async fn million(folder: &Path) {
    let url = serve(&folder.join("server.db"), "tcp://127.0.0.1:0", Book::default());
    let notes = client(&folder.join("client.db"), &url).await;
    let start = now();
    for part in 1..=10_u64 {
        let first = NEXT.load(Ordering::Relaxed);
        many(&notes, MANY, move || NEXT.load(Ordering::Relaxed) < first + MILLION / 10).await;
        let (calls, kib) = (part * MILLION / 10, resident());
        println!("{calls:>9} calls after {:.0?}: {kib} KiB are held", start.elapsed());
    }
}
