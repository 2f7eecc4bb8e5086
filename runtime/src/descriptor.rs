//! What an interface is, as a value: names, method ids, promises. Written by `#[remote]`, read by every layer.

use std::time::Duration;

use crate::id::MethodId;
use crate::semantics::Semantics;

/// What an interface is: its name and its methods, in the order in which they are written.
#[derive(Debug)]
pub struct Descriptor {
    /// The trait's name.
    pub name: &'static str,
    /// The methods, in source order.
    pub methods: &'static [MethodDescriptor],
}

/// One method of an interface.
#[derive(Debug)]
pub struct MethodDescriptor {
    /// The method's name, without `r#`.
    pub name: &'static str,
    /// Hash of name and signature.
    pub id: MethodId,
    /// The signature as the user wrote it.
    pub signature: &'static str,
    /// The user's documentation, as written.
    pub docs: &'static str,
    /// What the method promises under failure.
    pub semantics: Semantics,
    /// Whether no reply is ever sent.
    pub oneway: bool,
    /// Whether a handler always gets a task of its own.
    pub spawn: bool,
    /// The deadline of a call that sets none, if the interface declares one.
    pub timeout: Option<Duration>,
    /// The largest encoded result in bytes, if the interface declares one.
    pub max_reply: Option<usize>,
}

impl Descriptor {
    /// Whether one of the methods is exactly once, so that both sides need a store.
    #[must_use]
    pub fn is_exactly_once(&self) -> bool {
        self.methods.iter().any(|method| method.semantics == Semantics::ExactlyOnce)
    }

    /// Position of the method with this id; evaluated at compile time by generated code.
    ///
    /// # Panics
    /// If there is none: a defect of the generated code, seen at compile time.
    #[doc(hidden)]
    #[must_use]
    pub const fn position(&self, id: MethodId) -> usize {
        let mut position = 0;
        while position < self.methods.len() {
            if self.methods[position].id.0 == id.0 {
                return position;
            }
            position += 1;
        }
        panic!("the interface has no method with this id")
    }
}
