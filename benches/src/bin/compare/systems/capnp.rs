//! capnp-rpc: Cap'n Proto over TCP, all on one thread, with buffers around the socket as its examples have.

use std::rc::Rc;

use bytes::Bytes;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{RpcSystem, twoparty};
use futures::AsyncReadExt as _;
use futures::io::{BufReader, BufWriter};
use send_wrapper::SendWrapper;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use crate::calc_capnp::calc;
use crate::callers::{self, Caller};
use crate::load::{Load, Outcome};
use crate::system::System;

struct Adder;

impl calc::Server for Adder {
    async fn add(
        self: Rc<Self>,
        arguments: calc::AddParams,
        mut results: calc::AddResults,
    ) -> Result<(), capnp::Error> {
        let arguments = arguments.get()?;
        results.get().set_sum(arguments.get_a().wrapping_add(arguments.get_b()));
        Ok(())
    }
    async fn echo(
        self: Rc<Self>,
        arguments: calc::EchoParams,
        mut results: calc::EchoResults,
    ) -> Result<(), capnp::Error> {
        results.get().set_v(arguments.get()?.get_v()?);
        Ok(())
    }
}

/// It never leaves its thread, which the loads do not know.
#[derive(Clone)]
pub(crate) struct Client(SendWrapper<calc::Client>);

impl Caller for Client {
    fn add(&self, a: u64, b: u64) -> impl Future<Output = u64> + Send {
        let mut request = self.0.add_request();
        SendWrapper::new(async move {
            request.get().set_a(a);
            request.get().set_b(b);
            let answer = request.send().promise.await.expect("answered");
            answer.get().expect("a result").get_sum()
        })
    }
    fn echo(&self, bytes: &Bytes) -> impl Future<Output = usize> + Send {
        let mut request = self.0.echo_request();
        request.get().set_v(bytes);
        SendWrapper::new(async move {
            let answer = request.send().promise.await.expect("answered");
            // A copy, as all others give their callers bytes to keep.
            answer.get().and_then(|result| result.get_v()).expect("a result").to_vec().len()
        })
    }
}

pub(crate) struct Capnp;

impl System for Capnp {
    const NAME: &'static str = "capnp-rpc";
    const LOCAL: bool = true;
    type Client = Client;

    async fn serve() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let object: calc::Client = capnp_rpc::new_client(Adder);
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let object = Some(object.clone().client);
                let system = RpcSystem::new(Box::new(network(stream, Side::Server)), object);
                tokio::task::spawn_local(system);
            }
        });
        address
    }

    async fn connect(address: String) -> Client {
        let stream = TcpStream::connect(address).await.expect("connected");
        let mut system = RpcSystem::new(Box::new(network(stream, Side::Client)), None);
        let object: calc::Client = system.bootstrap(Side::Server);
        tokio::task::spawn_local(system);
        // The connection is there when the object is.
        let client = Client(SendWrapper::new(object));
        client.add(0, 0).await;
        client
    }

    async fn run(clients: Vec<Client>, load: Load) -> Outcome {
        callers::run(clients, load).await
    }
}

type Network =
    twoparty::VatNetwork<BufReader<futures::io::ReadHalf<tokio_util::compat::Compat<TcpStream>>>>;

fn network(stream: TcpStream, side: Side) -> Network {
    stream.set_nodelay(true).expect("a socket");
    let (read, write) = stream.compat().split();
    let mut options = capnp::message::ReaderOptions::new();
    options.traversal_limit_in_words(Some(64 << 20));
    twoparty::VatNetwork::new(BufReader::new(read), BufWriter::new(write), side, options)
}
