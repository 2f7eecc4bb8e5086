//! The writer: one thread that owns the database, and the queues of what it is to do.
//!
//! Whatever waits when a batch begins shares its commit, up to a number and a time; so a store that has little to do
//! commits at once, and one that has much to do commits seldom. Nobody waits for a timer, but for the end of a call that
//! can wait until somebody else needs a commit.

use std::any::Any;
use std::collections::VecDeque;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Sqlite, StoreError};
use crate::limits::Limits;
use crate::protocol::durable::batch::{self, After, Failure, Work};

/// The moment it is: the writer's thread waits in real time.
#[allow(clippy::disallowed_methods, reason = "a thread waits in real time")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// What the writer is told by all others.
pub(super) struct Queues {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    queue: VecDeque<Queued>,
    /// Not bounded: it holds at most one for each call in the journal, which is.
    later: VecDeque<Box<dyn Work<Sqlite>>>,
    /// Until when the first of these can wait.
    due: Option<Instant>,
    /// What was due went before a turn of the program: now that turn is next.
    turn_is_next: bool,
    bounds: Bounds,
    status: Status,
}

struct Queued {
    work: Box<dyn Work<Sqlite>>,
    company: Company,
}

/// Whether others may share a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Company {
    Any,
    /// It cannot be run again when the commit fails because of another, and takes its time.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Open,
    /// What waits is still done.
    Closing,
    Closed,
    Poisoned,
}

/// The limits of a node, as far as they are the writer's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    batch_calls: usize,
    batch_time: Duration,
    settle_delay: Duration,
    queue: usize,
    pub(super) handler_timeout: Duration,
}

impl Bounds {
    pub(super) fn of(limits: &Limits) -> Bounds {
        Bounds {
            batch_calls: limits.batch_calls.max(1),
            batch_time: limits.batch_time,
            settle_delay: limits.settle_delay,
            queue: limits.store_queue,
            handler_timeout: limits.handler_timeout,
        }
    }
}

