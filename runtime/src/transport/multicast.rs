//! Sockets of groups: bound to the group's own address, so that nothing else arrives there, and sockets that ask.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::task::{Context, Poll, ready};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use super::subnets::{Callers, Neighbours};

/// A socket on which a group's datagrams arrive, or from which they are sent; closed when it is dropped.
pub(crate) trait GroupSocket: Send + Sync {
    /// Receives one datagram; how long it was, and where it came from. One task at a time waits.
    ///
    /// # Errors
    /// Of a shortage that may pass, or of a datagram that was sent before. The socket can be used on.
    fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>>;

    /// Sends one datagram. One task at a time waits.
    ///
    /// # Errors
    /// Why nothing of it leaves. The socket can be used on.
    fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8], to: SocketAddr)
    -> Poll<io::Result<()>>;

    /// Sends one datagram, if the socket takes it at once.
    ///
    /// # Errors
    /// It does not.
    fn try_send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()>;
}

impl dyn GroupSocket {
    /// See [`poll_receive`](GroupSocket::poll_receive).
    pub(crate) async fn receive(&self, into: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        poll_fn(|cx| self.poll_receive(cx, into)).await
    }

    /// See [`poll_send`](GroupSocket::poll_send).
    pub(crate) async fn send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        poll_fn(|cx| self.poll_send(cx, bytes, to)).await
    }
}

impl GroupSocket for UdpSocket {
    fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut into = ReadBuf::new(into);
        let from = ready!(self.poll_recv_from(cx, &mut into))?;
        Poll::Ready(Ok((into.filled().len(), from)))
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        to: SocketAddr,
    ) -> Poll<io::Result<()>> {
        self.poll_send_to(cx, bytes, to).map_ok(drop)
    }

    fn try_send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        self.try_send_to(bytes, to).map(drop)
    }
}

/// Through which interface, how far, and from whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reach {
    /// The address of the interface, for IPv4.
    pub(crate) interface: Option<Ipv4Addr>,
    /// The number of the interface, for IPv6; 0 is the system's choice.
    pub(crate) index: u32,
    /// Routers that a datagram passes, and one.
    pub(crate) ttl: u32,
    /// Who is heard.
    pub(crate) callers: Callers,
}

impl Default for Reach {
    fn default() -> Reach {
        Reach { interface: None, index: 0, ttl: 1, callers: Callers::Subnet }
    }
}

/// A socket that was bound to a group's address.
pub(super) struct Joined {
    socket: UdpSocket,
    /// Who is heard; everybody if there is none.
    neighbours: Option<Neighbours>,
}

impl GroupSocket for Joined {
    fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        loop {
            let (length, from) = ready!(self.socket.poll_receive(cx, into))?;
            if self.neighbours.as_ref().is_none_or(|neighbours| neighbours.have(from.ip())) {
                return Poll::Ready(Ok((length, from)));
            }
            tracing::debug!(%from, "a datagram to a group from outside the subnet");
        }
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        to: SocketAddr,
    ) -> Poll<io::Result<()>> {
        self.socket.poll_send_to(cx, bytes, to).map_ok(drop)
    }

    fn try_send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        self.socket.try_send_to(bytes, to).map(drop)
    }
}

/// See [`Network::join`](super::Network::join).
pub(super) fn join(group: SocketAddr, reach: Reach) -> io::Result<Joined> {
    let socket = open(group, reach)?;
    socket.set_reuse_address(true)?;
    // A group of one link is no address before the link is said.
    let bound = match group {
        SocketAddr::V6(six) if six.ip().is_multicast() => {
            SocketAddr::V6(SocketAddrV6::new(*six.ip(), six.port(), 0, reach.index))
        }
        other => other,
    };
    socket.bind(&SockAddr::from(bound))?;
    match group.ip() {
        IpAddr::V4(group) if group.is_multicast() => {
            socket.join_multicast_v4(&group, &reach.interface.unwrap_or(Ipv4Addr::UNSPECIFIED))?;
        }
        IpAddr::V6(group) if group.is_multicast() => {
            socket.join_multicast_v6(&group, reach.index)?;
        }
        _ => {}
    }
    let neighbours = match reach.callers {
        Callers::Subnet => Some(Neighbours::of(reach)),
        Callers::Anyone => None,
    };
    Ok(Joined { socket: UdpSocket::from_std(socket.into())?, neighbours })
}

/// See [`Network::ask`](super::Network::ask).
pub(super) fn ask(from: IpAddr, reach: Reach) -> io::Result<UdpSocket> {
    let from = SocketAddr::new(from, 0);
    let socket = open(from, reach)?;
    socket.bind(&SockAddr::from(from))?;
    UdpSocket::from_std(socket.into())
}

fn open(family: SocketAddr, reach: Reach) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(family), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if family.is_ipv4() {
        if let Some(interface) = reach.interface {
            socket.set_multicast_if_v4(&interface)?;
        }
        socket.set_multicast_ttl_v4(reach.ttl)?;
        // Answers go no further than questions: an asker who claims to be far away hears nothing.
        socket.set_ttl_v4(reach.ttl)?;
        socket.set_broadcast(true)?;
    } else {
        if reach.index != 0 {
            socket.set_multicast_if_v6(reach.index)?;
        }
        socket.set_multicast_hops_v6(reach.ttl)?;
        socket.set_unicast_hops_v6(reach.ttl)?;
    }
    Ok(socket)
}
