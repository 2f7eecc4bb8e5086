//! The registry's five verbs, locally and through the wire, and what proxies see of them.

use std::sync::Arc;

use farcall::{
    CallError, Entry, Execution, Limits, Listening, Node, RegistryError, RemoteRegistryProxy, Verb,
    remote,
};
use farcall_tests::service::{Log, WorkProxy, Worker, eventually, order};

/// Says who it is.
#[remote]
pub trait Greeter {
    /// The greeting.
    async fn greet(&self) -> String;
}

/// Says goodbye.
#[remote]
pub trait Leaver {
    /// The last words.
    async fn leave(&self) -> String;
}

struct Says(&'static str);

#[remote]
impl Greeter for Says {
    async fn greet(&self) -> String {
        self.0.to_owned()
    }
}

#[remote]
impl Leaver for Says {
    async fn leave(&self) -> String {
        format!("not {}", self.0)
    }
}

async fn listening() -> Listening {
    Node::builder().build().listen("tcp://127.0.0.1:0").await.expect("a port")
}

fn entry(name: &str, interface: &str) -> Entry {
    // `Entry` may grow, so it is made by a registry.
    let node = Node::builder().build();
    match interface {
        "Greeter" => node.registry().bind_as::<dyn Greeter>(name, Says("")),
        _ => node.registry().bind_as::<dyn Leaver>(name, Says("")),
    }
    .expect("free");
    node.registry().list().remove(0)
}

#[tokio::test]
async fn existing_proxies_follow_the_name() {
    let server = listening().await;
    let names = server.registry();
    names.bind_as::<dyn Greeter>("hall", Says("one")).expect("free");
    let proxy: GreeterProxy = farcall::connect(server.url("hall")).await.expect("bound");
    assert_eq!(proxy.greet().await.expect("answered"), "one");
    names.rebind_as::<dyn Greeter>("hall", Says("two")).expect("allowed");
    assert_eq!(proxy.greet().await.expect("answered"), "two");
    names.unbind("hall").expect("it is bound");
    let gone = proxy.greet().await;
    let Err(error @ CallError::NoSuchObject(_)) = gone else { panic!("{gone:?}") };
    assert_eq!(error.execution(), Execution::NotExecuted);
    names.bind_as::<dyn Greeter>("hall", Says("three")).expect("free again");
    assert_eq!(proxy.greet().await.expect("answered"), "three");
}

#[tokio::test]
async fn a_call_that_has_begun_ends_where_it_began() {
    let (old, new) = (Log::new(), Log::new());
    let server = farcall::serve("tcp://127.0.0.1:0", "work", Worker::new(&old)).await;
    let server = server.expect("a port");
    let work: WorkProxy = farcall::connect(server.url("work")).await.expect("bound");
    let hold = order(1).how(farcall_tests::service::How::Hold);
    let pending = work.at_most_once(hold).start().await.expect("room");
    old.begun(1).await;
    server.registry().rebind("work", Worker::new(&new)).expect("allowed");
    work.at_most_once(order(2)).await.expect("answered by the new one");
    old.open();
    pending.await.expect("answered by the old one");
    assert_eq!((old.runs(1), old.runs(2), new.runs(1), new.runs(2)), (1, 0, 0, 1));
}

#[tokio::test]
async fn an_object_with_several_interfaces_is_bound_as_each() {
    let server = listening().await;
    let both = Arc::new(Says("hello"));
    server.registry().bind_as::<dyn Greeter>("in", both.clone()).expect("free");
    server.registry().bind_as::<dyn Leaver>("out", both).expect("free");
    let greeter: GreeterProxy = farcall::connect(server.url("in")).await.expect("bound");
    let leaver: LeaverProxy = farcall::connect(server.url("out")).await.expect("bound");
    assert_eq!(greeter.greet().await.expect("answered"), "hello");
    assert_eq!(leaver.leave().await.expect("answered"), "not hello");
    let wrong = farcall::connect::<LeaverProxy>(server.url("in")).await;
    let Err(error @ CallError::NoSuchObject(_)) = wrong else { panic!("{wrong:?}") };
    assert!(error.to_string().contains("Greeter"), "{error}");
}

#[tokio::test]
async fn the_five_verbs_work_in_the_program_itself() {
    let node = Node::builder().limits(Limits { names: 2, ..Limits::default() }).build();
    let names = node.registry();
    names.bind_as::<dyn Greeter>("a", Says("a")).expect("free");
    let taken = names.bind_as::<dyn Greeter>("a", Says("b"));
    assert!(matches!(taken, Err(RegistryError::Taken { .. })));
    names.bind_as::<dyn Leaver>("b", Says("b")).expect("free");
    let full = names.bind_as::<dyn Leaver>("c", Says("c"));
    assert!(matches!(full, Err(RegistryError::Full { limit: 2 })));
    assert_eq!(names.list(), [entry("a", "Greeter"), entry("b", "Leaver")]);
    let local = names.lookup::<dyn Greeter>("a").expect("bound");
    assert_eq!(local.greet().await.expect("a local object never fails so"), "a");
    assert!(names.lookup::<dyn Leaver>("a").is_none());
    names.unbind("a").expect("bound");
    assert!(matches!(names.unbind("a"), Err(RegistryError::NotBound { .. })));
    let reserved = names.bind_as::<dyn Greeter>("farcall/x", Says("x"));
    assert!(matches!(reserved, Err(RegistryError::Reserved { .. })));
}

#[tokio::test]
async fn anybody_may_look_up_and_list_from_outside_and_nobody_may_change() {
    let server = listening().await;
    server.registry().bind_as::<dyn Greeter>("hall", Says("hello")).expect("free");
    let names: RemoteRegistryProxy =
        farcall::connect(server.url("farcall/registry")).await.expect("always bound");
    assert_eq!(names.list().await.expect("answered"), [entry("hall", "Greeter")]);
    let found = names.lookup("hall").await.expect("answered");
    assert_eq!(found, Some(entry("hall", "Greeter")));
    assert_eq!(names.lookup("cellar").await.expect("answered"), None);
    let refused = [
        names.bind("cellar", "hall").await,
        names.rebind("hall", "hall").await,
        names.unbind("hall").await,
    ];
    for (outcome, expected) in refused.into_iter().zip([Verb::Bind, Verb::Rebind, Verb::Unbind]) {
        let denied = matches!(&outcome, Err(CallError::Method(RegistryError::Denied { verb, .. }))
            if *verb == expected);
        assert!(denied, "{outcome:?}");
    }
    assert_eq!(server.registry().list().len(), 1);
}

#[tokio::test]
async fn a_program_allows_verbs_to_callers() {
    let server = listening().await;
    let client = Node::builder().build();
    let allowed = client.id();
    server.registry().bind_as::<dyn Greeter>("hall", Says("hello")).expect("free");
    server.registry().bind_as::<dyn Greeter>("other", Says("other")).expect("free");
    server
        .registry()
        .allow_remote(move |caller, _, name| caller.node == allowed && name.starts_with("guest/"));
    let url = server.url("farcall/registry");
    let names: RemoteRegistryProxy = client.lookup(url.clone()).await.expect("always bound");
    names.bind("guest/hall", "hall").await.expect("allowed");
    let guest: GreeterProxy = client.lookup(server.url("guest/hall")).await.expect("bound");
    assert_eq!(guest.greet().await.expect("answered"), "hello");
    names.rebind("guest/hall", "other").await.expect("allowed");
    assert_eq!(guest.greet().await.expect("answered"), "other");
    names.unbind("guest/hall").await.expect("allowed");
    assert!(matches!(guest.greet().await, Err(CallError::NoSuchObject(_))));
    let elsewhere = names.unbind("hall").await;
    assert!(matches!(elsewhere, Err(CallError::Method(RegistryError::Denied { .. }))));
    let stranger: RemoteRegistryProxy = farcall::connect(url).await.expect("always bound");
    let refused = stranger.bind("guest/x", "hall").await;
    assert!(matches!(refused, Err(CallError::Method(RegistryError::Denied { .. }))));
}

/// The same name and other methods: what a client of another version has.
mod other {
    /// Says who it is, and how loud.
    #[farcall::remote]
    pub trait Greeter {
        /// The greeting.
        async fn greet(&self) -> String;
        /// A louder one.
        async fn shout(&self, times: u32) -> String;
    }
}

#[tokio::test]
async fn a_method_that_the_server_lacks_fails_alone_and_names_what_there_is() {
    let server = listening().await;
    server.registry().bind_as::<dyn Greeter>("hall", Says("hello")).expect("free");
    let newer: other::GreeterProxy = farcall::connect(server.url("hall")).await.expect("bound");
    assert_eq!(newer.greet().await.expect("answered"), "hello");
    let outcome = newer.shout(2).await;
    let Err(error @ CallError::NoSuchMethod(_)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(error.execution(), Execution::NotExecuted);
    assert!(error.to_string().contains("greet"), "{error}");
}

/// What a counter is called with, and what it is.
#[remote]
pub trait Numbered {
    /// Its number, once the gate is open if it is to wait for that.
    async fn number(&self, waits: bool) -> u64;

    /// Nothing.
    #[remote(oneway)]
    async fn nothing(&self);
}

struct Number(u64, tokio::sync::watch::Receiver<bool>);

#[remote]
impl Numbered for Number {
    async fn number(&self, waits: bool) -> u64 {
        if waits {
            let _ = self.1.clone().wait_for(|open| *open).await;
        }
        self.0
    }

    async fn nothing(&self) {}
}

#[tokio::test]
async fn a_handle_of_which_a_call_may_come_late_is_for_no_other_object() {
    for (address, again) in [("tcp://127.0.0.1:0", true), ("udp://127.0.0.1:0", false)] {
        let server = Node::builder().build().listen(address).await.expect("a port");
        for number in 0..2 {
            let object = Number(number, tokio::sync::watch::channel(true).1);
            server.registry().bind(&format!("n{number}"), object).expect("free");
        }
        let node = Node::builder().limits(Limits { handles: 1, ..Limits::default() }).build();
        let first: NumberedProxy = node.lookup(server.url("n0")).await.expect("bound");
        first.nothing().await.expect("sent");
        drop(first);
        let second = node.lookup::<NumberedProxy>(server.url("n1")).await;
        assert_eq!(second.is_ok(), again, "{address}");
    }
}

#[tokio::test]
async fn a_handle_is_for_another_object_when_nobody_calls_the_one_before() {
    for address in ["tcp://127.0.0.1:0", "udp://127.0.0.1:0"] {
        let (gate, gates) = tokio::sync::watch::channel(false);
        let server = Node::builder().build().listen(address).await.expect("a port");
        for number in 0..60 {
            let object = Number(number, gates.clone());
            server.registry().bind(&format!("n{number}"), object).expect("free");
        }
        let limits = Limits { handles: 4, ..Limits::default() };
        let node = Node::builder().limits(limits).build();
        let find = async |number: u64| {
            node.lookup::<NumberedProxy>(server.url(&format!("n{number}"))).await
        };
        // One is kept, and one has gone but for its call.
        let kept = find(0).await.expect("bound");
        let late = find(1).await.expect("bound").number(true).start().await.expect("sent");
        for round in 0..2 {
            for number in 2..60 {
                let found = find(number).await.expect("there is a handle");
                assert_eq!(found.number(false).await.expect("answered"), number, "{round}");
                assert_eq!(kept.number(false).await.expect("answered"), 0);
            }
        }
        let more = [find(2).await.expect("bound"), find(3).await.expect("bound")];
        let error = find(4).await.expect_err("all four are in use");
        assert!(matches!(error, CallError::Busy(_)), "{error}");
        gate.send_replace(true);
        assert_eq!(late.await.expect("answered"), 1);
        assert_eq!(find(4).await.expect("bound").number(false).await.expect("answered"), 4);
        for (proxy, number) in more.iter().zip(2..) {
            assert_eq!(proxy.number(false).await.expect("answered"), number);
        }
    }
}

#[tokio::test]
async fn a_detached_call_keeps_its_handle_until_it_has_run() {
    let node = Node::builder().limits(Limits { handles: 1, ..Limits::default() }).build();
    let work: WorkProxy = node.proxy("mem://comes-late/work").expect("an address");
    work.at_least_once(order(1)).start().await.expect("room").detach();
    drop(work);
    let another = || node.proxy::<NumberedProxy>("mem://comes-late/n1");
    assert!(matches!(another(), Err(CallError::Busy(_))));
    let (log, server) = (Log::new(), Node::builder().build());
    server.registry().bind("work", Worker::new(&log)).expect("free");
    server.listen("mem://comes-late").await.expect("free");
    eventually("the call", || log.calls() == 1).await;
    eventually("its handle", || another().is_ok()).await;
}
