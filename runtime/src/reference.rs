//! Objects as values: how proxies become references in a message, and references proxies.
//!
//! The tables of who holds what are below, in the protocol; here are the types: what is passed is a [`Remote`] without its
//! interface, and gets it back from the proxy that is decoded.

mod desk;
mod export;
mod forward;

use std::sync::Arc;

use serde::de::{Deserializer, Error as _};
use serde::ser::Serializer;

use crate::call::{Hold, Remote};
use crate::context::Context;
use crate::descriptor::Descriptor;
use crate::dispatch::Interface;
use crate::driver::references::object::Exported;
use crate::driver::references::received::{Arrived, Pins, Taken};
use crate::driver::references::{Home, Partner, Peer, partner_of};
use crate::node::Node;
use crate::proxy::Proxy;
use crate::semantics::Semantics;
use crate::wire::payload::passed::{self, Passed};
use crate::wire::references::{Entry, end, put};

pub(crate) use desk::{Desk, tend};
pub use export::{Reference, Unreferenced};

/// Serializes a proxy: as a reference, in calls only.
///
/// # Errors
/// It is serialized elsewhere.
pub fn serialize_reference<P: Proxy, S: Serializer>(
    proxy: &P,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    passed::serialize(Box::new(proxy.as_remote().clone()), serializer)
}

/// Deserializes a proxy from a reference that came with a call or its answer.
///
/// # Errors
/// None came, or one of another interface.
pub fn deserialize_reference<'de, P: Proxy, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<P, D::Error> {
    let passed = passed::deserialize(deserializer)?;
    let taken: Taken = *passed.downcast().map_err(|_| D::Error::custom(GONE))?;
    let descriptor = <P::Interface as Interface>::DESCRIPTOR;
    open(taken, descriptor).map(P::from_remote).map_err(D::Error::custom)
}

/// Appends the list of `passed` for the other side of a session, and says what holds them until the message is finished.
///
/// # Errors
/// One cannot be passed; the reason.
pub(crate) fn seal(
    passed: &[Passed],
    home: &Arc<dyn Home>,
    partner: &Partner,
    body: &mut Vec<u8>,
) -> Result<Box<Pins>, &'static str> {
    let start = body.len();
    let mut pins = Box::<Pins>::default();
    for passed in passed {
        let remote: &Remote = passed.downcast_ref().ok_or("no reference to an object")?;
        seal_one(remote, home, partner, &mut pins, body)?;
    }
    end(start, body);
    Ok(pins)
}

/// As [`seal`], of the answer of the handler that runs.
///
/// # Errors
/// As [`seal`], and where no call is served.
pub(crate) fn seal_answer(
    passed: &[Passed],
    body: &mut Vec<u8>,
) -> Result<Box<Pins>, &'static str> {
    let context = Context::current().map_err(|_| "no call is served here")?;
    if context.method().semantics == Semantics::ExactlyOnce {
        return Err("a reference is not saved with an exactly-once call; return the object's name");
    }
    let (home, partner) = partner_of(&context).ok_or("the session is over")?;
    seal(passed, &home, &partner, body)
}

fn seal_one(
    remote: &Remote,
    home: &Arc<dyn Home>,
    partner: &Partner,
    pins: &mut Pins,
    body: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let target = remote.target();
    let peer = match partner {
        Partner::Peer(peer) => peer,
        Partner::Local => {
            let number = home.objects().keep(Arc::new(remote.clone()));
            pins.number(home, number);
            put(&Entry::Kept { number }, body);
            return Ok(());
        }
    };
    let interface = target.descriptor().name;
    match target.hold() {
        Some(Hold::Own(exported)) => export(exported, peer, pins, body),
        Some(Hold::Import(import)) if Arc::ptr_eq(&import.peer, peer) => {
            pins.hold(Box::new(remote.clone()));
            put(&Entry::Yours { id: import.id }, body);
            Ok(())
        }
        None if leads_to(remote, peer) => {
            put(&Entry::YourNamed { object: target.object(), interface }, body);
            Ok(())
        }
        None if leads_home(remote) && !peer.is_dialled() => {
            put(&Entry::Named { object: target.object(), interface }, body);
            Ok(())
        }
        None if leads_home(remote) => {
            let node = Node::of(home).ok_or(CLOSED)?;
            let slot = node.registry().resolve(target.object()).ok_or("too many names")?;
            let exported = home.objects().named(target.object(), target.descriptor(), slot);
            export(&exported, peer, pins, body)
        }
        _ => export(&target.forwarder(|| forward::exported(remote, home)), peer, pins, body),
    }
}

fn export(
    exported: &Arc<Exported>,
    peer: &Arc<Peer>,
    pins: &mut Pins,
    body: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let record = peer.pass(exported).map_err(
        |_| "the peer holds as many objects as `Limits::exports` allows, or its session is over",
    )?;
    pins.record(peer, record);
    let interface = exported.descriptor.name;
    put(&Entry::Exported { id: record.id, mark: record.mark, interface }, body);
    Ok(())
}

/// Whether the object is the server's at the other side.
fn leads_to(remote: &Remote, peer: &Arc<Peer>) -> bool {
    peer.is_dialled()
        && peer.link().is_some_and(|link| Arc::ptr_eq(&link, remote.target().shared_link()))
}

/// Whether the object is this node's.
fn leads_home(remote: &Remote) -> bool {
    matches!(remote.target().shared_link().partner(), Some(Partner::Local))
}

/// What a reference that came calls through.
fn open(taken: Taken, descriptor: &'static Descriptor) -> Result<Remote, String> {
    let Taken { home, partner, arrived } = taken;
    let node = Node::of(&home).ok_or(CLOSED)?;
    let expect = |interface: &str| {
        if interface == descriptor.name {
            return Ok(());
        }
        Err(format!(
            "a reference to a {} was expected, and one to a {interface} came",
            descriptor.name
        ))
    };
    match arrived {
        Arrived::Import { import, interface } => {
            expect(&interface)?;
            let link = import.peer.link().ok_or("the session in which it was passed is over")?;
            Ok(Remote::unnamed(node, link, descriptor, Hold::Import(import)))
        }
        Arrived::Own(exported) => {
            expect(exported.descriptor.name)?;
            let link = node.own_link().ok_or(CLOSED)?;
            Ok(Remote::unnamed(node, link, descriptor, Hold::Own(exported)))
        }
        Arrived::Named { object, interface } => {
            expect(&interface)?;
            let Partner::Peer(peer) = partner else { return Err(GONE.into()) };
            let link = peer.link().ok_or(CLOSED)?;
            named(node, link, descriptor, object, peer.address().clone())
        }
        Arrived::OwnNamed { object, interface } => {
            expect(&interface)?;
            let link = node.own_link().ok_or(CLOSED)?;
            named(node, link, descriptor, object, crate::driver::references::HOME.into())
        }
        Arrived::Kept(kept) => {
            let remote: &Remote = kept.downcast_ref().ok_or(GONE)?;
            expect(remote.target().descriptor().name)?;
            Ok(remote.clone())
        }
        Arrived::Dead => Err(GONE.into()),
    }
}

fn named(
    node: Node,
    link: Arc<crate::driver::link::Link>,
    descriptor: &'static Descriptor,
    object: Arc<str>,
    peer: Arc<str>,
) -> Result<Remote, String> {
    let handle = link.handle(&object, descriptor).map_err(|error| error.to_string())?;
    Ok(Remote::new(node, link, handle, descriptor, object, peer))
}

const GONE: &str = "it is a reference to an object that is gone";
const CLOSED: &str = "this node was shut down";
