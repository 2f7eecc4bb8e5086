//! A call to a group of eight beside eight calls of its members that are started one after the other: median time until
//! all have answered, and until five have.
//!
//! `cargo bench -p farcall-tests --bench group [-- --passes 5] [-- --calls 2000]`
//!
//! Members are nodes on one thread of this process, half of them over UDP. The two ways take turns within a pass, so that
//! what disturbs the machine disturbs both; medians over the passes are shown. It stands beside the bench of loss since
//! that has the service, too.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use farcall::{Node, Pending};
use farcall_benches::service::{Adder, CalculatorGroup, CalculatorProxy, EIGHT_BYTES};
use farcall_benches::{median, now};

const MEMBERS: usize = 8;
const QUORUM: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str, otherwise: usize| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(otherwise)
    };
    let (passes, calls) = (value("--passes", 5), value("--calls", 2000));
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (sender, urls) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        runtime().expect("a runtime").block_on(async {
            let mut serving = Vec::new();
            for number in 0..MEMBERS {
                let at = ["tcp://127.0.0.1:0", "udp://127.0.0.1:0"][number % 2];
                let here = farcall::serve(at, "calculator", Adder).await.expect("a free port");
                sender.send(here.url("calculator")).expect("the bench waits for it");
                serving.push(here);
            }
            std::future::pending::<()>().await;
        });
    });
    let urls: Vec<_> = urls.iter().take(MEMBERS).collect();
    runtime().expect("a runtime").block_on(async {
        let node = Node::builder().build();
        let group: CalculatorGroup = node.group(urls.clone()).await.expect("good addresses");
        let mut proxies: Vec<CalculatorProxy> = Vec::new();
        for url in &urls {
            proxies.push(node.lookup(url).await.expect("it is there"));
        }
        let mut medians: [Vec<f64>; 4] = Default::default();
        for _ in 0..=passes {
            let mut times: [Vec<f64>; 4] = Default::default();
            for _ in 0..calls {
                for (way, times) in times.iter_mut().enumerate() {
                    times.push(one(way, &group, &proxies).await.as_secs_f64() * 1e6);
                }
            }
            for (medians, times) in medians.iter_mut().zip(&mut times) {
                medians.push(median(times));
            }
        }
        // The first pass only warms up.
        let [all, all_one_by_one, quorum, quorum_one_by_one] =
            medians.map(|mut medians| median(&mut medians[1..]));
        println!("group of {MEMBERS}, {calls} calls, {passes} passes, medians in microseconds");
        println!("              group   one by one   ratio");
        let line = |name: &str, group: f64, others: f64| {
            println!("{name:<12} {group:>6.1}   {others:>10.1}   {:>5.2}", group / others);
        };
        line("all", all, all_one_by_one);
        line("quorum of 5", quorum, quorum_one_by_one);
    });
}

/// One call, in one of four ways; how long it took.
async fn one(way: usize, group: &CalculatorGroup, proxies: &[CalculatorProxy]) -> Duration {
    let began: Instant = now();
    match way {
        0 => assert!(group.add(EIGHT_BYTES, 1).all().await.is_met()),
        2 => assert!(group.add(EIGHT_BYTES, 1).quorum(QUORUM).await.is_met()),
        _ => {
            let mut pending = Vec::with_capacity(MEMBERS);
            for proxy in proxies {
                pending.push(proxy.add(EIGHT_BYTES, 1).start().await.expect("there is room"));
            }
            let needed = if way == 1 { MEMBERS } else { QUORUM };
            answers(&mut pending, needed).await;
            pending.into_iter().for_each(Pending::detach);
        }
    }
    now() - began
}

/// Waits for so many answers.
async fn answers(pending: &mut Vec<Pending<u64>>, needed: usize) {
    let mut left = needed;
    poll_fn(|cx| {
        pending.retain_mut(|one| match Pin::new(one).poll(cx) {
            Poll::Ready(answer) => {
                answer.expect("it answers");
                left = left.saturating_sub(1);
                false
            }
            Poll::Pending => true,
        });
        if left == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
