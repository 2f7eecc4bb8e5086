//! A serde deserializer around postcard's: the same bytes, trusted in nothing.
//!
//! Single values are read by postcard. Whatever contains other values is walked here, so that every
//! level is counted, every declared length is held against the bytes that are left, and an error
//! keeps its text.

use serde::de::{
    self, Deserialize, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::{DecodeError, MAX_DEPTH, element_budget, number, passed};

mod reference;

/// Decodes one value from bytes that it may borrow.
pub(super) struct Decoder<'de> {
    rest: &'de [u8],
    depth_left: usize,
    elements_left: usize,
}

impl<'de> Decoder<'de> {
    #[inline]
    pub(super) fn new(bytes: &'de [u8]) -> Decoder<'de> {
        let elements_left = element_budget(bytes.len());
        Decoder { rest: bytes, depth_left: MAX_DEPTH, elements_left }
    }

    /// Refuses bytes that belong to no value.
    #[inline]
    pub(super) fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(DecodeError::new(format_args!("{} bytes are left over", self.rest.len())))
    }

    /// Reads one value that contains no others, by postcard.
    #[inline]
    fn single<T: Deserialize<'de>>(&mut self) -> Result<T, DecodeError> {
        let mut inner = postcard::Deserializer::from_flavor(Input { rest: self.rest });
        let value = T::deserialize(&mut inner).map_err(reason)?;
        self.rest = inner.finalize().map_err(reason)?;
        Ok(value)
    }

    /// Reads a number.
    #[inline]
    fn number(&mut self) -> Result<u64, DecodeError> {
        match number::gather(self.rest) {
            Some((value, length)) => {
                self.rest = &self.rest[length..];
                Ok(value)
            }
            None => self.single::<u64>(),
        }
    }

    /// Goes one level down. After an error nobody comes back, so only success leaves the level.
    #[inline]
    fn enter(&mut self) -> Result<(), DecodeError> {
        match self.depth_left.checked_sub(1) {
            Some(left) => {
                self.depth_left = left;
                Ok(())
            }
            None => Err(DecodeError::new(format_args!(
                "the value is nested deeper than {MAX_DEPTH} levels"
            ))),
        }
    }

    #[inline]
    fn leave(&mut self) {
        self.depth_left += 1;
    }

    /// Reads the length of a sequence or map and charges its elements before any is read.
    #[inline]
    fn elements(&mut self) -> Result<Elements<'_, 'de>, DecodeError> {
        let declared = self.number()?;
        let bytes_left = self.rest.len();
        let length = match usize::try_from(declared) {
            Ok(length) if length <= self.elements_left => length,
            _ => {
                return Err(DecodeError::new(format_args!(
                    "a length of {declared} is declared and {bytes_left} bytes are left"
                )));
            }
        };
        self.elements_left -= length;
        Ok(Elements { decoder: self, left: length, only_empty: length > bytes_left })
    }

    /// Reads the parts of a tuple or struct.
    #[inline]
    fn parts<V: Visitor<'de>>(
        &mut self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.enter()?;
        let value = visitor.visit_seq(Parts { decoder: self, left: length })?;
        self.leave();
        Ok(value)
    }
}

/// The bytes as postcard sees them, without its raw pointers.
struct Input<'de> {
    rest: &'de [u8],
}

impl<'de> postcard::de_flavors::Flavor<'de> for Input<'de> {
    type Remainder = &'de [u8];
    type Source = &'de [u8];

    #[inline]
    fn pop(&mut self) -> postcard::Result<u8> {
        let (first, rest) =
            self.rest.split_first().ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
        self.rest = rest;
        Ok(*first)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }

    #[inline]
    fn try_take_n(&mut self, count: usize) -> postcard::Result<&'de [u8]> {
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn finalize(self) -> postcard::Result<&'de [u8]> {
        Ok(self.rest)
    }
}

#[cold]
fn reason(error: postcard::Error) -> DecodeError {
    use postcard::Error;
    DecodeError::new(match error {
        Error::DeserializeUnexpectedEnd => "the bytes end in the middle of a value",
        Error::DeserializeBadVarint => "an integer is longer than its type",
        Error::DeserializeBadBool => "a bool is neither 0 nor 1",
        Error::DeserializeBadChar => "a char is not valid",
        Error::DeserializeBadUtf8 => "a string is not UTF-8",
        other => return DecodeError::new(other),
    })
}

/// The type wants to be told what the bytes are, which they do not say.
#[cold]
fn not_self_describing(what: &str) -> DecodeError {
    DecodeError::new(format_args!(
        "the type asks for `{what}`, but a payload does not describe itself: untagged, flattened \
         and internally tagged types cannot be decoded"
    ))
}

macro_rules! single {
    ($($method:ident: $type:ty => $visit:ident;)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            visitor.$visit(self.single::<$type>()?)
        }
    )*};
}

macro_rules! refused {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, DecodeError> {
            Err(not_self_describing(stringify!($method)))
        }
    )*};
}

