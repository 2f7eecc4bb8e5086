//! Bare sockets that carry one frame in each datagram, but many datagrams in each system call: the kernel cuts what is
//! sent and joins what is received.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;

use farcall_benches::bare::{self, Finder};
use farcall_benches::bare_udp;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::load::{Load, Meter, Outcome};
use crate::system::System;
use crate::systems::bare_udp::{SMALL, takes};

pub(crate) struct BatchedUdp;

impl System for BatchedUdp {
    const NAME: &'static str = "batched udp";
    const DATAGRAMS: bool = true;
    type Client = (UdpSocket, SocketAddr);

    async fn serve() -> String {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("an address").to_string();
        tokio::spawn(async move {
            let mut batches = Batches::new(socket);
            let mut replies = Vec::new();
            loop {
                replies.clear();
                let answer = |piece: &[u8]| {
                    bare::answer_each(piece, SMALL.reply, &mut replies);
                };
                let Ok(from) = batches.receive(answer).await else { return };
                batches.send(from, &replies, SMALL.reply).await;
            }
        });
        address
    }

    async fn connect(address: String) -> (UdpSocket, SocketAddr) {
        let address = address.parse().expect("an address");
        (bare_udp::connected(address).await, address)
    }

    async fn run(clients: Vec<(UdpSocket, SocketAddr)>, load: Load) -> Outcome {
        let [(socket, address)] =
            <[(UdpSocket, SocketAddr); 1]>::try_from(clients).expect("one connection");
        let mut batches = Batches::new(socket);
        let requests = bare::frame(SMALL.request).repeat(load.depth);
        let (mut meter, mut done, mut wanted) = (Meter::new(load), 0, load.depth);
        while meter.goes_on(done) {
            batches.send(address, &requests[..wanted * SMALL.request], SMALL.request).await;
            wanted = 0;
            let count = |piece: &[u8]| wanted += Finder::default().ended(piece);
            batches.receive(count).await.expect("a socket");
            done += wanted as u64;
        }
        meter.finish()
    }

    fn takes(load: &Load) -> bool {
        takes(load) && load.depth > 1
    }
}

/// Buffers that one system call fills, and the bytes that the kernel joins in one.
const SLOTS: usize = 8;
const SLOT_BYTES: usize = 1 << 16;

/// A socket with its buffers.
struct Batches {
    socket: UdpSocket,
    kernel: UdpSocketState,
    slots: Vec<Vec<u8>>,
}

impl Batches {
    fn new(socket: UdpSocket) -> Batches {
        let kernel = UdpSocketState::new((&socket).into()).expect("a socket");
        Batches { socket, kernel, slots: vec![vec![0; SLOT_BYTES]; SLOTS] }
    }

    /// Gives what came, in pieces of whole frames; from whom the first of them is.
    async fn receive(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<SocketAddr> {
        let mut metas = [RecvMeta::default(); SLOTS];
        let (socket, kernel, slots) = (&self.socket, &self.kernel, &mut self.slots);
        let received = socket.async_io(Interest::READABLE, || {
            let mut buffers = slots.iter_mut();
            let mut buffers: [IoSliceMut<'_>; SLOTS] = std::array::from_fn(|_| {
                IoSliceMut::new(buffers.next().expect("a buffer for each slot"))
            });
            kernel.recv(socket.into(), &mut buffers, &mut metas)
        });
        let filled = received.await?;
        for (slot, meta) in slots.iter().zip(&metas[..filled]) {
            take(&slot[..meta.len]);
        }
        Ok(metas[0].addr)
    }

    /// Sends messages of this size.
    async fn send(&self, destination: SocketAddr, bytes: &[u8], size: usize) {
        for contents in bytes.chunks(self.kernel.max_gso_segments().max(1) * size) {
            let transmit = Transmit {
                destination,
                ecn: None,
                contents,
                segment_size: Some(size),
                src_ip: None,
            };
            let sent = self.socket.async_io(Interest::WRITABLE, || {
                self.kernel.try_send((&self.socket).into(), &transmit)
            });
            sent.await.expect("sent");
        }
    }
}
