//! Objects that are found instead of named: a question to a multicast group or a broadcast address, and who answers.
//!
//! What is found is a URL, and every call to it is an ordinary one, with a session of its own. So nothing that a stranger
//! answers here counts before that session is made, and no semantics is lost.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::address::{Address, AddressError, Host, HostPort, IntoUrl, Url};
use crate::dispatch::Interface;
use crate::driver::unless;
use crate::error::CallError;
use crate::id::{Boot, NodeId};
use crate::node::Node;
use crate::proxy::Proxy;
use crate::semantics::Execution;
use crate::serve::ServeError;
pub use crate::transport::Callers;
use crate::transport::{GroupSocket, Reach};
use crate::wire::seek::{Here, SEEK_SIZE, Seek, Way, WayKind};

/// Through which interface a group is reached, how far, and for how long answers are waited for.
#[derive(Debug, Clone)]
pub struct Discovery {
    /// The address of the interface, for IPv4; the system's choice without it.
    pub interface: Option<Ipv4Addr>,
    /// The number of the interface, for IPv6. 0: the system's choice.
    pub interface_index: u32,
    /// How many hops questions and answers go: 1, the default, stays in the network at hand.
    pub ttl: u32,
    /// Whom a member that [announces](Node::announce) itself listens to: by default those in its own subnet, however a
    /// datagram from elsewhere came there.
    pub callers: Callers,
    /// How long answers are waited for. 500 milliseconds. The question is asked three times, and answers are spread over a quarter of
    /// this.
    pub wait: Duration,
}

/// An object that was found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Found<P> {
    /// The run of the process that has it, as that names itself.
    pub node: NodeId,
    /// Its run as a server.
    pub boot: Boot,
    /// Where it is reached: the address that the answer came from, with each port that it named.
    pub urls: Vec<Url>,
    /// A proxy of it, by the first of these URLs. Nobody was asked for it yet.
    pub proxy: P,
}

/// The objects that were found, as they answer: a stream, which ends when the wait is over.
pub struct Finding<P> {
    found: mpsc::Receiver<Found<P>>,
}

impl Default for Discovery {
    fn default() -> Discovery {
        let wait = Duration::from_millis(500);
        let Reach { interface, index: interface_index, ttl, callers } = Reach::default();
        Discovery { interface, interface_index, ttl, callers, wait }
    }
}

/// What a question asks, and of whom.
struct Question {
    socket: Box<dyn GroupSocket>,
    group: SocketAddr,
    nonce: u64,
    object: Arc<str>,
    interface: &'static str,
    wait: Duration,
    most: usize,
}

impl Node {
    /// Lets this node be found: it hears who [seeks](Node::discover) objects at a group's address, such as
    /// `udp://239.255.42.1:7400` (IP multicast) or `udp://192.168.1.255:7400` (broadcast), and answers if one of that name
    /// and interface is bound. What is reached then is where this node [listens](Node::listen).
    ///
    /// It answers until it is shut down. An answer is sent to whoever asks, at most [`Discovery::ttl`] hops far, is never
    /// larger than the question, and names ports and nothing else.
    ///
    /// # Errors
    /// [`ServeError::Address`] if it is not the number of a host in a `udp://` address, [`ServeError::Listen`] if the
    /// system refuses, [`ServeError::NoRuntime`] outside a runtime.
    pub async fn announce(&self, group: impl IntoUrl) -> Result<(), ServeError> {
        self.announce_with(group, &Discovery::default()).await
    }

    /// As [`announce`](Node::announce), through the interface and to the callers that `settings` say.
    ///
    /// # Errors
    /// As [`Node::announce`].
    #[allow(clippy::unused_async, reason = "as `listen`: the socket needs a runtime")]
    pub async fn announce_with(
        &self,
        group: impl IntoUrl,
        settings: &Discovery,
    ) -> Result<(), ServeError> {
        let url = group.into_url()?;
        let runtime = self.runtime().ok_or(ServeError::NoRuntime { source: None })?;
        let reach = settings.reach();
        let joined = group_address(&url)?;
        let _entered = runtime.enter();
        let socket = self.join_group(joined, reach).map_err(|source| {
            let address = url.address().to_string().into();
            ServeError::Listen { address, source }
        })?;
        self.answer(socket, reach);
        Ok(())
    }

    /// Seeks objects by name and interface at a group's address, `udp://239.255.42.1:7400/desk`, and streams those that
    /// are found. Their nodes must have [announced](Node::announce) themselves there.
    ///
    /// What is found is where an answer came from, and nothing more is believed of it: calls make sessions of their own.
    /// Anybody in the same network can answer; see the limits of this version.
    ///
    /// # Errors
    /// No method runs here. [`CallError::BadAddress`] if the URL is not such an address with an object,
    /// [`CallError::Unreachable`] if the system gives no socket, [`CallError::Closed`] if there is no runtime.
    pub fn discover<P: Proxy>(&self, url: impl IntoUrl) -> Result<Finding<P>, CallError> {
        self.discover_with(url, &Discovery::default())
    }

