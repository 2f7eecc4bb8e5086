//! Datagrams for the links of a socket that came by another way: out of a bundle, at a group's address.
//!
//! Bounded: what is too much is lost, as anything may be that travels so.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::task::Waker;

use crate::driver::lock;
use crate::wire::bundle::Part;

#[derive(Default)]
pub(in crate::driver) struct Injected {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    parts: VecDeque<Part>,
    /// Bytes that they take.
    bytes: usize,
    task: Option<Waker>,
}

impl Injected {
    /// Adds the datagrams of one bundle, and wakes the socket's task.
    pub(in crate::driver) fn add(&self, parts: &[Part]) {
        let mut state = lock(&self.state);
        // What they share is there once.
        let mut bytes = state.bytes + parts.first().map_or(0, |part| part.size().1);
        for part in parts {
            bytes += part.size().0;
            if state.parts.len() >= MOST || bytes > MOST_BYTES {
                break;
            }
            state.parts.push_back(part.clone());
            state.bytes = bytes;
        }
        let task = state.task.take();
        drop(state);
        if let Some(task) = task {
            task.wake();
        }
    }

    /// What came; this task is woken when more comes.
    pub(super) fn take(&self, task: &Waker) -> VecDeque<Part> {
        let mut state = lock(&self.state);
        match &mut state.task {
            Some(kept) => kept.clone_from(task),
            kept => *kept = Some(task.clone()),
        }
        state.bytes = 0;
        std::mem::take(&mut state.parts)
    }
}

/// Datagrams that wait for the socket's task, and the bytes that they take: those of as many bundles of the usual size.
const MOST: usize = 1024;
const MOST_BYTES: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;
    use crate::wire::bundle::{self, Bundle, ClientTag};
    use crate::wire::datagram::{Truncated, begin_data, seal};

    /// A bundle for so many links, with frames of so many bytes that are the same for all.
    fn parts(links: u64, bytes: usize) -> Vec<Part> {
        let datagrams: Vec<Vec<u8>> = (0..links)
            .map(|link| {
                let mut data = Vec::new();
                begin_data(link << 32, Truncated::of(1), &mut data);
                data.resize(data.len() + bytes, 7);
                seal(0, &mut data);
                data
            })
            .collect();
        let client = ClientTag::of(NodeId(uuid::Uuid::from_u128(1)));
        let bytes = bundle::encode(client, &datagrams);
        Bundle::decode(&bytes).expect("it is one").parts().collect()
    }

    fn waits(injected: &Injected) -> usize {
        injected.take(Waker::noop()).len()
    }

    #[test]
    fn what_waits_is_bounded_by_number_and_by_bytes() {
        let (injected, usual, large) = (Injected::default(), parts(1, 1200), parts(1, 60_000));
        (0..2000).for_each(|_| injected.add(&usual));
        assert_eq!(waits(&injected), MOST);
        (0..2000).for_each(|_| injected.add(&large));
        assert_eq!(waits(&injected), MOST_BYTES / 60_100);
        (0..2000).for_each(|_| injected.add(&usual));
        assert_eq!(waits(&injected), MOST, "what was taken does not count");
    }

    #[test]
    fn what_the_parts_of_a_bundle_share_counts_once() {
        let (injected, shared) = (Injected::default(), parts(100, 60_000));
        injected.add(&shared);
        assert_eq!(waits(&injected), 100);
    }
}
