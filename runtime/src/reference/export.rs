//! What a program does with references: exports objects, and asks who holds them.

use std::fmt;
use std::sync::{Arc, Weak};

use crate::call::{Hold, Remote};
use crate::dispatch::{Interface, Object};
use crate::error::CallError;
use crate::node::Node;
use crate::proxy::Proxy;
use crate::registry::Bound;
use crate::semantics::Execution;

/// An object that wants to know when no peer holds a reference to it any more.
pub trait Unreferenced: Send + Sync + 'static {
    /// The last peer has given its reference back, or its session is over. Proxies in this process may still be there, and
    /// a reference may be passed again.
    fn unreferenced(&self);
}

/// What one peer holds of this node, or this node of one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reference {
    /// Where the peer is.
    pub peer: Arc<str>,
    /// The interface of an object of this node that the peer holds; nothing stands for all objects of the peer that this
    /// node holds.
    pub exported: Option<&'static str>,
    /// How many messages with it the peer has not given back; or how many objects of the peer this node holds.
    pub count: u64,
}

impl Node {
    /// A proxy of an object without a name: it can be passed in calls, and whoever is handed it can call the object.
    ///
    /// The object is dropped when no proxy of it is left, here and at the peers that it was passed to; see
    /// `docs/references.md`. Must be called inside a tokio runtime, or on a node that is used on one. Exactly-once methods
    /// need an object with a name.
    ///
    /// # Panics
    /// Outside a tokio runtime, on a node that is used on none.
    pub fn export<I, O>(&self, object: O) -> I::Proxy
    where
        I: ?Sized + Interface,
        O: Object<I>,
    {
        self.export_bound::<I>(Bound::new(object), None)
    }

    /// As [`export`](Node::export), of an object that is told when no peer holds it any more.
    ///
    /// # Panics
    /// As [`export`](Node::export).
    pub fn export_watched<I, O>(&self, object: Arc<O>) -> I::Proxy
    where
        I: ?Sized + Interface,
        O: Object<I> + Unreferenced,
    {
        let watched: Weak<O> = Arc::downgrade(&object);
        let watch = move || {
            if let Some(object) = watched.upgrade() {
                object.unreferenced();
            }
        };
        self.export_bound::<I>(Bound::new(object), Some(Box::new(watch)))
    }

    fn export_bound<I: ?Sized + Interface>(
        &self,
        bound: Bound,
        watch: Option<Box<dyn Fn() + Send + Sync>>,
    ) -> I::Proxy {
        let exported = self.home().objects().add(bound, watch);
        let Some(link) = self.own_link() else {
            panic!("an object is exported inside a tokio runtime, by a node that was not shut down")
        };
        let remote = Remote::unnamed(self.clone(), link, I::DESCRIPTOR, Hold::Own(exported));
        I::Proxy::from_remote(remote)
    }

    /// A proxy of an object that this node has under a name, or will have. Passed to a peer it is a reference to the name,
    /// which is good for other runs of this node as well, if the peer has opened the connection.
    ///
    /// # Errors
    /// [`CallError::Closed`] if this node was shut down or there is no runtime, [`CallError::Busy`] if it called too many of
    /// its own objects.
    pub fn own<P: Proxy>(&self, name: &str) -> Result<P, CallError> {
        let closed = CallError::Closed { execution: Execution::NotExecuted };
        let link = self.own_link().ok_or(closed)?;
        let descriptor = <P::Interface as Interface>::DESCRIPTOR;
        let object: Arc<str> = name.into();
        let handle = link.handle(&object, descriptor)?;
        let peer = crate::driver::references::HOME.into();
        Ok(P::from_remote(Remote::new(self.clone(), link, handle, descriptor, object, peer)))
    }

    /// The object itself behind a proxy that has come home to its node.
    #[must_use]
    pub fn object_of<P: Proxy>(&self, proxy: &P) -> Option<Arc<P::Interface>> {
        let target = proxy.as_remote().target();
        match target.hold()? {
            Hold::Own(exported) if target.is_of(self) => exported.slot().current()?.downcast(),
            _ => None,
        }
    }

    /// Who holds what: an entry for each object that a peer holds, and one for each peer whose objects are held here.
    #[must_use]
    pub fn references(&self) -> Vec<Reference> {
        let mut all = Vec::new();
        for peer in self.peers() {
            let (exported, imported) = peer.held();
            all.extend(exported.into_iter().map(|(object, count)| Reference {
                peer: peer.address().clone(),
                exported: Some(object.descriptor.name),
                count,
            }));
            if imported > 0 {
                let (peer, count) = (peer.address().clone(), imported as u64);
                all.push(Reference { peer, exported: None, count });
            }
        }
        all
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.exported {
            Some(interface) => {
                write!(f, "{} holds {interface}, from {} messages", self.peer, self.count)
            }
            None => write!(f, "{} of {} held here", self.count, self.peer),
        }
    }
}
