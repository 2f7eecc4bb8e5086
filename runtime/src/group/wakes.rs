//! Which of many futures have something to say, so that a wake-up costs one poll and not one for each.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

use crate::driver::lock;

/// The futures that were woken, and the task that polls them all.
pub(super) struct Wakes {
    state: Mutex<State>,
}

struct State {
    /// Each future at most once.
    woken: VecDeque<usize>,
    is_woken: Vec<bool>,
    task: Option<Waker>,
}

/// Wakes one of the futures.
struct One {
    wakes: Arc<Wakes>,
    number: usize,
}

impl Wakes {
    /// For so many futures, all of which are to be polled.
    pub(super) fn new(count: usize) -> Arc<Wakes> {
        let state = State { woken: (0..count).collect(), is_woken: vec![true; count], task: None };
        Arc::new(Wakes { state: Mutex::new(state) })
    }

    /// The waker of one future.
    pub(super) fn waker(self: &Arc<Wakes>, number: usize) -> Waker {
        Waker::from(Arc::new(One { wakes: self.clone(), number }))
    }

    /// From now on this task is woken.
    pub(super) fn task(&self, waker: &Waker) {
        let mut state = lock(&self.state);
        match &mut state.task {
            Some(task) => task.clone_from(waker),
            task => *task = Some(waker.clone()),
        }
    }

    /// All are to be polled again.
    pub(super) fn wake_all(&self) {
        let mut state = lock(&self.state);
        let count = state.is_woken.len();
        state.woken = (0..count).collect();
        state.is_woken.fill(true);
    }

    /// The next one to be polled.
    pub(super) fn next(&self) -> Option<usize> {
        let mut state = lock(&self.state);
        let number = state.woken.pop_front()?;
        state.is_woken[number] = false;
        Some(number)
    }
}

impl Wake for One {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = lock(&self.wakes.state);
        if std::mem::replace(&mut state.is_woken[self.number], true) {
            return;
        }
        if cfg_canary!("woken_members_are_not_polled") && state.woken.len() > 1 {
            return;
        }
        state.woken.push_back(self.number);
        let task = state.task.take();
        drop(state);
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_polled_once_for_any_number_of_wakes() {
        let wakes = Wakes::new(2);
        let (first, second) = (wakes.waker(0), wakes.waker(1));
        assert_eq!((wakes.next(), wakes.next(), wakes.next()), (Some(0), Some(1), None));
        second.wake_by_ref();
        first.wake_by_ref();
        second.wake();
        assert_eq!((wakes.next(), wakes.next(), wakes.next()), (Some(1), Some(0), None));
        wakes.wake_all();
        assert_eq!(wakes.next(), Some(0));
    }
}
