//! What all generated proxies have in common.

use std::time::Duration;

use crate::call::Remote;
use crate::dispatch::Interface;
use crate::node::Node;

/// A stand-in for a remote object: implemented by `#[remote]` for each `…Proxy`.
///
/// The functions here have no place among a proxy's inherent methods, which all bear the user's names; call them as
/// `Proxy::node(&alice)`, or import the trait.
pub trait Proxy: Clone + Send + Sync + 'static {
    /// The interface of the object, `dyn Trait`.
    type Interface: ?Sized + Interface<Proxy = Self>;

    /// A proxy that calls through `remote`.
    #[doc(hidden)]
    fn from_remote(remote: Remote) -> Self;

    /// What the proxy calls through.
    #[doc(hidden)]
    fn as_remote(&self) -> &Remote;

    /// A clone of this proxy whose calls have this timeout where they set none of their own.
    #[must_use]
    fn with_timeout(&self, timeout: Duration) -> Self {
        Self::from_remote(self.as_remote().with_timeout(timeout))
    }

    /// The node that the proxy calls from.
    fn node(&self) -> &Node {
        self.as_remote().node()
    }
}
