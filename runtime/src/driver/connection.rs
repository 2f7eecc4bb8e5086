//! The task of a link: connects, again and again, and keeps time meanwhile.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;

use super::clock::Clock;
use super::datagram::client::{End, Exchange};
use super::entropy::Entropy;
use super::link::{Link, Phase, State};
use super::timer::Timer;
use crate::address::Address;
use crate::protocol::client::ClientConfig;
use crate::protocol::packet::ClientEnd;
use crate::time::Time;
use crate::transport::{Datagrams, Network, Side, Stream};
use crate::wire::send_buffer::SendBuffer;
use stream::Connection;

mod stream;

/// Makes a link to `address` and starts its task.
pub(crate) fn open(
    runtime: &Handle,
    network: Arc<dyn Network>,
    entropy: Arc<Entropy>,
    address: Address,
    config: ClientConfig,
) -> Arc<Link> {
    let _entered = runtime.enter();
    let clock = Clock::new();
    let link = Arc::new(Link::new(config, clock));
    let driver = Driver {
        link: link.clone(),
        network,
        entropy,
        address,
        failures: 0,
        choice: 0,
        refused: None,
        hurried: false,
    };
    runtime.spawn(driver.run());
    link
}

struct Driver {
    link: Arc<Link>,
    network: Arc<dyn Network>,
    entropy: Arc<Entropy>,
    address: Address,
    /// Attempts that brought no session, since the last that did.
    failures: u32,
    /// Which of the server's addresses is tried, where only an answer tells whether one is right; and why the one before
    /// was not.
    choice: usize,
    refused: Option<Arc<io::Error>>,
    /// The last attempt was made without a pause.
    hurried: bool,
}

/// What carries a link.
enum Carrier {
    Stream(Stream),
    Datagrams(Box<dyn Datagrams>),
}

/// What comes after a link.
enum Next {
    Pause,
    AtOnce,
    Stop,
}

impl Drop for Driver {
    /// However the task ends (the runtime may drop it): nobody waits for it in vain.
    fn drop(&mut self) {
        self.link.ended();
    }
}

impl Driver {
    async fn run(mut self) {
        loop {
            let mut timer = Timer::new(self.link.clock());
            let limit = self.link.limits().handshake_timeout;
            let connecting = tokio::time::timeout(limit, self.connect());
            match while_down(&self.link, &mut timer, connecting).await {
                None => return,
                Some(Ok(Ok(carrier))) => {
                    let next = match carrier {
                        Carrier::Stream(stream) => self.converse(stream).await,
                        Carrier::Datagrams(socket) => self.exchange(socket).await,
                    };
                    match next {
                        Next::Stop => return,
                        Next::AtOnce => continue,
                        Next::Pause => {}
                    }
                }
                Some(Ok(Err(error))) => {
                    self.choice = 0;
                    let error = self.refused.take().unwrap_or_else(|| Arc::new(error));
                    self.unreachable(error);
                }
                Some(Err(_)) => self.unreachable(Arc::new(io::ErrorKind::TimedOut.into())),
            }
            self.hurried = false;
            let pause = tokio::time::sleep(self.pause());
            if while_down(&self.link, &mut timer, pause).await.is_none() {
                return;
            }
        }
    }

    async fn connect(&self) -> io::Result<Carrier> {
        if let Address::Udp(_) = self.address {
            let side = Side::Client { choice: self.choice };
            let socket = self.network.datagrams(&self.address, side, self.link.limits());
            return socket.await.map(Carrier::Datagrams);
        }
        self.network.connect(&self.address).await.map(Carrier::Stream)
    }

    /// Uses one connection until it ends.
    async fn converse(&mut self, stream: Stream) -> Next {
        let Driver { link, entropy, failures, .. } = self;
        let now = link.clock().now();
        begin(link, now, entropy.next(), SendBuffer::default(), |_| ());
        let mut connection = Connection::new(link, stream, now);
        let end = std::future::poll_fn(|cx| connection.poll(cx)).await;
        let error = Arc::new(end.unwrap_or_else(|| io::ErrorKind::ConnectionAborted.into()));
        let welcome = lost(link, Some(connection.output.batch.accepted()), &error);
        if !welcome {
            link.unreachable(error);
        }
        *failures = if welcome { 0 } else { failures.saturating_add(1) };
        let (closing, killed) = {
            let state = link.lock();
            (state.phase != Phase::Open, state.killed)
        };
        if closing && !killed {
            // The peer gets the end of the stream after everything else; it is no loss if it does not.
            let _ = connection.stream.shutdown().await;
        }
        if closing { Next::Stop } else { Next::Pause }
    }

