//! Goodput of messages of 1 MiB over UDP, by way of a proxy that is slow and loses datagrams.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use farcall_benches::{now, pin, runtime, server_thread};
use tokio::task::JoinSet;

use crate::cases::Tell;
use crate::options::Options;
use crate::systems::farcall::{connect, limits, serve_within};
use crate::wire::around;

/// Datagrams of a thousand that are lost, each way.
const LOSSES: [u64; 3] = [0, 1, 10];
/// Bytes per second of the path, each way: 50 Mbit/s.
const RATE: f64 = 50e6 / 8.0;
/// One way.
const DELAY: Duration = Duration::from_millis(10);
/// How much may wait for the path; what comes then is lost as well. 256 KiB.
const QUEUE: f64 = (256 << 10) as f64;
const MESSAGE: usize = 1 << 20;
const IN_FLIGHT: usize = 4;
/// Of the passes that others make, so many are enough here, of so many spans each.
const PASSES: usize = 3;
const SPANS: u32 = 8;

pub(crate) fn measure(pass: usize, options: &Options, tell: Tell<'_>) {
    if pass >= PASSES {
        return;
    }
    for (index, per_mille) in LOSSES.into_iter().enumerate() {
        let url = server_thread(1, async || serve_within(limits(), "udp://127.0.0.1:0").await);
        let url = around(&url, |server| path(server, per_mille, pass as u64));
        let span = options.span * SPANS;
        let client = std::thread::spawn(move || {
            pin(0);
            runtime().block_on(goodput(url, span))
        });
        tell("farcall at-most-once udp", index, client.join().expect("no panic"));
    }
}

/// Megabits per second of requests that were answered.
async fn goodput(url: String, span: Duration) -> f64 {
    let calculator = connect(url).await;
    let (began, mut callers) = (now(), JoinSet::new());
    for _ in 0..IN_FLIGHT {
        let (calculator, body) = (calculator.clone(), Bytes::from(vec![7; MESSAGE]));
        callers.spawn(async move {
            let mut bytes = 0;
            while began.elapsed() < span {
                let length = calculator.length(body.clone()).await.expect("answered");
                bytes += length;
            }
            bytes
        });
    }
    let bytes: u64 = callers.join_all().await.into_iter().sum();
    bytes as f64 * 8e-6 / began.elapsed().as_secs_f64()
}

/// A proxy of one client, which ends with the process.
fn path(server: SocketAddr, per_mille: u64, seed: u64) -> SocketAddr {
    let inside = Arc::new(UdpSocket::bind("127.0.0.1:0").expect("a port"));
    let outside = Arc::new(UdpSocket::bind("127.0.0.1:0").expect("a port"));
    outside.connect(server).expect("an address");
    let address = inside.local_addr().expect("an address");
    let (from, to) = (inside.clone(), outside.clone());
    std::thread::spawn(move || {
        let mut bytes = [0; 1 << 16];
        let Ok((_, client)) = from.peek_from(&mut bytes) else { return };
        from.connect(client).expect("an address");
        let back = (outside, inside);
        std::thread::spawn(move || carry(&back.0, &back.1, per_mille, 2 * seed + 1));
        carry(&from, &to, per_mille, 2 * seed);
    });
    address
}

/// Sends on what comes, late and not all of it.
fn carry(from: &UdpSocket, to: &UdpSocket, per_mille: u64, seed: u64) {
    let mut bytes = [0; 1 << 16];
    let mut late: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let (mut free, mut random) = (now(), seed * 2 + 1);
    loop {
        let wait = late.front().map(|(due, _)| due.saturating_duration_since(now()));
        // A timeout of zero would be none.
        let wait = wait.map(|wait| wait.max(Duration::from_micros(1)));
        from.set_read_timeout(wait).expect("a socket");
        let received = from.recv(&mut bytes);
        let now = now();
        if let Ok(count) = received {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let lost = (random >> 33) % 1000 < per_mille;
            free = free.max(now);
            if !lost && (free - now).as_secs_f64() * RATE < QUEUE {
                free += Duration::from_secs_f64(count as f64 / RATE);
                late.push_back((free + DELAY, bytes[..count].to_vec()));
            }
        }
        while late.front().is_some_and(|(due, _)| *due <= now)
            && let Some((_, datagram)) = late.pop_front()
        {
            let _ = to.send(&datagram);
        }
    }
}
