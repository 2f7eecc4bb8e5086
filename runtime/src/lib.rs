//! Remote calls whose behaviour under failure is declared, enforced and proven.
//!
//! An interface is a trait, an object is an impl of it, and a call is a method call: over TCP, over
//! UDP or inside one process. What a method promises when messages are lost, repeated or cut off, or when
//! a process is killed, stands in the trait. A call that gives no result says whether the method
//! ran.
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering};
//! use std::time::Duration;
//!
//! use farcall::{CallError, Execution, remote};
//!
//! /// A bank account.
//! #[remote(semantics = "at_most_once")]
//! pub trait Account {
//!     /// Adds `cents` and returns the new balance.
//!     async fn deposit(&self, cents: u64) -> Result<u64, Frozen>;
//!
//!     /// The balance in cents. Reading twice does no harm.
//!     #[remote(semantics = "at_least_once")]
//!     async fn balance(&self) -> u64;
//! }
//!
//! #[derive(Debug, thiserror::Error, serde::Serialize, serde::Deserialize)]
//! #[error("the account is frozen")]
//! pub struct Frozen;
//!
//! #[derive(Default)]
//! struct Memory {
//!     cents: AtomicU64,
//! }
//!
//! #[remote]
//! impl Account for Memory {
//!     async fn deposit(&self, cents: u64) -> Result<u64, Frozen> {
//!         Ok(self.cents.fetch_add(cents, Ordering::Relaxed) + cents)
//!     }
//!     async fn balance(&self) -> u64 {
//!         self.cents.load(Ordering::Relaxed)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // server
//! let server = farcall::serve("tcp://127.0.0.1:0", "alice", Memory::default()).await?;
//!
//! // client
//! let alice: AccountProxy = farcall::connect(server.url("alice")).await?;
//! assert_eq!(alice.deposit(500).await?, 500); // sent now, waits for the answer
//! let pending = alice.deposit(250).start().await?; // sent now, the answer is collected later
//! assert_eq!(pending.await?, 750);
//! match alice.deposit(1).timeout(Duration::from_secs(2)).await {
//!     Ok(balance) => println!("{balance}"),
//!     Err(CallError::Method(Frozen)) => println!("frozen"),
//!     Err(error) if error.execution() == Execution::NotExecuted => {
//!         println!("safe to try again: {error}");
//!     }
//!     Err(error) => println!("it may have run: {error}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Promises
//!
//! A trait declares one of four [`Semantics`] for all its methods, a method may declare another:
//!
//! | `semantics = …` | the method runs | for |
//! |---|---|---|
//! | `"maybe"` | once or never; nothing is sent again | what is of no use when it is late |
//! | `"at_least_once"` | until an answer came; perhaps more than once | reading, and what may be done twice |
//! | `"at_most_once"`, the default | once or never, however often the request is sent again | everything else |
//! | `"exactly_once"`, with the feature `sqlite` | until its effect is in the database once, over crashes of both sides | what must not be lost nor doubled |
//!
//! The table in the docs of [`Semantics`] says what each of them does in each kind of failure; a
//! test runs every cell of it over real sockets. A client reconnects by itself, and its session
//! survives a broken connection: under at-least-once and at-most-once, a call that was lost on the
//! way is sent again, and its caller sees nothing of it.
//!
//! # Failures
//!
//! A call returns `Result<T, CallError<E>>`: [`CallError::Method`] holds the method's own error,
//! all others are the runtime's. [`CallError::execution`] sorts them by what a caller needs to
//! know:
//!
//! | [`Execution`] | the method | the caller |
//! |---|---|---|
//! | `NotExecuted` | did not run and never will | can make the call again without harm |
//! | `Executed` | ran, wholly or in part | has no result, and must not expect that nothing happened |
//! | `Unknown` | may have run, or may yet run | asks, or makes a call that does no harm twice |
//!
//! A method that panics, a result that is too large, arguments that do not decode: that call alone
//! fails. A method that fails because a call of its own failed is seen as one that ran and [failed
//! within](CallError::FailedWithin).
//!
//! # Ways to wait
//!
//! A method of a proxy returns a [`Call`], a future that does nothing before it is awaited or
//! started.
//!
//! | | waits for | on a full send buffer |
//! |---|---|---|
//! | `call.await` | the answer | waits |
//! | [`call.blocking()`](Call::blocking) | the answer, parking the thread; an error in an async task | waits |
//! | [`call.start().await`](Call::start), a [`Pending`] | only until the request is in the send buffer | waits |
//! | [`call.try_start()`](Call::try_start), a [`Pending`] | nothing | [`CallError::BufferFull`] |
//!
//! A [`Pending`] can be awaited, waited for, polled, [cancelled](Pending::cancel) or
//! [detached](Pending::detach); dropping it, or a call that has started, cancels it, but no exactly-once call. Deadlines:
//! [`Call::timeout`], [`Call::deadline`],
//! [`Proxy::with_timeout`], `#[remote(timeout = "2s")]`, else [`Limits::default_timeout`].
//!
//! [`blocking`] serves programs without an async runtime of their own.
//!
//! # Nodes and names
//!
//! [`serve`] and [`connect`] make a [`Node`] each, on the current tokio runtime. A program that has several objects, serves
//! and calls, sets [`Limits`] or ends in good order builds one itself:
//!
//! ```
//! # use farcall::{Node, remote};
//! # #[remote]
//! # trait Echo { async fn say(&self, text: &str) -> String; }
//! # struct Cave;
//! # #[remote]
//! # impl Echo for Cave { async fn say(&self, text: &str) -> String { text.to_owned() } }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node = Node::builder().build();
//! node.registry().bind("deep/cave", Cave)?;
//! let here = node.listen("tcp://127.0.0.1:0").await?;
//!
//! let cave: EchoProxy = node.lookup(here.url("deep/cave")).await?;
//! assert_eq!(cave.say("hello").await?, "hello");
//! node.shutdown(std::time::Duration::from_secs(1)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Names live in the node's [`Registry`]: `bind`, `rebind`, `unbind`, `lookup`, `list`. Calls
//! follow the name. From outside the registry is an object like others, [`RemoteRegistry`] at
//! `farcall/registry`, which anybody may read and whom the program [allows](Registry::allow_remote)
//! may change. An address is a [`Url`]: `tcp://host:port/name`, `udp://host:port/name`, or
//! `mem://node/name` inside one process.
//!
//! In a handler, [`Context::current`] says who calls, which call this is, how long the caller
//! waits, and whether it has given up.
//!
//! # What is generated
//!
//! From `trait Account`, [`#[remote]`](macro@remote) makes the trait itself, object-safe and
//! fallible, so that `dyn Account` means the same near and far; `AccountProxy`, which implements it
//! and whose methods return [`Call`]s; `AccountGroup`, whose methods return [`GroupCall`]s; the
//! table from method ids to code; and a [`Descriptor`]. The page of [`remote`](macro@remote) shows a whole expansion. Adding, removing and reordering
//! methods never reroutes a call; a changed signature is [`CallError::NoSuchMethod`].
//!
//! # Over UDP
//!
//! `udp://host:port/name` works wherever `tcp://` does, with the same proxies, promises and errors.
//! What is lost is sent again, except under *maybe*; what comes twice is seen. The differences:
//!
//! - a message is at most [`Limits::datagram_message`] long, 1 MiB; a longer one is
//!   [`CallError::TooLarge`], and did not run. [`Limits::datagram`] is the size of a datagram;
//! - calls begin in any order;
//! - all clients of a socket are served by one task, so that methods that compute for long should be
//!   marked `#[remote(spawn)]`;
//! - a checksum sees what the network damages, not what an attacker on the path changes.
//!
//! [`Node::statistics`] counts datagrams: sent, received, lost, refused, and dropped by the kernel.
//!
//! # Groups
//!
//! The trait makes an `AccountGroup` as well: the same methods, called at many objects, each under the method's own
//! promise. [`Node::group`] takes their URLs, a [`GroupCall`] says how many answers are waited for, and [`Replies`] have an
//! entry for each member.
//!
//! ```
//! # use farcall::remote;
//! # #[remote]
//! # trait Echo { async fn say(&self, text: &str) -> String; }
//! # struct Cave;
//! # #[remote]
//! # impl Echo for Cave { async fn say(&self, text: &str) -> String { text.to_owned() } }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (one, other) = (farcall::serve("tcp://127.0.0.1:0", "cave", Cave).await?, farcall::serve("udp://127.0.0.1:0", "cave", Cave).await?);
//! let caves: EchoGroup = farcall::group([one.url("cave"), other.url("cave")]).await?;
//! let first = caves.say("hello").first().await.require()?;
//! assert_eq!(first.accepted().next().map(|(_, echo)| &**echo), Some("hello"));
//! assert_eq!(caves.say("hello").all().await.len(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! Members need not be named: [`Node::announce`] lets the objects of a node be found at the address of a multicast group or
//! by broadcast, and [`Node::discover`] streams those that answer. [`Node::multicast`] makes a group of them, whose calls
//! leave in one datagram.
//!
//! # Messages
//!
//! A [`Mailbox`] is a queue that others put messages into, with so many places or none; a [`Sender`] sends to one mailbox or
//! to several, and waits until a message was received ([`send`](Sender::send)), until there is room
//! ([`post`](Sender::post)), or not at all ([`try_post`](Sender::try_post)).
//!
//! # Objects as values
//!
//! A proxy is a value: as an argument or in a result it travels as a reference to the object. [`Node::export`] makes a proxy
//! of an object without a name, which lives as long as somebody holds a reference to it, here or at a peer. A server calls
//! the objects of its clients over the connections that they have opened. `docs/references.md` in the repository says how
//! long what lives.
//!
//! ```
//! # use farcall::remote;
//! #[remote]
//! trait Listener { async fn hear(&self, text: &str); }
//! #[remote]
//! trait Room { async fn greet(&self, listener: ListenerProxy); }
//!
//! struct Hall;
//! #[remote]
//! impl Room for Hall {
//!     async fn greet(&self, listener: ListenerProxy) { let _ = listener.hear("welcome").await; }
//! }
//! struct Ear;
//! #[remote]
//! impl Listener for Ear {
//!     async fn hear(&self, text: &str) { assert_eq!(text, "welcome"); }
//! }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = farcall::serve("tcp://127.0.0.1:0", "room", Hall).await?;
//! let room: RoomProxy = farcall::connect(server.url("room")).await?;
//! let node = farcall::Proxy::node(&room);
//! room.greet(node.export(Ear)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Exactly once
//!
//! With the feature `sqlite` a node can have a [store](SqliteStore), an SQLite database of the program's own. Calls of
//! methods with `semantics = "exactly_once"` are saved there before they are sent, and the object's handler writes to the
//! server's database in the transaction that records its answer:
//!
//! ```
//! # #[cfg(feature = "sqlite")]
//! # mod bank {
//! use farcall::sqlite::params;
//! use farcall::{CallError, remote};
//!
//! #[remote(semantics = "exactly_once")]
//! pub trait Ledger {
//!     async fn transfer(&self, from: &str, to: &str, cents: i64);
//! }
//!
//! struct Book;
//!
//! #[remote]
//! impl Ledger for Book {
//!     async fn transfer(&self, from: &str, to: &str, cents: i64) -> Result<(), CallError> {
//!         let tx = farcall::sqlite::transaction()?;
//!         tx.execute("update account set cents = cents - ?1 where name = ?2", params![cents, from])?;
//!         tx.execute("update account set cents = cents + ?1 where name = ?2", params![cents, to])?;
//!         Ok(())
//!     }
//! }
//! # }
//! ```
//!
//! [`Call::key`] finds the call again after a crash of the client, [`Call::enqueue`] saves it in a transaction of the
//! program's own, [`Node::recovered`] lists what was finished meanwhile. Such a call has no end but its answer: a timeout
//! is [`CallError::Deferred`], with a [`Ticket`] to wait on again. `docs/exactly-once.md` in the repository says what is
//! promised, under which conditions, and what is not.
//!
//! # Limits of this version
//!
//! No encryption and no authentication: use it where the network is trusted.

