//! The simulated network as a node sees it: streams and listeners over the fabric.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::fabric::{EndId, Fabric, Incarnation};
use crate::address::{Address, Host, HostPort};
use crate::limits::Limits;
use crate::transport::{
    Accepting, Binding, Connecting, Listener, Network, Opening, Side, Stream, no_such_kind,
};

/// The network from one node's place in it.
pub(super) struct HostNetwork {
    fabric: Arc<Fabric>,
    node: Incarnation,
    name: Arc<str>,
}

impl HostNetwork {
    pub(super) fn new(fabric: Arc<Fabric>, node: Incarnation, name: Arc<str>) -> HostNetwork {
        HostNetwork { fabric, node, name }
    }

    async fn connect(&self, address: &Address) -> io::Result<Stream> {
        let (to, port) = place(address)?;
        let (delay, refused) = self.fabric.with(|state| state.begin_connect());
        sleep(delay).await;
        let attempt = |cx: &mut Context<'_>| {
            self.fabric.with(|state| state.poll_connect(self.node, to, port, refused, cx))
        };
        let end = poll_fn(attempt).await?;
        Ok(SimStream::open(self.fabric.clone(), end))
    }

    fn open(&self, address: &Address) -> io::Result<Box<dyn Listener>> {
        let (host, port) = place(address)?;
        if host != &*self.name {
            let text =
                format!("this node is `{}`, and listens at `{}:…` only", self.name, self.name);
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text));
        }
        let port = self.fabric.with(|state| state.listen(self.node, port))?;
        let (fabric, node, name) = (self.fabric.clone(), self.node, self.name.clone());
        Ok(Box::new(SimListener { fabric, node, name, port }))
    }
}

impl Network for HostNetwork {
    fn connect<'a>(&'a self, address: &'a Address) -> Connecting<'a> {
        Box::pin(self.connect(address))
    }

    fn listen<'a>(&'a self, address: &'a Address) -> Opening<'a> {
        Box::pin(async move { self.open(address) })
    }

    fn datagrams<'a>(&'a self, _: &'a Address, _: Side, _: &'a Limits) -> Binding<'a> {
        Box::pin(async { Err(no_such_kind()) })
    }
}

struct SimListener {
    fabric: Arc<Fabric>,
    node: Incarnation,
    name: Arc<str>,
    port: u16,
}

impl Listener for SimListener {
    fn address(&self) -> Address {
        Address::Tcp(HostPort { host: Host::Name(self.name.clone()), port: self.port })
    }

    fn accept(&mut self) -> Accepting<'_> {
        Box::pin(async {
            let attempt = |cx: &mut Context<'_>| {
                self.fabric.with(|state| state.poll_accept(self.node, self.port, cx))
            };
            let (end, peer) = poll_fn(attempt).await;
            let peer = format!("{peer}#{}", end.connection).into();
            Ok((SimStream::open(self.fabric.clone(), end), peer))
        })
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.fabric.with(|state| state.close_port(self.node, self.port));
    }
}

/// One side of a connection.
struct SimStream {
    fabric: Arc<Fabric>,
    end: EndId,
    /// Until the next bytes arrive.
    arrival: Option<Pin<Box<Sleep>>>,
}

impl SimStream {
    fn open(fabric: Arc<Fabric>, end: EndId) -> Stream {
        Stream::Other(Box::new(SimStream { fabric, end, arrival: None }))
    }

    /// Whether the moment is there; else the task is woken when it is.
    fn poll_arrival(&mut self, cx: &mut Context<'_>, moment: Instant) -> Poll<()> {
        let arrival = self.arrival.get_or_insert_with(|| Box::pin(sleep_until(moment)));
        if arrival.deadline() != moment {
            arrival.as_mut().reset(moment);
        }
        arrival.as_mut().poll(cx)
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let found = this.fabric.with(|state| state.poll_read(this.end, cx, into));
        match found {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(result)) => Poll::Ready(result),
            Poll::Ready(Err(moment)) => {
                if this.poll_arrival(cx, moment).is_ready() {
                    // The clock may have moved while we asked.
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.fabric.with(|state| state.poll_write(self.end, cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.poll_write(cx, &bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fabric.with(|state| state.finish(self.end));
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.fabric.with(|state| state.drop_end(self.end));
    }
}

/// Host name and port of an address.
fn place(address: &Address) -> io::Result<(&str, u16)> {
    match address {
        Address::Tcp(HostPort { host: Host::Name(name), port }) => Ok((name, *port)),
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the simulated network knows hosts by their names: `tcp://server:1`",
        )),
    }
}
