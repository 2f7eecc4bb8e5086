//! What a handler learns of the call that it serves, from real callers over TCP.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use farcall::{CallId, Context, Limits, Proxy as _, remote};
use farcall_tests::fault_proxy::{Direction, Fault, FaultProxy, FrameKind};
use farcall_tests::service::{How, Log, Server, WorkProxy, client, order, socket_address, within};
use tokio::sync::mpsc;

/// Tells its caller what it knows of it.
#[remote]
pub trait Mirror {
    /// The caller's node, its address, the call's id and attempt, and the time that is left in milliseconds.
    async fn look(&self) -> (String, String, String, u32, Option<u64>);

    /// As `look`, under at-least-once.
    #[remote(semantics = "at_least_once")]
    async fn look_again(&self) -> (String, String, String, u32, Option<u64>);

    /// Whether spawned code sees the call without and with its scope.
    async fn scoped(&self) -> (bool, bool);

    /// Runs until it is cancelled.
    async fn watch(&self) -> u8;
}

type Sight = (String, String, String, u32, Option<u64>);

/// What was seen of each call, in order.
struct Glass {
    ids: Mutex<Vec<CallId>>,
    begun: mpsc::UnboundedSender<()>,
    cancelled: mpsc::UnboundedSender<()>,
}

impl Glass {
    fn sight(&self) -> Sight {
        let context = Context::current().expect("in a handler");
        self.ids.lock().expect("no panic").push(context.call_id());
        let caller = context.caller();
        (
            caller.node.to_string(),
            caller.address.to_string(),
            context.call_id().to_string(),
            context.attempt(),
            context.deadline_left().map(|left| left.as_millis() as u64),
        )
    }
}

#[remote]
impl Mirror for Glass {
    async fn look(&self) -> Sight {
        self.sight()
    }

    async fn look_again(&self) -> Sight {
        self.sight()
    }

    async fn scoped(&self) -> (bool, bool) {
        let sees = async || Context::current().is_ok();
        let context = Context::current().expect("in a handler");
        let without = tokio::spawn(async move { sees().await }).await;
        let with = tokio::spawn(context.scope(async move { sees().await })).await;
        (without.unwrap_or(true), with.unwrap_or(false))
    }

    async fn watch(&self) -> u8 {
        let cancellation = Context::current().expect("in a handler").cancellation();
        let _ = self.begun.send(());
        cancellation.cancelled().await;
        let _ = self.cancelled.send(());
        1
    }
}

struct Scene {
    mirror: MirrorProxy,
    glass: Arc<Glass>,
    server: farcall::Listening,
    begun: mpsc::UnboundedReceiver<()>,
    cancelled: mpsc::UnboundedReceiver<()>,
}

async fn scene() -> Scene {
    let (begin, begun) = mpsc::unbounded_channel();
    let (cancel, cancelled) = mpsc::unbounded_channel();
    let glass = Arc::new(Glass { ids: Mutex::default(), begun: begin, cancelled: cancel });
    let server = farcall::serve("tcp://127.0.0.1:0", "mirror", glass.clone()).await;
    let server = server.expect("a port");
    let mirror = farcall::connect(server.url("mirror")).await.expect("bound");
    Scene { mirror, glass, server, begun, cancelled }
}

#[tokio::test]
async fn a_handler_knows_its_caller_its_call_and_its_time() {
    let Scene { mirror, glass, server, .. } = scene().await;
    let (node, address, first, attempt, left) =
        mirror.look().timeout(Duration::from_secs(5)).await.expect("answered");
    assert_eq!(node, mirror.node().id().to_string());
    let address: std::net::SocketAddr = address.parse().expect("an address in numbers");
    assert!(address.ip().is_loopback());
    assert_ne!(address, socket_address(server.addr()), "the caller's, not the server's");
    assert_eq!(attempt, 1);
    let left = left.expect("a deadline");
    assert!((4000..=5004).contains(&left), "{left} ms");
    let (.., second, _, left) = mirror.look().timeout(Duration::MAX).await.expect("answered");
    assert_eq!(left, None);
    assert_ne!(first, second, "each call has a name of its own");
    assert_eq!(glass.ids.lock().expect("no panic")[0].boot, server.node().boot());
}

#[tokio::test]
async fn all_attempts_of_a_call_have_one_name() {
    let Scene { glass, server, .. } = scene().await;
    let proxy = FaultProxy::start(socket_address(server.addr())).expect("a port");
    let url = format!("tcp://{}/mirror", proxy.address());
    let mirror: MirrorProxy = farcall::connect(url).await.expect("bound");
    let cut = Fault::CutInFrame { bytes: 2 };
    proxy.on_next(Direction::ToClient, Some(FrameKind::REPLY), cut);
    let (.., attempt, _) = within("an answer", mirror.look_again()).await.expect("answered");
    assert_eq!(attempt, 2);
    let ids = glass.ids.lock().expect("no panic");
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_spawned_task_sees_the_call_only_in_its_scope() {
    let Scene { mirror, server: _server, .. } = scene().await;
    assert_eq!(mirror.scoped().await.expect("answered"), (false, true));
    assert!(Context::current().is_err());
}

#[tokio::test]
async fn a_running_handler_hears_that_nobody_waits() {
    let Scene { mirror, mut begun, mut cancelled, server: _server, .. } = scene().await;
    // By cancel.
    let pending = mirror.watch().timeout(Duration::MAX).start().await.expect("room");
    within("the start", begun.recv()).await;
    drop(pending.cancel());
    within("the word", cancelled.recv()).await;
    // By drop.
    let pending = mirror.watch().timeout(Duration::MAX).start().await.expect("room");
    within("the start", begun.recv()).await;
    drop(pending);
    within("the word", cancelled.recv()).await;
    // By its deadline.
    let pending = mirror.watch().timeout(Duration::from_millis(50)).start().await.expect("room");
    within("the start", begun.recv()).await;
    within("the word", cancelled.recv()).await;
    drop(pending);
    // Not by others: the next call is as if nothing had been.
    let pending = mirror.watch().timeout(Duration::MAX).start().await.expect("room");
    within("the start", begun.recv()).await;
    mirror.look().await.expect("answered");
    assert!(cancelled.try_recv().is_err());
    drop(pending);
    within("the word", cancelled.recv()).await;
}

#[tokio::test]
async fn a_handler_sees_the_deadline_that_it_was_given_and_may_answer_after_it() {
    let log = Log::new();
    let server = Server::start(Limits::default(), &log).await;
    let work: WorkProxy = client(server.url(), Limits::default()).await.expect("bound");
    let patient = order(1).how(How::UntilCancelled);
    let outcome = work.at_most_once(patient).timeout(Duration::from_millis(50)).await;
    drop(outcome);
    // It was told by its own clock, and ended by itself.
    log.ended(1).await;
    assert_eq!(log.runs(1), 1);
}
