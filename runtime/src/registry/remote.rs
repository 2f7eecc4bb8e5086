//! The registry as a remote object: what a caller from outside may do with the names of a node.
//!
//! Looking up and listing is open to all. Changing is refused unless the program's policy allows it
//! to the caller. `bind` and `rebind` take the name of an object that is bound already.

use std::sync::{Arc, Weak};

use farcall_macros::remote;

use super::{
    Bound, Entry, Registry, RegistryError, Shared, Verb, check_free_for_users, is_reserved,
};
use crate::address::check_name;
use crate::context::{Caller, Context};
use crate::error::CallError;
use crate::semantics::Execution;

/// Under this name each node has its own registry.
pub(crate) const NAME: &str = "farcall/registry";

/// The registry of a node, for those who call it: `tcp://host:port/farcall/registry`.
///
/// `bind`, `rebind` and `unbind` are refused unless the node allows them to the caller; see
/// [`Registry::allow_remote`].
#[remote(crate = crate)]
pub trait RemoteRegistry {
    /// What is bound to a name, if anything.
    #[remote(semantics = "at_least_once")]
    async fn lookup(&self, name: &str) -> Option<Entry>;

    /// All names that are bound, in order. Without farcall's own.
    #[remote(semantics = "at_least_once")]
    async fn list(&self) -> Vec<Entry>;

    /// Binds a free name to the object that is bound to `object` already.
    async fn bind(&self, name: &str, object: &str) -> Result<(), RegistryError>;

    /// Binds a name, whether it is free or not, to the object that is bound to `object` already.
    async fn rebind(&self, name: &str, object: &str) -> Result<(), RegistryError>;

    /// Makes a name free.
    async fn unbind(&self, name: &str) -> Result<(), RegistryError>;
}

/// What is bound to [`NAME`]. It holds the registry weakly, since the registry holds it.
pub(super) struct Window(Weak<Shared>);

impl Window {
    pub(super) fn new(registry: &Registry) -> Window {
        Window(Arc::downgrade(&registry.shared))
    }

    /// The registry, for as long as its node lives.
    fn registry<E>(&self) -> Result<Registry, CallError<E>> {
        let shared = self.0.upgrade();
        let gone = CallError::Closed { execution: Execution::NotExecuted };
        shared.map(|shared| Registry { shared }).ok_or(gone)
    }

    /// The registry, and who calls.
    fn visited(&self) -> Result<(Registry, Caller), CallError<RegistryError>> {
        let context = Context::current()
            .map_err(|error| CallError::FailedWithin { reason: error.to_string().into() })?;
        Ok((self.registry()?, context.caller().clone()))
    }
}

#[remote(crate = crate)]
impl RemoteRegistry for Window {
    async fn lookup(&self, name: &str) -> Result<Option<Entry>, CallError> {
        Ok(self.registry()?.entry(name))
    }

    async fn list(&self) -> Result<Vec<Entry>, CallError> {
        Ok(self.registry()?.list())
    }

    async fn bind(&self, name: &str, object: &str) -> Result<(), CallError<RegistryError>> {
        let (registry, caller) = self.visited()?;
        registry.bind_for(&caller, Verb::Bind, name, object).map_err(CallError::Method)
    }

    async fn rebind(&self, name: &str, object: &str) -> Result<(), CallError<RegistryError>> {
        let (registry, caller) = self.visited()?;
        registry.bind_for(&caller, Verb::Rebind, name, object).map_err(CallError::Method)
    }

    async fn unbind(&self, name: &str) -> Result<(), CallError<RegistryError>> {
        let (registry, caller) = self.visited()?;
        registry.unbind_for(&caller, name).map_err(CallError::Method)
    }
}

impl Registry {
    /// What is bound to a name, if anything, as a caller from outside sees it.
    pub(super) fn entry(&self, name: &str) -> Option<Entry> {
        if is_reserved(name) {
            return None;
        }
        Some(Entry::new(name, self.current(name)?.interface))
    }

    /// Binds `name` to what `object` is bound to, for a caller from outside.
    pub(super) fn bind_for(
        &self,
        caller: &Caller,
        verb: Verb,
        name: &str,
        object: &str,
    ) -> Result<(), RegistryError> {
        self.check_change(caller, verb, name)?;
        let bound = self.bound(object)?;
        self.put(verb, name, bound)
    }

    /// Makes a name free, for a caller from outside.
    pub(super) fn unbind_for(&self, caller: &Caller, name: &str) -> Result<(), RegistryError> {
        self.check_change(caller, Verb::Unbind, name)?;
        self.unbind(name)
    }

    fn check_change(&self, caller: &Caller, verb: Verb, name: &str) -> Result<(), RegistryError> {
        check_free_for_users(name)?;
        if self.allows(caller, verb, name) {
            return Ok(());
        }
        Err(RegistryError::Denied { verb, name: name.to_owned() })
    }

    fn bound(&self, name: &str) -> Result<Bound, RegistryError> {
        check_name(name)?;
        let bound = if is_reserved(name) { None } else { self.current(name) };
        bound.ok_or_else(|| RegistryError::NotBound { name: name.to_owned() })
    }
}
