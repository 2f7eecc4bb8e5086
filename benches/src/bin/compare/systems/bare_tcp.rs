//! Bare tokio sockets that carry frames of the bytes of the calls, and do nothing else.

use farcall_benches::bare::{self, Sizes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::load::{Load, Outcome, Progress, one_by_one};
use crate::system::System;

/// What farcall sends for a call of 16 bytes and for its answer of 8, of the first 16,000 calls of a connection.
const FIRST: Sizes = Sizes { request: 24, reply: 12 };
/// The same of the calls behind them, of which there are many only if many are in flight.
const MANY: Sizes = Sizes { request: 26, reply: 13 };

pub(crate) fn sizes(load: &Load) -> Sizes {
    match load.echo {
        Some(size) => Sizes { request: size + bare::PREFIX, reply: size + bare::PREFIX },
        None if load.depth == 1 => FIRST,
        None => MANY,
    }
}

/// A connection begins with the sizes of what it will carry.
pub(crate) fn head(sizes: Sizes) -> [u8; 8] {
    let mut head = [0; 8];
    head[..4].copy_from_slice(&(sizes.request as u32).to_le_bytes());
    head[4..].copy_from_slice(&(sizes.reply as u32).to_le_bytes());
    head
}

/// The sizes that were written so.
pub(crate) fn sizes_in(head: [u8; 8]) -> Sizes {
    let both = u64::from_le_bytes(head);
    Sizes { request: both as u32 as usize, reply: (both >> 32) as usize }
}

pub(crate) struct BareTcp;

impl System for BareTcp {
    const NAME: &'static str = "bare tcp";
    type Client = TcpStream;

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

    async fn connect(address: String) -> TcpStream {
        let stream = TcpStream::connect(address).await.expect("connected");
        stream.set_nodelay(true).expect("a socket");
        stream
    }

    async fn run(clients: Vec<TcpStream>, load: Load) -> Outcome {
        let sizes = sizes(&load);
        if clients.len() == 1 && load.depth == 1 {
            let [mut stream] = <[TcpStream; 1]>::try_from(clients).expect("one connection");
            stream.write_all(&head(sizes)).await.expect("connected");
            let (request, mut input) = (bare::frame(sizes.request), vec![0; 1 << 16]);
            let call = async || bare::round_trip(&stream, &request, &mut input).await;
            return one_by_one(load, call).await;
        }
        let (mut progress, mut connections) = (Progress::default(), JoinSet::new());
        for mut stream in clients {
            let worker = progress.worker();
            connections.spawn(async move {
                stream.write_all(&head(sizes)).await.expect("connected");
                let mut seen = 0;
                let goes_on = |done: u64| {
                    if done > seen {
                        worker.add(done - seen);
                        seen = done;
                    }
                    worker.goes_on()
                };
                bare::in_flight(&stream, sizes, load.depth, goes_on).await;
            });
        }
        progress.watch(load).await
    }

    fn takes(load: &Load) -> bool {
        load.beside.is_none()
    }
}

async fn answer(mut stream: TcpStream) {
    let mut head = [0; 8];
    if stream.read_exact(&mut head).await.is_ok() {
        bare::answer(stream, sizes_in(head)).await;
    }
}
