//! What a group of eight costs in bytes, each member called by itself and all by one datagram: everything that leaves the
//! client for the calls, acknowledgements too.

use std::path::Path;

use farcall::{Group as _, Node};
use farcall_tests::bridge::{self, Count, Failed, Host};
use farcall_tests::service::WorkGroup;

use super::{GROUPS, log_of, settings};

pub(super) async fn client(folder: &Path) -> Result<(), Failed> {
    bridge::make()?;
    let mut hosts = Vec::new();
    for number in 1..=MEMBERS {
        hosts.push(Host::start(number, &["host"], &log_of(folder, number))?);
    }
    let node = Node::builder().build();
    let bundled: WorkGroup =
        node.multicast_with(format!("{}/work", GROUPS[0]), &settings()?).await?;
    assert_eq!(bundled.members().len(), usize::from(MEMBERS));
    let apart = Node::builder().build();
    let apart: WorkGroup =
        apart.group(bundled.members().iter().map(|member| member.url().clone())).await?;
    for group in [&apart, &bundled] {
        // Links and look-ups are there.
        calls(group).await;
    }
    let mut thousandths = Vec::new();
    for _ in 0..BLOCKS {
        let apart = count("each alone", &apart).await?;
        let bundled = count("one for all", &bundled).await?;
        let payload = 1000 * bundled.payload() / apart.payload();
        thousandths.push((payload, 1000 * bundled.bytes / apart.bytes));
    }
    // On a busy machine some is sent again that was not lost, and acknowledged by itself: the quietest block tells.
    let (payload, with_headers) = thousandths.into_iter().min().ok_or("there are blocks")?;
    println!("{payload} of 1000 in UDP, {with_headers} of 1000 with headers");
    Ok(())
}

async fn calls(group: &WorkGroup) {
    for _ in 0..CALLS {
        assert!(group.echo(&[7; ARGUMENT]).all().await.is_met());
    }
}

/// What the client sends for so many calls.
async fn count(way: &str, group: &WorkGroup) -> Result<Count, Failed> {
    bridge::count_anew("output", &["ip daddr 239.255.77.1", "meta l4proto udp"])?;
    calls(group).await;
    let counted = bridge::counted("output")?;
    let (to_group, all) = (counted[0], counted[1]);
    println!(
        "{way}: {} datagrams, {} bytes a call; of these to the group {} datagrams, {} bytes",
        all.packets as f64 / CALLS as f64,
        all.payload() as f64 / CALLS as f64,
        to_group.packets as f64 / CALLS as f64,
        to_group.payload() as f64 / CALLS as f64,
    );
    Ok(all)
}

const MEMBERS: u8 = 8;
const BLOCKS: usize = 8;
/// Calls of a block.
const CALLS: u32 = 100;
/// Bytes of the argument.
const ARGUMENT: usize = 16;
