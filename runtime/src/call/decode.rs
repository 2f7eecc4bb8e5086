//! How an answer becomes a value: the method's result, or its error.
//!
//! Plain functions, chosen where the types are known, so that the futures of calls need no bounds
//! on them.

use std::convert::Infallible;

use serde::de::DeserializeOwned;

use crate::wire::payload::{self, DecodeError};

/// How the two kinds of answer are decoded. Plain functions, so that a future needs no bounds on
/// `T` and `E`.
pub(crate) struct Decoders<T, E> {
    pub(crate) result: fn(&[u8]) -> Result<T, DecodeError>,
    pub(crate) error: fn(&[u8]) -> Result<E, Box<str>>,
}

impl<T, E> Clone for Decoders<T, E> {
    fn clone(&self) -> Decoders<T, E> {
        *self
    }
}

impl<T, E> Copy for Decoders<T, E> {}

/// The error type of a method, as a call decodes it. `Kind` keeps the two implementations apart and
/// is always inferred: [`Infallible`] cannot be decoded and stands for methods that have no error
/// of their own.
#[doc(hidden)]
pub trait DecodeMethodError<Kind>: Sized {
    /// The error, or why the bytes are none.
    ///
    /// # Errors
    /// A text for a person.
    fn decode_method_error(bytes: &[u8]) -> Result<Self, Box<str>>;
}

/// For methods with an error of their own.
#[doc(hidden)]
#[derive(Debug)]
pub enum Fallible {}

/// For methods without one.
#[doc(hidden)]
#[derive(Debug)]
pub enum Unfailing {}

impl<E: DeserializeOwned> DecodeMethodError<Fallible> for E {
    fn decode_method_error(bytes: &[u8]) -> Result<E, Box<str>> {
        payload::decode(bytes).map_err(|error| error.to_string().into())
    }
}

impl DecodeMethodError<Unfailing> for Infallible {
    fn decode_method_error(_bytes: &[u8]) -> Result<Infallible, Box<str>> {
        Err("the server answered with an error, and the method has none".into())
    }
}
