//! One run: clients that call, a server that crashes, a network that breaks, and what must be true afterwards.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farcall::sim::{Faults, World};
use farcall::{Call, CallError, Execution, Limits, Node, SessionId};

use crate::service::{Memory, StoreProxy, content};

/// How rough a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Links break and stall, and nothing else: no call but those under maybe may fail.
    Links,
    /// Nodes crash, callers give up.
    Crashes,
    /// That, and servers that are shut down in good order.
    Shutdowns,
    /// Sessions expire, windows are small.
    Scarcity,
}

/// What the nodes speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Tcp,
    Udp,
}

/// How often calls ended in which way.
pub(crate) type Tally = BTreeMap<&'static str, u64>;

/// What all tasks of a run share.
#[derive(Clone)]
struct Scene {
    world: World,
    mode: Mode,
    link: Link,
    memory: Memory,
    server: Arc<Mutex<Option<Node>>>,
    tally: Arc<Mutex<Tally>>,
}

impl Mode {
    pub(crate) fn of(seed: u64) -> Mode {
        [Mode::Links, Mode::Crashes, Mode::Shutdowns, Mode::Scarcity][(seed % 4) as usize]
    }

    pub(crate) fn faults(self, seed: u64) -> Faults {
        match (self, seed / 4 % 3) {
            (Mode::Links, _) | (_, 0) => Faults::rough(),
            // Few chance faults, so that what the scenario does itself is seen alone.
            (_, 1) => Faults { cut_one_in: 0, half_open_one_in: 0, ..Faults::rough() },
            _ => Faults { cut_one_in: 8, half_open_one_in: 50, ..Faults::rough() },
        }
    }

    /// Longer than any outage only where no session may expire.
    fn session_ttl(self) -> Duration {
        Duration::from_secs(match self {
            Mode::Links => 20,
            Mode::Crashes | Mode::Shutdowns => 6,
            Mode::Scarcity => 2,
        })
    }

    fn limits(self) -> Limits {
        let scarce = self == Mode::Scarcity;
        Limits {
            window: if scarce { 2 } else { 1024 },
            send_buffer: if scarce { 16 << 10 } else { 1 << 20 },
            message: 1 << 20,
            request_bytes: 4 << 20,
            reply_bytes: 4 << 20,
            process_bytes: 16 << 20,
            session_ttl: self.session_ttl(),
            handshake_timeout: Duration::from_secs(2),
            ping_interval: Duration::from_secs(1),
            progress_timeout: Duration::from_secs(2),
            reconnect_max: Duration::from_millis(500),
            ack_solicit: Duration::from_secs(1),
            ..Limits::default()
        }
    }
}

/// The whole run.
pub(crate) async fn run(world: World, mode: Mode, link: Link) -> Tally {
    let memory = Memory::new(world.ledger().clone());
    let (server, tally) = (Arc::default(), Arc::default());
    let scene = Scene { world: world.clone(), mode, link, memory, server, tally };
    scene.start_server().await;
    let mut callers = Vec::new();
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let (client, mut tasks) = scene.start_client(number, 0);
        clients.push(client);
        callers.append(&mut tasks);
    }
    let trouble = tokio::spawn(scene.clone().make_trouble());
    let more = trouble.await.expect("trouble does not panic");
    callers.extend(more);

    world.set_faults(Faults::none());
    world.heal();
    scene.start_server_if_down().await;
    for caller in callers {
        match tokio::time::timeout(Duration::from_secs(300), caller).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) if error.is_cancelled() => {}
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => panic!("I14: a caller waits for ever on a healthy network"),
        }
    }
    let ttl = mode.session_ttl();
    world.settle(ttl * 10).await;
    if link == Link::Tcp {
        scene.check_order();
    }
    scene.check_memory(ttl).await;
    std::mem::take(&mut *scene.tally.lock().expect("no panic under the lock"))
}

impl Link {
    fn server(self) -> &'static str {
        match self {
            Link::Tcp => "tcp://server:1",
            Link::Udp => "udp://server:1",
        }
    }
}

impl Scene {
    async fn start_server(&self) {
        let server = self.world.node("server").limits(self.mode.limits()).start();
        server.registry().bind("store", self.memory.clone()).expect("a free name");
        server.listen(self.link.server()).await.expect("a free port");
        *self.server.lock().expect("no panic under the lock") = Some(server);
    }

    async fn start_server_if_down(&self) {
        let down = self.server.lock().expect("no panic under the lock").is_none();
        if down {
            self.start_server().await;
        }
    }

    fn take_server(&self) -> Option<Node> {
        self.server.lock().expect("no panic under the lock").take()
    }

    fn start_client(&self, number: u64, life: u64) -> (Node, Vec<tokio::task::JoinHandle<()>>) {
        let name = format!("client{number}");
        let client = self.world.node(&name).limits(self.mode.limits()).start();
        let tasks = (0..CALLERS)
            .map(|caller| {
                let (scene, client) = (self.clone(), client.clone());
                let first_key = ((number * 10 + life) * 10 + caller) * 1000;
                self.world.spawn(&name, async move { scene.make_calls(client, first_key).await })
            })
            .collect();
        (client, tasks)
    }

