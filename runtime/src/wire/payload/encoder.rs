//! A serde serializer around postcard's: the same bytes, with bounded nesting and errors that speak.
//!
//! Single values go straight to postcard. Whatever contains other values passes through here, so
//! that the parts come back to this serializer and not to postcard's.

use serde::ser::{self, Serialize, Serializer as _};

use super::passed::{self, Leaving};
use super::sharing::{self, SHARED};
use super::{Beside, EncodeError, MAX_DEPTH, element_budget, number};
use crate::wire::body::Shared;
use crate::wire::references::MAX_REFERENCES;

/// Encodes one value into a buffer that the caller lends.
pub(super) struct Encoder<'a> {
    inner: postcard::Serializer<Output<'a>>,
    depth_left: usize,
    elements: usize,
    /// Whether a run of bytes may be shared, and the one that is.
    shares: bool,
    shared: Option<Box<Shared>>,
    /// The references so far.
    passed: Leaving,
}

impl<'a> Encoder<'a> {
    #[inline]
    pub(super) fn new(into: &'a mut Vec<u8>, shares: bool) -> Encoder<'a> {
        let inner = postcard::Serializer { output: Output { into } };
        Encoder {
            inner,
            depth_left: MAX_DEPTH,
            elements: 0,
            shares,
            shared: None,
            passed: Leaving::default(),
        }
    }

    /// What was not written among the bytes.
    #[inline]
    pub(super) fn into_beside(self) -> Beside {
        Beside { shared: self.shared, passed: self.passed }
    }

    /// Writes the place of a reference.
    #[cold]
    fn reference(&mut self) -> Result<(), EncodeError> {
        let Some(reference) = passed::offered() else {
            return Err(EncodeError::new("a value calls itself a reference to an object"));
        };
        if let Some(named) = passed::names_of(&reference) {
            let (object, interface) = named.map_err(EncodeError::new)?;
            self.number(u64::from(passed::BY_NAME))?;
            (&mut *self).serialize_str(&object)?;
            return self.serialize_str(interface);
        }
        let place = self.passed.len();
        if place >= MAX_REFERENCES {
            return Err(EncodeError::new(format_args!(
                "more than {MAX_REFERENCES} references in one message"
            )));
        }
        self.passed.push(reference);
        self.number(place as u64)
    }

    /// Refuses what the decoder would refuse: more empty elements than the bytes since `start` pay.
    #[inline]
    pub(super) fn check_elements(&self, start: usize) -> Result<(), EncodeError> {
        let shared = self.shared.as_ref().map_or(0, |shared| shared.bytes.len());
        let bytes = self.inner.output.into.len().saturating_sub(start) + shared;
        if self.elements > element_budget(bytes) {
            return Err(EncodeError::new(format_args!(
                "{} elements in {bytes} bytes are more than a peer accepts",
                self.elements
            )));
        }
        Ok(())
    }

    /// Goes one level down. After an error nobody comes back, so only success leaves the level.
    #[inline]
    fn enter(&mut self) -> Result<(), EncodeError> {
        match self.depth_left.checked_sub(1) {
            Some(left) => {
                self.depth_left = left;
                Ok(())
            }
            None => Err(EncodeError::new(format_args!(
                "the value is nested deeper than {MAX_DEPTH} levels"
            ))),
        }
    }

    #[inline]
    fn leave(&mut self) {
        self.depth_left += 1;
    }

    /// Writes a value that is one level below.
    #[inline]
    fn nested<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.enter()?;
        value.serialize(&mut *self)?;
        self.leave();
        Ok(())
    }

    /// Writes the length of a sequence or map and goes one level down.
    #[inline]
    fn begin_elements(&mut self, length: Option<usize>) -> Result<(), EncodeError> {
        let Some(length) = length else {
            return Err(EncodeError::new("the length of a sequence or map must be known first"));
        };
        self.elements = self.elements.saturating_add(length);
        self.enter()?;
        self.number(length as u64)
    }

    /// Writes which variant of an enum follows.
    #[inline]
    fn variant(&mut self, index: u32) -> Result<(), EncodeError> {
        self.number(u64::from(index))
    }

    /// Writes a number; those of all widths look alike.
    #[inline]
    fn number(&mut self, value: u64) -> Result<(), EncodeError> {
        let into = &mut *self.inner.output.into;
        match number::spread(value) {
            Some((bytes, length)) => {
                let start = into.len();
                // A copy of a fixed size costs less than one of `length` bytes.
                into.extend_from_slice(&bytes);
                into.truncate(start + length);
                Ok(())
            }
            None => written(ser::Serializer::serialize_u64(&mut self.inner, value)),
        }
    }
}

