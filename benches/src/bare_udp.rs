//! Bare tokio sockets that carry one frame in each datagram: what calls over UDP are compared with.
//!
//! The frames are those of [`bare`]; the server finds the request and writes a reply of its own for it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;

use crate::bare::{self, Finder, Sizes};

/// Answers each request with a reply.
///
/// # Panics
/// If loopback does not work.
pub async fn serve(sizes: Sizes) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("an address");
    tokio::spawn(async move {
        let (mut input, mut reply) = (vec![0; 1 << 16], Vec::new());
        while socket.readable().await.is_ok() {
            while let Ok((count, from)) = socket.try_recv_from(&mut input) {
                reply.clear();
                bare::answer_each(&input[..count], sizes.reply, &mut reply);
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
    let (request, mut input) = (bare::frame(sizes.request), vec![0; 1 << 16]);
    crate::latency(span, async || round_trip(&socket, &request, &mut input).await).await
}

/// Sends a request and waits for its reply.
///
/// # Panics
/// If a datagram is lost: on loopback with one in flight, none is.
pub async fn round_trip(socket: &UdpSocket, request: &[u8], input: &mut [u8]) {
    socket.try_send(request).expect("sent");
    loop {
        match socket.try_recv(input) {
            Ok(count) => break assert_eq!(Finder::default().ended(&input[..count]), 1),
            Err(_) => socket.readable().await.expect("a socket"),
        }
    }
}

/// Round trips per second with `depth` requests in flight.
///
/// # Panics
/// If loopback does not work.
pub async fn pipelined(address: SocketAddr, sizes: Sizes, depth: usize, span: Duration) -> f64 {
    let socket = connected(address).await;
    let start = crate::now();
    let mut all = 0;
    in_flight(&socket, sizes, depth, |done| {
        all = done;
        start.elapsed() <= span
    })
    .await;
    all as f64 / start.elapsed().as_secs_f64()
}

/// Keeps `depth` requests in flight for as long as `goes_on` says so, of the round trips done so far.
///
/// # Panics
/// If loopback does not work.
pub async fn in_flight(
    socket: &UdpSocket,
    sizes: Sizes,
    depth: usize,
    mut goes_on: impl FnMut(u64) -> bool,
) {
    let (request, mut input) = (bare::frame(sizes.request), vec![0; 1 << 16]);
    let (mut done, mut in_flight) = (0_u64, 0);
    let mut replies = Finder::default();
    while goes_on(done) {
        while in_flight < depth && socket.try_send(&request).is_ok() {
            in_flight += 1;
        }
        while let Ok(count) = socket.try_recv(&mut input) {
            let ended = replies.ended(&input[..count]);
            done += ended as u64;
            in_flight -= ended;
        }
        if in_flight == depth {
            socket.readable().await.expect("a socket");
        }
    }
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
