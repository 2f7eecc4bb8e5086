//! Bare tokio sockets that carry the bytes of the calls in frames, and do nothing else.

use farcall_benches::bare::{self, Sizes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::load::{Load, Outcome, Progress, one_by_one};
use crate::system::System;

/// What farcall sends for a call of 16 bytes and for its answer of 8.
pub(crate) const SMALL: Sizes = Sizes { request: 26, reply: 13 };
/// Bytes before a payload.
const HEADER: usize = 4;

pub(crate) fn sizes(load: &Load) -> Sizes {
    load.echo.map_or(SMALL, |size| Sizes { request: size + HEADER, reply: size + HEADER })
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
            agree(&mut stream, sizes).await;
            let (request, mut reply) = (vec![1; sizes.request], vec![0; sizes.reply]);
            let call = async || bare::round_trip(&stream, &request, &mut reply).await;
            return one_by_one(load, call).await;
        }
        let (progress, mut connections) = (Progress::default(), JoinSet::new());
        for mut stream in clients {
            let progress = progress.clone();
            connections.spawn(async move {
                agree(&mut stream, sizes).await;
                let mut seen = 0;
                let goes_on = |done: u64| {
                    if done > seen {
                        progress.add(done - seen);
                        seen = done;
                    }
                    progress.goes_on()
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

/// The connection begins with the sizes of what it will carry.
async fn agree(stream: &mut TcpStream, sizes: Sizes) {
    stream.write_u32(sizes.request as u32).await.expect("connected");
    stream.write_u32(sizes.reply as u32).await.expect("connected");
}

async fn answer(mut stream: TcpStream) {
    let Ok(request) = stream.read_u32().await else { return };
    let Ok(reply) = stream.read_u32().await else { return };
    let (request, reply) = (request as usize, reply as usize);
    if request == reply {
        echo(stream).await;
    } else {
        bare::answer(stream, Sizes { request, reply }).await;
    }
}

/// Sends back what comes, as soon as it comes.
async fn echo(mut stream: TcpStream) {
    let mut bytes = vec![0; 1 << 18];
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        if stream.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
