//! A fixed number of 16-byte calls in one thread, for counting instructions: client and server share a runtime.
//!
//! `hot_path CASE DEPTH CALLS [SIZE]`, with CASE one of `tcp`, `tcp-maybe`, `udp`, `udp-maybe`; with SIZE the calls are
//! echoes of so many bytes. Two runs that differ in CALLS alone differ by the instructions of the calls alone.

use bytes::Bytes;
use farcall_benches::runtime;
use farcall_benches::service::{Adder, CalculatorProxy, EIGHT_BYTES};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` and `cargo test` pass flags of their own; then there is nothing to count.
    let [case, depth, calls, size @ ..] = &arguments[..] else { return };
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let (depth, calls) = (number(depth), number(calls));
    let size = size.first().map(|size| number(size));
    let (transport, kind) = match (case.strip_suffix("-maybe"), size) {
        (Some(transport), _) => (transport, Kind::Maybe),
        (None, Some(size)) => (&**case, Kind::Echo(size)),
        (None, None) => (&**case, Kind::AtMostOnce),
    };
    runtime().block_on(async {
        let place = format!("{transport}://127.0.0.1:0");
        let server = farcall::serve(&place, "calculator", Adder).await.expect("serving");
        let proxy: CalculatorProxy =
            farcall::connect(server.url("calculator")).await.expect("connected");
        // Buffers and tables grow before anything is counted.
        run(&proxy, depth, WARM_UP, kind).await;
        run(&proxy, depth, calls, kind).await;
    });
}

#[derive(Clone, Copy)]
enum Kind {
    AtMostOnce,
    Maybe,
    Echo(usize),
}

async fn run(proxy: &CalculatorProxy, depth: usize, calls: usize, kind: Kind) {
    let tasks: Vec<_> = (0..depth)
        .map(|_| {
            let proxy = proxy.clone();
            tokio::spawn(async move {
                let (a, b, sum) = (EIGHT_BYTES, EIGHT_BYTES, 2 * EIGHT_BYTES);
                let bytes =
                    Bytes::from(vec![7; if let Kind::Echo(size) = kind { size } else { 0 }]);
                for _ in 0..calls / depth {
                    match kind {
                        Kind::AtMostOnce => assert_eq!(proxy.add(a, b).await.expect(ANSWERED), sum),
                        Kind::Maybe => {
                            assert_eq!(proxy.add_maybe(a, b).await.expect(ANSWERED), sum)
                        }
                        Kind::Echo(size) => {
                            assert_eq!(
                                proxy.echo(bytes.clone()).await.expect(ANSWERED).len(),
                                size
                            );
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
}

const ANSWERED: &str = "answered";

/// Calls that are not counted.
const WARM_UP: usize = 16_000;
