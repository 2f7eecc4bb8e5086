//! Blocking sockets of the standard library: one thread on each side, no runtime.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use crate::load::{Load, Meter, Outcome, one_by_one};
use crate::system::System;
use crate::systems::bare_tcp::SMALL;

pub(crate) struct StdTcp;

impl System for StdTcp {
    const NAME: &'static str = "std tcp";
    type Client = TcpStream;

    async fn serve() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        // A thread that is started here runs on the same core.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || answer(stream));
            }
        });
        address
    }

    async fn connect(address: String) -> TcpStream {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_nodelay(true).expect("a socket");
        stream
    }

    async fn run(clients: Vec<TcpStream>, load: Load) -> Outcome {
        let [mut stream] = <[TcpStream; 1]>::try_from(clients).expect("one connection");
        let requests = vec![1; SMALL.request * load.depth];
        let mut input = vec![0; 1 << 16];
        if load.depth == 1 {
            let call = async || {
                stream.write_all(&requests).expect("written");
                stream.read_exact(&mut input[..SMALL.reply]).expect("read");
            };
            return one_by_one(load, call).await;
        }
        let (mut meter, mut received) = (Meter::new(load), 0);
        let mut wanted = load.depth;
        while meter.goes_on((received / SMALL.reply) as u64) {
            stream.write_all(&requests[..wanted * SMALL.request]).expect("written");
            let before = received / SMALL.reply;
            received += stream.read(&mut input).expect("read");
            wanted = received / SMALL.reply - before;
        }
        meter.finish()
    }

    /// A thread cannot wait for several connections, and two that both write much wait for each other.
    fn takes(load: &Load) -> bool {
        load.connections == 1 && load.echo.is_none() && load.beside.is_none()
    }
}

fn answer(mut stream: TcpStream) {
    stream.set_nodelay(true).expect("a socket");
    let (mut input, mut waiting) = (vec![0; 1 << 16], 0);
    let replies = vec![7; 1 << 16];
    while let Ok(count @ 1..) = stream.read(&mut input) {
        waiting += count;
        let replied = waiting / SMALL.request * SMALL.reply;
        waiting %= SMALL.request;
        if stream.write_all(&replies[..replied]).is_err() {
            return;
        }
    }
}
