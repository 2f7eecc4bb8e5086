//! The registry by itself: an interface written by hand, no session.

use std::sync::atomic::AtomicBool;
use std::task::Waker;

use bytes::Bytes;

use super::*;
use crate::call::Remote;
use crate::dispatch::{Arguments, Dispatch, Reply, Room, Status};
use crate::id::MethodId;
use crate::proxy::Proxy;
use crate::wire::payload;

trait Greeter: Send + Sync {
    fn greet(&self) -> u8;
}

static GREETER: Descriptor = Descriptor { name: "Greeter", methods: &[] };

/// Stands for the greeter of a number; tells when it is dropped.
#[derive(Default)]
struct Number(u8, Arc<AtomicBool>);

impl Greeter for Number {
    fn greet(&self) -> u8 {
        self.0
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        self.1.store(true, Ordering::Relaxed);
    }
}

#[derive(Clone)]
struct GreeterProxy(Remote);

impl Proxy for GreeterProxy {
    type Interface = dyn Greeter;

    fn from_remote(remote: Remote) -> GreeterProxy {
        GreeterProxy(remote)
    }

    fn as_remote(&self) -> &Remote {
        &self.0
    }
}

impl Interface for dyn Greeter {
    type Proxy = GreeterProxy;
    type Marker = ();
    const DESCRIPTOR: &'static Descriptor = &GREETER;

    fn dispatch(object: Arc<Self>, _: MethodId, arguments: Arguments, room: Room) -> Dispatch {
        room.put(async move {
            let mut reply = arguments.into_memory();
            reply.push(object.greet());
            Reply { status: Status::Ok, body: reply, shared: None, held: None }
        })
    }
}

impl Object<dyn Greeter> for Number {
    fn into_interface(self: Arc<Self>) -> Arc<dyn Greeter> {
        self
    }
}

fn number(number: u8) -> Number {
    Number(number, Arc::default())
}

fn registry() -> Registry {
    Registry::new(8, false)
}

/// What a call to the slot's object answers now.
fn answer(slot: &Slot) -> Option<u8> {
    let object = slot.current()?.object;
    let mut call = object.dispatch(MethodId(0), Arguments::default(), Room::default());
    match call.as_mut().poll(&mut std::task::Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(reply) => reply.body.first().copied(),
        std::task::Poll::Pending => None,
    }
}

fn caller() -> Caller {
    Caller::new(crate::id::NodeId(uuid::Uuid::nil()), "127.0.0.1:1".into(), None)
}

#[test]
fn the_interface_of_a_simple_object_is_inferred() {
    let registry = registry();
    registry.bind("alice", number(1)).expect("free");
    registry.bind("bob", Arc::new(number(2))).expect("free");
    registry.bind_as::<dyn Greeter>("carol", number(3)).expect("free");
    let greeted = ["alice", "bob", "carol"]
        .map(|name| registry.lookup::<dyn Greeter>(name).expect("bound").greet());
    assert_eq!(greeted, [1, 2, 3]);
    assert!(registry.lookup::<dyn Greeter>("dave").is_none());
}

#[test]
fn a_shared_object_is_bound_itself_and_not_a_copy() {
    let registry = registry();
    let object = Arc::new(number(1));
    registry.bind("alice", Arc::clone(&object)).expect("free");
    let found = registry.lookup::<dyn Greeter>("alice").expect("bound");
    assert!(std::ptr::addr_eq(Arc::as_ptr(&object), Arc::as_ptr(&found)));
}

#[test]
fn a_name_is_bound_once_and_rebound_at_will() {
    let registry = registry();
    registry.bind("alice", number(1)).expect("free");
    let taken = RegistryError::Taken { name: "alice".into() };
    assert_eq!(registry.bind("alice", number(2)), Err(taken));
    registry.rebind("alice", number(3)).expect("any name");
    assert_eq!(registry.lookup::<dyn Greeter>("alice").expect("bound").greet(), 3);
    registry.unbind("alice").expect("bound");
    let free = RegistryError::NotBound { name: "alice".into() };
    assert_eq!(registry.unbind("alice"), Err(free));
    registry.rebind_as::<dyn Greeter>("alice", number(4)).expect("any name");
}

