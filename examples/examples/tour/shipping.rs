//! The exactly-once calls of the experiment: a client process of their own, which is killed as well.
//!
//! It has a node, a journal and a link for each transport, and makes each call under its number as the key. When it is
//! started again it makes all calls again. What it was told it says on standard output, and the tour compares what it
//! says of a call before and after.

use std::collections::HashMap;
use std::error::Error;
use std::ffi::OsString;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farcall::sqlite::rusqlite::{Connection, OpenFlags};
use farcall::{Node, Proxy as _, Semantics, SqliteStore};
use farcall_examples::report::{Fate, Outcome, Report};
use farcall_tests::link::Link;
use farcall_tests::service::{TRANSPORTS, Transport};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::Instant;

use super::experiment::{CALLERS, CALLS, Heard, PATIENCE, limits};
use super::process::{Process, say, until_nobody_holds_it};
use super::server::Server;
use super::shop::DepotProxy;

/// The first argument of a process that is to be the client.
pub(crate) const ROLE: &str = "ship";

/// Calls in this process: `tour ship FOLDER TCP_URL TCP_FIRST UDP_URL UDP_FIRST`.
pub(crate) async fn ship(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [folder, tcp, tcp_first, udp, udp_first] = arguments else {
        return Err(format!("usage: tour {ROLE} FOLDER TCP_URL FIRST UDP_URL FIRST").into());
    };
    std::thread::spawn(|| {
        until_nobody_holds_it();
        std::process::exit(1);
    });
    let end = Instant::now() + PATIENCE;
    let mut nodes = Vec::new();
    let mut callers = JoinSet::new();
    for (transport, (url, first)) in
        TRANSPORTS.into_iter().zip([(tcp, tcp_first), (udp, udp_first)])
    {
        let journal = format!("journal-{}.db", transport.scheme());
        let store = SqliteStore::open(Path::new(folder).join(journal))?;
        let node = Node::builder().limits(limits()).store(store).build();
        let depot: DepotProxy = node.proxy(url)?;
        let first: u64 = first.parse()?;
        let next = Arc::new(AtomicU64::new(first));
        for _ in 0..CALLERS {
            callers.spawn(call_on(depot.clone(), next.clone(), first + CALLS, end));
        }
        nodes.push(node);
    }
    while let Some(done) = callers.join_next().await {
        done??;
    }
    for node in nodes {
        node.shutdown(Duration::from_secs(1)).await?;
    }
    Ok(())
}

/// One caller: makes one call after the other until all numbers are given out.
async fn call_on(
    depot: DepotProxy,
    next: Arc<AtomicU64>,
    behind: u64,
    end: Instant,
) -> io::Result<()> {
    loop {
        let call = next.fetch_add(1, Ordering::Relaxed);
        if call >= behind {
            return Ok(());
        }
        let result = depot.ship(call).key(call.to_string()).deadline(end).await;
        let outcome = match &result {
            Ok(receipt) if receipt.call != call => Outcome::Confused,
            result => Outcome::of(result),
        };
        let process = result.map_or(0, |receipt| receipt.process);
        let resent = depot.node().statistics().resent;
        say(&Told { outcome, process }.put(call, resent))?;
    }
}

/// What the client was told of a call, in a line.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Told {
    outcome: Outcome,
    /// The process that ran it.
    process: u32,
}

impl Told {
    fn put(self, call: u64, resent: u64) -> String {
        let outcome = WORDS.iter().position(|outcome| *outcome == self.outcome).unwrap_or_default();
        format!("{call} {resent} {outcome} {}", self.process)
    }

    /// The call, how many requests had been sent again by then, and what was told.
    fn get(line: &str) -> Option<(u64, u64, Told)> {
        let numbers: Vec<u64> = line.split(' ').map_while(|word| word.parse().ok()).collect();
        let [call, resent, outcome, process] = numbers[..] else { return None };
        let outcome = *WORDS.get(usize::try_from(outcome).ok()?)?;
        Some((call, resent, Told { outcome, process: u32::try_from(process).ok()? }))
    }
}

/// The client process, seen from the tour. Dropping it kills it and waits for its end.
pub(crate) struct Shipping {
    process: Process,
    arguments: Vec<OsString>,
    lanes: Vec<Lane>,
    told: HashMap<u64, Told>,
    /// How often it was started again.
    run: usize,
}

