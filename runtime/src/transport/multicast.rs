//! Sockets of groups: bound to the group's own address, so that nothing else arrives there, and sockets that ask.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::UdpSocket;

/// Through which interface, and how far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reach {
    /// The address of the interface, for IPv4.
    pub(crate) interface: Option<Ipv4Addr>,
    /// The number of the interface, for IPv6; 0 is the system's choice.
    pub(crate) index: u32,
    /// Routers that a datagram passes, and one.
    pub(crate) ttl: u32,
}

/// A socket on which what is sent to a group arrives: a multicast group, or a broadcast address. Several on one host each
/// get a copy.
pub(crate) fn join(group: SocketAddr, reach: Reach) -> io::Result<UdpSocket> {
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
    UdpSocket::from_std(socket.into())
}

/// A socket that asks a group, or answers who asked.
pub(crate) fn ask(from: IpAddr, reach: Reach) -> io::Result<UdpSocket> {
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
