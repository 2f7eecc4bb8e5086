//! What groups and mailboxes ask of their node.

use std::sync::Arc;

use super::Node;
use crate::context::Flag;
use crate::limits::Limits;

impl Node {
    /// The bounds of this node.
    pub(crate) fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Tells when the node is shut down.
    pub(crate) fn closing(&self) -> &Arc<Flag> {
        &self.inner.closing
    }

    /// A number that nobody else has.
    pub(crate) fn draw(&self) -> u64 {
        self.inner.entropy.next()
    }
}
