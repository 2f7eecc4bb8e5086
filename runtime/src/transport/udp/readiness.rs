//! When a UDP socket can be used.
//!
//! A socket for datagrams tells of room whenever one of its datagrams has been taken from it, unlike a stream, which
//! tells only after it was full. Who is woken for that is woken for each datagram of its own; so room is asked for only
//! by who found none.

use std::io;
use std::net::UdpSocket;
use std::task::{Context, Poll};

#[cfg(not(unix))]
pub(super) use everywhere::Readiness;
#[cfg(unix)]
pub(super) use unix::Readiness;

#[cfg(unix)]
mod unix {
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::ready;

    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    use super::{Context, Poll, UdpSocket, io};

    /// A socket and the events of it that are waited for.
    pub(in super::super) struct Readiness {
        arrivals: Arc<AsyncFd<UdpSocket>>,
        /// While somebody waits for room.
        room: Option<AsyncFd<UdpSocket>>,
        /// Ready when the kernel has heard of an error, which makes no socket readable.
        failure: Pin<Box<dyn Future<Output = ()> + Send>>,
    }

    impl Readiness {
        /// `socket` must not block.
        pub(in super::super) fn new(socket: UdpSocket) -> io::Result<Readiness> {
            let interest = Interest::READABLE | Interest::ERROR;
            let arrivals = Arc::new(registered(socket, interest)?);
            let failure = failure(arrivals.clone());
            Ok(Readiness { arrivals, room: None, failure })
        }

        /// The socket.
        #[inline]
        pub(in super::super) fn socket(&self) -> &UdpSocket {
            self.arrivals.get_ref()
        }

        /// Ready when something may have arrived.
        #[inline]
        pub(in super::super) fn poll_arrival(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.arrivals.poll_read_ready(cx).map_ok(|mut guard| guard.retain_ready())
        }

        /// Receives; after [`io::ErrorKind::WouldBlock`] nothing has arrived until more does.
        #[inline]
        pub(in super::super) fn receive<R>(
            &self,
            receive: impl FnOnce(&UdpSocket) -> io::Result<R>,
        ) -> io::Result<R> {
            self.arrivals.try_io(Interest::READABLE, receive)
        }

        /// Ready when there may be room to send.
        pub(in super::super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            let room = match &self.room {
                Some(room) => room,
                None => {
                    let socket = self.socket().try_clone()?;
                    self.room.insert(registered(socket, Interest::WRITABLE)?)
                }
            };
            ready!(room.poll_write_ready(cx))?.retain_ready();
            self.room = None;
            Poll::Ready(Ok(()))
        }

        /// Ready when the kernel has heard of an error.
        #[inline]
        pub(in super::super) fn poll_failure(&mut self, cx: &mut Context<'_>) -> Poll<()> {
            ready!(self.failure.as_mut().poll(cx));
            self.failure = failure(self.arrivals.clone());
            Poll::Ready(())
        }
    }

    #[allow(
        deprecated,
        reason = "what took its place is unsafe, for types whose descriptor may change; a socket's does not"
    )]
    fn registered(socket: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
        AsyncFd::with_interest(socket, interest)
    }

    fn failure(arrivals: Arc<AsyncFd<UdpSocket>>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            // An error of the waiting itself is the runtime's end.
            if let Ok(mut guard) = arrivals.ready(Interest::ERROR).await {
                guard.clear_ready();
            }
        })
    }
}

/// Where there is only one kind of waiting.
#[cfg(not(unix))]
mod everywhere {
    use tokio::io::Interest;

    use super::{Context, Poll, UdpSocket, io};

    /// A socket and the events of it that are waited for.
    pub(in super::super) struct Readiness {
        socket: UdpSocket,
        events: tokio::net::UdpSocket,
    }

    impl Readiness {
        /// `socket` must not block.
        pub(in super::super) fn new(socket: UdpSocket) -> io::Result<Readiness> {
            let events = tokio::net::UdpSocket::from_std(socket.try_clone()?)?;
            Ok(Readiness { socket, events })
        }

        /// The socket.
        pub(in super::super) fn socket(&self) -> &UdpSocket {
            &self.socket
        }

        /// Ready when something may have arrived.
        pub(in super::super) fn poll_arrival(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.events.poll_recv_ready(cx)
        }

        /// Receives; after [`io::ErrorKind::WouldBlock`] nothing has arrived until more does.
        pub(in super::super) fn receive<R>(
            &self,
            receive: impl FnOnce(&UdpSocket) -> io::Result<R>,
        ) -> io::Result<R> {
            self.events.try_io(Interest::READABLE, || receive(&self.socket))
        }

        /// Ready when there may be room to send.
        pub(in super::super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            let full = || Err(io::ErrorKind::WouldBlock.into());
            let _: io::Result<()> = self.events.try_io(Interest::WRITABLE, full);
            self.events.poll_send_ready(cx)
        }

        /// Errors come with what is received.
        pub(in super::super) fn poll_failure(&mut self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }
    }
}
