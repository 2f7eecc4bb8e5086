//! What `#[remote]` generates code against: interfaces, their descriptors, objects, and the way from bytes to a method.
//!
//! Holds no table of objects (that is the registry) and runs nothing by itself: the driver asks an interface to
//! dispatch one request and polls what it gets back.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use serde::Deserialize;

use crate::descriptor::Descriptor;
use crate::error::FailureCode;
use crate::id::MethodId;
use crate::wire::body::Shared;
use crate::wire::payload::{self, DecodeError};

/// A remote interface: implemented by `#[remote]` for `dyn Trait`, never by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a remote interface",
    label = "an interface is `dyn Trait`, where the trait has `#[remote]`",
    note = "write `#[remote]` above the trait, and above each `impl` of it"
)]
pub trait Interface: Send + Sync + 'static {
    /// The proxy that `#[remote]` generated beside the trait.
    type Proxy: crate::proxy::Proxy<Interface = Self>;

    /// A type that stands for the trait where the trait itself would be a cycle; see [`Implements`].
    type Marker;

    /// Name and methods of the interface.
    const DESCRIPTOR: &'static Descriptor;

    /// Decodes the arguments, runs the method on the object and encodes what it returns into the memory that comes with
    /// them. The future is put into `room`.
    ///
    /// The future fails only by the [`Reply`] that it returns; a panic of the method passes through it.
    #[doc(hidden)]
    fn dispatch(object: Arc<Self>, method: MethodId, arguments: Arguments, room: Room) -> Dispatch;
}

/// A type that `#[remote] impl Trait for Type` made callable as `I`, which is `dyn Trait`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an object that can be served as `{I}`",
    label = "write `#[remote]` above the `impl` of the remote trait for `{Self}`",
    note = "what is served is a type whose `impl` of a remote trait has `#[remote]` too"
)]
pub trait Object<I: ?Sized + Interface>: Send + Sync + 'static {
    /// The object as its interface.
    #[doc(hidden)]
    fn into_interface(self: Arc<Self>) -> Arc<I>;
}

/// Says that an implementation of a remote trait carries `#[remote]`; `Marker` stands for the trait.
#[diagnostic::on_unimplemented(
    message = "this implementation of a remote trait lacks `#[remote]`",
    label = "write `#[remote]` above the `impl` of the remote trait for `{Self}`",
    note = "`#[remote]` on the trait makes its methods fallible; `#[remote]` on the impl keeps the two alike"
)]
pub trait Implements<Marker> {}

/// The encoded arguments of a call, and memory for its reply: the same memory, where they are short.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Arguments {
    memory: Vec<u8>,
    /// Arguments that share the bytes that they came in; else they are in the memory.
    shared: Option<Bytes>,
}

impl Arguments {
    /// A copy in `memory`, which costs less than to share a few bytes.
    #[inline]
    pub(crate) fn copied(arguments: &[u8], mut memory: Vec<u8>) -> Arguments {
        memory.clear();
        memory.extend_from_slice(arguments);
        Arguments { memory, shared: None }
    }

    /// Arguments of a test.
    #[must_use]
    pub fn of(arguments: &[u8]) -> Arguments {
        Arguments::copied(arguments, Vec::new())
    }

    /// Arguments that are kept as they are, and `memory` for the reply.
    #[inline]
    pub(crate) fn shared(arguments: Bytes, memory: Vec<u8>) -> Arguments {
        Arguments { memory, shared: Some(arguments) }
    }

    /// Decodes the arguments: long runs of bytes that are wanted shared are shared, if these are.
    ///
    /// # Errors
    /// As [`payload::decode`].
    #[inline]
    pub fn decode_shared<'de, T: Deserialize<'de>>(&'de self) -> Result<T, DecodeError> {
        match &self.shared {
            Some(bytes) => payload::decode_shared(bytes),
            None => payload::decode(&self.memory),
        }
    }

    /// The memory, empty, for the reply: the arguments are not needed any more.
    #[inline]
    #[must_use]
    pub fn into_memory(self) -> Vec<u8> {
        let mut memory = self.memory;
        memory.clear();
        memory
    }
}

impl Deref for Arguments {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.shared.as_deref().unwrap_or(&self.memory)
    }
}

/// A dispatched call: resolves to the reply when the method has returned.
#[doc(hidden)]
pub type Dispatch = Pin<Box<dyn Dispatched>>;

/// A future of a reply in memory that can be used for another of its type.
#[doc(hidden)]
pub trait Dispatched: Send {
    /// As [`Future::poll`].
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Reply>;

    /// Drops the future; the memory stays.
    fn clear(self: Pin<&mut Self>);

    /// Takes another future, an `Option` of it, in place of this one. Whether it is of the same type.
    fn refill(self: Pin<&mut Self>, future: &mut dyn Any) -> bool;
}

