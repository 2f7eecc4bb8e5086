//! Bare tokio sockets that carry one message in each datagram, one system call for each.

use farcall_benches::bare::Sizes;
use farcall_benches::bare_udp;
use tokio::net::UdpSocket;

use crate::load::{Load, Meter, Outcome, one_by_one};
use crate::system::System;

/// What farcall sends for a call of 16 bytes and for its answer of 8, each alone in a datagram.
pub(crate) const SMALL: Sizes = Sizes { request: 49, reply: 36 };

/// More of them at once do not fit into the buffer that the kernel gives a socket unasked.
const MOST_IN_FLIGHT: usize = 64;

pub(crate) fn takes(load: &Load) -> bool {
    load.connections == 1
        && load.depth <= MOST_IN_FLIGHT
        && load.echo.is_none()
        && load.beside.is_none()
}

pub(crate) struct BareUdp;

impl System for BareUdp {
    const NAME: &'static str = "bare udp";
    const DATAGRAMS: bool = true;
    type Client = UdpSocket;

    async fn serve() -> String {
        bare_udp::serve(SMALL).await.to_string()
    }

    async fn connect(address: String) -> UdpSocket {
        bare_udp::connected(address.parse().expect("an address")).await
    }

    async fn run(clients: Vec<UdpSocket>, load: Load) -> Outcome {
        let socket = &clients[0];
        let (request, mut reply) = (vec![1; SMALL.request], vec![0; 1 << 16]);
        if load.depth == 1 {
            let call = async || {
                socket.try_send(&request).expect("sent");
                while socket.try_recv(&mut reply).is_err() {
                    socket.readable().await.expect("a socket");
                }
            };
            return one_by_one(load, call).await;
        }
        let (mut meter, mut done, mut in_flight) = (Meter::new(load), 0, 0);
        while meter.goes_on(done) {
            while in_flight < load.depth && socket.try_send(&request).is_ok() {
                in_flight += 1;
            }
            while socket.try_recv(&mut reply).is_ok() {
                done += 1;
                in_flight -= 1;
            }
            if in_flight == load.depth {
                socket.readable().await.expect("a socket");
            }
        }
        meter.finish()
    }

    fn takes(load: &Load) -> bool {
        takes(load)
    }
}
