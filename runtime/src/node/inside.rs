//! What groups, mailboxes and those who seek objects ask of their node.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Weak};

use super::{Inner, Node};
use crate::address::Address;
use crate::context::Flag;
use crate::driver::announce::{self, Identity, Member};
use crate::driver::bundle::Multicast;
use crate::driver::lock;
use crate::error::CallError;
use crate::limits::Limits;
use crate::semantics::Execution;
use crate::transport::{GroupSocket, Reach};
use crate::wire::bundle::{ClientTag, Part};

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

    /// A socket on which what is sent to a group arrives.
    pub(crate) fn join_group(
        &self,
        group: SocketAddr,
        reach: Reach,
    ) -> io::Result<Box<dyn GroupSocket>> {
        self.inner.network.join(group, reach)
    }

    /// A socket that sends to this group.
    pub(crate) fn ask_group(
        &self,
        group: SocketAddr,
        reach: Reach,
    ) -> io::Result<Box<dyn GroupSocket>> {
        let any: IpAddr = match group {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        self.inner.network.ask(any, reach)
    }

    /// How calls to a group leave in one datagram.
    ///
    /// # Errors
    /// [`CallError::Unreachable`] if the system gives no socket, [`CallError::Closed`] if there is no runtime.
    pub(crate) fn multicast_socket(
        &self,
        group: SocketAddr,
        reach: Reach,
    ) -> Result<Arc<Multicast>, CallError> {
        let closed = CallError::Closed { execution: Execution::NotExecuted };
        let runtime = self.runtime().ok_or(closed)?;
        let _entered = runtime.enter();
        let socket = self.ask_group(group, reach).map_err(|error| CallError::Unreachable {
            peer: format!("udp://{group}").into(),
            source: Arc::new(error),
        })?;
        let datagram = self.limits().datagram;
        let client = ClientTag::of(self.id());
        Ok(Arc::new(Multicast::new(socket, group, client, datagram, runtime.clone())))
    }

    /// Answers those who seek objects at this socket, until the node is shut down.
    pub(crate) fn answer(&self, socket: Box<dyn GroupSocket>, reach: Reach) {
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

    fn inject(&self, parts: &[Part]) {
        self.server.inject(parts);
    }

    fn ask(&self, from: IpAddr, reach: Reach) -> io::Result<Box<dyn GroupSocket>> {
        self.network.ask(from, reach)
    }

    fn draw(&self) -> u64 {
        self.entropy.next()
    }
}
