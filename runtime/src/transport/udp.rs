//! UDP, with the kernel's help for batches where it gives any.

mod readiness;

#[cfg(any(target_os = "linux", test))]
use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState, is_msg_size_err};
use tokio::net::lookup_host;

use super::datagrams::{Datagrams, Inbox, Route};
use super::tcp::not_itself;
use crate::address::{Address, Host, HostPort};
use crate::limits::Limits;
use readiness::Readiness;

/// A socket with one peer: that at the address of the host with position `choice`, of those that there is a way to.
pub(super) async fn connect(
    place: &HostPort,
    choice: usize,
    limits: &Limits,
) -> io::Result<Box<dyn Datagrams>> {
    let (socket, peer) = choose(&resolve(place).await?, choice, connected)?;
    Udp::boxed(socket, Some(peer), limits)
}

/// What `connect` makes of the address with position `choice` of those that it makes something of, and the address.
fn choose<T>(
    peers: &[SocketAddr],
    choice: usize,
    connect: impl Fn(SocketAddr) -> io::Result<T>,
) -> io::Result<(T, SocketAddr)> {
    let mut skipped = 0;
    let mut failed = None;
    for &peer in peers {
        match connect(peer) {
            Ok(socket) if skipped == choice => return Ok((socket, peer)),
            Ok(_) => skipped += 1,
            Err(error) => failed = Some(error),
        }
    }
    let none = || io::Error::new(io::ErrorKind::NotFound, "the host has no further address");
    Err(failed.unwrap_or_else(none))
}

