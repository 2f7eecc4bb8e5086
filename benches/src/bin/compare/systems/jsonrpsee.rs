//! jsonrpsee: JSON-RPC over one web socket.

use std::sync::Arc;

use bytes::Bytes;
use jsonrpsee::core::{RpcResult, async_trait};
use jsonrpsee::proc_macros::rpc;
use jsonrpsee::server::{Server, ServerConfig};
use jsonrpsee::ws_client::{WsClient, WsClientBuilder};

use crate::callers::{self, Caller};
use crate::load::{Load, Outcome};
use crate::system::System;

/// Longest message; an array of bytes takes up to four characters for each in JSON.
const MESSAGE: u32 = 128 << 20;

#[rpc(server, client)]
pub(crate) trait Calculator {
    #[method(name = "add")]
    async fn add(&self, a: u64, b: u64) -> RpcResult<u64>;
    #[method(name = "echo")]
    async fn echo(&self, bytes: Vec<u8>) -> RpcResult<Vec<u8>>;
}

struct Adder;

#[async_trait]
impl CalculatorServer for Adder {
    async fn add(&self, a: u64, b: u64) -> RpcResult<u64> {
        Ok(a.wrapping_add(b))
    }
    async fn echo(&self, bytes: Vec<u8>) -> RpcResult<Vec<u8>> {
        Ok(bytes)
    }
}

impl Caller for Arc<WsClient> {
    async fn add(&self, a: u64, b: u64) -> u64 {
        CalculatorClient::add(&**self, a, b).await.expect("answered")
    }
    async fn echo(&self, bytes: &Bytes) -> usize {
        CalculatorClient::echo(&**self, bytes.to_vec()).await.expect("answered").len()
    }
}

pub(crate) struct Jsonrpsee;

impl System for Jsonrpsee {
    const NAME: &'static str = "jsonrpsee";
    type Client = Arc<WsClient>;

    async fn serve() -> String {
        let config = ServerConfig::builder()
            .max_connections(16_384)
            .set_message_buffer_capacity(8192)
            .max_request_body_size(MESSAGE)
            .max_response_body_size(MESSAGE)
            .build();
        let server = Server::builder().set_config(config).build("127.0.0.1:0");
        let server = server.await.expect("a port");
        let address = server.local_addr().expect("an address").to_string();
        // It ends with its handle.
        std::mem::forget(server.start(Adder.into_rpc()));
        address
    }

    async fn connect(address: String) -> Arc<WsClient> {
        let client = WsClientBuilder::default()
            .max_concurrent_requests(4096)
            .max_request_size(MESSAGE)
            .max_response_size(MESSAGE)
            .build(format!("ws://{address}"));
        Arc::new(client.await.expect("connected"))
    }

    async fn run(clients: Vec<Arc<WsClient>>, load: Load) -> Outcome {
        callers::run(clients, load).await
    }

    /// Megabytes of numbers in decimal take seconds each.
    fn takes(load: &Load) -> bool {
        load.beside.is_none()
    }
}
