//! UDP against loss: goodput of large messages and the slowest of small calls, with what was lost sent again
//! (selective) and with everything behind it sent again (go-back-N).
//!
//! `cargo bench -p farcall-tests --bench loss [-- --passes 3] [-- --seconds 4] [-- --svg docs]`
//!
//! Client and server are in this process, the datagram proxy of the tests is the network between them: a delay both
//! ways, a rate, a queue, and loss in both directions. Passes are interleaved and medians are shown. It stands here and
//! not beside the other benches because the proxy does.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use farcall::{Limits, Proxy as _};
use farcall_benches::plot::{Plot, Scale, Series};
use farcall_tests::datagram_proxy::{DatagramFaults, DatagramProxy};
use farcall_tests::service::{Log, Order, Server, Transport, WorkProxy, client, order};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Shares of the datagrams that are lost, each way.
const LOSSES: [f64; 4] = [0.0, 0.001, 0.01, 0.05];
/// How the columns are headed.
const LABELS: [&str; 4] = ["0 %", "0.1 %", "1 %", "5 %"];
/// What is sent again after a loss.
const MODES: [&str; 2] = ["selective", "go-back-N"];

/// Bits per second of the path, each way.
const RATE_MBIT: u64 = 50;
/// One way.
const DELAY: Duration = Duration::from_millis(10);
/// Bytes of a large message, and how many are on their way.
const LARGE: usize = 500_000;
const LARGE_IN_FLIGHT: u64 = 4;
/// Callers of small calls, each of which waits for its answer.
const CALLERS: u64 = 16;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let position = arguments.iter().position(|argument| argument == name)?;
        arguments.get(position + 1).cloned()
    };
    let number = |name: &str| value(name).and_then(|text| text.parse::<u64>().ok());
    let passes = number("--passes").unwrap_or(3);
    let span = Duration::from_secs(number("--seconds").unwrap_or(4));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let results = runtime.expect("a runtime").block_on(measure(passes, span));
    print(&results);
    if let Some(folder) = value("--svg") {
        // Cargo runs a bench in its package's folder; the project's is what whoever calls it means.
        draw(&results, &Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder));
    }
}

/// Medians, by mode and loss.
#[derive(Default)]
struct Results {
    goodput_mbit: [[f64; 4]; 2],
    p50_ms: [[f64; 4]; 2],
    p99_ms: [[f64; 4]; 2],
}

async fn measure(passes: u64, span: Duration) -> Results {
    let mut samples: [[Vec<[f64; 3]>; 4]; 2] = Default::default();
    for pass in 0..passes {
        for (column, loss) in LOSSES.into_iter().enumerate() {
            for (mode, samples) in samples.iter_mut().enumerate() {
                let path = Network::new(mode == 1, loss, pass).await;
                let goodput = path.goodput(span).await;
                let path = Network::new(mode == 1, loss, pass).await;
                let times = path.small_calls(span).await;
                let at = |share: f64| times[(times.len() as f64 * share) as usize] * 1e3;
                samples[column].push([goodput * 8e-6, at(0.5), at(0.99)]);
                eprintln!("{} at {loss}: {:?}", MODES[mode], samples[column].last());
            }
        }
    }
    let mut results = Results::default();
    for (mode, samples) in samples.iter().enumerate() {
        for (column, samples) in samples.iter().enumerate() {
            let median = |field: usize| {
                let mut values: Vec<f64> = samples.iter().map(|sample| sample[field]).collect();
                values.sort_by(f64::total_cmp);
                values[values.len() / 2]
            };
            results.goodput_mbit[mode][column] = median(0);
            results.p50_ms[mode][column] = median(1);
            results.p99_ms[mode][column] = median(2);
        }
    }
    results
}

/// A client and a server with a network between them.
struct Network {
    _server: Server,
    _proxy: DatagramProxy,
    work: WorkProxy,
}

