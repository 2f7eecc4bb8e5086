//! Objects that are called by reference: what keeps them, and where their handles are.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crate::descriptor::Descriptor;
use crate::driver::lock;
use crate::driver::session::Cell;
use crate::id::Handle;
use crate::registry::{Bound, Slot};

/// Told when no peer holds the object any more.
type Watch = Box<dyn Fn() + Send + Sync>;

/// An object that is passed by reference. Whoever holds this holds the object.
pub(crate) struct Exported {
    /// Which one it is, among all of its node.
    pub(crate) key: u64,
    pub(crate) descriptor: &'static Descriptor,
    slot: Arc<Slot>,
    /// The slot is that of a name, which keeps the object by itself.
    named: bool,
    /// How many peers were handed it and have not given it back.
    holders: AtomicUsize,
    watch: Option<Watch>,
    /// The sessions that look at it, by the ids that they know and the handles that they gave these.
    seen: Mutex<Vec<(Weak<Cell>, u64, Handle)>>,
}

/// The objects of a node that have no name, and what it passes to itself.
#[derive(Default)]
pub(crate) struct Objects {
    keys: AtomicU64,
    all: Mutex<BTreeMap<u64, Weak<Exported>>>,
    /// How many were left when those that are gone left last.
    swept: AtomicUsize,
    named: Mutex<BTreeMap<Box<str>, Weak<Exported>>>,
    kept: Mutex<BTreeMap<u64, Arc<dyn Any + Send + Sync>>>,
}

impl Objects {
    /// An object without a name.
    pub(crate) fn add(&self, bound: Bound, watch: Option<Watch>) -> Arc<Exported> {
        let descriptor = bound.interface;
        self.exported(descriptor, Slot::of(bound), false, watch)
    }

    /// What a name of this node means, now and later.
    pub(crate) fn named(
        &self,
        name: &str,
        descriptor: &'static Descriptor,
        slot: Arc<Slot>,
    ) -> Arc<Exported> {
        let mut named = lock(&self.named);
        if let Some(exported) = named.get(name).and_then(Weak::upgrade)
            && exported.descriptor.name == descriptor.name
        {
            return exported;
        }
        named.retain(|_, exported| exported.strong_count() > 0);
        let exported = self.exported(descriptor, slot, true, None);
        named.insert(name.into(), Arc::downgrade(&exported));
        exported
    }

    fn exported(
        &self,
        descriptor: &'static Descriptor,
        slot: Arc<Slot>,
        named: bool,
        watch: Option<Watch>,
    ) -> Arc<Exported> {
        let key = self.keys.fetch_add(1, Ordering::Relaxed);
        let (holders, seen) = (AtomicUsize::new(0), Mutex::default());
        let exported = Arc::new(Exported { key, descriptor, slot, named, holders, watch, seen });
        let mut all = lock(&self.all);
        all.insert(key, Arc::downgrade(&exported));
        // Those that are gone leave when there are more of them than others.
        if all.len() > 2 * self.swept.load(Ordering::Relaxed) + SWEEP {
            all.retain(|_, object| object.strong_count() > 0);
            self.swept.store(all.len(), Ordering::Relaxed);
        }
        drop(all);
        exported
    }

    /// The object of a key, if it is still held.
    pub(crate) fn get(&self, key: u64) -> Option<Arc<Exported>> {
        lock(&self.all).get(&key)?.upgrade()
    }

    /// Keeps what the node passes to itself, under a number.
    pub(crate) fn keep(&self, passed: Arc<dyn Any + Send + Sync>) -> u64 {
        let number = self.keys.fetch_add(1, Ordering::Relaxed);
        lock(&self.kept).insert(number, passed);
        number
    }

    pub(crate) fn kept(&self, number: u64) -> Option<Arc<dyn Any + Send + Sync>> {
        lock(&self.kept).get(&number).cloned()
    }

    pub(crate) fn forget(&self, number: u64) {
        let kept = lock(&self.kept).remove(&number);
        drop(kept);
    }
}

