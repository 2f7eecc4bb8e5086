//! Bare tokio sockets that carry the same bytes: the limit that a call is compared with.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};

/// Bytes of a request and of its reply on the wire.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Request.
    pub request: usize,
    /// Reply.
    pub reply: usize,
}

/// Answers each request with a reply.
///
/// # Panics
/// If loopback does not work.
pub async fn serve(sizes: Sizes) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).expect("a socket");
            tokio::spawn(answer(stream, sizes));
        }
    });
    address
}

/// Answers until the connection ends.
pub async fn answer(stream: TcpStream, sizes: Sizes) {
    let (mut input, mut waiting) = (vec![0; 1 << 16], 0);
    let replies = vec![7; 1 << 16];
    loop {
        match stream.try_read(&mut input) {
            Ok(0) => return,
            Ok(count) => {
                waiting += count;
                let mut left = waiting / sizes.request * sizes.reply;
                waiting %= sizes.request;
                while left > 0 {
                    match stream.try_write(&replies[..left.min(replies.len())]) {
                        Ok(count) => left -= count,
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                            if stream.writable().await.is_err() {
                                return;
                            }
                        }
                        Err(_) => return,
                    }
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if stream.readable().await.is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// Median nanoseconds of a round trip.
///
/// # Panics
/// If the connection fails.
pub async fn ping_pong(address: SocketAddr, sizes: Sizes, span: Duration) -> f64 {
    let stream = TcpStream::connect(address).await.expect("connected");
    stream.set_nodelay(true).expect("a socket");
    let (request, mut reply) = (vec![1; sizes.request], vec![0; sizes.reply]);
    crate::latency(span, async || round_trip(&stream, &request, &mut reply).await).await
}

/// Sends a small request and waits for its reply.
///
/// # Panics
/// If the connection fails.
pub async fn round_trip(stream: &TcpStream, request: &[u8], reply: &mut [u8]) {
    assert_eq!(stream.try_write(request).expect("written"), request.len());
    let mut got = 0;
    while got < reply.len() {
        match stream.try_read(&mut reply[got..]) {
            Ok(count) => got += count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                stream.readable().await.expect("connected");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Round trips per second with `depth` requests in flight on one connection.
///
/// # Panics
/// If the connection fails.
pub async fn pipelined(address: SocketAddr, sizes: Sizes, depth: usize, span: Duration) -> f64 {
    let stream = TcpStream::connect(address).await.expect("connected");
    stream.set_nodelay(true).expect("a socket");
    let start = crate::now();
    let mut all = 0;
    in_flight(&stream, sizes, depth, |done| {
        all = done;
        start.elapsed() <= span
    })
    .await;
    all as f64 / start.elapsed().as_secs_f64()
}

/// Keeps `depth` requests in flight for as long as `goes_on` says so, of the round trips done so far.
///
/// # Panics
/// If the connection fails.
pub async fn in_flight(
    stream: &TcpStream,
    sizes: Sizes,
    depth: usize,
    mut goes_on: impl FnMut(u64) -> bool,
) {
    let requests = vec![1; (sizes.request * depth).min(LONGEST_WRITE)];
    let mut input = vec![0; 1 << 18];
    let (mut sent, mut received, mut done) = (0_usize, 0_usize, 0_usize);
    while goes_on(done as u64) {
        let wanted = (done + depth) * sizes.request - sent;
        let mut wrote = false;
        if wanted > 0
            && let Ok(count) = stream.try_write(&requests[..wanted.min(requests.len())])
        {
            sent += count;
            wrote = true;
        }
        match stream.try_read(&mut input) {
            Ok(0) => panic!("the server closed"),
            Ok(count) => {
                received += count;
                done = received / sizes.reply;
            }
            Err(_) if wrote => {}
            Err(_) => {
                let writing = if wanted > 0 { Interest::WRITABLE } else { Interest::READABLE };
                stream.ready(Interest::READABLE | writing).await.expect("connected");
            }
        }
    }
}

/// Bytes that are offered to the socket at once.
const LONGEST_WRITE: usize = 1 << 18;
