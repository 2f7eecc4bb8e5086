//! Remote calls whose behaviour under failure is declared, enforced and proven.

#[macro_use]
mod canary;

pub mod blocking;

mod address;
mod call;
mod context;
mod descriptor;
mod dispatch;
mod driver;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod id;
mod limits;
mod node;
mod pending;
mod private;
mod protocol;
mod proxy;
mod registry;
mod semantics;
mod serve;
#[cfg(feature = "sim")]
pub mod sim;
mod time;
mod transport;
mod wire;

pub use address::{Address, AddressError, Host, HostPort, IntoUrl, NameError, Url};
pub use call::Call;
pub use context::{Caller, Cancellation, Context, NoContext};
pub use descriptor::{Descriptor, MethodDescriptor};
pub use dispatch::{Implements, Interface, Object};
pub use error::{CallError, MethodError, Refusal};
#[doc = include_str!("../docs/remote.md")]
#[doc = "```"]
#[doc = include_str!("../docs/expansion/one_method.rs")]
#[doc = "```"]
pub use farcall_macros::remote;
pub use id::{Boot, CallId, MethodId, NodeId, SessionId};
pub use limits::Limits;
pub use node::{Listening, Node, NodeBuilder, Statistics, Unfinished, connect, serve, serve_as};
pub use pending::Pending;
pub use proxy::Proxy;
pub use registry::{Entry, Registry, RegistryError, RemoteRegistry, RemoteRegistryProxy, Verb};
pub use semantics::{Execution, Semantics};
pub use serve::ServeError;

#[doc(hidden)]
pub mod __private {
    pub use crate::private::*;
}
