//! Lists the calls that ended while nobody waited for them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use super::journal::Journal;
use super::{in_store, reason};
use crate::driver::lock;
use crate::error::CallError;
use crate::id::Seq;
use crate::protocol::durable::journal as rows;
use crate::protocol::durable::rows::Saved;

/// Hears of calls that end while nobody waits for them.
#[derive(Default)]
pub(crate) struct Listener {
    state: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    finished: BTreeSet<Seq>,
    ended: bool,
    waker: Option<Waker>,
}

/// A walk over finished calls: those that are in the journal, then those that end meanwhile.
pub(crate) struct Walk {
    journal: Arc<Journal>,
    listener: Arc<Listener>,
    /// What was read and not given yet.
    page: VecDeque<Saved>,
    /// All finished calls up to here were read, as far as they had ended.
    after: Seq,
    /// All that had ended when the walk began was read.
    read: bool,
}

impl Listener {
    pub(super) fn finished(&self, seq: Seq) {
        self.change(|heard| {
            heard.finished.insert(seq);
        });
    }

    /// One call less is to come.
    pub(super) fn nudge(&self) {
        self.change(|_| {});
    }

    pub(super) fn end(&self) {
        self.change(|heard| heard.ended = true);
    }

    fn change(&self, change: impl FnOnce(&mut Heard)) {
        let mut heard = lock(&self.state);
        change(&mut heard);
        let waker = heard.waker.take();
        drop(heard);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Calls that have ended; pending while there may be more.
    fn poll(&self, more: bool, cx: &Context<'_>) -> Poll<Vec<Seq>> {
        let mut heard = lock(&self.state);
        if heard.finished.is_empty() && more && !heard.ended {
            heard.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(std::mem::take(&mut heard.finished).into_iter().collect())
    }

    /// It was given already, by the page that was read meanwhile.
    fn given(&self, seq: Seq) {
        lock(&self.state).finished.remove(&seq);
    }
}

impl Walk {
    /// Begins.
    pub(crate) fn new(journal: Arc<Journal>) -> Walk {
        let listener = Arc::<Listener>::default();
        let mut state = lock(&journal.state);
        if state.closed.is_some() {
            listener.end();
        }
        state.listeners.push(Arc::downgrade(&listener));
        drop(state);
        Walk { journal, listener, page: VecDeque::new(), after: 0, read: false }
    }

    /// The next finished call; nothing when all calls that were there when the node began have ended.
    pub(crate) async fn next(&mut self) -> Result<Option<Saved>, CallError> {
        loop {
            if let Some(saved) = self.page.pop_front() {
                self.listener.given(saved.seq);
                if !lock(&self.journal.state).held.contains(&saved.seq) {
                    return Ok(Some(saved));
                }
                continue;
            }
            if !self.read {
                let after = self.after;
                let page = in_store(&self.journal.store, move |db| db.untold(after, PAGE)).await;
                self.page = page.map_err(|failure| failed(&failure))?.into();
                self.read = self.page.len() < PAGE;
                self.after = self.page.back().map_or(after, |last| last.seq);
                continue;
            }
            let heard = std::future::poll_fn(|cx| {
                let more = lock(&self.journal.state).earlier > 0;
                self.listener.poll(more, cx)
            });
            let heard = heard.await;
            if heard.is_empty() {
                return Ok(None);
            }
            let found = in_store(&self.journal.store, move |db| {
                let mut found = Vec::new();
                for seq in &heard {
                    found.extend(
                        db.untold(seq - 1, 1)?.into_iter().filter(|saved| saved.seq == *seq),
                    );
                }
                Ok(found)
            });
            self.page = found.await.map_err(|failure| failed(&failure))?.into();
        }
    }
}

impl Journal {
    /// Drops a finished call.
    pub(crate) async fn forget_call(&self, seq: Seq) -> Result<(), CallError> {
        match in_store(&self.store, move |db| rows::forget(db, seq)).await {
            Ok(_) => Ok(()),
            Err(failure) => Err(failed(&failure)),
        }
    }
}

fn failed(
    failure: &crate::protocol::durable::batch::Failure<crate::store::StoreError>,
) -> CallError {
    CallError::Store { reason: reason(failure).into() }
}

/// Calls that are read from the store at a time.
const PAGE: usize = 128;
