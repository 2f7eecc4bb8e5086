//! A flag that code can wait for.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Goes up once and never down.
#[derive(Default)]
pub(crate) struct Flag {
    raised: AtomicBool,
    changed: Notify,
}

impl Flag {
    pub(super) fn raised() -> Flag {
        Flag { raised: AtomicBool::new(true), changed: Notify::new() }
    }

    /// Puts the flag up and wakes all who wait for it.
    pub(crate) fn raise(&self) {
        self.raised.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    /// Waits until it is up.
    pub(crate) async fn wait(&self) {
        // Created before the flag is read: what is raised in between is not missed.
        let changed = self.changed.notified();
        if !self.is_raised() {
            changed.await;
        }
    }
}