    /// Crashes, cuts and partitions for some seconds. Gives the callers of clients that were started again.
    async fn make_trouble(self) -> Vec<tokio::task::JoinHandle<()>> {
        let world = self.world.clone();
        let mut callers = Vec::new();
        for _ in 0..TROUBLES {
            tokio::time::sleep(world.time_up_to(Duration::from_millis(600))).await;
            let client = format!("client{}", world.below(CLIENTS));
            let crashes = self.mode != Mode::Links;
            let longest = if self.mode == Mode::Scarcity { 5000 } else { 1500 };
            let while_away = world.time_up_to(Duration::from_millis(longest));
            match world.below(8) {
                0 | 1 if self.link == Link::Udp => world.rebind(&client),
                0 | 1 => drop(world.cut(&client, "server")),
                2 => {
                    world.partition(&client, "server");
                    tokio::time::sleep(while_away).await;
                    world.heal();
                }
                3 => {
                    match world.one_in(2) {
                        true => world.partition_one_way(&client, "server"),
                        false => world.partition_one_way("server", &client),
                    }
                    tokio::time::sleep(while_away).await;
                    world.heal();
                }
                4 | 5 if crashes => self.crash_server(while_away / 2).await,
                6 if self.mode == Mode::Shutdowns => self.shut_server_down(while_away / 4).await,
                7 if crashes && callers.is_empty() => {
                    let number = world.below(CLIENTS);
                    world.crash(&format!("client{number}"));
                    callers = self.start_client(number, 1).1;
                }
                _ => {}
            }
        }
        callers
    }

    async fn crash_server(&self, away: Duration) {
        drop(self.take_server());
        match self.world.one_in(3) {
            true => self.world.power_off("server"),
            false => self.world.crash("server"),
        }
        tokio::time::sleep(away).await;
        self.start_server().await;
    }

    async fn shut_server_down(&self, grace: Duration) {
        let Some(server) = self.take_server() else { return };
        self.world.note(format!("the server is shut down within {grace:?}"));
        if let Err(unfinished) = server.shutdown(grace).await {
            self.world.note(unfinished.to_string());
        }
        self.start_server().await;
    }

    /// What one task calls, one call after the other.
    async fn make_calls(&self, client: Node, first_key: u64) {
        let store = self.lookup(&client).await;
        for number in 0..CALLS {
            tokio::time::sleep(self.world.time_up_to(Duration::from_millis(200))).await;
            self.make_call(&store, first_key + number).await;
        }
    }

