//! What a name means, now and later: the part of the registry that sessions hold.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::descriptor::Descriptor;
use crate::dispatch::{Arguments, Dispatch, Interface, Object, Room};
use crate::id::MethodId;

/// What a name means, now and later. Sessions hold it for as long as they use the name.
pub(crate) struct Slot {
    /// Rises with every change, after it.
    generation: AtomicU64,
    current: Mutex<Option<Bound>>,
    /// How many slots of the registry are alive; this is one of them.
    alive: Arc<AtomicUsize>,
}

/// An object under a name.
#[derive(Clone)]
pub(crate) struct Bound {
    /// Its interface.
    pub(crate) interface: &'static Descriptor,
    /// The way into it.
    pub(crate) object: Arc<dyn Dispatcher>,
}

/// An object whose interface is known at run time only.
pub(crate) trait Dispatcher: Any + Send + Sync {
    /// Decodes the arguments, runs the method and encodes what it returns.
    fn dispatch(&self, method: MethodId, arguments: Arguments, room: Room) -> Dispatch;
}

/// An object as its interface, behind [`Dispatcher`].
struct Erased<I: ?Sized>(Arc<I>);

impl Slot {
    pub(super) fn new(alive: &Arc<AtomicUsize>) -> Arc<Slot> {
        alive.fetch_add(1, Ordering::Relaxed);
        Arc::new(Slot {
            generation: AtomicU64::new(0),
            current: Mutex::new(None),
            alive: Arc::clone(alive),
        })
    }

    /// The slot of an object without a name.
    pub(crate) fn of(bound: Bound) -> Arc<Slot> {
        let slot = Slot::new(&Arc::default());
        slot.set(Some(bound));
        slot
    }

    /// Nothing is meant any more; returns what was.
    pub(crate) fn clear(&self) -> Option<Bound> {
        self.set(None)
    }

    /// Rises with each change of what the name means.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// What the name means now. Read [`generation`](Slot::generation) before: what is cached under
    /// it is then never older than it.
    pub(crate) fn current(&self) -> Option<Bound> {
        self.lock().clone()
    }

    pub(super) fn set(&self, bound: Option<Bound>) -> Option<Bound> {
        let mut current = self.lock();
        let before = std::mem::replace(&mut *current, bound);
        self.generation.fetch_add(1, Ordering::Release);
        before
    }

    fn lock(&self) -> MutexGuard<'_, Option<Bound>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Bound {
    pub(crate) fn new<I: ?Sized + Interface>(object: impl Object<I>) -> Bound {
        let object = Arc::new(object).into_interface();
        Bound { interface: I::DESCRIPTOR, object: Arc::new(Erased(object)) }
    }

    /// Whether both are one object, bound once.
    pub(crate) fn is(&self, other: &Bound) -> bool {
        Arc::ptr_eq(&self.object, &other.object)
    }

    /// The object as this interface, if it was bound as it.
    pub(crate) fn downcast<I: ?Sized + Interface>(&self) -> Option<Arc<I>> {
        let object: &dyn Any = &*self.object;
        object.downcast_ref::<Erased<I>>().map(|erased| Arc::clone(&erased.0))
    }
}

impl<I: ?Sized + Interface> Dispatcher for Erased<I> {
    fn dispatch(&self, method: MethodId, arguments: Arguments, room: Room) -> Dispatch {
        I::dispatch(Arc::clone(&self.0), method, arguments, room)
    }
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bound").field(&self.interface.name).finish()
    }
}
