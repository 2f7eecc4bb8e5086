//! Groups whose members are found at a group's address, and whose calls leave in one datagram.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::{Group, Members, Present};
use crate::address::{Address, IntoUrl, Url};
use crate::call::Remote;
use crate::discover::{Discovery, group_address};
use crate::dispatch::Interface;
use crate::driver::bundle::Multicast;
use crate::error::CallError;
use crate::node::Node;
use crate::wire::bundle::MOST_PARTS;

/// Whether bundles reach a member: where its datagrams have to be sent again call after call, they do not.
#[derive(Default)]
pub(super) struct Reach {
    resent: AtomicU64,
    /// Calls in a row that took something that was sent again; beyond [`STRIKES`], calls since bundles were given up.
    strikes: AtomicU32,
}

impl Reach {
    /// Whether the next call to the member is to travel in a bundle.
    fn is_good(&self, remote: &Remote) -> bool {
        let Some(resent) = remote.resent() else { return false };
        let before = self.resent.swap(resent, Ordering::Relaxed);
        let strikes = self.strikes.load(Ordering::Relaxed);
        let now = match strikes {
            STRIKES.. if strikes >= STRIKES + CALLS_APART => 0,
            STRIKES.. => strikes + 1,
            _ if resent > before => strikes + 1,
            _ => 0,
        };
        self.strikes.store(now, Ordering::Relaxed);
        now < STRIKES
    }
}

/// Has the calls to these members travel in one datagram, as far as their links take part in it. `bytes` is the size of
/// the arguments.
pub(super) fn bundle<'a>(
    multicast: &Arc<Multicast>,
    members: impl Iterator<Item = &'a Present>,
    bytes: usize,
) {
    if !multicast.carries(bytes) {
        return;
    }
    let reached: Vec<&Present> =
        members.filter(|present| present.reach.is_good(&present.remote)).collect();
    if !(2..=MOST_PARTS).contains(&reached.len()) {
        return;
    }
    let shares = multicast.shares(reached.len());
    for (present, share) in reached.into_iter().zip(shares) {
        present.remote.share(share);
    }
}

impl Node {
    /// A group of the objects that are [found](Node::discover) at a multicast group's address,
    /// `udp://239.255.42.1:7400/desk`. A call to it leaves in one datagram for all members that are reached over `udp://`;
    /// whoever does not get it is sent it alone, and so is everybody if it is too large for one.
    ///
    /// Members are those that answer now; [`Group::add`] and [`remove`](Group::remove) change the list, and
    /// [`discover`](Node::discover) finds others later.
    ///
    /// # Errors
    /// As [`Node::discover`] and [`Node::group`]. That nobody answers is no error: the group is empty then.
    pub async fn multicast<G: Group>(&self, url: impl IntoUrl) -> Result<G, CallError> {
        self.multicast_with(url, &Discovery::default()).await
    }

    /// As [`multicast`](Node::multicast), through the interface and as far as `settings` say.
    ///
    /// # Errors
    /// As [`Node::multicast`].
    pub async fn multicast_with<G: Group>(
        &self,
        url: impl IntoUrl,
        settings: &Discovery,
    ) -> Result<G, CallError> {
        self.found_group(url, settings, false).await
    }

    /// As [`multicast`](Node::multicast), at a broadcast address: `udp://192.168.1.255:7400/desk`.
    ///
    /// A broadcast is for methods that may be lost or repeated: calls of methods that are at most once or exactly once are
    /// refused, with [`CallError::NotForBroadcast`] for each member.
    ///
    /// # Errors
    /// As [`Node::multicast`].
    pub async fn broadcast<G: Group>(&self, url: impl IntoUrl) -> Result<G, CallError> {
        self.broadcast_with(url, &Discovery::default()).await
    }

    /// As [`broadcast`](Node::broadcast), through the interface and as far as `settings` say.
    ///
    /// # Errors
    /// As [`Node::multicast`].
    pub async fn broadcast_with<G: Group>(
        &self,
        url: impl IntoUrl,
        settings: &Discovery,
    ) -> Result<G, CallError> {
        self.found_group(url, settings, true).await
    }

    async fn found_group<G: Group>(
        &self,
        url: impl IntoUrl,
        settings: &Discovery,
        broadcast: bool,
    ) -> Result<G, CallError> {
        let url = url.into_url().map_err(CallError::BadAddress)?;
        let mut finding =
            self.discover_with::<<G::Interface as Interface>::Proxy>(&url, settings)?;
        let group: SocketAddr = group_address(&url).map_err(CallError::BadAddress)?;
        let multicast = self.multicast_socket(group, settings.reach())?;
        let members = G::from_members(Members::new(self.clone(), Some(multicast), broadcast));
        while let Some(found) = finding.next().await {
            let is_udp = |url: &&Url| matches!(url.address(), Address::Udp(_));
            if let Some(url) = found.urls.iter().find(is_udp).or(found.urls.first()) {
                members.add(url)?;
            }
        }
        self.connect(members.as_members()).await;
        Ok(members)
    }

    /// Waits until each member has a link or cannot have one now, for as long as a handshake may take.
    async fn connect(&self, members: &Members) {
        let present = members.present();
        let linked = std::future::poll_fn(|cx| {
            let waits = present.iter().any(|present| !present.remote.poll_bound(cx));
            if waits { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
        });
        let _ = tokio::time::timeout(self.limits().handshake_timeout, linked).await;
    }
}

/// Calls in a row after which bundles do not seem to reach a member.
const STRIKES: u32 = 3;
/// Calls that then go to the member alone, before it is tried again.
const CALLS_APART: u32 = 256;
