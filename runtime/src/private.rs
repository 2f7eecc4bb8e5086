//! What expansions of `#[remote]` name, and nobody else: no promise is made about anything in here.

use std::convert::Infallible;
use std::future::ready;

use serde::de::DeserializeOwned;
pub use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use async_trait::async_trait;
pub use bytes::Bytes;
pub use std::boxed::Box;
pub use std::sync::Arc;
pub use std::time::Duration;
pub use std::vec::Vec;

pub use crate::call::Remote;
pub use crate::dispatch::{Arguments, Dispatch, Reply, Room, Status};
pub use crate::group::Members;
pub use crate::id::MethodId;
pub use crate::reference::{deserialize_reference, serialize_reference};
pub use crate::wire::payload::{
    AsBytes, AsShared, Beside, CowStr, DecodeError, EncodeError, decode, decode_bytes, decode_run,
};

use crate::call::Call;
use crate::error::{CallError, FailureCode};
use crate::group::GroupCall;
use crate::reference::seal_answer;
use crate::wire::body::Shared;
use crate::wire::payload::encode_shared;
use crate::wire::payload::passed::Passed;

/// A call of the method at position `method` of the interface's descriptor.
// Inlined with all that it calls, so that a call is put together where it is awaited, and not copied there twice.
#[inline(always)]
pub fn call<A, T, E, Kind>(
    remote: &Remote,
    method: usize,
    arguments: A,
    decode: fn(&[u8]) -> Result<T, DecodeError>,
) -> Call<A, T, E>
where
    A: Serialize,
    E: MethodFailure<Kind>,
{
    Call::new(remote, method, arguments, decode)
}

/// A call of the method at position `method` of the interface's descriptor at all members of a group.
pub fn group_call<A, T, E, Kind>(
    members: &Members,
    method: usize,
    arguments: A,
    decode: fn(&[u8]) -> Result<T, DecodeError>,
) -> GroupCall<A, T, E>
where
    E: MethodFailure<Kind>,
{
    GroupCall::new(members, method, arguments, decode)
}

/// What a method returned, encoded into the memory of its arguments.
pub fn answer<T, E, Kind>(result: Result<T, CallError<E>>, arguments: Arguments) -> Reply
where
    T: Serialize,
    E: MethodFailure<Kind>,
{
    let mut reply = arguments.into_memory();
    let (status, encoded) = match result {
        Ok(value) => (Status::Ok, encode_shared(&value, &mut reply)),
        Err(CallError::Method(error)) => (Status::MethodError, error.encode(&mut reply)),
        Err(CallError::FailedWithin { reason }) => {
            return Reply::failed(FailureCode::FailedWithin, &reason, reply);
        }
        // An object that is no user's impl, such as a proxy that was bound: its call is the one
        // that failed.
        Err(failure) => {
            return Reply::failed(FailureCode::FailedWithin, &whole_text(&failure), reply);
        }
    };
    match encoded {
        Ok(Beside { shared, passed }) if passed.is_empty() => {
            Reply { status, body: reply, shared, held: None }
        }
        Ok(Beside { shared, passed }) => passing(status, reply, shared, &passed),
        Err(error) => Reply::failed(FailureCode::ReplyNotEncoded, &error, reply),
    }
}

/// An answer with references behind it.
#[cold]
fn passing(
    status: Status,
    mut body: Vec<u8>,
    shared: Option<Box<Shared>>,
    passed: &[Passed],
) -> Reply {
    match seal_answer(passed, &mut body) {
        Ok(held) => Reply { status, body, shared, held: Some(held) },
        Err(reason) => Reply::failed(FailureCode::ReplyNotEncoded, &reason, body),
    }
}

/// The answer to arguments that do not decode.
pub fn bad_arguments(error: DecodeError, arguments: Arguments) -> Reply {
    Reply::failed(FailureCode::BadArguments, &error, arguments.into_memory())
}

/// The answer to a method that the interface does not have.
pub fn no_such_method(arguments: Arguments, room: Room) -> Dispatch {
    let text = "the object's interface has no method with this name and signature";
    let memory = arguments.into_memory();
    room.put(ready(Reply::failed(FailureCode::NoSuchMethod, &text, memory)))
}

