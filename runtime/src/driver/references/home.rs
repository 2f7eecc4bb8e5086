//! The calls that a node makes of its own objects without a session.

use std::any::Any;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use super::{HOME, Home, Partner};
use crate::context::{Caller, CancelSource, Flag, SessionContext};
use crate::id::SessionId;

/// What is counted of them.
#[derive(Default)]
pub(crate) struct Visits {
    session: OnceLock<SessionId>,
    last: AtomicU64,
    running: AtomicUsize,
}

/// One of them, as its handler sees it: the session, and whether anybody waits.
pub(crate) struct Visit {
    home: Arc<dyn Home>,
    flag: Arc<Flag>,
    session: Arc<SessionContext>,
}

/// Counts one among those that run.
pub(crate) struct Count(Arc<dyn Home>);

/// Begins one, with its number; nothing if the node begins nothing new.
pub(crate) fn visit(home: &Arc<dyn Home>) -> Option<(Arc<Visit>, Count, u64)> {
    let server = home.server();
    if server.is_draining() {
        return None;
    }
    let visits = &server.visits;
    let seq = visits.last.fetch_add(1, Ordering::Relaxed) + 1;
    visits.running.fetch_add(1, Ordering::AcqRel);
    let count = Count(home.clone());
    let session = *visits.session.get_or_init(|| SessionId(server.entropy.next()));
    let visit = Arc::new_cyclic(|this: &Weak<Visit>| {
        let caller = Caller::new(home.id(), HOME.into(), None);
        let (boot, began) = (server.boot(), server.clock.began());
        let context = SessionContext { caller, boot, session, began, cancel: this.clone() };
        Visit { home: home.clone(), flag: Arc::default(), session: Arc::new(context) }
    });
    Some((visit, count, seq))
}

impl Visits {
    /// How many began.
    pub(crate) fn begun(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// How many run.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::Acquire)
    }
}

impl Visit {
    /// The node.
    pub(crate) fn home(&self) -> &Arc<dyn Home> {
        &self.home
    }

    /// What the handler's context says of its session.
    pub(crate) fn session(&self) -> Arc<SessionContext> {
        self.session.clone()
    }

    /// The handler is told that nobody waits.
    pub(crate) fn cancel(&self) {
        self.flag.raise();
    }

    /// Raised when the node ends.
    pub(crate) fn closing(&self) -> Arc<Flag> {
        self.home.closing()
    }

    /// Who is at the other side.
    pub(super) fn partner(&self) -> (Arc<dyn Home>, Partner) {
        (self.home.clone(), Partner::Local)
    }
}

impl CancelSource for Visit {
    fn subscribe(&self, _seq: u64) -> Arc<Flag> {
        self.flag.clone()
    }

    fn session(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self)
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.server().visits.running.fetch_sub(1, Ordering::AcqRel);
    }
}
