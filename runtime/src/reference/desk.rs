//! The object by which nodes give references back, and the task that does so for one peer.

use std::sync::Arc;

use farcall_macros::remote;

use crate::call::Remote;
use crate::context::Context;
use crate::dispatch::Interface;
use crate::driver::references::{Partner, Peer, partner_of};
use crate::driver::serving::DESK;
use crate::error::CallError;
use crate::node::Node;
use crate::protocol::references::Record;
use crate::proxy::Proxy;
use crate::wire::frame::Ranges;

/// Each node has it under the name `farcall/references`, for the sessions in which references were passed.
#[remote(crate = crate, semantics = "at_least_once")]
pub(crate) trait RemoteReferences {
    /// The caller holds these objects no more, in whatever records below it received them: for each id, ranges of marks.
    async fn release(&self, released: Vec<(u64, Vec<(u64, u64)>)>);

    /// The calls of these records, ids and marks, have ended. Returns those that the callee does not hold: it takes them no
    /// more.
    async fn settle(&self, ended: Vec<(u64, u64)>) -> Vec<(u64, u64)>;
}

/// What is bound to that name.
pub(crate) struct Desk;

#[remote(crate = crate)]
impl RemoteReferences for Desk {
    async fn release(&self, released: Vec<(u64, Vec<(u64, u64)>)>) {
        if let Some(peer) = caller() {
            peer.released(released);
        }
    }

    async fn settle(&self, ended: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
        let Some(peer) = caller() else { return ended };
        let records = ended.into_iter().map(|(id, mark)| Record { id, mark }).collect();
        peer.settle(records).into_iter().map(|record| (record.id, record.mark)).collect()
    }
}

/// The peer that calls.
fn caller() -> Option<Arc<Peer>> {
    match partner_of(&Context::current().ok()?)?.1 {
        Partner::Peer(peer) => Some(peer),
        Partner::Local => None,
    }
}

/// Gives references back to a peer and asks about those that it was handed, until their session is over.
pub(crate) async fn tend(peer: Arc<Peer>) {
    loop {
        peer.check_lease();
        if !peer.collect() {
            return;
        }
        let (epoch, released) = peer.releases(BATCH);
        let doubts = peer.doubts(BATCH);
        if released.is_empty() && doubts.is_empty() {
            let _ = tokio::time::timeout(peer.patience(), peer.changed()).await;
            continue;
        }
        // Not kept: a proxy keeps its node.
        let Some(desk) = open(&peer) else {
            peer.put_back(epoch, released);
            peer.doubt_again(&doubts);
            let _ = tokio::time::timeout(PAUSE, peer.changed()).await;
            continue;
        };
        let failed = [
            give_back(&peer, &desk, epoch, released).await.is_err(),
            ask(&peer, &desk, &doubts).await.is_err(),
        ];
        drop(desk);
        if failed.contains(&true) {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn give_back(
    peer: &Arc<Peer>,
    desk: &RemoteReferencesProxy,
    epoch: u64,
    released: Vec<(u64, Ranges)>,
) -> Result<(), CallError> {
    if released.is_empty() {
        return Ok(());
    }
    let outcome = desk.release(released.clone()).timeout(PATIENCE).await;
    if outcome.is_err() {
        peer.put_back(epoch, released);
    }
    outcome
}

async fn ask(
    peer: &Arc<Peer>,
    desk: &RemoteReferencesProxy,
    doubts: &[Record],
) -> Result<(), CallError> {
    if doubts.is_empty() {
        return Ok(());
    }
    let asked: Vec<_> = doubts.iter().map(|record| (record.id, record.mark)).collect();
    match desk.settle(asked).timeout(PATIENCE).await {
        Ok(not_held) => {
            let one = |(id, mark): (u64, u64)| (id, vec![(mark, mark.saturating_add(1))]);
            peer.released(not_held.into_iter().map(one).collect());
            Ok(())
        }
        Err(error) => {
            peer.doubt_again(doubts);
            Err(error)
        }
    }
}

fn open(peer: &Arc<Peer>) -> Option<RemoteReferencesProxy> {
    let descriptor = <dyn RemoteReferences as Interface>::DESCRIPTOR;
    let node = Node::of(&peer.home()?)?;
    let link = peer.link()?;
    let object: Arc<str> = DESK.into();
    let handle = link.handle(&object, descriptor).ok()?;
    let remote = Remote::new(node, link, handle, descriptor, object, peer.address().clone());
    Some(RemoteReferencesProxy::from_remote(remote))
}

/// References that are given back, or asked about, in one call.
const BATCH: usize = 1024;
/// Pause after the peer could not be reached.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(50);
/// How long it is tried before what has piled up meanwhile goes with it.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
