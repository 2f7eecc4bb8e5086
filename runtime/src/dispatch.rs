//! What `#[remote]` generates code against: interfaces, their descriptors, objects, and the way from bytes to a method.
//!
//! Holds no table of objects (that is the registry) and runs nothing by itself: the driver asks an interface to
//! dispatch one request and polls what it gets back.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::descriptor::Descriptor;
use crate::error::FailureCode;
use crate::id::MethodId;

/// A remote interface: implemented by `#[remote]` for `dyn Trait`, never by hand.
pub trait Interface: Send + Sync + 'static {
    /// The proxy that `#[remote]` generated beside the trait.
    type Proxy: crate::proxy::Proxy<Interface = Self>;

    /// A type that stands for the trait where the trait itself would be a cycle; see [`Implements`].
    type Marker;

    /// Name and methods of the interface.
    const DESCRIPTOR: &'static Descriptor;

    /// Decodes the arguments, runs the method on the object and encodes what it returns into `reply`.
    ///
    /// The future fails only by the [`Reply`] that it returns; a panic of the method passes through it.
    #[doc(hidden)]
    fn dispatch(object: Arc<Self>, method: MethodId, arguments: Bytes, reply: Vec<u8>) -> Dispatch;
}

/// A type that `#[remote] impl Trait for Type` made callable as `I`, which is `dyn Trait`.
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

/// A dispatched call: resolves to the reply when the method has returned.
#[doc(hidden)]
pub type Dispatch = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// What a method answered, encoded.
#[doc(hidden)]
pub struct Reply {
    /// How it ended.
    pub status: Status,
    /// The encoded result or error; for a failure its text.
    pub body: Vec<u8>,
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
        Reply { status: Status::Failed(code), body }
    }
}

/// Longest text, in bytes, that explains a failure to the caller.
pub(crate) const MAX_FAILURE_TEXT: usize = 512;