/// The calls over one transport.
struct Lane {
    transport: Transport,
    link: Link,
    first: u64,
    /// Requests that were sent again, in each run.
    resent: [u64; 2],
}

/// A line that the client said in one of its runs.
pub(crate) struct Line {
    run: usize,
    text: String,
}

impl Shipping {
    /// Starts the client. Its calls over each transport are numbered from `firsts`, and its links are left to `spoil`.
    pub(crate) fn start(
        server: &Server,
        folder: &Path,
        firsts: [u64; 2],
        spoil: impl Fn(&Link, u64),
        heard: UnboundedSender<Heard>,
    ) -> Result<Shipping, Box<dyn Error>> {
        let mut lanes = Vec::new();
        let mut arguments = vec![folder.into()];
        for (transport, first) in TRANSPORTS.into_iter().zip(firsts) {
            let link = Link::start(transport, server.address(transport)?)?;
            spoil(&link, first);
            arguments.push(format!("{}://{}/depot", transport.scheme(), link.address()).into());
            arguments.push(first.to_string().into());
            lanes.push(Lane { transport, link, first, resent: [0; 2] });
        }
        let process = Process::start(ROLE, arguments.clone())?;
        let mut shipping = Shipping { process, arguments, lanes, told: HashMap::new(), run: 0 };
        shipping.listen(heard);
        Ok(shipping)
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn links(&self) -> impl Iterator<Item = &Link> {
        self.lanes.iter().map(|lane| &lane.link)
    }

    /// Kills the process in the middle of whatever it does.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.process.kill()
    }

    /// Starts it again: it finds its journals, and makes all calls again.
    pub(crate) fn start_again(&mut self, heard: UnboundedSender<Heard>) -> io::Result<()> {
        self.process = Process::start(ROLE, self.arguments.clone())?;
        self.run += 1;
        self.listen(heard);
        Ok(())
    }

    /// Passes on what the process says, until it ends.
    fn listen(&mut self, heard: UnboundedSender<Heard>) {
        let (lines, run) = (self.process.lines(), self.run);
        spawn_blocking(move || {
            for text in lines.map_while(Result::ok) {
                if heard.send(Heard::Said(Line { run, text })).is_err() {
                    return;
                }
            }
        });
    }

    /// Notes what the client was told; whether it is the first time that it says so of this call.
    pub(crate) fn hear(&mut self, line: &Line) -> bool {
        let Some((call, resent, told)) = Told::get(&line.text) else { return false };
        let lane = self.lanes.iter_mut().find(|lane| lane.calls().contains(&call));
        if let Some(lane) = lane {
            let before = &mut lane.resent[line.run];
            *before = resent.max(*before);
        }
        let before = self.told.insert(call, told);
        if before.is_some_and(|before| before != told) {
            self.told.insert(call, Told { outcome: Outcome::Confused, ..told });
        }
        before.is_none()
    }

    /// How many calls have ended.
    pub(crate) fn ended(&self) -> usize {
        self.told.len()
    }

    /// What became of all calls. The truth is in the server's database, which nobody has open any more.
    pub(crate) fn reports(&self, database: &Path) -> Result<Vec<Report>, Box<dyn Error>> {
        let database = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut effects: HashMap<u64, u64> = HashMap::new();
        let mut shipped = database.prepare("select call from shipped")?;
        for call in shipped.query_map([], |row| row.get::<_, i64>(0))? {
            *effects.entry(call?.cast_unsigned()).or_default() += 1;
        }
        let report = |lane: &Lane| {
            let fate = |call| {
                let outcome = self.told.get(&call).map_or(Outcome::Unknown, |told| told.outcome);
                Fate { call, outcome, runs: effects.get(&call).copied().unwrap_or(0) }
            };
            let fates = lane.calls().map(fate).collect();
            let (link, resent) = (lane.transport.scheme(), lane.resent.iter().sum());
            Report { semantics: Semantics::ExactlyOnce, link, fates, resent }
        };
        Ok(self.lanes.iter().map(report).collect())
    }
}

impl Lane {
    fn calls(&self) -> Range<u64> {
        self.first..self.first + CALLS
    }
}

/// All outcomes, as the client says them: by number.
const WORDS: [Outcome; 5] = [
    Outcome::Answered,
    Outcome::Confused,
    Outcome::NotExecuted,
    Outcome::Unknown,
    Outcome::Executed,
];
