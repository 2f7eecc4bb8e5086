//! volo: Thrift over TCP, with many calls on one connection.

use std::net::{SocketAddr, TcpListener};

use bytes::Bytes;
use volo_thrift::ServerError;

use crate::callers::{self, Caller};
use crate::generated::calc_thrift::calc::calc::{Calc, CalcClient, CalcClientBuilder, CalcServer};
use crate::load::{Load, Outcome};
use crate::system::System;

struct Adder;

impl Calc for Adder {
    async fn add(&self, a: i64, b: i64) -> Result<i64, ServerError> {
        Ok(a.wrapping_add(b))
    }
    async fn echo(&self, v: Bytes) -> Result<Bytes, ServerError> {
        Ok(v)
    }
}

impl Caller for CalcClient {
    async fn add(&self, a: u64, b: u64) -> u64 {
        let sum = CalcClient::add(self, a.cast_signed(), b.cast_signed()).await;
        sum.expect("answered").cast_unsigned()
    }
    async fn echo(&self, bytes: &Bytes) -> usize {
        CalcClient::echo(self, bytes.clone()).await.expect("answered").len()
    }
}

pub(crate) struct Volo;

impl System for Volo {
    const NAME: &'static str = "volo";
    type Client = CalcClient;

    async fn serve() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        listener.set_nonblocking(true).expect("a socket");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
        let incoming = volo::net::incoming::DefaultIncoming::from(listener);
        tokio::spawn(CalcServer::new(Adder).multiplex(true).run(incoming));
        address
    }

    async fn connect(address: String) -> CalcClient {
        let address: SocketAddr = address.parse().expect("an address");
        let client = CalcClientBuilder::new("calc").multiplex(true).address(address).build();
        // It connects with its first call.
        Caller::add(&client, 0, 0).await;
        client
    }

    async fn run(clients: Vec<CalcClient>, load: Load) -> Outcome {
        callers::run(clients, load).await
    }
}
