//! Links over datagrams: a task for each of a client's, and one for all that come to a socket of a server.

mod agenda;
pub(super) mod client;
mod doorbell;
pub(super) mod injected;
mod outbox;
pub(super) mod server;
mod server_link;

use std::ops::{AddAssign, Sub};

/// What went through sockets for datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Traffic {
    /// Datagrams that were handed to the network.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Datagrams that never arrived, as far as their sender can tell.
    pub(crate) lost: u64,
    /// Datagrams with something that had been sent before.
    pub(crate) resent: u64,
    /// Datagrams that were damaged, or of no link.
    pub(crate) rejected: u64,
}

/// What is counted of a node's sockets for datagrams.
#[derive(Clone, Default)]
pub(crate) struct Sockets {
    pub(crate) traffic: Traffic,
    /// What the kernel dropped at sockets that are closed.
    pub(crate) dropped: u64,
    /// The kernel's numbers of those that are open.
    pub(crate) numbers: Vec<u64>,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Traffic) {
        self.sent += other.sent;
        self.received += other.received;
        self.lost += other.lost;
        self.resent += other.resent;
        self.rejected += other.rejected;
    }
}

impl Sub for Traffic {
    type Output = Traffic;

    /// What came since `before`.
    fn sub(self, before: Traffic) -> Traffic {
        Traffic {
            sent: self.sent - before.sent,
            received: self.received - before.received,
            lost: self.lost - before.lost,
            resent: self.resent - before.resent,
            rejected: self.rejected - before.rejected,
        }
    }
}
