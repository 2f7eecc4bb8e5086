//! What references ask of their node.

use std::any::Any;
use std::sync::{Arc, OnceLock, Weak};

use tokio::runtime::Handle;

use super::{Inner, Node};
use crate::address::Address;
use crate::context::Flag;
use crate::driver::link::Link;
use crate::driver::lock;
use crate::driver::references::object::Objects;
use crate::driver::references::{HOME, Home, Peer, open_home};
use crate::driver::server::Server;
use crate::driver::serving::DESK;
use crate::id::NodeId;
use crate::reference::{Desk, tend};

/// What a node is to itself.
pub(super) struct Own {
    this: Weak<Inner>,
    link: OnceLock<Arc<Link>>,
    objects: Objects,
}

impl Own {
    pub(super) fn new(this: &Weak<Inner>) -> Own {
        Own { this: this.clone(), link: OnceLock::new(), objects: Objects::default() }
    }
}

impl Node {
    /// The node behind its references.
    pub(crate) fn of(home: &Arc<dyn Home>) -> Option<Node> {
        home.clone().any().downcast().ok().map(|inner| Node { inner })
    }

    /// What its references are of.
    pub(crate) fn home(&self) -> Arc<dyn Home> {
        self.inner.clone()
    }

    /// Whether this is that node.
    pub(crate) fn is(&self, other: &Node) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// By which the node calls itself; nothing if it was shut down or has no runtime.
    pub(crate) fn own_link(&self) -> Option<Arc<Link>> {
        self.runtime();
        self.inner.own_link()
    }

    /// All nodes with which references were passed.
    pub(crate) fn peers(&self) -> Vec<Arc<Peer>> {
        let mut peers = self.inner.server.peers();
        peers.extend(lock(&self.inner.links).all().iter().filter_map(|link| link.peer().cloned()));
        // A server that calls back has a session here, and is the same peer.
        let mut distinct: Vec<Arc<Peer>> = Vec::new();
        for peer in peers {
            if !distinct.iter().any(|other| Arc::ptr_eq(other, &peer)) {
                distinct.push(peer);
            }
        }
        distinct
    }

    /// Binds the object that references are given back to.
    pub(super) fn open_references(&self) {
        self.inner.server.set_home(self.inner.weak_home());
        self.inner.registry.bind_own(DESK, Desk);
    }
}

impl Inner {
    pub(super) fn own_link(&self) -> Option<Arc<Link>> {
        if let Some(link) = self.own.link.get() {
            return Some(link.clone());
        }
        let (home, runtime) = (self.weak_home().upgrade()?, self.runtime()?);
        let mut links = lock(&self.links);
        if links.are_closed() {
            return None;
        }
        let link = self.own.link.get_or_init(|| open_home(&home, runtime));
        links.insert(Address::Memory(HOME.into()), link.clone());
        Some(link.clone())
    }

    pub(super) fn weak_home(&self) -> Weak<dyn Home> {
        self.own.this.clone()
    }
}

impl Home for Inner {
    fn runtime(&self) -> Option<Handle> {
        self.runtime().cloned()
    }

    fn id(&self) -> NodeId {
        self.id
    }

    fn server(&self) -> &Arc<Server> {
        &self.server
    }

    fn objects(&self) -> &Objects {
        &self.own.objects
    }

    fn closing(&self) -> Arc<Flag> {
        self.closing.clone()
    }

    fn tend(&self, peer: Arc<Peer>) {
        if let Some(runtime) = self.runtime() {
            runtime.spawn(tend(peer));
        }
    }

    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
