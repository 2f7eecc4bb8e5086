//! A fixed number of 16-byte calls in one thread, for counting instructions: client and server share a runtime.
//!
//! `hot_path CASE DEPTH CALLS`, with CASE one of `tcp`, `tcp-maybe`, `udp`, `udp-maybe`. Two runs that differ in CALLS
//! alone differ by the instructions of the calls alone.

use farcall_benches::runtime;
use farcall_benches::service::{Adder, CalculatorProxy, EIGHT_BYTES};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` and `cargo test` pass flags of their own; then there is nothing to count.
    let [case, depth, calls] = &arguments[..] else { return };
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let (depth, calls) = (number(depth), number(calls));
    let (transport, maybe) = match case.strip_suffix("-maybe") {
        Some(transport) => (transport, true),
        None => (&**case, false),
    };
    runtime().block_on(async {
        let place = format!("{transport}://127.0.0.1:0");
        let server = farcall::serve(&place, "calculator", Adder).await.expect("serving");
        let proxy: CalculatorProxy =
            farcall::connect(server.url("calculator")).await.expect("connected");
        // Buffers and tables grow before anything is counted.
        run(&proxy, depth, WARM_UP, maybe).await;
        run(&proxy, depth, calls, maybe).await;
    });
}

async fn run(proxy: &CalculatorProxy, depth: usize, calls: usize, maybe: bool) {
    let tasks: Vec<_> = (0..depth)
        .map(|_| {
            let proxy = proxy.clone();
            tokio::spawn(async move {
                for _ in 0..calls / depth {
                    let (a, b) = (EIGHT_BYTES, EIGHT_BYTES);
                    let sum =
                        if maybe { proxy.add_maybe(a, b).await } else { proxy.add(a, b).await };
                    assert_eq!(sum.expect("answered"), 2 * EIGHT_BYTES);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
}

/// Calls that are not counted.
const WARM_UP: usize = 16_000;
