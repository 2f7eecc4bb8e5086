//! The way between a client and a server over either transport, with the faults that both have in common.
//!
//! Used by tests that must hold over TCP and over UDP alike.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::datagram_proxy::{DatagramFault, DatagramFaults, DatagramKind, DatagramProxy};
use crate::fault_proxy::{Direction, Fault, FaultProxy, FrameKind};
use crate::service::Transport;

/// A proxy for either transport.
pub enum Link {
    /// Streams.
    Tcp(FaultProxy),
    /// Datagrams.
    Udp(DatagramProxy),
}

impl Link {
    /// Starts a proxy on a free loopback port.
    ///
    /// # Errors
    /// No port or no thread could be had.
    pub fn start(transport: Transport, upstream: SocketAddr) -> io::Result<Link> {
        Ok(match transport {
            Transport::Tcp => Link::Tcp(FaultProxy::start(upstream)?),
            Transport::Udp => Link::Udp(DatagramProxy::start(upstream)?),
        })
    }

    /// Where clients find it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        match self {
            Link::Tcp(proxy) => proxy.address(),
            Link::Udp(proxy) => proxy.address(),
        }
    }

    /// Another server takes the place of the former one.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        match self {
            Link::Tcp(proxy) => proxy.set_upstream(upstream),
            Link::Udp(proxy) => proxy.set_upstream(upstream),
        }
    }

    /// Loses the next frame of this kind, on TCP with its connection.
    pub fn lose(&self, direction: Direction, kind: FrameKind) {
        match self {
            Link::Tcp(proxy) => {
                proxy.on_next(direction, Some(kind), Fault::CutInFrame { bytes: 3 });
            }
            Link::Udp(proxy) => proxy.on_next(direction, Some(kind), DatagramFault::Lose),
        }
    }

    /// Waits until a frame was lost that was to be.
    pub async fn lost(&self) {
        match self {
            Link::Tcp(proxy) => drop(proxy.until(|counts| counts.cuts > 0).await),
            Link::Udp(proxy) => drop(proxy.until(|counts| counts.sprung > 0).await),
        }
    }

    /// Makes replies late from now on, the next one at least.
    pub fn delay_replies(&self, lasts: Duration) {
        match self {
            Link::Tcp(proxy) => {
                let late = Fault::Delay { lasts };
                proxy.on_next(Direction::ToClient, Some(FrameKind::REPLY), late);
            }
            Link::Udp(proxy) => {
                let late = DatagramFaults { delay: lasts, ..DatagramFaults::default() };
                proxy.set_faults(Direction::ToClient, late);
            }
        }
    }

    /// Lets nothing through, until [`resume`](Link::resume).
    pub fn stall(&self) {
        match self {
            Link::Tcp(proxy) => proxy.stall(),
            Link::Udp(proxy) => proxy.set_both(cut()),
        }
    }

    /// Ends a stall.
    pub fn resume(&self) {
        match self {
            Link::Tcp(proxy) => proxy.resume(),
            Link::Udp(proxy) => proxy.set_both(DatagramFaults::default()),
        }
    }

    /// Ends the link and lets no other come up, until [`heal`](Link::heal). Returns when the client has noticed and tries
    /// to make the next.
    pub async fn cut_for_good(&self) {
        match self {
            Link::Tcp(proxy) => {
                proxy.refuse();
                proxy.cut_all();
                proxy.until(|counts| counts.refused > 0).await;
            }
            Link::Udp(proxy) => {
                let hellos = proxy.counts().to_server.of(DatagramKind::Hello);
                proxy.set_both(cut());
                let next = |hellos_now| hellos_now > hellos;
                proxy.until(|counts| next(counts.to_server.of(DatagramKind::Hello))).await;
            }
        }
    }

    /// Lets new links come up again.
    pub fn heal(&self) {
        match self {
            Link::Tcp(proxy) => proxy.accept(),
            Link::Udp(proxy) => proxy.set_both(DatagramFaults::default()),
        }
    }

    /// What came from the server so far: frames, or datagrams.
    #[must_use]
    pub fn from_server(&self) -> u64 {
        match self {
            Link::Tcp(proxy) => proxy.counts().frames_from_server,
            Link::Udp(proxy) => proxy.counts().to_client.datagrams,
        }
    }

    /// Waits until more came from the server than this.
    pub async fn until_more_than(&self, seen: u64) {
        match self {
            Link::Tcp(proxy) => drop(proxy.until(|now| now.frames_from_server > seen).await),
            Link::Udp(proxy) => drop(proxy.until(|now| now.to_client.datagrams > seen).await),
        }
    }
}

/// Everything vanishes.
fn cut() -> DatagramFaults {
    DatagramFaults { cut: true, ..DatagramFaults::default() }
}