impl<'de> de::Deserializer<'de> for &mut Decoder<'de> {
    type Error = DecodeError;

    single! {
        deserialize_bool: bool => visit_bool;
        deserialize_i8: i8 => visit_i8;
        deserialize_i16: i16 => visit_i16;
        deserialize_i32: i32 => visit_i32;
        deserialize_i64: i64 => visit_i64;
        deserialize_i128: i128 => visit_i128;
        deserialize_u8: u8 => visit_u8;
        deserialize_u16: u16 => visit_u16;
        deserialize_u32: u32 => visit_u32;
        deserialize_u128: u128 => visit_u128;
        deserialize_f32: f32 => visit_f32;
        deserialize_f64: f64 => visit_f64;
        deserialize_char: char => visit_char;
        deserialize_str: &'de str => visit_borrowed_str;
        deserialize_string: &'de str => visit_borrowed_str;
        deserialize_bytes: &'de [u8] => visit_borrowed_bytes;
        deserialize_byte_buf: &'de [u8] => visit_borrowed_bytes;
    }

    #[inline]
    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_u64(self.number()?)
    }

    refused! { deserialize_any deserialize_identifier deserialize_ignored_any }

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.single::<u8>()? {
            0 => visitor.visit_none(),
            1 => {
                self.enter()?;
                let value = visitor.visit_some(&mut *self)?;
                self.leave();
                Ok(value)
            }
            _ => Err(DecodeError::new("an option is neither 0 nor 1")),
        }
    }

    #[inline]
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        if passed::is_reference(name) {
            return self.reference(visitor);
        }
        self.enter()?;
        let value = visitor.visit_newtype_struct(&mut *self)?;
        self.leave();
        Ok(value)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.enter()?;
        let mut elements = self.elements()?;
        let value = visitor.visit_seq(&mut elements)?;
        elements.finish()?;
        self.leave();
        Ok(value)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.enter()?;
        let mut elements = self.elements()?;
        let value = visitor.visit_map(&mut elements)?;
        elements.finish()?;
        self.leave();
        Ok(value)
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.parts(length, visitor)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.parts(length, visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.parts(fields.len(), visitor)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_enum(self)
    }
}

/// The parts of a tuple or struct: as many as the type says.
struct Parts<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Parts<'_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DecodeError> {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                seed.deserialize(&mut *self.decoder).map(Some)
            }
            None => Ok(None),
        }
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// The elements of a sequence or map: as many as the bytes declared.
struct Elements<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: usize,
    /// More elements are declared than bytes are left: none of them may take a byte.
    only_empty: bool,
}

impl<'de> Elements<'_, 'de> {
    /// Reads a key, a value or an element.
    #[inline]
    fn read<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DecodeError> {
        let bytes_before = self.decoder.rest.len();
        let value = seed.deserialize(&mut *self.decoder)?;
        if self.only_empty && self.decoder.rest.len() != bytes_before {
            return Err(self.lie(bytes_before));
        }
        Ok(value)
    }

    /// Takes the next of the elements, if one is left.
    #[inline]
    fn next(&mut self) -> bool {
        let some_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some_left
    }

    /// A reader that stops early would take the next element for the value that follows.
    #[inline]
    fn finish(&self) -> Result<(), DecodeError> {
        if self.left == 0 {
            return Ok(());
        }
        Err(DecodeError::new(format_args!("{} elements are left over", self.left)))
    }

    #[cold]
    fn lie(&self, bytes_left: usize) -> DecodeError {
        let declared = self.left.saturating_add(1);
        DecodeError::new(format_args!(
            "a length of {declared} is declared and {bytes_left} bytes are left"
        ))
    }

    /// What a collection may reserve: never more than one element a byte.
    #[inline]
    fn reserve(&self) -> usize {
        if self.only_empty { 0 } else { self.left }
    }
}

impl<'de> SeqAccess<'de> for &mut Elements<'_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DecodeError> {
        if self.next() { self.read(seed).map(Some) } else { Ok(None) }
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.reserve())
    }
}

impl<'de> MapAccess<'de> for &mut Elements<'_, 'de> {
    type Error = DecodeError;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DecodeError> {
        if self.next() { self.read(seed).map(Some) } else { Ok(None) }
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, DecodeError> {
        self.read(seed)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.reserve())
    }
}

impl<'de> EnumAccess<'de> for &mut Decoder<'de> {
    type Error = DecodeError;
    type Variant = Self;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self), DecodeError> {
        let index = self.single::<u32>()?;
        let index: de::value::U32Deserializer<DecodeError> = index.into_deserializer();
        let variant = seed.deserialize(index)?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for &mut Decoder<'de> {
    type Error = DecodeError;

    #[inline]
    fn unit_variant(self) -> Result<(), DecodeError> {
        Ok(())
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<S::Value, DecodeError> {
        self.enter()?;
        let value = seed.deserialize(&mut *self)?;
        self.leave();
        Ok(value)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.parts(length, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.parts(fields.len(), visitor)
    }
}
