//! A member of a group: hears who seeks an object, and answers if this node has it; and takes the bundles in which calls
//! to many members travel.
//!
//! Answers are spread over the time that the asker allows, so that many members do not answer at once, and few wait at a
//! time, so that many questions do not make a storm. An answer is never larger than its question and goes no further than
//! questions do.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::unless;
use crate::address::{Address, Host};
use crate::context::Flag;
use crate::id::{Boot, NodeId};
use crate::transport::{GroupSocket, Reach};
use crate::wire::bundle::{Bundle, Part};
use crate::wire::seek::{Here, MOST_WAYS, Seek, Way, WayKind};

/// What a member asks of its node.
pub(crate) trait Member: Send + Sync {
    /// Whether an object of this name and interface is bound.
    fn has(&self, object: &str, interface: &str) -> bool;

    /// Where the node listens.
    fn listens(&self) -> Vec<Address>;

    /// Takes datagrams of links, which came in a bundle.
    fn inject(&self, parts: &[Part]);

    /// A socket from which an answer is sent.
    fn ask(&self, from: IpAddr, reach: Reach) -> io::Result<Box<dyn GroupSocket>>;

    /// A random number.
    fn draw(&self) -> u64;
}

/// Who answers.
#[derive(Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) node: NodeId,
    pub(crate) boot: Boot,
}

/// Answers until the node is gone or closed.
pub(crate) async fn run(
    socket: Box<dyn GroupSocket>,
    node: Weak<dyn Member>,
    identity: Identity,
    reach: Reach,
    closing: Arc<Flag>,
) {
    let answering = Arc::new(Semaphore::new(MOST_ANSWERS));
    let mut bytes = vec![0; LARGEST];
    loop {
        let arrival = unless(closing.wait(), socket.receive(&mut bytes)).await;
        let Some(received) = arrival else { return };
        let Ok((length, from)) = received else {
            // A shortage that may pass.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Some(member) = node.upgrade() else { return };
        if let Ok(bundle) = Bundle::decode(&bytes[..length]) {
            let parts: Vec<_> = bundle.parts().collect();
            member.inject(&parts);
            continue;
        }
        let Ok(seek) = Seek::decode(&bytes[..length]) else { continue };
        if !member.has(seek.object, seek.interface) {
            continue;
        }
        // More questions at a time than this are too many: they are repeated.
        let Ok(permit) = answering.clone().try_acquire_owned() else { continue };
        let Some((ip, here)) = answer(&*member, identity, seek.nonce, from) else { continue };
        let spread = seek.spread_ms.min(LONGEST_SPREAD_MS);
        let delay = Duration::from_millis(member.draw() % (spread + 1));
        let node = node.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            // Who does not hear asks again.
            let socket = node.upgrade().map(|member| member.ask(ip, reach));
            if let Some(Ok(socket)) = socket {
                let _ = socket.send(&here, from).await;
            }
            // One that has been sent makes room for another a while later only.
            tokio::time::sleep(PAUSE).await;
            drop(permit);
        });
    }
}

/// The answer, and the address that it is to be sent from: one that the node listens at, with all that is there.
fn answer(
    member: &dyn Member,
    Identity { node, boot }: Identity,
    nonce: u64,
    asker: SocketAddr,
) -> Option<(IpAddr, Vec<u8>)> {
    let any: IpAddr = match asker {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let mut from = None;
    let mut ways = Vec::new();
    for address in member.listens() {
        let (kind, place) = match address {
            Address::Tcp(place) => (WayKind::Tcp, place),
            Address::Udp(place) => (WayKind::Udp, place),
            Address::Memory(_) => continue,
        };
        let ip = match place.host {
            // Every address of the host.
            Host::Ip(ip) if ip == any || ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED) => None,
            Host::Ip(ip) if ip.is_ipv4() == asker.is_ipv4() => Some(ip),
            Host::Ip(_) => continue,
            // The one address of a simulated host.
            Host::Name(_) => None,
        };
        // One answer has one address: the first that the node was told to listen at.
        if ip.is_some() && from.is_some() && ip != from {
            continue;
        }
        from = from.or(ip);
        ways.push(Way { kind, port: place.port });
    }
    ways.truncate(MOST_WAYS);
    let here = Here { nonce, node, boot, ways };
    (!here.ways.is_empty()).then(|| (from.unwrap_or(any), here.encode()))
}

/// Bytes of a datagram, at most: what UDP carries.
const LARGEST: usize = 65_535;
/// Answers that wait at a time.
const MOST_ANSWERS: usize = 64;
/// Longest time over which answers are spread.
const LONGEST_SPREAD_MS: u64 = 1000;
/// How long nothing is read after an error, and how long a place of an answer is taken after it was sent.
const PAUSE: Duration = Duration::from_millis(50);
