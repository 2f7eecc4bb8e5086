//! The protocol spoken by hand, for peers that misbehave: frames as bytes, a client and a server that send what they
//! like.
//!
//! Written a second time, apart from the runtime's own encoder, so that a mistake there is not repeated here.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::fault_proxy::FrameKind;

/// One side of a connection that sends what it likes.
pub struct Raw {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Raw {
    /// Connects, and says nothing.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn connect(address: SocketAddr) -> io::Result<Raw> {
        Ok(Raw::new(TcpStream::connect(address).await?))
    }

    /// Takes a connection over.
    #[must_use]
    pub fn new(stream: TcpStream) -> Raw {
        Raw { stream, received: Vec::new() }
    }

    /// Connects and opens a session, as any client would.
    ///
    /// # Errors
    /// Those of the system, and an end of the stream if the server refuses.
    pub async fn greet(address: SocketAddr) -> io::Result<Raw> {
        let mut raw = Raw::connect(address).await?;
        raw.send(&hello(1)).await?;
        match raw.frame().await? {
            (FrameKind::WELCOME, _, _) => Ok(raw),
            other => Err(io::Error::other(format!("no welcome but {other:?}"))),
        }
    }

    /// As [`greet`](Raw::greet), and looks up the object `work` under handle 0, with one method.
    ///
    /// # Errors
    /// Those of [`greet`](Raw::greet).
    pub async fn greet_and_look(address: SocketAddr, method: u32) -> io::Result<Raw> {
        let mut raw = Raw::greet(address).await?;
        raw.send(&lookup(0, "work", &[method])).await?;
        match raw.frame().await? {
            (FrameKind::BOUND, 0, _) => Ok(raw),
            other => Err(io::Error::other(format!("not bound but {other:?}"))),
        }
    }

