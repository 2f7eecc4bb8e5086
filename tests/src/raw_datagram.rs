//! The datagrams of the protocol by hand, for peers that misbehave over UDP.
//!
//! Written a second time, apart from the runtime's own encoder, so that a mistake there is not repeated here.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;

use crate::datagram_proxy::{DatagramKind, HEADER, SUM};
use crate::fault_proxy::FrameKind;
use crate::raw::{self, number, varint};

/// A socket that sends what it likes to one server, and counts both ways.
pub struct RawUdp {
    socket: UdpSocket,
    buffer: Vec<u8>,
    /// Bytes that were sent.
    pub sent: u64,
    /// Bytes that were received.
    pub received: u64,
}

impl RawUdp {
    /// A socket of its own port on loopback, that hears only this server.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn new(server: SocketAddr) -> io::Result<RawUdp> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        socket.connect(server).await?;
        Ok(RawUdp { socket, buffer: vec![0; 65_536], sent: 0, received: 0 })
    }

    /// Sends a datagram, whatever it is. A server that is not there is no error.
    pub async fn send(&mut self, datagram: &[u8]) {
        if self.socket.send(datagram).await.is_ok() {
            self.sent += datagram.len() as u64;
        }
    }

    /// The next datagram, if one comes within this time.
    pub async fn receive(&mut self, limit: Duration) -> Option<Vec<u8>> {
        let received = tokio::time::timeout(limit, self.socket.recv(&mut self.buffer)).await;
        let length = received.ok()?.ok()?;
        self.received += length as u64;
        Some(self.buffer[..length].to_vec())
    }

    /// All that has arrived already.
    pub fn drain(&mut self) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        while let Ok(length) = self.socket.try_recv(&mut self.buffer) {
            self.received += length as u64;
            datagrams.push(self.buffer[..length].to_vec());
        }
        datagrams
    }

    /// Opens a session as any client would; gives the link.
    ///
    /// # Errors
    /// The server does not answer as it must.
    pub async fn greet(&mut self, client: u64) -> io::Result<u64> {
        let mut cookie = None;
        for _ in 0..10 {
            self.send(&hello(client, cookie, 1200)).await;
            let Some(answer) = self.receive(Duration::from_secs(1)).await else { continue };
            match DatagramKind::of(&answer) {
                DatagramKind::Retry => cookie = answer.get(9..17).map(big_endian),
                DatagramKind::Welcome => {
                    let link = answer.get(9..17).map(big_endian);
                    return link.ok_or_else(|| io::Error::other("a short welcome"));
                }
                other => return Err(io::Error::other(format!("no welcome but {other:?}"))),
            }
        }
        Err(io::Error::other("no answer"))
    }
}

/// HELLO of a client by number, padded to so many bytes.
#[must_use]
pub fn hello(client: u64, cookie: Option<u64>, padded_to: usize) -> Vec<u8> {
    let mut body = b"farc".to_vec();
    body.push(1);
    body.extend_from_slice(&[client.to_be_bytes(), (!client).to_be_bytes()].concat());
    body.extend_from_slice(&client.wrapping_mul(NONCE_FACTOR).to_be_bytes());
    body.extend_from_slice(&varint(1));
    body.extend_from_slice(&varint(1 << 20));
    let mut datagram = vec![0];
    datagram.extend_from_slice(&varint(1200));
    datagram.push(if cookie.is_some() { 8 } else { 0 });
    datagram.extend_from_slice(&cookie.map(u64::to_be_bytes).map_or(Vec::new(), Vec::from));
    datagram.extend_from_slice(&raw::frame(FrameKind::HELLO, 0, &body));
    datagram.resize(datagram.len().max(padded_to.saturating_sub(4)), 0);
    sealed(datagram)
}

/// Frames on a link.
#[must_use]
pub fn data(link: u64, packet: u32, frames: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0x40];
    datagram.extend_from_slice(&link.to_be_bytes());
    datagram.extend_from_slice(&packet.to_be_bytes());
    datagram.extend_from_slice(frames);
    sealed(datagram)
}

/// The link or nonce that a DATA datagram carries, and its frames.
#[must_use]
pub fn opened(datagram: &[u8]) -> Option<(u64, &[u8])> {
    if DatagramKind::of(datagram) != DatagramKind::Data {
        return None;
    }
    let frames = datagram.get(HEADER..datagram.len().checked_sub(SUM)?)?;
    Some((big_endian(datagram.get(1..9)?), frames))
}

/// The body of the first frame of this kind among frames.
#[must_use]
pub fn body_of(kind: FrameKind, mut frames: &[u8]) -> Option<Vec<u8>> {
    while let Some((length, used)) = number(frames) {
        let frame = frames.get(used..used.checked_add(length as usize)?)?;
        if *frame.first()? >> 3 == kind.0 {
            return Some(frame[1..].to_vec());
        }
        frames = &frames[used + frame.len()..];
    }
    None
}

/// A datagram with its sum.
#[must_use]
pub fn sealed(mut datagram: Vec<u8>) -> Vec<u8> {
    let sum = crc32c::crc32c(&datagram);
    datagram.extend_from_slice(&sum.to_be_bytes());
    datagram
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Makes nonces of different clients differ in every byte.
const NONCE_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
