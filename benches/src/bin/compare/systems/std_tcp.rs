//! Blocking sockets of the standard library: one thread on each side, no runtime.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use farcall_benches::bare::{self, Finder};

use crate::load::{Load, Meter, Outcome, one_by_one};
use crate::system::System;
use crate::systems::bare_tcp::{head, sizes, sizes_in};

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
        let sizes = sizes(&load);
        stream.write_all(&head(sizes)).expect("written");
        let requests = bare::frame(sizes.request).repeat(load.depth);
        let (mut input, mut replies) = (vec![0; 1 << 16], Finder::default());
        if load.depth == 1 {
            let call = async || {
                stream.write_all(&requests).expect("written");
                while replies.ended(read(&mut stream, &mut input)) == 0 {}
            };
            return one_by_one(load, call).await;
        }
        let (mut meter, mut done, mut wanted) = (Meter::new(load), 0, load.depth);
        while meter.goes_on(done) {
            stream.write_all(&requests[..wanted * sizes.request]).expect("written");
            wanted = replies.ended(read(&mut stream, &mut input));
            done += wanted as u64;
        }
        meter.finish()
    }

    /// A thread cannot wait for several connections, and two that both write much wait for each other.
    fn takes(load: &Load) -> bool {
        load.connections == 1 && load.echo.is_none() && load.beside.is_none()
    }
}

fn read<'a>(stream: &mut TcpStream, input: &'a mut [u8]) -> &'a [u8] {
    let count = stream.read(input).expect("read");
    assert_ne!(count, 0, "the server closed");
    &input[..count]
}

fn answer(mut stream: TcpStream) {
    stream.set_nodelay(true).expect("a socket");
    let mut head = [0; 8];
    if stream.read_exact(&mut head).is_err() {
        return;
    }
    let sizes = sizes_in(head);
    let (mut input, mut waiting) = (vec![0; 1 << 16], 0);
    let mut replies = Vec::new();
    while let Ok(count @ 1..) = stream.read(&mut input[waiting..]) {
        waiting += count;
        let read = bare::answer_each(&input[..waiting], sizes.reply, &mut replies);
        input.copy_within(read..waiting, 0);
        waiting -= read;
        if stream.write_all(&replies).is_err() {
            return;
        }
        replies.clear();
    }
}