#[test]
fn a_slot_follows_its_name() {
    let registry = registry();
    let slot = registry.resolve("alice").expect("room");
    let asked = slot.generation();
    assert_eq!(answer(&slot), None);
    registry.bind("alice", number(1)).expect("free");
    let bound = slot.generation();
    assert_eq!(answer(&slot), Some(1));
    registry.rebind("alice", number(2)).expect("any name");
    let rebound = slot.generation();
    assert_eq!(answer(&slot), Some(2));
    registry.unbind("alice").expect("bound");
    let unbound = slot.generation();
    assert_eq!(answer(&slot), None);
    registry.bind("alice", number(3)).expect("free");
    assert_eq!(answer(&slot), Some(3));
    assert!(asked < bound && bound < rebound && rebound < unbound);
    assert!(Arc::ptr_eq(&slot, &registry.resolve("alice").expect("room")));
}

#[test]
fn an_object_is_dropped_when_its_name_is_free() {
    let registry = registry();
    let dropped = Arc::new(AtomicBool::new(false));
    registry.bind("alice", Number(1, Arc::clone(&dropped))).expect("free");
    registry.unbind("alice").expect("bound");
    assert!(dropped.load(Ordering::Relaxed));
}

#[test]
fn names_that_nobody_keeps_or_binds_take_no_room() {
    let registry = registry();
    for round in 0..20 * MIN_ASKED {
        registry.resolve(&format!("asked {round}")).expect("room");
        let name = format!("bound {round}");
        registry.bind(&name, number(1)).expect("free");
        registry.unbind(&name).expect("bound");
    }
    assert!(registry.shared.names().asked.len() <= 2 * MIN_ASKED);
}

#[test]
fn too_many_unbound_names_at_a_time_are_refused_and_room_comes_back() {
    let registry = registry();
    let asked = (0..10 * MIN_ASKED).map_while(|name| registry.resolve(&name.to_string()));
    let kept: Vec<_> = asked.collect();
    assert_eq!(kept.len(), MIN_ASKED + 8 - 1);
    assert!(registry.resolve("one more").is_none());
    registry.bind("bound", number(1)).expect("programs are not held up");
    assert!(registry.resolve("bound").is_some());
    drop(kept);
    assert!(registry.resolve("one more").is_some());
}

#[test]
fn a_name_that_cannot_be_bound_is_answered_without_a_place() {
    let registry = registry();
    let long = "a".repeat(256);
    for name in ["", "a\nb", &long] {
        assert_eq!(answer(&registry.resolve(name).expect("a slot")), None);
        assert!(matches!(registry.bind(name, number(1)), Err(RegistryError::BadName(_))));
    }
    assert!(registry.shared.names().asked.is_empty());
}

#[test]
fn a_registry_has_as_many_names_as_its_limit() {
    let registry = registry();
    for name in 0..8 {
        registry.bind(&name.to_string(), number(name)).expect("room");
    }
    assert_eq!(registry.bind("8", number(8)), Err(RegistryError::Full { limit: 8 }));
    registry.rebind("7", number(9)).expect("no new name");
    registry.unbind("0").expect("bound");
    registry.bind("8", number(8)).expect("room again");
}

#[test]
fn the_list_is_in_order_and_without_names_of_farcall() {
    let registry = registry();
    registry.bind("bob", number(1)).expect("free");
    registry.bind("alice", number(1)).expect("free");
    let names: Vec<_> = registry.list().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["alice", "bob"]);
    assert_eq!(registry.list()[0].interface, "Greeter");
}

