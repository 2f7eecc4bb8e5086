//! Datagrams, frames and payloads as bytes. Knows nothing of calls, sessions or sockets.

pub(crate) mod body;
pub(crate) mod bundle;
pub(crate) mod datagram;
#[cfg(feature = "sqlite")]
pub(crate) mod durable;
pub(crate) mod frame;
pub(crate) mod payload;
pub(crate) mod references;
pub(crate) mod seek;
pub(crate) mod send_buffer;
#[cfg(test)]
mod tests;
pub(crate) mod varint;
