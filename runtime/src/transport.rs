//! Bytes in and out: connections of a reliable byte stream, and how to get them.
//!
//! A [`Network`] makes streams and listeners for addresses; the real one knows TCP and the inside of this process, the
//! simulator brings one of its own. Knows no frames.

mod memory;
mod tcp;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::address::Address;

/// Makes connections.
pub(crate) trait Network: Send + Sync {
    /// A stream to the node at `address`.
    fn connect<'a>(&'a self, address: &'a Address) -> Connecting<'a>;

    /// A listener at `address`, which may leave the choice of a port or name to it.
    fn listen<'a>(&'a self, address: &'a Address) -> Opening<'a>;
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
            Address::Udp(_) => Box::pin(async { Err(not_yet()) }),
        }
    }

    fn listen<'a>(&'a self, address: &'a Address) -> Opening<'a> {
        match address {
            Address::Tcp(place) => Box::pin(tcp::listen(place)),
            Address::Memory(name) => Box::pin(async move { memory::listen(name) }),
            Address::Udp(_) => Box::pin(async { Err(not_yet()) }),
        }
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

fn not_yet() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "`udp://` comes in a later version of farcall")
}
