//! Bare tokio sockets that carry one message in each datagram: what calls over UDP are compared with.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;

use crate::bare::Sizes;

/// Answers each request with a reply.
///
/// # Panics
/// If loopback does not work.
pub async fn serve(sizes: Sizes) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("an address");
    tokio::spawn(async move {
        let (mut input, reply) = (vec![0; 1 << 16], vec![7; sizes.reply]);
        while socket.readable().await.is_ok() {
            while let Ok((_, from)) = socket.try_recv_from(&mut input) {
                if socket.try_send_to(&reply, from).is_err() {
                    let _ = socket.send_to(&reply, from).await;
                }
            }
        }
    });
    address
}

/// Median nanoseconds of a round trip.
///
/// # Panics
/// If a datagram is lost: on loopback with one in flight, none is.
pub async fn ping_pong(address: SocketAddr, sizes: Sizes, span: Duration) -> f64 {
    let socket = connected(address).await;
    let (request, mut reply) = (vec![1; sizes.request], vec![0; 1 << 16]);
    crate::latency(span, async || {
        socket.try_send(&request).expect("sent");
        while socket.try_recv(&mut reply).is_err() {
            socket.readable().await.expect("a socket");
        }
    })
    .await
}

/// Round trips per second with `depth` requests in flight.
///
/// # Panics
/// If loopback does not work.
pub async fn pipelined(address: SocketAddr, sizes: Sizes, depth: usize, span: Duration) -> f64 {
    let socket = connected(address).await;
    let (request, mut reply) = (vec![1; sizes.request], vec![0; 1 << 16]);
    let (mut done, mut in_flight) = (0_u64, 0);
    let start = crate::now();
    while start.elapsed() < span {
        while in_flight < depth && socket.try_send(&request).is_ok() {
            in_flight += 1;
        }
        while socket.try_recv(&mut reply).is_ok() {
            done += 1;
            in_flight -= 1;
        }
        if in_flight == depth {
            socket.readable().await.expect("a socket");
        }
    }
    done as f64 / start.elapsed().as_secs_f64()
}

/// A socket that is connected and knows that it can send.
///
/// # Panics
/// If loopback does not work.
pub async fn connected(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    socket.connect(address).await.expect("an address");
    // Until it was asked once, it does not know that it is.
    socket.writable().await.expect("a socket");
    socket
}
