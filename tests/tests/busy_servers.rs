//! Servers whose threads are kept busy: by methods with `#[remote(spawn)]`, and by more calls than they can serve.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use farcall::{CallError, Execution, remote};
use farcall_tests::service::within;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(20);
/// Without care a thread that blocks has the sockets in about half of the rounds.
const ROUNDS: usize = 40;

#[remote(semantics = "at_most_once")]
trait Gate {
    /// Keeps a thread until the gate opens; whether it did.
    #[remote(spawn, timeout = "60s")]
    async fn pass(&self) -> bool;
    /// Opens the gate, once.
    async fn open(&self);
}

struct Keeper {
    entered: UnboundedSender<()>,
    open: Sender<()>,
    opened: Mutex<Receiver<()>>,
}

impl Keeper {
    fn new() -> (Keeper, UnboundedReceiver<()>) {
        let (entered, enters) = unbounded_channel();
        let (open, opened) = channel();
        (Keeper { entered, open, opened: Mutex::new(opened) }, enters)
    }
}

#[remote]
impl Gate for Keeper {
    async fn pass(&self) -> bool {
        let _ = self.entered.send(());
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.recv_timeout(LONG).is_ok()
    }

    async fn open(&self) {
        let _ = self.open.send(());
    }
}

#[tokio::test]
async fn a_spawned_method_that_keeps_its_thread_does_not_hold_up_what_comes_behind_it() {
    for place in ["tcp://127.0.0.1:0", "udp://127.0.0.1:0"] {
        let mut server = tokio::runtime::Builder::new_multi_thread();
        let server = server.worker_threads(2).enable_all().build().expect("a runtime");
        let (keeper, mut enters) = Keeper::new();
        let serving = server.spawn(farcall::serve(place, "gate", keeper)).await;
        let serving = serving.expect("no panic").expect("serving");
        let gate: GateProxy = farcall::connect(serving.url("gate")).await.expect("connected");
        for _ in 0..ROUNDS {
            let passing = gate.pass().start().await.expect("room");
            enters.recv().await.expect("it runs");
            gate.open().await.expect("another thread answers");
            assert!(passing.await.expect("it is answered"), "the gate was opened in time");
        }
        drop(serving);
        server.shutdown_background();
    }
}

/// Keeps the server's only thread.
#[remote(semantics = "at_most_once")]
trait Press {
    async fn print(&self);
}

struct Slow {
    runs: Arc<AtomicU64>,
    /// Nothing is ever sent there.
    never: Mutex<Receiver<()>>,
}

#[remote]
impl Press for Slow {
    async fn print(&self) {
        self.runs.fetch_add(1, Ordering::Relaxed);
        let never = self.never.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = never.recv_timeout(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn calls_that_waited_for_too_long_are_refused_in_time_and_did_not_run() {
    for place in ["tcp://127.0.0.1:0", "udp://127.0.0.1:0"] {
        let runs = Arc::<AtomicU64>::default();
        let (_open, never) = channel();
        let slow = Slow { runs: runs.clone(), never: Mutex::new(never) };
        let (url, told) = channel();
        let (end, ended) = oneshot::channel::<()>();
        let server = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let serving = farcall::serve(place, "press", slow).await.expect("serving");
                url.send(serving.url("press")).expect("somebody waits");
                let _ = ended.await;
            });
        });
        let url = told.recv().expect("it serves");
        let press: PressProxy = farcall::connect(url).await.expect("connected");
        // Four seconds of work that is of use for two.
        let mut calls = JoinSet::new();
        for _ in 0..200 {
            let press = press.clone();
            calls.spawn(async move { press.print().timeout(Duration::from_secs(2)).await });
        }
        let (mut answered, mut refused) = (0, 0);
        while let Some(done) = within("the answers", calls.join_next()).await {
            match done.expect("no panic") {
                Ok(()) => answered += 1,
                Err(CallError::Busy(refusal)) => {
                    assert_eq!(refusal.execution, Execution::NotExecuted);
                    refused += 1;
                }
                Err(other) => panic!("{place}: {other:?}"),
            }
        }
        assert_eq!((answered, answered + refused), (runs.load(Ordering::Relaxed), 200), "{place}");
        assert!(refused > 0, "{place}");
        drop(press);
        end.send(()).expect("it waits");
        server.join().expect("no panic");
    }
}