/// What a handler of the longer form returned: a failure that is not the method's own error is that
/// of a call which the handler made, and for its caller the method ran and failed within.
///
/// # Errors
/// The method's own error, or [`CallError::FailedWithin`].
pub fn within<T, E>(result: Result<T, CallError<E>>) -> Result<T, CallError<E>> {
    result.map_err(|failure| match failure {
        CallError::Method(error) => CallError::Method(error),
        // So that a local object tells its caller the same as a remote one: nothing of it happened.
        CallError::Store { reason } => CallError::Store { reason },
        failure => CallError::FailedWithin { reason: whole_text(&failure).into() },
    })
}

/// The error type of a method, as it is sent and received. `Kind` keeps the two implementations
/// apart and is always inferred: [`Infallible`] has no serde of its own and stands for methods that
/// have no error.
pub trait MethodFailure<Kind>: Sized {
    /// Appends the encoded error.
    ///
    /// # Errors
    /// Its `Serialize` failed.
    fn encode(&self, into: &mut Vec<u8>) -> Result<Beside, EncodeError>;

    /// The error.
    ///
    /// # Errors
    /// The bytes are none.
    fn decode(bytes: &[u8]) -> Result<Self, Box<str>>;
}

/// For methods with an error of their own.
#[derive(Debug)]
pub enum Fallible {}

/// For methods without one.
#[derive(Debug)]
pub enum Unfailing {}

impl<E: Serialize + DeserializeOwned> MethodFailure<Fallible> for E {
    fn encode(&self, into: &mut Vec<u8>) -> Result<Beside, EncodeError> {
        encode_shared(self, into)
    }

    fn decode(bytes: &[u8]) -> Result<E, Box<str>> {
        decode(bytes).map_err(|error: DecodeError| error.to_string().into())
    }
}

impl MethodFailure<Unfailing> for Infallible {
    fn encode(&self, _into: &mut Vec<u8>) -> Result<Beside, EncodeError> {
        match *self {}
    }

    fn decode(_bytes: &[u8]) -> Result<Infallible, Box<str>> {
        Err("the server answered with an error, and the method has none".into())
    }
}

/// A failure with the operating system's words, in one line: what crosses to the caller is text.
fn whole_text<E>(failure: &CallError<E>) -> String {
    match failure {
        CallError::Unreachable { source, .. } | CallError::Link { source, .. } => {
            format!("{failure}: {source}")
        }
        _ => failure.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::Execution;

    fn text(reply: &Reply) -> &str {
        std::str::from_utf8(&reply.body).expect("a text")
    }

    #[test]
    fn results_and_errors_are_answers() {
        let reply = answer::<u8, Infallible, _>(Ok(7), Arguments::of(&[1, 2]));
        assert_eq!((reply.status, &*reply.body), (Status::Ok, &[7][..]));
        let reply = answer::<u8, u8, _>(Err(CallError::Method(9)), Arguments::default());
        assert_eq!((reply.status, &*reply.body), (Status::MethodError, &[9][..]));
    }

    #[test]
    fn a_nested_failure_is_no_failure_of_the_callers_own_call() {
        let nested = CallError::Closed { execution: Execution::NotExecuted };
        let outer = within::<(), u8>(Err(nested)).expect_err("a failure");
        assert_eq!(outer.execution(), Execution::Executed);
        let reply = answer(Err::<(), _>(outer), Arguments::default());
        assert_eq!(reply.status, Status::Failed(FailureCode::FailedWithin));
        assert_eq!(text(&reply), "this node was shut down; it did not run");
    }

    #[test]
    fn the_methods_own_error_passes_as_it_is() {
        assert!(matches!(within::<(), u8>(Err(CallError::Method(9))), Err(CallError::Method(9))));
    }

    #[test]
    fn a_method_without_an_error_has_none_to_decode() {
        assert!(<Infallible as MethodFailure<Unfailing>>::decode(&[]).is_err());
    }
}
