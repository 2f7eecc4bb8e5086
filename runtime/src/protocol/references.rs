//! Who holds which object without a name: what is counted of references between two nodes.
//!
//! Each message that carries a reference is a *record*, named by the object's id and a mark that counts the records in
//! which it was sent. The exporter keeps an object while a record is unfinished or not given back; the importer gives back
//! the marks that it received, when it holds nothing of the object any more. Marks and not their sum, so that a repeat says
//! nothing new and both sides may forget. Holds no objects, no sockets and no clock.

pub(crate) mod exports;
pub(crate) mod imports;
#[cfg(test)]
mod tests;

/// One message that carried a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Record {
    /// Of the object, for this peer. Never given to another.
    pub(crate) id: u64,
    /// From 1.
    pub(crate) mark: u64,
}