impl Network {
    async fn new(go_back_n: bool, loss: f64, seed: u64) -> Network {
        let limits = Limits { go_back_n, ..Limits::default() };
        let server = Server::start_over(Transport::Udp, limits.clone(), &Log::new()).await;
        let proxy = DatagramProxy::start(server.address()).expect("a port");
        proxy.set_both(DatagramFaults {
            seed,
            loss,
            delay: DELAY,
            rate: Some(RATE_MBIT * 1_000_000 / 8),
            ..DatagramFaults::default()
        });
        // Behind the faults: what the client learns of the path at first counts for ten seconds.
        let work = client(Transport::Udp.work_at(proxy.address()), limits).await.expect("bound");
        Network { _server: server, _proxy: proxy, work: work.with_timeout(Duration::from_secs(60)) }
    }

    /// Bytes per second of requests.
    async fn goodput(&self, span: Duration) -> f64 {
        let began = Instant::now();
        let mut callers = JoinSet::new();
        for caller in 0..LARGE_IN_FLIGHT {
            let work = self.work.clone();
            callers.spawn(async move {
                let mut bytes = 0;
                while began.elapsed() < span {
                    let order = Order { padding: vec![1; LARGE], ..order(caller) };
                    work.at_least_once(order).await.expect("answered");
                    bytes += LARGE;
                }
                bytes
            });
        }
        let bytes: usize = callers.join_all().await.into_iter().sum();
        bytes as f64 / began.elapsed().as_secs_f64()
    }

    /// The seconds that each call took, sorted.
    async fn small_calls(&self, span: Duration) -> Vec<f64> {
        let began = Instant::now();
        let mut callers = JoinSet::new();
        let work = Arc::new(self.work.clone());
        for caller in 0..CALLERS {
            let work = work.clone();
            callers.spawn(async move {
                let mut times = Vec::new();
                while began.elapsed() < span {
                    let sent = Instant::now();
                    work.at_least_once(order(caller)).await.expect("answered");
                    times.push(sent.elapsed().as_secs_f64());
                }
                times
            });
        }
        let mut times = callers.join_all().await.concat();
        times.sort_by(f64::total_cmp);
        times
    }
}

fn print(results: &Results) {
    println!("| | {} |", LABELS.map(|label| format!("{label} lost")).join(" | "));
    println!("|---|---|---|---|---|");
    let rows: [(&str, &[[f64; 4]; 2], usize); 3] = [
        ("goodput, Mbit/s", &results.goodput_mbit, 1),
        ("median of small calls, ms", &results.p50_ms, 1),
        ("p99 of small calls, ms", &results.p99_ms, 1),
    ];
    for (name, values, decimals) in rows {
        for (mode, values) in MODES.iter().zip(values) {
            let cells = values.map(|value| format!("{value:.decimals$}"));
            println!("| {name}, {mode} | {} |", cells.join(" | "));
        }
    }
}

fn draw(results: &Results, folder: &Path) {
    let series = |values: &[[f64; 4]; 2]| {
        let colours = ["#1f6feb", "#d4691e"];
        let of = |mode: usize| Series {
            name: MODES[mode],
            colour: colours[mode],
            values: values[mode].to_vec(),
        };
        vec![of(0), of(1)]
    };
    let goodput = Plot {
        title: format!("Goodput of {} kB messages, Mbit/s of {RATE_MBIT}", LARGE / 1000),
        below: "datagrams lost, each way".to_owned(),
        labels: LABELS.to_vec(),
        scale: Scale::Linear,
        series: series(&results.goodput_mbit),
    };
    let slowest = Plot {
        title: format!("99th percentile of small calls, ms (path: {} ms)", 2 * DELAY.as_millis()),
        below: "datagrams lost, each way".to_owned(),
        labels: LABELS.to_vec(),
        scale: Scale::Logarithmic,
        series: series(&results.p99_ms),
    };
    for (name, plot) in [("udp-goodput.svg", goodput), ("udp-latency.svg", slowest)] {
        std::fs::write(folder.join(name), plot.svg()).expect("a folder that can be written");
    }
}
