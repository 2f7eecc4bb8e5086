//! References to objects, in a payload that has some.

use serde::de::Visitor;

use super::{DecodeError, Decoder, passed};

impl<'de> Decoder<'de> {
    /// Reads the place of a reference; the visitor finds what came there.
    #[cold]
    pub(super) fn reference<V: Visitor<'de>>(
        &mut self,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let bytes = self.rest;
        let place = self.number()?;
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        let read = &bytes[..bytes.len() - self.rest.len()];
        if passed::hand_over(read, place) {
            visitor.visit_unit()
        } else {
            Err(passed::missing(place))
        }
    }
}
