//! Bare tokio sockets that carry frames of the same bytes: the limit that a call is compared with.
//!
//! A frame is four bytes that say how many are behind them, and these. The server finds each request behind its length
//! and writes a reply of its own for it, with the request's bytes in it; what was found in one read is answered in one
//! write. The client sends requests that it made once, and finds each reply. Bodies that are longer than
//! [`LONGEST_COPY`] are echoed as they come, without a copy and before they are whole.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};

/// Bytes of the length before a frame.
pub const PREFIX: usize = 4;

/// Bytes of the longest frame that is answered by a copy.
pub const LONGEST_COPY: usize = 4 << 10;

/// Bytes that are offered to the socket at once, if a frame is not longer.
const LONGEST_WRITE: usize = 1 << 18;

/// Bytes of a request and of its reply on the wire, with their lengths.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Request.
    pub request: usize,
    /// Reply, not longer than the request.
    pub reply: usize,
}

/// A frame of so many bytes.
#[must_use]
pub fn frame(size: usize) -> Vec<u8> {
    let mut frame = vec![1; size];
    frame[..PREFIX].copy_from_slice(&((size - PREFIX) as u32).to_le_bytes());
    frame
}

/// Bytes of the frame that begins here, as its length says; nothing if that is not all there.
fn length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.first_chunk().map(|prefix| u32::from_le_bytes(*prefix))?;
    Some(length as usize + PREFIX)
}

/// Writes a reply for each request that is whole; how many bytes of input they were.
pub fn answer_each(input: &[u8], reply: usize, output: &mut Vec<u8>) -> usize {
    let mut read = 0;
    while let Some(request) = length(&input[read..])
        && let Some(request) = input[read..].get(..request)
    {
        output.extend_from_slice(&((reply - PREFIX) as u32).to_le_bytes());
        output.extend_from_slice(&request[PREFIX..reply]);
        read += request.len();
    }
    read
}

/// Finds frames in a stream that comes in pieces.
#[derive(Debug, Default)]
pub struct Finder {
    prefix: [u8; PREFIX],
    /// How many of the length's bytes are there.
    known: usize,
    /// Bytes of the frame that are still to come.
    left: usize,
}

impl Finder {
    /// Takes the next piece; how many frames end in it.
    pub fn ended(&mut self, mut piece: &[u8]) -> usize {
        let mut ended = 0;
        while !piece.is_empty() {
            if self.known < PREFIX {
                let count = piece.len().min(PREFIX - self.known);
                self.prefix[self.known..][..count].copy_from_slice(&piece[..count]);
                self.known += count;
                piece = &piece[count..];
                if self.known == PREFIX {
                    self.left = u32::from_le_bytes(self.prefix) as usize;
                }
            }
            let count = piece.len().min(self.left);
            self.left -= count;
            piece = &piece[count..];
            if self.known == PREFIX && self.left == 0 {
                self.known = 0;
                ended += 1;
            }
        }
        ended
    }
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
    let (mut input, mut waiting) = (vec![0; 1 << 18], 0);
    let mut output = Vec::with_capacity(1 << 18);
    while let Some(count) = read(&stream, &mut input[waiting..]).await {
        waiting += count;
        if sizes.request > LONGEST_COPY {
            if !write(&stream, &input[..waiting]).await {
                return;
            }
            waiting = 0;
            continue;
        }
        let read = answer_each(&input[..waiting], sizes.reply, &mut output);
        input.copy_within(read..waiting, 0);
        waiting -= read;
        if !write(&stream, &output).await {
            return;
        }
        output.clear();
    }
}

/// Waits for bytes; nothing if there will be none.
async fn read(stream: &TcpStream, input: &mut [u8]) -> Option<usize> {
    loop {
        match stream.try_read(input) {
            Ok(0) => return None,
            Ok(count) => return Some(count),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                stream.readable().await.ok()?;
            }
            Err(_) => return None,
        }
    }
}

/// Writes all of it; false if that failed.
async fn write(stream: &TcpStream, mut output: &[u8]) -> bool {
    while !output.is_empty() {
        match stream.try_write(output) {
            Ok(count) => output = &output[count..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if stream.writable().await.is_err() {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
    true
}

/// Median nanoseconds of a round trip.
///
/// # Panics
/// If the connection fails.
pub async fn ping_pong(address: SocketAddr, sizes: Sizes, span: Duration) -> f64 {
    let stream = TcpStream::connect(address).await.expect("connected");
    stream.set_nodelay(true).expect("a socket");
    let (request, mut reply) = (frame(sizes.request), vec![0; 1 << 16]);
    crate::latency(span, async || round_trip(&stream, &request, &mut reply).await).await
}

/// Sends a small request and waits for its reply.
///
/// # Panics
/// If the connection fails, or if the reply does not fit.
pub async fn round_trip(stream: &TcpStream, request: &[u8], input: &mut [u8]) {
    assert_eq!(stream.try_write(request).expect("written"), request.len());
    let mut got = 0;
    while length(&input[..got]).is_none_or(|reply| got < reply) {
        got += read(stream, &mut input[got..]).await.expect("connected");
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
    let requests = frame(sizes.request).repeat(depth.min(LONGEST_WRITE / sizes.request).max(1));
    let (mut input, mut replies) = (vec![0; 1 << 18], Finder::default());
    let (mut sent, mut done) = (0_usize, 0_usize);
    while goes_on(done as u64) {
        let wanted = (done + depth) * sizes.request - sent;
        let mut wrote = false;
        if wanted > 0 {
            let (before, first) = requests.split_at(sent % requests.len());
            let first = &first[..wanted.min(first.len())];
            let second = &before[..(wanted - first.len()).min(before.len())];
            let both = [IoSlice::new(first), IoSlice::new(second)];
            if let Ok(count) = stream.try_write_vectored(&both) {
                sent += count;
                wrote = true;
            }
        }
        match stream.try_read(&mut input) {
            Ok(0) => panic!("the server closed"),
            Ok(count) => done += replies.ended(&input[..count]),
            Err(_) if wrote => {}
            Err(_) => {
                let writing = if wanted > 0 { Interest::WRITABLE } else { Interest::READABLE };
                stream.ready(Interest::READABLE | writing).await.expect("connected");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_wherever_a_stream_is_cut() {
        let stream: Vec<u8> = [4, 5, 30, 9].into_iter().flat_map(frame).collect();
        for size in 1..stream.len() {
            let mut finder = Finder::default();
            let ended: usize = stream.chunks(size).map(|piece| finder.ended(piece)).sum();
            assert_eq!(ended, 4, "in pieces of {size}");
        }
    }

    #[test]
    fn each_whole_request_is_answered_by_a_frame_of_its_own() {
        let mut input = frame(26).repeat(3);
        input.truncate(70);
        let mut output = Vec::new();
        assert_eq!(answer_each(&input, 13, &mut output), 52);
        assert_eq!(output, frame(13).repeat(2));
    }
}
