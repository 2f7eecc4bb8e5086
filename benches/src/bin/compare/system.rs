//! What is measured: a system serves, connects, and carries a load.

use std::sync::mpsc::Receiver;
use std::time::Duration;

use farcall_benches::{pin, runtime};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::LocalSet;

use crate::load::{Load, Outcome};
use crate::usage::Heap;

/// One way to make calls.
pub(crate) trait System: 'static {
    /// How it is called in tables, in `--only` and in the JSON.
    const NAME: &'static str;
    /// Whether it stands on datagrams.
    const DATAGRAMS: bool = false;
    /// Whether its parts stay on one thread and want tokio's `LocalSet`.
    const LOCAL: bool = false;
    /// Whether it refuses a runtime that has but the thread which it is driven from.
    const THREADED: bool = false;

    /// One connection.
    type Client: 'static;

    /// Serves until the runtime ends; gives the address.
    async fn serve() -> String;

    /// Connects.
    async fn connect(address: String) -> Self::Client;

    /// Carries the load over these connections.
    async fn run(clients: Vec<Self::Client>, load: Load) -> Outcome;

    /// Whether it can carry this load.
    fn takes(_load: &Load) -> bool {
        true
    }
}

/// Tells how many connections there are, and how much the heap has grown.
pub(crate) type Growth<'a> = &'a mut dyn FnMut(usize, f64);

/// A system, whatever its types.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) datagrams: bool,
    pub(crate) takes: fn(&Load) -> bool,
    /// Serves on this thread, for good; tells the address, and how much the heap has grown as often as it is asked.
    serve: fn(&dyn Fn(String), UnboundedReceiver<()>),
    /// Connects, carries the load, disconnects.
    run: fn(&str, Load) -> Outcome,
    /// Connects until there are so many, tells that, and goes on with the next.
    hold: fn(&str, &[usize], Growth<'_>),
}

impl Entry {
    /// Whether it is another framework.
    pub(crate) fn is_peer(&self) -> bool {
        !["farcall", "bare", "std", "batched"].iter().any(|own| self.name.starts_with(own))
    }

    pub(crate) const fn of<S: System>() -> Entry {
        Entry {
            name: S::NAME,
            datagrams: S::DATAGRAMS,
            takes: S::takes,
            serve: serve::<S>,
            run: run::<S>,
            hold: hold::<S>,
        }
    }

    /// Serves on a thread of its own, pinned to this core; the address.
    pub(crate) fn start(&self, core: usize) -> String {
        self.start_asked(core).0
    }

    /// The same; on each question the thread tells by how many bytes its heap has grown since the last one.
    pub(crate) fn start_asked(
        &self,
        core: usize,
    ) -> (String, UnboundedSender<()>, Receiver<String>) {
        let (sender, receiver) = std::sync::mpsc::channel();
        let (questions, asked) = unbounded_channel();
        let serve = self.serve;
        std::thread::spawn(move || {
            pin(core);
            serve(&|text| sender.send(text).expect("the bench waits"), asked);
        });
        (receiver.recv().expect("the server starts"), questions, receiver)
    }

    /// Carries the load from a thread of its own, pinned to the first core. Nothing if that failed or led to nothing.
    pub(crate) fn carry(&self, address: &str, load: Load) -> Option<Outcome> {
        let (run, address) = (self.run, address.to_owned());
        let client = std::thread::spawn(move || {
            pin(0);
            run(&address, load)
        });
        client.join().ok().filter(|outcome| outcome.calls > 0)
    }

    /// Connects until there are so many, tells that and by how many bytes the heap has grown, and goes on with the next.
    pub(crate) fn hold(&self, address: &str, counts: &[usize], tell: Growth<'_>) {
        pin(0);
        (self.hold)(address, counts, tell);
    }
}

fn serve<S: System>(tell: &dyn Fn(String), mut asked: UnboundedReceiver<()>) {
    block_on::<S, ()>(async {
        tell(S::serve().await);
        let mut heap = Heap::begin();
        while asked.recv().await.is_some() {
            tell(heap.end().to_string());
            heap = Heap::begin();
        }
        std::future::pending::<()>().await;
    });
}

fn run<S: System>(address: &str, load: Load) -> Outcome {
    block_on::<S, Outcome>(async {
        let mut clients = Vec::with_capacity(load.connections);
        for _ in 0..load.connections {
            clients.push(S::connect(address.to_owned()).await);
        }
        S::run(clients, load).await
    })
}

fn hold<S: System>(address: &str, counts: &[usize], tell: Growth<'_>) {
    block_on::<S, ()>(async {
        let mut clients = Vec::with_capacity(counts.iter().copied().max().unwrap_or_default());
        for &count in counts {
            let heap = Heap::begin();
            while clients.len() < count {
                clients.push(S::connect(address.to_owned()).await);
                if clients.len() % AT_ONCE == 0 {
                    tokio::time::sleep(ACCEPTED).await;
                }
            }
            // What connecting left to do is done before anybody looks.
            tokio::time::sleep(SETTLE).await;
            tell(count, heap.end());
        }
    });
}

/// After so many connections a server that shares the core is given time to accept them: one that finds no place in its
/// queue of 128 would try again after a second.
const AT_ONCE: usize = 64;
const ACCEPTED: Duration = Duration::from_millis(2);

/// How long connections are left alone before their memory is looked at.
const SETTLE: Duration = Duration::from_millis(300);

fn block_on<S: System, T>(future: impl Future<Output = T>) -> T {
    let runtime = if S::THREADED { threaded() } else { runtime() };
    let done = if S::LOCAL {
        LocalSet::new().block_on(&runtime, future)
    } else {
        runtime.block_on(future)
    };
    runtime.shutdown_background();
    done
}

/// A runtime with a thread of its own, which has the core of this one.
fn threaded() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().expect("a runtime")
}
