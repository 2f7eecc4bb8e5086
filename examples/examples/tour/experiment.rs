//! The experiment: many calls of each semantics over links that fail, to a server that is killed.
//!
//! Each semantics has a node, a link and a fault proxy of its own over each transport, so that what is
//! counted belongs to it alone. Nothing is decided here about what the calls do: the numbers come from the callers
//! and from the server's notes.

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farcall::{CallError, Limits, Node, Proxy as _, Semantics};
use farcall_examples::report::{Fate, Outcome, Report};
use farcall_examples::screen::Screen;
use farcall_tests::datagram_proxy::DatagramFaults;
use farcall_tests::fault_proxy::Faults;
use farcall_tests::link::Link;
use farcall_tests::service::{TRANSPORTS, Transport};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::server::Server;
use super::shop::{Receipt, ShopProxy};

/// Calls of each semantics.
pub(crate) const CALLS: u64 = 400;

/// What was seen.
pub(crate) struct Findings {
    pub(crate) reports: Vec<Report>,
    pub(crate) connections: Connections,
    pub(crate) datagrams: Datagrams,
    /// The process that was killed.
    pub(crate) killed: u32,
}

/// What happened to the connections of TCP.
#[derive(Default)]
pub(crate) struct Connections {
    pub(crate) cuts: u64,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
}

/// What happened to the datagrams of UDP.
#[derive(Default)]
pub(crate) struct Datagrams {
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) corrupted: u64,
}

/// The calls of one semantics and the link that they go over.
struct Lane {
    semantics: Semantics,
    transport: Transport,
    link: Link,
    shop: ShopProxy,
    /// Numbers of its calls that were given out.
    next: AtomicU64,
    first: u64,
    /// When the last caller gives up.
    end: Instant,
}

/// A call that has ended.
struct Ended {
    lane: usize,
    call: u64,
    outcome: Outcome,
}

/// Makes all calls, kills the server once meanwhile, and compares both sides.
pub(crate) async fn run(
    mut server: Server,
    notes: &Path,
    screen: &Screen,
) -> Result<Findings, Box<dyn Error>> {
    let mut lanes = Vec::new();
    for (position, (semantics, transport)) in lanes_of_all().enumerate() {
        lanes.push(Arc::new(Lane::open(&server, position, semantics, transport).await?));
    }
    let killed = server.process_id();
    let ended = call_all(&lanes, &mut server, screen).await?;

    for lane in &lanes {
        lane.behave();
    }
    let resent: Vec<u64> = lanes.iter().map(|lane| lane.shop.node().statistics().resent).collect();
    // The server ends what it still runs before the notes are read.
    server.stop().await?;
    let runs = read_notes(notes)?;

    let report = |(position, lane): (usize, &Arc<Lane>)| {
        let of_lane = ended.iter().filter(|ended| ended.lane == position);
        let fate = |&Ended { call, outcome, .. }: &Ended| {
            let runs = runs.get(&call).copied().unwrap_or(0);
            Fate { call, outcome, runs }
        };
        let fates = of_lane.map(fate).collect();
        let (semantics, link) = (lane.semantics, lane.transport.scheme());
        Report { semantics, link, fates, resent: resent[position] }
    };
    let reports = lanes.iter().enumerate().map(report).collect();
    let (connections, datagrams) = seen(&lanes);
    Ok(Findings { reports, connections, datagrams, killed })
}

/// Every semantics over every transport, those of one semantics side by side.
fn lanes_of_all() -> impl Iterator<Item = (Semantics, Transport)> {
    SEMANTICS.into_iter().flat_map(|semantics| TRANSPORTS.map(|transport| (semantics, transport)))
}

/// What the proxies did.
fn seen(lanes: &[Arc<Lane>]) -> (Connections, Datagrams) {
    let (mut connections, mut datagrams) = (Connections::default(), Datagrams::default());
    for lane in lanes {
        match &lane.link {
            Link::Tcp(proxy) => {
                let counts = proxy.counts();
                connections.cuts += counts.cuts;
                connections.lost += counts.lost_frames;
                connections.repeated += counts.repeated + counts.replayed;
            }
            Link::Udp(proxy) => {
                let traffic = proxy.counts().both();
                datagrams.sent += traffic.datagrams;
                datagrams.lost += traffic.lost;
                datagrams.repeated += traffic.repeated;
                datagrams.corrupted += traffic.corrupted;
            }
        }
    }
    (connections, datagrams)
}

/// Lets every lane's callers work, and kills the server when half of the calls have ended.
async fn call_all(
    lanes: &[Arc<Lane>],
    server: &mut Server,
    screen: &Screen,
) -> Result<Vec<Ended>, Box<dyn Error>> {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    // Dropped with this future: then all callers end.
    let mut callers = JoinSet::new();
    for (position, lane) in lanes.iter().enumerate() {
        for _ in 0..CALLERS {
            callers.spawn(lane.clone().call_on(position, sender.clone()));
        }
    }
    drop(sender);

    let all = lanes.len() * CALLS as usize;
    let mut progress = screen.progress(all);
    let mut ended = Vec::with_capacity(all);
    while let Some(one) = receiver.recv().await {
        ended.push(one);
        progress.step(&state(lanes, &ended));
        if ended.len() == all / 2 {
            progress.mark('K');
            server.kill_and_restart().await?;
        }
    }
    drop(progress);
    while let Some(caller) = callers.join_next().await {
        caller?;
    }
    Ok(ended)
}

