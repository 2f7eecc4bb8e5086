//! Datagrams, frames and payloads as bytes. Knows nothing of calls, sessions or sockets.

#[allow(dead_code, unused_imports, reason = "the packet machines that use it come next")]
pub(crate) mod datagram;
#[allow(dead_code, unused_imports, reason = "the packet machines that use it come next")]
pub(crate) mod frame;
pub(crate) mod payload;
pub(crate) mod send_buffer;
#[cfg(test)]
mod tests;
pub(crate) mod varint;
