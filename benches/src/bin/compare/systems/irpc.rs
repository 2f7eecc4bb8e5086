//! irpc: a QUIC stream for each call, which its own library sets up with certificates that nobody checks.

use std::net::UdpSocket;

use bytes::Bytes;
use irpc::channel::oneshot;
use irpc::rpc::{RemoteService, listen};
use irpc::util::{make_insecure_client_endpoint, make_server_endpoint};
use irpc::{Client, WithChannels, rpc_requests};
use serde::{Deserialize, Serialize};

use crate::callers::{self, Caller};
use crate::load::{Load, Outcome};
use crate::system::System;

#[rpc_requests(message = Message, no_spans)]
#[derive(Serialize, Deserialize, Debug)]
pub(crate) enum Calculator {
    #[rpc(tx = oneshot::Sender<u64>)]
    Add(Add),
    #[rpc(tx = oneshot::Sender<Vec<u8>>)]
    Echo(Echo),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Add {
    a: u64,
    b: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Echo {
    bytes: Vec<u8>,
}

impl Caller for Client<Calculator> {
    async fn add(&self, a: u64, b: u64) -> u64 {
        self.rpc(Add { a, b }).await.expect("answered")
    }
    async fn echo(&self, bytes: &Bytes) -> usize {
        self.rpc(Echo { bytes: bytes.to_vec() }).await.expect("answered").len()
    }
}

pub(crate) struct Irpc;

impl System for Irpc {
    const NAME: &'static str = "irpc";
    const DATAGRAMS: bool = true;
    type Client = Client<Calculator>;

    async fn serve() -> String {
        let free = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let (endpoint, _) = make_server_endpoint(address).expect("the port is still free");
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<Message>(1024);
        tokio::spawn(async move {
            while let Some(message) = receiver.recv().await {
                tokio::spawn(answer(message));
            }
        });
        let local = Client::<Calculator>::local(sender);
        let handler = Calculator::remote_handler(local.as_local().expect("it is local"));
        tokio::spawn(listen(endpoint, handler));
        address.to_string()
    }

    async fn connect(address: String) -> Client<Calculator> {
        let here = "127.0.0.1:0".parse().expect("an address");
        let endpoint = make_insecure_client_endpoint(here).expect("a port");
        let client = Client::noq(endpoint, address.parse().expect("an address"));
        // It connects with its first call.
        Caller::add(&client, 0, 0).await;
        client
    }

    async fn run(clients: Vec<Client<Calculator>>, load: Load) -> Outcome {
        callers::run(clients, load).await
    }

    /// Its messages end at 16 MiB, with all that is around them.
    fn takes(load: &Load) -> bool {
        load.beside.is_none()
    }
}

async fn answer(message: Message) {
    // A caller that has gone needs no answer.
    match message {
        Message::Add(WithChannels { tx, inner, .. }) => {
            let _ = tx.send(inner.a.wrapping_add(inner.b)).await;
        }
        Message::Echo(WithChannels { tx, inner, .. }) => {
            let _ = tx.send(inner.bytes).await;
        }
    }
}
