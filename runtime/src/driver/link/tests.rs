//! Links whose peer is not there, or takes nothing: what waits for them ends in time.

use super::*;
use crate::address::Address;
use crate::descriptor::{Descriptor, MethodDescriptor};
use crate::driver::connection;
use crate::driver::entropy::Entropy;
use crate::id::{Handle, MethodId, NodeId};
use crate::semantics::Semantics;
use crate::transport::{Binding, Connecting, Network, Opening, Side, Stream, no_such_kind};
use std::future::poll_fn;
use tokio::runtime::Handle as Runtime;
use tokio::time::Instant;

/// A network that makes streams which take nothing, or none at all.
#[derive(Clone, Copy)]
enum Dead {
    TakesNothing,
    Refuses,
}

impl Network for Dead {
    fn connect<'a>(&'a self, _address: &'a Address) -> Connecting<'a> {
        Box::pin(async {
            match self {
                Dead::TakesNothing => {
                    let (here, there) = tokio::io::duplex(1);
                    // The other end stays open as long as the process.
                    std::mem::forget(there);
                    Ok(Stream::Other(Box::new(here)))
                }
                Dead::Refuses => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        })
    }

    fn listen<'a>(&'a self, _address: &'a Address) -> Opening<'a> {
        Box::pin(async { Err(no_such_kind()) })
    }

    fn datagrams<'a>(&'a self, _: &'a Address, _: Side, _: &'a Limits) -> Binding<'a> {
        Box::pin(async { Err(no_such_kind()) })
    }
}

static ANY: Descriptor = Descriptor {
    name: "Any",
    methods: &[MethodDescriptor {
        name: "any",
        id: MethodId(1),
        signature: "fn any(&self)",
        docs: "",
        semantics: Semantics::AtMostOnce,
        oneway: false,
        spawn: false,
        timeout: None,
        max_reply: None,
    }],
};

/// So long is waited for what connections do by themselves: more than any call's deadline here.
const LONG: Duration = Duration::from_secs(3600);

fn open(network: Dead) -> Arc<Link> {
    let limits = Limits {
        handshake_timeout: LONG,
        progress_timeout: LONG,
        ping_interval: LONG,
        reconnect_min: LONG,
        reconnect_max: LONG,
        ..Limits::default()
    };
    let config = ClientConfig {
        node: NodeId(uuid::Uuid::from_u128(1)),
        peer: "nobody".into(),
        limits: Arc::new(limits),
        datagrams: false,
    };
    let entropy = Arc::new(Entropy::System);
    let address = Address::Memory("nobody".into());
    connection::open(&Runtime::current(), Arc::new(network), entropy, address, config)
}

fn start(link: &Link, handle: Handle, timeout: Duration) -> CallKey {
    let call = NewCall {
        handle,
        method: 0,
        semantics: Semantics::AtMostOnce,
        oneway: false,
        passes: false,
        timeout: Some(timeout),
        arguments: &[],
        large: None,
    };
    match link.try_start(&call, None, None) {
        Ok(key) => key,
        Err(_) => panic!("there is room"),
    }
}

async fn answer(link: &Link, key: CallKey) -> CallError {
    let (mut body, mut extras) = (Vec::new(), Extras::default());
    let answer = poll_fn(|cx| link.poll_answer(key, cx, &mut body, &mut extras)).await;
    answer.expect_err("nobody answers")
}

/// Found by reading: a task that could not write was not woken by new calls, and learned of their deadlines when its old
/// timer went off.
#[tokio::test(start_paused = true)]
async fn calls_end_in_time_while_the_peer_takes_nothing() {
    let link = open(Dead::TakesNothing);
    let handle = link.handle(&"work".into(), &ANY).expect("room");
    // The task is asleep now.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (began, timeout) = (Instant::now(), Duration::from_millis(100));
    let key = start(&link, handle, timeout);
    let error = answer(&link, key).await;
    assert!(matches!(error, CallError::DeadlineExceeded { .. }), "{error:?}");
    assert!(began.elapsed() < 2 * timeout, "after {:?}", began.elapsed());
}

/// Found by reading: a node that was shut down waited for the whole grace if its link was down when its last call ended.
#[tokio::test(start_paused = true)]
async fn a_link_that_is_down_is_idle_when_its_last_call_has_ended() {
    let link = open(Dead::Refuses);
    let handle = link.handle(&"work".into(), &ANY).expect("room");
    let (began, timeout) = (Instant::now(), Duration::from_secs(1));
    let key = start(&link, handle, timeout);
    link.detach(key);
    let idle = tokio::time::timeout(LONG / 2, link.idle()).await;
    assert!(idle.is_ok(), "nobody is told");
    assert!((timeout..2 * timeout).contains(&began.elapsed()), "after {:?}", began.elapsed());
}
