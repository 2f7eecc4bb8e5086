//! The machines of the protocol: client, server session, and what they share.
//!
//! No socket, clock, task or random draw: time and randomness are passed in, frames come in decoded, and what is to
//! be sent is written into a [`SendBuffer`](crate::wire::send_buffer::SendBuffer) that the caller lends. One code runs
//! under the simulator and on real sockets.

pub(crate) mod assembly;
pub(crate) mod client;
#[cfg(feature = "sqlite")]
pub(crate) mod durable;
pub(crate) mod finished;
pub(crate) mod group;
pub(crate) mod packet;
pub(crate) mod references;
pub(crate) mod seq_map;
pub(crate) mod server;
#[cfg(test)]
mod tests;