/// How far the lanes of each semantics are, in a few words.
fn state(lanes: &[Arc<Lane>], ended: &[Ended]) -> String {
    let words = SEMANTICS.map(|semantics| {
        let of = ended.iter().filter(|ended| lanes[ended.lane].semantics == semantics);
        format!("{} {}", semantics.name(), of.count())
    });
    words.join(" · ")
}

impl Lane {
    /// Looks the shop up through a fault proxy, which behaves until that is done.
    async fn open(
        server: &Server,
        position: usize,
        semantics: Semantics,
        transport: Transport,
    ) -> Result<Lane, Box<dyn Error>> {
        let link = Link::start(transport, server.address(transport)?)?;
        let limits =
            Limits { reconnect_min: RECONNECT, reconnect_max: RECONNECT * 4, ..Limits::default() };
        let node = Node::builder().limits(limits).build();
        let place = format!("{}://{}/shop", transport.scheme(), link.address());
        let shop: ShopProxy = node.lookup(place).await?;
        let seed = SEED + position as u64;
        match &link {
            Link::Tcp(proxy) => proxy.set_faults(Faults { seed, ..FAULTS }),
            Link::Udp(proxy) => proxy.set_both(DatagramFaults { seed, ..datagram_faults() }),
        }
        let first = (position as u64 + 1) * FIRST_CALL;
        let end = Instant::now() + PATIENCE;
        Ok(Lane { semantics, transport, link, shop, next: AtomicU64::new(0), first, end })
    }

    /// Ends all faults.
    fn behave(&self) {
        match &self.link {
            Link::Tcp(proxy) => proxy.set_faults(Faults::default()),
            Link::Udp(proxy) => proxy.set_both(DatagramFaults::default()),
        }
    }

    /// One caller: makes one call after the other until all numbers are given out.
    async fn call_on(self: Arc<Lane>, lane: usize, told: mpsc::UnboundedSender<Ended>) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= CALLS {
                return;
            }
            let call = self.first + number;
            let result = self.call(call).await;
            let outcome = match &result {
                Ok(receipt) if receipt.call != call => Outcome::Confused,
                result => Outcome::of(result),
            };
            if told.send(Ended { lane, call, outcome }).is_err() {
                return;
            }
        }
    }

    async fn call(&self, call: u64) -> Result<Receipt, CallError> {
        // Over UDP nothing but its deadline tells that a datagram of a maybe call was lost.
        let alone = (self.semantics, self.transport) == (Semantics::Maybe, Transport::Udp);
        let is_impatient = alone || call.is_multiple_of(4);
        let soon = if is_impatient { Instant::now() + IMPATIENCE } else { self.end };
        match self.semantics {
            Semantics::Maybe => self.shop.visit(call).deadline(soon).await,
            Semantics::AtLeastOnce => self.shop.price(call).deadline(self.end).await,
            _ => self.shop.pay(call).deadline(soon).await,
        }
    }
}

/// How often each call was run: a line of the notes is the number of a call.
fn read_notes(notes: &Path) -> Result<HashMap<u64, u64>, Box<dyn Error>> {
    let mut runs = HashMap::new();
    for line in fs::read_to_string(notes)?.lines() {
        *runs.entry(line.parse()?).or_insert(0) += 1;
    }
    Ok(runs)
}

const SEMANTICS: [Semantics; 3] = [Semantics::Maybe, Semantics::AtLeastOnce, Semantics::AtMostOnce];

/// Callers of each semantics; each waits for its answer before it makes the next call.
const CALLERS: usize = 8;

/// How long all calls together may take; some three seconds suffice. An at-least-once call that is
/// not answered by then looks like a broken promise, and so it does if it never would be.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long some callers wait, where the promise does not need patience: many of them give up while
/// a link is down, and are told whether their call ran.
const IMPATIENCE: Duration = Duration::from_millis(50);

/// First wait before a new connection; the longest is four times this.
const RECONNECT: Duration = Duration::from_millis(20);

/// What the links do. A repeated CALL comes at once or, as an older one, much later; a cut that hits
/// a REPLY comes after the method has run.
const FAULTS: Faults = Faults {
    seed: SEED,
    cut_one_in: 40,
    lose_one_in: 80,
    loss_lasts: Duration::from_millis(120),
    repeat_one_in: 12,
    delay_one_in: 10,
    delay_at_most: Duration::from_millis(10),
};

/// What happens to the datagrams, both ways.
fn datagram_faults() -> DatagramFaults {
    DatagramFaults {
        loss: 0.08,
        duplicate: 0.08,
        jitter: Duration::from_millis(8),
        corrupt: 0.02,
        ..DatagramFaults::default()
    }
}

/// Where the draws of the faults begin.
const SEED: u64 = 2026;

/// Calls of the first semantics are numbered from here, of the second from twice this, and so on.
const FIRST_CALL: u64 = 10_000;