impl Exported {
    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// A session has looked up an id of it as this handle.
    pub(in crate::driver) fn seen_by(&self, cell: &Arc<Cell>, id: u64, handle: Handle) {
        let mut seen = lock(&self.seen);
        // The peer gives a handle another time when it needs it no more: then it is this id's.
        seen.retain(|(of, _, other)| {
            let again = *other == handle && std::ptr::eq(of.as_ptr(), Arc::as_ptr(cell));
            of.strong_count() > 0 && !again
        });
        seen.push((Arc::downgrade(cell), id, handle));
    }

    /// A session was handed it.
    pub(crate) fn hold(&self) {
        self.holders.fetch_add(1, Ordering::AcqRel);
    }

    /// A peer holds it no more by this id: what its session has looked up by that is forgotten. Runs the user's code.
    pub(in crate::driver) fn unhold(&self, cell: Option<&Arc<Cell>>, id: u64) {
        if let Some(cell) = cell {
            self.forget(|seen, of| of == id && std::ptr::eq(seen.as_ptr(), Arc::as_ptr(cell)));
        }
        if self.holders.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(watch) = &self.watch
            && catch_unwind(AssertUnwindSafe(watch)).is_err()
        {
            tracing::error!("an object panicked when it was told that nobody holds it");
        }
    }

    fn forget(&self, which: impl Fn(&Weak<Cell>, u64) -> bool) {
        let mut forgotten = Vec::new();
        lock(&self.seen).retain(|(cell, id, handle)| {
            let forget = which(cell, *id);
            if forget {
                forgotten.push((cell.clone(), *handle));
            }
            !forget
        });
        for (cell, handle) in forgotten {
            let Some(cell) = cell.upgrade() else { continue };
            let object = cell.lock().handles.forget(handle, &self.slot);
            drop(object);
        }
    }
}

impl Drop for Exported {
    /// The object goes with the last who holds it. Its `Drop` is the user's code, and may panic.
    fn drop(&mut self) {
        if self.named {
            return;
        }
        let ended = catch_unwind(AssertUnwindSafe(|| {
            self.forget(|_, _| true);
            drop(self.slot.clear());
        }));
        if ended.is_err() {
            tracing::error!("an object that nobody holds panicked when it was dropped");
        }
    }
}

/// So many objects are made between two looks for those that are gone.
const SWEEP: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::clock::Clock;
    use crate::driver::references::nobody;
    use crate::id::{NodeId, SessionId};
    use crate::limits::Limits;
    use crate::protocol::server::{ProcessBudget, ServerSession};
    use crate::registry::Registry;

    static ANY: Descriptor = Descriptor { name: "Any", methods: &[] };

    fn cell() -> Arc<Cell> {
        let (limits, budget) = (Arc::new(Limits::default()), Arc::new(ProcessBudget::default()));
        let session =
            ServerSession::new(SessionId(1), NodeId(uuid::Uuid::from_u128(2)), limits, budget);
        Arc::new(Cell::new(session, Clock::new(), nobody()))
    }

    #[test]
    fn what_is_given_back_takes_no_handle_of_what_was_passed_meanwhile() {
        let (one, other) = (cell(), cell());
        let objects = Objects::default();
        let exported = objects.exported(&ANY, Registry::new(8, false).nothing(), false, None);
        exported.seen_by(&one, 1, 10);
        exported.seen_by(&one, 1, 11);
        exported.seen_by(&other, 1, 10);
        exported.hold();
        // It is given back and passed again before anybody looks, and the handle of before is given to it anew.
        exported.hold();
        exported.seen_by(&one, 2, 10);
        exported.seen_by(&one, 2, 12);
        let seen = || -> Vec<_> {
            lock(&exported.seen).iter().map(|(_, id, handle)| (*id, *handle)).collect()
        };
        assert_eq!(seen(), [(1, 11), (1, 10), (2, 10), (2, 12)]);
        exported.unhold(Some(&one), 1);
        assert_eq!(seen(), [(1, 10), (2, 10), (2, 12)]);
    }
}
