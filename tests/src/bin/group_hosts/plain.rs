//! Groups by their address alone: the system chooses the interface, by its routes.

use std::path::Path;

use farcall::{Node, Sender};
use farcall_tests::bridge::{self, Failed};
use farcall_tests::service::{WorkGroup, order};

use crate::{GROUPS, HOSTS, PATIENCE, start};

/// Finds and calls all hosts by multicast and by broadcast, and sends their mailboxes a message.
pub(crate) async fn client(folder: &Path) -> Result<(), Failed> {
    bridge::make()?;
    bridge::run("ip route add 239.0.0.0/8 dev br0")?;
    let hosts = (1..=HOSTS).map(|number| start(folder, number)).collect::<Result<Vec<_>, _>>()?;
    let node = Node::builder().build();
    let all: WorkGroup = node.multicast(format!("{}/work", GROUPS[0])).await?;
    let replies = all.at_most_once(order(1)).timeout(PATIENCE).all().await.require()?;
    print!("{} answers by multicast, ", replies.accepted().count());
    let all: WorkGroup = node.broadcast(format!("{}/work", GROUPS[1])).await?;
    let replies = all.at_least_once(order(2)).timeout(PATIENCE).all().await.require()?;
    print!("{} by broadcast, ", replies.accepted().count());
    let orders: Sender<u64> = node.sender(format!("{}/orders", GROUPS[0])).await?;
    orders.send(&3).await?;
    println!("{} mailboxes", orders.mailboxes().len());
    drop(hosts);
    Ok(())
}
