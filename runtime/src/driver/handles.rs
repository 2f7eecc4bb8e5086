//! The objects that one session has looked up, by the handles that its client chose.
//!
//! A handle follows the name: after `rebind` calls reach the new object, after `unbind` none.

use std::sync::Arc;

use crate::descriptor::{Descriptor, MethodDescriptor};
use crate::error::FailureCode;
use crate::id::{Handle, MethodId};
use crate::registry::{Bound, Dispatcher, Slot};
use crate::semantics::Semantics;
use crate::wire::frame::Verdict;

/// The table of a session.
#[derive(Default)]
pub(super) struct Handles {
    entries: Vec<Option<Entry>>,
    /// Objects that are no longer meant: whoever holds the lock takes them and drops them after it, since an object's
    /// `Drop` is the user's code.
    replaced: Vec<Arc<dyn Dispatcher>>,
}

/// One looked-up object.
struct Entry {
    object: Arc<str>,
    interface: Box<str>,
    slot: Arc<Slot>,
    /// What the client calls its methods, and expects of them, in its order.
    methods: Vec<(MethodId, Semantics)>,
    /// The state of the name that `target` is for.
    generation: u64,
    target: Result<Target, Refused>,
}

/// An object that was found, and its methods in the client's order.
struct Target {
    object: Arc<dyn Dispatcher>,
    interface: &'static Descriptor,
    methods: Vec<Result<&'static MethodDescriptor, Verdict>>,
}

/// Why a call or a lookup leads to nothing.
pub(super) struct Refused {
    pub(super) code: FailureCode,
    pub(super) text: String,
}

/// What LOOKUP found.
pub(super) enum Found {
    Object { verdicts: Vec<Verdict>, methods: String },
    Refused { code: FailureCode, text: String },
}

impl Handles {
    /// Notes what a handle means from now on, and says what there is under the name.
    pub(super) fn put(
        &mut self,
        handle: Handle,
        object: &str,
        interface: &str,
        methods: Vec<(MethodId, Semantics)>,
        slot: Arc<Slot>,
    ) -> Found {
        let generation = slot.generation();
        let mut entry = Entry {
            object: object.into(),
            interface: interface.into(),
            target: Err(Refused { code: FailureCode::NoSuchObject, text: String::new() }),
            slot,
            methods,
            generation,
        };
        drop(entry.look());
        let found = match &entry.target {
            Ok(target) => target.found(),
            Err(refused) => Found::Refused { code: refused.code, text: refused.text.clone() },
        };
        let index = handle as usize;
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, || None);
        }
        let before = self.entries[index].replace(entry);
        self.replaced
            .extend(before.and_then(|entry| entry.target.ok()).map(|target| target.object));
        found
    }

    /// A handle of this slot means nothing any more. Returns the object, to be dropped under no lock.
    pub(super) fn forget(
        &mut self,
        handle: Handle,
        slot: &Arc<Slot>,
    ) -> Option<Arc<dyn Dispatcher>> {
        let entry = self.entries.get_mut(handle as usize)?;
        let entry = entry.take_if(|entry| Arc::ptr_eq(&entry.slot, slot))?;
        entry.target.ok().map(|target| target.object)
    }

    /// Objects that are no longer meant, if there are any, to be dropped under no lock.
    #[inline]
    pub(super) fn take_replaced(&mut self) -> Option<Vec<Arc<dyn Dispatcher>>> {
        (!self.replaced.is_empty()).then(|| std::mem::take(&mut self.replaced))
    }

    /// The name that a handle was looked up with.
    #[cfg(feature = "sqlite")]
    pub(super) fn name(&self, handle: Handle) -> Option<Arc<str>> {
        let entry = self.entries.get(handle as usize)?.as_ref()?;
        Some(entry.object.clone())
    }

    /// The method that a call names.
    #[inline]
    pub(super) fn target(
        &mut self,
        handle: Handle,
        method: u32,
    ) -> Result<(&Arc<dyn Dispatcher>, &'static MethodDescriptor), Refused> {
        let Some(Some(entry)) = self.entries.get_mut(handle as usize) else {
            let text = "nobody has looked it up, or nobody was to hold it any more".into();
            return Err(Refused { code: FailureCode::NoSuchObject, text });
        };
        if entry.slot.generation() != entry.generation {
            self.replaced.extend(entry.look());
        }
        match &entry.target {
            Ok(target) => match target.methods.get(method as usize) {
                Some(Ok(method)) => Ok((&target.object, method)),
                other => Err(target.no_such_method(other.and_then(|verdict| verdict.err()))),
            },
            Err(refused) => Err(Refused { code: refused.code, text: refused.text.clone() }),
        }
    }
}

impl Entry {
    /// Asks the registry what the name means now; returns the object that it meant before.
    fn look(&mut self) -> Option<Arc<dyn Dispatcher>> {
        self.generation = self.slot.generation();
        let target = match self.slot.current() {
            None => Err(Refused {
                code: FailureCode::NoSuchObject,
                text: format!("nothing is bound to `{}`", self.object),
            }),
            Some(bound) if bound.interface.name != &*self.interface => Err(Refused {
                code: FailureCode::NoSuchObject,
                text: format!(
                    "`{}` is a {}, not a {}",
                    self.object, bound.interface.name, self.interface
                ),
            }),
            Some(bound) => Ok(Target::new(bound, &self.methods)),
        };
        std::mem::replace(&mut self.target, target).ok().map(|target| target.object)
    }
}

impl Target {
    fn new(bound: Bound, expected: &[(MethodId, Semantics)]) -> Target {
        let find = |&(id, semantics): &(MethodId, Semantics)| match bound
            .interface
            .methods
            .iter()
            .find(|method| method.id == id)
        {
            None => Err(Verdict::Unknown),
            Some(method) if method.semantics < semantics => Err(Verdict::Weaker),
            // Arguments and results of such calls are others: a client that expects less would not understand them.
            Some(method) if is_exactly_once(method.semantics) && !is_exactly_once(semantics) => {
                Err(Verdict::Weaker)
            }
            Some(method) => Ok(method),
        };
        let methods = expected.iter().map(find).collect();
        Target { object: bound.object, interface: bound.interface, methods }
    }

    fn found(&self) -> Found {
        let verdict = |method: &Result<_, Verdict>| match method {
            Ok(_) => Verdict::Callable,
            Err(verdict) => *verdict,
        };
        let verdicts: Vec<Verdict> = self.methods.iter().map(verdict).collect();
        let all = verdicts.iter().all(|verdict| *verdict == Verdict::Callable);
        Found::Object { verdicts, methods: if all { String::new() } else { self.signatures() } }
    }

    fn no_such_method(&self, verdict: Option<Verdict>) -> Refused {
        let what = match verdict {
            Some(Verdict::Weaker) => {
                "the server promises less than the client expects, or exactly once where the client does not"
            }
            _ => "the server's object has no such method",
        };
        let text = format!("{what}; {} has {}", self.interface.name, self.signatures());
        Refused { code: FailureCode::NoSuchMethod, text }
    }

    fn signatures(&self) -> String {
        let mut text = String::new();
        for method in self.interface.methods {
            let more = format!("`{}` ({})", method.signature, method.semantics);
            if text.len() + more.len() > MAX_SIGNATURES {
                text.push_str(", …");
                break;
            }
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(&more);
        }
        text
    }
}

fn is_exactly_once(semantics: Semantics) -> bool {
    semantics == Semantics::ExactlyOnce
}

/// Longest list of methods in an error, in bytes.
const MAX_SIGNATURES: usize = 1024;
