//! The links of a node: one to each server that a proxy of this node leads to, and some that none leads to any more.
//!
//! A link is not closed with its last proxy, since the next is often a moment away. But as many as there ever were proxies
//! would be too many: when there are twice as many as were in use, those that are not are closed.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::{Inner, Node, Statistics};
use crate::address::Address;
use crate::driver::connection;
use crate::driver::datagram::Sockets;
use crate::driver::link::Link;
use crate::driver::lock;
use crate::error::CallError;
use crate::protocol::client::{ClientConfig, ClientStatistics};
use crate::semantics::Execution;
use crate::transport::dropped_by_kernel;

/// All of them, by address.
pub(super) struct Links {
    /// Ordered, so that a run in the simulator can be repeated.
    open: BTreeMap<Address, Arc<Link>>,
    closed: bool,
    /// With so many, those that nobody uses are closed.
    most: usize,
    /// What those did that were closed, if any were.
    past: Option<Box<Past>>,
}

#[derive(Default)]
struct Past {
    statistics: ClientStatistics,
    sockets: Sockets,
}

impl Default for Links {
    fn default() -> Links {
        Links { open: BTreeMap::new(), closed: false, most: FEW, past: None }
    }
}

impl Links {
    /// All that are open.
    pub(super) fn all(&self) -> Vec<Arc<Link>> {
        self.open.values().cloned().collect()
    }

    /// No further link is made.
    pub(super) fn close(&mut self) -> Vec<Arc<Link>> {
        self.closed = true;
        self.all()
    }

    pub(super) fn are_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn insert(&mut self, address: Address, link: Arc<Link>) {
        if self.open.len() >= self.most {
            self.close_unused();
        }
        self.open.insert(address, link);
    }

    fn close_unused(&mut self) {
        let Links { open, past, .. } = self;
        let Past { statistics, sockets } = &mut **past.get_or_insert_default();
        open.retain(|_, link| {
            if Arc::strong_count(link) > OWN_HANDLES || !link.is_spare() {
                return true;
            }
            add(statistics, link.statistics());
            link.add_sockets(sockets);
            link.close();
            false
        });
        let numbers = std::mem::take(&mut sockets.numbers);
        if !numbers.is_empty() {
            // The kernel forgets what it has dropped at a socket with that.
            sockets.dropped += dropped_by_kernel(&numbers).unwrap_or(0);
        }
        self.most = FEW.max(2 * self.open.len());
    }

    /// Adds what all did, and what is counted of their sockets.
    pub(super) fn count(&self, all: &mut Statistics, sockets: &mut Sockets) {
        let mut sum = ClientStatistics::default();
        if let Some(past) = &self.past {
            sum = past.statistics;
            sockets.traffic += past.sockets.traffic;
            sockets.dropped += past.sockets.dropped;
        }
        for link in self.open.values() {
            add(&mut sum, link.statistics());
            link.add_sockets(sockets);
        }
        all.calls += sum.calls;
        all.resent += sum.resent;
        all.connections += sum.links;
        all.sessions += sum.sessions;
        all.links = self.open.len();
    }
}

fn add(sum: &mut ClientStatistics, one: ClientStatistics) {
    sum.calls += one.calls;
    sum.resent += one.resent;
    sum.links += one.links;
    sum.sessions += one.sessions;
}

impl Node {
    /// The link to a server: one for all its objects.
    pub(super) fn link(&self, address: &Address) -> Result<Arc<Link>, CallError> {
        self.runtime();
        self.inner.link(address)
    }
}

impl Inner {
    pub(super) fn link(&self, address: &Address) -> Result<Arc<Link>, CallError> {
        let closed = CallError::Closed { execution: Execution::NotExecuted };
        let runtime = self.runtime().ok_or_else(|| closed.clone())?;
        let mut links = lock(&self.links);
        if links.closed {
            return Err(closed);
        }
        if let Some(link) = links.open.get(address) {
            return Ok(link.clone());
        }
        let link = self.open_link(runtime, address);
        links.insert(address.clone(), link.clone());
        Ok(link)
    }

    fn open_link(&self, runtime: &Handle, address: &Address) -> Arc<Link> {
        let Inner { id, limits, network, entropy, .. } = self;
        let peer = address.to_string().into();
        let datagrams = matches!(address, Address::Udp(_));
        let config = ClientConfig { node: *id, peer, limits: limits.clone(), datagrams };
        let (network, entropy) = (network.clone(), entropy.clone());
        let link = connection::open(runtime, network, entropy, address.clone(), config);
        link.belong(self.weak_home());
        link
    }
}

/// Links that are kept without a look at who uses them.
const FEW: usize = 64;
/// Who has a link that nobody uses: this list, and the link's task.
const OWN_HANDLES: usize = 2;
