//! The objects of a node, by name.
//!
//! Five verbs for the program: `bind`, `rebind`, `unbind`, `lookup`, `list`. For the driver a
//! [`Slot`] per name: sessions keep it and see by its generation, without a lock, whether the name
//! means another object now. No sockets, no sessions; what a caller from outside may do is in
//! [`remote`].

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use serde::{Deserialize, Serialize};

use crate::address::{NameError, check_name};
use crate::context::Caller;
use crate::descriptor::Descriptor;
use crate::dispatch::{Interface, Object};

pub(crate) mod remote;
mod slot;

pub use remote::{RemoteRegistry, RemoteRegistryProxy};

use remote::Window;
pub(crate) use slot::{Bound, Dispatcher, Slot};

/// The objects of a node, by name. A handle: clones are the same registry.
///
/// A name has 1 to 255 bytes, of any characters but control characters. Calls follow the name:
/// after [`rebind`](Registry::rebind) they reach the new object, after [`unbind`](Registry::unbind)
/// none, while calls that have begun end where they began.
///
/// An object is given by value or in an [`Arc`] that the program keeps as well.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

/// A name that is bound, and the interface of what it is bound to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// The interface: the trait's name.
    pub interface: String,
}

/// What a caller from outside wants to change.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Verb {
    /// Bind a free name.
    Bind,
    /// Bind a name, whether it is free or not.
    Rebind,
    /// Make a name free.
    Unbind,
}

/// Why the registry did not do it. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RegistryError {
    /// No object can have this name.
    BadName(NameError),
    /// Names that begin with `farcall/` are farcall's own.
    Reserved {
        /// The name.
        name: String,
    },
    /// The name is bound already. Use `rebind` if the new object shall replace the old one.
    Taken {
        /// The name.
        name: String,
    },
    /// Nothing is bound to the name.
    NotBound {
        /// The name.
        name: String,
    },
    /// The node has as many names as its limits allow.
    Full {
        /// How many that are.
        limit: u64,
    },
    /// The object's interface has exactly-once methods, and the node has no store for them: see
    /// [`NodeBuilder::store`](crate::NodeBuilder::store).
    NoStore {
        /// The interface.
        interface: String,
    },
    /// The node's policy does not allow this caller to do it. See [`Registry::allow_remote`].
    Denied {
        /// What it wanted to do.
        verb: Verb,
        /// With which name.
        name: String,
    },
}

/// Whether a caller from outside may do something with a name.
type Policy = dyn Fn(&Caller, Verb, &str) -> bool + Send + Sync;

struct Shared {
    names: Mutex<Names>,
    max_names: usize,
    /// Whether exactly-once objects can be bound.
    has_store: bool,
    /// The slot of all names that can never be bound.
    never: Arc<Slot>,
    policy: RwLock<Option<Arc<Policy>>>,
}

#[derive(Default)]
struct Names {
    bound: HashMap<Arc<str>, Arc<Slot>>,
    /// Slots of names that somebody asked for and nobody has bound: kept by those who asked.
    asked: HashMap<Arc<str>, Weak<Slot>>,
    alive: Arc<AtomicUsize>,
    /// How many of those that are bound are farcall's own; they do not count against a node's limit.
    own: usize,
}

impl Registry {
    /// Binds an object to a name that is free.
    ///
    /// For an object with one remote interface; see [`bind_as`](Registry::bind_as) for one with
    /// several.
    ///
    /// # Errors
    /// [`RegistryError::Taken`] if the name is not free, and those of a bad name or a full
    /// registry.
    pub fn bind<I, O>(&self, name: &str, object: O) -> Result<(), RegistryError>
    where
        I: ?Sized + Interface,
        O: Object<I>,
    {
        self.put(Verb::Bind, name, Bound::new(object))
    }

    /// Binds an object to a name that is free, as the interface that is written: `bind_as::<dyn
    /// Account>("alice", memory)`.
    ///
    /// # Errors
    /// Those of [`bind`](Registry::bind).
    pub fn bind_as<I: ?Sized + Interface>(
        &self,
        name: &str,
        object: impl Object<I>,
    ) -> Result<(), RegistryError> {
        self.bind::<I, _>(name, object)
    }

    /// Binds an object to a name, in place of what the name was bound to. Its interface may be
    /// another one.
    ///
    /// # Errors
    /// Those of a bad name or a full registry.
    pub fn rebind<I, O>(&self, name: &str, object: O) -> Result<(), RegistryError>
    where
        I: ?Sized + Interface,
        O: Object<I>,
    {
        self.put(Verb::Rebind, name, Bound::new(object))
    }

    /// [`rebind`](Registry::rebind) as the interface that is written.
    ///
    /// # Errors
    /// Those of [`rebind`](Registry::rebind).
    pub fn rebind_as<I: ?Sized + Interface>(
        &self,
        name: &str,
        object: impl Object<I>,
    ) -> Result<(), RegistryError> {
        self.rebind::<I, _>(name, object)
    }

