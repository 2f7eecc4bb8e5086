//! Who of many links has something to say, for the one task that serves them all.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

use crate::driver::lock;

/// The links that rang.
#[derive(Default)]
pub(super) struct Rung {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// One entry a link at most, since a session rings once until it is looked at.
    links: Vec<u64>,
    task: Option<Waker>,
}

/// One link's bell, as a waker.
struct Doorbell {
    link: u64,
    rung: Arc<Rung>,
}

impl Rung {
    /// A waker that rings for a link.
    pub(super) fn bell(self: &Arc<Rung>, link: u64) -> Waker {
        Arc::new(Doorbell { link, rung: self.clone() }).into()
    }

    /// Appends the links that rang; wakes the task when another does.
    pub(super) fn take(&self, into: &mut VecDeque<u64>, task: &Waker) {
        let mut state = lock(&self.state);
        into.extend(state.links.drain(..));
        match &state.task {
            Some(known) if known.will_wake(task) => {}
            _ => state.task = Some(task.clone()),
        }
    }
}

impl Wake for Doorbell {
    fn wake(self: Arc<Doorbell>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Doorbell>) {
        let task = {
            let mut state = lock(&self.rung.state);
            state.links.push(self.link);
            state.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Task>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_task_is_woken_once_and_told_every_link_that_rang() {
        let (rung, task) = (Arc::<Rung>::default(), Arc::<Task>::default());
        let (waker, mut links) = (Waker::from(task.clone()), VecDeque::new());
        rung.bell(1).wake();
        rung.take(&mut links, &waker);
        assert_eq!((links.as_slices().0, task.0.load(Ordering::Relaxed)), (&[1][..], 0));
        let (two, three) = (rung.bell(2), rung.bell(3));
        two.wake_by_ref();
        three.wake();
        two.wake();
        assert_eq!(task.0.load(Ordering::Relaxed), 1);
        rung.take(&mut links, &waker);
        assert_eq!(links, [1, 2, 3, 2]);
    }
}
