//! Nodes of one object, and the places where nodes listen.

use std::time::Duration;

use super::{Node, Unfinished};
use crate::address::{Address, IntoUrl, Url};
use crate::dispatch::{Interface, Object};
use crate::error::CallError;
use crate::proxy::Proxy;
use crate::registry::Registry;
use crate::serve::ServeError;

/// A place where a node listens; keeps the node alive.
#[derive(Debug, Clone)]
pub struct Listening {
    pub(super) node: Node,
    pub(super) address: Address,
}

impl Listening {
    /// Where the node listens, with the port that was chosen.
    #[must_use]
    pub fn addr(&self) -> &Address {
        &self.address
    }

    /// The URL of an object of this node at this address.
    ///
    /// # Panics
    /// If no object can have this name: a name has 1 to 255 bytes and no control characters.
    #[must_use]
    pub fn url(&self, name: &str) -> Url {
        match Url::new(self.address.clone(), name) {
            Ok(url) => url,
            Err(error) => panic!("{error}"),
        }
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The node's objects.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        self.node.registry()
    }

    /// As [`Node::shutdown`].
    ///
    /// # Errors
    /// [`Unfinished`] if the grace was over before all was done.
    pub async fn shutdown(&self, grace: Duration) -> Result<(), Unfinished> {
        self.node.shutdown(grace).await
    }
}

/// Serves one object from a node of its own: listens at `url` and binds `object` to `name`.
///
/// The node lives as long as the handle that is returned, and runs on the current tokio runtime.
///
/// # Errors
/// [`ServeError`] if the address or the name cannot be used.
pub async fn serve<I, O>(url: impl IntoUrl, name: &str, object: O) -> Result<Listening, ServeError>
where
    I: ?Sized + Interface,
    O: Object<I>,
{
    let node = Node::builder().build();
    node.registry().bind(name, object)?;
    node.listen(url).await
}

/// As [`serve`], for an object with several remote interfaces: `serve_as::<dyn Account>(…)`.
///
/// # Errors
/// [`ServeError`] if the address or the name cannot be used.
pub async fn serve_as<I: ?Sized + Interface>(
    url: impl IntoUrl,
    name: &str,
    object: impl Object<I>,
) -> Result<Listening, ServeError> {
    let node = Node::builder().build();
    node.registry().bind_as::<I>(name, object)?;
    node.listen(url).await
}

/// Connects to an object from a node of its own, which lives as long as the proxy and its clones.
///
/// The node runs on the current tokio runtime; [`Proxy::node`] gives it, for
/// [`shutdown`](Node::shutdown).
///
/// # Errors
/// As [`Node::lookup`]; no method ran.
pub async fn connect<P: Proxy>(url: impl IntoUrl) -> Result<P, CallError> {
    Node::builder().build().lookup(url).await
}
