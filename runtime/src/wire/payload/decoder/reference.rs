//! References to objects, in a payload that has some.

use serde::de::{Deserialize as _, Visitor};

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
        if place == passed::BY_NAME {
            let (object, interface) =
                (<&str>::deserialize(&mut *self)?, <&str>::deserialize(&mut *self)?);
            let read = &bytes[..bytes.len() - self.rest.len()];
            return match passed::hand_over_named(read, object, interface) {
                true => visitor.visit_unit(),
                false => {
                    Err(DecodeError::new(format_args!("no reference to `{object}` can come here")))
                }
            };
        }
        let read = &bytes[..bytes.len() - self.rest.len()];
        if passed::hand_over(read, place) {
            visitor.visit_unit()
        } else {
            Err(passed::missing(place))
        }
    }
}
