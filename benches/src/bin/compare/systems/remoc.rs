//! remoc: a remote trait over a channel multiplexer on TCP.

use std::sync::Arc;

use bytes::Bytes;
use remoc::codec;
use remoc::prelude::*;
use remoc::rtc::CallError;
use tokio::net::{TcpListener, TcpStream};

use crate::callers::{self, Caller};
use crate::load::{Load, Outcome};
use crate::system::System;

#[rtc::remote]
pub(crate) trait Calculator {
    async fn add(&self, a: u64, b: u64) -> Result<u64, CallError>;
    async fn echo(&self, bytes: Vec<u8>) -> Result<Vec<u8>, CallError>;
}

struct Adder;

impl Calculator for Adder {
    async fn add(&self, a: u64, b: u64) -> Result<u64, CallError> {
        Ok(a.wrapping_add(b))
    }
    async fn echo(&self, bytes: Vec<u8>) -> Result<Vec<u8>, CallError> {
        Ok(bytes)
    }
}

impl Caller for CalculatorClient {
    async fn add(&self, a: u64, b: u64) -> u64 {
        Calculator::add(self, a, b).await.expect("answered")
    }
    async fn echo(&self, bytes: &Bytes) -> usize {
        Calculator::echo(self, bytes.to_vec()).await.expect("answered").len()
    }
}

pub(crate) struct Remoc;

impl System for Remoc {
    const NAME: &'static str = "remoc";
    type Client = CalculatorClient;

    async fn serve() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("a socket");
                tokio::spawn(answer(stream));
            }
        });
        address
    }

    async fn connect(address: String) -> CalculatorClient {
        let stream = TcpStream::connect(address).await.expect("connected");
        stream.set_nodelay(true).expect("a socket");
        let (read, write) = stream.into_split();
        let connection = remoc::Connect::io(remoc::Cfg::default(), read, write);
        connection.consume().await.expect("connected")
    }

    async fn run(clients: Vec<CalculatorClient>, load: Load) -> Outcome {
        callers::run(clients, load).await
    }

    /// It refuses messages of 16 MiB with what is around them.
    fn takes(load: &Load) -> bool {
        load.beside.is_none()
    }
}

async fn answer(stream: TcpStream) {
    let (read, write) = stream.into_split();
    let (server, client) = CalculatorServerShared::<_, codec::Default>::new(Arc::new(Adder));
    let connection = remoc::Connect::io(remoc::Cfg::default(), read, write);
    let provided = connection.provide(client).await;
    if provided.is_ok() {
        let _ = server.serve().await;
    }
}
