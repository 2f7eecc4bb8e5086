//! What a proxy of an object without a name calls through: a handle when it is first needed, and what holds the object.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::{Remote, Target, direct};
use crate::descriptor::Descriptor;
use crate::driver::link::Link;
use crate::driver::lock;
use crate::driver::references::object::Exported;
use crate::driver::references::received::{Import, Pins};
use crate::driver::serving::REFERENCE;
use crate::error::{CallError, Refusal};
use crate::id::Handle;
use crate::node::Node;
use crate::reference;
use crate::semantics::Execution;
use crate::wire::payload::passed::Passed;

/// An object without a name.
pub(crate) struct Unnamed {
    hold: Hold,
    /// One look-up at a time.
    binding: Mutex<()>,
}

/// What holds an object.
#[derive(Clone)]
pub(crate) enum Hold {
    /// It is this node's.
    Own(Arc<Exported>),
    /// It is a peer's.
    Import(Arc<Import>),
}

impl Remote {
    pub(super) fn of(target: Target) -> Remote {
        Remote { target: Arc::new(target), timeout: None }
    }

    /// An object without a name, which is called over `link`.
    pub(crate) fn unnamed(
        node: Node,
        link: Arc<Link>,
        descriptor: &'static Descriptor,
        hold: Hold,
    ) -> Remote {
        let peer = match &hold {
            Hold::Own(_) => crate::driver::references::HOME.into(),
            Hold::Import(import) => import.peer.address().clone(),
        };
        let unnamed = Unnamed { hold, binding: Mutex::default() };
        Remote::of(Target {
            node,
            link,
            handle: UNBOUND.into(),
            descriptor,
            object: "".into(),
            is_home: direct::is_home(&peer),
            peer,
            unnamed: Some(Box::new(unnamed)),
            forwarder: Mutex::default(),
        })
    }

    pub(crate) fn target(&self) -> &Arc<Target> {
        &self.target
    }
}

impl Target {
    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    pub(crate) fn object(&self) -> &str {
        &self.object
    }

    #[cfg(feature = "sqlite")]
    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// What the session knows the object by.
    ///
    /// # Errors
    /// It has no name, and is gone; or too many objects are in use.
    #[inline]
    pub(crate) fn handle(&self) -> Result<Handle, CallError> {
        match self.handle.load(Ordering::Relaxed) {
            UNBOUND => self.bind(),
            handle => Ok(handle),
        }
    }

    #[cold]
    fn bind(&self) -> Result<Handle, CallError> {
        let Some(unnamed) = &self.unnamed else { return Ok(UNBOUND) };
        let _alone = lock(&unnamed.binding);
        let handle = self.handle.load(Ordering::Relaxed);
        if handle != UNBOUND {
            return Ok(handle);
        }
        let id = match &unnamed.hold {
            Hold::Own(exported) => exported.key,
            Hold::Import(import) if import.peer.is_valid(import) => import.id,
            Hold::Import(_) => return Err(gone()),
        };
        let handle = self.link.bind_passed(format!("{REFERENCE}{id:x}").into(), self.descriptor)?;
        self.handle.store(handle, Ordering::Relaxed);
        Ok(handle)
    }

    /// Exactly-once calls find their object by its name.
    ///
    /// # Errors
    /// It has none.
    pub(super) fn check_named(&self) -> Result<(), CallError> {
        match &self.unnamed {
            None => Ok(()),
            Some(_) => Err(CallError::NoSuchObject(Refusal {
                detail: "an exactly-once call finds its object by its name, and this one has none"
                    .into(),
                execution: Execution::NotExecuted,
            })),
        }
    }

    /// Appends a list of references for the other side of the link.
    ///
    /// # Errors
    /// One of them cannot be passed.
    #[inline]
    pub(super) fn seal(
        &self,
        passed: &[Passed],
        body: &mut Vec<u8>,
    ) -> Result<Option<Box<Pins>>, CallError> {
        if passed.is_empty() { Ok(None) } else { self.seal_some(passed, body).map(Some) }
    }

    #[cold]
    fn seal_some(&self, passed: &[Passed], body: &mut Vec<u8>) -> Result<Box<Pins>, CallError> {
        let closed = CallError::Closed { execution: Execution::NotExecuted };
        let partner = self.link.partner().ok_or(closed)?;
        reference::seal(passed, &self.node.home(), &partner, body)
            .map_err(|reason| CallError::NotEncoded { reason: reason.into() })
    }

    pub(crate) fn hold(&self) -> Option<&Hold> {
        self.unnamed.as_ref().map(|unnamed| &unnamed.hold)
    }

    pub(crate) fn descriptor(&self) -> &'static Descriptor {
        self.descriptor
    }

    /// Whether calls go out from this node.
    pub(crate) fn is_of(&self, node: &Node) -> bool {
        self.node.is(node)
    }

    /// What stands for the object where it is passed on.
    pub(crate) fn forwarder(&self, make: impl FnOnce() -> Arc<Exported>) -> Arc<Exported> {
        let mut forwarder = lock(&self.forwarder);
        if let Some(forwarder) = forwarder.upgrade() {
            return forwarder;
        }
        let made = make();
        *forwarder = Arc::downgrade(&made);
        made
    }

    /// The link itself, to be compared with others.
    pub(crate) fn shared_link(&self) -> &Arc<Link> {
        &self.link
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let handle = *self.handle.get_mut();
        match self.unnamed {
            _ if handle == UNBOUND => {}
            Some(_) => self.link.unbind(handle),
            None => self.link.let_go(handle),
        }
    }
}

/// The session in which it was passed is over.
fn gone() -> CallError {
    CallError::NoSuchObject(Refusal {
        detail: "the session in which it was passed is over".into(),
        execution: Execution::NotExecuted,
    })
}

/// No handle.
const UNBOUND: Handle = Handle::MAX;
