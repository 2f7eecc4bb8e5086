//! TCP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};

use super::{Accepting, Listener, Stream};
use crate::address::{Address, Host, HostPort};

/// Tries the addresses of the host one after the other.
pub(super) async fn connect(place: &HostPort) -> io::Result<Stream> {
    let stream = match host(place) {
        Ok(address) => TcpStream::connect(address).await,
        Err(name) => TcpStream::connect(name).await,
    }?;
    let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
    not_itself(local, peer)?;
    tune(&stream, local, peer)?;
    Ok(Stream::Tcp(stream))
}

/// A call waits for nothing: small writes leave at once, and what is ready together leaves together. Nor does it wait
/// behind the megabytes of large messages that a kernel is ready to hold before it can send them, or before they are read
/// where the peer is on the same machine: there is no long path to be filled, and what stays in a processor's cache is
/// faster, too.
fn tune(stream: &TcpStream, local: SocketAddr, peer: SocketAddr) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if local.ip() == peer.ip() {
        // The kernel's own choice is slower, and no less right.
        let _ = socket2::SockRef::from(stream).set_send_buffer_size(LOCAL_BUFFER);
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // What the kernel does not know it does without.
        let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT);
    }
    Ok(())
}

/// A socket that connects to a port of its own host, where nobody listens, can have been given just that port: it reaches
/// itself, and keeps the port from the server that comes back.
///
/// # Errors
/// As if nobody were there.
pub(super) fn not_itself(local: SocketAddr, peer: SocketAddr) -> io::Result<()> {
    if local == peer { Err(io::ErrorKind::ConnectionRefused.into()) } else { Ok(()) }
}

/// Binds the first address of the host that can be bound.
pub(super) async fn listen(place: &HostPort) -> io::Result<Box<dyn Listener>> {
    let listener = match host(place) {
        Ok(address) => TcpListener::bind(address).await,
        Err(name) => TcpListener::bind(name).await,
    }?;
    // Once more, for a longer queue than tokio's; with the shorter one it works as well.
    let _ = socket2::SockRef::from(&listener).listen(BACKLOG);
    let address = listener.local_addr()?;
    Ok(Box::new(Tcp { listener, address }))
}

struct Tcp {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener for Tcp {
    fn address(&self) -> Address {
        Address::Tcp(self.address.into())
    }

    fn accept(&mut self) -> Accepting<'_> {
        Box::pin(async {
            let (stream, peer) = self.listener.accept().await?;
            tune(&stream, stream.local_addr()?, peer)?;
            let peer: Arc<str> = peer.to_string().into();
            Ok((Stream::Tcp(stream), peer))
        })
    }
}

/// Bytes that the kernel takes of a connection before it can send them. It takes more where they are on their way: the
/// speed of a long path does not depend on this.
const UNSENT: u32 = 128 << 10;

/// Bytes of a send buffer to a peer on the same machine. Linux doubles it, for what it needs besides; below that of one
/// segment of 64 KiB, each would wait for an acknowledgement that the peer delays by 40 ms.
const LOCAL_BUFFER: usize = 96 << 10;

/// Connections that the kernel keeps until they are accepted, if the system allows so many (`net.core.somaxconn`). One more
/// would have to try again after a second: all clients come at once when a server is back.
const BACKLOG: i32 = 4096;

/// A number needs no resolver.
fn host(place: &HostPort) -> Result<SocketAddr, (&str, u16)> {
    match &place.host {
        Host::Ip(number) => Ok(SocketAddr::new(*number, place.port)),
        Host::Name(name) => Err((name, place.port)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn many_clients_that_come_at_once_are_all_connected_before_one_is_accepted() {
        let place = HostPort { host: Host::Ip([127, 0, 0, 1].into()), port: 0 };
        let listener = listen(&place).await.expect("a port");
        let Address::Tcp(place) = listener.address() else { panic!("it is TCP") };
        let mut connected = Vec::new();
        for _ in 0..300 {
            let limit = Duration::from_secs(30);
            let stream = tokio::time::timeout(limit, connect(&place)).await.expect("there is room");
            connected.push(stream.expect("it listens"));
        }
    }

    /// Room of what is sent, as the kernel says it.
    fn send_buffer(stream: &TcpStream) -> usize {
        socket2::SockRef::from(stream).send_buffer_size().expect("a socket")
    }

    #[tokio::test]
    async fn to_the_same_machine_the_kernel_holds_little_on_both_sides() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let client = TcpStream::connect(address).await.expect("connected");
        let (server, _) = listener.accept().await.expect("accepted");
        for stream in [&client, &server] {
            assert!(send_buffer(stream) > 2 * LOCAL_BUFFER, "it would prove nothing");
            let [local, peer] = [stream.local_addr(), stream.peer_addr()];
            tune(stream, local.expect("bound"), peer.expect("connected")).expect("tuned");
            assert!(send_buffer(stream) <= 2 * LOCAL_BUFFER);
        }
    }
}