    /// As [`discover`](Node::discover), through the interface, as far and for as long as `settings` say.
    ///
    /// # Errors
    /// As [`Node::discover`].
    pub fn discover_with<P: Proxy>(
        &self,
        url: impl IntoUrl,
        settings: &Discovery,
    ) -> Result<Finding<P>, CallError> {
        let url = url.into_url().map_err(CallError::BadAddress)?;
        let object = url.require_object().map_err(CallError::BadAddress)?;
        let group = group_address(&url).map_err(CallError::BadAddress)?;
        let closed = CallError::Closed { execution: Execution::NotExecuted };
        let runtime = self.runtime().ok_or(closed)?;
        let _entered = runtime.enter();
        let socket =
            self.ask_group(group, settings.reach()).map_err(|error| CallError::Unreachable {
                peer: url.address().to_string().into(),
                source: Arc::new(error),
            })?;
        let question = Question {
            socket,
            group,
            nonce: self.draw(),
            object,
            interface: <P::Interface as Interface>::DESCRIPTOR.name,
            wait: settings.wait,
            most: self.limits().members,
        };
        let (sender, found) = mpsc::channel(WAITING);
        runtime.spawn(question.ask(self.clone(), sender));
        Ok(Finding { found })
    }
}

impl Discovery {
    pub(crate) fn reach(&self) -> Reach {
        let Discovery { interface, interface_index: index, ttl, callers, .. } = *self;
        Reach { interface, index, ttl, callers }
    }
}

impl<P> Finding<P> {
    /// The next object that is found; nothing when the wait is over.
    pub async fn next(&mut self) -> Option<Found<P>> {
        self.found.recv().await
    }
}

impl<P> Stream for Finding<P> {
    type Item = Found<P>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Found<P>>> {
        self.found.poll_recv(cx)
    }
}

impl<P> fmt::Debug for Finding<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finding").finish_non_exhaustive()
    }
}

impl Question {
    /// Asks a few times, and tells of each node once.
    async fn ask<P: Proxy>(self, node: Node, found: mpsc::Sender<Found<P>>) {
        let began = Instant::now();
        let spread = self.wait / TIMES;
        let question = Seek {
            nonce: self.nonce,
            spread_ms: u64::try_from(spread.as_millis()).unwrap_or(u64::MAX),
            object: &self.object,
            interface: self.interface,
        }
        .encode();
        let mut known = BTreeSet::new();
        for time in 1..=TIMES {
            if time < TIMES {
                // A datagram that is lost is asked again; a network that refuses one may take the next.
                let _ = self.socket.send(&question, self.group).await;
            }
            let until = began + spread * time;
            let hearing = self.hear(&node, &found, &mut known);
            let gone = unless(tokio::time::sleep_until(until), hearing).await.is_some();
            if gone || known.len() >= self.most {
                return;
            }
        }
    }

    /// Takes answers; returns if nobody wants more, or there are enough.
    async fn hear<P: Proxy>(
        &self,
        node: &Node,
        found: &mpsc::Sender<Found<P>>,
        known: &mut BTreeSet<NodeId>,
    ) {
        let mut bytes = [0; SEEK_SIZE];
        while known.len() < self.most {
            // Before anything is read: an answer that was read is told.
            let Ok(place) = found.reserve().await else { return };
            let received = unless(found.closed(), self.socket.receive(&mut bytes)).await;
            let Some(received) = received else { return };
            let Ok((length, from)) = received else {
                // What the system says here is of a datagram that was sent before.
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let Ok(here) = Here::decode(&bytes[..length]) else { continue };
            if here.nonce != self.nonce || known.contains(&here.node) {
                continue;
            }
            let urls: Vec<Url> =
                here.ways.iter().filter_map(|way| self.url(from.ip(), *way)).collect();
            let Some(first) = urls.first() else { continue };
            let Ok(proxy) = node.proxy::<P>(first) else { continue };
            known.insert(here.node);
            place.send(Found { node: here.node, boot: here.boot, urls, proxy });
        }
    }

    fn url(&self, ip: IpAddr, way: Way) -> Option<Url> {
        let place = HostPort { host: Host::Ip(ip), port: way.port };
        let address = match way.kind {
            WayKind::Tcp => Address::Tcp(place),
            WayKind::Udp => Address::Udp(place),
        };
        Url::new(address, &self.object).ok()
    }
}

/// The address of a group, which is a number: a name would be that of one host.
pub(crate) fn group_address(url: &Url) -> Result<SocketAddr, AddressError> {
    match url.address() {
        Address::Udp(HostPort { host: Host::Ip(ip), port }) => Ok(SocketAddr::new(*ip, *port)),
        other => Err(AddressError::BadHost {
            host: other.to_string().into(),
            reason: "a group is an address of `udp://` by number, such as `udp://239.255.42.1:7400`",
        }),
    }
}

/// Whether an address can only be that of a group. A subnet's broadcast address looks like any other.
pub(crate) fn is_group(url: &Url) -> bool {
    group_address(url).is_ok_and(|group| match group.ip() {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    })
}

/// Parts of the wait: the question is asked at the beginning of each but the last.
const TIMES: u32 = 4;

/// How long nothing is read after an error.
const PAUSE: Duration = Duration::from_millis(10);

/// Objects that were found and not taken yet, at most; more answers wait in the socket.
const WAITING: usize = 64;
