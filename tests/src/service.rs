//! A service whose executions are counted, a server of it that can crash, and what a caller was told held against what
//! ran.
//!
//! Used by the tests over real sockets. The counts are the server's own, by the id that each call carries, and outlive
//! the server: they are the truth that every error is measured by.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use farcall::{
    Address, CallError, Context, Execution, Limits, Listening, Node, Pending, Semantics, remote,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// One method for each semantics, all the same otherwise.
#[remote]
pub trait Work {
    /// Runs under maybe.
    #[remote(semantics = "maybe")]
    async fn maybe(&self, order: Order) -> Answer;

    /// Runs under at-least-once.
    #[remote(semantics = "at_least_once")]
    async fn at_least_once(&self, order: Order) -> Answer;

    /// Runs under at-most-once.
    #[remote(semantics = "at_most_once")]
    async fn at_most_once(&self, order: Order) -> Answer;

    /// Runs, and nobody is told.
    #[remote(semantics = "maybe", oneway)]
    async fn note(&self, id: u64);

    /// Gives the bytes back.
    async fn echo(&self, bytes: &[u8]) -> Vec<u8>;
}

/// What a call asks for. Unique by its id, so that its executions can be counted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Names the call in the log.
    pub id: u64,
    /// What the method does after it was counted.
    pub how: How,
    /// A value that does not travel everywhere.
    pub fussy: Fussy,
    /// Makes the request long.
    pub padding: Vec<u8>,
}

/// What a method does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum How {
    /// Answers at once.
    Answer,
    /// Waits until the log is [opened](Log::open).
    Hold,
    /// Waits until its caller gives up.
    UntilCancelled,
    /// Yields once, so that it gets a task of its own, and answers.
    Yield,
    /// Panics.
    Panic,
    /// Answers with so many bytes.
    Large(usize),
    /// Answers what its caller cannot decode.
    Undecodable,
}

/// The answer to an [`Order`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// The order's id.
    pub id: u64,
    /// A value that does not travel everywhere.
    pub fussy: Fussy,
    /// Makes the reply long.
    pub padding: Vec<u8>,
}

/// A value that can fail to be encoded or decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fussy {
    /// Travels.
    Fine,
    /// Cannot be encoded.
    NotEncodable,
    /// Cannot be decoded.
    NotDecodable,
}

/// Which calls ran, and how often: the truth.
pub struct Log {
    starts: watch::Sender<HashMap<u64, u32>>,
    ends: watch::Sender<HashMap<u64, u32>>,
    open: watch::Sender<bool>,
}

/// The object: counts, then does what the order says.
pub struct Worker {
    log: Arc<Log>,
}

/// A server in a runtime of its own, which can be ended like a process.
pub struct Server {
    runtime: Option<Runtime>,
    listening: Listening,
}

/// What a caller learned, in one word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Report {
    /// The answer.
    Ok,
    /// An error: the method ran.
    Executed,
    /// An error: the method did not run and never will.
    NotExecuted,
    /// An error: nobody knows.
    Unknown,
}

/// What came of many calls, in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// All calls.
    pub calls: usize,
    /// Those that were answered.
    pub ok: usize,
    /// Those that certainly did not run.
    pub not_executed: usize,
    /// Those of which nobody knows.
    pub unknown: usize,
    /// Those that ran more than once.
    pub repeated: usize,
}

/// What carries the calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// A stream.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Every transport over sockets.
pub const TRANSPORTS: [Transport; 2] = [Transport::Tcp, Transport::Udp];

/// The three semantics that need no store.
pub const SEMANTICS: [Semantics; 3] =
    [Semantics::Maybe, Semantics::AtLeastOnce, Semantics::AtMostOnce];

/// An order that is answered at once.
#[must_use]
pub fn order(id: u64) -> Order {
    Order { id, how: How::Answer, fussy: Fussy::Fine, padding: Vec::new() }
}

impl Order {
    /// The same order, done in another way.
    #[must_use]
    pub fn how(mut self, how: How) -> Order {
        self.how = how;
        self
    }
}

/// Starts a call under the semantics.
///
/// # Errors
/// Those of [`farcall::Call::start`].
pub async fn start(
    work: &WorkProxy,
    semantics: Semantics,
    order: Order,
) -> Result<Pending<Answer>, CallError> {
    match semantics {
        Semantics::Maybe => work.maybe(order).start().await,
        Semantics::AtLeastOnce => work.at_least_once(order).start().await,
        _ => work.at_most_once(order).start().await,
    }
}

/// Makes a call under the semantics.
///
/// # Errors
/// Those of the call.
pub async fn call(
    work: &WorkProxy,
    semantics: Semantics,
    order: Order,
) -> Result<Answer, CallError> {
    start(work, semantics, order).await?.await
}

