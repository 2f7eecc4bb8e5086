//! Arguments, results and errors of a call as bytes, in the format of postcard 1.
//!
//! Generated code and the driver call it. It adds to postcard what bytes from a stranger need:
//! bounded nesting, bounded work, no allocation by a declared length, every byte used, and errors
//! that say why. It knows nothing of frames; one payload is one value.

mod decoder;
mod encoder;
mod number;
pub(crate) mod passed;
mod sharing;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use self::decoder::Decoder;
use self::encoder::Encoder;
use self::passed::Leaving;
use self::sharing::SHARED;
pub(crate) use self::sharing::lend;
use crate::wire::body::Shared;

/// Appends the encoded value to `into`.
///
/// # Errors
/// The value is nested deeper than 128 levels, holds more empty elements than a decoder accepts,
/// or its `Serialize` failed. `into` is then as it was.
#[inline]
pub(crate) fn encode<T: Serialize + ?Sized>(
    value: &T,
    into: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if encode_with(value, into, false)?.passed.is_empty() {
        return Ok(());
    }
    Err(EncodeError::new("a reference to an object travels in calls only, and is not saved"))
}

/// As [`encode`], into an empty vector, but a long run of bytes that the value has as [`AsShared`] is shared, and
/// references to objects are collected.
///
/// # Errors
/// As [`encode`].
#[inline]
pub(crate) fn encode_shared<T: Serialize + ?Sized>(
    value: &T,
    into: &mut Vec<u8>,
) -> Result<Beside, EncodeError> {
    debug_assert!(into.is_empty());
    encode_with(value, into, true)
}

/// What belongs to an encoded value and is not among its bytes.
#[derive(Default)]
pub struct Beside {
    /// A long run of bytes that belongs among the others.
    pub(crate) shared: Option<Box<Shared>>,
    /// The references in it, by their places.
    pub(crate) passed: Leaving,
}

#[inline]
fn encode_with<T: Serialize + ?Sized>(
    value: &T,
    into: &mut Vec<u8>,
    shares: bool,
) -> Result<Beside, EncodeError> {
    let start = into.len();
    let mut encoder = Encoder::new(into, shares);
    let outcome = value.serialize(&mut encoder);
    let outcome = outcome.and_then(|()| encoder.check_elements(start));
    let beside = encoder.into_beside();
    if outcome.is_err() {
        into.truncate(start);
    }
    outcome.map(|()| beside)
}

/// Decodes one value, which may borrow from `bytes`.
///
/// # Errors
/// The bytes are no such value, or more than one, or the value goes beyond 128 levels or the
/// element budget, or its `Deserialize` refused it.
#[inline]
pub fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let value = T::deserialize(&mut decoder)?;
    decoder.finish()?;
    Ok(value)
}

/// As [`decode`], but a long run of bytes that the value wants as [`AsShared`] is a part of `bytes`, shared and
/// not copied.
///
/// # Errors
/// As [`decode`].
#[inline]
pub(crate) fn decode_shared<'de, T: Deserialize<'de>>(bytes: &'de Bytes) -> Result<T, DecodeError> {
    if bytes.len() < SHARED {
        return decode(bytes);
    }
    sharing::lend(bytes, || decode(bytes))
}

/// Decodes what a `Bytes` encodes to: shared with the arguments or the answer that it came in, where it is long.
///
/// # Errors
/// As [`decode`].
#[inline]
pub fn decode_run(bytes: &[u8]) -> Result<Bytes, DecodeError> {
    decode::<AsShared>(bytes).map(AsShared::into_bytes)
}

/// Decodes what a `Vec<u8>` encodes to, in one copy instead of a byte at a time.
///
/// # Errors
/// As [`decode`].
#[inline]
pub fn decode_bytes(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    decode::<AsBytes<&[u8]>>(bytes).map(|AsBytes(slice)| slice.to_vec())
}

/// Bytes that are encoded and decoded in one copy. The encoded form is that of a `Vec<u8>`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AsBytes<T>(pub T);

impl<T: AsRef<[u8]>> Serialize for AsBytes<T> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0.as_ref())
    }
}

