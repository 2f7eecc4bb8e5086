//! A 16-byte call and its 8-byte result over TCP and UDP, beside bare tokio sockets that carry frames of the same bytes:
//! median latency at depth 1, calls per second with 64 and 1,000 in flight on one connection. Over UDP the bare sockets
//! carry one frame in each datagram. Passes are interleaved, both ends are pinned to one core (or to two with
//! `--two-cores`), medians are printed.
//!
//! `cargo bench -p farcall-benches --bench round_trip [-- --passes 7] [-- --two-cores]`

use std::time::Duration;

use farcall_benches::bare::{self, Sizes};
use farcall_benches::bare_udp;
use farcall_benches::service::{Adder, CalculatorProxy, EIGHT_BYTES};
use farcall_benches::{median, now, pin, runtime, server_thread};

/// What farcall sends for such a call and its answer: 16 + 10 and 8 + 5 bytes.
const SIZES: Sizes = Sizes { request: 26, reply: 13 };

/// The same in a datagram of its own: 17 bytes more, and some 6 for an acknowledgement.
const DATAGRAM_SIZES: Sizes = Sizes { request: 49, reply: 36 };

/// One way to measure, with its results so far.
struct Case {
    name: &'static str,
    compared_with: usize,
    results: Vec<f64>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let flag = |name: &str| arguments.iter().position(|argument| argument == name);
    let passes = flag("--passes").and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(5);
    let only = flag("--only").and_then(|at| arguments.get(at + 1).cloned());
    let server_core = usize::from(flag("--two-cores").is_some());
    let millis = flag("--ms").and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(400);
    let span = Duration::from_millis(millis);
    let bare_address = server_thread(server_core, async || bare::serve(SIZES).await);
    let bare_udp_address =
        server_thread(server_core, async || bare_udp::serve(DATAGRAM_SIZES).await);
    let url = |place: &'static str| {
        server_thread(server_core, async move || {
            let server = farcall::serve(place, "calculator", Adder).await;
            let url = server.as_ref().expect("serving").url("calculator");
            std::mem::forget(server);
            url
        })
    };
    let (tcp, udp) = (url("tcp://127.0.0.1:0"), url("udp://127.0.0.1:0"));
    pin(0);
    let names = [
        ("bare ping-pong, ns", 0),
        ("at-most-once, depth 1, ns", 0),
        ("maybe, depth 1, ns", 0),
        ("bare, 64 in flight, /s", 3),
        ("at-most-once, 64 in flight, /s", 3),
        ("maybe, 64 in flight, /s", 3),
        ("at-most-once, 1,000 in flight, /s", 3),
        ("bare datagrams, depth 1, ns", 0),
        ("udp at-most-once, depth 1, ns", 0),
        ("udp maybe, depth 1, ns", 0),
        ("bare datagrams, 64 in flight, /s", 10),
        ("udp at-most-once, 64 in flight, /s", 10),
        ("udp maybe, 64 in flight, /s", 10),
    ];
    let new = |&(name, compared_with)| Case { name, compared_with, results: Vec::new() };
    let mut cases: Vec<Case> = names.iter().map(new).collect();
    runtime().block_on(async {
        let proxy: CalculatorProxy = farcall::connect(tcp).await.expect("connected");
        let over_udp: CalculatorProxy = farcall::connect(udp).await.expect("connected");
        for _ in 0..passes {
            for (index, case) in cases.iter_mut().enumerate() {
                if only.as_ref().is_some_and(|only| !case.name.contains(only)) {
                    continue;
                }
                let result = match index {
                    0 => bare::ping_pong(bare_address, SIZES, span).await,
                    1 => depth_one(&proxy, false, span).await,
                    2 => depth_one(&proxy, true, span).await,
                    3 => bare::pipelined(bare_address, SIZES, 64, span).await,
                    4 => in_flight(&proxy, 64, false, span).await,
                    5 => in_flight(&proxy, 64, true, span).await,
                    6 => in_flight(&proxy, 1000, false, span).await,
                    7 => bare_udp::ping_pong(bare_udp_address, DATAGRAM_SIZES, span).await,
                    8 => depth_one(&over_udp, false, span).await,
                    9 => depth_one(&over_udp, true, span).await,
                    10 => bare_udp::pipelined(bare_udp_address, DATAGRAM_SIZES, 64, span).await,
                    11 => in_flight(&over_udp, 64, false, span).await,
                    _ => in_flight(&over_udp, 64, true, span).await,
                };
                case.results.push(result);
            }
        }
    });
    println!("{:<36}{:>14}{:>10}", "", "median", "ratio");
    let medians: Vec<f64> = cases
        .iter_mut()
        .map(|case| if case.results.is_empty() { 0.0 } else { median(&mut case.results) })
        .collect();
    for (case, value) in cases.iter().zip(&medians) {
        let ratio = value / medians[case.compared_with];
        println!("{:<36}{value:>14.0}{ratio:>10.2}", case.name);
    }
}

async fn depth_one(proxy: &CalculatorProxy, maybe: bool, span: Duration) -> f64 {
    farcall_benches::latency(span, async || {
        let (a, b) = (EIGHT_BYTES, EIGHT_BYTES);
        let sum = if maybe { proxy.add_maybe(a, b).await } else { proxy.add(a, b).await };
        assert_eq!(sum.expect("answered"), 2 * EIGHT_BYTES);
    })
    .await
}

async fn in_flight(proxy: &CalculatorProxy, depth: usize, maybe: bool, span: Duration) -> f64 {
    let start = now();
    let tasks: Vec<_> = (0..depth)
        .map(|_| {
            let proxy = proxy.clone();
            tokio::spawn(async move {
                let mut count = 0_u64;
                while start.elapsed() < span {
                    for _ in 0..8 {
                        let (a, b) = (EIGHT_BYTES, EIGHT_BYTES);
                        let sum =
                            if maybe { proxy.add_maybe(a, b).await } else { proxy.add(a, b).await };
                        assert_eq!(sum.expect("answered"), 2 * EIGHT_BYTES);
                    }
                    count += 8;
                }
                count
            })
        })
        .collect();
    let mut calls = 0;
    for task in tasks {
        calls += task.await.expect("no panic");
    }
    calls as f64 / start.elapsed().as_secs_f64()
}
