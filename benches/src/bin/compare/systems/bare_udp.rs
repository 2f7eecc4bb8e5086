//! Bare tokio sockets that carry one frame in each datagram, one system call for each.

use farcall_benches::bare::{self, Sizes};
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
        if load.depth == 1 {
            let (request, mut input) = (bare::frame(SMALL.request), vec![0; 1 << 16]);
            let call = async || bare_udp::round_trip(socket, &request, &mut input).await;
            return one_by_one(load, call).await;
        }
        let mut meter = Meter::new(load);
        bare_udp::in_flight(socket, SMALL, load.depth, |done| meter.goes_on(done)).await;
        meter.finish()
    }

    fn takes(load: &Load) -> bool {
        takes(load)
    }
}
