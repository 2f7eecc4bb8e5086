//! farcall, with each of its promises, over TCP and UDP.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use farcall::{Limits, Node, SqliteStore, remote};
use farcall_benches::service::{Adder, CalculatorProxy};

use crate::callers::{self, Caller};
use crate::load::{Load, Outcome};
use crate::system::System;

/// What the goals are about.
pub(crate) const AT_MOST_ONCE: &str = "farcall at-most-once tcp";
pub(crate) const AT_MOST_ONCE_UDP: &str = "farcall at-most-once udp";

/// Connections that are measured of each promise.
const FEW: usize = 64;

/// Room for 10,000 sessions of one host, and for a mebibyte over UDP.
pub(crate) fn limits() -> Limits {
    Limits {
        connections: 32_768,
        connections_per_host: 32_768,
        handshakes: 32_768,
        message: 20 << 20,
        datagram_message: 2 << 20,
        ..Limits::default()
    }
}

async fn serve(place: &str) -> String {
    serve_within(limits(), place).await
}

/// Serves a calculator; its URL.
pub(crate) async fn serve_within(limits: Limits, place: &str) -> String {
    let node = Node::builder().limits(limits).build();
    node.registry().bind("calculator", Adder).expect("a free name");
    let listening = node.listen(place).await.expect("a port");
    let url = listening.url("calculator").to_string();
    std::mem::forget((node, listening));
    url
}

pub(crate) async fn connect(url: String) -> CalculatorProxy {
    connect_within(limits(), url).await
}

async fn connect_within(limits: Limits, url: String) -> CalculatorProxy {
    let node = Node::builder().limits(limits).build();
    node.lookup(url).await.expect("connected")
}

macro_rules! promise {
    ($caller:ident, $method:ident, $tcp:ident, $tcp_name:literal, $udp:ident, $udp_name:literal) => {
        #[derive(Clone)]
        pub(crate) struct $caller(CalculatorProxy);

        impl Caller for $caller {
            async fn add(&self, a: u64, b: u64) -> u64 {
                self.0.$method(a, b).await.expect("answered")
            }
            async fn echo(&self, bytes: &Bytes) -> usize {
                self.0.echo(bytes.clone()).await.expect("answered").len()
            }
        }

        promise!($caller, $tcp, $tcp_name, "tcp://127.0.0.1:0");
        promise!($caller, $udp, $udp_name, "udp://127.0.0.1:0");
    };
    ($caller:ident, $system:ident, $name:literal, $place:literal) => {
        pub(crate) struct $system;

        impl System for $system {
            const NAME: &'static str = $name;
            const DATAGRAMS: bool = $place.as_bytes()[0] == b'u';
            type Client = $caller;

            async fn serve() -> String {
                serve($place).await
            }
            async fn connect(url: String) -> $caller {
                $caller(connect(url).await)
            }
            async fn run(clients: Vec<$caller>, load: Load) -> Outcome {
                callers::run(clients, load).await
            }
            /// The promise makes no difference to what is idle, nor to what fills the socket: echoes and idle connections
            /// are those of at-most-once. What is longer than a mebibyte does not go over UDP.
            fn takes(load: &Load) -> bool {
                let small = load.echo.is_none() && load.beside.is_none() && load.connections <= FEW;
                small
                    || ($name.contains("at-most-once")
                        && !(Self::DATAGRAMS && load.beside.is_some()))
            }
        }
    };
}

promise!(Maybe, add_maybe, MaybeTcp, "farcall maybe tcp", MaybeUdp, "farcall maybe udp");
promise!(
    AtLeastOnce,
    add_again,
    AtLeastOnceTcp,
    "farcall at-least-once tcp",
    AtLeastOnceUdp,
    "farcall at-least-once udp"
);
promise!(
    AtMostOnce,
    add,
    AtMostOnceTcp,
    "farcall at-most-once tcp", // AT_MOST_ONCE
    AtMostOnceUdp,
    "farcall at-most-once udp" // AT_MOST_ONCE_UDP
);

/// At most once, by connections that look again before they sleep.
pub(crate) struct BusyTcp;

/// As long as the docs of the limit say.
const BUSY: Duration = Duration::from_micros(100);

impl System for BusyTcp {
    const NAME: &'static str = "farcall busy polling tcp";
    type Client = AtMostOnce;

    async fn serve() -> String {
        serve_within(Limits { busy_poll: BUSY, ..limits() }, "tcp://127.0.0.1:0").await
    }

    async fn connect(url: String) -> AtMostOnce {
        AtMostOnce(connect_within(Limits { busy_poll: BUSY, ..limits() }, url).await)
    }

    async fn run(clients: Vec<AtMostOnce>, load: Load) -> Outcome {
        callers::run(clients, load).await
    }

    /// Sleep is what it saves, of which there is little if many calls are in flight.
    fn takes(load: &Load) -> bool {
        load.connections == 1 && load.depth <= FEW && load.echo.is_none() && load.beside.is_none()
    }
}

/// The same sum, in a transaction on each side.
#[remote(semantics = "exactly_once")]
pub(crate) trait Ledger {
    async fn add(&self, a: u64, b: u64) -> u64;
}

struct Book;

#[remote]
impl Ledger for Book {
    async fn add(&self, a: u64, b: u64) -> u64 {
        a.wrapping_add(b)
    }
}

#[derive(Clone)]
pub(crate) struct ExactlyOnce(LedgerProxy);

impl Caller for ExactlyOnce {
    async fn add(&self, a: u64, b: u64) -> u64 {
        self.0.add(a, b).await.expect("answered")
    }
    async fn echo(&self, _bytes: &Bytes) -> usize {
        unreachable!("it takes no echoes")
    }
}

pub(crate) struct ExactlyOnceTcp;

impl System for ExactlyOnceTcp {
    const NAME: &'static str = "farcall exactly-once tcp";
    type Client = ExactlyOnce;

    async fn serve() -> String {
        let node = Node::builder().limits(limits()).store(store()).build();
        node.registry().bind("ledger", Book).expect("a free name");
        let listening = node.listen("tcp://127.0.0.1:0").await.expect("a port");
        let url = listening.url("ledger").to_string();
        std::mem::forget((node, listening));
        url
    }

    async fn connect(url: String) -> ExactlyOnce {
        let node = Node::builder().limits(limits()).store(store()).build();
        ExactlyOnce(node.lookup(url).await.expect("connected"))
    }

    async fn run(clients: Vec<ExactlyOnce>, load: Load) -> Outcome {
        callers::run(clients, load).await
    }

    /// A client is a store of its own, of which nobody has thousands.
    fn takes(load: &Load) -> bool {
        load.echo.is_none() && load.beside.is_none() && load.connections <= FEW
    }
}

/// A store of its own for each node, in this process's folder.
fn store() -> SqliteStore {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let folder = folder();
    std::fs::create_dir_all(&folder).expect("a folder");
    let name = format!("{}.db", COUNT.fetch_add(1, Ordering::Relaxed));
    SqliteStore::open(folder.join(name)).expect("a store")
}

/// Where this process's stores are; removed when it ends.
pub(crate) fn folder() -> PathBuf {
    std::env::temp_dir().join(format!("farcall-compare-{}", std::process::id()))
}
