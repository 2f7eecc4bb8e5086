//! Datagrams for the links of a socket that came by another way: out of a bundle, at a group's address.
//!
//! Bounded: what is too much is lost, as anything may be that travels so.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::task::Waker;

use crate::driver::lock;

#[derive(Default)]
pub(in crate::driver) struct Injected {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Each with its link.
    datagrams: VecDeque<(u64, Vec<u8>)>,
    task: Option<Waker>,
}

impl Injected {
    /// Adds datagrams, and wakes the socket's task.
    pub(in crate::driver) fn add(&self, datagrams: &[(u64, Vec<u8>)]) {
        let mut state = lock(&self.state);
        for datagram in datagrams {
            if state.datagrams.len() < MOST {
                state.datagrams.push_back(datagram.clone());
            }
        }
        let task = state.task.take();
        drop(state);
        if let Some(task) = task {
            task.wake();
        }
    }

    /// What came; this task is woken when more comes.
    pub(super) fn take(&self, task: &Waker) -> VecDeque<(u64, Vec<u8>)> {
        let mut state = lock(&self.state);
        match &mut state.task {
            Some(kept) => kept.clone_from(task),
            kept => *kept = Some(task.clone()),
        }
        std::mem::take(&mut state.datagrams)
    }
}

/// Datagrams that wait for the socket's task.
const MOST: usize = 1024;