    /// Makes a name free. The object is dropped when its last call has ended and every session has
    /// seen the change, which is at its next call.
    ///
    /// # Errors
    /// [`RegistryError::NotBound`] if nothing is bound to it.
    pub fn unbind(&self, name: &str) -> Result<(), RegistryError> {
        check_free_for_users(name)?;
        let before = self.shared.names().free(name);
        // The user's `Drop` runs here, under no lock.
        before.map(drop).ok_or_else(|| RegistryError::NotBound { name: name.to_owned() })
    }

    /// The object of that name, if it is bound and has this interface: `lookup::<dyn
    /// Account>("alice")`.
    #[must_use]
    pub fn lookup<I: ?Sized + Interface>(&self, name: &str) -> Option<Arc<I>> {
        self.current(name)?.downcast()
    }

    /// All names that are bound, in order. Without farcall's own.
    #[must_use]
    pub fn list(&self) -> Vec<Entry> {
        let names = self.shared.names();
        let users = names.bound.iter().filter(|(name, _)| !is_reserved(name));
        let mut entries: Vec<Entry> = users
            .filter_map(|(name, slot)| Some(Entry::new(name, slot.current()?.interface)))
            .collect();
        drop(names);
        entries.sort_unstable();
        entries
    }

    /// Lets callers from outside bind, rebind and unbind where this says yes; without it they may
    /// not. Looking up and listing is always allowed.
    ///
    /// ```
    /// # fn example(registry: &farcall::Registry) {
    /// registry.allow_remote(|caller, _verb, name| {
    ///     caller.address.starts_with("127.0.0.1:") && name.starts_with("public/")
    /// });
    /// # }
    /// ```
    pub fn allow_remote(
        &self,
        policy: impl Fn(&Caller, Verb, &str) -> bool + Send + Sync + 'static,
    ) {
        let mut place = self.shared.policy.write().unwrap_or_else(PoisonError::into_inner);
        let before = place.replace(Arc::new(policy));
        drop(place);
        drop(before);
    }

    /// A registry for at most this many names, of a node that has a store for exactly-once calls or not.
    pub(crate) fn new(max_names: usize, has_store: bool) -> Registry {
        let shared = Shared {
            names: Mutex::default(),
            max_names,
            has_store,
            never: Slot::new(&Arc::default()),
            policy: RwLock::default(),
        };
        let registry = Registry { shared: Arc::new(shared) };
        registry.bind_own(remote::NAME, Window::new(&registry));
        registry
    }

    /// Binds an object of farcall's own.
    pub(crate) fn bind_own<I: ?Sized + Interface>(
        &self,
        name: &'static str,
        object: impl Object<I>,
    ) {
        let mut names = self.shared.names();
        let slot = Slot::new(&names.alive);
        slot.set(Some(Bound::new(object)));
        names.bound.insert(name.into(), slot);
        names.own += 1;
    }

    /// Binds an object as [`bind`](Registry::bind) does, and gives what [`unbind_if`](Registry::unbind_if) knows it by.
    pub(crate) fn bind_known<I, O>(&self, name: &str, object: O) -> Result<Bound, RegistryError>
    where
        I: ?Sized + Interface,
        O: Object<I>,
    {
        let bound = Bound::new(object);
        self.put(Verb::Bind, name, bound.clone())?;
        Ok(bound)
    }

    /// Makes a name free if it still means this very object; whether it did.
    pub(crate) fn unbind_if(&self, name: &str, bound: &Bound) -> bool {
        let mut names = self.shared.names();
        let current = names.bound.get(name).and_then(|slot| slot.current());
        let is_meant = current.as_ref().is_some_and(|current| current.is(bound));
        let before = if is_meant { names.free(name) } else { None };
        drop(names);
        // The user's `Drop` runs here, under no lock.
        drop((before, current));
        is_meant
    }

    /// The slot of a name, for a session that was asked for it. Nothing if too many names that
    /// nobody has bound are asked for at a time: the caller may try again later.
    pub(crate) fn resolve(&self, name: &str) -> Option<Arc<Slot>> {
        let mut names = self.shared.names();
        if let Some(slot) = names.slot(name) {
            return Some(slot);
        }
        if check_name(name).is_err() {
            return Some(Arc::clone(&self.shared.never));
        }
        let most = self.shared.max_names.saturating_add(self.shared.max_names.max(MIN_ASKED));
        if names.alive.load(Ordering::Relaxed) >= most {
            return None;
        }
        let slot = Slot::new(&names.alive);
        names.remember(name.into(), &slot);
        Some(slot)
    }

    /// The slot of what can never be bound.
    pub(crate) fn nothing(&self) -> Arc<Slot> {
        Arc::clone(&self.shared.never)
    }

    /// Whether an object with this interface is bound to the name, other than farcall's own.
    pub(crate) fn has(&self, name: &str, interface: &str) -> bool {
        let bound = if is_reserved(name) { None } else { self.current(name) };
        bound.is_some_and(|bound| bound.interface.name == interface)
    }

    /// What the name is bound to.
    fn current(&self, name: &str) -> Option<Bound> {
        self.shared.names().bound.get(name)?.current()
    }