/// The buffer as postcard sees it: it only grows.
struct Output<'a> {
    into: &'a mut Vec<u8>,
}

impl postcard::ser_flavors::Flavor for Output<'_> {
    type Output = ();

    #[inline]
    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.into.extend_from_slice(data);
        Ok(())
    }

    #[inline]
    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.into.push(data);
        Ok(())
    }

    #[inline]
    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[inline]
fn written(outcome: postcard::Result<()>) -> Result<(), EncodeError> {
    outcome.map_err(reason)
}

#[cold]
fn reason(error: postcard::Error) -> EncodeError {
    match error {
        postcard::Error::CollectStrError => {
            EncodeError::new("the `Display` of a value failed while it was encoded")
        }
        other => EncodeError::new(other),
    }
}

macro_rules! forward {
    ($($method:ident($type:ty);)*) => {$(
        #[inline]
        fn $method(self, value: $type) -> Result<(), EncodeError> {
            written(ser::Serializer::$method(&mut self.inner, value))
        }
    )*};
}

impl ser::Serializer for &mut Encoder<'_> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    forward! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u128(u128);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
        serialize_str(&str);
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<(), EncodeError> {
        if value.len() >= SHARED
            && self.shares
            && self.shared.is_none()
            && let Some(bytes) = sharing::offered(value)
        {
            self.number(value.len() as u64)?;
            let at = self.inner.output.into.len();
            self.shared = Some(Box::new(Shared { at, bytes }));
            return Ok(());
        }
        written(ser::Serializer::serialize_bytes(&mut self.inner, value))
    }

    #[inline]
    fn serialize_u32(self, value: u32) -> Result<(), EncodeError> {
        self.number(u64::from(value))
    }

    #[inline]
    fn serialize_u64(self, value: u64) -> Result<(), EncodeError> {
        self.number(value)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline]
    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        written(ser::Serializer::collect_str(&mut self.inner, value))
    }

    #[inline]
    fn serialize_none(self) -> Result<(), EncodeError> {
        written(ser::Serializer::serialize_none(&mut self.inner))
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        // What postcard's `serialize_some` writes before the value, which must come back to us.
        written(ser::Serializer::serialize_u8(&mut self.inner, 1))?;
        self.nested(value)
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), EncodeError> {
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), EncodeError> {
        Ok(())
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
    ) -> Result<(), EncodeError> {
        self.variant(index)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        if passed::is_reference(name) {
            return self.reference();
        }
        self.nested(value)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.variant(index)?;
        self.nested(value)
    }

    #[inline]
    fn serialize_seq(self, length: Option<usize>) -> Result<Self, EncodeError> {
        self.begin_elements(length)?;
        Ok(self)
    }

    #[inline]
    fn serialize_map(self, length: Option<usize>) -> Result<Self, EncodeError> {
        self.begin_elements(length)?;
        Ok(self)
    }

    #[inline]
    fn serialize_tuple(self, _length: usize) -> Result<Self, EncodeError> {
        self.enter()?;
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, EncodeError> {
        self.enter()?;
        Ok(self)
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, EncodeError> {
        self.enter()?;
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self, EncodeError> {
        self.variant(index)?;
        self.enter()?;
        Ok(self)
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self, EncodeError> {
        self.variant(index)?;
        self.enter()?;
        Ok(self)
    }
}

macro_rules! parts {
    ($($trait:ident { $($method:ident)* })*) => {$(
        impl ser::$trait for &mut Encoder<'_> {
            type Ok = ();
            type Error = EncodeError;

            $(
                #[inline]
                fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
                    value.serialize(&mut **self)
                }
            )*

            #[inline]
            fn end(self) -> Result<(), EncodeError> {
                self.leave();
                Ok(())
            }
        }
    )*};
}

macro_rules! fields {
    ($($trait:ident)*) => {$(
        impl ser::$trait for &mut Encoder<'_> {
            type Ok = ();
            type Error = EncodeError;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                _name: &'static str,
                value: &T,
            ) -> Result<(), EncodeError> {
                value.serialize(&mut **self)
            }

            #[inline]
            fn end(self) -> Result<(), EncodeError> {
                self.leave();
                Ok(())
            }
        }
    )*};
}

parts! {
    SerializeSeq { serialize_element }
    SerializeTuple { serialize_element }
    SerializeTupleStruct { serialize_field }
    SerializeTupleVariant { serialize_field }
    SerializeMap { serialize_key serialize_value }
}

fields! { SerializeStruct SerializeStructVariant }
