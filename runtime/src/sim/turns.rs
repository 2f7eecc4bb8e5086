//! How the tasks of a connection share out their turns, over a stream that takes all that is written.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use farcall_macros::remote;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::sync::mpsc;

use crate::address::Address;
use crate::limits::Limits;
use crate::node::Node;
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

/// The most bytes that one end wrote without looking whether something had come.
type Most = Arc<AtomicUsize>;

/// Streams in which there is room for everything.
struct Roomy {
    client: Most,
    server: Most,
    accept: mpsc::UnboundedSender<End>,
    accepted: Mutex<Option<mpsc::UnboundedReceiver<End>>>,
}

struct Accepted(mpsc::UnboundedReceiver<End>, Address);

struct End {
    stream: DuplexStream,
    /// Bytes that were written since the last look.
    unread: usize,
    most: Most,
}

impl Network for Roomy {
    fn connect<'a>(&'a self, _: &'a Address) -> Connecting<'a> {
        let (here, there) = duplex(4 * SIZE);
        let end = |stream, most: &Most| End { stream, unread: 0, most: most.clone() };
        let sent = self.accept.send(end(there, &self.server));
        let here = end(here, &self.client);
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
        self.unread = 0;
        Pin::new(&mut self.stream).poll_read(cx, into)
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
            self.unread += count;
            self.most.fetch_max(self.unread, Ordering::Relaxed);
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

#[tokio::test(start_paused = true)]
async fn what_comes_is_read_between_the_fragments_of_what_leaves() {
    let (accept, accepted) = mpsc::unbounded_channel();
    let (client, server) = (Most::default(), Most::default());
    let accepted = Mutex::new(Some(accepted));
    let network: Arc<dyn Network> =
        Arc::new(Roomy { client: client.clone(), server: server.clone(), accept, accepted });
    let build = |seed| Node::builder().simulated(network.clone(), seed).build();
    let (caller, callee) = (build(1), build(2));
    callee.registry().bind("mirror", Silvered).expect("a free name");
    let _listening = callee.listen("mem://mirrors").await.expect("it listens");
    let mirror: MirrorProxy = caller.lookup("mem://mirrors/mirror").await.expect("it is there");
    for lengths in [&[SIZE][..], &[SIZE, 9, SIZE]] {
        let mut calls = Vec::new();
        for length in lengths {
            let call = mirror.echo(Bytes::from(vec![7; *length]));
            calls.push(call.start().await.expect("room for it"));
        }
        for (call, length) in calls.into_iter().zip(lengths) {
            assert_eq!(call.await.expect("echoed").len(), *length);
        }
    }
    for (end, most) in [("client", &client), ("server", &server)] {
        let most = most.load(Ordering::Relaxed);
        assert!((CUT..5 * CUT).contains(&most), "the {end} wrote {most} bytes blindly");
    }
}