impl<F: Future<Output = Reply> + Send + 'static> Dispatched for Option<F> {
    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Reply> {
        match self.as_pin_mut() {
            Some(future) => future.poll(cx),
            None => Poll::Pending,
        }
    }

    #[inline]
    fn clear(mut self: Pin<&mut Self>) {
        self.set(None);
    }

    #[inline]
    fn refill(mut self: Pin<&mut Self>, future: &mut dyn Any) -> bool {
        let Some(future) = future.downcast_mut::<Self>() else { return false };
        self.set(future.take());
        true
    }
}

/// Where a dispatched call is put: what is left of one that has ended, if it was of the same method, else new memory.
#[doc(hidden)]
#[derive(Default)]
pub struct Room(Option<Dispatch>);

impl Room {
    /// What is left of a call that has ended, [cleared](Dispatched::clear). Nothing is left of a large one.
    #[inline]
    pub(crate) fn of(ended: Dispatch) -> Room {
        Room((size_of_val(&*ended) <= KEPT_FUTURE).then_some(ended))
    }

    /// The future, as what it is for those who do not know its type.
    #[inline]
    #[must_use]
    pub fn put<F: Future<Output = Reply> + Send + 'static>(self, future: F) -> Dispatch {
        let mut future = Some(future);
        if let Some(mut used) = self.0
            && used.as_mut().refill(&mut future)
        {
            return used;
        }
        Box::pin(future)
    }
}

/// What a method answered, encoded.
#[doc(hidden)]
pub struct Reply {
    /// How it ended.
    pub status: Status,
    /// The encoded result or error; for a failure its text.
    pub body: Vec<u8>,
    /// Long bytes among them that are shared with the program.
    pub(crate) shared: Option<Box<Shared>>,
    /// What holds the references behind it until it is acknowledged, if there are any.
    pub(crate) held: Option<Box<dyn Any + Send>>,
}

/// How a dispatched call ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[doc(hidden)]
pub enum Status {
    /// The method returned; the body is the encoded result.
    Ok,
    /// The method returned its own error; the body is that error, encoded.
    MethodError,
    /// There is no such answer; the body is a text for a person.
    Failed(FailureCode),
}

impl Reply {
    /// A reply that says why there is none.
    #[doc(hidden)]
    #[must_use]
    pub fn failed(code: FailureCode, text: &dyn fmt::Display, mut body: Vec<u8>) -> Reply {
        use std::io::Write as _;
        body.clear();
        // Writing to a vector fails only if the text's own `Display` does; what it wrote until then is still of use.
        let _ = write!(body, "{text}");
        body.truncate(MAX_FAILURE_TEXT);
        Reply { status: Status::Failed(code), body, shared: None, held: None }
    }
}

/// Longest text, in bytes, that explains a failure to the caller.
pub(crate) const MAX_FAILURE_TEXT: usize = 512;

/// Arguments of up to so many bytes are copied for their call; longer ones share what they came in.
pub(crate) const COPIED_ARGUMENTS: usize = 1024;

/// Largest future, in bytes, whose memory a connection keeps for the next call of its method.
const KEPT_FUTURE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    async fn reply(body: Vec<u8>) -> Reply {
        Reply { status: Status::Ok, body, shared: None, held: None }
    }

    fn run(mut call: Dispatch) -> (Vec<u8>, Room) {
        let polled = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(reply) = polled else { panic!("it waits for nothing") };
        call.as_mut().clear();
        (reply.body, Room::of(call))
    }

    #[test]
    fn the_memory_of_a_call_serves_the_next_of_its_method_only() {
        let (body, room) = run(Room::default().put(reply(vec![1])));
        assert_eq!(body, [1]);
        let place = |room: &Room| room.0.as_ref().map(|kept| (&raw const **kept).cast::<()>());
        let first = place(&room);
        assert!(first.is_some());
        let (body, room) = run(room.put(reply(vec![2])));
        assert_eq!((body, place(&room)), (vec![2], first));
        let (body, _) = run(room.put(async { reply(vec![3]).await }));
        assert_eq!(body, [3]);
    }

    #[test]
    fn nothing_is_kept_of_a_large_future() {
        let large = async {
            let bytes = [7; KEPT_FUTURE];
            let reply = reply(Vec::new()).await;
            assert_eq!(bytes[0], 7);
            reply
        };
        let (_, room) = run(Room::default().put(large));
        assert!(room.0.is_none());
    }

    #[test]
    fn a_cleared_call_holds_nothing() {
        let held = Arc::new(());
        let holds = held.clone();
        let call = Room::default().put(async move {
            let _holds = holds;
            reply(Vec::new()).await
        });
        let (_, _room) = run(call);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
