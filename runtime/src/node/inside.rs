//! What groups ask of their node.

use super::Node;
use crate::limits::Limits;

impl Node {
    /// The bounds of this node.
    pub(crate) fn limits(&self) -> &Limits {
        &self.inner.limits
    }
}