/// The same for bytes that need not even be copied where they are long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AsShared {
    /// A vector that is too short to be shared.
    Short(Vec<u8>),
    /// What can be shared.
    Bytes(Bytes),
}

impl AsShared {
    /// The bytes, shared.
    #[inline]
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self {
            AsShared::Short(bytes) => bytes.into(),
            AsShared::Bytes(bytes) => bytes,
        }
    }
}

impl From<Vec<u8>> for AsShared {
    #[inline]
    fn from(bytes: Vec<u8>) -> AsShared {
        if bytes.len() < SHARED { AsShared::Short(bytes) } else { AsShared::Bytes(bytes.into()) }
    }
}

impl From<Bytes> for AsShared {
    #[inline]
    fn from(bytes: Bytes) -> AsShared {
        AsShared::Bytes(bytes)
    }
}

impl From<&Bytes> for AsShared {
    #[inline]
    fn from(bytes: &Bytes) -> AsShared {
        AsShared::Bytes(bytes.clone())
    }
}

impl Serialize for AsShared {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            AsShared::Bytes(bytes) if bytes.len() >= SHARED => {
                sharing::offer(bytes, || serializer.serialize_bytes(bytes))
            }
            AsShared::Bytes(bytes) => serializer.serialize_bytes(bytes),
            AsShared::Short(bytes) => serializer.serialize_bytes(bytes),
        }
    }
}

impl<'de> Deserialize<'de> for AsShared {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&[u8]>::deserialize(deserializer).map(|slice| AsShared::Bytes(sharing::share(slice)))
    }
}

impl<'de> Deserialize<'de> for AsBytes<Vec<u8>> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&[u8]>::deserialize(deserializer).map(|slice| AsBytes(slice.to_vec()))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for AsBytes<&'a [u8]> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&[u8]>::deserialize(deserializer).map(AsBytes)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for AsBytes<Cow<'a, [u8]>> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&[u8]>::deserialize(deserializer).map(|slice| AsBytes(Cow::Borrowed(slice)))
    }
}

/// A `Cow<str>` that is decoded in place; serde's own always copies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CowStr<'a>(pub Cow<'a, str>);

impl Serialize for CowStr<'_> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for CowStr<'a> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&str>::deserialize(deserializer).map(|text| CowStr(Cow::Borrowed(text)))
    }
}

/// Why a value could not be encoded, as a sentence for a person.
#[derive(Clone, Debug)]
pub struct EncodeError {
    reason: Box<str>,
}

/// Why bytes could not be decoded, as a sentence for a person.
#[derive(Clone, Debug)]
pub struct DecodeError {
    reason: Box<str>,
}

impl EncodeError {
    #[cold]
    fn new(reason: impl fmt::Display) -> EncodeError {
        EncodeError { reason: reason.to_string().into_boxed_str() }
    }
}

impl DecodeError {
    #[cold]
    fn new(reason: impl fmt::Display) -> DecodeError {
        DecodeError { reason: reason.to_string().into_boxed_str() }
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Error for EncodeError {}

impl Error for DecodeError {}

impl serde::ser::Error for EncodeError {
    fn custom<T: fmt::Display>(text: T) -> EncodeError {
        EncodeError::new(text)
    }
}

impl serde::de::Error for DecodeError {
    fn custom<T: fmt::Display>(text: T) -> DecodeError {
        DecodeError::new(text)
    }
}

/// Elements that the sequences and maps of a payload of `bytes` bytes may have in all.
///
/// An element costs work even if it takes no bytes, and only such elements can reach the budget.
fn element_budget(bytes: usize) -> usize {
    bytes.saturating_mul(ELEMENT_BUDGET_PER_BYTE).saturating_add(ELEMENT_BUDGET_BASE)
}

/// Levels of structs, enums with content, options, sequences and maps in one another. 128 of them
/// fit a small thread's stack, and only recursive types come near.
pub(crate) const MAX_DEPTH: usize = 128;

/// Elements that each byte of a payload pays for.
pub(crate) const ELEMENT_BUDGET_PER_BYTE: usize = 8;

/// Elements that are free of charge, so that a small payload may hold some empty ones.
pub(crate) const ELEMENT_BUDGET_BASE: usize = 1024;