#[test]
fn names_of_farcall_are_not_for_users() {
    let registry = registry();
    let reserved = Err(RegistryError::Reserved { name: remote::NAME.into() });
    assert_eq!(registry.bind(remote::NAME, number(1)), reserved);
    assert_eq!(registry.rebind(remote::NAME, number(1)), reserved);
    assert_eq!(registry.unbind(remote::NAME), reserved);
}

#[test]
fn a_caller_from_outside_changes_nothing_unless_the_program_allows_it() {
    let registry = registry();
    registry.bind("alice", number(1)).expect("free");
    let denied = |verb, name: &str| Err(RegistryError::Denied { verb, name: name.to_owned() });
    let bind = |verb, name| registry.bind_for(&caller(), verb, name, "alice");
    assert_eq!(bind(Verb::Bind, "bob"), denied(Verb::Bind, "bob"));
    assert_eq!(bind(Verb::Rebind, "bob"), denied(Verb::Rebind, "bob"));
    assert_eq!(registry.unbind_for(&caller(), "alice"), denied(Verb::Unbind, "alice"));

    registry.allow_remote(|caller, verb, name| {
        caller.address.starts_with("127.") && verb != Verb::Unbind && name.starts_with("public/")
    });
    assert_eq!(bind(Verb::Bind, "bob"), denied(Verb::Bind, "bob"));
    assert_eq!(bind(Verb::Bind, "public/bob"), Ok(()));
    assert_eq!(
        bind(Verb::Bind, "public/bob"),
        Err(RegistryError::Taken { name: "public/bob".into() })
    );
    assert_eq!(bind(Verb::Rebind, "public/bob"), Ok(()));
    assert_eq!(registry.unbind_for(&caller(), "public/bob"), denied(Verb::Unbind, "public/bob"));
    assert_eq!(registry.lookup::<dyn Greeter>("public/bob").expect("bound").greet(), 1);
}

#[test]
fn a_policy_that_allows_all_does_not_give_away_names_of_farcall() {
    let registry = registry();
    registry.bind("alice", number(1)).expect("free");
    registry.allow_remote(|_, _, _| true);
    let reserved = Err(RegistryError::Reserved { name: remote::NAME.into() });
    assert_eq!(registry.bind_for(&caller(), Verb::Rebind, remote::NAME, "alice"), reserved);
    assert_eq!(registry.unbind_for(&caller(), remote::NAME), reserved);
    let hidden = Err(RegistryError::NotBound { name: remote::NAME.into() });
    assert_eq!(registry.bind_for(&caller(), Verb::Bind, "mine", remote::NAME), hidden);
    assert_eq!(registry.entry(remote::NAME), None);
}

#[test]
fn the_registry_is_an_object_under_its_own_name() {
    let registry = registry();
    registry.bind("alice", number(1)).expect("free");
    let slot = registry.resolve(remote::NAME).expect("room");
    let bound = slot.current().expect("bound by itself");
    assert_eq!(bound.interface.name, "RemoteRegistry");
    let ask = |method: &str, arguments: Bytes| {
        let arguments = Arguments::shared(arguments, Vec::new());
        let methods = bound.interface.methods;
        let method = methods.iter().find(|one| one.name == method).expect("a method");
        let mut call = bound.object.dispatch(method.id, arguments, Room::default());
        match call.as_mut().poll(&mut std::task::Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(reply) => reply,
            std::task::Poll::Pending => panic!("the registry waits for nothing"),
        }
    };
    let list = ask("list", Bytes::new());
    let entry = Entry { name: "alice".into(), interface: "Greeter".into() };
    assert_eq!(payload::decode::<Vec<Entry>>(&list.body).expect("a list"), [entry]);

    let mut arguments = Vec::new();
    payload::encode(&("bob", "alice"), &mut arguments).expect("encodes");
    let nobody = ask("bind", arguments.into());
    // Outside a served call nobody asks, and nobody may.
    assert_eq!(nobody.status, Status::Failed(crate::error::FailureCode::FailedWithin));
    assert!(registry.lookup::<dyn Greeter>("bob").is_none());
}
