//! Why a node could not begin to serve.

use std::error::Error;
use std::fmt;
use std::io;

use crate::address::AddressError;
use crate::registry::RegistryError;

/// Why `serve` or `listen` did not begin. Nothing is left behind: no name is bound, no port is
/// taken.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be used.
    Address(AddressError),
    /// The object could not be bound to its name.
    Registry(RegistryError),
    /// The operating system refused to listen there.
    Listen {
        /// The address.
        address: Box<str>,
        /// What the operating system said.
        source: io::Error,
    },
    /// The blocking form was used inside an async task, where it would stop the runtime; use
    /// `farcall::serve`.
    BlockingInAsync,
    /// The node has no runtime: none could be started, or it has ended.
    NoRuntime {
        /// What the operating system said, if it did.
        source: Option<io::Error>,
    },
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Address(error) => error.fmt(f),
            ServeError::Registry(error) => error.fmt(f),
            ServeError::Listen { address, .. } => write!(f, "cannot listen on {address}"),
            ServeError::BlockingInAsync => f.write_str(
                "blocking inside an async task would stop the runtime; use `farcall::serve`",
            ),
            ServeError::NoRuntime { .. } => f.write_str("the node has no runtime"),
        }
    }
}

impl Error for ServeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            ServeError::Listen { source, .. } => Some(source),
            ServeError::NoRuntime { source } => {
                source.as_ref().map(|source| source as &(dyn Error + 'static))
            }
            _ => None,
        }
    }
}

impl From<AddressError> for ServeError {
    fn from(error: AddressError) -> ServeError {
        ServeError::Address(error)
    }
}

impl From<RegistryError> for ServeError {
    fn from(error: RegistryError) -> ServeError {
        ServeError::Registry(error)
    }
}