impl Queues {
    pub(super) fn new(bounds: Bounds) -> Queues {
        let state = State {
            queue: VecDeque::new(),
            later: VecDeque::new(),
            due: None,
            turn_is_next: false,
            bounds,
            status: Status::Open,
        };
        Queues { state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn configure(&self, bounds: Bounds) {
        self.state().bounds = bounds;
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.state().bounds
    }

    pub(super) fn submit(&self, work: Box<dyn Work<Sqlite>>, company: Company) {
        let mut state = self.state();
        let refusal = match state.refusal() {
            None if state.queue.len() >= state.bounds.queue => StoreError::Busy {
                reason: "as many calls wait for it as `Limits::store_queue` allows",
            },
            None => {
                state.queue.push_back(Queued { work: Box::new(Caught(work)), company });
                drop(state);
                self.changed.notify_one();
                return;
            }
            Some(refusal) => refusal,
        };
        drop(state);
        Box::new(Caught(work)).failed(Failure::NotCommitted(refusal));
    }

    pub(super) fn submit_later(&self, work: Box<dyn Work<Sqlite>>) {
        let mut state = self.state();
        match state.refusal() {
            None => {
                state.later.push_back(Box::new(Caught(work)));
                if state.due.is_none() {
                    state.due = Some(now() + state.bounds.settle_delay);
                    drop(state);
                    self.changed.notify_one();
                }
            }
            Some(refusal) => {
                drop(state);
                Box::new(Caught(work)).failed(Failure::NotCommitted(refusal));
            }
        }
    }

    /// Whether nothing is taken in any more.
    pub(super) fn is_stopped(&self) -> bool {
        self.state().status != Status::Open
    }

    /// Lets the writer end once it has done what waits.
    pub(super) fn close(&self) {
        let mut state = self.state();
        if state.status == Status::Open {
            state.status = Status::Closing;
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Waits for the next batch, and puts it behind what is left of the last one. Nothing if there will be none.
    fn next(&self, batch: &mut VecDeque<Box<dyn Work<Sqlite>>>) -> Option<Bounds> {
        let mut state = self.state();
        loop {
            if !batch.is_empty() || !state.queue.is_empty() || state.later_is_due() {
                state.take(batch);
                return Some(state.bounds);
            }
            if state.status != Status::Open {
                return None;
            }
            state = match state.due {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(due) => {
                    let left = due.saturating_duration_since(now());
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Takes in nothing more, and fails what waits.
    fn end(&self, status: Status, left: VecDeque<Box<dyn Work<Sqlite>>>) {
        let mut state = self.state();
        state.status = status;
        state.due = None;
        let queue = std::mem::take(&mut state.queue);
        let later = std::mem::take(&mut state.later);
        let refusal = state.refusal().unwrap_or(StoreError::Closed);
        drop(state);
        for work in left.into_iter().chain(queue.into_iter().map(|queued| queued.work)).chain(later)
        {
            work.failed(Failure::NotCommitted(refusal.clone()));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn refusal(&self) -> Option<StoreError> {
        match self.status {
            Status::Open => None,
            Status::Closing | Status::Closed => Some(StoreError::Closed),
            Status::Poisoned => Some(StoreError::Poisoned),
        }
    }

    fn later_is_due(&self) -> bool {
        self.due.is_some_and(|due| self.status != Status::Open || due <= now())
    }

    /// Fills a batch up. What can wait rides along; there is as much room for it as for the others, so that it cannot
    /// pile up behind them.
    fn take(&mut self, batch: &mut VecDeque<Box<dyn Work<Sqlite>>>) {
        let most = self.bounds.batch_calls;
        let turn = batch.is_empty()
            && self.queue.front().is_some_and(|queued| queued.company == Company::None);
        // Turns one behind another do not hold up what has waited long enough, nor that them.
        let first = turn && (self.turn_is_next || !self.later_is_due());
        self.turn_is_next = turn && !first;
        if first {
            batch.extend(self.queue.pop_front().map(|queued| queued.work));
            return;
        }
        while batch.len() < most
            && let Some(queued) = self.queue.pop_front_if(|queued| queued.company == Company::Any)
        {
            batch.push_back(queued.work);
        }
        let later = self.later.len().min(most);
        batch.extend(self.later.drain(..later));
        if self.later.is_empty() {
            self.due = None;
        }
    }
}

/// The writer's thread, from its first batch to its end.
pub(super) fn run(queues: &Arc<Queues>, mut database: Sqlite, lock: File) {
    let mut writer =
        Writer { queues: queues.clone(), batch: VecDeque::new(), status: Status::Closed };
    while let Some(bounds) = queues.next(&mut writer.batch) {
        let until = now() + bounds.batch_time;
        let may_start = |started| started == 0 || now() < until;
        if batch::run(&mut database, &mut writer.batch, may_start) == After::Poisoned {
            writer.status = Status::Poisoned;
            break;
        }
        database.tell();
    }
    // The file can be opened again before anybody hears that he has to.
    drop(database);
    drop(lock);
}

/// Tells everybody when the writer ends, however it does.
struct Writer {
    queues: Arc<Queues>,
    batch: VecDeque<Box<dyn Work<Sqlite>>>,
    status: Status,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queues.end(self.status, std::mem::take(&mut self.batch));
    }
}

/// Work that may panic without harm to others.
struct Caught(Box<dyn Work<Sqlite>>);

impl Work<Sqlite> for Caught {
    fn run(&mut self, db: &mut Sqlite) -> Result<(), StoreError> {
        let caught = catch_unwind(AssertUnwindSafe(|| self.0.run(db)));
        caught.unwrap_or_else(|panic| Err(StoreError::Panicked { text: text(&*panic).into() }))
    }

    fn committed(self: Box<Self>, db: &Sqlite) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.0.committed(db)));
    }

    fn failed(self: Box<Self>, failure: Failure<StoreError>) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.0.failed(failure)));
    }
}

fn text(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "with something that is no text".to_owned(),
    }
}