    fn put(&self, verb: Verb, name: &str, bound: Bound) -> Result<(), RegistryError> {
        check_free_for_users(name)?;
        let interface = bound.interface;
        if interface.is_exactly_once() && !self.shared.has_store {
            return Err(RegistryError::NoStore { interface: interface.name.to_owned() });
        }
        let before = self.exchange(verb, name, bound)?;
        // The user's `Drop` runs here, under no lock.
        drop(before);
        Ok(())
    }

    /// Binds a name and gives back what it was bound to.
    fn exchange(
        &self,
        verb: Verb,
        name: &str,
        bound: Bound,
    ) -> Result<Option<Bound>, RegistryError> {
        let mut names = self.shared.names();
        if let Some(slot) = names.bound.get(name) {
            return match verb {
                Verb::Rebind => Ok(slot.set(Some(bound))),
                Verb::Bind | Verb::Unbind => Err(RegistryError::Taken { name: name.to_owned() }),
            };
        }
        if names.bound.len() >= self.shared.max_names.saturating_add(names.own) {
            return Err(RegistryError::Full { limit: self.shared.max_names as u64 });
        }
        let asked = names.asked.remove(name).and_then(|slot| slot.upgrade());
        let slot = asked.unwrap_or_else(|| Slot::new(&names.alive));
        slot.set(Some(bound));
        names.bound.insert(name.into(), slot);
        Ok(None)
    }

    /// Whether the node's policy lets this caller do that. User code: asked under no lock.
    fn allows(&self, caller: &Caller, verb: Verb, name: &str) -> bool {
        let policy = self.shared.policy.read().unwrap_or_else(PoisonError::into_inner).clone();
        policy.is_some_and(|policy| policy(caller, verb, name))
    }
}

/// An object that the program shares is bound as it is.
impl<I: ?Sized + Interface, O: Object<I>> Object<I> for Arc<O> {
    fn into_interface(self: Arc<Self>) -> Arc<I> {
        O::into_interface(Arc::clone(&*self))
    }
}

impl Entry {
    fn new(name: &str, interface: &Descriptor) -> Entry {
        Entry { name: name.to_owned(), interface: interface.name.to_owned() }
    }
}

impl Shared {
    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    /// The slot of a name that is bound, or that somebody asked for and still keeps.
    fn slot(&self, name: &str) -> Option<Arc<Slot>> {
        if let Some(slot) = self.bound.get(name) {
            return Some(Arc::clone(slot));
        }
        self.asked.get(name)?.upgrade()
    }

    /// Makes a name free that is bound, and gives what it meant: to be dropped under no lock.
    fn free(&mut self, name: &str) -> Option<Bound> {
        let (name, slot) = self.bound.remove_entry(name)?;
        let before = slot.set(None);
        self.remember(name, &slot);
        before
    }

    /// Keeps a slot of an unbound name findable for as long as somebody keeps it.
    ///
    /// Sweeps what nobody keeps any more when that is more than half, so that it costs little per
    /// name.
    fn remember(&mut self, name: Arc<str>, slot: &Arc<Slot>) {
        if self.asked.len() > 2 * self.alive.load(Ordering::Relaxed) + MIN_ASKED {
            self.asked.retain(|_, slot| slot.strong_count() > 0);
        }
        self.asked.insert(name, Arc::downgrade(slot));
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.list()).finish()
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verb::Bind => "bind",
            Verb::Rebind => "rebind",
            Verb::Unbind => "unbind",
        })
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegistryError::BadName(error) => error.fmt(f),
            RegistryError::Reserved { name } => {
                write!(f, "`{name}` is a name of farcall's own; write one without `{RESERVED}`")
            }
            RegistryError::Taken { name } => {
                write!(f, "`{name}` is bound already; use `rebind` to replace the object")
            }
            RegistryError::NotBound { name } => write!(f, "nothing is bound to `{name}`"),
            RegistryError::Full { limit } => {
                write!(f, "the registry has {limit} names, the most that its node allows")
            }
            RegistryError::NoStore { interface } => write!(
                f,
                "{interface} has exactly-once methods, and this node has no store for them; give it one with \
                 `Node::builder().store(…)`"
            ),
            RegistryError::Denied { verb, name } => {
                write!(f, "the node does not allow this caller to {verb} `{name}`")
            }
        }
    }
}

impl Error for RegistryError {}

impl From<NameError> for RegistryError {
    fn from(error: NameError) -> RegistryError {
        RegistryError::BadName(error)
    }
}

fn check_free_for_users(name: &str) -> Result<(), RegistryError> {
    check_name(name)?;
    if is_reserved(name) {
        return Err(RegistryError::Reserved { name: name.to_owned() });
    }
    Ok(())
}

fn is_reserved(name: &str) -> bool {
    name.starts_with(RESERVED)
}

/// Names that begin so are farcall's own.
const RESERVED: &str = "farcall/";

/// So many names that nobody has bound may be asked for at a time, however few names the node
/// allows.
const MIN_ASKED: usize = 1024;

#[cfg(test)]
mod tests;
