//! The simulated network as a node sees it: streams and listeners over the fabric.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::fabric::{EndId, Fabric, Incarnation, SocketId, State};
use crate::address::{Address, Host, HostPort};
use crate::driver::lock;
use crate::limits::Limits;
use crate::transport::{
    Accepting, Binding, Connecting, Datagrams, GroupSocket, Inbox, Listener, Network, Opening,
    Reach, Route, Side, Stream, no_such_kind,
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
        let Address::Tcp(place) = address else { return Err(no_such_kind()) };
        let (to, port) = (&*self.named(place)?, place.port);
        let (delay, refused) = self.fabric.with(|state| state.begin_connect());
        sleep(delay).await;
        let attempt = |cx: &mut Context<'_>| {
            self.fabric.with(|state| state.poll_connect(self.node, to, port, refused, cx))
        };
        let end = poll_fn(attempt).await?;
        Ok(SimStream::open(self.fabric.clone(), end))
    }

    fn bind(&self, address: &Address, side: Side) -> io::Result<Box<dyn Datagrams>> {
        let Address::Udp(place) = address else { return Err(no_such_kind()) };
        let (host, port) = (&*self.named(place)?, place.port);
        let bound = match side {
            Side::Client { choice: 0 } => {
                self.fabric.with(|state| state.bind(self.node, 0, Some((host, port))))
            }
            // A host of this network has one address.
            Side::Client { .. } => Err(io::ErrorKind::NotFound.into()),
            Side::Server => {
                self.check_own(host)?;
                self.fabric.with(|state| state.bind(self.node, port, None))
            }
        };
        let (socket, port) = bound?;
        let (fabric, name) = (self.fabric.clone(), self.name.clone());
        Ok(Box::new(SimSocket { fabric, socket, name, port, arrival: None }))
    }

    /// The name of the host in an address. Numbers are those that its datagrams come from.
    fn named(&self, place: &HostPort) -> io::Result<Arc<str>> {
        match &place.host {
            Host::Name(name) => Ok(name.clone()),
            Host::Ip(ip) => self.fabric.with(|state| state.named(*ip)).ok_or_else(|| {
                let text = "the simulated network knows hosts by their names: `tcp://server:1`";
                io::Error::new(io::ErrorKind::Unsupported, text)
            }),
        }
    }

    fn check_own(&self, host: &str) -> io::Result<()> {
        if host == &*self.name {
            return Ok(());
        }
        let text = format!("this node is `{}`, and listens at `{}:…` only", self.name, self.name);
        Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text))
    }

    fn open(&self, address: &Address) -> io::Result<Box<dyn Listener>> {
        let Address::Tcp(place) = address else { return Err(no_such_kind()) };
        self.check_own(&self.named(place)?)?;
        let port = self.fabric.with(|state| state.listen(self.node, place.port))?;
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

    fn datagrams<'a>(&'a self, address: &'a Address, side: Side, _: &'a Limits) -> Binding<'a> {
        Box::pin(async move { self.bind(address, side) })
    }

    fn join(&self, group: SocketAddr, _: Reach) -> io::Result<Box<dyn GroupSocket>> {
        let socket = self.fabric.with(|state| state.join(self.node, group))?;
        Ok(Box::new(SimGroupSocket::new(self.fabric.clone(), socket)))
    }

    fn ask(&self, _: IpAddr, _: Reach) -> io::Result<Box<dyn GroupSocket>> {
        let (socket, _) = self.fabric.with(|state| state.bind(self.node, 0, None))?;
        Ok(Box::new(SimGroupSocket::new(self.fabric.clone(), socket)))
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
                if poll_arrival(&mut this.arrival, cx, moment).is_ready() {
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

/// A socket for datagrams.
struct SimSocket {
    fabric: Arc<Fabric>,
    socket: SocketId,
    name: Arc<str>,
    port: u16,
    /// Until the next datagram arrives.
    arrival: Option<Pin<Box<Sleep>>>,
}

impl Datagrams for SimSocket {
    fn address(&self) -> Address {
        Address::Udp(HostPort { host: Host::Name(self.name.clone()), port: self.port })
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, inbox: &mut Inbox) -> Poll<io::Result<()>> {
        loop {
            let found = self.fabric.with(|state| state.poll_receive(self.socket, cx, inbox));
            match found {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(result)) => return Poll::Ready(result),
                Poll::Ready(Err(moment)) => ready!(poll_arrival(&mut self.arrival, cx, moment)),
            }
        }
    }

    fn poll_send(
        &mut self,
        _: &mut Context<'_>,
        route: Route,
        bytes: &[u8],
        segment: usize,
    ) -> Poll<io::Result<usize>> {
        self.fabric.with(|state| state.poll_send(self.socket, route.peer, bytes, segment))
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        self.fabric.with(|state| state.unbind(self.socket));
    }
}

/// A socket of a group, or one that sends to groups.
struct SimGroupSocket {
    fabric: Arc<Fabric>,
    socket: SocketId,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    inbox: Inbox,
    /// What was received and not taken.
    received: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Until the next datagram arrives.
    arrival: Option<Pin<Box<Sleep>>>,
}

impl SimGroupSocket {
    fn new(fabric: Arc<Fabric>, socket: SocketId) -> SimGroupSocket {
        SimGroupSocket { fabric, socket, waiting: Mutex::default() }
    }
}

impl GroupSocket for SimGroupSocket {
    fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut waiting = lock(&self.waiting);
        let Waiting { inbox, received, arrival } = &mut *waiting;
        loop {
            if let Some((from, bytes)) = received.pop_front() {
                // As the system does: what there is no room for is cut off.
                let length = bytes.len().min(into.len());
                into[..length].copy_from_slice(&bytes[..length]);
                return Poll::Ready(Ok((length, from)));
            }
            match self.fabric.with(|state| state.poll_receive(self.socket, cx, inbox)) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(result)) => result?,
                Poll::Ready(Err(moment)) => ready!(poll_arrival(arrival, cx, moment)),
            }
            received.extend(inbox.iter().map(|datagram| (datagram.from, datagram.bytes.to_vec())));
            inbox.clear();
        }
    }

    fn poll_send(&self, _: &mut Context<'_>, bytes: &[u8], to: SocketAddr) -> Poll<io::Result<()>> {
        Poll::Ready(self.try_send(bytes, to))
    }

    fn try_send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        let sent = |state: &mut State| state.poll_send(self.socket, Some(to), bytes, bytes.len());
        match self.fabric.with(sent) {
            Poll::Ready(sent) => sent.map(drop),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Drop for SimGroupSocket {
    fn drop(&mut self) {
        self.fabric.with(|state| state.unbind(self.socket));
    }
}

/// Whether the moment is there; else the task is woken when it is.
fn poll_arrival(
    arrival: &mut Option<Pin<Box<Sleep>>>,
    cx: &mut Context<'_>,
    moment: Instant,
) -> Poll<()> {
    let arrival = arrival.get_or_insert_with(|| Box::pin(sleep_until(moment)));
    if arrival.deadline() != moment {
        arrival.as_mut().reset(moment);
    }
    arrival.as_mut().poll(cx)
}
