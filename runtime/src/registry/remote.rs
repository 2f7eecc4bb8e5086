//! The registry as a remote object: what a caller from outside may do with the names of a node.
//!
//! Looking up and listing is open to all. Changing is refused unless the program's policy allows it
//! to the caller. An object cannot travel yet, so `bind` and `rebind` take the name of one that is
//! bound already.

use super::{Bound, Entry, Registry, RegistryError, Verb, check_free_for_users, is_reserved};
use crate::address::check_name;
use crate::context::Caller;

/// Under this name each node has its own registry.
pub(crate) const NAME: &str = "farcall/registry";

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
