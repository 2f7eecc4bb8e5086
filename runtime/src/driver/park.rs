//! How a thread parks for a future, and whether it may.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::coop;

/// Runs a future by parking the thread; nothing if `limit` is over first.
///
/// It polls once at least. No timer of a runtime is involved, so it needs none and works while one
/// is stopped.
pub(crate) fn block_on<F: Future>(future: F, limit: Option<Duration>) -> Option<F::Output> {
    let mut future = pin!(future);
    let parker = PARKER.try_with(Cell::take).ok().flatten().unwrap_or_else(Parker::here);
    let mut deadline = None;
    let output = loop {
        let mut cx = Context::from_waker(&parker.waker);
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            break Some(output);
        }
        let end = *deadline.get_or_insert_with(|| limit.and_then(|limit| now().checked_add(limit)));
        if !parker.park(end) {
            break None;
        }
    };
    let _ = PARKER.try_with(|kept| kept.set(Some(parker)));
    output
}

/// Whether this thread is polling an async task, which must not be parked.
///
/// A runtime's handle alone does not tell: threads of `spawn_blocking` have one too. What they do
/// not have is the budget that tokio gives to each task, so a budget that can be used up means a
/// task. The guards give back what was used.
pub(crate) fn in_async_task() -> bool {
    if Handle::try_current().is_err() {
        return false;
    }
    let mut cx = Context::from_waker(Waker::noop());
    let mut used = Vec::with_capacity(MORE_THAN_A_BUDGET);
    let exhausted = (0..MORE_THAN_A_BUDGET).any(|_| match coop::poll_proceed(&mut cx) {
        Poll::Ready(guard) => {
            used.push(guard);
            false
        }
        Poll::Pending => true,
    });
    // Each guard restores what it found, so the first one taken has to be the last one given back.
    while used.pop().is_some() {}
    exhausted
}

/// A thread that waits, and the waker that ends its wait.
struct Parker {
    signal: Arc<Signal>,
    waker: Waker,
}

struct Signal {
    thread: Thread,
    raised: AtomicBool,
}

impl Parker {
    fn here() -> Parker {
        let signal = Arc::new(Signal { thread: thread::current(), raised: AtomicBool::new(false) });
        Parker { waker: Waker::from(Arc::clone(&signal)), signal }
    }

    /// Parks until somebody wakes; false if the deadline is first.
    fn park(&self, deadline: Option<Instant>) -> bool {
        loop {
            if self.signal.raised.swap(false, Ordering::Acquire) {
                return true;
            }
            match deadline {
                None => thread::park(),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(now());
                    if left.is_zero() {
                        return false;
                    }
                    thread::park_timeout(left);
                }
            }
        }
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.raised.swap(true, Ordering::Release) {
            self.thread.unpark();
        }
    }
}

thread_local! {
    /// The thread's parker between two waits. It is taken out while in use: a wait within a wait
    /// gets another one, and takes no signal away.
    static PARKER: Cell<Option<Parker>> = const { Cell::new(None) };
}

#[allow(clippy::disallowed_methods, reason = "a thread parks in real time")]
fn now() -> Instant {
    Instant::now()
}

/// More steps than tokio gives to a task before it has to yield, which are 128.
const MORE_THAN_A_BUDGET: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, poll_fn};
    use std::sync::mpsc;
    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::oneshot;

    fn current_thread() -> Runtime {
        Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    fn multi_thread() -> Runtime {
        Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
    }

    #[test]
    fn a_plain_thread_may_park() {
        assert!(!in_async_task());
    }

    #[test]
    fn a_thread_of_spawn_blocking_may_park() {
        for runtime in [current_thread(), multi_thread()] {
            let answer = runtime.block_on(runtime.spawn_blocking(in_async_task));
            assert!(!answer.expect("no panic"));
        }
    }

    #[test]
    fn a_thread_that_only_entered_a_runtime_may_park() {
        let runtime = current_thread();
        let _entered = runtime.enter();
        assert!(!in_async_task());
    }

    #[test]
    fn block_in_place_may_park() {
        let inside = async { tokio::task::block_in_place(in_async_task) };
        assert!(!multi_thread().block_on(async { tokio::spawn(inside).await }).expect("no panic"));
    }

    #[test]
    fn a_task_may_not_park() {
        for runtime in [current_thread(), multi_thread()] {
            let answer = runtime.block_on(async { tokio::spawn(async { in_async_task() }).await });
            assert!(answer.expect("no panic"));
        }
    }

    #[test]
    fn a_task_of_a_local_set_may_not_park() {
        let local = tokio::task::LocalSet::new();
        let inside = local.run_until(async {
            tokio::task::spawn_local(async { in_async_task() }).await.expect("no panic")
        });
        assert!(current_thread().block_on(inside));
    }

    #[test]
    fn the_future_of_block_on_may_not_park() {
        for runtime in [current_thread(), multi_thread()] {
            assert!(runtime.block_on(async { in_async_task() }));
        }
    }

    #[test]
    fn asking_gives_the_task_its_budget_back() {
        fn budget_left() -> usize {
            let mut cx = Context::from_waker(Waker::noop());
            let mut left = 0;
            while let Poll::Ready(guard) = coop::poll_proceed(&mut cx) {
                guard.made_progress();
                left += 1;
            }
            left
        }
        let (before, after) = current_thread().block_on(async {
            let before = tokio::spawn(async { budget_left() }).await.expect("no panic");
            let after = tokio::spawn(async {
                assert!(in_async_task());
                budget_left()
            });
            (before, after.await.expect("no panic"))
        });
        assert!(before > 0 && before < MORE_THAN_A_BUDGET);
        assert_eq!(before, after);
    }

    #[test]
    fn a_parked_thread_is_woken_by_another() {
        let (sender, receiver) = oneshot::channel();
        let thread = thread::spawn(move || sender.send(7));
        assert_eq!(block_on(receiver, None), Some(Ok(7)));
        thread.join().expect("no panic").expect("received");
    }

    #[test]
    fn a_parked_thread_gives_up_at_its_limit() {
        assert_eq!(block_on(pending::<()>(), Some(Duration::from_millis(1))), None);
        assert_eq!(block_on(pending::<()>(), Some(Duration::ZERO)), None);
    }

    #[test]
    fn what_is_ready_is_given_even_with_no_time_left() {
        assert_eq!(block_on(async { 7 }, Some(Duration::ZERO)), Some(7));
    }

    #[test]
    fn a_wait_within_a_wait_takes_no_signal_away() {
        let mut first = true;
        let outer = poll_fn(|cx| {
            if !std::mem::take(&mut first) {
                return Poll::Ready(7);
            }
            cx.waker().wake_by_ref();
            assert_eq!(block_on(pending::<()>(), Some(Duration::from_millis(1))), None);
            Poll::Pending
        });
        assert_eq!(block_on(outer, None), Some(7));
    }

    #[test]
    fn a_late_wake_of_an_earlier_wait_does_no_harm() {
        let (sender, receiver) = mpsc::channel();
        let first = poll_fn(|cx| {
            sender.send(cx.waker().clone()).expect("the receiver lives");
            Poll::Ready(())
        });
        block_on(first, None);
        receiver.recv().expect("sent").wake();
        assert_eq!(block_on(pending::<()>(), Some(Duration::from_millis(1))), None);
    }
}
