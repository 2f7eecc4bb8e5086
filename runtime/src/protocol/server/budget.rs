//! What all sessions of a node may use together: running handlers and bytes of saved replies.

use std::sync::Arc;
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

    /// Whether there is room for this many bytes.
    #[inline]
    pub(crate) fn may_save(&self, bytes: usize, limits: &Limits) -> bool {
        self.bytes() + bytes <= limits.process_bytes
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

/// What one session uses of the budget. While it holds, it tells the process sums only: most calls are answered before the
/// next one is looked at, and what they took is given back by then.
#[derive(Debug)]
pub(super) struct Share {
    process: Arc<ProcessBudget>,
    holds: bool,
    /// What the process does not know yet.
    running: isize,
    bytes: isize,
}

impl Share {
    /// A share of which nothing is used.
    pub(super) fn new(process: Arc<ProcessBudget>) -> Share {
        Share { process, holds: false, running: 0, bytes: 0 }
    }

    /// Nothing is told until [`tell`](Self::tell), unless it is much.
    #[inline]
    pub(super) fn hold(&mut self) {
        self.holds = true;
    }

    /// Tells the process what changed.
    #[inline]
    pub(super) fn tell(&mut self) {
        self.holds = false;
        let (running, bytes) = (std::mem::take(&mut self.running), std::mem::take(&mut self.bytes));
        // Two's complement: a negative number wraps the counter back.
        if running != 0 {
            self.process.running.fetch_add(running as usize, Ordering::Relaxed);
        }
        if bytes != 0 {
            self.process.bytes.fetch_add(bytes as usize, Ordering::Relaxed);
        }
    }

    #[inline]
    fn changed(&mut self) {
        if !self.holds || self.bytes.unsigned_abs() > MOST_UNTOLD {
            let holds = self.holds;
            self.tell();
            self.holds = holds;
        }
    }

    /// Whether one more handler may begin.
    #[inline]
    pub(super) fn may_begin(&self, limits: &Limits) -> bool {
        let running = self.process.running().saturating_add_signed(self.running);
        running < limits.running_calls && self.may_save(limits.reply_reserve, limits)
    }

    /// Whether there is room for this many bytes.
    #[inline]
    pub(super) fn may_save(&self, bytes: usize, limits: &Limits) -> bool {
        self.process.bytes().saturating_add_signed(self.bytes) + bytes <= limits.process_bytes
    }

    /// A handler begins.
    #[inline]
    pub(super) fn begin(&mut self) {
        self.running += 1;
        self.changed();
    }

    /// A handler has ended.
    #[inline]
    pub(super) fn end(&mut self) {
        self.running -= 1;
        self.changed();
    }

    /// Counts bytes in.
    #[inline]
    pub(super) fn save(&mut self, bytes: usize) {
        // No reply is larger than half of what can be addressed.
        self.bytes += bytes as isize;
        self.changed();
    }

    /// Counts bytes out.
    #[inline]
    pub(super) fn unsave(&mut self, bytes: usize) {
        self.bytes -= bytes as isize;
        self.changed();
    }

    /// Bytes that the process and this share count.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.process.bytes().saturating_add_signed(self.bytes)
    }
}

/// A share of a copy of the budget, for the exhaustive model.
#[cfg(feature = "sim")]
impl Clone for Share {
    fn clone(&self) -> Share {
        Share { process: Arc::new(self.process.fork()), ..*self }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.tell();
    }
}

/// Bytes of which the process need not know, for each session that is at work.
const MOST_UNTOLD: usize = 64 << 10;
