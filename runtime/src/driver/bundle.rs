//! One datagram for the calls of many links: each link's task gives what it was about to send, and the last one, or the
//! clock, sends all of it to the group.
//!
//! Only how datagrams travel is changed here: each is numbered, acknowledged, and if it is lost sent again by its own
//! link, as every other. So a bundle that nobody gets costs time and nothing else.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;

use super::lock;
use crate::transport::GroupSocket;
use crate::wire::bundle::{self, ClientTag, LinkTag, MOST_PARTS, link_of};

/// Where bundles are sent.
pub(crate) struct Multicast {
    socket: Box<dyn GroupSocket>,
    group: SocketAddr,
    client: ClientTag,
    /// Largest datagram of a link, in bytes.
    datagram: usize,
    runtime: Handle,
}

/// The datagrams of one call to a group.
struct Bundle {
    multicast: Arc<Multicast>,
    state: Mutex<State>,
}

struct State {
    /// Links that have not given theirs.
    waits: usize,
    datagrams: Vec<Vec<u8>>,
    /// It has left: what is given now travels by itself.
    gone: bool,
}

/// What a link gives its datagram to, once. Dropped, it gives none.
pub(crate) struct Share {
    bundle: Arc<Bundle>,
}

impl Multicast {
    pub(crate) fn new(
        socket: Box<dyn GroupSocket>,
        group: SocketAddr,
        client: ClientTag,
        datagram: usize,
        runtime: Handle,
    ) -> Multicast {
        Multicast { socket, group, client, datagram, runtime }
    }

    /// Whether a call with so many bytes of arguments is one datagram of its link.
    pub(crate) fn carries(&self, bytes: usize) -> bool {
        bytes <= self.datagram.saturating_sub(AROUND)
    }

    /// A share for each of so many links of one call. What was given leaves after [`PATIENCE`] at the latest.
    pub(crate) fn shares(self: &Arc<Multicast>, links: usize) -> Vec<Share> {
        let state = State { waits: links, datagrams: Vec::new(), gone: false };
        let bundle = Arc::new(Bundle { multicast: self.clone(), state: Mutex::new(state) });
        let late = bundle.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep(PATIENCE).await;
            late.leave();
        });
        (0..links).map(|_| Share { bundle: bundle.clone() }).collect()
    }

    /// Sends what fits into one, and the rest in further ones.
    fn send(&self, datagrams: &[Vec<u8>]) {
        let bytes = bundle::encode(self.client, datagrams);
        if datagrams.len() > 1
            && (bytes.len() > self.datagram + BESIDE || datagrams.len() > MOST_PARTS)
        {
            let (first, second) = datagrams.split_at(datagrams.len() / 2);
            self.send(first);
            return self.send(second);
        }
        // What does not leave is lost, and sent again by its links.
        let _ = self.socket.try_send(&bytes, self.group);
    }
}

impl Share {
    /// Gives the link's datagram.
    ///
    /// # Errors
    /// The datagram, if it travels by itself: the bundle has left, or it is none that can be part of one.
    pub(crate) fn give(self, datagram: Vec<u8>) -> Result<(), Vec<u8>> {
        let mut state = lock(&self.bundle.state);
        if state.gone || !bundle::fits(&datagram) {
            return Err(datagram);
        }
        state.datagrams.push(datagram);
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = lock(&self.bundle.state);
        state.waits = state.waits.saturating_sub(1);
        let all = state.waits == 0;
        drop(state);
        if all {
            self.bundle.leave();
        }
    }
}

impl Bundle {
    fn leave(&self) {
        let mut state = lock(&self.state);
        state.gone = true;
        let mut datagrams = std::mem::take(&mut state.datagrams);
        drop(state);
        drop_equal_tags(&mut datagrams);
        if !datagrams.is_empty() {
            self.multicast.send(&datagrams);
        }
    }
}

/// Takes out the datagrams of links that a member could take for each other. They are as good as lost: their links send
/// them again. Two links in four thousand million have one tag.
fn drop_equal_tags(datagrams: &mut Vec<Vec<u8>>) {
    if cfg_canary!("equal_tags_share_a_bundle") {
        return;
    }
    let mut links: Vec<(LinkTag, u64)> =
        datagrams.iter().map(|one| (LinkTag::of_datagram(one), link_of(one))).collect();
    links.sort_unstable();
    links.dedup();
    let has_twin = |tag| {
        let first = links.partition_point(|(other, _)| *other < tag);
        links.get(first + 1).is_some_and(|(other, _)| *other == tag)
    };
    datagrams.retain(|one| !has_twin(LinkTag::of_datagram(one)));
}

/// Bytes of a datagram that are left for what is around a call's arguments: numbers and acknowledgements.
const AROUND: usize = 128;

/// How long a bundle waits for links that are busy.
const PATIENCE: Duration = Duration::from_millis(2);

/// What a bundle takes beside the largest datagram: the links and their numbers. Together they pass an Ethernet.
const BESIDE: usize = 250;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::datagram::{Truncated, begin_data, seal};

    #[test]
    fn datagrams_of_links_with_one_tag_do_not_leave_together() {
        let data = |link: u64| {
            let mut bytes = Vec::new();
            begin_data(link, Truncated::of(1), &mut bytes);
            seal(0, &mut bytes);
            bytes
        };
        let [alone, one, other] = [5 << 32 | 1, 7 << 32 | 1, 7 << 32 | 2].map(data);
        let mut datagrams = vec![one.clone(), alone.clone(), other, alone.clone()];
        drop_equal_tags(&mut datagrams);
        assert_eq!(datagrams, [alone.clone(), alone.clone()]);
        let mut datagrams = vec![one.clone(), alone.clone()];
        drop_equal_tags(&mut datagrams);
        assert_eq!(datagrams, [one, alone]);
    }
}
