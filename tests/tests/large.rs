//! Large arguments and results of every kind of bytes, over every transport.

use bytes::Bytes;
use farcall::{CallError, Limits, Node, remote};

/// Gives back what it gets.
#[remote]
trait Echo {
    async fn shared(&self, before: u64, bytes: Bytes, behind: &str) -> Bytes;
    async fn vector(&self, before: u64, bytes: Vec<u8>, behind: &str) -> Vec<u8>;
    async fn slice(&self, bytes: &[u8]) -> Vec<u8>;
    async fn lent(&self, bytes: &Bytes) -> Bytes;
    async fn two(&self, first: Bytes, second: Bytes) -> (Vec<u8>, u64);
    #[remote(semantics = "at_least_once")]
    async fn again(&self, bytes: Bytes) -> Result<Bytes, String>;
}

struct Mirror;

#[remote]
impl Echo for Mirror {
    async fn shared(&self, before: u64, bytes: Bytes, behind: &str) -> Bytes {
        assert_eq!((before, behind), (300, "behind"));
        bytes
    }
    async fn vector(&self, before: u64, bytes: Vec<u8>, behind: &str) -> Vec<u8> {
        assert_eq!((before, behind), (300, "behind"));
        bytes
    }
    async fn slice(&self, bytes: &[u8]) -> Vec<u8> {
        bytes.to_vec()
    }
    async fn lent(&self, bytes: &Bytes) -> Bytes {
        bytes.clone()
    }
    async fn two(&self, first: Bytes, second: Bytes) -> (Vec<u8>, u64) {
        ([&first[..], &second[..]].concat(), first.len() as u64)
    }
    async fn again(&self, bytes: Bytes) -> Result<Bytes, String> {
        // A task of its own, since it is not ready at once.
        tokio::task::yield_now().await;
        if bytes.is_empty() { Err("nothing".into()) } else { Ok(bytes.slice(1..)) }
    }
}

async fn scene(url: &str) -> (Node, farcall::Listening, EchoProxy) {
    let node = Node::builder().limits(Limits::default()).build();
    node.registry().bind("echo", Mirror).expect("a free name");
    let listening = node.listen(url).await.expect("a place");
    let echo = node.lookup(listening.url("echo")).await.expect("it is there");
    (node, listening, echo)
}

fn bytes(length: usize) -> Bytes {
    Bytes::from_iter((0..length).map(|at| (at % 251) as u8))
}

/// Sizes around those of a page, a read buffer, a fragment, a frame and several fragments.
fn sizes() -> impl Iterator<Item = usize> {
    let around: [usize; 5] = [4 << 10, 64 << 10, 128 << 10, 192 << 10, 1 << 20];
    let near = around
        .into_iter()
        .flat_map(|size| [-16, -4, -1, 0, 1, 16].map(|by| size.saturating_add_signed(by)));
    [0, 1].into_iter().chain(near)
}

async fn all_come_back_whole(url: &str, most: usize) {
    let (node, _listening, echo) = scene(url).await;
    for size in sizes().filter(|size| *size <= most) {
        let sent = bytes(size);
        let back = echo.shared(300, sent.clone(), "behind").await.expect("answered");
        assert_eq!(back, sent);
        let back = echo.vector(300, sent.to_vec(), "behind").await.expect("answered");
        assert_eq!(back, sent);
        assert_eq!(echo.slice(&sent).await.expect("answered"), sent);
        assert_eq!(echo.lent(&sent).await.expect("answered"), sent);
        let half = sent.slice(..size / 2);
        let (back, first) = echo.two(half, sent.slice(size / 2..)).await.expect("answered");
        assert_eq!((back, first), (sent.to_vec(), (size / 2) as u64));
        match echo.again(sent.clone()).await {
            Ok(back) => assert_eq!(back, sent[1..]),
            Err(CallError::Method(text)) => assert_eq!((size, &*text), (0, "nothing")),
            Err(error) => panic!("{error}"),
        }
    }
    node.shutdown(std::time::Duration::ZERO).await.expect("nothing is unfinished");
}

#[tokio::test]
async fn bytes_of_every_size_come_back_whole_over_tcp() {
    all_come_back_whole("tcp://127.0.0.1:0", usize::MAX).await;
}

#[tokio::test]
async fn bytes_of_every_size_come_back_whole_within_a_process() {
    all_come_back_whole("mem://large", usize::MAX).await;
}

#[tokio::test]
async fn bytes_of_every_size_come_back_whole_over_udp() {
    all_come_back_whole("udp://127.0.0.1:0", (1 << 20) - 32).await;
}