/// The proxy of a client of its own, with these limits.
///
/// # Errors
/// Those of the lookup.
pub async fn client(url: impl farcall::IntoUrl, limits: Limits) -> Result<WorkProxy, CallError> {
    Node::builder().limits(limits).build().lookup(url).await
}

/// Waits for something that must come, for ten seconds at most.
///
/// # Panics
/// If it does not come.
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what} did not come within {PATIENCE:?}"),
    }
}

/// Asks again and again, for the rare thing that tells nobody when it is there.
///
/// # Panics
/// If the condition does not come true within ten seconds.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    within(what, async {
        while !condition() {
            tokio::time::sleep(POLL).await;
        }
    })
    .await;
}

impl Report {
    /// What an outcome says.
    pub fn of<T, E>(outcome: &Result<T, CallError<E>>) -> Report {
        match outcome.as_ref().map_err(CallError::execution) {
            Ok(_) => Report::Ok,
            Err(Execution::Executed) => Report::Executed,
            Err(Execution::NotExecuted) => Report::NotExecuted,
            Err(_) => Report::Unknown,
        }
    }

    /// Whether this may be told of a call that ran so often under this semantics.
    #[must_use]
    pub fn is_true(self, semantics: Semantics, runs: u32) -> bool {
        let at_most = if semantics == Semantics::AtLeastOnce { u32::MAX } else { 1 };
        let truth = match self {
            Report::Ok | Report::Executed => runs >= 1,
            Report::NotExecuted => runs == 0,
            Report::Unknown => true,
        };
        truth && runs <= at_most
    }
}

impl Summary {
    /// Holds every outcome against the log.
    ///
    /// # Panics
    /// If one of them does not tell the truth, or a call ran more often than its semantics allows.
    #[must_use]
    pub fn of(
        semantics: Semantics,
        outcomes: &[(u64, Result<Answer, CallError>)],
        log: &Log,
    ) -> Summary {
        let mut summary = Summary { calls: outcomes.len(), ..Summary::default() };
        for (id, outcome) in outcomes {
            let (report, runs) = (Report::of(outcome), log.runs(*id));
            assert!(
                report.is_true(semantics, runs),
                "{semantics} call {id}: {outcome:?}, ran {runs}x"
            );
            if let Ok(answer) = outcome {
                assert_eq!(answer.id, *id, "an answer to another call");
            }
            summary.ok += usize::from(report == Report::Ok);
            summary.not_executed += usize::from(report == Report::NotExecuted);
            summary.unknown += usize::from(report == Report::Unknown);
            summary.repeated += usize::from(runs > 1);
        }
        summary
    }
}

impl Log {
    /// Nothing ran.
    #[must_use]
    pub fn new() -> Arc<Log> {
        Arc::new(Log {
            starts: watch::Sender::default(),
            ends: watch::Sender::default(),
            open: watch::Sender::default(),
        })
    }

    /// How often a call ran so far.
    #[must_use]
    pub fn runs(&self, id: u64) -> u32 {
        self.starts.borrow().get(&id).copied().unwrap_or(0)
    }

    /// How many different calls ran.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.starts.borrow().len()
    }

    /// Waits until a call has begun.
    ///
    /// # Panics
    /// If it does not begin within ten seconds.
    pub async fn begun(&self, id: u64) {
        let mut starts = self.starts.subscribe();
        let begun = starts.wait_for(|starts| starts.contains_key(&id));
        let _ = within("the execution", begun).await;
    }

    /// Waits until a call has ended.
    ///
    /// # Panics
    /// If it does not end within ten seconds.
    pub async fn ended(&self, id: u64) {
        let mut ends = self.ends.subscribe();
        let _ = within("the end", ends.wait_for(|ends| ends.contains_key(&id))).await;
    }

    /// Lets all calls that hold go on, and holds no more.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Counts an execution that begins.
    pub fn begin(&self, id: u64) {
        self.starts.send_modify(|starts| *starts.entry(id).or_default() += 1);
    }

    fn end(&self, id: u64) {
        self.ends.send_modify(|ends| *ends.entry(id).or_default() += 1);
    }
}

impl Worker {
    /// A worker that counts in this log.
    #[must_use]
    pub fn new(log: &Arc<Log>) -> Worker {
        Worker { log: log.clone() }
    }

    async fn work(&self, order: Order) -> Answer {
        let id = order.id;
        let ended = Ended { log: &self.log, id };
        self.log.begin(id);
        let mut answer = Answer { id, fussy: Fussy::Fine, padding: Vec::new() };
        match order.how {
            How::Answer => {}
            How::Hold => {
                let _ = self.log.open.subscribe().wait_for(|open| *open).await;
            }
            How::UntilCancelled => {
                let context = Context::current().expect("in a handler");
                context.cancellation().cancelled().await;
            }
            How::Yield => tokio::task::yield_now().await,
            How::Panic => panic!("{ORDERED}"),
            How::Large(bytes) => answer.padding = vec![7; bytes],
            How::Undecodable => answer.fussy = Fussy::NotDecodable,
        }
        drop(ended);
        answer
    }
}

