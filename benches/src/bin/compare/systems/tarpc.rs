//! tarpc over TCP with bincode, as its examples do, with room for what is in flight.

use bytes::Bytes;
use futures::StreamExt as _;
use tarpc::server::{BaseChannel, Channel as _};
use tarpc::{client, context, server};
use tokio_serde::formats::Bincode;

use crate::callers::{self, Caller};
use crate::load::{Load, Outcome};
use crate::system::System;

/// Longest message.
const FRAME: usize = 32 << 20;

#[tarpc::service]
pub(crate) trait Calculator {
    async fn add(a: u64, b: u64) -> u64;
    async fn echo(bytes: Vec<u8>) -> Vec<u8>;
}

#[derive(Clone)]
struct Adder;

impl Calculator for Adder {
    async fn add(self, _: context::Context, a: u64, b: u64) -> u64 {
        a.wrapping_add(b)
    }
    async fn echo(self, _: context::Context, bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }
}

impl Caller for CalculatorClient {
    async fn add(&self, a: u64, b: u64) -> u64 {
        CalculatorClient::add(self, context::current(), a, b).await.expect("answered")
    }
    async fn echo(&self, bytes: &Bytes) -> usize {
        let echo = CalculatorClient::echo(self, context::current(), bytes.to_vec());
        echo.await.expect("answered").len()
    }
}

pub(crate) struct Tarpc;

impl System for Tarpc {
    const NAME: &'static str = "tarpc";
    type Client = CalculatorClient;

    async fn serve() -> String {
        let listening = tarpc::serde_transport::tcp::listen("127.0.0.1:0", Bincode::default);
        let mut listening = listening.await.expect("a port");
        let address = listening.local_addr().to_string();
        listening.config_mut().max_frame_length(FRAME);
        tokio::spawn(async move {
            while let Some(Ok(transport)) = listening.next().await {
                transport.get_ref().set_nodelay(true).expect("a socket");
                let config = server::Config { pending_response_buffer: 4096 };
                let channel = BaseChannel::new(config, transport);
                tokio::spawn(channel.execute(Adder.serve()).for_each(async |call| {
                    tokio::spawn(call);
                }));
            }
        });
        address
    }

    async fn connect(address: String) -> CalculatorClient {
        let mut transport = tarpc::serde_transport::tcp::connect(address, Bincode::default);
        transport.config_mut().max_frame_length(FRAME);
        let transport = transport.await.expect("connected");
        transport.get_ref().set_nodelay(true).expect("a socket");
        let mut config = client::Config::default();
        config.max_in_flight_requests = 4096;
        config.pending_request_buffer = 4096;
        CalculatorClient::new(config, transport).spawn()
    }

    async fn run(clients: Vec<CalculatorClient>, load: Load) -> Outcome {
        callers::run(clients, load).await
    }
}
