//! What all sessions of a node may use together: running handlers and bytes of saved replies.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits::Limits;

/// Counters that the sessions of one node share. They guard memory, not order: relaxed is enough.
#[derive(Debug, Default)]
pub(crate) struct ProcessBudget {
    running: AtomicUsize,
    bytes: AtomicUsize,
}

impl ProcessBudget {
    /// A copy with the same counts, for the exhaustive model.
    #[cfg(feature = "sim")]
    pub(super) fn fork(&self) -> ProcessBudget {
        let copy = |count: &AtomicUsize| AtomicUsize::new(count.load(Ordering::Relaxed));
        ProcessBudget { running: copy(&self.running), bytes: copy(&self.bytes) }
    }

    /// Handlers that run.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Bytes of saved replies and unfinished messages.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether one more handler may begin.
    #[inline]
    pub(super) fn may_begin(&self, limits: &Limits) -> bool {
        self.running() < limits.running_calls && self.may_save(limits.reply_reserve, limits)
    }

    /// Whether there is room for this many bytes.
    #[inline]
    pub(crate) fn may_save(&self, bytes: usize, limits: &Limits) -> bool {
        self.bytes() + bytes <= limits.process_bytes
    }

    #[inline]
    pub(super) fn begin(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn end(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts bytes in.
    #[inline]
    pub(crate) fn save(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes out.
    #[inline]
    pub(crate) fn unsave(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