/// Counts the end of an execution, however it ends.
struct Ended<'a> {
    log: &'a Log,
    id: u64,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.log.end(self.id);
    }
}

#[remote]
impl Work for Worker {
    async fn maybe(&self, order: Order) -> Answer {
        self.work(order).await
    }

    async fn at_least_once(&self, order: Order) -> Answer {
        self.work(order).await
    }

    async fn at_most_once(&self, order: Order) -> Answer {
        self.work(order).await
    }

    async fn note(&self, id: u64) {
        self.log.begin(id);
    }

    async fn echo(&self, bytes: &[u8]) -> Vec<u8> {
        bytes.to_vec()
    }
}

impl Server {
    /// Serves a [`Worker`] under the name `work` on a free loopback port.
    ///
    /// # Panics
    /// If the system gives no thread or no port.
    pub async fn start(limits: Limits, log: &Arc<Log>) -> Server {
        Server::start_over(Transport::Tcp, limits, log).await
    }

    /// As [`start`](Server::start), over this transport.
    ///
    /// # Panics
    /// If the system gives no thread or no port.
    pub async fn start_over(transport: Transport, limits: Limits, log: &Arc<Log>) -> Server {
        Server::start_at(&transport.anywhere(), limits, log).await
    }

    /// As [`start`](Server::start), at a given place.
    ///
    /// # Panics
    /// If the system gives no thread, or the place is taken.
    pub async fn start_at(url: &str, limits: Limits, log: &Arc<Log>) -> Server {
        watch_panics();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (url, worker) = (url.to_owned(), Worker::new(log));
        let listening = runtime.spawn(async move {
            let node = Node::builder().limits(limits).build();
            node.registry().bind("work", worker).expect("a free name");
            loop {
                // The port of a server that crashed is free a moment later.
                match node.listen(url.as_str()).await {
                    Ok(listening) => break listening,
                    Err(_) => tokio::time::sleep(POLL).await,
                }
            }
        });
        let listening = within("a free port", listening).await.expect("no panic");
        Server { runtime: Some(runtime), listening }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        socket_address(self.listening.addr())
    }

    /// The worker's URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.listening.url("work").to_string()
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &Node {
        self.listening.node()
    }

    /// Ends it as a crash would: once this returns, nothing more is sent and no handler goes on.
    ///
    /// # Panics
    /// If the server's threads do not end.
    pub fn crash(mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A runtime must not be waited for inside another one.
            let end = std::thread::spawn(move || runtime.shutdown_timeout(PATIENCE));
            end.join().expect("the server's threads end");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Transport {
    /// Its part of a URL.
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        }
    }

    /// Any free port of loopback.
    #[must_use]
    pub fn anywhere(self) -> String {
        format!("{}://127.0.0.1:0", self.scheme())
    }

    /// The URL of the worker behind an address.
    #[must_use]
    pub fn work_at(self, address: SocketAddr) -> String {
        format!("{}://{address}/work", self.scheme())
    }
}

/// The URL of the worker behind a TCP address.
#[must_use]
pub fn work_at(address: SocketAddr) -> String {
    Transport::Tcp.work_at(address)
}

/// The socket address that a listener on a socket has.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn socket_address(address: &Address) -> SocketAddr {
    let text = address.to_string();
    let place = text.split_once("://").map_or(&text[..], |(_, place)| place);
    place.parse().expect("a listener on a socket has an address in numbers")
}

/// Begins to count panics, as [`Server::start`] does.
pub fn watch_panics() {
    HOOK.call_once(count_panics);
}

/// How many panics there were in this process since they are counted, without those that were ordered. A panic in a
/// task ends that task and no test.
#[must_use]
pub fn panics() -> usize {
    PANICS.load(Ordering::Acquire)
}

fn count_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str() != Some(ORDERED) {
            PANICS.fetch_add(1, Ordering::AcqRel);
            print(panic);
        }
    }));
}

static HOOK: Once = Once::new();
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// What a method says that panics because it was told to.
const ORDERED: &str = "as ordered";

impl Serialize for Fussy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Fussy::Fine => serializer.serialize_u8(0),
            Fussy::NotDecodable => serializer.serialize_u8(1),
            Fussy::NotEncodable => Err(serde::ser::Error::custom("as ordered")),
        }
    }
}

impl<'de> Deserialize<'de> for Fussy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fussy, D::Error> {
        match u8::deserialize(deserializer)? {
            0 => Ok(Fussy::Fine),
            _ => Err(serde::de::Error::custom("as ordered")),
        }
    }
}

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two looks at what tells nobody.
const POLL: Duration = Duration::from_millis(2);
