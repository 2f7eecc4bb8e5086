//! The experiment: many calls of each semantics over links that fail, to a server that is killed.
//!
//! Each semantics has a node, a link and a fault proxy of its own over each transport, so that what is
//! counted belongs to it alone; those of exactly once are in a process of their own, which is killed with the server.
//! Nothing is decided here about what the calls do: the numbers come from the callers, and from the server's notes and
//! its database.

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farcall::{CallError, Limits, Node, Proxy as _, Semantics};
use farcall_examples::report::{Fate, Outcome, Report};
use farcall_examples::screen::{Progress, Screen};
use farcall_tests::datagram_proxy::DatagramFaults;
use farcall_tests::fault_proxy::Faults;
use farcall_tests::link::Link;
use farcall_tests::service::{TRANSPORTS, Transport};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::server::{DATABASE, NOTES, Server};
use super::shipping::{Line, Shipping};
use super::shop::{Receipt, ShopProxy};

/// Calls of each semantics.
pub(crate) const CALLS: u64 = 400;

/// What was seen.
pub(crate) struct Findings {
    pub(crate) reports: Vec<Report>,
    pub(crate) connections: Connections,
    pub(crate) datagrams: Datagrams,
    pub(crate) killed: Killed,
}

/// The processes that were killed.
pub(crate) struct Killed {
    pub(crate) server: u32,
    /// The client of the exactly-once calls.
    pub(crate) client: u32,
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
pub(crate) struct Ended {
    lane: usize,
    call: u64,
    outcome: Outcome,
}

/// What is heard of calls while they are made.
pub(crate) enum Heard {
    /// From a caller in this process.
    Ended(Ended),
    /// From the client of the exactly-once calls.
    Said(Line),
}

/// Makes all calls, kills the server and one client meanwhile, and compares both sides.
pub(crate) async fn run(
    mut server: Server,
    folder: &Path,
    screen: &Screen,
) -> Result<Findings, Box<dyn Error>> {
    let mut lanes = Vec::new();
    for (position, (semantics, transport)) in lanes_of_all().enumerate() {
        lanes.push(Arc::new(Lane::open(&server, position, semantics, transport).await?));
    }
    let (sender, receiver) = mpsc::unbounded_channel();
    let firsts = [lanes.len(), lanes.len() + 1].map(first_call);
    let mut shipping = Shipping::start(&server, folder, firsts, spoil, sender.clone())?;
    let killed = Killed { server: server.process_id(), client: shipping.process_id() };
    let progress = screen.progress((lanes.len() + firsts.len()) * CALLS as usize);
    let mut run = Run { lanes: &lanes, shipping: &mut shipping, server: &mut server, progress };
    let ended = run.call_all(sender, receiver).await?;
    drop(run);

    lanes.iter().map(|lane| &lane.link).chain(shipping.links()).for_each(behave);
    let resent: Vec<u64> = lanes.iter().map(|lane| lane.shop.node().statistics().resent).collect();
    // The server ends what it still runs before the notes are read.
    server.stop().await?;
    let runs = read_notes(&folder.join(NOTES))?;

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
    let mut reports: Vec<_> = lanes.iter().enumerate().map(report).collect();
    reports.extend(shipping.reports(&folder.join(DATABASE))?);
    let links = lanes.iter().map(|lane| &lane.link).chain(shipping.links());
    let (connections, datagrams) = seen(links);
    Ok(Findings { reports, connections, datagrams, killed })
}

/// Every semantics that is called from here over every transport, those of one semantics side by side.
fn lanes_of_all() -> impl Iterator<Item = (Semantics, Transport)> {
    SEMANTICS.into_iter().flat_map(|semantics| TRANSPORTS.map(|transport| (semantics, transport)))
}

/// What the proxies did.
fn seen<'a>(links: impl Iterator<Item = &'a Link>) -> (Connections, Datagrams) {
    let (mut connections, mut datagrams) = (Connections::default(), Datagrams::default());
    for link in links {
        match link {
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

/// The experiment while it runs.
struct Run<'a> {
    lanes: &'a [Arc<Lane>],
    shipping: &'a mut Shipping,
    server: &'a mut Server,
    progress: Progress,
}

impl Run<'_> {
    /// Lets every lane's callers work, and kills both processes once; gives the calls that were made from here.
    async fn call_all(
        &mut self,
        sender: UnboundedSender<Heard>,
        mut receiver: UnboundedReceiver<Heard>,
    ) -> Result<Vec<Ended>, Box<dyn Error>> {
        // Dropped with this future: then all callers end.
        let mut callers = JoinSet::new();
        for (position, lane) in self.lanes.iter().enumerate() {
            for _ in 0..CALLERS {
                callers.spawn(lane.clone().call_on(position, sender.clone()));
            }
        }
        let mut ended = Vec::with_capacity(self.lanes.len() * CALLS as usize);
        // All is heard when neither a caller nor a client has a sender any more.
        let mut before_the_kill = Some(sender);
        while let Some(heard) = receiver.recv().await {
            let has_ended = match heard {
                Heard::Ended(one) => {
                    ended.push(one);
                    true
                }
                Heard::Said(line) => self.shipping.hear(&line),
            };
            if has_ended {
                self.progress.step(&self.state(&ended));
            }
            if self.is_halfway(&ended)
                && let Some(sender) = before_the_kill.take()
            {
                self.kill_both(sender).await?;
            }
        }
        while let Some(caller) = callers.join_next().await {
            caller?;
        }
        Ok(ended)
    }

    /// Half of all calls have ended, or half of those that are exactly once: whichever comes first, so that both sides
    /// are in the midst of them.
    fn is_halfway(&self, ended: &[Ended]) -> bool {
        let shipped = self.shipping.ended();
        let to_ship = TRANSPORTS.len() * CALLS as usize;
        let all = self.lanes.len() * CALLS as usize + to_ship;
        (ended.len() + shipped) * 2 >= all || shipped * 2 >= to_ship
    }

    /// Kills both processes, so that neither is there, and starts both again. The client comes first, and finds nobody.
    async fn kill_both(&mut self, sender: UnboundedSender<Heard>) -> io::Result<()> {
        self.progress.mark('K');
        self.server.kill()?;
        self.shipping.kill()?;
        self.shipping.start_again(sender)?;
        self.server.start_again().await
    }

    /// How far the calls of each semantics are, in a few words.
    fn state(&self, ended: &[Ended]) -> String {
        let words = SEMANTICS.map(|semantics| {
            let of = ended.iter().filter(|ended| self.lanes[ended.lane].semantics == semantics);
            let name = semantics.name().trim_end_matches("_once").replace('_', " ");
            format!("{name} {} · ", of.count())
        });
        format!("{}exactly {}", words.concat(), self.shipping.ended())
    }
}

/// The link begins to fail, by draws that depend on the first call that goes over it.
fn spoil(link: &Link, first: u64) {
    let seed = SEED + first / FIRST_CALL;
    match link {
        Link::Tcp(proxy) => proxy.set_faults(Faults { seed, ..FAULTS }),
        Link::Udp(proxy) => proxy.set_both(DatagramFaults { seed, ..datagram_faults() }),
    }
}

/// Ends all faults.
fn behave(link: &Link) {
    match link {
        Link::Tcp(proxy) => proxy.set_faults(Faults::default()),
        Link::Udp(proxy) => proxy.set_both(DatagramFaults::default()),
    }
}

/// The number of the first call of a lane.
fn first_call(position: usize) -> u64 {
    (position as u64 + 1) * FIRST_CALL
}

/// Of all nodes that make calls: they find a server again soon.
pub(crate) fn limits() -> Limits {
    Limits { reconnect_min: RECONNECT, reconnect_max: RECONNECT * 4, ..Limits::default() }
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
        let node = Node::builder().limits(limits()).build();
        let place = format!("{}://{}/shop", transport.scheme(), link.address());
        let shop: ShopProxy = node.lookup(place).await?;
        let first = first_call(position);
        spoil(&link, first);
        let end = Instant::now() + PATIENCE;
        Ok(Lane { semantics, transport, link, shop, next: AtomicU64::new(0), first, end })
    }

    /// One caller: makes one call after the other until all numbers are given out.
    async fn call_on(self: Arc<Lane>, lane: usize, heard: UnboundedSender<Heard>) {
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
            if heard.send(Heard::Ended(Ended { lane, call, outcome })).is_err() {
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

/// Those that are called from this process.
const SEMANTICS: [Semantics; 3] = [Semantics::Maybe, Semantics::AtLeastOnce, Semantics::AtMostOnce];

/// Callers of each lane; each waits for its answer before it makes the next call.
pub(crate) const CALLERS: usize = 8;

/// How long all calls together may take; some three seconds suffice. An at-least-once call that is
/// not answered by then looks like a broken promise, and so it does if it never would be.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

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
const SEED: u64 = 2025;

/// Calls of the first semantics are numbered from here, of the second from twice this, and so on.
const FIRST_CALL: u64 = 10_000;