/// A connected socket hears nobody else, and hears when nobody listens there.
fn connected(peer: SocketAddr) -> io::Result<UdpSocket> {
    // Where the system has no IPv6, no socket for it can be made.
    let any: SocketAddr = match peer {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(peer)?;
    not_itself(socket.local_addr()?, peer)?;
    Ok(socket)
}

/// Binds the first address of the host that can be bound.
pub(super) async fn listen(place: &HostPort, limits: &Limits) -> io::Result<Box<dyn Datagrams>> {
    let mut failed = io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address");
    for address in resolve(place).await? {
        match UdpSocket::bind(address) {
            Ok(socket) => return Udp::boxed(socket, None, limits),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

async fn resolve(place: &HostPort) -> io::Result<Vec<SocketAddr>> {
    Ok(match &place.host {
        Host::Ip(number) => vec![SocketAddr::new(*number, place.port)],
        Host::Name(name) => lookup_host((&**name, place.port)).await?.collect(),
    })
}

struct Udp {
    readiness: Readiness,
    kernel: UdpSocketState,
    address: SocketAddr,
    peer: Option<SocketAddr>,
    /// Where the kernel says what it received; of use for one call only.
    metas: Box<[RecvMeta; SLOTS]>,
}

impl Udp {
    fn boxed(
        socket: UdpSocket,
        peer: Option<SocketAddr>,
        limits: &Limits,
    ) -> io::Result<Box<dyn Datagrams>> {
        let address = socket.local_addr()?;
        // Forbids blocking and fragments, asks for the local address of each datagram, and joins received ones where
        // that is possible.
        let kernel = UdpSocketState::new((&socket).into())?;
        // A kernel that grants less drops more, and counts that.
        let _ = kernel.set_recv_buffer_size((&socket).into(), limits.receive_buffer);
        let _ = kernel.set_send_buffer_size((&socket).into(), limits.receive_buffer);
        let readiness = Readiness::new(socket)?;
        let metas = Box::new([RecvMeta::default(); SLOTS]);
        Ok(Box::new(Udp { readiness, kernel, address, peer, metas }))
    }

    /// Ready with an error that the kernel heard of: nobody listens at the peer's address.
    fn poll_failure(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        ready!(self.readiness.poll_failure(cx));
        let error = self.readiness.socket().take_error().ok().flatten();
        match error.filter(|error| !is_msg_size_err(error)) {
            Some(error) => Poll::Ready(error),
            None => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// Sends one part of a batch, with one system call.
    fn try_send(&self, route: Route, bytes: &[u8], segment: usize) -> io::Result<()> {
        let socket = self.readiness.socket();
        if bytes.len() <= segment && route.local.is_none() {
            // The short way: the kernel has nothing to cut, and nothing to look up for a connected socket.
            return match route.peer {
                Some(peer) => socket.send_to(bytes, peer),
                None => socket.send(bytes),
            }
            .map(|_| ());
        }
        let destination = route.peer.or(self.peer).ok_or(io::ErrorKind::NotConnected)?;
        let transmit = Transmit {
            destination,
            ecn: None,
            contents: bytes,
            segment_size: Some(segment),
            src_ip: route.local,
        };
        self.kernel.try_send(socket.into(), &transmit)
    }

    /// Bytes of a batch that one system call takes.
    fn most(&self, segment: usize) -> usize {
        self.kernel.max_gso_segments().min(MOST_BYTES / segment).max(1) * segment
    }

    /// The local address of a datagram, where the socket has more than one.
    fn local(&self, address: Option<IpAddr>) -> Option<IpAddr> {
        address.filter(|_| self.peer.is_none() && self.address.ip().is_unspecified())
    }
}

impl Datagrams for Udp {
    fn address(&self) -> Address {
        Address::Udp(self.address.into())
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, inbox: &mut Inbox) -> Poll<io::Result<()>> {
        loop {
            if self.readiness.poll_arrival(cx)?.is_pending() {
                // It may have been given slots that nothing filled.
                inbox.clear();
                return self.poll_failure(cx).map(Err);
            }
            let mut filled = 0;
            let received = {
                let mut slots = inbox.slots(SLOTS, SLOT_BYTES);
                let mut slots: [IoSliceMut<'_>; SLOTS] =
                    std::array::from_fn(|_| IoSliceMut::new(slots.next().unwrap_or_default()));
                self.readiness.receive(|socket| {
                    filled = self.kernel.recv(socket.into(), &mut slots, &mut self.metas[..])?;
                    // Less than there was room for: the socket is empty, and need not be asked again to know it.
                    if filled < SLOTS { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
                })
            };
            for (slot, meta) in self.metas[..filled].iter().enumerate() {
                if meta.dst_ip.is_some_and(is_of_many) {
                    continue;
                }
                let local = self.local(meta.dst_ip);
                inbox.filled(slot * SLOT_BYTES, meta.len, meta.stride, meta.addr, local);
            }
            if inbox.len() >= MANY {
                inbox.set_waited(self.metas[0].timestamp.map_or(Duration::ZERO, since));
            }
            match received {
                _ if inbox.len() > 0 => return Poll::Ready(Ok(())),
                Err(error)
                    if error.kind() != io::ErrorKind::WouldBlock && !is_msg_size_err(&error) =>
                {
                    return Poll::Ready(Err(error));
                }
                // Empty, nothing but datagrams without a byte, or word of one of ours that was too long.
                _ => {}
            }
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        route: Route,
        bytes: &[u8],
        segment: usize,
    ) -> Poll<io::Result<usize>> {
        let (mut sent, mut asked) = (0, false);
        while sent < bytes.len() {
            let part = &bytes[sent..bytes.len().min(sent + self.most(segment))];
            match self.try_send(route, part, segment) {
                Ok(()) => sent += part.len(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if sent > 0 {
                        return Poll::Ready(Ok(sent));
                    }
                    if asked {
                        // After an error a socket is said to have room even if it has none.
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    asked = true;
                    ready!(self.readiness.poll_room(cx))?;
                }
                // The kernel turned out unable to cut batches: once more, one by one.
                Err(_) if part.len() > self.most(segment) => {}
                Err(error) if is_msg_size_err(&error) => sent += part.len(),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(sent))
    }

    fn kernel_number(&self) -> Option<u64> {
        inode(self.readiness.socket())
    }
}

/// Whether an address is that of many machines. No link is there, and nothing can be sent from it: the kernel's error would
/// look as if it could not cut batches, and end that for all links.
fn is_of_many(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_multicast() || address == Ipv4Addr::BROADCAST
}

/// How long ago it was so long after the epoch; nothing if the clock was set back since.
#[allow(clippy::disallowed_methods, reason = "the kernel tells by this clock when a datagram came")]
fn since(after_epoch: Duration) -> Duration {
    let then = SystemTime::UNIX_EPOCH + after_epoch;
    SystemTime::now().duration_since(then).unwrap_or_default().min(LONGEST_WAIT)
}

/// How many datagrams the kernel dropped for the sockets with these numbers, as they had no room. Nothing where the
/// kernel does not tell.
#[cfg(target_os = "linux")]
pub(crate) fn dropped_by_kernel(numbers: &[u64]) -> Option<u64> {
    let tables = ["/proc/self/net/udp", "/proc/self/net/udp6"];
    let tables: Vec<String> =
        tables.iter().filter_map(|table| std::fs::read_to_string(table).ok()).collect();
    if tables.is_empty() {
        return None;
    }
    Some(dropped_in(tables.iter().flat_map(|table| table.lines().skip(1)), numbers))
}

/// How many datagrams the kernel dropped; here it does not tell.
#[cfg(not(target_os = "linux"))]
pub(crate) fn dropped_by_kernel(_numbers: &[u64]) -> Option<u64> {
    None
}

/// The sum of the last columns of the rows of these sockets. The kernel may tell a row twice, where other sockets come and
/// go while it is read.
#[cfg(any(target_os = "linux", test))]
fn dropped_in<'a>(rows: impl Iterator<Item = &'a str>, numbers: &[u64]) -> u64 {
    let mut of_each = BTreeMap::new();
    for row in rows {
        let mut columns = row.split_whitespace();
        let number = columns.nth(INODE_COLUMN).and_then(|number| number.parse().ok());
        let Some(number) = number.filter(|number: &u64| numbers.contains(number)) else { continue };
        let dropped: u64 = columns.last().and_then(|count| count.parse().ok()).unwrap_or(0);
        let most = of_each.entry(number).or_insert(0);
        *most = dropped.max(*most);
    }
    of_each.into_values().sum()
}

#[cfg(target_os = "linux")]
fn inode(socket: &UdpSocket) -> Option<u64> {
    use std::os::fd::AsRawFd;

    let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).ok()?;
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(not(target_os = "linux"))]
fn inode(_socket: &UdpSocket) -> Option<u64> {
    None
}

/// Datagrams of a batch from which on it is looked how long the first has waited: fewer have not waited for long.
const MANY: usize = 8;
/// Longest that a datagram is said to have waited; a clock that was set forward would make it years.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Buffers that one system call fills; each holds as much as the kernel joins.
const SLOTS: usize = 8;
const SLOT_BYTES: usize = 1 << 16;
/// Bytes that one system call sends at most: the largest packet that the kernel cuts, less its headers.
const MOST_BYTES: usize = 65_000;
/// Position of the socket's number in a row of the kernel's table.
#[cfg(any(target_os = "linux", test))]
const INODE_COLUMN: usize = 9;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[test]
    fn a_socket_that_reaches_itself_is_refused() {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a port");
        let itself = socket.local_addr().expect("an address");
        socket.connect(itself).expect("the kernel allows it");
        let refused = not_itself(socket.local_addr().expect("an address"), itself);
        assert_eq!(refused.expect_err("refused").kind(), io::ErrorKind::ConnectionRefused);
        let other = UdpSocket::bind(("127.0.0.1", 0)).expect("a port");
        other.connect(itself).expect("it is there");
        not_itself(other.local_addr().expect("an address"), itself).expect("another");
    }

    fn loopback() -> HostPort {
        HostPort::from(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    async fn pair() -> (Box<dyn Datagrams>, Box<dyn Datagrams>) {
        let server = listen(&loopback(), &Limits::default()).await.expect("a port");
        let Address::Udp(place) = server.address() else { panic!("not UDP") };
        let client = connect(&place, 0, &Limits::default()).await.expect("connected");
        (client, server)
    }

    async fn receive(socket: &mut Box<dyn Datagrams>, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let (mut inbox, mut all) = (Inbox::default(), Vec::new());
        while all.len() < count {
            inbox.clear();
            poll_fn(|cx| socket.poll_receive(cx, &mut inbox)).await.expect("received");
            all.extend(inbox.iter().map(|received| (received.from, received.bytes.to_vec())));
        }
        all
    }

    #[tokio::test]
    async fn a_batch_arrives_as_the_datagrams_that_it_was_made_of() {
        let (mut client, mut server) = pair().await;
        let bytes: Vec<u8> = (0..100_u32 * 1200 + 7).map(|byte| (byte / 1200) as u8).collect();
        let mut sent = 0;
        while sent < bytes.len() {
            let rest = &bytes[sent..];
            sent += poll_fn(|cx| client.poll_send(cx, Route::default(), rest, 1200))
                .await
                .expect("sent");
        }
        let all = receive(&mut server, 101).await;
        assert_eq!(all.len(), 101);
        for (index, (_, datagram)) in all.iter().enumerate() {
            assert_eq!(datagram.len(), if index < 100 { 1200 } else { 7 });
            assert!(datagram.iter().all(|&byte| usize::from(byte) == index));
        }
        let route = Route { peer: Some(all[0].0), local: None };
        poll_fn(|cx| server.poll_send(cx, route, b"back", 1200)).await.expect("sent");
        assert_eq!(receive(&mut client, 1).await[0].1, b"back");
    }

    #[tokio::test]
    async fn a_datagram_that_is_too_long_is_lost_and_hurts_no_other() {
        let (mut client, mut server) = pair().await;
        let long = vec![0; 70_000];
        poll_fn(|cx| client.poll_send(cx, Route::default(), &long, 70_000)).await.expect("lost");
        poll_fn(|cx| client.poll_send(cx, Route::default(), b"short", 70_000)).await.expect("sent");
        assert_eq!(receive(&mut server, 1).await[0].1, b"short");
    }

    #[tokio::test]
    async fn what_is_sent_to_many_is_not_taken() {
        let anywhere = HostPort::from(SocketAddr::from(([0, 0, 0, 0], 0)));
        let mut server = listen(&anywhere, &Limits::default()).await.expect("a port");
        let Address::Udp(place) = server.address() else { panic!("not UDP") };
        let client = UdpSocket::bind(("127.0.0.1", 0)).expect("a port");
        socket2::SockRef::from(&client)
            .set_multicast_if_v4(&Ipv4Addr::LOCALHOST)
            .expect("an interface");
        // Where the system does not bring this, nothing is to be ignored.
        let _ = client.send_to(b"to many", ("224.0.0.1", place.port));
        client.send_to(b"to one", ("127.0.0.1", place.port)).expect("sent");
        assert_eq!(receive(&mut server, 1).await[0].1, b"to one");
        for many in ["224.0.0.1", "255.255.255.255", "::ffff:239.1.2.3", "ff02::1"] {
            assert!(is_of_many(many.parse().expect("an address")), "{many}");
        }
        for one in ["127.0.0.1", "192.0.2.2", "::1", "fe80::1", "::ffff:192.0.2.2"] {
            assert!(!is_of_many(one.parse().expect("an address")), "{one}");
        }
    }

    #[tokio::test]
    async fn a_client_hears_that_nobody_listens() {
        let (mut client, server) = pair().await;
        drop(server);
        poll_fn(|cx| client.poll_send(cx, Route::default(), b"hello", 1200)).await.expect("sent");
        let mut inbox = Inbox::default();
        let refused = poll_fn(|cx| client.poll_receive(cx, &mut inbox)).await;
        assert_eq!(refused.expect_err("refused").kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_host_has_only_so_many_addresses() {
        let none = connect(&loopback(), 1, &Limits::default()).await.err().expect("one address");
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn an_address_for_which_no_socket_can_be_made_is_passed_over() {
        let six = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 7400));
        let [four, other] = [1, 2].map(|last| SocketAddr::from(([127, 0, 0, last], 7400)));
        let no_six = |peer: SocketAddr| match peer.is_ipv4() {
            true => Ok(()),
            false => Err(io::ErrorKind::Unsupported.into()),
        };
        let chosen = |choice| choose(&[six, four, other], choice, no_six).map(|((), peer)| peer);
        assert_eq!(chosen(0).expect("the next one"), four);
        assert_eq!(chosen(1).expect("the one after it"), other);
        assert_eq!(chosen(2).expect_err("no third").kind(), io::ErrorKind::Unsupported);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_the_kernel_drops_is_counted() {
        let limits = Limits { receive_buffer: 1, ..Limits::default() };
        let server = listen(&loopback(), &limits).await.expect("a port");
        let Address::Udp(place) = server.address() else { panic!("not UDP") };
        let mut client = connect(&place, 0, &limits).await.expect("connected");
        let number = server.kernel_number().expect("it has one");
        assert_eq!(dropped_by_kernel(&[number]), Some(0));
        for _ in 0..100 {
            let sent = poll_fn(|cx| client.poll_send(cx, Route::default(), &[7; 1200], 1200)).await;
            assert_eq!(sent.expect("sent"), 1200);
        }
        let dropped = dropped_by_kernel(&[number]).expect("the kernel tells");
        assert!((1..100).contains(&dropped), "{dropped} of 100 are lost in a small buffer");
        assert_eq!(dropped_by_kernel(&[]), Some(0));
    }

    #[test]
    fn of_the_kernels_table_each_row_of_these_sockets_counts_once() {
        let row = |number: u64, dropped: u64| {
            format!(
                "  83: 0100007F:1CE8 00000000:0000 07 00000000:00000000 00:00000000 00000000 \
                 0 0 {number} 2 0000000000000000 {dropped}"
            )
        };
        let table = [row(4711, 12), row(4712, 100), row(4713, 3), String::new(), row(4711, 13)];
        let dropped = |numbers: &[u64]| dropped_in(table.iter().map(String::as_str), numbers);
        assert_eq!(dropped(&[4711]), 13);
        assert_eq!(dropped(&[4711, 4713]), 16);
        assert_eq!(dropped(&[4714]), 0);
    }
}