#![cfg_attr(
    not(feature = "sqlite"),
    allow(rustdoc::broken_intra_doc_links, reason = "some lead to what the feature adds")
)]

#[macro_use]
mod canary;

pub mod blocking;

mod address;
mod call;
mod context;
mod descriptor;
mod discover;
mod dispatch;
mod driver;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod id;
mod limits;
mod mailbox;
mod node;
mod pending;
mod private;
mod protocol;
mod proxy;
mod reference;
mod registry;
mod semantics;
mod serve;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(feature = "sqlite")]
mod store;
mod ticket;
mod time;
mod transport;
mod wire;

pub use address::{Address, AddressError, Host, HostPort, IntoUrl, NameError, Url};
pub use call::Call;
pub use context::{Caller, Cancellation, Context, NoContext};
pub use descriptor::{Descriptor, MethodDescriptor};
pub use discover::{Callers, Discovery, Finding, Found};
pub use dispatch::{Implements, Interface, Object};
pub use error::{CallError, MethodError, Refusal};
#[doc = include_str!("../docs/remote.md")]
#[doc = "```"]
#[doc = include_str!("../docs/expansion/one_method.rs")]
#[doc = "```"]
pub use farcall_macros::remote;
pub use group::{Gather, Group, GroupCall, Member, Outcome, Replies, Reply, Unmet, group};
#[cfg(feature = "sqlite")]
pub use id::StoreId;
pub use id::{Boot, CallId, MethodId, NodeId, SessionId};
pub use limits::Limits;
#[cfg(feature = "sqlite")]
pub use mailbox::DurableMailbox;
pub use mailbox::{Capacity, Mailbox, ReceiveError, SendError, Sender, SenderConfig};
pub use node::{Listening, Node, NodeBuilder, Statistics, Unfinished, connect, serve, serve_as};
#[cfg(feature = "sqlite")]
pub use node::{Recovered, RecoveredCall};
pub use pending::Pending;
pub use proxy::Proxy;
pub use reference::{Reference, Unreferenced};
pub use registry::{Entry, Registry, RegistryError, RemoteRegistry, RemoteRegistryProxy, Verb};
pub use semantics::{Execution, Semantics};
pub use serve::ServeError;
#[cfg(feature = "sqlite")]
pub use store::{Registration, SqliteStore, StoreError};
pub use ticket::Ticket;

#[doc(hidden)]
pub mod __private {
    pub use crate::private::*;
}
