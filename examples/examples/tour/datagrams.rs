//! How many datagrams a call over UDP takes, counted by a proxy that does nothing else.

use std::error::Error;
use std::time::Duration;

use farcall_tests::datagram_proxy::DatagramProxy;
use farcall_tests::service::Transport;
use tokio::time::timeout;

use super::server::Server;
use super::shop::ShopProxy;

/// Datagrams of both directions, for each call.
pub(crate) struct PerCall {
    /// Each call begins when the one before it was answered.
    pub(crate) back_to_back: f64,
    /// Each call begins when nothing has moved for a while.
    pub(crate) alone: f64,
}

/// Makes both kinds of calls, and counts.
pub(crate) async fn count(server: &Server) -> Result<PerCall, Box<dyn Error>> {
    let proxy = DatagramProxy::start(server.address(Transport::Udp)?)?;
    let shop: ShopProxy = farcall::connect(format!("udp://{}/shop", proxy.address())).await?;
    let mut call = FIRST_CALL;
    let mut pay = async || {
        call += CALLS_THAT_TAKE_NO_TIME;
        shop.pay(call).await
    };
    let begin = settled(&proxy).await;
    for _ in 0..BACK_TO_BACK {
        pay().await?;
    }
    let middle = settled(&proxy).await;
    for _ in 0..ALONE {
        pay().await?;
        settled(&proxy).await;
    }
    let end = settled(&proxy).await;
    Ok(PerCall {
        back_to_back: (middle - begin) as f64 / f64::from(BACK_TO_BACK),
        alone: (end - middle) as f64 / f64::from(ALONE),
    })
}

/// The datagrams so far, once none has come for a while.
async fn settled(proxy: &DatagramProxy) -> u64 {
    let mut count = proxy.counts().both().datagrams;
    while let Ok(now) = timeout(QUIET, proxy.until(|now| now.both().datagrams > count)).await {
        count = now.both().datagrams;
    }
    count
}

const BACK_TO_BACK: u32 = 1000;
const ALONE: u32 = 5;
/// Longer than any delay of an acknowledgement.
const QUIET: Duration = Duration::from_millis(80);
/// The numbers of these calls are far from those of the experiment.
const FIRST_CALL: u64 = 1 << 20;
/// The shop takes no time for calls whose numbers are multiples of this.
const CALLS_THAT_TAKE_NO_TIME: u64 = 256;