    /// Sends bytes, whatever they are.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next frame: kind, flags and body.
    ///
    /// # Errors
    /// An end of the stream, or whatever the system says.
    pub async fn frame(&mut self) -> io::Result<(FrameKind, u8, Vec<u8>)> {
        loop {
            if let Some((length, used)) = number(&self.received) {
                let end = used + length as usize;
                if length > 0 && self.received.len() >= end {
                    let frame: Vec<u8> = self.received.drain(..end).skip(used).collect();
                    return Ok((FrameKind(frame[0] >> 3), frame[0] & 7, frame[1..].to_vec()));
                }
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Waits for a frame of this kind and drops others.
    ///
    /// # Errors
    /// Those of [`frame`](Raw::frame).
    pub async fn frame_of(&mut self, kind: FrameKind) -> io::Result<(u8, Vec<u8>)> {
        loop {
            let (found, flags, body) = self.frame().await?;
            if found == kind {
                return Ok((flags, body));
            }
        }
    }

    /// Whether the other side ends the connection within this time. What it still sends is dropped.
    pub async fn ends_within(&mut self, limit: Duration) -> bool {
        let end = async {
            let mut bytes = vec![0; 4096];
            while matches!(self.stream.read(&mut bytes).await, Ok(1..)) {}
        };
        tokio::time::timeout(limit, end).await.is_ok()
    }

    /// The connection itself.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}

/// A whole frame.
#[must_use]
pub fn frame(kind: FrameKind, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = varint(body.len() as u64 + 1);
    frame.push(kind.0 << 3 | flags);
    frame.extend_from_slice(body);
    frame
}

/// HELLO of a client of its own, which asks for a new session.
#[must_use]
pub fn hello(link: u64) -> Vec<u8> {
    frame(FrameKind::HELLO, 0, &hello_body(*b"farc", 1, link))
}

/// The body of a HELLO.
#[must_use]
pub fn hello_body(magic: [u8; 4], version: u8, link: u64) -> Vec<u8> {
    let mut body = magic.to_vec();
    body.push(version);
    body.extend_from_slice(&[CLIENT; 16]);
    body.extend_from_slice(&77_u64.to_be_bytes());
    body.extend_from_slice(&varint(link));
    body.extend_from_slice(&varint(16 << 20));
    body
}

/// HELLO of a client with this id, which is 16 times the byte, that asks to go on with a session.
#[must_use]
pub fn resuming(client: u8, link: u64, session: &[u8]) -> Vec<u8> {
    let mut body = hello_body(*b"farc", 1, link);
    body[5..21].fill(client);
    body.extend_from_slice(session);
    // Nothing is finished: all calls from the first on.
    body.extend_from_slice(&varint(1));
    body.push(0);
    frame(FrameKind::HELLO, 1, &body)
}

/// The session's id in the body of a WELCOME.
///
/// # Panics
/// If it is shorter than any WELCOME.
#[must_use]
pub fn session_of(welcome: &[u8]) -> &[u8] {
    &welcome[32..40]
}

/// WELCOME to a new session, in answer to the body of a HELLO.
#[must_use]
pub fn welcome(hello: &[u8], session: u64) -> Vec<u8> {
    let nonce = hello.get(21..29).unwrap_or(&[0; 8]);
    let mut body = nonce.to_vec();
    body.extend_from_slice(&[8; 16]);
    body.extend_from_slice(&1_u64.to_be_bytes());
    body.extend_from_slice(&session.to_be_bytes());
    for number in [1024, 64 << 20, 64 << 20, 16 << 20] {
        body.extend_from_slice(&varint(number));
    }
    body.push(0);
    frame(FrameKind::WELCOME, 0, &body)
}

/// LOOKUP of a `Work` with these methods, of which maybe is expected.
#[must_use]
pub fn lookup(handle: u64, object: &str, methods: &[u32]) -> Vec<u8> {
    let mut body = varint(handle);
    for text in [object, "Work"] {
        body.extend_from_slice(&varint(text.len() as u64));
        body.extend_from_slice(text.as_bytes());
    }
    body.extend_from_slice(&varint(methods.len() as u64));
    for method in methods {
        body.extend_from_slice(&method.to_be_bytes());
        body.push(0);
    }
    frame(FrameKind::LOOKUP, 0, &body)
}

/// CALL of a method of handle 0, all calls below which are unfinished.
#[must_use]
pub fn call(seq: u64, method: u64, arguments: &[u8]) -> Vec<u8> {
    let mut body = varint(seq);
    let back = seq - 1;
    if back > 0 {
        body.extend_from_slice(&varint(back));
    }
    body.push(0);
    body.extend_from_slice(&varint(method));
    body.extend_from_slice(arguments);
    frame(FrameKind::CALL, u8::from(back > 0), &body)
}

/// A frame whose body is one number: RESOLVE, EXECUTING, STALE.
#[must_use]
pub fn with_seq(kind: FrameKind, seq: u64) -> Vec<u8> {
    frame(kind, 0, &varint(seq))
}

/// The first fragment of a message of `total` bytes.
#[must_use]
pub fn first_fragment(seq: u64, total: u64, bytes: &[u8]) -> Vec<u8> {
    let body = [varint(seq), varint(total), bytes.to_vec()].concat();
    frame(FrameKind::FRAGMENT, 0, &body)
}

/// A number as the protocol writes it.
#[must_use]
pub fn varint(value: u64) -> Vec<u8> {
    let length = (64 - value.leading_zeros()).div_ceil(7).clamp(1, 9) as usize;
    if length == 9 {
        return [&[0xff][..], &value.to_be_bytes()].concat();
    }
    let mut bytes = value.to_be_bytes()[8 - length..].to_vec();
    bytes[0] |= !(0xff_u16 >> (length - 1)) as u8;
    bytes
}

/// The number that the bytes begin with, and how many bytes it takes.
#[must_use]
pub fn number(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let more = first.leading_ones() as usize;
    let own = u64::from(first) & (0x7f >> more);
    let rest = bytes.get(1..=more)?;
    Some((rest.iter().fold(own, |value, byte| value << 8 | u64::from(*byte)), more + 1))
}

/// Each byte of the id that these clients have.
pub const CLIENT: u8 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for value in
            [0, 1, 127, 128, 300, 16_383, 16_384, 1 << 40, (1 << 56) - 1, 1 << 56, u64::MAX]
        {
            let bytes = varint(value);
            assert_eq!(number(&bytes), Some((value, bytes.len())), "{value}");
        }
    }
}
