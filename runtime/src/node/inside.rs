//! What groups, mailboxes and those who seek objects ask of their node.

use std::io;
use std::sync::{Arc, Weak};

use tokio::net::UdpSocket;

use super::{Inner, Node};
use crate::address::Address;
use crate::context::Flag;
use crate::driver::announce::{self, Identity, Member};
use crate::driver::lock;
use crate::limits::Limits;
use crate::transport::multicast::Reach;
use crate::transport::no_such_kind;

impl Node {
    /// The bounds of this node.
    pub(crate) fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Tells when the node is shut down.
    pub(crate) fn closing(&self) -> &Arc<Flag> {
        &self.inner.closing
    }

    /// A number that nobody else has.
    pub(crate) fn draw(&self) -> u64 {
        self.inner.entropy.next()
    }

    /// Whether this node reaches groups.
    ///
    /// # Errors
    /// It is simulated.
    pub(crate) fn check_groups(&self) -> io::Result<()> {
        if self.inner.network.has_groups() { Ok(()) } else { Err(no_such_kind()) }
    }

    /// Answers those who seek objects at this socket, until the node is shut down.
    pub(crate) fn answer(&self, socket: UdpSocket, reach: Reach) {
        let identity = Identity { node: self.id(), boot: self.boot() };
        let member: Weak<Inner> = Arc::downgrade(&self.inner);
        let answering = announce::run(socket, member, identity, reach, self.closing().clone());
        if let Some(runtime) = self.runtime() {
            runtime.spawn(answering);
        }
    }
}

impl Member for Inner {
    fn has(&self, object: &str, interface: &str) -> bool {
        self.registry.has(object, interface)
    }

    fn listens(&self) -> Vec<Address> {
        lock(&self.listening).clone()
    }

    fn draw(&self) -> u64 {
        self.entropy.next()
    }
}
