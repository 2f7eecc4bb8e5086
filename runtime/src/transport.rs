//! Bytes in and out: connections of a reliable byte stream, sockets for datagrams, and how to get them.
//!
//! A [`Network`] makes streams, listeners and sockets for addresses; the real one knows TCP, UDP and the inside of this
//! process, the simulator brings one of its own. Knows no frames.

mod datagrams;
mod memory;
mod multicast;
mod subnets;
mod tcp;
mod udp;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::address::Address;
use crate::limits::Limits;
#[cfg(feature = "sim")]
pub(crate) use datagrams::BATCH;
pub(crate) use datagrams::{Binding, Datagrams, Inbox, Received, Route, Side};
pub(crate) use multicast::{GroupSocket, Reach};
pub use subnets::Callers;
pub(crate) use udp::dropped_by_kernel;

/// Makes connections.
pub(crate) trait Network: Send + Sync {
    /// A stream to the node at `address`.
    fn connect<'a>(&'a self, address: &'a Address) -> Connecting<'a>;

    /// A listener at `address`, which may leave the choice of a port or name to it.
    fn listen<'a>(&'a self, address: &'a Address) -> Opening<'a>;

    /// A socket for datagrams: at a server's `address`, or one that reaches the node there.
    fn datagrams<'a>(&'a self, address: &'a Address, side: Side, limits: &'a Limits)
    -> Binding<'a>;

    /// A socket on which what is sent to a group arrives: a multicast group, or a broadcast address. Several on one host
    /// each get a copy. A network need not have groups.
    fn join(&self, _group: SocketAddr, _reach: Reach) -> io::Result<Box<dyn GroupSocket>> {
        Err(no_such_kind())
    }

    /// A socket that sends to groups, and hears who answers it; at `from`, which may leave the choice to the system.
    fn ask(&self, _from: IpAddr, _reach: Reach) -> io::Result<Box<dyn GroupSocket>> {
        Err(no_such_kind())
    }
}

/// A stream that is being made.
pub(crate) type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send + 'a>>;
/// A listener that is being made.
pub(crate) type Opening<'a> =
    Pin<Box<dyn Future<Output = io::Result<Box<dyn Listener>>> + Send + 'a>>;
/// A stream that a peer will make, with the peer's address.
pub(crate) type Accepting<'a> =
    Pin<Box<dyn Future<Output = io::Result<(Stream, Arc<str>)>> + Send + 'a>>;

/// Accepts connections until it is dropped.
pub(crate) trait Listener: Send {
    /// Where it listens, with the port or name that was chosen.
    fn address(&self) -> Address;

    /// The next connection. An error concerns that connection or a shortage that may pass, never the listener.
    fn accept(&mut self) -> Accepting<'_>;
}

/// One connection; TCP without indirection, since every byte of every call passes here.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Other(Box<dyn Duplex>),
}

/// A stream that is not TCP.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The operating system's network, and this process.
pub(crate) struct RealNetwork;

impl Network for RealNetwork {
    fn connect<'a>(&'a self, address: &'a Address) -> Connecting<'a> {
        match address {
            Address::Tcp(place) => Box::pin(tcp::connect(place)),
            Address::Memory(name) => Box::pin(memory::connect(name)),
            Address::Udp(_) => Box::pin(async { Err(no_such_kind()) }),
        }
    }

    fn listen<'a>(&'a self, address: &'a Address) -> Opening<'a> {
        match address {
            Address::Tcp(place) => Box::pin(tcp::listen(place)),
            Address::Memory(name) => Box::pin(async move { memory::listen(name) }),
            Address::Udp(_) => Box::pin(async { Err(no_such_kind()) }),
        }
    }

    fn datagrams<'a>(
        &'a self,
        address: &'a Address,
        side: Side,
        limits: &'a Limits,
    ) -> Binding<'a> {
        match (address, side) {
            (Address::Udp(place), Side::Client { choice }) => {
                Box::pin(udp::connect(place, choice, limits))
            }
            (Address::Udp(place), Side::Server) => Box::pin(udp::listen(place, limits)),
            _ => Box::pin(async { Err(no_such_kind()) }),
        }
    }

    fn join(&self, group: SocketAddr, reach: Reach) -> io::Result<Box<dyn GroupSocket>> {
        Ok(Box::new(multicast::join(group, reach)?))
    }

    fn ask(&self, from: IpAddr, reach: Reach) -> io::Result<Box<dyn GroupSocket>> {
        Ok(Box::new(multicast::ask(from, reach)?))
    }
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, into),
            Stream::Other(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Other(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Other(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Tcp(stream) => stream.is_write_vectored(),
            Stream::Other(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Other(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Other(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Streams are asked of an address for datagrams, or the other way round.
pub(crate) fn no_such_kind() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "the address is of another kind")
}
