//! The table of promises in the docs of `Semantics`, each cell run over real sockets.
//!
//! A fault proxy between client and server does what the row says; the server's object counts its
//! runs. A cell holds if the runs, and what the caller was told, are what the cell says.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use farcall::{Address, Call, CallError, Execution, Host, Listening, Semantics, remote};
use farcall_tests::fault_proxy::{Direction, Fault, FaultProxy, FrameKind};
use tokio::sync::Notify;

/// One method for each column.
#[remote]
trait Probe {
    #[remote(semantics = "maybe")]
    async fn maybe(&self) -> u32;
    #[remote(semantics = "at_least_once")]
    async fn at_least_once(&self) -> u32;
    #[remote(semantics = "at_most_once")]
    async fn at_most_once(&self) -> u32;
    /// Begins after all calls that were sent before it.
    async fn last(&self);
}

/// What the runs of a server, before and after its restart, have in common.
#[derive(Default)]
struct Shared {
    runs: AtomicU32,
    began: Notify,
    /// Methods do not return.
    hold: AtomicBool,
}

struct Counter(Arc<Shared>);

impl Counter {
    async fn run(&self) -> u32 {
        let runs = self.0.runs.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.began.notify_one();
        if self.0.hold.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        runs
    }
}

#[remote]
impl Probe for Counter {
    async fn maybe(&self) -> u32 {
        self.run().await
    }
    async fn at_least_once(&self) -> u32 {
        self.run().await
    }
    async fn at_most_once(&self) -> u32 {
        self.run().await
    }
    async fn last(&self) {}
}

/// A server, a proxy in front of it, and a client behind the proxy.
struct World {
    shared: Arc<Shared>,
    server: Listening,
    proxy: FaultProxy,
    probe: ProbeProxy,
}

type Answer = Result<u32, CallError>;

impl World {
    async fn new() -> World {
        let shared = Arc::<Shared>::default();
        let (server, address) = serve(&shared).await;
        let proxy = FaultProxy::start(address).expect("a proxy");
        let url = format!("tcp://{}/probe", proxy.address());
        let probe = farcall::connect(&*url).await.expect("a proxy of the object");
        World { shared, server, proxy, probe }
    }

    fn call(&self, semantics: Semantics) -> Call<(), u32> {
        match semantics {
            Semantics::Maybe => self.probe.maybe(),
            Semantics::AtLeastOnce => self.probe.at_least_once(),
            Semantics::AtMostOnce => self.probe.at_most_once(),
            Semantics::ExactlyOnce => panic!("`exactly_once.rs` shows these"),
        }
    }

    /// Makes the call and does not come back before it runs.
    async fn call_that_hangs(&self, call: Call<(), u32>) -> farcall::Pending<u32> {
        self.shared.hold.store(true, Ordering::SeqCst);
        let pending = call.start().await.expect("room");
        self.shared.began.notified().await;
        self.shared.hold.store(false, Ordering::SeqCst);
        pending
    }

    /// Does what the row says. `None` if nobody is told.
    async fn play(&mut self, row: &str, semantics: Semantics) -> Option<Answer> {
        let call = self.call(semantics);
        let fault = |direction, kind, fault| self.proxy.on_next(direction, Some(kind), fault);
        let lost = Fault::Lose { lasts: Duration::from_millis(30) };
        match row {
            "nothing goes wrong" => {}
            "the request is lost" => fault(Direction::ToServer, FrameKind::CALL, lost),
            "the reply is lost" => fault(Direction::ToClient, FrameKind::REPLY, lost),
            "the request arrives twice" => {
                fault(Direction::ToServer, FrameKind::CALL, Fault::Repeat);
            }
            "the server restarts in mid-call" => {
                let pending = self.call_that_hangs(call).await;
                let (server, address) = serve(&self.shared).await;
                self.proxy.set_upstream(address);
                self.server = server;
                self.proxy.cut_all();
                return Some(pending.await);
            }
            "the deadline passes in mid-call" => {
                let call = call.timeout(Duration::from_millis(500));
                return Some(self.call_that_hangs(call).await.await);
            }
            "the caller drops the call in mid-call" => {
                drop(self.call_that_hangs(call).await);
                return None;
            }
            "no connection until the deadline" => {
                self.proxy.refuse();
                self.proxy.cut_all();
                // A client that was refused knows that its connection is lost.
                self.proxy.until(|counts| counts.refused > 0).await;
                let answer = call.timeout(Duration::from_millis(100)).await;
                self.proxy.accept();
                return Some(answer);
            }
            other => panic!("nobody knows what to do for the row `{other}`"),
        }
        Some(call.await)
    }
}

#[tokio::test]
async fn every_cell_of_the_table_of_promises_holds() {
    let table = table();
    assert_eq!(table[0][1..], ["maybe", "at_least_once", "at_most_once"]);
    assert_eq!(table.len(), 9, "a row was taken away, or one was added without its test");
    let columns = [Semantics::Maybe, Semantics::AtLeastOnce, Semantics::AtMostOnce];
    for row in &table[1..] {
        for (semantics, promised) in columns.into_iter().zip(&row[1..]) {
            let happened = tokio::time::timeout(HANGS, happened(&row[0], semantics)).await;
            let happened = happened.unwrap_or_else(|_| panic!("{}: {semantics}: hangs", row[0]));
            assert_eq!(&happened, promised, "{}: {semantics}", row[0]);
        }
    }
}

/// The cell as it turned out.
async fn happened(row: &str, semantics: Semantics) -> String {
    let mut world = World::new().await;
    let told = match world.play(row, semantics).await {
        None => "nothing".to_owned(),
        Some(Ok(_)) => "result".to_owned(),
        Some(Err(error)) => match error.execution() {
            Execution::NotExecuted => "NotExecuted".to_owned(),
            Execution::Executed => "Executed".to_owned(),
            Execution::Unknown => "Unknown".to_owned(),
        },
    };
    // Whatever was sent before has begun when this is answered.
    world.probe.last().await.expect("the connection comes back");
    let runs = match world.shared.runs.load(Ordering::SeqCst) {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        more => format!("{more} times"),
    };
    format!("{runs}; {told}")
}

async fn serve(shared: &Arc<Shared>) -> (Listening, SocketAddr) {
    let counter = Counter(shared.clone());
    let server = farcall::serve("tcp://127.0.0.1:0", "probe", counter).await.expect("a port");
    let Address::Tcp(place) = server.addr() else { panic!("a TCP port") };
    let Host::Ip(ip) = place.host else { panic!("a number") };
    let address = SocketAddr::new(ip, place.port);
    (server, address)
}

/// The rows of the table, the heading first.
fn table() -> Vec<Vec<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../runtime/src/semantics.rs");
    let source = fs::read_to_string(path).expect("the source can be read");
    let rows = source.lines().filter_map(|line| line.strip_prefix("/// |"));
    let cells = |row: &str| -> Vec<String> {
        row.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    rows.filter(|row| !row.starts_with('-')).map(cells).collect()
}

/// Far longer than any cell takes.
const HANGS: Duration = Duration::from_secs(20);