    /// Uses one socket until the link over it ends.
    async fn exchange(&mut self, socket: Box<dyn Datagrams>) -> Next {
        let Driver { link, entropy, failures, choice, refused, hurried, .. } = self;
        let (now, nonce) = (link.clock().now(), entropy.next());
        let limits = link.limits().clone();
        let out = SendBuffer::for_datagrams(ClientEnd::room(&limits));
        let end = begin(link, now, nonce, out, |out| ClientEnd::new(now, limits, nonce, out));
        let mut exchange = Exchange::new(link, socket, end);
        let end = std::future::poll_fn(|cx| exchange.poll(cx)).await;
        exchange.retire();
        let (error, forgotten) = match end {
            End::Closed => (io::ErrorKind::ConnectionAborted.into(), false),
            End::Forgotten(error) => (error, true),
            End::Lost(error) => (error, false),
        };
        let error = Arc::new(error);
        let welcome = lost(link, None, &error);
        if link.lock().phase != Phase::Open {
            return Next::Stop;
        }
        if welcome {
            *failures = 0;
            // Once: a server that forgets every link is not to be asked without a pause.
            let at_once = forgotten && !*hurried;
            *hurried = at_once;
            return if at_once { Next::AtOnce } else { Next::Pause };
        }
        // Perhaps it is the host's next address; there is an error if it has none.
        *choice += 1;
        *refused = Some(error);
        Next::AtOnce
    }

    fn unreachable(&mut self, error: Arc<io::Error>) {
        self.failures = self.failures.saturating_add(1);
        self.link.unreachable(error);
    }

    /// Full jitter: a random part of a time that doubles with every failure.
    fn pause(&mut self) -> Duration {
        let limits = self.link.limits();
        let most = limits.reconnect_min.saturating_mul(1 << self.failures.min(16));
        let most = most.min(limits.reconnect_max).max(limits.reconnect_min);
        let fraction = (self.entropy.next() >> 11) as f64 / (1_u64 << 53) as f64;
        most.mul_f64(fraction)
    }
}

/// Tells the machine that there is a connection, whose frames `out` takes; `look` sees HELLO in it.
fn begin<R>(
    link: &Link,
    now: Time,
    nonce: u64,
    out: SendBuffer,
    look: impl FnOnce(&mut SendBuffer) -> R,
) -> R {
    let mut state = link.lock();
    state.out = out;
    let State { client, out, .. } = &mut *state;
    client.connected(now, nonce, out);
    let seen = look(out);
    state.leave();
    seen
}

/// Tells the machine that its connection is lost; small frames up to `accepted` may have left, in datagrams those that
/// were taken. Whether there had been a session.
fn lost(link: &Link, accepted: Option<u64>, error: &Arc<io::Error>) -> bool {
    let mut state = link.lock();
    let State { client, out, .. } = &mut *state;
    let now = link.clock().now();
    client.tick(now);
    let welcome = client.is_welcome();
    let accepted = accepted.unwrap_or_else(|| out.taken_position());
    client.link_lost(now, accepted, out, error);
    state.out = SendBuffer::default();
    state.settled = true;
    state.lose_back(now);
    state.leave();
    welcome
}

/// Does some work while no connection is up, and keeps the calls' time meanwhile. Nothing if the link is closed.
async fn while_down<F: Future>(link: &Link, timer: &mut Timer, work: F) -> Option<F::Output> {
    let mut work = pin!(work);
    std::future::poll_fn(|cx| {
        loop {
            let now = link.clock().now();
            let mut state = link.lock();
            if state.phase != Phase::Open {
                return Poll::Ready(None);
            }
            state.client.tick(now);
            let wanted = state.client.next_timeout();
            if !timer.poll(cx, now, wanted) {
                state.sleep(cx);
                state.leave_asleep();
                return work.as_mut().poll(cx).map(Some);
            }
            let State { client, out, .. } = &mut *state;
            client.handle_timeout(now, out);
            state.leave();
        }
    })
    .await
}
