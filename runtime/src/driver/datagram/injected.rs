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
    task: Option<Waker>,
}

impl Injected {
    /// Adds datagrams, and wakes the socket's task.
    pub(in crate::driver) fn add(&self, parts: &[Part]) {
        let mut state = lock(&self.state);
        let room = MOST.saturating_sub(state.parts.len());
        state.parts.extend(parts.iter().take(room).cloned());
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
        std::mem::take(&mut state.parts)
    }
}

/// Datagrams that wait for the socket's task.
const MOST: usize = 1024;
