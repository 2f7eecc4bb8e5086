//! How the tasks of a connection share out their turns, over a stream that takes all that is written.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use farcall_macros::remote;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::sync::mpsc;

use crate::address::Address;
use crate::limits::Limits;
use crate::node::{Listening, Node};
use crate::transport::{
    Accepting, Binding, Connecting, Listener, Network, Opening, Side, Stream, no_such_kind,
};
use crate::wire::send_buffer::CUT;

#[remote(crate = crate, semantics = "at_most_once")]
trait Mirror: Send + Sync {
    async fn echo(&self, bytes: Bytes) -> Bytes;
}

struct Silvered;

#[remote(crate = crate)]
impl Mirror for Silvered {
    async fn echo(&self, bytes: Bytes) -> Bytes {
        bytes
    }
}

/// What one end reads through, if it is open.
#[derive(Default)]
struct Gate {
    shut: bool,
    reader: Option<Waker>,
    /// Bytes that went through.
    read: usize,
    /// Bytes that the end wrote since it looked last whether something had come, and the most.
    unread: usize,
    most: usize,
}

/// Streams in which there is room for everything.
struct Roomy {
    client: Arc<Mutex<Gate>>,
    server: Arc<Mutex<Gate>>,
    accept: mpsc::UnboundedSender<End>,
    accepted: Mutex<Option<mpsc::UnboundedReceiver<End>>>,
}

struct Accepted(mpsc::UnboundedReceiver<End>, Address);

struct End {
    stream: DuplexStream,
    gate: Arc<Mutex<Gate>>,
}

impl Network for Roomy {
    fn connect<'a>(&'a self, _: &'a Address) -> Connecting<'a> {
        let (here, there) = duplex(4 * SIZE);
        let sent = self.accept.send(End { stream: there, gate: self.server.clone() });
        let here = End { stream: here, gate: self.client.clone() };
        Box::pin(async move {
            sent.map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(Stream::Other(Box::new(here)))
        })
    }

    fn listen<'a>(&'a self, address: &'a Address) -> Opening<'a> {
        let ends = self.accepted.lock().expect("no panic").take().expect("listens once");
        let listener: Box<dyn Listener> = Box::new(Accepted(ends, address.clone()));
        Box::pin(async { Ok(listener) })
    }

    fn datagrams<'a>(&'a self, _: &'a Address, _: Side, _: &'a Limits) -> Binding<'a> {
        Box::pin(async { Err(no_such_kind()) })
    }
}

impl Listener for Accepted {
    fn address(&self) -> Address {
        self.1.clone()
    }

    fn accept(&mut self) -> Accepting<'_> {
        Box::pin(async {
            match self.0.recv().await {
                Some(end) => Ok((Stream::Other(Box::new(end)), "peer".into())),
                None => std::future::pending().await,
            }
        })
    }
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let End { stream, gate } = &mut *self;
        let mut gate = gate.lock().expect("no panic");
        gate.unread = 0;
        if gate.shut {
            gate.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let before = into.filled().len();
        let read = Pin::new(stream).poll_read(cx, into);
        gate.read += into.filled().len() - before;
        read
    }
}

impl AsyncWrite for End {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = written {
            let mut gate = self.gate.lock().expect("no panic");
            gate.unread += count;
            gate.most = gate.most.max(gate.unread);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Bytes of a large message.
const SIZE: usize = 64 * CUT;

/// A mirror at another node, and the gates of both ends.
struct Hall {
    mirror: MirrorProxy,
    client: Arc<Mutex<Gate>>,
    server: Arc<Mutex<Gate>>,
    _listening: Listening,
}

async fn hall() -> Hall {
    let (accept, accepted) = mpsc::unbounded_channel();
    let [client, server] = [(); 2].map(|()| Arc::<Mutex<Gate>>::default());
    let accepted = Mutex::new(Some(accepted));
    let network: Arc<dyn Network> =
        Arc::new(Roomy { client: client.clone(), server: server.clone(), accept, accepted });
    let build = |seed| Node::builder().simulated(network.clone(), seed).build();
    let (caller, callee) = (build(1), build(2));
    callee.registry().bind("mirror", Silvered).expect("a free name");
    let listening = callee.listen("mem://mirrors").await.expect("it listens");
    let mirror = caller.lookup("mem://mirrors/mirror").await.expect("it is there");
    Hall { mirror, client, server, _listening: listening }
}

fn bytes(length: usize) -> Bytes {
    Bytes::from(vec![7; length])
}

#[tokio::test(start_paused = true)]
async fn what_comes_is_read_between_the_fragments_of_what_leaves() {
    let hall = hall().await;
    for lengths in [&[SIZE][..], &[SIZE, 9, SIZE]] {
        let mut calls = Vec::new();
        for length in lengths {
            calls.push(hall.mirror.echo(bytes(*length)).start().await.expect("room for it"));
        }
        for (call, length) in calls.into_iter().zip(lengths) {
            assert_eq!(call.await.expect("echoed").len(), *length);
        }
    }
    for (end, gate) in [("client", &hall.client), ("server", &hall.server)] {
        let most = gate.lock().expect("no panic").most;
        assert!((CUT..5 * CUT).contains(&most), "the {end} wrote {most} bytes blindly");
    }
}

/// How much the end behind the gate reads until a small call has its answer, if a large message is behind what the end
/// waits for.
async fn read_for_an_answer(mirror: &MirrorProxy, gate: &Mutex<Gate>) -> usize {
    let gate = || gate.lock().expect("no panic");
    gate().shut = true;
    let small = mirror.echo(bytes(9)).start().await.expect("room for it");
    let large = mirror.echo(bytes(SIZE)).start().await.expect("room for it");
    // Until all that can come waits behind the gate.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = gate().read;
    gate().shut = false;
    gate().reader.take().expect("it is read").wake();
    assert_eq!(small.await.expect("echoed").len(), 9);
    let read = gate().read - before;
    assert_eq!(large.await.expect("echoed").len(), SIZE);
    assert!(gate().read - before > SIZE);
    read
}

#[tokio::test(start_paused = true)]
async fn what_is_small_goes_on_before_the_large_message_behind_it_is_read() {
    let hall = hall().await;
    for (end, gate) in [("client", &hall.client), ("server", &hall.server)] {
        let read = read_for_an_answer(&hall.mirror, gate).await;
        assert!((1..CUT).contains(&read), "the {end} read {read} bytes");
    }
}
