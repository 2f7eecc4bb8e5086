//! tonic: gRPC over one HTTP/2 connection, with windows that do not hold large messages up.

use bytes::Bytes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

use crate::callers::{self, Caller};
use crate::generated::calc_proto::calc_client::CalcClient;
use crate::generated::calc_proto::calc_server::{Calc, CalcServer};
use crate::generated::calc_proto::{AddRep, AddReq, Blob};
use crate::load::{Load, Outcome};
use crate::system::System;

/// Longest message.
const MESSAGE: usize = 32 << 20;

struct Adder;

#[tonic::async_trait]
impl Calc for Adder {
    async fn add(&self, request: Request<AddReq>) -> Result<Response<AddRep>, Status> {
        let AddReq { a, b } = request.into_inner();
        Ok(Response::new(AddRep { sum: a.wrapping_add(b) }))
    }
    async fn echo(&self, request: Request<Blob>) -> Result<Response<Blob>, Status> {
        Ok(Response::new(request.into_inner()))
    }
}

impl Caller for CalcClient<Channel> {
    async fn add(&self, a: u64, b: u64) -> u64 {
        let mut client = self.clone();
        CalcClient::add(&mut client, AddReq { a, b }).await.expect("answered").into_inner().sum
    }
    async fn echo(&self, bytes: &Bytes) -> usize {
        let mut client = self.clone();
        let echo = CalcClient::echo(&mut client, Blob { v: bytes.clone() });
        echo.await.expect("answered").into_inner().v.len()
    }
}

pub(crate) struct Tonic;

impl System for Tonic {
    const NAME: &'static str = "tonic";
    type Client = CalcClient<Channel>;

    async fn serve() -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let service = CalcServer::new(Adder)
            .max_decoding_message_size(MESSAGE)
            .max_encoding_message_size(MESSAGE);
        let server = Server::builder()
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(64 << 20)
            .max_concurrent_streams(Some(4096))
            .max_frame_size(Some(1 << 20))
            .add_service(service);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        tokio::spawn(server.serve_with_incoming(incoming));
        address
    }

    async fn connect(address: String) -> CalcClient<Channel> {
        let endpoint = Endpoint::new(format!("http://{address}"))
            .expect("an address")
            .tcp_nodelay(true)
            .buffer_size(4096)
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(64 << 20);
        CalcClient::new(endpoint.connect().await.expect("connected"))
            .max_decoding_message_size(MESSAGE)
            .max_encoding_message_size(MESSAGE)
    }

    async fn run(clients: Vec<CalcClient<Channel>>, load: Load) -> Outcome {
        callers::run(clients, load).await
    }
}