    async fn lookup(&self, client: &Node) -> StoreProxy {
        for _ in 0..LOOKUPS {
            match client.lookup(&format!("{}/store", self.link.server())).await {
                Ok(store) => return store,
                Err(error) => {
                    assert_eq!(error.execution(), Execution::NotExecuted, "{error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        panic!("I14: no lookup succeeds")
    }

    async fn make_call(&self, store: &StoreProxy, key: u64) {
        let world = &self.world;
        let pause = if world.one_in(3) { world.below(300) } else { 0 };
        match world.below(16) {
            0..=3 => self.appended(key, store.append(key, pause)).await,
            4 => self.appended(key, store.append_aside(key, pause)).await,
            5 => match self.call(key, store.refuse(key)).await {
                Some(Err(CallError::Method(words))) => assert_eq!(words, key.to_string()),
                Some(Ok(())) => panic!("I3: a refusal was answered as a success"),
                _ => {}
            },
            6 => {
                if let Some(Ok(())) = self.call(key, store.panic(key, pause)).await {
                    panic!("I3: a panic was answered as a success");
                }
            }
            7 => {
                let bytes = self.size();
                if let Some(Ok((of, answer))) = self.call(key, store.download(key, bytes)).await {
                    assert!((of, answer) == (key, content(key, bytes)), "I3: another answer");
                }
            }
            8 => {
                let bytes = self.size();
                let call = store.upload(key, content(key, bytes));
                if let Some(Ok(answer)) = self.call(key, call).await {
                    assert_eq!(answer, (key, bytes), "I3: another answer");
                }
            }
            9..=12 => {
                if let Some(Ok((of, run))) = self.call(key, store.read(key, pause)).await {
                    assert!(of == key && run <= world.ledger().runs(key), "I3: another answer");
                }
            }
            13 | 14 if self.link == Link::Udp => self.hint(key, store.hint(key, pause)).await,
            13 | 14 => self.appended(key, store.hint(key, pause)).await,
            _ => drop(self.call(key, store.tell(key)).await),
        }
    }

    /// How many bytes a message has: in one frame mostly, in several fragments now and then.
    fn size(&self) -> u64 {
        self.world.below(if self.world.one_in(4) { 200 << 10 } else { 2000 })
    }

    /// A call that runs once at most, and says so.
    async fn appended<A: serde::Serialize, E: Debug>(
        &self,
        key: u64,
        call: Call<A, (u64, u32), E>,
    ) {
        if let Some(Ok(answer)) = self.call(key, call).await {
            assert_eq!(answer, (key, 1), "I3: another call's answer, or another run's");
        }
    }

    /// A call under maybe that nobody sends again when it is lost: it needs a deadline.
    async fn hint<A: serde::Serialize, E: Debug>(&self, key: u64, call: Call<A, (u64, u32), E>) {
        let call = call.timeout(Duration::from_secs(2));
        let result = self.world.ledger().call(key, call).await;
        self.count(kind(&result));
        if let Ok(answer) = result {
            assert_eq!(answer, (key, 1), "I3: another call's answer, or another run's");
        }
    }

    /// Makes a call with or without patience; nothing if it was dropped.
    async fn call<A: serde::Serialize, T, E: Debug>(
        &self,
        key: u64,
        call: Call<A, T, E>,
    ) -> Option<Result<T, CallError<E>>> {
        let world = &self.world;
        let gives_up = self.mode != Mode::Links && world.one_in(3);
        let patience = world.time_up_to(Duration::from_millis(400));
        if gives_up && world.one_in(3) {
            let call = world.ledger().call(key, call.timeout(Duration::MAX));
            let result = tokio::time::timeout(patience, call).await.ok();
            self.count(if result.is_none() { "dropped" } else { "not dropped in time" });
            return result;
        }
        let timeout = if gives_up { patience } else { Duration::MAX };
        let result = world.ledger().call(key, call.timeout(timeout)).await;
        self.count(kind(&result));
        if self.mode == Mode::Links {
            self.check_precision(key, &result);
        }
        Some(result)
    }

    /// I4: where only links break, nothing but a call under maybe fails.
    fn check_precision<T, E: Debug>(&self, key: u64, result: &Result<T, CallError<E>>) {
        match result {
            Ok(_) | Err(CallError::Method(_) | CallError::Panicked { .. }) => {}
            // The ledger knows that only maybe may fail so.
            Err(CallError::Link { .. }) => {}
            Err(error) => panic!("I4: call {key:#x} failed without cause: {error:?}"),
        }
    }

    /// I10: in one session small calls start in the order of their numbers, repeats apart.
    fn check_order(&self) {
        let mut last = BTreeMap::<SessionId, u64>::new();
        let mut seen = std::collections::BTreeSet::new();
        for start in self.memory.journal() {
            if matches!(start.method, "upload" | "append_aside") || !seen.insert(start.key) {
                continue;
            }
            let before = last.insert(start.session, start.seq).unwrap_or(0);
            assert!(before < start.seq, "I10: {start:?} starts after number {before}");
        }
    }

    /// I14: a server that nobody calls has forgotten all, and with its clients' sessions everything.
    async fn check_memory(&self, ttl: Duration) {
        let Some(server) = self.server.lock().expect("no panic under the lock").clone() else {
            panic!("the server is up at the end");
        };
        let kept = server.statistics();
        assert_eq!((kept.running, kept.kept_bytes), (0, 0), "I14: {kept:?}");
        for number in 0..CLIENTS {
            self.world.crash(&format!("client{number}"));
        }
        // A link of datagrams has no end that a crash would tell of: the server waits for four pings first.
        let silence = Duration::from_secs(if self.link == Link::Udp { 5 } else { 0 });
        tokio::time::sleep(ttl * 2 + silence).await;
        let kept = server.statistics();
        assert_eq!(kept.kept_sessions, 0, "I14: {kept:?}");
    }

    fn count(&self, kind: &'static str) {
        *self.tally.lock().expect("no panic under the lock").entry(kind).or_default() += 1;
    }
}

fn kind<T, E>(result: &Result<T, CallError<E>>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(CallError::Method(_)) => "method error",
        Err(CallError::Panicked { .. }) => "panicked",
        Err(CallError::DeadlineExceeded { .. }) => "deadline exceeded",
        Err(CallError::ServerRestarted) => "server restarted",
        Err(CallError::SessionExpired) => "session expired",
        Err(CallError::ShuttingDown(_)) => "shutting down",
        Err(CallError::Link { .. }) => "link",
        Err(CallError::Expired(_)) => "expired",
        Err(CallError::Busy(_)) => "busy",
        Err(CallError::Unreachable { .. }) => "unreachable",
        Err(_) => "other",
    }
}

/// Client nodes.
const CLIENTS: u64 = 3;
/// Tasks of a client that call at the same time.
const CALLERS: u64 = 3;
/// Calls of each.
const CALLS: u64 = 12;
/// Attempts to look the object up, which end with the trouble.
const LOOKUPS: usize = 10_000;
/// Things that the scenario does to the world.
const TROUBLES: usize = 8;
